//! Restartpoints. A restartpoint is a standby's counterpart of a checkpoint, made at a replayed
//! checkpoint record. Mirrors CreateRestartPoint and RecoveryRestartPoint of xlog.c.
//!
//! A restartpoint writes and fsyncs everything that the checkpoint made durable on the primary.
//! After that, a restart begins at the redo point of this checkpoint, and older WAL can be removed.

use super::checkpoint_guts::CheckPointGuts;
use super::wal_release::{ReleaseAfter, ReleaseWal, WalHorizon};
use super::xlog_flush::UpdateMinRecoveryPoint;
use crate::base::Lsn;
use crate::call::{LogEvent, Message, Place, Poll, Yield};
use crate::replication::slot::required_lsn::sample_required_lsn;
use crate::shmem::{INSERTION_LOCKS, LockId, LockMode, ReplayedCheckPoint};
use crate::storage::control::UpdateControlFile;
use crate::sys::Cx;
use crate::wire::control_file::DbState;
use crate::wire::xlog_records::CheckPoint;
use crate::{ready, ready_ok};

/// `RecoveryRestartPoint`: called when replay has passed a checkpoint record from `at` to `end`. No
/// restartpoint may be made while the table of invalid pages is not empty, because a restart would
/// not know of these pages.
pub fn recovery_restart_point(cx: &mut Cx<'_>, at: Lsn, end: Lsn, checkpoint: CheckPoint) {
    assert!(at < end, "a record from {at} to {end}");
    if cx.shmem.recovery.invalid_pages.is_empty() {
        cx.shmem.xlog.last_checkpoint = Some(ReplayedCheckPoint {
            at,
            end,
            checkpoint,
        });
    }
}

/// `CreateRestartPoint`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CreateRestartPoint {
    /// `CHECKPOINT_IS_SHUTDOWN`
    shutdown: bool,
    slots: Lsn,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Start,
    Minimum(UpdateMinRecoveryPoint),
    LockShutDown,
    ShutDown(UpdateControlFile),
    LockInsertions(ReplayedCheckPoint, u8),
    SampleSlots(ReplayedCheckPoint),
    Guts(ReplayedCheckPoint, CheckPointGuts),
    LockControl(ReplayedCheckPoint),
    UpdateControl(UpdateControlFile, ReleaseWal, Lsn),
    Unlock(ReleaseWal, Lsn),
    Release(ReleaseWal, Lsn),
}

impl CreateRestartPoint {
    /// A restartpoint, which starts at the first poll. `shutdown` means that this is the last
    /// restartpoint before the server stops.
    #[must_use]
    pub const fn new(shutdown: bool) -> Self {
        Self {
            shutdown,
            slots: Lsn::INVALID,
            phase: Phase::Start,
        }
    }

    /// The last result of `KeepLogSeg` in this restartpoint.
    #[must_use]
    pub const fn horizon(&self) -> Option<WalHorizon> {
        match &self.phase {
            Phase::Release(release, _) => release.horizon(),
            Phase::Start
            | Phase::Minimum(_)
            | Phase::LockShutDown
            | Phase::ShutDown(_)
            | Phase::LockInsertions(..)
            | Phase::SampleSlots(_)
            | Phase::Guts(..)
            | Phase::LockControl(_)
            | Phase::UpdateControl(..)
            | Phase::Unlock(..) => None,
        }
    }

