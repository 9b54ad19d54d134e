//! The replay loop. Mirrors PerformWalRecovery, ApplyWalRecord and xlogrecovery_redo, and what
//! xlog_redo and standby_redo do to shared memory.

use super::Recovery;
use super::begin::no_redo;
use crate::access::recovery::ReadOutcome;
use crate::access::redo::Redo;
use crate::access::restartpoint::recovery_restart_point;
use crate::base::{Bug, Lsn, PgVersion, Xid};
use crate::call::{LogEvent, Message, Place, Poll, SqlState, Wait, Yield};
use crate::shmem::{LockId, LockMode, PmSignal, RecoveryState};
use crate::storage::control::UpdateControlFile;
use crate::sys::Cx;
use crate::wire::control_file::DbState;
use crate::wire::record::{Record, RmgrId};
use crate::wire::standby_records::StandbyRecord;
use crate::wire::xlog_records::{CheckPoint, XlogRecord};
use crate::{ready, ready_ok};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Replay {
    /// Whether replay has started.
    started: bool,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Start,
    Begin,
    Read,
    LockControl,
    EnterArchive(UpdateControlFile),
    Redo(Redo),
    /// The start and the end of the record that was just applied.
    Applied(Lsn, Lsn),
}

impl Replay {
    pub(super) const fn new() -> Self {
        Self {
            started: false,
            phase: Phase::Start,
        }
    }

