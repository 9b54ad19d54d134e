//! Excuse: the checkpointer of the upstream owns the standby's slot, because it invalidated the
//! slot and failed to save it (docs/hazards/slot-kept-by-the-checkpointer.md).

use super::witness::Refusal;
use super::{Excuse, Reason, Standby};
use crate::world::World;

pub(super) struct SlotKept;

impl Reason for SlotKept {
    const EXCUSE: Excuse = Excuse::SlotKept;

    /// The upstream refused START_REPLICATION because another process owns this slot.
    fn witness(_: &World, standby: &Standby<'_>) -> bool {
        let slot = &standby.ours.settings.primary_slot_name;
        standby.witness.is_refused_thrice(
            |refusal| matches!(refusal, Refusal::SlotInUse(name) if name == slot),
        )
    }

    /// The checkpointer failed to save the slot while it owned the slot, and has not exited since.
    /// No other process can have acquired the slot in this time.
    fn cause(world: &World, standby: &Standby<'_>) -> bool {
        let slot = &standby.ours.settings.primary_slot_name;
        world.causes.is_kept(standby.upstream, slot)
    }
}
