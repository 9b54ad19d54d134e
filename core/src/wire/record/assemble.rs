//! Assembles the bytes of a record. Mirrors XLogRecordAssemble.

use super::block::{BlockHeader, ImageHeader, RelLocator};
use super::decode::{BlockRef, Record};
use super::image::{HAS_HOLE, Image};
use super::{
    CRC_AT, ID_DATA_LONG, ID_DATA_SHORT, ID_ORIGIN, ID_TOP_XID, MAX_BLOCK_ID, MAX_LEN,
    RecordHeader, RmgrId,
};
use crate::base::{Lsn, Xid};
use crate::wire::layout::Pad;
use alloc::vec::Vec;
use bytes::Bytes;

/// A block reference of a record to write.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BlockPart {
    /// The block id, from 0 to 32. The ids of a record ascend.
    pub id: u8,
    /// The fork: 0 main, 1 fsm, 2 vm, 3 init.
    pub fork: u8,
    /// The relation.
    pub rel: RelLocator,
    /// The block number in the fork.
    pub block: u32,
    /// Whether redo initializes the page.
    pub will_init: bool,
    /// Whether the record includes the data even if redo uses the image (`REGBUF_KEEP_DATA`).
    pub keep_data: bool,
    /// The page after the change.
    pub image: Option<Image>,
    /// The block data.
    pub data: Bytes,
}

/// The parts of a record to be written.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RecordBody {
    /// The resource manager.
    pub rmid: RmgrId,
    /// `xl_info`
    pub info: u8,
    /// The transaction, or [`Xid::INVALID`].
    pub xid: Xid,
    /// The block references, by ascending id.
    pub blocks: Vec<BlockPart>,
    /// The replication origin.
    pub origin: Option<u16>,
    /// The top-level transaction. Present only if logical decoding needs it.
    pub top_xid: Option<Xid>,
    /// The main data.
    pub main: Bytes,
}

/// The bytes of a record. xl_prev and the checksum are set later, because xl_prev is known only
/// after space is reserved.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AssembledRecord {
    bytes: Vec<u8>,
    /// The checksum of the part after the record header. The header is added to the checksum when
    /// the header is complete.
    body_crc: u32,
    finished: bool,
}

impl BlockPart {
    /// A reference to a block of the main fork, without image and data.
    #[must_use]
    pub const fn new(id: u8, rel: RelLocator, block: u32) -> Self {
        Self {
            id,
            fork: 0,
            rel,
            block,
            will_init: false,
            keep_data: false,
            image: None,
            data: Bytes::new(),
        }
    }

    fn header(&self, page_size: u32) -> BlockHeader {
        let image = self.image.as_ref().map(|image| {
            let len = u16::try_from(image.bytes.len()).expect("an image is at most a page");
            assert!(u32::from(len) <= page_size, "image of {len} bytes");
            assert_eq!(image.hole_length > 0, image.info & HAS_HOLE != 0);
            ImageHeader {
                len,
                hole_offset: image.hole_offset,
                hole_length: image.hole_length,
                info: image.info,
            }
        });
        BlockHeader {
            fork: self.fork,
            will_init: self.will_init,
            data_len: u16::try_from(self.data().len()).expect("block data is at most 64 KiB"),
            image,
            rel: self.rel,
            block: self.block,
        }
    }

    /// The block data to write. It is omitted if redo uses the image, unless the data must be kept.
    fn data(&self) -> &[u8] {
        let image_does = self.image.as_ref().is_some_and(Image::apply);
        if image_does && !self.keep_data {
            &[]
        } else {
            &self.data
        }
    }
}

impl From<&BlockRef> for BlockPart {
    fn from(block: &BlockRef) -> Self {
        Self {
            id: block.id,
            fork: block.fork,
            rel: block.rel,
            block: block.block,
            will_init: block.will_init,
            keep_data: true,
            image: block.image.clone(),
            data: block.data.clone(),
        }
    }
}

impl From<&Record> for RecordBody {
    fn from(record: &Record) -> Self {
        Self {
            rmid: record.header.rmid,
            info: record.header.info,
            xid: record.header.xid,
            blocks: record.blocks.iter().map(BlockPart::from).collect(),
            origin: record.origin,
            top_xid: record.top_xid,
            main: record.main.clone(),
        }
    }
}