    /// Returns at the end of WAL. On a standby it never returns.
    pub(super) fn poll(
        &mut self,
        cx: &mut Cx<'_>,
        recovery: &mut Recovery,
    ) -> Poll<Result<(), LogEvent>> {
        let why = Place::PerformWalRecovery;
        loop {
            match &mut self.phase {
                Phase::Start if !recovery.in_recovery => return Poll::Ready(Ok(())),
                Phase::Start => {
                    start_progress(cx, recovery);
                    cx.signal_postmaster(PmSignal::RecoveryStarted);
                    self.phase = Phase::Begin;
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::Begin => {
                    assert!(!self.started, "replay begins once");
                    if let Err(e) = recovery.check_consistency(cx) {
                        return Poll::Ready(Err(e));
                    }
                    if recovery.checkpoint.redo < recovery.checkpoint_at {
                        recovery.reader.begin(recovery.checkpoint.redo);
                    }
                    self.phase = Phase::Read;
                }
                Phase::Read => match ready_ok!(recovery.reader.poll(cx)) {
                    ReadOutcome::Record(record) => {
                        if let Err(e) = self.before(cx, recovery, &record) {
                            return Poll::Ready(Err(e));
                        }
                        let frozen = freezes(cx, &record);
                        self.phase = Phase::Redo(Redo::new(record));
                        if let Some(how) = frozen {
                            return Poll::Yield(how);
                        }
                        return Poll::Yield(Yield::Again(Place::ApplyWalRecord));
                    }
                    ReadOutcome::SwitchToArchive => self.phase = Phase::LockControl,
                    ReadOutcome::End => return Poll::Ready(self.ended(cx, recovery)),
                },
                Phase::LockControl => {
                    ready!(cx.acquire(LockId::ControlFile, LockMode::Exclusive));
                    raise_minimum(cx, recovery);
                    self.phase = Phase::EnterArchive(UpdateControlFile::new());
                }
                Phase::EnterArchive(update) => {
                    ready_ok!(update.poll(cx));
                    assert_eq!(cx.shmem.recovery.state, RecoveryState::Crash);
                    assert!(cx.holds(LockId::ControlFile), "{}", cx.me);
                    // The recovery state changes while ControlFileLock is held, so that other
                    // processes see this change and the change of the control file, or neither.
                    cx.shmem.recovery.state = RecoveryState::Archive;
                    cx.release(LockId::ControlFile);
                    recovery.reader.enter_archive();
                    if let Err(e) = recovery.check_consistency(cx) {
                        return Poll::Ready(Err(e));
                    }
                    self.phase = Phase::Read;
                    return Poll::Yield(Yield::Again(Place::SwitchIntoArchiveRecovery));
                }
                Phase::Redo(redo) => {
                    if let Err(e) = ready!(redo.poll(cx)) {
                        return Poll::Ready(Err(e));
                    }
                    self.phase = Phase::Applied(redo.record().lsn, redo.record().next);
                    return Poll::Yield(Yield::Again(Place::ApplyWalRecord));
                }
                Phase::Applied(start, end) => {
                    let progress = &mut cx.shmem.recovery;
                    assert_eq!(progress.replay_end, *end, "{start} is the last record");
                    progress.last_replayed_read = *start;
                    progress.last_replayed_end = *end;
                    progress.last_replayed_tli = recovery.tli;
                    if let Err(e) = recovery.check_consistency(cx) {
                        return Poll::Ready(Err(e));
                    }
                    self.phase = Phase::Read;
                }
            }
        }
    }

    /// The steps before the resource manager's redo. The end of the record is published first. A
    /// page may be written while the record is partly applied, and the minimum recovery point must
    /// then include the whole record.
    fn before(
        &mut self,
        cx: &mut Cx<'_>,
        recovery: &mut Recovery,
        record: &Record,
    ) -> Result<(), LogEvent> {
        recovery.reader.handle_interrupts(cx)?;
        if !self.started {
            self.check_first(cx, recovery, record)?;
            self.started = true;
            cx.log(LogEvent::log(Message::RedoStarts(cx.text(record.lsn))));
        }
        advance_past(cx, record.header.xid);
        let replayed = cx.shmem.recovery.last_replayed_end;
        assert!(replayed <= record.lsn, "{} was replayed", record.lsn);
        assert!(record.lsn < record.next, "{} {}", record.lsn, record.next);
        cx.shmem.recovery.replay_end = record.next;
        cx.shmem.recovery.replay_end_tli = recovery.tli;
        match record.header.rmid {
            RmgrId::XLOG => xlog_redo(cx, recovery, record),
            RmgrId::STANDBY => {
                standby_redo(cx, recovery, record);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Since 17 redo of an online checkpoint must start at a CHECKPOINT_REDO record.
    fn check_first(
        &self,
        cx: &Cx<'_>,
        recovery: &Recovery,
        record: &Record,
    ) -> Result<(), LogEvent> {
        let separate = recovery.checkpoint.redo < recovery.checkpoint_at;
        if !separate || cx.shmem.settings.pg_version < PgVersion::V17 {
            return Ok(());
        }
        match decode(cx, record) {
            Some(XlogRecord::CheckpointRedo(_)) => Ok(()),
            _ => {
                let message = Message::UnexpectedRedoRecord(cx.text(record.lsn));
                Err(LogEvent::fatal(SqlState::DATA_CORRUPTED, message))
            }
        }
    }

    fn ended(&self, cx: &mut Cx<'_>, recovery: &Recovery) -> Result<(), LogEvent> {
        let redo = recovery.checkpoint.redo;
        assert!(
            !recovery.reader.mode().standby(),
            "a standby waits for more WAL"
        );
        let progress = &cx.shmem.recovery;
        assert_eq!(
            progress.replay_end, progress.last_replayed_end,
            "a record is applied only in part"
        );
        if self.started {
            let last = cx.shmem.recovery.last_replayed_read;
            cx.log(LogEvent::log(Message::RedoDone(cx.text(last))));
        } else if redo < recovery.checkpoint_at {
            let checkpoint = cx.text(recovery.checkpoint_at);
            return Err(no_redo(cx.text(redo), checkpoint));
        } else {
            cx.log(LogEvent::log(Message::RedoNotRequired));
        }
        Ok(())
    }
}

/// Sets the replay position as if the record before the redo point had just been replayed.
fn start_progress(cx: &mut Cx<'_>, recovery: &Recovery) {
    let progress = &mut cx.shmem.recovery;
    assert!(
        recovery.in_recovery,
        "nothing is replayed after a clean shutdown"
    );
    assert!(!progress.replay_end.is_valid(), "replay starts once");
    if recovery.checkpoint.redo < recovery.checkpoint_at {
        progress.last_replayed_end = recovery.checkpoint.redo;
    } else {
        progress.last_replayed_read = recovery.checkpoint_at;
        progress.last_replayed_end = recovery.checkpoint_end;
    }
    progress.last_replayed_tli = recovery.tli;
    progress.replay_end = progress.last_replayed_end;
    progress.replay_end_tli = recovery.tli;
}

/// `SwitchIntoArchiveRecovery`: advances the minimum recovery point to the replay position. After a
/// restart, sessions are then not allowed until replay has reached this position again.
fn raise_minimum(cx: &mut Cx<'_>, recovery: &mut Recovery) {
    let end = recovery.reader.position();
    // `Assert(StandbyMode)` where `WaitForWALToBecomeAvailable` switches
    assert!(recovery.reader.mode().standby_requested);
    assert!(cx.holds(LockId::ControlFile), "{}", cx.me);
    assert!(!recovery.min_recovery_point.is_valid(), "{end}");
    let control = &mut cx.shmem.control;
    control.state = DbState::InArchiveRecovery;
    if control.min_recovery_point < end {
        control.min_recovery_point = end;
        control.min_recovery_point_tli = recovery.tli;
    }
    recovery.min_recovery_point = end;
}

/// `AdvanceNextFullTransactionIdPastXid`
fn advance_past(cx: &mut Cx<'_>, xid: Xid) {
    if xid.is_valid() {
        cx.shmem.next_xid = cx.shmem.next_xid.max(Xid(xid.0.saturating_add(1)));
    }
}

/// With the planted bug, replay waits for a restartpoint in progress, and nothing ends the wait.
/// PostgreSQL's `RecoveryRestartPoint` does not wait.
fn freezes(cx: &mut Cx<'_>, record: &Record) -> Option<Yield> {
    let checkpointer = &cx.shmem.checkpointer;
    let busy = checkpointer.started != checkpointer.done && cx.shmem.recovery.hot_standby_active;
    let waits = busy && matches!(decode(cx, record), Some(XlogRecord::CheckpointOnline(_)));
    (waits && cx.planted(Bug::StartupFreezes)).then(|| {
        Yield::Wait(Wait {
            ..Wait::at(Place::RecoveryRestartPoint)
        })
    })
}

fn decode(cx: &Cx<'_>, record: &Record) -> Option<XlogRecord> {
    if record.header.rmid != RmgrId::XLOG {
        return None;
    }
    XlogRecord::decode(
        cx.shmem.settings.pg_version,
        record.header.info,
        &record.main,
    )
    .ok()
}

/// The effects of an XLOG record, except for the restored pages.
fn xlog_redo(cx: &mut Cx<'_>, recovery: &mut Recovery, record: &Record) -> Result<(), LogEvent> {
    match decode(cx, record) {
        Some(XlogRecord::CheckpointShutdown(checkpoint)) => {
            same_timeline(recovery, &checkpoint)?;
            cx.shmem.next_xid = checkpoint.next_xid.xid();
            cx.shmem.control.checkpoint_copy.next_xid = checkpoint.next_xid;
            recovery_restart_point(cx, record.lsn, record.next, checkpoint);
            recovery.snapshot_ready |= recovery.wants_snapshot;
            Ok(())
        }
        Some(XlogRecord::CheckpointOnline(checkpoint)) => {
            same_timeline(recovery, &checkpoint)?;
            cx.shmem.next_xid = cx.shmem.next_xid.max(checkpoint.next_xid.xid());
            cx.shmem.control.checkpoint_copy.next_xid = checkpoint.next_xid;
            recovery_restart_point(cx, record.lsn, record.next, checkpoint);
            Ok(())
        }
        Some(XlogRecord::OverwriteContrecord(overwrite)) => {
            let expected = overwrite.overwritten_lsn;
            let found = recovery.reader.take_overwritten();
            if found != Some(expected) {
                let found = found.unwrap_or_default();
                let (found, expected) = (cx.text(found), cx.text(expected));
                let message = Message::OverwrittenLsnMismatch { found, expected };
                return Err(LogEvent::fatal(SqlState::DATA_CORRUPTED, message));
            }
            recovery.reader.forget_aborted();
            cx.log(LogEvent::log(Message::SkippedMissingContrecord(
                cx.text(expected),
            )));
            Ok(())
        }
        Some(_) => Ok(()),
        None => {
            let header = &record.header;
            let message = Message::UnknownRecord {
                rmid: header.rmid,
                info: header.info,
                lsn: record.lsn,
            };
            Err(LogEvent::fatal(SqlState::DATA_CORRUPTED, message))
        }
    }
}

fn same_timeline(recovery: &Recovery, checkpoint: &CheckPoint) -> Result<(), LogEvent> {
    if checkpoint.this_tli == recovery.tli {
        return Ok(());
    }
    let (found, expected) = (checkpoint.this_tli, recovery.tli);
    let message = Message::UnexpectedCheckpointTimeline { found, expected };
    Err(LogEvent::panic(SqlState::DATA_CORRUPTED, message))
}

/// The effects of a Standby record. A record that lists the running transactions completes the
/// snapshot. Sessions can then read.
fn standby_redo(cx: &mut Cx<'_>, recovery: &mut Recovery, record: &Record) {
    let decoded = StandbyRecord::decode(record.header.info, &record.main);
    if let Ok(StandbyRecord::RunningXacts(running)) = decoded {
        cx.shmem.next_xid = cx.shmem.next_xid.max(running.next_xid);
        recovery.snapshot_ready |= recovery.wants_snapshot;
    }
}
