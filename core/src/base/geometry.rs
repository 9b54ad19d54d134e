//! The sizes that PostgreSQL fixes at build time or at initdb time. In walsim they are run-time
//! values.

use super::{Lsn, SegmentNo};

/// The sizes of a WAL page, a WAL segment, a data page and a sector, in bytes. Each is a power of
/// two.
///
/// The stock geometry is byte-compatible with ordinary builds. With a tiny geometry, records cross
/// pages and segments often.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Geometry {
    /// `XLOG_BLCKSZ`, 256 to 8192.
    pub wal_page: u32,
    /// `wal_segment_size`, at least four WAL pages, at most 1 GiB.
    pub segment: u32,
    /// `BLCKSZ`, 512 to 8192.
    pub data_page: u32,
    /// The size of an atomic disk write, from 64 to 512 bytes.
    pub sector: u32,
}

/// A size that is out of range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field} is {value}: expected a power of two from {least} to {most}")]
pub struct GeometryError {
    /// The name of the size, such as `wal_page`.
    pub field: &'static str,
    /// The given value.
    pub value: u32,
    /// The smallest accepted value.
    pub least: u32,
    /// The largest accepted value.
    pub most: u32,
}

impl Geometry {
    /// An ordinary build with 1 MiB segments.
    pub const STOCK: Self = Self {
        wal_page: 8192,
        segment: 1 << 20,
        data_page: 8192,
        sector: 512,
    };

    /// The smallest value of each size, and the fewest pages per segment. Many records cross pages,
    /// and some cross segments.
    pub const SMALLEST: Self = Self {
        wal_page: 256,
        segment: 1024,
        data_page: 512,
        sector: 64,
    };

    /// Small segments that still hold several commits.
    pub const SMALL: Self = Self {
        wal_page: 512,
        segment: 4096,
        data_page: 512,
        sector: 64,
    };

    /// The geometry `tiny` of plan files. Records often cross pages and segments, but a data page
    /// still holds several rows.
    pub const TINY: Self = Self {
        wal_page: 512,
        segment: 8192,
        data_page: 1024,
        sector: 64,
    };

    /// Checks all four sizes.
    ///
    /// # Errors
    /// The first size that is not a power of two or is out of range.
    pub const fn new(
        wal_page: u32,
        segment: u32,
        data_page: u32,
        sector: u32,
    ) -> Result<Self, GeometryError> {
        const fn size(
            field: &'static str,
            value: u32,
            least: u32,
            most: u32,
        ) -> Result<(), GeometryError> {
            if value.is_power_of_two() && least <= value && value <= most {
                Ok(())
            } else {
                Err(GeometryError {
                    field,
                    value,
                    least,
                    most,
                })
            }
        }
        if let Err(e) = size("wal_page", wal_page, 256, 8192) {
            return Err(e);
        }
        if let Err(e) = size("segment", segment, 4 * wal_page, 1 << 30) {
            return Err(e);
        }
        if let Err(e) = size("data_page", data_page, 512, 8192) {
            return Err(e);
        }
        if let Err(e) = size("sector", sector, 64, 512) {
            return Err(e);
        }
        Ok(Self {
            wal_page,
            segment,
            data_page,
            sector,
        })
    }

    /// Start of the WAL page that holds `lsn`.
    #[must_use]
    pub const fn page_start(&self, lsn: Lsn) -> Lsn {
        Lsn(lsn.0 & !(self.wal_page as u64 - 1))
    }

    /// Offset of `lsn` in its WAL page.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
    pub const fn page_offset(&self, lsn: Lsn) -> u32 {
        lsn.0 as u32 & (self.wal_page - 1)
    }

    /// The segment that contains the byte at `lsn` (`XLByteToSeg`).
    #[must_use]
    pub const fn segment_of(&self, lsn: Lsn) -> SegmentNo {
        SegmentNo(lsn.0 / self.segment as u64)
    }

    /// The segment that contains the byte before `end` (`XLByteToPrevSeg`). If `end` is a segment
    /// boundary, this is the segment that ends there.
    #[must_use]
    pub const fn segment_before(&self, end: Lsn) -> SegmentNo {
        SegmentNo(end.0.saturating_sub(1) / self.segment as u64)
    }

    /// The position of the first byte of `segment`, limited to the largest LSN.
    #[must_use]
    pub const fn segment_start(&self, segment: SegmentNo) -> Lsn {
        Lsn(segment.0.saturating_mul(self.segment as u64))
    }

    /// Offset of `lsn` in its segment.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
    pub const fn segment_offset(&self, lsn: Lsn) -> u32 {
        lsn.0 as u32 & (self.segment - 1)
    }

    /// The size of the header of the page that starts at `page`. The first page of a segment has a
    /// long header.
    #[must_use]
    pub const fn page_header(&self, page: Lsn) -> u32 {
        if self.segment_offset(page) == 0 {
            40
        } else {
            24
        }
    }

    /// The largest payload of a CopyData message that a walsender sends (`MAX_SEND_SIZE`).
    #[must_use]
    pub const fn max_send(&self) -> u32 {
        16 * self.wal_page
    }
}
