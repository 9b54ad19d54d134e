//! A checkpoint. Mirrors CreateCheckPoint and CheckPointGuts of xlog.c. The routine ends its step
//! at each point where other processes can run.
//!
//! When the control file names the checkpoint, all changes from before the redo point are durable.
//! If the server crashes before the control file is written, recovery starts from the previous
//! checkpoint. Old WAL is therefore removed only after the control file is written. If a checkpoint
//! fails, `Insert->RedoRecPtr` keeps the new redo point.

use super::checkpoint_guts::CheckPointGuts;
use super::wal_release::{ReleaseAfter, ReleaseWal, WalHorizon};
use super::xlog_flush::XLogFlush;
use super::xlog_insert::{Inserted, Insertion, XLogInsert};
use crate::base::{Bug, Lsn, PgVersion, Pid, TimelineId, Xid};
use crate::call::{LogEvent, Message, Place, Poll, SqlState, Wait, Yield};
use crate::replication::slot::required_lsn::sample_required_lsn;
use crate::shmem::{INSERTION_LOCKS, LockId, LockMode, Role};
use crate::storage::control::UpdateControlFile;
use crate::sys::Cx;
use crate::wal::position::bytepos_to_start;
use crate::wire::control_file::DbState;
use crate::wire::record::RmgrId;
use crate::wire::standby_records::{RunningXacts, StandbyRecord};
use crate::wire::xlog_records::{CheckPoint, FullXid, XlogRecord};
use crate::{ready, ready_ok};
use alloc::vec::Vec;

/// The kind of a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CheckpointKind {
    /// A checkpoint while the server runs. Without `force` the checkpoint is skipped if nothing has
    /// changed since the last checkpoint.
    Online {
        /// `CHECKPOINT_FORCE`
        force: bool,
    },
    /// `CHECKPOINT_END_OF_RECOVERY`: a shutdown checkpoint record, written before other processes
    /// may write WAL.
    EndOfRecovery,
    /// `CHECKPOINT_IS_SHUTDOWN`: a checkpoint while no other process can write WAL any more. No
    /// record follows the checkpoint.
    Shutdown,
}

/// `CreateCheckPoint`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CreateCheckPoint {
    kind: CheckpointKind,
    checkpoint: CheckPoint,
    /// The LSN that slots require, read before the slots are saved.
    slots: Lsn,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Start,
    LockControlBefore,
    ShuttingDown(UpdateControlFile),
    Begin,
    LockInsertions {
        next: u8,
        important: Lsn,
    },
    InsertRedo(XLogInsert),
    /// Reads the LSN that slots require. Runs before the slots are saved.
    SampleSlots,
    ReadXids,
    /// Waits for transactions inside a commit critical section.
    Delayed(Vec<(Pid, Xid)>),
    Guts(CheckPointGuts),
    Snapshot(LogStandbySnapshot),
    InsertRecord(XLogInsert),
    Flush {
        at: Inserted,
        flush: XLogFlush,
    },
    LockControl(Inserted),
    UpdateControl(UpdateControlFile, ReleaseWal),
    Release(ReleaseWal),
}

impl CreateCheckPoint {
    /// Creates the routine. It does nothing before the first poll.
    #[must_use]
    pub fn new(cx: &Cx<'_>, kind: CheckpointKind) -> Self {
        // The fields that walsim never changes are copied from the last checkpoint: OIDs,
        // multixacts, and the oldest transaction ids.
        Self {
            kind,
            checkpoint: cx.shmem.control.checkpoint_copy,
            slots: Lsn::INVALID,
            phase: Phase::Start,
        }
    }

    /// The last result of `KeepLogSeg` in this checkpoint.
    #[must_use]
    pub const fn horizon(&self) -> Option<WalHorizon> {
        match &self.phase {
            Phase::Release(release) => release.horizon(),
            Phase::Start
            | Phase::LockControlBefore
            | Phase::ShuttingDown(_)
            | Phase::Begin
            | Phase::LockInsertions { .. }
            | Phase::InsertRedo(_)
            | Phase::SampleSlots
            | Phase::ReadXids
            | Phase::Delayed(_)
            | Phase::Guts(_)
            | Phase::Snapshot(_)
            | Phase::InsertRecord(_)
            | Phase::Flush { .. }
            | Phase::LockControl(_)
            | Phase::UpdateControl(..) => None,
        }
    }

