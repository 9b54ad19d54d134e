//! WAL records: header, block references, images, main data. Mirrors xlogrecord.h, DecodeXLogRecord
//! of xlogreader.c and XLogRecordAssemble of xloginsert.c.
//!
//! A record is decoded only if its checksum is valid. Its content is nevertheless checked, more
//! strictly than in PostgreSQL. PostgreSQL does not check, for example, for sums that wrap around
//! or for holes that exceed the page. Here each of these is a [`RecordError`].

mod assemble;
mod block;
mod decode;
mod decompress;
mod image;
mod names;
mod rmgr;
#[cfg(test)]
mod tests;
mod view;

pub use assemble::{AssembledRecord, BlockPart, RecordBody};
pub use block::{BlockHeader, ImageHeader, RelLocator};
pub use decode::{BlockRef, Record, RecordError};
pub use image::{APPLY, COMPRESS_LZ4, COMPRESS_PGLZ, COMPRESS_ZSTD, HAS_HOLE, Image, ImageError};
pub use rmgr::RmgrId;
pub use view::{BlockView, Blocks, RecordParts, RecordView};

use super::layout::{Pad, layout};
use crate::base::{Lsn, Xid};

/// The bits of `xl_info` that the resource manager defines (`XLR_RMGR_INFO_MASK`).
pub const RMGR_INFO_MASK: u8 = 0xF0;
/// The record changes files that its block references do not name (`XLR_SPECIAL_REL_UPDATE`).
pub const SPECIAL_REL_UPDATE: u8 = 0x01;
/// The images are for a consistency check (`XLR_CHECK_CONSISTENCY`).
pub const CHECK_CONSISTENCY: u8 = 0x02;

/// The largest block id (`XLR_MAX_BLOCK_ID`).
pub const MAX_BLOCK_ID: u8 = 32;
/// The block id that stands for main data with a one-byte length (`XLR_BLOCK_ID_DATA_SHORT`).
const ID_DATA_SHORT: u8 = 255;
/// The block id that stands for main data with a four-byte length (`XLR_BLOCK_ID_DATA_LONG`).
const ID_DATA_LONG: u8 = 254;
/// The block id that stands for the replication origin (`XLR_BLOCK_ID_ORIGIN`).
const ID_ORIGIN: u8 = 253;
/// The block id that stands for the top-level transaction id (`XLR_BLOCK_ID_TOPLEVEL_XID`).
const ID_TOP_XID: u8 = 252;

/// The largest record that can be written (`XLogRecordMaxSize`).
pub const MAX_LEN: u32 = 1020 << 20;

layout! {
    /// The header of every record (`XLogRecord`). A record starts at a multiple of 8. The parts
    /// after the header are not aligned.
    pub struct RecordHeader: Disk {
        /// Length of the record, without the padding after it.
        pub tot_len: u32,
        /// The transaction, or [`Xid::INVALID`].
        pub xid: Xid,
        /// Start of the previous record.
        pub prev: Lsn,
        /// The high nibble is defined by the resource manager. The low nibble has flags that all
        /// resource managers share.
        pub info: u8,
        /// The resource manager.
        pub rmid: RmgrId,
        /// Padding. It is always zero, and the checksum covers it.
        pub pad: Pad<2>,
        /// CRC-32C. It covers the part after the header first, then the header up to this field.
        pub crc: u32,
    }
}

impl RecordHeader {
    /// The resource manager's part of `info`.
    #[must_use]
    pub const fn rmgr_info(&self) -> u8 {
        self.info & RMGR_INFO_MASK
    }

    /// Is it an XLOG_SWITCH record? The rest of the segment after such a record is unused.
    #[must_use]
    pub const fn is_switch(&self) -> bool {
        self.rmid.0 == RmgrId::XLOG.0 && self.rmgr_info() == 0x40
    }
}

/// Offset of `xl_crc`.
const CRC_AT: usize = 20;

/// Computes the checksum of a record (`ValidXLogRecord`). `record` is the whole record with its
/// header.
///
/// # Panics
/// If the slice is shorter than a header.
#[must_use]
pub fn checksum(record: &[u8]) -> u32 {
    let (header, body) = record.split_at(RecordHeader::LEN);
    crc32c::crc32c_append(crc32c::crc32c(body), &header[..CRC_AT])
}
