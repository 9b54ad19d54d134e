//! The startup process's source of WAL pages. Mirrors XLogPageRead and WaitForWALToBecomeAvailable
//! of xlogrecovery.c, without an archive. The only sources are pg_wal and streaming.
//!
//! While streaming, only bytes that the walreceiver has flushed are returned. A file in pg_wal is
//! read to its physical end, because all its bytes are durable: recovery fsyncs all files when it
//! starts, and a walreceiver flushes its WAL before it ends.

use super::checkpoint_request::request_checkpoint_by_volume;
use super::wal_file::segment_path;
use crate::base::{Bug, Fd, Lsn, Mono, PgVersion, SegmentNo, Settings, TimelineId, TimestampTz};
use crate::call::{
    DiskDone, DiskError, DiskOp, FilePath, LogEvent, Message, OpenFlags, Place, Poll, Signal,
    SqlState, Wait, Yield,
};
use crate::ready;
use crate::replication::walrcv_funcs::{
    RequestXLogStreaming, XLogShutdownWalRcv, walrcv_force_reply, walrcv_running, walrcv_streaming,
};
use crate::storage::file::opened;
use crate::sys::Cx;
use crate::wal::{PagePlace, WalError, WalReader};
use alloc::string::String;
use bytes::Bytes;

/// `XLogSource`
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Source {
    /// Not chosen yet.
    Any,
    /// The archive and pg_wal. walsim has no archive, so only pg_wal is read.
    ArchiveOrPgWal,
    /// Only pg_wal. Used in crash recovery.
    PgWal,
    /// WAL that the walreceiver has flushed.
    Stream,
}

/// The kind of recovery.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RecoveryMode {
    /// `StandbyModeRequested`: whether standby.signal exists.
    pub standby_requested: bool,
    /// `InArchiveRecovery`. False during crash recovery.
    pub in_archive: bool,
}

impl RecoveryMode {
    /// `StandbyMode`: whether recovery waits for more WAL without a limit.
    #[must_use]
    pub const fn standby(self) -> bool {
        self.standby_requested && self.in_archive
    }
}

/// A request for a page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageRequest {
    /// Start of the page.
    pub page: Lsn,
    /// The number of bytes needed.
    pub len: u32,
    /// The redo pointer, while the checkpoint record is being read. Streaming must then start from
    /// the redo pointer.
    pub fetching_checkpoint: Option<Lsn>,
}

