//! Saves all slots. Mirrors CheckPointReplicationSlots of slot.c.

use super::drop::ReplicationSlotDropPtr;
use super::required_lsn::ReplicationSlotsComputeRequiredLsn;
use super::save::SaveSlotToPath;
use crate::base::{Bug, PgVersion};
use crate::call::{LogEvent, Poll, Severity};
use crate::shmem::{LockId, LockMode, Slot};
use crate::sys::Cx;
use crate::{ready, ready_ok};

/// `CheckPointReplicationSlots`: saves all slots. While it runs, no slot can be created or dropped.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct CheckPointReplicationSlots {
    /// Index of the next slot.
    next: usize,
    /// Whether the save will change the last saved position of any slot (since 18).
    changes: bool,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
enum Phase {
    #[default]
    Lock,
    /// A step that runs only with the planted bug.
    Drop(ReplicationSlotDropPtr),
    Next,
    Save(SaveSlotToPath),
    Compute(ReplicationSlotsComputeRequiredLsn),
}

impl CheckPointReplicationSlots {
    /// Creates the routine for any checkpoint. In a shutdown checkpoint PostgreSQL does more, but
    /// only for logical slots.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// # Errors
    /// A PANIC if a step after the rename of a state file failed. An earlier failure is only
    /// logged, and the slot stays dirty.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let lock = LockId::ReplicationSlotAllocation;
        loop {
            match &mut self.phase {
                Phase::Lock => {
                    if let Some(drop) = drop_absent(cx) {
                        self.phase = Phase::Drop(drop);
                        continue;
                    }
                    ready!(cx.acquire(lock, LockMode::Shared));
                    self.phase = Phase::Next;
                }
                Phase::Drop(drop) => {
                    ready_ok!(drop.poll(cx));
                    self.phase = Phase::Lock;
                }
                Phase::Next => {
                    assert!(cx.holds(lock), "a slot could be created or dropped");
                    let Some(slot) = cx.shmem.slots.slots.get(self.next) else {
                        cx.release(lock);
                        if !self.changes {
                            return Poll::Ready(Ok(()));
                        }
                        let compute = ReplicationSlotsComputeRequiredLsn::new();
                        self.phase = Phase::Compute(compute);
                        continue;
                    };
                    if slot.in_use {
                        // Since 18 a slot requires WAL from its last saved position on.
                        self.changes |= cx.shmem.settings.pg_version >= PgVersion::V18
                            && slot.last_saved_restart_lsn != slot.restart_lsn;
                        self.phase = Phase::Save(SaveSlotToPath::of(cx, self.next));
                    }
                    self.next += 1;
                }
                Phase::Save(save) => {
                    let outcome = ready!(save.poll(cx));
                    let slot = &cx.shmem.slots.slots[self.next - 1];
                    assert!(slot.in_use, "{} was dropped", slot.name);
                    match outcome {
                        // Only a change during the save leaves the slot dirty.
                        Ok(()) => assert!(!slot.dirty || slot.just_dirtied, "{slot:?}"),
                        Err(event) if event.severity == Severity::Panic => {
                            return Poll::Ready(Err(event));
                        }
                        Err(event) => cx.log(LogEvent {
                            severity: Severity::Log,
                            ..event
                        }),
                    }
                    self.phase = Phase::Next;
                }
                Phase::Compute(compute) => {
                    ready!(compute.poll(cx));
                    assert!(!cx.holds(lock), "the lock covers only the saves");
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

/// With the planted bug, drops a slot without an owner, although its standby may reconnect.
fn drop_absent(cx: &mut Cx<'_>) -> Option<ReplicationSlotDropPtr> {
    let absent = |slot: &Slot| slot.in_use && slot.active_pid.is_none();
    let index = cx.shmem.slots.slots.iter().position(absent)?;
    cx.planted(Bug::CheckpointDropsAbsentSlots).then(|| {
        cx.shmem.slots.slots[index].active_pid = Some(cx.me);
        ReplicationSlotDropPtr::new(index)
    })
}
