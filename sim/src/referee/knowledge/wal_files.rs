//! The WAL of a node on its disk.

use crate::disk::Disk;
use std::ops::Range;
use walsim_core::base::{Geometry, Lsn, SegmentNo, TimelineId};
use walsim_core::wal::names::segment_path;

/// The bytes of WAL that a process would read now. If a file is missing or too short, fewer bytes
/// than requested are returned.
pub(crate) fn read(
    disk: &Disk,
    geometry: &Geometry,
    tli: TimelineId,
    range: Range<Lsn>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let segment = geometry.segment_of(at);
        let end = range
            .end
            .min(geometry.segment_start(SegmentNo(segment.0 + 1)));
        let offset = u64::from(geometry.segment_offset(at));
        let Some(piece) = disk.read_cached(&segment_path(geometry, tli, segment), offset, end - at)
        else {
            break;
        };
        let whole = piece.len() as u64 == end - at;
        if bytes.is_empty() {
            bytes = piece;
        } else {
            bytes.extend_from_slice(&piece);
        }
        if !whole {
            break;
        }
        at = end;
    }
    bytes
}

/// The position in `range` up to which no crash can destroy WAL. Up to this position, both the
/// bytes and the files that contain them are durable.
pub(crate) fn stable_until(
    disk: &Disk,
    geometry: &Geometry,
    tli: TimelineId,
    range: Range<Lsn>,
) -> Lsn {
    let mut at = range.start;
    while at < range.end {
        let segment = geometry.segment_of(at);
        let start = geometry.segment_start(segment);
        let end = range
            .end
            .min(geometry.segment_start(SegmentNo(segment.0 + 1)));
        let offset = u64::from(geometry.segment_offset(at));
        let stable = start + disk.stable_until(&segment_path(geometry, tli, segment), offset);
        at = stable.min(end);
        if at < end {
            break;
        }
    }
    at
}
