//! Block references of a record. Mirrors xlogrecord.h (XLogRecordBlockHeader,
//! XLogRecordBlockImageHeader).

use super::decode::RecordError;
use super::image::{COMPRESSED, HAS_HOLE};
use crate::wire::layout::{Cursor, Field, layout};
use alloc::vec::Vec;
use core::fmt;

/// The bits of the flags that contain the fork number (`BKPBLOCK_FORK_MASK`).
const FORK_MASK: u8 = 0x0F;
/// `BKPBLOCK_HAS_IMAGE`
const HAS_IMAGE: u8 = 0x10;
/// `BKPBLOCK_HAS_DATA`
const HAS_DATA: u8 = 0x20;
/// `BKPBLOCK_WILL_INIT`
const WILL_INIT: u8 = 0x40;
/// `BKPBLOCK_SAME_REL`
const SAME_REL: u8 = 0x80;

layout! {
    /// The locator of a relation's files (`RelFileLocator`).
    #[derive(PartialOrd, Ord)]
    pub struct RelLocator: Disk {
        /// The tablespace. 1663 is the default tablespace.
        pub spc: u32,
        /// The database.
        pub db: u32,
        /// The relation's file number.
        pub rel: u32,
    }
}

/// `1663/5/16384`
impl fmt::Display for RelLocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.spc, self.db, self.rel)
    }
}

/// The header of a full-page image.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ImageHeader {
    /// Length of the image in the record.
    pub len: u16,
    /// Offset of the hole that is omitted. 0 if no hole is omitted.
    pub hole_offset: u16,
    /// Length of the hole. 0 if no hole is omitted.
    pub hole_length: u16,
    /// Flag bits, such as [`HAS_HOLE`].
    pub info: u8,
}

/// A block header, without its id byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BlockHeader {
    /// The fork: 0 main, 1 fsm, 2 vm, 3 init.
    pub fork: u8,
    /// Whether redo initializes the page.
    pub will_init: bool,
    /// Length of the block data.
    pub data_len: u16,
    /// The image, if there is one.
    pub image: Option<ImageHeader>,
    /// The relation.
    pub rel: RelLocator,
    /// The block number in the fork.
    pub block: u32,
}

impl BlockHeader {
    /// Decodes a block header. `previous` is the relation of the previous block. `page_size` is the
    /// size of data pages.
    ///
    /// # Errors
    /// The first check that fails. The order is PostgreSQL's. A check that PostgreSQL does not have
    /// comes directly after the related check of PostgreSQL.
    #[inline]
    pub fn decode(
        cursor: &mut Cursor<'_>,
        previous: Option<RelLocator>,
        page_size: u32,
    ) -> Result<Self, RecordError> {
        let flags: u8 = cursor.take("fork_flags")?;
        let data_len: u16 = cursor.take("data_length")?;
        match (flags & HAS_DATA != 0, data_len) {
            (true, 0) => return Err(RecordError::DataMissing),
            (false, 1..) => return Err(RecordError::DataUnannounced(data_len)),
            (true, 1..) | (false, 0) => {}
        }
        let image = if flags & HAS_IMAGE != 0 {
            Some(ImageHeader::decode(cursor, data_len, page_size)?)
        } else {
            None
        };
        let rel = if flags & SAME_REL == 0 {
            cursor.take("rlocator")?
        } else {
            previous.ok_or(RecordError::NoPreviousRel)?
        };
        Ok(Self {
            fork: flags & FORK_MASK,
            will_init: flags & WILL_INIT != 0,
            data_len,
            image,
            rel,
            block: cursor.take("blkno")?,
        })
    }

    /// Appends the header. Omits the relation if it is the same as in the previous block.
    pub fn encode(&self, previous: Option<RelLocator>, out: &mut Vec<u8>) {
        let same_rel = previous == Some(self.rel);
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        assert!(self.fork <= FORK_MASK, "fork {}", self.fork);
        out.push(
            self.fork
                | flag(self.image.is_some(), HAS_IMAGE)
                | flag(self.data_len > 0, HAS_DATA)
                | flag(self.will_init, WILL_INIT)
                | flag(same_rel, SAME_REL),
        );
        out.extend_from_slice(&self.data_len.to_le_bytes());
        if let Some(image) = &self.image {
            image.encode(out);
        }
        if !same_rel {
            self.rel.encode(out);
        }
        out.extend_from_slice(&self.block.to_le_bytes());
    }
}

impl ImageHeader {
    fn decode(cursor: &mut Cursor<'_>, data_len: u16, page_size: u32) -> Result<Self, RecordError> {
        let len: u16 = cursor.take("bimg_len")?;
        let hole_offset: u16 = cursor.take("hole_offset")?;
        let info: u8 = cursor.take("bimg_info")?;
        let compressed = info & COMPRESSED != 0;
        let has_hole = info & HAS_HOLE != 0;
        let full = u32::from(len) == page_size;
        let hole_length = match (compressed, has_hole) {
            (true, true) => cursor.take("hole_length")?,
            (true, false) => 0,
            // The subtraction is checked. In PostgreSQL it can wrap around.
            (false, _) => page_size
                .checked_sub(u32::from(len))
                .and_then(|hole| u16::try_from(hole).ok())
                .ok_or(RecordError::ImageTooLong(len))?,
        };
        if has_hole && (hole_offset == 0 || hole_length == 0 || full) {
            return Err(RecordError::BadHole {
                hole_offset,
                hole_length,
                len,
            });
        }
        if !has_hole && (hole_offset != 0 || hole_length != 0) {
            // As in PostgreSQL, an uncompressed image that is too short fails here, and not at the
            // check for short images below.
            return Err(RecordError::UnannouncedHole {
                hole_offset,
                hole_length,
            });
        }
        if compressed && full {
            return Err(RecordError::CompressedToFull(len));
        }
        if !has_hole && !compressed && !full {
            return Err(RecordError::ShortImage(data_len));
        }
        if u32::from(len) > page_size {
            return Err(RecordError::ImageTooLong(len));
        }
        if u32::from(hole_offset) + u32::from(hole_length) > page_size {
            return Err(RecordError::HoleOutside {
                hole_offset,
                hole_length,
            });
        }
        Ok(Self {
            len,
            hole_offset,
            hole_length,
            info,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.hole_offset.to_le_bytes());
        self.info.write(out, crate::wire::layout::Order::Disk);
        if self.info & COMPRESSED != 0 && self.info & HAS_HOLE != 0 {
            out.extend_from_slice(&self.hole_length.to_le_bytes());
        }
    }
}
