//! Excuse: the standby's slot was invalidated, and the upstream refuses the standby for this reason
//! (since 18).

use super::witness::Refusal;
use super::{Excuse, Reason, Standby};
use crate::world::World;

pub(super) struct SlotInvalidated;

impl Reason for SlotInvalidated {
    const EXCUSE: Excuse = Excuse::SlotInvalidated;

    /// The upstream refused START_REPLICATION because this slot is invalid.
    fn witness(_: &World, standby: &Standby<'_>) -> bool {
        let slot = &standby.ours.settings.primary_slot_name;
        standby
            .witness
            .is_refused(|refusal| matches!(refusal, Refusal::SlotInvalidated(name) if name == slot))
    }

    /// The invalidation was legal: the slot was beyond a limit, its WAL had been removed legally
    /// before, or the slot was inactive for idle_replication_slot_timeout.
    fn cause(world: &World, standby: &Standby<'_>) -> bool {
        let slot = &standby.ours.settings.primary_slot_name;
        world.causes.was_rightly_invalidated(standby.upstream, slot)
    }
}
