//! Computes the oldest LSN that slots require. Mirrors ReplicationSlotsComputeRequiredLSN of
//! slot.c.

use crate::base::{Bug, Lsn, PgVersion};
use crate::call::{Place, Poll, Yield};
use crate::ready;
use crate::shmem::{Invalidation, LockId, LockMode, Slot};
use crate::sys::Cx;

/// `ReplicationSlotsComputeRequiredLSN`: reads all slots, then publishes the oldest position. No
/// lock covers both steps, so an older result can overwrite a newer result.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct ReplicationSlotsComputeRequiredLsn {
    computed: Option<Lsn>,
}

impl ReplicationSlotsComputeRequiredLsn {
    /// Creates the routine. It does nothing before the first poll.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns when the result is published.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<()> {
        let Some(least) = self.computed else {
            self.computed = Some(least_required(cx).unwrap_or(Lsn::INVALID));
            return Poll::Yield(Yield::Again(Place::ReplicationSlotsComputeRequiredLSN));
        };
        // `XLogSetReplicationSlotMinimumLSN`
        cx.shmem.slots.required_lsn = least;
        Poll::Ready(())
    }
}

/// The oldest LSN that slots require. The startup process calls this function directly, because no
/// other process runs yet.
pub(super) fn least_required(cx: &mut Cx<'_>) -> Option<Lsn> {
    let slots = cx.shmem.slots.slots.iter().filter(|slot| slot.in_use);
    let valid = slots.clone().filter(|slot| !slot.is_lost(version(cx)));
    let mut least = valid.clone().filter_map(|slot| required_by(cx, slot)).min();
    let in_memory = valid.filter_map(held_by).min();
    let given_up = slots
        .filter_map(|slot| held_before_invalidation(cx, slot))
        .min();
    // Before 18 the positions in memory were used. If a slot advanced during a checkpoint, the
    // checkpoint could remove WAL that the saved position still requires. After a crash the slot
    // has its saved position again, and this WAL is missing.
    if in_memory != least && cx.planted(Bug::SlotAdvanceDuringCheckpoint) {
        least = in_memory;
    }
    // Before 15.2 an invalidated slot still held back WAL.
    if given_up.is_some_and(|at| least.is_none_or(|least| at < least))
        && cx.planted(Bug::InvalidSlotStillPins)
    {
        least = given_up;
    }
    assert!(least.is_none_or(|least| least.is_valid()), "{least:?}");
    least
}

fn version(cx: &Cx<'_>) -> PgVersion {
    cx.shmem.settings.pg_version
}

/// The position from which a valid slot requires WAL.
fn required_by(cx: &Cx<'_>, slot: &Slot) -> Option<Lsn> {
    let held = held_by(slot)?;
    let saved = slot.last_saved_restart_lsn;
    match version(cx) {
        PgVersion::V15 | PgVersion::V16 | PgVersion::V17 => Some(held),
        PgVersion::V18 | PgVersion::V19 if !slot.temporary && saved.is_valid() => {
            Some(held.min(saved))
        }
        PgVersion::V18 | PgVersion::V19 => Some(held),
    }
}

/// The position of a slot in memory.
fn held_by(slot: &Slot) -> Option<Lsn> {
    Some(slot.restart_lsn).filter(|lsn| lsn.is_valid())
}

fn held_before_invalidation(cx: &Cx<'_>, slot: &Slot) -> Option<Lsn> {
    match slot.invalidated {
        Some(Invalidation::WalRemoved(at)) if slot.is_lost(version(cx)) => Some(at),
        Some(Invalidation::WalRemoved(_) | Invalidation::IdleTimeout | Invalidation::Other(_))
        | None => None,
    }
    .filter(|at| at.is_valid())
}

/// Returns the oldest LSN that slots require. Before 18 a checkpoint calls this function before it
/// saves the slots. The lock matters for a slot that is reserving WAL at this moment. Either the
/// result includes this slot, or the slot uses the new redo pointer.
pub fn sample_required_lsn(cx: &mut Cx<'_>) -> Poll<Lsn> {
    let lock = LockId::ReplicationSlotAllocation;
    ready!(cx.acquire(lock, LockMode::Shared));
    cx.release(lock);
    Poll::Ready(cx.shmem.slots.required_lsn)
}

/// The minimum of all slots for `KeepLogSeg`: WAL from this position on is kept. Before 18 this
/// minimum is the result of [`sample_required_lsn`]. Since 18 it is computed from saved positions.
#[must_use]
pub fn slots_minimum(cx: &mut Cx<'_>, sampled: Lsn) -> Lsn {
    let required = cx.shmem.slots.required_lsn;
    match version(cx) {
        PgVersion::V18 | PgVersion::V19 => required,
        PgVersion::V15 | PgVersion::V16 | PgVersion::V17
            if required != sampled && cx.planted(Bug::SlotAdvanceDuringCheckpoint) =>
        {
            // Before 15.14, 16.10 and 17.6 the minimum was read at this point, and could include
            // positions that were not yet saved.
            required
        }
        PgVersion::V15 | PgVersion::V16 | PgVersion::V17 => sampled,
    }
}
