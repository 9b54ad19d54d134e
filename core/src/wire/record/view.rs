//! A view of a record that does not copy the bytes of the record. Mirrors DecodeXLogRecord, with
//! all of its checks.

use super::block::{BlockHeader, RelLocator};
use super::decode::RecordError;
use super::{
    ID_DATA_LONG, ID_DATA_SHORT, ID_ORIGIN, ID_TOP_XID, MAX_BLOCK_ID, RecordHeader, RmgrId,
};
use crate::base::{Lsn, Xid};
use crate::wire::layout::{Cursor, Pad};
use core::ops::Deref;

/// The decoded headers of a record. Together with the bytes of the record they form a
/// [`RecordView`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RecordParts {
    /// Start of the record.
    pub lsn: Lsn,
    /// The end of the record, rounded up to a multiple of 8. If the record fills its page, this is
    /// the page boundary.
    pub end: Lsn,
    /// The position at which the next record is expected (`EndRecPtr`). After a switch record it is
    /// the end of the segment. Otherwise it is the end of the record.
    pub next: Lsn,
    /// The header.
    pub header: RecordHeader,
    /// The replication origin.
    pub origin: Option<u16>,
    /// The top-level transaction. Present in the first record of a subtransaction if wal_level is
    /// logical.
    pub top_xid: Option<Xid>,
    /// Total length of all images.
    pub image_len: u32,
    /// Length of the main data. The main data is the last part of a record.
    main_len: u32,
    /// Offset of the data of the first block. The data follows all headers.
    data_at: u32,
    /// Size of data pages.
    page_size: u32,
}

/// A record whose headers are valid, with its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RecordView<'a> {
    parts: &'a RecordParts,
    bytes: &'a [u8],
}

/// A block reference of a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BlockView<'a> {
    /// The block id, from 0 to 32. A record can skip ids.
    pub id: u8,
    /// The block header.
    pub header: BlockHeader,
    /// The image. Empty if the block has no image.
    pub image: &'a [u8],
    /// The block data.
    pub data: &'a [u8],
}

/// The block references of a record, in the order of their ids.
#[derive(Clone, Debug)]
pub struct Blocks<'a> {
    headers: Cursor<'a>,
    data: Cursor<'a>,
    previous: Option<RelLocator>,
    page_size: u32,
}

impl RecordParts {
    /// No block references.
    pub const NONE: Self = Self {
        lsn: Lsn::INVALID,
        end: Lsn::INVALID,
        next: Lsn::INVALID,
        header: RecordHeader {
            tot_len: 0,
            xid: Xid::INVALID,
            prev: Lsn::INVALID,
            info: 0,
            rmid: RmgrId(0),
            pad: Pad,
            crc: 0,
        },
        origin: None,
        top_xid: None,
        image_len: 0,
        main_len: 0,
        data_at: 0,
        page_size: 0,
    };

