//! The checkpointer of the upstream keeps the slot of a standby: saving the slot failed while it
//! was being invalidated. docs/hazards/slot-kept-by-the-checkpointer.md

use super::witness::Refusal;
use super::{Excuse, Reason, Standby};
use crate::world::World;

pub(super) struct SlotKept;

impl Reason for SlotKept {
    const EXCUSE: Excuse = Excuse::SlotKept;

    /// START_REPLICATION was refused because another process owns that very slot.
    fn witness(_: &World, standby: &Standby<'_>) -> bool {
        let slot = &standby.ours.settings.primary_slot_name;
        standby.witness.is_refused_thrice(
            |refusal| matches!(refusal, Refusal::SlotInUse(name) if name == slot),
        )
    }

    /// The checkpointer, which still runs, has failed to save that slot while it owned it. No other
    /// process can have acquired the slot since.
    fn cause(world: &World, standby: &Standby<'_>) -> bool {
        let slot = &standby.ours.settings.primary_slot_name;
        world.causes.is_kept(standby.upstream, slot)
    }
}
