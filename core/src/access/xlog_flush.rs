//! Flushes WAL. Mirrors XLogFlush, XLogBackgroundFlush, WaitXLogInsertionsToFinish and
//! UpdateMinRecoveryPoint.

use super::xlog_write::{WriteRequest, XLogWrite};
use crate::base::{Bug, Lsn, Mark, TimestampTz};
use crate::call::{LogEvent, Poll};
use crate::shmem::{INSERTION_LOCKS, LockId, LockMode, RecoveryState};
use crate::storage::control::UpdateControlFile;
use crate::sys::Cx;
use crate::wal::position::bytepos_to_end;
use crate::{ready, ready_ok};

/// `WaitXLogInsertionsToFinish`: waits until all records that start before `upto` are copied into
/// the buffers. Returns the position up to which WAL is complete. This position may be beyond
/// `upto`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WaitInsertions {
    upto: Lsn,
    finished: Lsn,
    next: u8,
}

impl WaitInsertions {
    /// Waits for the insertions that are in progress now.
    #[must_use]
    pub fn new(cx: &Cx<'_>, upto: Lsn) -> Self {
        let reserved = bytepos_to_end(&cx.shmem.settings.geometry, cx.shmem.xlog.curr_byte_pos);
        Self {
            upto: upto.min(reserved),
            finished: reserved,
            next: 0,
        }
    }

    /// Returns the position up to which WAL is complete.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Lsn> {
        while self.next < INSERTION_LOCKS {
            let lock = LockId::WalInsert(self.next);
            ready!(cx.wait_for_var(lock, self.upto));
            if cx.shmem.locks.is_held(lock) {
                let at = cx.shmem.locks.var(lock);
                // An invalid position means that another process has taken the lock in the meantime
                // and has not yet set its position. The record of that process starts after
                // `reserved`.
                if at.is_valid() {
                    self.finished = self.finished.min(at);
                }
            }
            self.next += 1;
        }
        assert!(
            self.upto <= self.finished,
            "{} {}",
            self.upto,
            self.finished
        );
        Poll::Ready(self.finished)
    }
}

/// `XLogFlush`: returns when WAL is flushed up to a position. During recovery it advances the
/// minimum recovery point instead.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct XLogFlush {
    upto: Lsn,
    phase: FlushPhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum FlushPhase {
    Start,
    Recovery(UpdateMinRecoveryPoint),
    Look { waited: bool },
    Insertions(WaitInsertions),
    Lock(Lsn),
    Write(XLogWrite),
}

impl XLogFlush {
    /// Flushes WAL up to `upto`.
    #[must_use]
    pub const fn new(upto: Lsn) -> Self {
        Self {
            upto,
            phase: FlushPhase::Start,
        }
    }

