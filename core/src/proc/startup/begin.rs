//! All steps of the startup process before replay starts. Mirrors the first half of StartupXLOG,
//! and InitWalRecovery.

use super::Recovery;
use crate::access::recovery::{ReadOutcome, RecoveryReader};
use crate::access::wal_read::RecoveryMode;
use crate::base::{Fd, Lsn, LsnText, PgVersion, Xid};
use crate::call::{
    DiskError, DiskOp, FilePath, LogEvent, Message, OpenFlags, Place, Poll, SqlState, Yield,
};
use crate::replication::slot::startup::StartupReplicationSlots;
use crate::shmem::RecoveryState;
use crate::storage::control::UpdateControlFile;
use crate::storage::file::opened;
use crate::storage::sync_data_dir::{RemoveTempXlogFiles, SyncDataDirectory};
use crate::sys::Cx;
use crate::wire::control_file::DbState;
use crate::wire::record::{Record, RmgrId};
use crate::wire::xlog_records::{CheckPoint, XlogRecord};
use crate::{ready, ready_ok};

/// A data directory that contains this file is a standby.
const STANDBY_SIGNAL: &str = "standby.signal";

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Begin {
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Start,
    RemoveTemp(RemoveTempXlogFiles),
    Sync(SyncDataDirectory),
    LookForSignal,
    SignalOpened,
    SignalSynced(Fd),
    Checkpoint(RecoveryReader),
    Redo(Recovery),
    Slots(Recovery, StartupReplicationSlots),
    Control(Recovery, UpdateControlFile),
    Done(Recovery),
}

impl Begin {
    pub(super) const fn new() -> Self {
        Self {
            phase: Phase::Start,
        }
    }