    /// Returns false if the checkpoint was skipped because nothing has changed.
    ///
    /// # Errors
    /// An ERROR if the next checkpoint can repeat the failed step. Otherwise a PANIC.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<bool, LogEvent>> {
        let why = Place::CreateCheckPoint;
        loop {
            match &mut self.phase {
                Phase::Start => match self.kind {
                    CheckpointKind::EndOfRecovery | CheckpointKind::Shutdown => {
                        self.phase = Phase::LockControlBefore;
                    }
                    CheckpointKind::Online { .. } => self.phase = Phase::Begin,
                },
                Phase::LockControlBefore => {
                    ready!(cx.acquire(LockId::ControlFile, LockMode::Exclusive));
                    cx.shmem.control.state = DbState::ShuttingDown;
                    self.phase = Phase::ShuttingDown(UpdateControlFile::new());
                }
                Phase::ShuttingDown(update) => {
                    ready_ok!(update.poll(cx));
                    cx.release(LockId::ControlFile);
                    self.phase = Phase::Begin;
                }
                Phase::Begin => {
                    self.begin(cx);
                    let important = cx.shmem.xlog.last_important;
                    self.phase = Phase::LockInsertions { next: 0, important };
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::LockInsertions { next, important } => {
                    ready!(cx.acquire(LockId::WalInsert(*next), LockMode::Exclusive));
                    *next += 1;
                    if *next < INSERTION_LOCKS {
                        // With the largest position, no process waits for this lock.
                        let lock = LockId::WalInsert(*next - 1);
                        cx.shmem.locks.set_var(lock, Lsn::MAX);
                        continue;
                    }
                    let important = *important;
                    let idle = self.look_under_locks(cx, important);
                    for lock in 0..INSERTION_LOCKS {
                        cx.release(LockId::WalInsert(lock));
                    }
                    if idle {
                        return Poll::Ready(Ok(false));
                    }
                    self.phase = self.after_redo(cx);
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::InsertRedo(insert) => {
                    let redo = ready_ok!(insert.poll(cx)).start;
                    assert!(
                        redo <= cx.shmem.xlog.redo || cx.has_bug(Bug::RedoPointerPublishedLate)
                    );
                    self.checkpoint.redo = redo;
                    self.phase = Phase::SampleSlots;
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::SampleSlots => {
                    self.publish_late(cx);
                    self.slots = ready!(sample_required_lsn(cx));
                    self.phase = Phase::ReadXids;
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::ReadXids => {
                    ready!(cx.acquire(LockId::XidGen, LockMode::Shared));
                    self.checkpoint.next_xid = full_xid(cx, cx.shmem.next_xid);
                    cx.release(LockId::XidGen);
                    self.phase = Phase::Delayed(delaying(cx));
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::Delayed(those) => {
                    ready!(await_commits(cx, those));
                    self.phase = Phase::Guts(CheckPointGuts::new());
                    return Poll::Yield(Yield::Again(Place::CheckPointGuts));
                }
                Phase::Guts(guts) => {
                    ready_ok!(guts.poll(cx));
                    self.phase = match self.kind {
                        CheckpointKind::Online { .. } => {
                            Phase::Snapshot(LogStandbySnapshot::default())
                        }
                        CheckpointKind::EndOfRecovery | CheckpointKind::Shutdown => {
                            Phase::InsertRecord(self.record(cx))
                        }
                    };
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::Snapshot(snapshot) => {
                    ready_ok!(snapshot.poll(cx));
                    self.phase = Phase::InsertRecord(self.record(cx));
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::InsertRecord(insert) => {
                    let at = ready_ok!(insert.poll(cx));
                    self.phase = Phase::Flush {
                        at,
                        flush: XLogFlush::new(at.end),
                    };
                }
                Phase::Flush { at, flush } => {
                    ready_ok!(flush.poll(cx));
                    let at = *at;
                    assert!(at.end <= cx.shmem.xlog.flush, "{at:?} is not durable");
                    assert!(self.checkpoint.redo <= at.start, "{at:?}");
                    if let Err(e) = self.end_of_wal(cx, at) {
                        return Poll::Ready(Err(e));
                    }
                    self.phase = Phase::LockControl(at);
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::LockControl(at) => {
                    ready!(cx.acquire(LockId::ControlFile, LockMode::Exclusive));
                    let at = *at;
                    let release = self.release(cx, at);
                    self.publish(cx, at);
                    self.phase = Phase::UpdateControl(UpdateControlFile::new(), release);
                }
                Phase::UpdateControl(update, release) => {
                    ready_ok!(update.poll(cx));
                    cx.release(LockId::ControlFile);
                    self.phase = Phase::Release(release.clone());
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::Release(release) => {
                    ready_ok!(release.poll(cx));
                    cx.log(LogEvent::log(Message::Checkpoint("complete")));
                    return Poll::Ready(Ok(true));
                }
            }
        }
    }

    /// Sets the fields of the checkpoint that must be read before the redo point is determined.
    fn begin(&mut self, cx: &mut Cx<'_>) {
        self.checkpoint.time = cx.now.wall.unix_seconds();
        self.checkpoint.oldest_active_xid = match self.kind {
            CheckpointKind::Online { .. } => oldest_active_xid(cx),
            CheckpointKind::EndOfRecovery | CheckpointKind::Shutdown => Xid::INVALID,
        };
    }

    /// Returns true if nothing has changed since the last checkpoint. Otherwise determines the redo
    /// point. The caller holds all insertion locks.
    fn look_under_locks(&mut self, cx: &mut Cx<'_>, important: Lsn) -> bool {
        assert!((0..INSERTION_LOCKS).all(|lock| cx.holds(LockId::WalInsert(lock))));
        // A restartpoint is what a server in recovery makes.
        let at_end = self.kind == CheckpointKind::EndOfRecovery;
        assert_eq!(cx.shmem.recovery_in_progress(), at_end);
        let shmem = &mut *cx.shmem;
        // A process holds its insertion lock until its record is copied.
        assert_eq!(shmem.xlog.open_reservations, 0);
        let settings = &shmem.settings;
        match self.kind {
            CheckpointKind::Online { force: false } if important == shmem.control.checkpoint => {
                return true;
            }
            CheckpointKind::Online { .. } | CheckpointKind::Shutdown => {
                self.checkpoint.prev_tli = shmem.xlog.insert_tli;
            }
            CheckpointKind::EndOfRecovery => {
                shmem.recovery.insert_allowed.push(cx.me);
                self.checkpoint.prev_tli = shmem.xlog.prev_tli;
            }
        }
        self.checkpoint.this_tli = shmem.xlog.insert_tli;
        self.checkpoint.full_page_writes = shmem.xlog.full_page_writes;
        self.checkpoint.wal_level = if settings.pg_version < PgVersion::V17 {
            0
        } else {
            shmem.control.wal_level
        };
        if self.redo_is_a_record(settings.pg_version) {
            return false;
        }
        let redo = bytepos_to_start(&settings.geometry, shmem.xlog.curr_byte_pos);
        assert!(
            shmem.xlog.redo <= redo,
            "{} moves to {redo}",
            shmem.xlog.redo
        );
        self.checkpoint.redo = redo;
        if !cx.probe.has_bug(Bug::RedoPointerPublishedLate) {
            shmem.xlog.redo = redo;
        }
        false
    }

    /// With the planted bug, the redo pointer is published only here, after the insertion locks are
    /// released. Records that were inserted after the release were compared with the old redo
    /// pointer.
    fn publish_late(&self, cx: &mut Cx<'_>) {
        let redo = self.checkpoint.redo;
        if !cx.has_bug(Bug::RedoPointerPublishedLate) || cx.shmem.xlog.redo == redo {
            return;
        }
        let settings = &cx.shmem.settings;
        let last = bytepos_to_start(&settings.geometry, cx.shmem.xlog.prev_byte_pos);
        let own = self.redo_is_a_record(settings.pg_version);
        let others = last > redo || last == redo && !own;
        if !others || cx.planted(Bug::RedoPointerPublishedLate) {
            cx.shmem.xlog.redo = redo;
        }
    }

    /// Whether the redo point is the start of a CHECKPOINT_REDO record, as in online checkpoints
    /// since 17.
    fn redo_is_a_record(&self, version: PgVersion) -> bool {
        match self.kind {
            CheckpointKind::Online { .. } => version >= PgVersion::V17,
            CheckpointKind::EndOfRecovery | CheckpointKind::Shutdown => false,
        }
    }

    fn after_redo(&self, cx: &Cx<'_>) -> Phase {
        if !self.redo_is_a_record(cx.shmem.settings.pg_version) {
            return Phase::SampleSlots;
        }
        Phase::InsertRedo(insert(
            cx,
            &XlogRecord::CheckpointRedo(cx.shmem.control.wal_level),
        ))
    }

    fn record(&self, cx: &Cx<'_>) -> XLogInsert {
        insert(
            cx,
            &match self.kind {
                CheckpointKind::Online { .. } => XlogRecord::CheckpointOnline(self.checkpoint),
                CheckpointKind::EndOfRecovery | CheckpointKind::Shutdown => {
                    XlogRecord::CheckpointShutdown(self.checkpoint)
                }
            },
        )
    }

    /// A shutdown checkpoint must be the last record. The next start writes after the shutdown
    /// checkpoint, and would overwrite any later record.
    fn end_of_wal(&self, cx: &mut Cx<'_>, at: Inserted) -> Result<(), LogEvent> {
        match self.kind {
            CheckpointKind::Online { .. } => return Ok(()),
            CheckpointKind::EndOfRecovery => {
                let me = cx.me;
                cx.shmem.recovery.insert_allowed.retain(|pid| *pid != me);
            }
            CheckpointKind::Shutdown => {}
        }
        if self.checkpoint.redo != at.start {
            return Err(LogEvent::panic(SqlState::INTERNAL, Message::ConcurrentWal));
        }
        Ok(())
    }

    /// The removal of old WAL. It begins after the control file is written.
    fn release(&self, cx: &Cx<'_>, at: Inserted) -> ReleaseWal {
        let after = ReleaseAfter::Checkpoint {
            end: at.end,
            tli: self.checkpoint.this_tli,
            shutdown: match self.kind {
                CheckpointKind::Online { .. } => false,
                CheckpointKind::EndOfRecovery | CheckpointKind::Shutdown => true,
            },
        };
        let prior_redo = cx.shmem.control.checkpoint_copy.redo;
        ReleaseWal::new(after, prior_redo, self.checkpoint.redo, self.slots)
    }

    /// Changes the control file in shared memory to name this checkpoint.
    fn publish(&self, cx: &mut Cx<'_>, at: Inserted) {
        assert!(cx.holds(LockId::ControlFile), "{} changes it", cx.me);
        let control = &mut cx.shmem.control;
        assert!(control.checkpoint < at.start, "{at:?} is not the newest");
        match self.kind {
            CheckpointKind::Online { .. } => {}
            CheckpointKind::EndOfRecovery | CheckpointKind::Shutdown => {
                control.state = DbState::ShutDown;
            }
        }
        control.checkpoint = at.start;
        control.checkpoint_copy = self.checkpoint;
        // Crash recovery needs no minimum recovery point, because it always replays to the end of
        // WAL.
        control.min_recovery_point = Lsn::INVALID;
        control.min_recovery_point_tli = TimelineId(0);
    }
}

/// `LogStandbySnapshot`: logs the running transactions. A standby can then accept queries.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct LogStandbySnapshot {
    insert: Option<XLogInsert>,
}

impl LogStandbySnapshot {
    /// # Errors
    /// A PANIC if WAL cannot be written.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        if self.insert.is_none() {
            // XidGenLock is held until the record is inserted. Until then no transaction can get an
            // id, so the record lists all running transactions.
            ready!(cx.acquire(LockId::XidGen, LockMode::Shared));
            let record = StandbyRecord::RunningXacts(running_xacts(cx));
            let insertion = Insertion {
                unimportant: true,
                ..Insertion::new(
                    RmgrId::STANDBY,
                    record.info(),
                    Xid::INVALID,
                    record.encode(),
                )
            };
            self.insert = Some(XLogInsert::new(insertion));
        }
        let insert = self.insert.as_mut().expect("made above");
        let end = ready_ok!(insert.poll(cx)).end;
        assert!(cx.holds(LockId::XidGen), "an id could be assigned");
        cx.release(LockId::XidGen);
        // `XLogSetAsyncXactLSN`: the walwriter will soon write the record.
        cx.shmem.xlog.async_commit = cx.shmem.xlog.async_commit.max(end);
        cx.shmem.procs.set_latch_of(Role::WalWriter);
        Poll::Ready(Ok(()))
    }
}

/// `GetRunningTransactionData`
fn running_xacts(cx: &Cx<'_>) -> RunningXacts {
    let xids = cx.shmem.procs.running_xids();
    let next_xid = cx.shmem.next_xid;
    let ended = (0..next_xid.0)
        .rev()
        .map(Xid)
        .find(|xid| !xids.contains(xid));
    RunningXacts {
        overflowed: false,
        next_xid,
        oldest_running_xid: oldest_active_xid(cx),
        latest_completed_xid: ended.unwrap_or(Xid::INVALID),
        xids,
        subxids: Vec::new(),
    }
}

/// `GetOldestActiveTransactionId`
fn oldest_active_xid(cx: &Cx<'_>) -> Xid {
    cx.shmem
        .procs
        .running_xids()
        .first()
        .copied()
        .unwrap_or(cx.shmem.next_xid)
}

/// Waits while a transaction is between its commit record and its status change. Checks
/// `HaveVirtualXIDsDelayingChkpt` every 10 ms. Without the wait, a commit could be lost: its record
/// is before the redo point, but its status is set after the clog was written. With the planted bug
/// there is no wait, as in versions without the delay flag.
fn await_commits(cx: &mut Cx<'_>, those: &mut Vec<(Pid, Xid)>) -> Poll<()> {
    if those.is_empty() || cx.planted(Bug::CommitCrossesRedoPoint) {
        return Poll::Ready(());
    }
    let now = delaying(cx);
    those.retain(|one| now.contains(one));
    if those.is_empty() {
        return Poll::Ready(());
    }
    Poll::Yield(Yield::Wait(Wait {
        until: Some(cx.now.mono.after_ms(10)),
        ..Wait::at(Place::CreateCheckPoint)
    }))
}

/// `GetVirtualXIDsDelayingChkpt`: the processes inside a commit critical section, with their
/// transaction ids.
fn delaying(cx: &Cx<'_>) -> Vec<(Pid, Xid)> {
    let procs = cx.shmem.procs.iter().filter(|proc| proc.delay_checkpoint);
    procs.map(|proc| (proc.pid, proc.xid)).collect()
}

/// The full transaction id. Its epoch is that of the last checkpoint, because transaction ids do
/// not wrap around in walsim.
fn full_xid(cx: &Cx<'_>, xid: Xid) -> FullXid {
    FullXid::new(cx.shmem.control.checkpoint_copy.next_xid.epoch(), xid)
}

/// Inserts a record of the XLOG resource manager.
#[must_use]
pub fn insert(cx: &Cx<'_>, record: &XlogRecord) -> XLogInsert {
    let main = record.encode(cx.shmem.settings.pg_version);
    XLogInsert::new(Insertion::new(
        RmgrId::XLOG,
        record.info(),
        Xid::INVALID,
        main,
    ))
}

#[cfg(test)]
mod tests;