    /// Returns false if the restartpoint was skipped. It is skipped if no checkpoint record was
    /// replayed after the checkpoint in the control file.
    ///
    /// # Errors
    /// An ERROR if the next restartpoint can repeat the failed step. Otherwise a PANIC.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<bool, LogEvent>> {
        let why = Place::CreateRestartPoint;
        loop {
            match &mut self.phase {
                Phase::Start => {
                    if !cx.shmem.recovery_in_progress() {
                        return Poll::Ready(Ok(false));
                    }
                    let done = cx.shmem.control.checkpoint_copy.redo;
                    let candidate = cx.shmem.xlog.last_checkpoint;
                    self.phase = match candidate.filter(|it| it.checkpoint.redo > done) {
                        Some(candidate) => Phase::LockInsertions(candidate, 0),
                        None => Phase::Minimum(UpdateMinRecoveryPoint::forced()),
                    };
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::Minimum(update) => {
                    // After a restart, queries must not see an earlier state than queries before
                    // the restart. The minimum recovery point is therefore advanced even if the
                    // restartpoint is skipped.
                    ready_ok!(update.poll(cx));
                    if !self.shutdown {
                        return Poll::Ready(Ok(false));
                    }
                    self.phase = Phase::LockShutDown;
                }
                Phase::LockShutDown => {
                    ready!(cx.acquire(LockId::ControlFile, LockMode::Exclusive));
                    cx.shmem.control.state = DbState::ShutDownInRecovery;
                    self.phase = Phase::ShutDown(UpdateControlFile::new());
                }
                Phase::ShutDown(update) => {
                    ready_ok!(update.poll(cx));
                    cx.release(LockId::ControlFile);
                    return Poll::Ready(Ok(false));
                }
                Phase::LockInsertions(candidate, next) => {
                    // No process inserts WAL during recovery. The insertion locks are needed
                    // because recovery may end at any time.
                    while *next < INSERTION_LOCKS {
                        ready!(cx.acquire(LockId::WalInsert(*next), LockMode::Exclusive));
                        *next += 1;
                    }
                    // The startup process requests the next restartpoint when enough WAL has been
                    // replayed since this position.
                    assert!((0..INSERTION_LOCKS).all(|lock| cx.holds(LockId::WalInsert(lock))));
                    assert_eq!(cx.shmem.xlog.open_reservations, 0);
                    cx.shmem.xlog.redo = candidate.checkpoint.redo;
                    for lock in 0..INSERTION_LOCKS {
                        cx.release(LockId::WalInsert(lock));
                    }
                    self.phase = Phase::SampleSlots(*candidate);
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::SampleSlots(candidate) => {
                    self.slots = ready!(sample_required_lsn(cx));
                    self.phase = Phase::Guts(*candidate, CheckPointGuts::new());
                    return Poll::Yield(Yield::Again(Place::CheckPointGuts));
                }
                Phase::Guts(candidate, guts) => {
                    ready_ok!(guts.poll(cx));
                    assert!(!cx.holds(LockId::ControlFile), "{}", cx.me);
                    self.phase = Phase::LockControl(*candidate);
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::LockControl(candidate) => {
                    ready!(cx.acquire(LockId::ControlFile, LockMode::Exclusive));
                    let candidate = *candidate;
                    self.phase = self.publish(cx, &candidate);
                }
                Phase::UpdateControl(update, release, redo) => {
                    ready_ok!(update.poll(cx));
                    self.phase = Phase::Unlock(release.clone(), *redo);
                }
                Phase::Unlock(release, redo) => {
                    cx.release(LockId::ControlFile);
                    self.phase = Phase::Release(release.clone(), *redo);
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::Release(release, redo) => {
                    ready_ok!(release.poll(cx));
                    cx.log(LogEvent::log(Message::RestartPoint(cx.text(*redo))));
                    return Poll::Ready(Ok(true));
                }
            }
        }
    }

    /// Changes the control file in shared memory to name this restartpoint. Does nothing if the end
    /// of recovery has written a newer checkpoint.
    fn publish(&self, cx: &mut Cx<'_>, candidate: &ReplayedCheckPoint) -> Phase {
        assert!(cx.holds(LockId::ControlFile), "{} changes it", cx.me);
        let control = &mut cx.shmem.control;
        let redo = candidate.checkpoint.redo;
        let prior_redo = control.checkpoint_copy.redo;
        let release = ReleaseWal::new(ReleaseAfter::RestartPoint, prior_redo, redo, self.slots);
        if prior_redo >= redo {
            return Phase::Unlock(release, redo);
        }
        // These fields are set even if recovery has ended. The WAL before this checkpoint will be
        // removed, and the control file must not point to removed WAL.
        control.checkpoint = candidate.at;
        control.checkpoint_copy = candidate.checkpoint;
        if control.state == DbState::InArchiveRecovery {
            // After a restart, recovery must reach at least the end of the checkpoint record.
            // Writing dirty buffers has usually advanced the minimum recovery point that far
            // already.
            if control.min_recovery_point < candidate.end {
                control.min_recovery_point = candidate.end;
                control.min_recovery_point_tli = candidate.checkpoint.this_tli;
            }
            if self.shutdown {
                control.state = DbState::ShutDownInRecovery;
            }
        }
        Phase::UpdateControl(UpdateControlFile::new(), release, redo)
    }
}

#[cfg(test)]
mod tests;
