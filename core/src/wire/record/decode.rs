//! From the bytes of a whole record to its parts. Mirrors DecodeXLogRecord.

use super::block::{BlockHeader, RelLocator};
use super::image::Image;
use super::{ID_DATA_LONG, ID_DATA_SHORT, ID_ORIGIN, ID_TOP_XID, MAX_BLOCK_ID, RecordHeader};
use crate::base::{Lsn, Xid};
use crate::wire::layout::{Cursor, Short};
use alloc::vec::Vec;
use bytes::Bytes;

/// A record with a good checksum whose structure is wrong. PostgreSQL's text, up to the ` at X/X` that the reader adds.
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
    /// Neither flag, so the image must be a page. As in PostgreSQL the number is the length of the block *data*.
    #[error("neither BKPIMAGE_HAS_HOLE nor BKPIMAGE_COMPRESSED set, but block image length is {0}")]
    ShortImage(u16),
    /// "The same relation" of nothing.
    #[error("BKPBLOCK_SAME_REL set but no previous rel")]
    NoPreviousRel,
    /// Longer than a page. PostgreSQL does not check this.
    #[error("block image length {0} exceeds the page size")]
    ImageTooLong(u16),
    /// The hole ends behind the page. PostgreSQL does not check this.
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
    /// Where its own bytes end, rounded up to 8; the page boundary if they end with the page. Becomes the LSN of the
    /// pages that it changes.
    pub end: Lsn,
    /// Where to go on (`EndRecPtr`): the same, but behind a switch the end of the segment.
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

/// What the fragment headers announce.
#[derive(Default)]
struct Announced {
    blocks: Vec<(u8, BlockHeader)>,
    origin: Option<u16>,
    top_xid: Option<Xid>,
    main_len: u32,
    /// Sum of all data lengths; 64 bits, so that a long main data length cannot wrap it.
    total: u64,
}

impl Record {
    /// Decodes a whole record, header included, that stands at `lsn`. `page_size` is that of data pages.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn decode(
        bytes: &Bytes,
        [lsn, end, next]: [Lsn; 3],
        page_size: u32,
    ) -> Result<Self, RecordError> {
        let header = RecordHeader::decode(bytes)?;
        let mut cursor = Cursor::disk(&bytes[RecordHeader::LEN..]);
        if header.tot_len as usize != bytes.len() {
            return Err(RecordError::InvalidLength);
        }
        let announced = Announced::decode(&mut cursor, page_size)?;
        let mut at = bytes.len() - cursor.rest().len();
        if announced.total != cursor.rest().len() as u64 {
            return Err(RecordError::InvalidLength);
        }
        // The sum fits, so every cut below does.
        let mut cut = |len: usize| {
            at += len;
            if len == 0 {
                Bytes::new()
            } else {
                bytes.slice(at - len..at)
            }
        };
        let blocks = announced
            .blocks
            .into_iter()
            .map(|(id, block)| BlockRef {
                id,
                fork: block.fork,
                rel: block.rel,
                block: block.block,
                will_init: block.will_init,
                has_data: block.data_len > 0,
                image: block.image.map(|image| Image {
                    hole_offset: image.hole_offset,
                    hole_length: image.hole_length,
                    info: image.info,
                    bytes: cut(usize::from(image.len)),
                }),
                data: cut(usize::from(block.data_len)),
            })
            .collect();
        Ok(Self {
            lsn,
            end,
            next,
            header,
            blocks,
            origin: announced.origin,
            top_xid: announced.top_xid,
            main: cut(announced.main_len as usize),
        })
    }
}

impl Announced {
    /// Reads headers while more bytes are left than were announced, or until the main data header, which is the last.
    fn decode(cursor: &mut Cursor<'_>, page_size: u32) -> Result<Self, RecordError> {
        let mut all = Self::default();
        while cursor.rest().len() as u64 > all.total {
            match cursor.take("block_id")? {
                ID_DATA_SHORT => {
                    return Ok(all.with_main(u32::from(cursor.take::<u8>("data_length")?)));
                }
                ID_DATA_LONG => return Ok(all.with_main(cursor.take("data_length")?)),
                ID_ORIGIN => all.origin = Some(cursor.take("origin")?),
                ID_TOP_XID => all.top_xid = Some(cursor.take("toplevel_xid")?),
                id @ 0..=MAX_BLOCK_ID => {
                    let last = all.blocks.last();
                    if last.is_some_and(|(last, _)| id <= *last) {
                        return Err(RecordError::OutOfOrder(id));
                    }
                    let previous = last.map(|(_, block)| block.rel);
                    let block = BlockHeader::decode(cursor, previous, page_size)?;
                    all.total += u64::from(block.data_len);
                    all.total += block.image.map_or(0, |image| u64::from(image.len));
                    all.blocks.push((id, block));
                }
                id => return Err(RecordError::InvalidBlockId(id)),
            }
        }
        Ok(all)
    }

    fn with_main(mut self, len: u32) -> Self {
        self.main_len = len;
        self.total += u64::from(len);
        self
    }
}