impl RecordBody {
    /// A record without blocks.
    #[must_use]
    pub fn new(rmid: RmgrId, info: u8, xid: Xid, main: impl Into<Bytes>) -> Self {
        Self {
            rmid,
            info,
            xid,
            blocks: Vec::new(),
            origin: None,
            top_xid: None,
            main: main.into(),
        }
    }

    /// Assembles the record, without `xl_prev` and `xl_crc`. `page_size` is the size of data pages.
    ///
    /// # Panics
    /// If the parts do not form a valid record. The block ids must ascend, an image must have the
    /// page size, and the record must not exceed [`MAX_LEN`].
    #[must_use]
    pub fn assemble(&self, page_size: u32) -> AssembledRecord {
        let mut bytes = Vec::with_capacity(RecordHeader::LEN + self.main.len() + 64);
        bytes.resize(RecordHeader::LEN, 0);
        self.encode_headers(page_size, &mut bytes);
        for block in &self.blocks {
            if let Some(image) = &block.image {
                bytes.extend_from_slice(&image.bytes);
            }
            bytes.extend_from_slice(block.data());
        }
        bytes.extend_from_slice(&self.main);

        let tot_len = u32::try_from(bytes.len()).expect("a record is at most 1020 MiB");
        assert!(tot_len <= MAX_LEN, "record of {tot_len} bytes");
        let header = RecordHeader {
            tot_len,
            xid: self.xid,
            prev: Lsn::INVALID,
            info: self.info,
            rmid: self.rmid,
            pad: Pad,
            crc: 0,
        };
        let mut head = Vec::with_capacity(RecordHeader::LEN);
        header.encode(&mut head);
        bytes[..RecordHeader::LEN].copy_from_slice(&head);
        AssembledRecord {
            body_crc: crc32c::crc32c(&bytes[RecordHeader::LEN..]),
            bytes,
            finished: false,
        }
    }

    fn encode_headers(&self, page_size: u32, out: &mut Vec<u8>) {
        let mut previous: Option<&BlockPart> = None;
        for block in &self.blocks {
            assert!(block.id <= MAX_BLOCK_ID, "block id {}", block.id);
            assert!(
                previous.is_none_or(|p| p.id < block.id),
                "block ids must ascend"
            );
            out.push(block.id);
            block.header(page_size).encode(previous.map(|p| p.rel), out);
            previous = Some(block);
        }
        if let Some(origin) = self.origin {
            out.push(ID_ORIGIN);
            out.extend_from_slice(&origin.to_le_bytes());
        }
        if let Some(xid) = self.top_xid {
            out.push(ID_TOP_XID);
            out.extend_from_slice(&xid.0.to_le_bytes());
        }
        let len = u32::try_from(self.main.len()).expect("main data is at most 1020 MiB");
        if let Ok(len) = u8::try_from(len) {
            if len > 0 {
                out.extend_from_slice(&[ID_DATA_SHORT, len]);
            }
        } else {
            out.push(ID_DATA_LONG);
            out.extend_from_slice(&len.to_le_bytes());
        }
    }
}

impl AssembledRecord {
    /// `xl_tot_len`
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a record is never empty")]
    pub fn len(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("checked when it was assembled")
    }

    /// Is it an XLOG_SWITCH record?
    #[must_use]
    pub fn is_switch(&self) -> bool {
        self.header().is_switch()
    }

    /// The record header. The fields that [`Self::finish`] sets may not be valid yet.
    #[must_use]
    pub fn header(&self) -> RecordHeader {
        RecordHeader::decode(&self.bytes).expect("the bytes start with a header")
    }

    /// Sets xl_prev and the checksum. Can be called again with another xl_prev.
    pub fn finish(&mut self, prev: Lsn) {
        self.bytes[8..16].copy_from_slice(&prev.0.to_le_bytes());
        let crc = crc32c::crc32c_append(self.body_crc, &self.bytes[..CRC_AT]);
        self.bytes[CRC_AT..RecordHeader::LEN].copy_from_slice(&crc.to_le_bytes());
        self.finished = true;
    }

    /// The bytes to copy into the WAL.
    ///
    /// # Panics
    /// If [`AssembledRecord::finish`] was not called.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        assert!(self.finished, "the record has no checksum yet");
        &self.bytes
    }
}
