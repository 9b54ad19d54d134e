//! Excuse: an operator dropped the standby's slot and did not recreate it.

use super::witness::Refusal;
use super::{Excuse, Reason, Standby};
use crate::world::World;

pub(super) struct SlotDropped;

impl Reason for SlotDropped {
    const EXCUSE: Excuse = Excuse::SlotDropped;

    /// The upstream refused START_REPLICATION because this slot does not exist.
    fn witness(_: &World, standby: &Standby<'_>) -> bool {
        let slot = &standby.ours.settings.primary_slot_name;
        standby
            .witness
            .is_refused(|refusal| matches!(refusal, Refusal::NoSlot(name) if name == slot))
    }

    /// Since the slot was last created, an operator has sent the upstream a statement that drops
    /// the slot.
    fn cause(world: &World, standby: &Standby<'_>) -> bool {
        let slot = &standby.ours.settings.primary_slot_name;
        world.causes.was_dropped(standby.upstream, slot)
    }
}
