//! Excuse: the standby's slot was invalidated, and the upstream reports it (since 18).

use super::witness::Refusal;
use super::{Excuse, Reason, Standby};
use crate::world::World;

pub(super) struct SlotInvalidated;

impl Reason for SlotInvalidated {
    const EXCUSE: Excuse = Excuse::SlotInvalidated;

    /// START_REPLICATION was refused because this slot is invalid.
    fn witness(_: &World, standby: &Standby<'_>) -> bool {
        let slot = &standby.ours.settings.primary_slot_name;
        standby
            .witness
            .is_refused(|refusal| matches!(refusal, Refusal::SlotInvalidated(name) if name == slot))
    }

    /// The invalidation was legal: a limit was set, or the WAL had been legally removed before.
    fn cause(world: &World, standby: &Standby<'_>) -> bool {
        let slot = &standby.ours.settings.primary_slot_name;
        world.causes.was_rightly_invalidated(standby.upstream, slot)
    }
}