    /// The position at which the next record is expected. Invalid before WAL is read.
    pub(super) const fn reading(&self) -> Lsn {
        match &self.phase {
            Phase::Start
            | Phase::RemoveTemp(_)
            | Phase::Sync(_)
            | Phase::LookForSignal
            | Phase::SignalOpened
            | Phase::SignalSynced(_) => Lsn::INVALID,
            Phase::Checkpoint(reader) => reader.position(),
            Phase::Redo(recovery)
            | Phase::Slots(recovery, _)
            | Phase::Control(recovery, _)
            | Phase::Done(recovery) => recovery.reader.position(),
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Recovery, LogEvent>> {
        let why = Place::StartupXLOG;
        loop {
            match &mut self.phase {
                Phase::Start => match say_how_it_ended(cx) {
                    Ok(()) if crashed(cx) => {
                        self.phase = Phase::RemoveTemp(RemoveTempXlogFiles::new());
                    }
                    Ok(()) => self.phase = Phase::LookForSignal,
                    Err(e) => return Poll::Ready(Err(e)),
                },
                Phase::RemoveTemp(remove) => {
                    ready_ok!(remove.poll(cx));
                    self.phase = Phase::Sync(SyncDataDirectory::new());
                }
                Phase::Sync(sync) => {
                    ready!(sync.poll(cx));
                    self.phase = Phase::LookForSignal;
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::LookForSignal => {
                    let path = FilePath::from(STANDBY_SIGNAL);
                    self.phase = Phase::SignalOpened;
                    let op = DiskOp::Open {
                        path,
                        flags: OpenFlags::Existing,
                    };
                    return Poll::Yield(cx.disk(op, Place::ReadRecoverySignalFile));
                }
                Phase::SignalOpened => match cx.done() {
                    Ok(done) => {
                        let fd = opened(done);
                        self.phase = Phase::SignalSynced(fd);
                        let op = DiskOp::Fsync(fd);
                        return Poll::Yield(cx.disk(op, Place::ReadRecoverySignalFile));
                    }
                    Err(DiskError::NotFound) => {
                        self.phase = Phase::Checkpoint(look_for_checkpoint(cx, false));
                    }
                    Err(e) => {
                        let path = FilePath::from(STANDBY_SIGNAL);
                        return Poll::Ready(Err(LogEvent::file("open", path, e)));
                    }
                },
                Phase::SignalSynced(fd) => {
                    // A failed fsync is ignored, as in PostgreSQL.
                    let _ = cx.done();
                    cx.close(*fd);
                    cx.log(LogEvent::log(Message::EnteringStandbyMode));
                    self.phase = Phase::Checkpoint(look_for_checkpoint(cx, true));
                }
                Phase::Checkpoint(reader) => {
                    let outcome = ready_ok!(reader.poll(cx));
                    let reader = reader.clone();
                    match checkpoint_found(cx, reader, &outcome) {
                        Ok(recovery) => self.phase = Phase::Redo(recovery),
                        Err(e) => return Poll::Ready(Err(e)),
                    }
                }
                Phase::Redo(recovery) => {
                    let redo = recovery.checkpoint.redo;
                    if redo < recovery.checkpoint_at {
                        let outcome = ready_ok!(recovery.reader.poll(cx));
                        if !matches!(outcome, ReadOutcome::Record(_)) {
                            let checkpoint = cx.text(recovery.checkpoint_at);
                            return Poll::Ready(Err(no_redo(cx.text(redo), checkpoint)));
                        }
                    }
                    let mut recovery = recovery.clone();
                    recovery.reader.fetching_checkpoint(None);
                    set_up(cx, &mut recovery);
                    self.phase = Phase::Slots(recovery, StartupReplicationSlots::new());
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::Slots(recovery, slots) => {
                    ready_ok!(slots.poll(cx));
                    let recovery = recovery.clone();
                    assert!(recovery.in_recovery || !recovery.crashed, "it crashed");
                    self.phase = if recovery.in_recovery {
                        Phase::Control(recovery, UpdateControlFile::new())
                    } else {
                        Phase::Done(recovery)
                    };
                }
                Phase::Control(recovery, update) => {
                    let state = cx.shmem.control.state;
                    let recovers = [DbState::InCrashRecovery, DbState::InArchiveRecovery];
                    assert!(recovers.contains(&state), "{state:?}");
                    // The lock is not needed, because no other process uses the control file yet.
                    ready_ok!(update.poll(cx));
                    self.phase = Phase::Done(recovery.clone());
                }
                Phase::Done(recovery) => return Poll::Ready(Ok(recovery.clone())),
            }
        }
    }
}

/// Was the last shutdown not clean?
fn crashed(cx: &Cx<'_>) -> bool {
    !matches!(
        cx.shmem.control.state,
        DbState::ShutDown | DbState::ShutDownInRecovery
    )
}

pub(super) fn say_how_it_ended(cx: &mut Cx<'_>) -> Result<(), LogEvent> {
    let control = &cx.shmem.control;
    // `XRecOffIsValid`
    if cx.shmem.settings.geometry.page_offset(control.checkpoint) < 24 {
        let message = Message::InvalidCheckpointLocation;
        return Err(LogEvent::fatal(SqlState::DATA_CORRUPTED, message));
    }
    let time = control.time;
    let message = match control.state {
        DbState::ShutDown => Message::WasShutDown(time),
        DbState::ShutDownInRecovery => Message::WasShutDownInRecovery(time),
        DbState::ShuttingDown => Message::ShutdownWasInterrupted(time),
        DbState::InCrashRecovery => Message::WasInterruptedInRecovery(time),
        DbState::InArchiveRecovery => {
            Message::WasInterruptedInArchiveRecovery(control.checkpoint_copy.time)
        }
        DbState::InProduction => Message::WasInterrupted(time),
        DbState::Startup => {
            let message = Message::InvalidClusterState;
            return Err(LogEvent::fatal(SqlState::DATA_CORRUPTED, message));
        }
    };
    cx.log(LogEvent::log(message));
    Ok(())
}

pub(super) fn look_for_checkpoint(cx: &Cx<'_>, standby_requested: bool) -> RecoveryReader {
    let control = &cx.shmem.control;
    // A crashed primary that was made a standby first replays all its local WAL, as in crash
    // recovery.
    let in_archive = standby_requested
        && (control.min_recovery_point.is_valid() || control.state == DbState::ShutDown);
    let mode = RecoveryMode {
        standby_requested,
        in_archive,
    };
    let tli = control
        .checkpoint_copy
        .this_tli
        .max(control.min_recovery_point_tli);
    let mut reader = RecoveryReader::new(cx, mode, tli);
    reader.begin(control.checkpoint);
    reader.fetching_checkpoint(Some(control.checkpoint_copy.redo));
    reader
}

/// `ReadCheckpointRecord`, and the state of recovery that the checkpoint record determines.
pub(super) fn checkpoint_found(
    cx: &mut Cx<'_>,
    mut reader: RecoveryReader,
    outcome: &ReadOutcome,
) -> Result<Recovery, LogEvent> {
    let at = cx.shmem.control.checkpoint;
    let version = cx.shmem.settings.pg_version;
    let found = match outcome {
        ReadOutcome::Record(record) if record.header.rmid == RmgrId::XLOG => {
            match XlogRecord::decode(version, record.header.info, &record.main) {
                Ok(XlogRecord::CheckpointShutdown(it)) => Some((record, it, true)),
                Ok(XlogRecord::CheckpointOnline(it)) => Some((record, it, false)),
                Ok(_) | Err(_) => None,
            }
        }
        ReadOutcome::Record(_) | ReadOutcome::SwitchToArchive | ReadOutcome::End => None,
    };
    let Some((record, checkpoint, shutdown)) = found.filter(|it| is_checkpoint_long(version, it.0))
    else {
        cx.log(LogEvent::log(Message::InvalidCheckpointRecord));
        return Err(LogEvent::panic(
            SqlState::DATA_CORRUPTED,
            Message::NoCheckpoint(at.text(version)),
        ));
    };
    if checkpoint.redo > at || shutdown && checkpoint.redo < at {
        let message = Message::InvalidRedo {
            redo: checkpoint.redo.text(version),
            checkpoint: at.text(version),
        };
        return Err(LogEvent::panic(SqlState::DATA_CORRUPTED, message));
    }
    let requested = reader.mode().standby_requested;
    let in_recovery =
        checkpoint.redo < at || cx.shmem.control.state != DbState::ShutDown || requested;
    if checkpoint.redo < at {
        reader.begin(checkpoint.redo);
    }
    let hot_standby = requested && cx.shmem.settings.hot_standby;
    Ok(Recovery {
        checkpoint_at: record.lsn,
        checkpoint_end: record.next,
        checkpoint,
        crashed: crashed(cx),
        in_recovery,
        tli: checkpoint.this_tli,
        min_recovery_point: Lsn::INVALID,
        // After a clean shutdown no transaction is running, so the snapshot is complete.
        snapshot_ready: hot_standby && shutdown,
        wants_snapshot: hot_standby,
        reader,
    })
}

fn is_checkpoint_long(version: PgVersion, record: &Record) -> bool {
    record.blocks.is_empty() && record.main.len() == CheckPoint::len(version)
}

pub(super) fn no_redo(redo: LsnText, checkpoint: LsnText) -> LogEvent {
    LogEvent::panic(SqlState::DATA_CORRUPTED, Message::NoRedo(redo, checkpoint))
}

/// Initializes shared memory, and the copy of the control file there, for replay.
fn set_up(cx: &mut Cx<'_>, recovery: &mut Recovery) {
    // Shared memory is new, and no WAL is inserted yet.
    assert_eq!(cx.shmem.recovery.state, RecoveryState::Crash);
    assert_eq!(cx.shmem.xlog.curr_byte_pos, 0);
    let checkpoint = &recovery.checkpoint;
    assert!(checkpoint.redo <= recovery.checkpoint_at, "{checkpoint:?}");
    assert!(recovery.checkpoint_at < recovery.checkpoint_end);
    let in_archive = recovery.reader.mode().in_archive;
    cx.shmem.next_xid = checkpoint.next_xid.xid().max(Xid::FIRST_NORMAL);
    cx.shmem.xlog.redo = checkpoint.redo;
    if !recovery.in_recovery {
        return;
    }
    if !in_archive {
        cx.log(LogEvent::log(Message::AutomaticRecovery));
    }
    let control = &mut cx.shmem.control;
    control.checkpoint = recovery.checkpoint_at;
    control.checkpoint_copy = *checkpoint;
    if in_archive {
        control.state = DbState::InArchiveRecovery;
        cx.shmem.recovery.state = RecoveryState::Archive;
        if control.min_recovery_point < checkpoint.redo {
            control.min_recovery_point = checkpoint.redo;
            control.min_recovery_point_tli = checkpoint.this_tli;
        }
        recovery.min_recovery_point = control.min_recovery_point;
    } else {
        // Crash recovery replays all WAL, so the minimum recovery point of an earlier recovery is
        // not used.
        control.state = DbState::InCrashRecovery;
        cx.shmem.recovery.state = RecoveryState::Crash;
    }
}
