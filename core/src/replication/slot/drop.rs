//! Drops slots. Mirrors ReplicationSlotDrop, ReplicationSlotDropPtr and ReplicationSlotCleanup of
//! slot.c.
//!
//! A dropped slot holds back WAL until the rename of its directory is durable. Otherwise a crash
//! could restore the slot after its WAL was removed.

use super::acquire::ReplicationSlotAcquire;
use super::fsync::{FsyncNames, Name};
use super::required_lsn::ReplicationSlotsComputeRequiredLsn;
use super::rmtree::Rmtree;
use super::{directory, path_of, temp_path_of};
use crate::base::{Bug, Lsn, Mark};
use crate::call::{DiskOp, FilePath, LogEvent, Message, Place, Poll, SqlState, Yield};
use crate::shmem::{CondVarId, LockId, LockMode};
use crate::sys::Cx;
use crate::{ready, ready_ok};
use alloc::string::String;

/// `ReplicationSlotDrop`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReplicationSlotDrop {
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Acquire(ReplicationSlotAcquire),
    Drop(ReplicationSlotDropPtr),
}

impl ReplicationSlotDrop {
    /// Drops a slot. Waits for the owner of the slot unless `nowait` is set.
    #[must_use]
    pub const fn new(name: String, nowait: bool) -> Self {
        let acquire = ReplicationSlotAcquire::to_drop(name, nowait);
        Self {
            phase: Phase::Acquire(acquire),
        }
    }

    /// # Errors
    /// There is no such slot, another process has acquired it, or a disk operation failed.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        loop {
            match &mut self.phase {
                Phase::Acquire(acquire) => {
                    if let Err(event) = ready!(acquire.poll(cx)) {
                        if event.sqlstate == SqlState::OBJECT_IN_USE {
                            cx.mark(Mark::SlotDropRefusedActive);
                        }
                        return Poll::Ready(Err(event));
                    }
                    let index = super::mine(cx);
                    assert!(!cx.holds(LockId::ReplicationSlotAllocation));
                    // `ReplicationSlotDropAcquired`
                    cx.sys.my_slot = None;
                    self.phase = Phase::Drop(ReplicationSlotDropPtr::new(index));
                }
                Phase::Drop(drop) => return drop.poll(cx),
            }
        }
    }
}

/// `ReplicationSlotDropPtr`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct ReplicationSlotDropPtr {
    index: usize,
    phase: PtrPhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum PtrPhase {
    Lock,
    Renamed,
    Critical(FsyncNames),
    Compute(ReplicationSlotsComputeRequiredLsn),
    Remove(Rmtree),
    /// A step that runs only with the planted bug.
    Released,
}

impl ReplicationSlotDropPtr {
    pub(super) const fn new(index: usize) -> Self {
        Self {
            index,
            phase: PtrPhase::Lock,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        loop {
            match &mut self.phase {
                PtrPhase::Lock => {
                    ready!(cx.acquire(LockId::ReplicationSlotAllocation, LockMode::Exclusive));
                    let slot = &cx.shmem.slots.slots[self.index];
                    assert!(slot.in_use, "{} is dropped twice", slot.name);
                    assert_eq!(slot.active_pid, Some(cx.me), "{}", slot.name);
                    self.phase = PtrPhase::Renamed;
                    let (from, to) = self.paths(cx);
                    let op = DiskOp::Rename { from, to };
                    return Poll::Yield(cx.disk(op, Place::ReplicationSlotDropPtr));
                }
                PtrPhase::Renamed => match cx.done() {
                    Ok(_) => {
                        let names = [Name::Dir(self.paths(cx).1), Name::Dir(directory())];
                        self.phase = PtrPhase::Critical(FsyncNames::new(names));
                    }
                    Err(error) => {
                        let (from, to) = self.paths(cx);
                        let message = Message::Rename { from, to, error };
                        cx.shmem.slots.slots[self.index].active_pid = None;
                        self.broadcast(cx);
                        if !cx.shmem.slots.slots[self.index].temporary {
                            return Poll::Ready(Err(LogEvent::error(error.into(), message)));
                        }
                        // The failure is only a WARNING, because this routine also runs during the
                        // cleanup after an error.
                        cx.log(LogEvent::warning(error.into(), message));
                        self.forget(cx);
                    }
                },
                PtrPhase::Critical(fsync) => {
                    ready_ok!(fsync.poll(cx));
                    self.forget(cx);
                }
                PtrPhase::Compute(compute) => {
                    ready!(compute.poll(cx));
                    self.phase = PtrPhase::Remove(Rmtree::new(self.paths(cx).1));
                }
                PtrPhase::Remove(remove) => {
                    // If files could not be removed, no slot of this name can be created until the
                    // next start. The drop succeeds nevertheless.
                    ready!(remove.poll(cx));
                    assert!(!cx.shmem.slots.slots[self.index].in_use);
                    cx.release(LockId::ReplicationSlotAllocation);
                    if !cx.has_bug(Bug::DroppedSlotWritten) {
                        return Poll::Ready(Ok(()));
                    }
                    self.phase = PtrPhase::Released;
                    return Poll::Yield(Yield::Again(Place::ReplicationSlotDropPtr));
                }
                PtrPhase::Released => {
                    // The entry is free and ReplicationSlotAllocationLock is released. Another slot
                    // may therefore use the entry by now.
                    if cx.planted(Bug::DroppedSlotWritten) {
                        cx.shmem.slots.slots[self.index].restart_lsn = Lsn::INVALID;
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    fn forget(&mut self, cx: &mut Cx<'_>) {
        assert!(cx.holds(LockId::ReplicationSlotAllocation), "{}", cx.me);
        let slot = &mut cx.shmem.slots.slots[self.index];
        slot.active_pid = None;
        slot.in_use = false;
        self.broadcast(cx);
        self.phase = PtrPhase::Compute(ReplicationSlotsComputeRequiredLsn::new());
    }

    fn broadcast(&self, cx: &mut Cx<'_>) {
        let id = CondVarId::SlotActive(self.index);
        cx.shmem.condvars.broadcast(id);
    }

    /// The entry keeps its name until another slot uses the entry. No slot can use it now, because
    /// this process holds the allocation lock.
    fn paths(&self, cx: &Cx<'_>) -> (FilePath, FilePath) {
        let name = &cx.shmem.slots.slots[self.index].name;
        (
            FilePath::from(path_of(name)),
            FilePath::from(temp_path_of(name)),
        )
    }
}

/// `ReplicationSlotCleanup`: drops the temporary slots of the process. Runs at the end of the
/// process and after every error. By then the acquired slot is released.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct ReplicationSlotCleanup {
    drop: Option<ReplicationSlotDropPtr>,
}

impl ReplicationSlotCleanup {
    /// Creates the routine. It does nothing before the first poll.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// # Errors
    /// A PANIC, if an fsync failed.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        loop {
            if let Some(drop) = &mut self.drop {
                ready_ok!(drop.poll(cx));
                self.drop = None;
            }
            let ours = |slot: &crate::shmem::Slot| slot.in_use && slot.active_pid == Some(cx.me);
            let Some(index) = cx.shmem.slots.slots.iter().position(ours) else {
                return Poll::Ready(Ok(()));
            };
            assert!(
                cx.shmem.slots.slots[index].temporary,
                "the acquired slot was released before"
            );
            self.drop = Some(ReplicationSlotDropPtr::new(index));
        }
    }
}
