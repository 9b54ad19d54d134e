//! Sets the first restart_lsn of a new slot. Mirrors ReplicationSlotReserveWal of slot.c.

use super::my_slot;
use super::required_lsn::ReplicationSlotsComputeRequiredLsn;
use crate::base::{Bug, Lsn};
use crate::call::{LogEvent, Place, Poll, SlotMessage, SqlState, Yield};
use crate::ready;
use crate::shmem::{LockId, LockMode};
use crate::sys::Cx;

const LOCK: LockId = LockId::ReplicationSlotAllocation;

/// `ReplicationSlotReserveWal`: sets the restart_lsn of the acquired slot to the redo pointer. The
/// caller must save the slot.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct ReplicationSlotReserveWal {
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
enum Phase {
    #[default]
    Lock,
    /// With the planted bug only: the redo pointer was read without the lock.
    Read(Lsn),
    Compute(ReplicationSlotsComputeRequiredLsn),
}

impl ReplicationSlotReserveWal {
    /// Creates the routine. It does nothing before the first poll.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// # Errors
    /// The WAL is already removed.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        loop {
            match &mut self.phase {
                Phase::Lock => {
                    ready!(cx.acquire(LOCK, LockMode::Exclusive));
                    let redo = cx.shmem.xlog.redo;
                    // Before 18.2 and 15.16 the lock was not held here. A checkpoint could then
                    // move the redo pointer, compute the required LSN, and remove the WAL that the
                    // slot was about to reserve.
                    if cx.has_bug(Bug::SlotReserveVsCheckpoint) {
                        cx.release(LOCK);
                        self.phase = Phase::Read(redo);
                        return Poll::Yield(Yield::Again(Place::ReplicationSlotReserveWal));
                    }
                    self.publish(cx, redo);
                }
                Phase::Read(redo) => {
                    let mut redo = *redo;
                    if cx.shmem.xlog.redo != redo && !cx.planted(Bug::SlotReserveVsCheckpoint) {
                        redo = cx.shmem.xlog.redo;
                    }
                    self.publish(cx, redo);
                }
                Phase::Compute(compute) => {
                    ready!(compute.poll(cx));
                    return Poll::Ready(check(cx));
                }
            }
        }
    }

    fn publish(&mut self, cx: &mut Cx<'_>, redo: Lsn) {
        // A checkpoint could otherwise remove the WAL at the same time.
        assert!(cx.holds(LOCK) || cx.has_bug(Bug::SlotReserveVsCheckpoint));
        assert!(redo.is_valid(), "there is a redo pointer after startup");
        let slot = my_slot(cx);
        assert!(!slot.restart_lsn.is_valid(), "WAL is reserved once");
        slot.restart_lsn = redo;
        self.phase = Phase::Compute(ReplicationSlotsComputeRequiredLsn::new());
    }
}

fn check(cx: &mut Cx<'_>) -> Result<(), LogEvent> {
    let slot = my_slot(cx);
    let (name, restart_lsn) = (slot.name.clone(), slot.restart_lsn);
    let segment = cx.shmem.settings.geometry.segment_of(restart_lsn);
    if cx.shmem.xlog.last_removed >= segment {
        let message = SlotMessage::WalRemoved(name);
        return Err(LogEvent::slot(SqlState::INTERNAL, message));
    }
    if cx.holds(LOCK) {
        cx.release(LOCK);
    }
    Ok(())
}
