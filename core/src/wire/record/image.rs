//! Full-page images. Mirrors RestoreBlockImage and the hole of XLogRecordAssemble.

use super::decompress::{lz4, pglz};
use alloc::vec::Vec;
use bytes::Bytes;

/// A hole was left out (`BKPIMAGE_HAS_HOLE`).
pub const HAS_HOLE: u8 = 0x01;
/// Redo puts the image in place of the page (`BKPIMAGE_APPLY`).
pub const APPLY: u8 = 0x02;
/// `BKPIMAGE_COMPRESS_PGLZ`
pub const COMPRESS_PGLZ: u8 = 0x04;
/// `BKPIMAGE_COMPRESS_LZ4`
pub const COMPRESS_LZ4: u8 = 0x08;
/// `BKPIMAGE_COMPRESS_ZSTD`
pub const COMPRESS_ZSTD: u8 = 0x10;
/// Any method (`BKPIMAGE_COMPRESSED`).
pub(super) const COMPRESSED: u8 = COMPRESS_PGLZ | COMPRESS_LZ4 | COMPRESS_ZSTD;

/// Offset of `pd_lower` in a data page; `pd_upper` follows it.
const PD_LOWER_AT: usize = 12;
/// Bytes of a data page's header.
const PAGE_HEADER: u16 = 24;

/// A copy of a page inside a record, without the hole between its line pointers and its tuples.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Image {
    /// Where the hole starts; 0 without one.
    pub hole_offset: u16,
    /// Its length; 0 without one.
    pub hole_length: u16,
    /// Flag bits, such as [`APPLY`].
    pub info: u8,
    /// What is left of the page, perhaps compressed.
    pub bytes: Bytes,
}

/// An image cannot be turned back into a page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum ImageError {
    /// That compression is not implemented.
    #[error("could not restore image compressed with {0}: not supported by this build")]
    Compressed(&'static str),
    /// What is compressed is damaged.
    #[error("could not decompress image compressed with {0}")]
    Damaged(&'static str),
    /// Bytes and hole together are no page.
    #[error(
        "image of {bytes} bytes and a hole of {hole_length} at {hole_offset} make no page of {page_size}"
    )]
    WrongSize {
        /// Of the image.
        bytes: usize,
        /// Where the hole starts.
        hole_offset: u16,
        /// Its length.
        hole_length: u16,
        /// Of a page.
        page_size: u32,
    },
}

impl Image {
    /// The image of a page for redo. `standard`: the page has the standard layout, so that it may
    /// have a hole.
    #[must_use]
    pub fn of_page(page: &[u8], standard: bool) -> Self {
        let (hole_offset, hole_length) = if standard { hole(page) } else { (0, 0) };
        let bytes = if hole_length == 0 {
            Bytes::copy_from_slice(page)
        } else {
            let resume = usize::from(hole_offset) + usize::from(hole_length);
            [&page[..usize::from(hole_offset)], &page[resume..]]
                .concat()
                .into()
        };
        let info = if hole_length == 0 {
            APPLY
        } else {
            APPLY | HAS_HOLE
        };
        Self {
            hole_offset,
            hole_length,
            info,
            bytes,
        }
    }

    /// Does redo put it in place of the page? If not, it is there for a consistency check.
    #[must_use]
    pub const fn apply(&self) -> bool {
        self.info & APPLY != 0
    }

    /// The page, its hole zeroed (`RestoreBlockImage`). Its LSN is still the one it had before the
    /// record.
    ///
    /// # Errors
    /// The image is compressed with zstd or badly, or does not make a page of that size.
    pub fn restore(&self, page_size: u32) -> Result<Vec<u8>, ImageError> {
        let (offset, length) = (usize::from(self.hole_offset), usize::from(self.hole_length));
        let wrong_size = |bytes| ImageError::WrongSize {
            bytes,
            hole_offset: self.hole_offset,
            hole_length: self.hole_length,
            page_size,
        };
        let size = (page_size as usize).checked_sub(length);
        let size = size.ok_or_else(|| wrong_size(self.bytes.len()))?;
        let decompressed = self.decompress(size)?;
        let bytes = decompressed.as_deref().unwrap_or(&self.bytes);
        if bytes.len() != size || offset > size {
            return Err(wrong_size(bytes.len()));
        }
        let (before, after) = bytes.split_at(offset);
        let mut page = Vec::with_capacity(page_size as usize);
        page.extend_from_slice(before);
        page.resize(offset + length, 0);
        page.extend_from_slice(after);
        Ok(page)
    }

    /// What is left of the page, if it is compressed.
    fn decompress(&self, size: usize) -> Result<Option<Vec<u8>>, ImageError> {
        let method = self.method();
        let decompressed = match self.info & COMPRESSED {
            0 => return Ok(None),
            info if info & COMPRESS_PGLZ != 0 => pglz(&self.bytes, size),
            info if info & COMPRESS_LZ4 != 0 => lz4(&self.bytes, size),
            _ => return Err(ImageError::Compressed(method)),
        };
        match decompressed {
            Ok(bytes) => Ok(Some(bytes)),
            Err(_) => Err(ImageError::Damaged(method)),
        }
    }

    /// If several bits are set, the first in this order counts.
    const fn method(&self) -> &'static str {
        if self.info & COMPRESS_PGLZ != 0 {
            "pglz"
        } else if self.info & COMPRESS_LZ4 != 0 {
            "LZ4"
        } else {
            "zstd"
        }
    }
}

/// Offset and length of the hole of a standard page, (0, 0) if the header makes no sense.
fn hole(page: &[u8]) -> (u16, u16) {
    let at = |offset: usize| u16::from_le_bytes([page[offset], page[offset + 1]]);
    let (lower, upper) = (at(PD_LOWER_AT), at(PD_LOWER_AT + 2));
    if lower >= PAGE_HEADER && upper > lower && usize::from(upper) <= page.len() {
        (lower, upper - lower)
    } else {
        (0, 0)
    }
}