    /// Decodes and checks the headers of a whole record. `at` contains the start of the record, its
    /// end, and the position of the next record. `page_size` is the size of data pages.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn decode(bytes: &[u8], at: [Lsn; 3], page_size: u32) -> Result<Self, RecordError> {
        let mut parts = Self::NONE;
        parts.replace(RecordHeader::decode(bytes)?, bytes, at, page_size)?;
        Ok(parts)
    }

    /// Like [`RecordParts::decode`], but reuses the memory of `self`. The record header is already
    /// decoded.
    #[inline]
    pub(crate) fn replace(
        &mut self,
        header: RecordHeader,
        bytes: &[u8],
        [lsn, end, next]: [Lsn; 3],
        page_size: u32,
    ) -> Result<(), RecordError> {
        if header.tot_len as usize != bytes.len() {
            return Err(RecordError::InvalidLength);
        }
        *self = Self {
            lsn,
            end,
            next,
            header,
            page_size,
            ..Self::NONE
        };
        let rest = self.decode_fragments(&bytes[RecordHeader::LEN..])?;
        // The conversion cannot fail, because the rest is shorter than the record, and a record is
        // shorter than 4 GB.
        self.data_at = header.tot_len - u32::try_from(rest).unwrap_or(0);
        Ok(())
    }

    /// Reads headers until the remaining bytes are only data. The header of the main data comes
    /// last. Returns the length of the data.
    #[inline]
    fn decode_fragments(&mut self, fragments: &[u8]) -> Result<usize, RecordError> {
        let mut cursor = Cursor::disk(fragments);
        // The sum has 64 bits, so that a large length of main data cannot overflow it.
        let mut total = 0;
        let mut last: Option<(u8, RelLocator)> = None;
        while cursor.rest().len() as u64 > total {
            match cursor.take("block_id")? {
                ID_DATA_SHORT => {
                    self.main_len = u32::from(cursor.take::<u8>("data_length")?);
                    total += u64::from(self.main_len);
                    break;
                }
                ID_DATA_LONG => {
                    self.main_len = cursor.take("data_length")?;
                    total += u64::from(self.main_len);
                    break;
                }
                ID_ORIGIN => self.origin = Some(cursor.take("origin")?),
                ID_TOP_XID => self.top_xid = Some(cursor.take("toplevel_xid")?),
                id @ 0..=MAX_BLOCK_ID => {
                    if last.is_some_and(|(last, _)| id <= last) {
                        return Err(RecordError::OutOfOrder(id));
                    }
                    let previous = last.map(|(_, rel)| rel);
                    let block = BlockHeader::decode(&mut cursor, previous, self.page_size)?;
                    let image = block.image.map_or(0, |image| u32::from(image.len));
                    self.image_len += image;
                    total += u64::from(block.data_len) + u64::from(image);
                    last = Some((id, block.rel));
                }
                id => return Err(RecordError::InvalidBlockId(id)),
            }
        }
        if total != cursor.rest().len() as u64 {
            return Err(RecordError::InvalidLength);
        }
        Ok(cursor.rest().len())
    }

    /// The view of the record. `bytes` must be the bytes that were decoded.
    #[must_use]
    pub const fn view<'a>(&'a self, bytes: &'a [u8]) -> RecordView<'a> {
        RecordView { parts: self, bytes }
    }
}

impl Deref for RecordView<'_> {
    type Target = RecordParts;

    #[inline]
    fn deref(&self) -> &RecordParts {
        self.parts
    }
}

impl<'a> RecordView<'a> {
    /// The block references, by ascending id.
    #[must_use]
    #[inline]
    pub fn blocks(&self) -> Blocks<'a> {
        let (headers, data) = self.bytes.split_at(self.parts.data_at as usize);
        let main_at = data.len() - self.parts.main_len as usize;
        Blocks {
            headers: Cursor::disk(&headers[RecordHeader::LEN..]),
            data: Cursor::disk(&data[..main_at]),
            previous: None,
            page_size: self.parts.page_size,
        }
    }

    /// The block with this id, if the record has one.
    #[must_use]
    pub fn block(&self, id: u8) -> Option<BlockView<'a>> {
        self.blocks().find(|block| block.id == id)
    }

    /// The data of a block (`XLogRecGetBlockData`). Empty if the block has no data or does not
    /// exist.
    #[must_use]
    pub fn block_data(&self, id: u8) -> &'a [u8] {
        self.block(id).map_or(&[], |block| block.data)
    }

    /// The main data.
    #[must_use]
    #[inline]
    pub fn main(&self) -> &'a [u8] {
        &self.bytes[self.bytes.len() - self.parts.main_len as usize..]
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = BlockView<'a>;

    #[inline]
    fn next(&mut self) -> Option<BlockView<'a>> {
        // The headers were checked when the record was decoded. Reading a header therefore fails
        // only after the last block.
        loop {
            match self.headers.take("block_id").ok()? {
                ID_ORIGIN => _ = self.headers.take::<u16>("origin").ok()?,
                ID_TOP_XID => _ = self.headers.take::<Xid>("toplevel_xid").ok()?,
                id @ 0..=MAX_BLOCK_ID => {
                    let header =
                        BlockHeader::decode(&mut self.headers, self.previous, self.page_size)
                            .ok()?;
                    self.previous = Some(header.rel);
                    let image = header.image.map_or(0, |image| usize::from(image.len));
                    return Some(BlockView {
                        id,
                        header,
                        image: self.data.bytes("image", image).ok()?,
                        data: self.data.bytes("data", usize::from(header.data_len)).ok()?,
                    });
                }
                _main_data => return None,
            }
        }
    }
}
