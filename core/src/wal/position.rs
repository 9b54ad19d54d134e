//! Converts between LSNs and byte positions. Mirrors xlog.c (XLogBytePosToRecPtr,
//! XLogBytePosToEndRecPtr, XLogRecPtrToBytePos).
//!
//! A *byte position* counts only the bytes that records can use, without page headers. WAL space is
//! reserved in byte positions. At a page boundary one byte position corresponds to two LSNs. As the
//! end of a record, it is the page boundary. As the start of the next record, it is the LSN after
//! the page header. Positions can come from damaged files, so results saturate at the largest LSN.

use crate::base::{Geometry, Lsn};

/// Bytes of a short page header.
const SHORT_HEADER: u64 = 24;
/// Bytes of a long page header.
const LONG_HEADER: u64 = 40;

/// The usable bytes of a page with a short header.
const fn in_page(geometry: &Geometry) -> u64 {
    geometry.wal_page as u64 - SHORT_HEADER
}

/// Usable bytes of a segment (`UsableBytesInSegment`).
#[must_use]
pub const fn usable_in_segment(geometry: &Geometry) -> u64 {
    let pages = (geometry.segment / geometry.wal_page) as u64;
    pages * in_page(geometry) - (LONG_HEADER - SHORT_HEADER)
}

/// The LSN at which a record starts (`XLogBytePosToRecPtr`). At a page boundary it is the LSN after
/// the page header.
#[must_use]
pub const fn bytepos_to_start(geometry: &Geometry, bytepos: u64) -> Lsn {
    let end = bytepos_to_end(geometry, bytepos);
    skip_header(geometry, end)
}

/// The LSN at which a record ends (`XLogBytePosToEndRecPtr`). At a page boundary it is the boundary
/// itself.
#[must_use]
pub const fn bytepos_to_end(geometry: &Geometry, bytepos: u64) -> Lsn {
    let usable = usable_in_segment(geometry);
    let (segments, left) = (bytepos / usable, bytepos % usable);
    let first = geometry.wal_page as u64 - LONG_HEADER;
    let offset = if left == 0 {
        0
    } else if left < first {
        LONG_HEADER + left
    } else {
        let (pages, left) = (
            (left - first) / in_page(geometry),
            (left - first) % in_page(geometry),
        );
        let start = (1 + pages) * geometry.wal_page as u64;
        if left == 0 {
            start
        } else {
            start + SHORT_HEADER + left
        }
    };
    Lsn((segments.saturating_mul(geometry.segment as u64)).saturating_add(offset))
}

/// The byte position of an LSN (`XLogRecPtrToBytePos`). An LSN inside a page header counts as the
/// LSN after that header.
#[must_use]
pub const fn lsn_to_bytepos(geometry: &Geometry, lsn: Lsn) -> u64 {
    let segments = lsn.0 / geometry.segment as u64;
    let page = geometry.segment_offset(lsn) / geometry.wal_page;
    let offset = geometry.page_offset(lsn) as u64;
    let (before, header) = if page == 0 {
        (0, LONG_HEADER)
    } else {
        let long = geometry.wal_page as u64 - LONG_HEADER;
        (long + (page as u64 - 1) * in_page(geometry), SHORT_HEADER)
    };
    segments * usable_in_segment(geometry) + before + offset.saturating_sub(header)
}

/// The LSN after the page header if `lsn` is a page boundary. Otherwise `lsn`.
#[must_use]
pub const fn skip_header(geometry: &Geometry, lsn: Lsn) -> Lsn {
    if geometry.page_offset(lsn) == 0 {
        Lsn(lsn.0.saturating_add(geometry.page_header(lsn) as u64))
    } else {
        lsn
    }
}

/// The end of a record of `len` bytes that starts at `start`. The length is rounded up to a
/// multiple of 8.
#[must_use]
pub const fn record_end(geometry: &Geometry, start: Lsn, len: u32) -> Lsn {
    let bytes = (len as u64 + 7) & !7;
    let bytepos = lsn_to_bytepos(geometry, start).saturating_add(bytes);
    bytepos_to_end(geometry, bytepos)
}

/// The end of the segment. WAL continues there after a switch record that ends at `end`.
#[must_use]
pub const fn switch_end(geometry: &Geometry, end: Lsn) -> Lsn {
    let segment = geometry.segment as u64;
    Lsn(end.0.div_ceil(segment).saturating_mul(segment))
}