    /// # Errors
    /// A PANIC if a write or an fsync failed.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        loop {
            match &mut self.phase {
                FlushPhase::Start if !wal_insert_allowed(cx) => {
                    self.phase = FlushPhase::Recovery(UpdateMinRecoveryPoint::new(self.upto));
                }
                FlushPhase::Start => self.phase = FlushPhase::Look { waited: false },
                FlushPhase::Recovery(update) => return update.poll(cx),
                FlushPhase::Look { waited } => {
                    if self.upto <= cx.shmem.xlog.flush {
                        if *waited {
                            assert!(!cx.holds(LockId::WalWrite), "it only waited");
                            cx.mark(Mark::FlushFollower);
                        }
                        return Poll::Ready(Ok(()));
                    }
                    let target = self.upto.max(cx.shmem.xlog.request_write);
                    self.phase = FlushPhase::Insertions(WaitInsertions::new(cx, target));
                }
                FlushPhase::Insertions(wait) => {
                    let complete = ready!(wait.poll(cx));
                    self.phase = FlushPhase::Lock(complete);
                }
                FlushPhase::Lock(complete) => {
                    let ours = ready!(cx.acquire_or_wait(LockId::WalWrite));
                    if !ours {
                        self.phase = FlushPhase::Look { waited: true };
                        continue;
                    }
                    if self.upto <= cx.shmem.xlog.flush {
                        cx.release(LockId::WalWrite);
                        return Poll::Ready(Ok(()));
                    }
                    let request = WriteRequest {
                        write: *complete,
                        flush: *complete,
                    };
                    assert!(cx.shmem.xlog.flush < *complete, "{complete} is flushed");
                    self.phase = FlushPhase::Write(XLogWrite::new(request));
                }
                FlushPhase::Write(write) => {
                    ready_ok!(write.poll(cx));
                    cx.release(LockId::WalWrite);
                    wake_walsenders(cx);
                    assert!(self.upto <= cx.shmem.xlog.flush, "the requested WAL exists");
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

/// `WalSndWakeupProcessRequests`: wakes the walsenders, which can now send the flushed WAL.
fn wake_walsenders(cx: &mut Cx<'_>) {
    let mut senders = cx.shmem.walsnd.iter().filter_map(|sender| sender.pid);
    let asleep = senders.any(|pid| !cx.shmem.procs.latch(pid));
    if asleep && cx.planted(Bug::WalsendersNotWoken) {
        return;
    }
    cx.shmem.wake_walsenders();
}

/// `XLogInsertAllowed`: true after recovery, and for the two processes that end recovery.
#[must_use]
pub fn wal_insert_allowed(cx: &Cx<'_>) -> bool {
    !cx.shmem.recovery_in_progress() || cx.shmem.recovery.insert_allowed.contains(&cx.me)
}

/// `XLogBackgroundFlush`: one round of the walwriter. Writes all complete pages. If there are none
/// to write, writes up to the last asynchronous commit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct XLogBackgroundFlush {
    /// When WAL was last flushed.
    last_flush: TimestampTz,
    phase: BackgroundPhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum BackgroundPhase {
    Start,
    Insertions(WaitInsertions, WriteRequest),
    Lock(WriteRequest),
    Write(XLogWrite),
}

impl XLogBackgroundFlush {
    /// Starts one round. `last_flush` is the result of the previous round.
    #[must_use]
    pub const fn new(last_flush: TimestampTz) -> Self {
        Self {
            last_flush,
            phase: BackgroundPhase::Start,
        }
    }

    /// Returns the time of the last flush, and whether WAL had to be written.
    ///
    /// # Errors
    /// A PANIC if a write or an fsync failed.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(TimestampTz, bool), LogEvent>> {
        loop {
            match &mut self.phase {
                BackgroundPhase::Start => {
                    let Some(request) = self.plan(cx) else {
                        return Poll::Ready(Ok((self.last_flush, false)));
                    };
                    let wait = WaitInsertions::new(cx, request.write);
                    self.phase = BackgroundPhase::Insertions(wait, request);
                }
                BackgroundPhase::Insertions(wait, request) => {
                    let complete = ready!(wait.poll(cx));
                    // Unlike in PostgreSQL, the request is limited to WAL whose insertion is
                    // complete. If a switch record ends at the end of its segment, PostgreSQL's
                    // request ends after the next page header. That header is not written yet, so
                    // XLogWrite would PANIC without the limit.
                    let WriteRequest { write, flush } = *request;
                    assert!(flush <= write, "{request:?}");
                    self.phase = BackgroundPhase::Lock(WriteRequest {
                        write: write.min(complete),
                        flush: flush.min(complete),
                    });
                }
                BackgroundPhase::Lock(request) => {
                    ready!(cx.acquire(LockId::WalWrite, LockMode::Exclusive));
                    let (write, flush) = (cx.shmem.xlog.write, cx.shmem.xlog.flush);
                    if request.write <= write && request.flush <= flush {
                        cx.release(LockId::WalWrite);
                        return Poll::Ready(Ok((self.last_flush, true)));
                    }
                    self.phase = BackgroundPhase::Write(XLogWrite::new(*request));
                }
                BackgroundPhase::Write(write) => {
                    ready_ok!(write.poll(cx));
                    cx.release(LockId::WalWrite);
                    cx.shmem.wake_walsenders();
                    return Poll::Ready(Ok((self.last_flush, true)));
                }
            }
        }
    }

    fn plan(&mut self, cx: &Cx<'_>) -> Option<WriteRequest> {
        if cx.shmem.recovery_in_progress() {
            return None;
        }
        let settings = &cx.shmem.settings;
        let xlog = &cx.shmem.xlog;
        // The request ends at the last complete page. If that page is already flushed, the request
        // ends at the last asynchronous commit.
        let mut write = settings.geometry.page_start(xlog.request_write);
        let mut async_commit = false;
        if write <= xlog.flush {
            write = xlog.async_commit;
            async_commit = true;
        }
        if write <= xlog.flush {
            return None;
        }
        let pages = (write - xlog.flush) / u64::from(settings.geometry.wal_page);
        let delay_us = i64::from(settings.wal_writer_delay_ms) * 1000;
        let due = cx.now.wall - self.last_flush >= delay_us || cx.now.wall < self.last_flush;
        let flush = if async_commit || due || pages >= u64::from(settings.wal_writer_flush_after) {
            self.last_flush = cx.now.wall;
            write
        } else {
            Lsn::INVALID
        };
        Some(WriteRequest { write, flush })
    }
}

/// `UpdateMinRecoveryPoint`: runs before a page is written, so that the minimum recovery point in
/// the control file is not before the page's LSN. It is advanced to the end of the record being
/// replayed, so that the control file is written less often.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct UpdateMinRecoveryPoint {
    /// The page's LSN. `None` means `force`: advance to the end of the record being replayed.
    lsn: Option<Lsn>,
    phase: MinPhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum MinPhase {
    Look,
    Lock,
    Write(UpdateControlFile),
}

impl UpdateMinRecoveryPoint {
    /// Advances the minimum recovery point for a page with this LSN.
    #[must_use]
    pub const fn new(lsn: Lsn) -> Self {
        Self {
            lsn: Some(lsn),
            phase: MinPhase::Look,
        }
    }

    /// Advances the minimum recovery point to the end of the record being replayed (`force`).
    #[must_use]
    pub const fn forced() -> Self {
        Self {
            lsn: None,
            phase: MinPhase::Look,
        }
    }

    /// # Errors
    /// A PANIC if the control file cannot be written.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        loop {
            match &mut self.phase {
                MinPhase::Look => {
                    // Crash recovery always replays to the end of WAL, and does not use the minimum
                    // recovery point.
                    let crash = cx.shmem.recovery.state == RecoveryState::Crash;
                    // The comparison uses the process's own copy, because the shared value is
                    // advanced before it is durable.
                    let point = cx.sys.min_recovery_point;
                    let lowers = !crash && self.lsn.is_some_and(|lsn| lsn < point);
                    if lowers && cx.planted(Bug::MinRecoveryPointLowered) {
                        self.phase = MinPhase::Lock;
                        continue;
                    }
                    if crash || self.lsn.is_some_and(|lsn| lsn <= point) {
                        return Poll::Ready(Ok(()));
                    }
                    self.phase = MinPhase::Lock;
                }
                MinPhase::Lock => {
                    ready!(cx.acquire(LockId::ControlFile, LockMode::Exclusive));
                    let recovery = &cx.shmem.recovery;
                    assert_ne!(recovery.state, RecoveryState::Crash);
                    let control = &mut cx.shmem.control;
                    cx.sys.min_recovery_point = control.min_recovery_point;
                    if let Some(lsn) = self.lsn
                        && lsn < control.min_recovery_point
                        && cx.probe.planted(Bug::MinRecoveryPointLowered)
                    {
                        control.min_recovery_point = lsn;
                        self.phase = MinPhase::Write(UpdateControlFile::new());
                        continue;
                    }
                    if control.min_recovery_point >= self.lsn.unwrap_or(recovery.replay_end) {
                        cx.release(LockId::ControlFile);
                        return Poll::Ready(Ok(()));
                    }
                    control.min_recovery_point = recovery.replay_end;
                    control.min_recovery_point_tli = recovery.replay_end_tli;
                    self.phase = MinPhase::Write(UpdateControlFile::new());
                }
                MinPhase::Write(update) => {
                    ready_ok!(update.poll(cx));
                    cx.sys.min_recovery_point = cx.shmem.control.min_recovery_point;
                    cx.release(LockId::ControlFile);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}
