//! docs/hazards/stale-first-half-of-a-record.md: the segment in which the next record begins counts
//! as received, and holds old bytes. Restarting the standby mends it.

use super::{Excuse, Reason, Standby};
use crate::world::World;
use walsim_core::wal::names::segment_path;

pub(super) struct StaleWal;

impl Reason for StaleWal {
    const EXCUSE: Excuse = Excuse::StaleWal;

    /// Startup has read the same place three times, and came to the same end.
    fn witness(_: &World, standby: &Standby<'_>) -> bool {
        standby.witness.has_read_the_same_thrice()
    }

    /// This server once asked for the next segment although it lacked the end of this one, and has
    /// counted everything before as received since then (RequestXLogStreaming). Old bytes that pass
    /// for the beginning of a record made it do so, and they are still there. Wrong bytes that a
    /// walreceiver wrote are PREFIX's business, and were reported when they were written.
    fn cause(world: &World, standby: &Standby<'_>) -> bool {
        let geometry = &world.hosts[standby.host].plan.settings.geometry;
        let from = standby.from;
        let segment = geometry.segment_of(from);
        let offset = u64::from(geometry.segment_offset(from));
        let rest = u64::from(geometry.segment) - offset;
        let path = segment_path(geometry, standby.ours.walrcv.received_tli, segment);
        let bytes = |host: usize| world.hosts[host].disk.read_cached(&path, offset, rest);
        world.causes.has_skipped_to(standby.host, from + rest)
            && standby.ours.walrcv.flushed_upto > from + rest
            && bytes(standby.host) != bytes(standby.upstream)
            && world.begins_a_record_there(standby)
    }
}