/// The result of pg_switch_wal() for a switch record at `start`: the end of the record. If the
/// record reaches the end of its page, the result is the LSN after the next page header, as in
/// XLogInsertRecord.
#[must_use]
pub const fn switch_returns(geometry: &Geometry, start: Lsn) -> Lsn {
    let end = Lsn(start.0.saturating_add(24));
    let page = geometry.page_start(end);
    if geometry.page_start(start).0 == page.0 {
        end
    } else {
        Lsn(end.0.saturating_add(geometry.page_header(page) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEG16: Geometry = Geometry {
        segment: 16 << 20,
        ..Geometry::STOCK
    };

    /// The expected numbers are those of a real server with 16 MiB segments.
    #[test]
    fn a_segment_of_usable_bytes() {
        assert_eq!(usable_in_segment(&SEG16), 16_728_048);
        assert_eq!(bytepos_to_start(&SEG16, 16_728_048), Lsn(0x100_0028));
        assert_eq!(bytepos_to_end(&SEG16, 16_728_048), Lsn(0x100_0000));
        assert_eq!(lsn_to_bytepos(&SEG16, Lsn(0x100_0028)), 16_728_048);
        assert_eq!(lsn_to_bytepos(&SEG16, Lsn(0x100_0000)), 16_728_048);
    }

    /// The lengths of records of a real server, and where the next record started.
    #[test]
    fn ends_of_real_records() {
        for (start, len, end) in [
            (0x300_0028, 30, 0x300_0048),
            (0x304_1CB8, 114, 0x304_1D30),
            (0x401_9FF0, 42, 0x401_A038),
            (0x304_1D98, 24, 0x304_1DB0),
        ] {
            assert_eq!(record_end(&SEG16, Lsn(start), len), Lsn(end));
        }
    }

    /// Switches on real servers: the LSN that pg_switch_wal() returned, and the end of the segment.
    #[test]
    fn switches_of_real_servers() {
        for (geometry, start, returned, next) in [
            (SEG16, 0x304_1D98, 0x304_1DB0, 0x400_0000),
            (Geometry::STOCK, 0x63_4F10, 0x63_4F28, 0x70_0000),
            (Geometry::STOCK, 0x8F_FFF0, 0x90_0030, 0xA0_0000),
            (Geometry::STOCK, 0xA0_5FE8, 0xA0_6018, 0xB0_0000),
            (Geometry::STOCK, 0x8F_FFE8, 0x90_0028, 0x90_0000),
        ] {
            assert_eq!(switch_returns(&geometry, Lsn(start)), Lsn(returned));
            let end = record_end(&geometry, Lsn(start), 24);
            assert_eq!(switch_end(&geometry, end), Lsn(next), "{start:X}");
        }
    }

    /// A file name or a control file can contain a position larger than any server has written.
    /// Conversions of such a position saturate at the largest LSN.
    #[test]
    fn positions_saturate_at_the_largest_lsn() {
        let last = Lsn::MAX;
        for geometry in [SEG16, Geometry::SMALLEST, Geometry::STOCK] {
            let start = geometry.segment_start(geometry.segment_of(last));
            assert_eq!(geometry.segment_of(start), geometry.segment_of(last));
            assert_eq!(
                geometry.segment_start(crate::base::SegmentNo(u64::MAX)),
                last
            );
            assert_eq!(geometry.segment_before(Lsn::INVALID).0, 0);
            assert_eq!(switch_end(&geometry, Lsn(start.0 + 1)), last);
            assert!(record_end(&geometry, start, u32::MAX) >= start);
            assert!(skip_header(&geometry, last) == last);
            assert!(switch_returns(&geometry, Lsn(last.0 - 7)) >= start);
            assert_eq!(last.align8(), Lsn(last.0 - 7));
        }
    }

    proptest! {
        #![proptest_config(crate::base::testing::cases(256))]

        #[test]
        fn byte_positions_round_trip(bytepos in 0u64..100_000, tiny: bool) {
            let geometry = if tiny { Geometry::SMALLEST } else { Geometry::STOCK };
            let (start, end) = (bytepos_to_start(&geometry, bytepos), bytepos_to_end(&geometry, bytepos));
            prop_assert_eq!(lsn_to_bytepos(&geometry, start), bytepos);
            prop_assert_eq!(lsn_to_bytepos(&geometry, end), bytepos);
            prop_assert!(start == end || start == skip_header(&geometry, end));
        }
    }
}
