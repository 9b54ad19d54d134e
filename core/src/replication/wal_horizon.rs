//! Which WAL to keep, and how many segments to recycle. Mirrors KeepLogSeg, XLOGfileslop and
//! UpdateCheckPointDistanceEstimate.

use crate::base::{Lsn, SegmentNo, Settings};

/// `KeepLogSeg`: the oldest segment to keep. It is never later than the segment of `redo`.
///
/// `end` is the end of WAL. The sizes to keep are measured back from `end`. `slots` is the oldest
/// LSN that slots require. It is invalid if no slot requires WAL. Sizes are rounded down to whole
/// segments, so a size below one segment counts as 0.
#[must_use]
pub fn keep_log_seg(settings: &Settings, redo: Lsn, end: Lsn, slots: Lsn) -> SegmentNo {
    let geometry = &settings.geometry;
    let segments = |bytes: u64| bytes / u64::from(geometry.segment);
    let current = geometry.segment_of(end).0;
    let mut keep = current;
    if slots.is_valid() && slots < end {
        keep = geometry.segment_of(slots).0;
        if let Some(limit) = settings.max_slot_wal_keep_size {
            keep = keep.max(current.saturating_sub(segments(limit)));
        }
    }
    if settings.wal_keep_size > 0 {
        let wanted = segments(settings.wal_keep_size);
        if current - keep < wanted {
            keep = current.saturating_sub(wanted).max(1);
        }
    }
    assert!(
        keep <= current,
        "segment {keep} is after the end of WAL at {end}"
    );
    SegmentNo(keep).min(geometry.segment_of(redo))
}

/// `XLOGfileslop`: the highest segment number that a recycled file may get. The files up to this
/// segment can hold the WAL of about one checkpoint cycle.
#[must_use]
pub fn xlog_file_slop(settings: &Settings, redo: Lsn, distance: u64) -> SegmentNo {
    let segment = u64::from(settings.geometry.segment);
    let from = redo.0 / segment;
    let least = (from + settings.min_wal_size / segment).saturating_sub(1);
    let most = (from + settings.max_wal_size / segment).saturating_sub(1);
    // 1.1 * (1 + checkpoint_completion_target) * distance, in ten-thousandths of a byte. With this
    // unit only the end result is rounded.
    let ahead = u128::from(distance)
        * u128::from(1000 + settings.checkpoint_completion_target.thousandths())
        * 11;
    let upto = (u128::from(redo.0) * 10_000 + ahead).div_ceil(u128::from(segment) * 10_000);
    let upto = u64::try_from(upto).unwrap_or(u64::MAX);
    // If the lower limit is above the upper limit, the upper limit is used.
    SegmentNo(upto.max(least).min(most))
}

/// `UpdateCheckPointDistanceEstimate`: the new estimate after a checkpoint cycle that wrote `bytes`
/// of WAL. The estimate rises at once and falls slowly.
#[must_use]
pub fn distance_estimate(estimate: u64, bytes: u64) -> u64 {
    if estimate < bytes {
        bytes
    } else {
        let sum = u128::from(estimate) * 9 + u128::from(bytes);
        let estimate = u64::try_from(sum / 10).expect("no more than the larger of the two");
        assert!(
            bytes <= estimate,
            "the estimate is never below the last cycle"
        );
        estimate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Geometry, PgVersion, Real};

    const SEGMENT: u64 = 1024;

    fn settings() -> Settings {
        let geometry = Geometry::SMALLEST;
        Settings::new(PgVersion::V15, geometry)
    }

    fn at(segment: u64) -> Lsn {
        Lsn(segment * SEGMENT + 40)
    }

    #[test]
    fn the_horizon_is_the_oldest_required_segment() {
        let none = Lsn::INVALID;
        let limit = |segments: u64| Some(segments * SEGMENT);
        for (keep_size, limit, slots, expected, why) in [
            (0, None, none, 18, "redo alone"),
            (0, None, at(5), 5, "a slot"),
            (0, None, at(19), 18, "a slot behind redo"),
            (0, None, at(30), 18, "a slot that is ahead of us"),
            (0, limit(4), at(5), 16, "a slot beyond its limit"),
            (0, limit(15), at(5), 5, "a slot at its limit"),
            (0, limit(14), at(5), 6, "a slot one segment beyond"),
            (
                0,
                Some(SEGMENT - 1),
                at(5),
                18,
                "less than a segment is nothing",
            ),
            (8 * SEGMENT, None, none, 12, "wal_keep_size"),
            (8 * SEGMENT + 1023, None, none, 12, "rounded down"),
            (
                SEGMENT - 1,
                None,
                none,
                18,
                "less than a segment is nothing",
            ),
            (
                SEGMENT,
                None,
                none,
                18,
                "redo holds more than wal_keep_size",
            ),
            (
                8 * SEGMENT,
                limit(4),
                at(5),
                12,
                "wal_keep_size has no limit",
            ),
            (8 * SEGMENT, None, at(5), 5, "the slot holds more"),
            (20 * SEGMENT, None, none, 1, "more than there is"),
            (99 * SEGMENT, None, none, 1, "much more than there is"),
        ] {
            let mut settings = settings();
            settings.wal_keep_size = keep_size;
            settings.max_slot_wal_keep_size = limit;
            let keep = keep_log_seg(&settings, at(18), at(20), slots);
            assert_eq!(keep, SegmentNo(expected), "{why}");
        }
    }

    #[test]
    fn recycled_segments_are_between_two_limits() {
        for (distance, target, expected, why) in [
            (0, 0, 14, "min_wal_size"),
            (6 * SEGMENT, 0, 17, "10 + 6 * 1.1, rounded up"),
            (6 * SEGMENT, 500, 20, "10 + 6 * 1.1 * 1.5, rounded up"),
            (1000 * SEGMENT, 900, 29, "max_wal_size"),
            (u64::MAX, 1000, 29, "no overflow"),
        ] {
            let mut settings = settings();
            settings.checkpoint_completion_target = Real::from_thousandths(target);
            settings.min_wal_size = 5 * SEGMENT;
            settings.max_wal_size = 20 * SEGMENT;
            let slop = xlog_file_slop(&settings, Lsn(10 * SEGMENT), distance);
            assert_eq!(slop, SegmentNo(expected), "{why}");
        }
        let mut least = settings();
        (least.min_wal_size, least.max_wal_size) = (0, 2 * SEGMENT);
        assert_eq!(xlog_file_slop(&least, Lsn(0), 0), SegmentNo(0));
    }

    #[test]
    fn the_estimate_rises_at_once_and_falls_slowly() {
        assert_eq!(distance_estimate(0, 500), 500);
        assert_eq!(distance_estimate(500, 500), 500);
        assert_eq!(distance_estimate(500, 100), 460);
        assert_eq!(distance_estimate(u64::MAX, 0), u64::MAX / 10 * 9 + 4);
    }
}
