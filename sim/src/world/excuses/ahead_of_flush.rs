//! Excuse: the standby requests WAL that its idle upstream has not written yet.
//!
//! WAL ends so shortly before the end of a segment that the header of the next record will span two
//! segments. The standby has applied all WAL. In its recycled segment, old bytes look like the
//! first half of that header. The standby therefore requests the next segment. The upstream refuses
//! the request, because the requested position is ahead of its flush position.
//!
//! The next record ends this state. On a real server the background writer writes a RUNNING_XACTS
//! record within 15 s (LogStandbySnapshot), if other records were written since its last one. After
//! a commit, an idle server of version 15.18 wrote one RUNNING_XACTS record, and no other record in
//! 35 s.

use super::witness::Refusal;
use super::{Excuse, Reason, Standby};
use crate::world::World;
use walsim_core::base::SegmentNo;
use walsim_core::wire::record::RecordHeader;

pub(super) struct AheadOfFlush;

impl Reason for AheadOfFlush {
    const EXCUSE: Excuse = Excuse::AheadOfFlush;

    /// The upstream has refused a request three times. The request named the start of the segment
    /// after the one in which WAL ends.
    fn witness(world: &World, standby: &Standby<'_>) -> bool {
        let geometry = &world.hosts[standby.host].plan.settings.geometry;
        let next = SegmentNo(geometry.segment_of(standby.from).0 + 1);
        let start = geometry.segment_start(next);
        standby
            .witness
            .is_refused_thrice(|refusal| *refusal == Refusal::AheadOfFlush(start))
    }

    /// The upstream has written no record since the refusals. Its flush position equals the replay
    /// position, and the header of the next record will not fit in the segment.
    fn cause(world: &World, standby: &Standby<'_>) -> bool {
        let geometry = &world.hosts[standby.host].plan.settings.geometry;
        let rest = geometry.segment - geometry.segment_offset(standby.from);
        let theirs = standby.theirs;
        let flush = theirs.xlog.flush.max(theirs.walrcv.flushed_upto);
        standby.from == flush
            && (rest as usize) < RecordHeader::LEN
            && world.begins_a_record_there(standby)
    }
}
