//! Reading the records that recovery replays. Mirrors ReadRecord of xlogrecovery.c.

use super::wal_read::{PageRequest, RecoveryMode, WalSource};
use crate::base::{Lsn, TimelineId};
use crate::call::{LogEvent, Message, Poll, SqlState};
use crate::ready_ok;
use crate::sys::Cx;
use crate::wal::{Aborted, Next, WalError, WalReader};
use crate::wire::record::Record;

/// What reading on gave.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ReadOutcome {
    /// The next record.
    Record(Record),
    /// All that a crash left is replayed, and now a standby is to go on
    /// (`SwitchIntoArchiveRecovery`). The caller makes it known, calls
    /// [`RecoveryReader::enter_archive`], and reads on.
    SwitchToArchive,
    /// The WAL ends here.
    End,
}

/// The reader of recovery: the decoder, its source of pages, and what it noticed at the end.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RecoveryReader {
    reader: WalReader,
    source: WalSource,
    /// The only timeline that is followed.
    tli: TimelineId,
    /// While the checkpoint record is looked for: its redo pointer.
    fetching_checkpoint: Option<Lsn>,
    /// The last place that was complained about.
    complained: Lsn,
    /// The incomplete record at the end of WAL, in crash recovery.
    aborted: Option<Aborted>,
}

impl RecoveryReader {
    /// Positioned nowhere.
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

    /// `XLogBeginRead`: the next record is the one at `lsn`.
    pub fn begin(&mut self, lsn: Lsn) {
        self.reader.begin_read(lsn);
    }

    /// Says whether the checkpoint record is looked for, and with which redo pointer.
    pub fn fetching_checkpoint(&mut self, redo: Option<Lsn>) {
        self.fetching_checkpoint = redo;
    }

    /// What kind of recovery this is.
    #[must_use]
    pub const fn mode(&self) -> RecoveryMode {
        self.source.mode
    }

    /// Where the next record is looked for: the end of the last one.
    #[must_use]
    pub const fn position(&self) -> Lsn {
        self.reader.end
    }

    /// The incomplete record at the end.
    #[must_use]
    pub const fn aborted(&self) -> Option<Aborted> {
        self.aborted
    }

    /// The incomplete record is dealt with: its overwriting was replayed.
    pub const fn forget_aborted(&mut self) {
        self.aborted = None;
    }

    /// The incomplete record that was skipped before the last record, once.
    pub const fn take_overwritten(&mut self) -> Option<Lsn> {
        self.reader.overwritten.take()
    }

    /// Goes on as a standby after the WAL that a crash left.
    pub fn enter_archive(&mut self) {
        self.source.mode.in_archive = true;
        self.source.restart();
    }

    /// `HandleStartupProcInterrupts`
    ///
    /// # Errors
    /// The process is to end.
    pub fn handle_interrupts(&mut self, cx: &mut Cx<'_>) -> Result<(), LogEvent> {
        self.source.handle_interrupts(cx)
    }

    /// Closes what is open.
    pub fn close(&mut self, cx: &mut Cx<'_>) {
        self.source.close(cx);
    }

    /// The next record. A standby waits for it.
    ///
    /// # Errors
    /// What ends the process.
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
                        Ok(bytes) => self.reader.feed(page, bytes),
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
            // The same record again, from its start, out of the next source.
            self.reader.restart();
        }
    }

    /// Notes what the end of WAL tells, and gives the source up.
    fn ended(&mut self, cx: &mut Cx<'_>, error: WalError) {
        // Only who will write WAL next needs to know; a standby waits for the overwriting to
        // arrive.
        if !self.source.mode.standby_requested {
            self.aborted = self.reader.aborted;
        }
        // What the source says itself it has said, or it is not worth a line.
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
