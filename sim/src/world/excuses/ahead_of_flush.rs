//! A standby has applied everything, and its upstream has nothing more: WAL ends so short before
//! the end of a segment that the header of the next record is split. Old bytes of a recycled
//! segment pass for the first half of it, so the standby asks for the next segment, and is told
//! that this is ahead of what the upstream has flushed. The next record ends that. The background
//! writer of a real server makes one within 15 s (LogStandbySnapshot), but none after its own:
//! 15.18 that was left alone after a commit wrote one RUNNING_XACTS, and nothing more in 35 s.

use super::witness::Refusal;
use super::{Excuse, Reason, Standby};
use crate::world::World;
use walsim_core::base::SegmentNo;
use walsim_core::wire::record::RecordHeader;

pub(super) struct AheadOfFlush;

impl Reason for AheadOfFlush {
    const EXCUSE: Excuse = Excuse::AheadOfFlush;

    /// Three times it asked for the start of the segment after the one in which WAL ends.
    fn witness(world: &World, standby: &Standby<'_>) -> bool {
        let geometry = &world.hosts[standby.host].plan.settings.geometry;
        let next = SegmentNo(geometry.segment_of(standby.from).0 + 1);
        let start = geometry.segment_start(next);
        standby
            .witness
            .is_refused_thrice(|refusal| *refusal == Refusal::AheadOfFlush(start))
    }

    /// No record was written since: what is flushed is what was replayed, and the next header does
    /// not fit.
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
