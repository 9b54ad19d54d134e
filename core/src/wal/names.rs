//! Names of the files in pg_wal. Mirrors xlog_internal.h (XLogFileName, XLogFromFileName,
//! TLHistoryFileName, and others).

use crate::base::{Geometry, Lsn, SegmentNo, TimelineId};
use alloc::format;
use alloc::string::String;

/// The number of digits in the name of a segment (`XLOG_FNAME_LEN`).
const DIGITS: usize = 24;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// A file in pg_wal, as its name describes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum WalFile {
    /// A segment: `000000010000000000000003`.
    Segment(TimelineId, SegmentNo),
    /// The incomplete last segment of a timeline that has ended: `….partial`.
    Partial(TimelineId, SegmentNo),
    /// A timeline's history: `00000002.history`.
    History(TimelineId),
    /// The backup history file of a base backup, `….00000028.backup`. The number is the offset in
    /// the segment at which the backup started.
    Backup(TimelineId, SegmentNo, u32),
}

/// `XLogFileName`
#[must_use]
pub fn segment_name(geometry: &Geometry, tli: TimelineId, segment: SegmentNo) -> String {
    named("", geometry, tli, segment)
}

/// `XLogFilePath`: the path of a segment, relative to the data directory.
#[must_use]
pub fn segment_path(geometry: &Geometry, tli: TimelineId, segment: SegmentNo) -> String {
    named("pg_wal/", geometry, tli, segment)
}

/// The name is written digit by digit. A run makes tens of thousands of names, and `format!` is
/// about ten times slower.
fn named(dir: &str, geometry: &Geometry, tli: TimelineId, segment: SegmentNo) -> String {
    let per_id = segments_per_id(geometry);
    let mut name = String::with_capacity(dir.len() + DIGITS);
    name.push_str(dir);
    for number in [u64::from(tli.0), segment.0 / per_id, segment.0 % per_id] {
        let digit = |place: u32| (number >> (4 * place) & 15) as u8;
        name.extend(
            (0..8)
                .rev()
                .map(|place| char::from(HEX[usize::from(digit(place))])),
        );
    }
    name
}

/// `XLogFromFileName`. Returns `None` for a name that [`segment_name`] does not produce.
#[must_use]
pub fn parse_segment_name(geometry: &Geometry, name: &str) -> Option<(TimelineId, SegmentNo)> {
    if name.len() != DIGITS {
        return None;
    }
    let field = |at: usize| hex8(name.get(at..at + 8)?);
    let (tli, high, low) = (field(0)?, u64::from(field(8)?), u64::from(field(16)?));
    let per_id = segments_per_id(geometry);
    (low < per_id).then_some((TimelineId(tli), SegmentNo(high * per_id + low)))
}

/// `TLHistoryFileName`
#[must_use]
pub fn history_name(tli: TimelineId) -> String {
    format!("{:08X}.history", tli.0)
}

impl WalFile {
    /// The name.
    #[must_use]
    pub fn name(self, geometry: &Geometry) -> String {
        match self {
            Self::Segment(tli, segment) => segment_name(geometry, tli, segment),
            Self::Partial(tli, segment) => {
                format!("{}.partial", segment_name(geometry, tli, segment))
            }
            Self::History(tli) => history_name(tli),
            Self::Backup(tli, segment, offset) => {
                format!(
                    "{}.{offset:08X}.backup",
                    segment_name(geometry, tli, segment)
                )
            }
        }
    }

    /// The file with this name. Returns `None` for a name that [`WalFile::name`] does not produce.
    #[must_use]
    pub fn parse(geometry: &Geometry, name: &str) -> Option<Self> {
        let Some((stem, suffix)) = name.split_once('.') else {
            let (tli, segment) = parse_segment_name(geometry, name)?;
            return Some(Self::Segment(tli, segment));
        };
        if suffix == "history" {
            return Some(Self::History(TimelineId(hex8(stem)?)));
        }
        let (tli, segment) = parse_segment_name(geometry, stem)?;
        if suffix == "partial" {
            return Some(Self::Partial(tli, segment));
        }
        let offset = hex8(suffix.strip_suffix(".backup")?)?;
        Some(Self::Backup(tli, segment, offset))
    }
}

/// The name of the backup history file for a base backup that started at `start`.
#[must_use]
pub fn backup_file(geometry: &Geometry, tli: TimelineId, start: Lsn) -> WalFile {
    let segment = geometry.segment_of(start);
    WalFile::Backup(tli, segment, geometry.segment_offset(start))
}

/// `XLogSegmentsPerXLogId`
const fn segments_per_id(geometry: &Geometry) -> u64 {
    (1 << 32) / geometry.segment as u64
}

/// Parses exactly eight hexadecimal digits in upper case.
fn hex8(digits: &str) -> Option<u32> {
    let plain = digits
        .bytes()
        .all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    if plain && digits.len() == 8 {
        u32::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let (tli, segment) = (TimelineId(0x1A), SegmentNo(0x12345));
        for (geometry, name) in [
            (Geometry::STOCK, "0000001A0000001200000345"),
            (Geometry::SMALLEST, "0000001A0000000000012345"),
        ] {
            for (file, suffix) in [
                (WalFile::Segment(tli, segment), ""),
                (WalFile::Partial(tli, segment), ".partial"),
                (WalFile::Backup(tli, segment, 0x28), ".00000028.backup"),
            ] {
                let name = format!("{name}{suffix}");
                assert_eq!(file.name(&geometry), name);
                assert_eq!(WalFile::parse(&geometry, &name), Some(file));
            }
        }
        let history = WalFile::History(tli);
        assert_eq!(history.name(&Geometry::SMALLEST), "0000001A.history");
        assert_eq!(
            WalFile::parse(&Geometry::SMALLEST, "0000001A.history"),
            Some(history)
        );
    }

    /// The last segment that a name can express.
    #[test]
    fn the_last_name() {
        let name = "FFFFFFFFFFFFFFFF00000FFF";
        let (tli, segment) = parse_segment_name(&Geometry::STOCK, name).expect("it is one");
        assert_eq!(segment, Geometry::STOCK.segment_of(Lsn::MAX));
        assert_eq!(segment_name(&Geometry::STOCK, tli, segment), name);
    }

    #[test]
    fn other_names_are_refused() {
        for name in [
            "",
            "00000001000000000000001",
            "0000000100000000000000010",
            "00000001000000000000001a",
            "000000010000000000001000",
            "000000010000000000000001.part",
            "000000010000000000000001.28.backup",
            "1.history",
            "0000001a.history",
            "archive_status",
            "0000000é0000000000000001",
        ] {
            assert_eq!(WalFile::parse(&Geometry::STOCK, name), None, "{name}");
        }
    }
}
