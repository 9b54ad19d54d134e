//! Excuse: an operator dropped the standby's slot and did not recreate it.

use super::witness::Refusal;
use super::{Excuse, Reason, Standby};
use crate::world::World;

pub(super) struct SlotDropped;

impl Reason for SlotDropped {
    const EXCUSE: Excuse = Excuse::SlotDropped;

    /// START_REPLICATION was refused because this slot does not exist.
    fn witness(_: &World, standby: &Standby<'_>) -> bool {
        let slot = &standby.ours.settings.primary_slot_name;
        standby
            .witness
            .is_refused(|refusal| matches!(refusal, Refusal::NoSlot(name) if name == slot))
    }

    /// An operator has sent the upstream a statement that drops the slot since it was last created.
    fn cause(world: &World, standby: &Standby<'_>) -> bool {
        let slot = &standby.ours.settings.primary_slot_name;
        world.causes.was_dropped(standby.upstream, slot)
    }
}
