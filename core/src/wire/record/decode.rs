//! Decodes a record into parts that own their data. Mirrors DecodedXLogRecord.

use super::RecordHeader;
use super::block::RelLocator;
use super::image::Image;
use super::view::RecordParts;
use crate::base::{Lsn, Xid};
use crate::wire::layout::Short;
use alloc::vec::Vec;
use bytes::Bytes;

/// An error in the structure of a record whose checksum is valid. The texts are PostgreSQL's. The
/// WAL reader appends ` at X/X`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum RecordError {
    /// A header is truncated, or the lengths of the parts do not add up to the length of the
    /// record.
    #[error("record with invalid length")]
    InvalidLength,
    /// The block ids do not ascend.
    #[error("out-of-order block_id {0}")]
    OutOfOrder(u8),
    /// An invalid block id.
    #[error("invalid block_id {0}")]
    InvalidBlockId(u8),
    /// BKPBLOCK_HAS_DATA is set, but there is no data.
    #[error("BKPBLOCK_HAS_DATA set, but no data included")]
    DataMissing,
    /// There is data, but BKPBLOCK_HAS_DATA is not set.
    #[error("BKPBLOCK_HAS_DATA not set, but data length is {0}")]
    DataUnannounced(u16),
    /// BKPIMAGE_HAS_HOLE is set, but there is no hole.
    #[error(
        "BKPIMAGE_HAS_HOLE set, but hole offset {hole_offset} length {hole_length} block image length {len}"
    )]
    BadHole {
        /// Offset of the hole.
        hole_offset: u16,
        /// Length of the hole.
        hole_length: u16,
        /// Length of the image.
        len: u16,
    },
    /// There is a hole, but BKPIMAGE_HAS_HOLE is not set.
    #[error("BKPIMAGE_HAS_HOLE not set, but hole offset {hole_offset} length {hole_length}")]
    UnannouncedHole {
        /// Offset of the hole.
        hole_offset: u16,
        /// Length of the hole.
        hole_length: u16,
    },
    /// The compressed image is not smaller than a page.
    #[error("BKPIMAGE_COMPRESSED set, but block image length {0}")]
    CompressedToFull(u16),
    /// The image has neither a hole nor compression, but is not a whole page. As in PostgreSQL, the
    /// number is the length of the block data, not of the image.
    #[error("neither BKPIMAGE_HAS_HOLE nor BKPIMAGE_COMPRESSED set, but block image length is {0}")]
    ShortImage(u16),
    /// BKPBLOCK_SAME_REL is set in the first block.
    #[error("BKPBLOCK_SAME_REL set but no previous rel")]
    NoPreviousRel,
    /// The image is larger than a page. PostgreSQL has no such check.
    #[error("block image length {0} exceeds the page size")]
    ImageTooLong(u16),
    /// The hole exceeds the page. PostgreSQL has no such check.
    #[error("hole offset {hole_offset} length {hole_length} exceeds the page size")]
    HoleOutside {
        /// Offset of the hole.
        hole_offset: u16,
        /// Length of the hole.
        hole_length: u16,
    },
}

impl From<Short> for RecordError {
    fn from(_: Short) -> Self {
        Self::InvalidLength
    }
}

/// A block reference of a record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BlockRef {
    /// The block id, from 0 to 32. A record can skip ids.
    pub id: u8,
    /// The fork: 0 main, 1 fsm, 2 vm, 3 init.
    pub fork: u8,
    /// The relation.
    pub rel: RelLocator,
    /// The block number in the fork.
    pub block: u32,
    /// Whether redo initializes the page.
    pub will_init: bool,
    /// Is there block data?
    pub has_data: bool,
    /// The page after the change.
    pub image: Option<Image>,
    /// The block data.
    pub data: Bytes,
}

/// A decoded record (`DecodedXLogRecord`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Record {
    /// Start of the record.
    pub lsn: Lsn,
    /// The end of the record, rounded up to a multiple of 8. If the record fills its page, this is
    /// the page boundary. The changed pages get this position as their LSN.
    pub end: Lsn,
    /// The position at which the next record is expected (`EndRecPtr`). After a switch record it is
    /// the end of the segment. Otherwise it is the end of the record.
    pub next: Lsn,
    /// The header.
    pub header: RecordHeader,
    /// The block references, by ascending id.
    pub blocks: Vec<BlockRef>,
    /// The replication origin.
    pub origin: Option<u16>,
    /// The top-level transaction. Present in the first record of a subtransaction if wal_level is
    /// logical.
    pub top_xid: Option<Xid>,
    /// The main data.
    pub main: Bytes,
}

impl Record {
    /// Decodes a whole record with its header. `at` contains the start of the record, its end, and
    /// the position of the next record. `page_size` is the size of data pages.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn decode(bytes: &Bytes, at: [Lsn; 3], page_size: u32) -> Result<Self, RecordError> {
        let parts = RecordParts::decode(bytes, at, page_size)?;
        Ok(Self::from_parts(&parts, bytes))
    }

    /// Builds the record from `parts`, which were decoded from `bytes`.
    #[must_use]
    pub fn from_parts(parts: &RecordParts, bytes: &Bytes) -> Self {
        let view = parts.view(bytes);
        let blocks = view.blocks().map(|block| BlockRef {
            id: block.id,
            fork: block.header.fork,
            rel: block.header.rel,
            block: block.header.block,
            will_init: block.header.will_init,
            has_data: block.header.data_len > 0,
            image: block.header.image.map(|image| Image {
                hole_offset: image.hole_offset,
                hole_length: image.hole_length,
                info: image.info,
                bytes: bytes.slice_ref(block.image),
            }),
            data: bytes.slice_ref(block.data),
        });
        Self {
            lsn: parts.lsn,
            end: parts.end,
            next: parts.next,
            header: parts.header,
            blocks: blocks.collect(),
            origin: parts.origin,
            top_xid: parts.top_xid,
            main: bytes.slice_ref(view.main()),
        }
    }
}
