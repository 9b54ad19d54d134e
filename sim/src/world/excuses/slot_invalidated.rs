//! The slot of a standby was invalidated, which servers since 18 tell it.

use super::witness::Refusal;
use super::{Excuse, Reason, Standby};
use crate::world::World;

pub(super) struct SlotInvalidated;

impl Reason for SlotInvalidated {
    const EXCUSE: Excuse = Excuse::SlotInvalidated;

    /// START_REPLICATION was refused since that very slot is invalid.
    fn witness(_: &World, standby: &Standby<'_>) -> bool {
        let slot = &standby.ours.settings.primary_slot_name;
        standby
            .witness
            .is_refused(|refusal| matches!(refusal, Refusal::SlotInvalidated(name) if name == slot))
    }

    /// When the upstream invalidated it, a limit that was set or WAL that had gone before made that
    /// right.
    fn cause(world: &World, standby: &Standby<'_>) -> bool {
        let slot = &standby.ours.settings.primary_slot_name;
        world.causes.was_rightly_invalidated(standby.upstream, slot)
    }
}
