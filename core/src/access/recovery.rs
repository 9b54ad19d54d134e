//! Reads the records that recovery replays. Mirrors ReadRecord of xlogrecovery.c.

use super::wal_read::{PageRequest, RecoveryMode, WalSource};
use crate::base::{Lsn, TimelineId};
use crate::call::{LogEvent, Message, Poll, SqlState};
use crate::ready_ok;
use crate::sys::Cx;
use crate::wal::{Aborted, Next, WalError, WalReader};
use crate::wire::record::Record;

/// The result of reading the next record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ReadOutcome {
    /// The next record.
    Record(Record),
    /// A standby has finished crash recovery (`SwitchIntoArchiveRecovery`). The caller publishes
    /// the new state, calls [`RecoveryReader::enter_archive`], and continues to read.
    SwitchToArchive,
    /// The end of WAL.
    End,
}

/// The WAL reader of recovery: the record decoder and the source of its pages.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RecoveryReader {
    reader: WalReader,
    source: WalSource,
    /// The only timeline that recovery follows.
    tli: TimelineId,
    /// The redo pointer, while the checkpoint record is being read.
    fetching_checkpoint: Option<Lsn>,
    /// The position at which the end of WAL was last logged.
    complained: Lsn,
    /// The incomplete record at the end of WAL, in crash recovery.
    aborted: Option<Aborted>,
}

impl RecoveryReader {
    /// A reader that is not yet positioned.
    #[must_use]
    pub fn new(cx: &Cx<'_>, mode: RecoveryMode, tli: TimelineId) -> Self {
        let settings = &cx.shmem.settings;
        let sysid = cx.shmem.control.system_identifier;
        Self {
            reader: WalReader::new(settings.geometry, settings.pg_version, Some(sysid)),
            source: WalSource::new(settings, mode, tli),
            tli,
            fetching_checkpoint: None,
            complained: Lsn::INVALID,
            aborted: None,
        }
    }

    /// `XLogBeginRead`: the next record is at `lsn`.
    pub fn begin(&mut self, lsn: Lsn) {
        self.reader.begin_read(lsn);
    }

    /// While the checkpoint record is being read, `redo` must be the redo pointer. At other times
    /// it must be `None`.
    pub fn fetching_checkpoint(&mut self, redo: Option<Lsn>) {
        self.fetching_checkpoint = redo;
    }

    /// The kind of recovery.
    #[must_use]
    pub const fn mode(&self) -> RecoveryMode {
        self.source.mode
    }

    /// The end of the last record. The next record is expected there.
    #[must_use]
    pub const fn position(&self) -> Lsn {
        self.reader.end
    }

    /// The incomplete record at the end of WAL.
    #[must_use]
    pub const fn aborted(&self) -> Option<Aborted> {
        self.aborted
    }

    /// Forgets the incomplete record. Called after the record that overwrites the incomplete record
    /// was replayed.
    pub const fn forget_aborted(&mut self) {
        self.aborted = None;
    }

    /// Returns and clears the start of the incomplete record that was skipped before the last
    /// record.
    pub const fn take_overwritten(&mut self) -> Option<Lsn> {
        self.reader.overwritten.take()
    }

    /// Switches from crash recovery to standby mode.
    pub fn enter_archive(&mut self) {
        let mode = &mut self.source.mode;
        assert!(mode.standby_requested && !mode.in_archive, "{mode:?}");
        mode.in_archive = true;
        self.source.restart();
    }

    /// `HandleStartupProcInterrupts`
    ///
    /// # Errors
    /// The process must end.
    pub fn handle_interrupts(&mut self, cx: &mut Cx<'_>) -> Result<(), LogEvent> {
        self.source.handle_interrupts(cx)
    }

    /// Closes the open file.
    pub fn close(&mut self, cx: &mut Cx<'_>) {
        self.source.close(cx);
    }

    /// Returns the next record. A standby waits until there is one.
    ///
    /// # Errors
    /// An error that ends the process.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<ReadOutcome, LogEvent>> {
        loop {
            let before = (self.reader.decoded, self.reader.end);
            let error = match self.reader.next(cx.probe) {
                Next::Record(record) => {
                    let tli = self.reader.latest_page_tli();
                    if tli == self.tli {
                        return Poll::Ready(Ok(ReadOutcome::Record(record)));
                    }
                    let place = self.reader.place(self.reader.latest_page());
                    self.reader.begin_read(before.1);
                    self.reader.decoded = before.0;
                    WalError::UnexpectedTimeline { tli, place }
                }
                Next::Need {
                    page,
                    len,
                    record: _,
                } => {
                    let request = PageRequest {
                        page,
                        len,
                        fetching_checkpoint: self.fetching_checkpoint,
                    };
                    match ready_ok!(self.source.poll(cx, request, &self.reader)) {
                        Ok(bytes) => {
                            assert!(bytes.len() >= len as usize, "{request:?}");
                            self.reader.feed(page, bytes);
                        }
                        Err(reason) => self.reader.feed_failed(reason),
                    }
                    continue;
                }
                Next::End(error @ WalError::Allocation(_)) => {
                    let message = Message::WalEnd(error);
                    return Poll::Ready(Err(LogEvent::fatal(SqlState::INTERNAL, message)));
                }
                Next::End(error @ WalError::Segfault(_)) => {
                    let message = Message::WalEnd(error);
                    return Poll::Ready(Err(LogEvent::panic(SqlState::INTERNAL, message)));
                }
                Next::End(error) => error,
            };
            self.ended(cx, error);
            let mode = self.source.mode;
            let left_crash_behind = mode.standby_requested && !mode.in_archive;
            if left_crash_behind && self.fetching_checkpoint.is_none() {
                return Poll::Ready(Ok(ReadOutcome::SwitchToArchive));
            }
            if !mode.standby() {
                return Poll::Ready(Ok(ReadOutcome::End));
            }
            // Reads the same record again from its start, this time from the next source.
            self.reader.restart();
        }
    }

    /// Handles the end of the WAL of the current source. Rejects this source.
    fn ended(&mut self, cx: &mut Cx<'_>, error: WalError) {
        // Only a server that will write WAL must overwrite the incomplete record. A standby
        // receives the overwriting record from its upstream.
        if !self.source.mode.standby_requested {
            self.aborted = self.reader.aborted;
        }
        // The page source logs its own errors, as in PostgreSQL. Here only the errors of the reader
        // are logged.
        let of_source = matches!(
            error,
            WalError::NoFile { .. } | WalError::ShortRead { .. } | WalError::Unavailable(_)
        );
        let repeated = self.source.reads_local() && self.complained == self.reader.end;
        if !of_source && !repeated {
            self.complained = self.reader.end;
            cx.log(LogEvent::log(Message::WalEnd(error)));
        }
        self.source.reject(cx);
    }
}
