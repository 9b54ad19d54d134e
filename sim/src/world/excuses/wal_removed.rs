//! Excuse: the upstream has removed the segment that the standby requests. PostgreSQL retains WAL
//! only for slots and because of wal_keep_size.

use super::witness::Refusal;
use super::{Excuse, Reason, Standby};
use crate::world::World;
use walsim_core::base::{Geometry, Lsn, SegmentNo};
use walsim_core::wire::page::LongPageHeader;
use walsim_core::wire::record::RecordHeader;

pub(super) struct WalRemoved;

impl Reason for WalRemoved {
    const EXCUSE: Excuse = Excuse::WalRemoved;

    /// The upstream refused the request because the segment has already been removed.
    fn witness(_: &World, standby: &Standby<'_>) -> bool {
        standby
            .witness
            .is_refused(|refusal| matches!(refusal, Refusal::SegmentRemoved(_)))
    }

    /// The upstream has removed the segment, and the standby was entitled to request it. The
    /// removal was legal, because a violation of SLOT, RETAIN or KEEP would have ended the run.
    fn cause(world: &World, standby: &Standby<'_>) -> bool {
        let host = &world.hosts[standby.host];
        let geometry = &host.plan.settings.geometry;
        let asked = match standby.witness.refusal() {
            Some(Refusal::SegmentRemoved(segment)) => *segment,
            Some(_) | None => geometry.segment_of(standby.from),
        };
        let missing = world
            .referee
            .known()
            .first_unreadable(&host.disk, standby.from);
        let old_bytes = world.begins_a_record_there(standby);
        world.causes.was_removed(standby.upstream, asked)
            && may_ask_for(geometry, standby.from, missing, old_bytes).contains(&Some(asked))
    }
}

/// The segments that a standby is entitled to request. The standby has applied all WAL up to
/// `from`, and lacks WAL from `missing` on.
///
/// - If a segment is missing completely, the standby may request this segment.
/// - Otherwise the standby reads the next record again from its beginning, and may request the
///   segment in which the record begins (docs/hazards/record-begins-before-the-slot.md).
/// - If the header of the record spans two segments, and `old_bytes` look like the first half of
///   the header, the startup process continues with the second segment. The standby may then also
///   request the second segment.
fn may_ask_for(
    geometry: &Geometry,
    from: Lsn,
    missing: Lsn,
    old_bytes: bool,
) -> [Option<SegmentNo>; 2] {
    let within = u64::from(geometry.segment_offset(missing));
    if missing > from && within < LongPageHeader::LEN as u64 {
        return [Some(geometry.segment_of(missing)), None];
    }
    let first = geometry.segment_of(from);
    let rest = (geometry.segment - geometry.segment_offset(from)) as usize;
    let is_split = rest < RecordHeader::LEN && (old_bytes || missing > from);
    [Some(first), is_split.then_some(SegmentNo(first.0 + 1))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_a_record_or_for_a_segment_that_has_not_begun() {
        let geometry = Geometry {
            wal_page: 256,
            segment: 1024,
            data_page: 512,
            sector: 64,
        };
        for (from, missing, old_bytes, segments) in [
            // The rest of the record is in the same segment, or in the next segment. The standby
            // has no byte of the next segment.
            (1500, 1500, false, [Some(1), None]),
            (1500, 1700, false, [Some(1), None]),
            (1500, 2048, false, [Some(2), None]),
            (1500, 2080, false, [Some(2), None]),
            // The standby has the page header of the next segment, so it reads the whole record
            // again.
            (1500, 2088, false, [Some(1), None]),
            (1500, 2500, false, [Some(1), None]),
            (1500, 3072, false, [Some(3), None]),
            // The header of the record spans two segments.
            (2040, 2040, false, [Some(1), None]),
            (2040, 2040, true, [Some(1), Some(2)]),
            (2040, 2048, false, [Some(2), None]),
            (2016, 2016, true, [Some(1), None]),
        ] {
            let found = may_ask_for(&geometry, Lsn(from), Lsn(missing), old_bytes);
            let found = found.map(|segment| segment.map(|segment| segment.0));
            assert_eq!(found, segments, "{from} {missing} {old_bytes}");
        }
    }
}
