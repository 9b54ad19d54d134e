//! Headers of WAL pages. Mirrors xlog_internal.h (XLogPageHeaderData, XLogLongPageHeaderData).

use super::layout::{Pad, layout};
use crate::base::{Lsn, PgVersion, TimelineId};

/// The page starts inside a record (`XLP_FIRST_IS_CONTRECORD`).
pub const FIRST_IS_CONTRECORD: u16 = 0x0001;
/// The header is a [`LongPageHeader`] (`XLP_LONG_HEADER`).
pub const LONG_HEADER: u16 = 0x0002;
/// No base backup was running when the page was initialized (`XLP_BKP_REMOVABLE`). PostgreSQL's own
/// reader ignores this flag.
pub const BKP_REMOVABLE: u16 = 0x0004;
/// Before 19: the page replaces the continuation of an incomplete record
/// (`XLP_FIRST_IS_OVERWRITE_CONTRECORD`).
pub const FIRST_IS_OVERWRITE_CONTRECORD: u16 = 0x0008;
/// All valid flags (`XLP_ALL_FLAGS`). Since 19 they do not include [`BKP_REMOVABLE`].
#[must_use]
pub const fn all_flags(version: PgVersion) -> u16 {
    match version {
        PgVersion::V15 | PgVersion::V16 | PgVersion::V17 | PgVersion::V18 => 0x000F,
        PgVersion::V19 => 0x0007,
    }
}

/// The flag XLP_FIRST_IS_OVERWRITE_CONTRECORD. Since 19 it has the value that [`BKP_REMOVABLE`] has
/// before 19.
#[must_use]
pub const fn overwrite_contrecord(version: PgVersion) -> u16 {
    match version {
        PgVersion::V15 | PgVersion::V16 | PgVersion::V17 | PgVersion::V18 => {
            FIRST_IS_OVERWRITE_CONTRECORD
        }
        PgVersion::V19 => 0x0004,
    }
}

/// `XLOG_PAGE_MAGIC`
#[must_use]
pub const fn magic(version: PgVersion) -> u16 {
    match version {
        PgVersion::V15 => 0xD110,
        PgVersion::V16 => 0xD113,
        PgVersion::V17 => 0xD116,
        PgVersion::V18 => 0xD118,
        PgVersion::V19 => 0xD122,
    }
}

/// The version whose pages have this magic number.
#[must_use]
pub fn version(number: u16) -> Option<PgVersion> {
    let mut known = PgVersion::ALL.into_iter();
    known.find(|known| magic(*known) == number)
}

layout! {
    /// The header of every WAL page (`XLogPageHeaderData`).
    pub struct PageHeader: Disk {
        /// [`magic`]
        pub magic: u16,
        /// Flag bits.
        pub info: u16,
        /// The timeline that was current when the page was initialized. If the timeline switches in
        /// the middle of a page, this is still the old timeline.
        pub tli: TimelineId,
        /// The LSN of the page.
        pub pageaddr: Lsn,
        /// The remaining bytes of the record that continues on this page, including the bytes on
        /// this page. 0 if the page starts with a new record.
        pub rem_len: u32,
        /// Padding to a multiple of 8.
        pub pad: Pad<4>,
    }
}

layout! {
    /// The header of the first page of a segment (`XLogLongPageHeaderData`).
    pub struct LongPageHeader: Disk {
        /// The short header.
        pub std: PageHeader,
        /// The system identifier.
        pub sysid: u64,
        /// The segment size.
        pub seg_size: u32,
        /// The WAL page size.
        pub blcksz: u32,
    }
}

impl PageHeader {
    /// Is the flag set?
    #[must_use]
    pub const fn has(&self, flag: u16) -> bool {
        self.info & flag != 0
    }

    /// The size of the header according to the flag LONG_HEADER (`XLogPageHeaderSize`).
    #[must_use]
    pub const fn header_len(&self) -> u32 {
        if self.has(LONG_HEADER) { 40 } else { 24 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// The first 40 bytes of segment 3 of a real server with 16 MiB segments.
    #[test]
    fn long_header_of_a_real_segment() {
        let header = LongPageHeader {
            std: PageHeader {
                magic: magic(PgVersion::V15),
                info: LONG_HEADER | BKP_REMOVABLE,
                tli: TimelineId(1),
                pageaddr: Lsn(0x300_0000),
                rem_len: 0,
                pad: Pad,
            },
            sysid: 0x0102_0304_0506_0708,
            seg_size: 16 << 20,
            blcksz: 8192,
        };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        assert_eq!(
            bytes,
            b"\x10\xd1\x06\0\x01\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\
              \x08\x07\x06\x05\x04\x03\x02\x01\0\0\0\x01\0\x20\0\0"
        );
        assert_eq!(LongPageHeader::decode(&bytes), Ok(header));
        assert_eq!(PageHeader::decode(&bytes), Ok(header.std));
        assert_eq!(header.std.header_len() as usize, LongPageHeader::LEN);
    }

    /// PostgreSQL 19 uses the bit of BKP_REMOVABLE for another flag.
    #[test]
    fn flags_are_those_of_the_version() {
        for version in PgVersion::ALL {
            let all = all_flags(version);
            assert_eq!(overwrite_contrecord(version) & !all, 0, "{version:?}");
            let bits = if version < PgVersion::V19 { 4 } else { 3 };
            assert_eq!(all.count_ones(), bits, "{version:?}");
            assert_eq!(super::version(magic(version)), Some(version));
        }
        assert_eq!(overwrite_contrecord(PgVersion::V18), 0x0008);
        assert_eq!(overwrite_contrecord(PgVersion::V19), 0x0004);
    }

    #[test]
    fn lengths_are_those_of_c() {
        assert_eq!((PageHeader::LEN, LongPageHeader::LEN), (24, 40));
    }
}