impl PageRequest {
    fn end(self) -> Lsn {
        Lsn(self.page.0.saturating_add(self.len.into()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct OpenFile {
    fd: Fd,
    segment: SegmentNo,
    /// `readSource`
    source: Source,
}

/// The source of pages: its state between pages, and the current request.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WalSource {
    /// The kind of recovery.
    pub mode: RecoveryMode,
    /// `recoveryTargetTLI`: the only timeline that recovery follows.
    tli: TimelineId,
    /// `currentSource`
    current: Source,
    /// `lastSourceFailed`
    failed: bool,
    /// `readFile`
    file: Option<OpenFile>,
    /// Copy of the walreceiver's flush position.
    flushed_upto: Lsn,
    /// The timeline of `flushed_upto`.
    receive_tli: TimelineId,
    /// `curFileTLI`
    file_tli: TimelineId,
    /// `last_fail_time`
    last_fail: TimestampTz,
    /// Whether a status update was already requested during the current wait.
    reply_forced: bool,
    /// The last known settings for the walreceiver's upstream.
    upstream: Upstream,
    /// `pendingWalRcvRestart`: whether the upstream's settings have changed.
    restart_pending: bool,
    phase: Phase,
}

/// `primary_conninfo` and `primary_slot_name`.
type Upstream = (Option<(String, u16)>, String);

fn upstream(settings: &Settings) -> Upstream {
    (
        settings.primary_conninfo.clone(),
        settings.primary_slot_name.clone(),
    )
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// The label `retry` in XLogPageRead.
    Start,
    /// The start of the loop in WaitForWALToBecomeAvailable.
    Choose,
    StopReceiver(XLogShutdownWalRcv),
    /// Like [`Phase::StopReceiver`], but a new walreceiver is started at once.
    ReplaceReceiver(XLogShutdownWalRcv),
    Backoff,
    Slept,
    OpenLocal,
    Opened(Source),
    Request(RequestXLogStreaming),
    Stream,
    Waited,
    Read,
    Reading {
        len: u32,
    },
}

impl WalSource {
    /// A source without an open file.
    #[must_use]
    pub fn new(settings: &Settings, mode: RecoveryMode, tli: TimelineId) -> Self {
        Self {
            upstream: upstream(settings),
            restart_pending: false,
            mode,
            tli,
            current: Source::Any,
            failed: false,
            file: None,
            flushed_upto: Lsn::INVALID,
            receive_tli: TimelineId(0),
            file_tli: TimelineId(0),
            last_fail: TimestampTz(0),
            reply_forced: false,
            phase: Phase::Start,
        }
    }

    /// Rejects the current source. Called if the reader finds no valid record in the pages of this
    /// source.
    pub fn reject(&mut self, cx: &mut Cx<'_>) {
        self.close(cx);
        self.failed = true;
    }

    /// Starts again with pg_wal, when crash recovery switches to archive recovery.
    pub fn restart(&mut self) {
        self.failed = false;
        self.current = Source::Any;
    }

    /// Was the last page read from the stream?
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.file.is_some_and(|file| file.source == Source::Stream)
    }

    /// Was the last page read from pg_wal? If so, a repeated error is not logged.
    #[must_use]
    pub fn reads_local(&self) -> bool {
        self.current != Source::Stream
    }

    /// Closes the open file.
    pub fn close(&mut self, cx: &mut Cx<'_>) {
        if let Some(file) = self.file.take() {
            cx.close(file.fd);
        }
    }

    /// `XLogPageRead`: returns the requested page. If waiting for the page would not help, returns
    /// an error. On a standby, `reader` validates the first page of each segment.
    ///
    /// # Errors
    /// SIGTERM was received, or a file that must exist is missing.
    pub fn poll(
        &mut self,
        cx: &mut Cx<'_>,
        request: PageRequest,
        reader: &WalReader,
    ) -> Poll<Result<Result<Bytes, WalError>, LogEvent>> {
        loop {
            match &mut self.phase {
                Phase::Start => self.start(cx, request),
                Phase::Choose => {
                    if let Err(e) = self.handle_interrupts(cx) {
                        return Poll::Ready(Err(e));
                    }
                    if !self.choose(cx, request) {
                        self.close(cx);
                        self.phase = Phase::Start;
                        return Poll::Ready(Ok(Err(self.no_file(cx, request))));
                    }
                }
                Phase::StopReceiver(stop) => {
                    ready!(stop.poll(cx));
                    self.phase = Phase::Backoff;
                }
                Phase::ReplaceReceiver(stop) => {
                    ready!(stop.poll(cx));
                    self.phase = self.stream(cx, request, true);
                }
                Phase::Backoff => match self.backoff(cx) {
                    Some(until) => {
                        cx.log(LogEvent::log(Message::WaitingForWal(request.end())));
                        self.phase = Phase::Slept;
                        let wait = Wait::latch(Some(until), Place::WaitForWALToBecomeAvailable);
                        return Poll::Yield(Yield::Wait(wait));
                    }
                    None => self.try_local(cx),
                },
                Phase::Slept => {
                    cx.reset_latch();
                    if let Err(e) = self.handle_interrupts(cx) {
                        return Poll::Ready(Err(e));
                    }
                    self.try_local(cx);
                }
                Phase::OpenLocal => {
                    self.close(cx);
                    return Poll::Yield(self.open(cx, request, self.tli, Source::PgWal));
                }
                Phase::Opened(source) => {
                    let source = *source;
                    if let Err(e) = self.opened(cx, request, source) {
                        return Poll::Ready(Err(e));
                    }
                }
                Phase::Request(routine) => {
                    ready!(routine.poll(cx));
                    self.flushed_upto = Lsn::INVALID;
                    self.phase = Phase::Stream;
                }
                Phase::Stream => {
                    if let Some(how) = self.follow(cx, request) {
                        return Poll::Yield(how);
                    }
                }
                Phase::Waited => {
                    cx.reset_latch();
                    self.phase = Phase::Choose;
                }
                Phase::Read => return Poll::Yield(self.read(cx, request)),
                Phase::Reading { len } => {
                    let len = *len;
                    match self.checked(cx, request, reader) {
                        Ok(bytes) => {
                            self.phase = Phase::Start;
                            let len = bytes.len().min(len as usize);
                            return Poll::Ready(Ok(Ok(bytes.slice(..len))));
                        }
                        Err(error) => {
                            cx.log(LogEvent::log(Message::WalEnd(error.clone())));
                            self.reject(cx);
                            self.phase = Phase::Start;
                            // A standby tries the next source for this page at once.
                            if !self.mode.standby() {
                                return Poll::Ready(Ok(Err(error)));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Closes the open file if it is another segment. Then checks whether the open file has the
    /// requested bytes.
    fn start(&mut self, cx: &mut Cx<'_>, request: PageRequest) {
        let segment = cx.shmem.settings.geometry.segment_of(request.page);
        if let Some(left) = self.file.filter(|file| file.segment != segment) {
            if self.mode.standby_requested {
                request_checkpoint_by_volume(cx, left.segment);
            }
            self.close(cx);
        }
        let has_bytes = self.file.is_some_and(|file| {
            file.source != Source::Stream || request.end() <= self.flushed_upto
        });
        if has_bytes {
            self.phase = Phase::Read;
            return;
        }
        self.reply_forced = false;
        let stale = !self.mode.standby() && self.current == Source::Stream;
        if !self.mode.in_archive {
            self.current = Source::PgWal;
        } else if self.current == Source::Any || stale {
            self.failed = false;
            self.current = Source::ArchiveOrPgWal;
        }
        self.phase = Phase::Choose;
    }

    /// Chooses the next source after a failure. Returns false if all sources have failed.
    fn choose(&mut self, cx: &mut Cx<'_>, request: PageRequest) -> bool {
        let mut start_receiver = false;
        match (self.failed, self.current) {
            (true, Source::ArchiveOrPgWal | Source::PgWal) => {
                if !self.mode.standby() {
                    return false;
                }
                self.current = Source::Stream;
                start_receiver = true;
            }
            (true, Source::Stream) => {
                // As in PostgreSQL, a walreceiver in state WAITING is not stopped.
                self.phase = if walrcv_streaming(cx) {
                    Phase::StopReceiver(XLogShutdownWalRcv::new())
                } else {
                    Phase::StopReceiver(XLogShutdownWalRcv::reset_only())
                };
                return true;
            }
            (false, Source::PgWal) if self.mode.in_archive => self.current = Source::ArchiveOrPgWal,
            (false, Source::ArchiveOrPgWal | Source::PgWal | Source::Stream) => {}
            (_, Source::Any) => unreachable!("a source is chosen before the loop"),
        }
        self.failed = false;
        self.phase = match self.current {
            Source::ArchiveOrPgWal | Source::PgWal | Source::Any => Phase::OpenLocal,
            Source::Stream => {
                let replace = core::mem::take(&mut self.restart_pending) && !start_receiver;
                if replace {
                    Phase::ReplaceReceiver(XLogShutdownWalRcv::new())
                } else {
                    self.stream(cx, request, start_receiver)
                }
            }
        };
        true
    }

    fn stream(&mut self, cx: &mut Cx<'_>, request: PageRequest, start_receiver: bool) -> Phase {
        if !start_receiver || cx.shmem.settings.primary_conninfo.is_none() {
            return Phase::Stream;
        }
        let from = request.fetching_checkpoint.unwrap_or(request.end());
        self.file_tli = self.tli;
        cx.shmem.recovery.install_segment_active = true;
        Phase::Request(RequestXLogStreaming::new(cx, self.tli, from))
    }

    /// Checks the walreceiver's flush position once.
    fn follow(&mut self, cx: &mut Cx<'_>, request: PageRequest) -> Option<Yield> {
        if !walrcv_streaming(cx) {
            self.failed = true;
            self.phase = Phase::Choose;
            return None;
        }
        if !self.received(cx, request) {
            return Some(self.wait(cx));
        }
        match &mut self.file {
            Some(file) => {
                file.source = Source::Stream;
                self.phase = Phase::Read;
                None
            }
            None => Some(self.open(cx, request, self.receive_tli, Source::Stream)),
        }
    }

    /// The time at which recovery tries again after all sources have failed
    /// (wal_retrieve_retry_interval). `None` means at once.
    fn backoff(&self, cx: &mut Cx<'_>) -> Option<Mono> {
        let interval_ms = u64::from(cx.shmem.settings.wal_retrieve_retry_interval_ms);
        let elapsed_us = u64::try_from(cx.now.wall - self.last_fail).unwrap_or(0);
        let left_ms = interval_ms.saturating_sub(elapsed_us.div_ceil(1000));
        let waits = left_ms > 0 && !cx.planted(Bug::RetryWithoutPause);
        waits.then(|| cx.now.mono.after_ms(left_ms))
    }

    fn try_local(&mut self, cx: &Cx<'_>) {
        self.last_fail = cx.now.wall;
        self.current = Source::ArchiveOrPgWal;
        self.failed = false;
        self.phase = Phase::OpenLocal;
    }

    /// Is WAL flushed beyond the end of the request? As in PostgreSQL, the comparison is `<` here
    /// and `<=` in [`Self::start`]. The difference is harmless: an earlier, shorter request for the
    /// same page has already advanced `flushed_upto`.
    fn received(&mut self, cx: &Cx<'_>, request: PageRequest) -> bool {
        if request.end() < self.flushed_upto {
            return true;
        }
        self.flushed_upto = cx.shmem.walrcv.flushed_upto;
        self.receive_tli = cx.shmem.walrcv.received_tli;
        request.end() < self.flushed_upto && self.receive_tli == self.file_tli
    }

    fn wait(&mut self, cx: &mut Cx<'_>) -> Yield {
        if !self.reply_forced {
            // There is nothing to replay, so the walreceiver must report the apply position now.
            walrcv_force_reply(cx);
            self.reply_forced = true;
        }
        // PostgreSQL 15 wakes every five seconds to check for promote_trigger_file.
        let looks = cx.shmem.settings.pg_version < PgVersion::V16;
        let until = looks.then(|| cx.now.mono.after_ms(5000));
        self.phase = Phase::Waited;
        Yield::Wait(Wait::latch(until, Place::WaitForWALToBecomeAvailable))
    }

    fn open(
        &mut self,
        cx: &mut Cx<'_>,
        request: PageRequest,
        tli: TimelineId,
        source: Source,
    ) -> Yield {
        let path = Self::path(cx, request, tli);
        self.phase = Phase::Opened(source);
        let op = DiskOp::Open {
            path,
            flags: OpenFlags::Existing,
        };
        cx.disk(op, Place::XLogFileRead)
    }

    fn opened(
        &mut self,
        cx: &mut Cx<'_>,
        request: PageRequest,
        source: Source,
    ) -> Result<(), LogEvent> {
        let streaming = source == Source::Stream;
        let tli = if streaming {
            self.receive_tli
        } else {
            self.tli
        };
        match cx.done() {
            Ok(done) => {
                let segment = cx.shmem.settings.geometry.segment_of(request.page);
                self.file = Some(OpenFile {
                    fd: opened(done),
                    segment,
                    source,
                });
                self.file_tli = tli;
                self.phase = if streaming {
                    Phase::Choose
                } else {
                    Phase::Read
                };
                Ok(())
            }
            Err(DiskError::NotFound) if !streaming => {
                self.failed = true;
                self.phase = Phase::Choose;
                Ok(())
            }
            // As in PostgreSQL, any error other than a missing file ends recovery with a PANIC.
            Err(e) => {
                let path = Self::path(cx, request, tli);
                Err(LogEvent::file("open", path, e).in_critical_section())
            }
        }
    }

    fn no_file(&self, cx: &Cx<'_>, request: PageRequest) -> WalError {
        let geometry = cx.shmem.settings.geometry;
        let segment = geometry.segment_of(request.page);
        WalError::NoFile {
            geometry,
            tli: self.tli,
            segment,
        }
    }

    fn path(cx: &Cx<'_>, request: PageRequest, tli: TimelineId) -> FilePath {
        segment_path(cx, tli, cx.shmem.settings.geometry.segment_of(request.page))
    }

    fn read(&mut self, cx: &mut Cx<'_>, request: PageRequest) -> Yield {
        let geometry = cx.shmem.settings.geometry;
        let file = self.file.expect("a page is read from an open file");
        let partial =
            file.source == Source::Stream && geometry.page_start(self.flushed_upto) == request.page;
        let len = if partial {
            geometry.page_offset(self.flushed_upto)
        } else {
            geometry.wal_page
        };
        assert!(len >= request.len, "{len} bytes for {request:?}");
        self.phase = Phase::Reading { len };
        let offset = geometry.segment_offset(request.page).into();
        let op = DiskOp::Read {
            fd: file.fd,
            offset,
            len: geometry.wal_page,
        };
        cx.disk(op, Place::XLogPageRead)
    }

    /// The page, if it is complete and valid.
    fn checked(
        &self,
        cx: &mut Cx<'_>,
        request: PageRequest,
        reader: &WalReader,
    ) -> Result<Bytes, WalError> {
        let settings = &cx.shmem.settings;
        let (version, geometry) = (settings.pg_version, settings.geometry);
        let bytes = match cx.done() {
            Ok(DiskDone::Data(bytes)) => bytes,
            // As in PostgreSQL, an I/O error is treated like a file that is too short.
            Ok(_) | Err(_) => Bytes::new(),
        };
        if bytes.len() < geometry.wal_page as usize {
            let place = PagePlace {
                version,
                geometry,
                tli: self.file_tli,
                page: request.page,
            };
            let got = u32::try_from(bytes.len()).expect("at most a page");
            return Err(WalError::ShortRead {
                place,
                got,
                wanted: geometry.wal_page,
            });
        }
        // A page of a recycled segment is rejected here, so that this page is requested from the
        // next source. Before 2018 recovery requested WAL again from the start of the record. If
        // the upstream had removed that WAL, recovery was stuck.
        let first = geometry.segment_offset(request.page) == 0;
        if self.mode.standby()
            && first
            && let Err(error) = reader.check_page(request.page, &bytes)
            && !cx.planted(Bug::RecycledFirstPage)
        {
            return Err(error);
        }
        Ok(bytes)
    }
}

impl WalSource {
    /// `HandleStartupProcInterrupts`: SIGHUP may change the upstream.
    ///
    /// # Errors
    /// SIGTERM was received. The startup process then exits with status 1.
    pub fn handle_interrupts(&mut self, cx: &mut Cx<'_>) -> Result<(), LogEvent> {
        if cx.take_signal(Signal::Hup) {
            let wanted = upstream(&cx.shmem.settings);
            let changed = wanted != self.upstream;
            self.upstream = wanted;
            // `StartupRequestWalReceiverRestart`
            if changed && self.current == Source::Stream && walrcv_running(cx) {
                cx.log(LogEvent::log(Message::ReceiverShutdownRequested));
                self.restart_pending = true;
            }
        }
        check_interrupts(cx)
    }
}

/// SIGTERM ends the startup process with status 1.
fn check_interrupts(cx: &mut Cx<'_>) -> Result<(), LogEvent> {
    if cx.take_signal(Signal::Term) {
        return Err(LogEvent::fatal(
            SqlState::ADMIN_SHUTDOWN,
            Message::AdminShutdown,
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
