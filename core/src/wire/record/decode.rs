//! A record as a value of its own, with its parts cut out. Mirrors DecodedXLogRecord.

use super::RecordHeader;
use super::block::RelLocator;
use super::image::Image;
use super::view::RecordParts;
use crate::base::{Lsn, Xid};
use crate::wire::layout::Short;
use alloc::vec::Vec;
use bytes::Bytes;

/// A record with a good checksum whose structure is wrong. PostgreSQL's text, up to the ` at X/X`
/// that the reader adds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum RecordError {
    /// A header is cut off, or the lengths do not add up to that of the record.
    #[error("record with invalid length")]
    InvalidLength,
    /// Ids must rise.
    #[error("out-of-order block_id {0}")]
    OutOfOrder(u8),
    /// No such id.
    #[error("invalid block_id {0}")]
    InvalidBlockId(u8),
    /// The flag without data.
    #[error("BKPBLOCK_HAS_DATA set, but no data included")]
    DataMissing,
    /// Data without the flag.
    #[error("BKPBLOCK_HAS_DATA not set, but data length is {0}")]
    DataUnannounced(u16),
    /// The flag without a hole.
    #[error(
        "BKPIMAGE_HAS_HOLE set, but hole offset {hole_offset} length {hole_length} block image length {len}"
    )]
    BadHole {
        /// Where it starts.
        hole_offset: u16,
        /// Its length.
        hole_length: u16,
        /// Of the image.
        len: u16,
    },
    /// A hole without the flag.
    #[error("BKPIMAGE_HAS_HOLE not set, but hole offset {hole_offset} length {hole_length}")]
    UnannouncedHole {
        /// Where it starts.
        hole_offset: u16,
        /// Its length.
        hole_length: u16,
    },
    /// Compression saved nothing, so it should not have been kept.
    #[error("BKPIMAGE_COMPRESSED set, but block image length {0}")]
    CompressedToFull(u16),
    /// Neither flag, so the image must be a page. As in PostgreSQL the number is the length of the
    /// block *data*.
    #[error("neither BKPIMAGE_HAS_HOLE nor BKPIMAGE_COMPRESSED set, but block image length is {0}")]
    ShortImage(u16),
    /// "The same relation" of nothing.
    #[error("BKPBLOCK_SAME_REL set but no previous rel")]
    NoPreviousRel,
    /// Longer than a page. PostgreSQL does not check this.
    #[error("block image length {0} exceeds the page size")]
    ImageTooLong(u16),
    /// The hole ends after the page. PostgreSQL does not check this.
    #[error("hole offset {hole_offset} length {hole_length} exceeds the page size")]
    HoleOutside {
        /// Where it starts.
        hole_offset: u16,
        /// Its length.
        hole_length: u16,
    },
}

impl From<Short> for RecordError {
    fn from(_: Short) -> Self {
        Self::InvalidLength
    }
}

/// One block that a record refers to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BlockRef {
    /// 0 to 32; gaps are allowed.
    pub id: u8,
    /// 0 main, 1 fsm, 2 vm, 3 init.
    pub fork: u8,
    /// The relation.
    pub rel: RelLocator,
    /// The block number in the fork.
    pub block: u32,
    /// Redo makes the page from nothing.
    pub will_init: bool,
    /// Is there block data?
    pub has_data: bool,
    /// The page as it was after the change.
    pub image: Option<Image>,
    /// The block data.
    pub data: Bytes,
}

/// A decoded record (`DecodedXLogRecord`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Record {
    /// Where it starts.
    pub lsn: Lsn,
    /// Where its own bytes end, rounded up to 8; the page boundary if they end with the page.
    /// Becomes the LSN of the pages that it changes.
    pub end: Lsn,
    /// Where to go on (`EndRecPtr`): the same, but after a switch the end of the segment.
    pub next: Lsn,
    /// The header.
    pub header: RecordHeader,
    /// The blocks, by rising id.
    pub blocks: Vec<BlockRef>,
    /// The replication origin.
    pub origin: Option<u16>,
    /// The top-level transaction of a subtransaction's first record under logical decoding.
    pub top_xid: Option<Xid>,
    /// The main data.
    pub main: Bytes,
}

impl Record {
    /// Decodes a whole record, header included, that stands at `lsn`. `page_size` is that of data
    /// pages.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn decode(bytes: &Bytes, at: [Lsn; 3], page_size: u32) -> Result<Self, RecordError> {
        let parts = RecordParts::decode(bytes, at, page_size)?;
        Ok(Self::from_parts(&parts, bytes))
    }

    /// The same of a record that was checked before. `bytes` are those that were decoded.
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
