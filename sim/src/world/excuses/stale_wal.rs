//! Excuse: the segment in which the next record begins counts as received, but contains old bytes
//! (docs/hazards/stale-first-half-of-a-record.md). A restart of the standby ends this state.

use super::{Excuse, Reason, Standby};
use crate::world::World;
use walsim_core::wal::names::segment_path;

pub(super) struct StaleWal;

impl Reason for StaleWal {
    const EXCUSE: Excuse = Excuse::StaleWal;

    /// The startup process has read from the same position three times, and each time reached the
    /// same end of WAL.
    fn witness(_: &World, standby: &Standby<'_>) -> bool {
        standby.witness.has_read_the_same_thrice()
    }

    /// The next record begins in a segment whose end was missing. Since its last start the standby
    /// has nevertheless requested the segment after that one. From then on the standby treats all
    /// WAL before the requested segment as received (RequestXLogStreaming).
    ///
    /// In the earlier segment, old bytes look like the beginning of a record. No walreceiver wrote
    /// these bytes, because such a write would have violated the invariant PREFIX.
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
