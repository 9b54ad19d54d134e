//! Full-page images. Mirrors RestoreBlockImage, and the omission of the hole in XLogRecordAssemble.

use super::decompress::{lz4, pglz};
use alloc::vec::Vec;
use bytes::Bytes;

/// The image omits a hole (`BKPIMAGE_HAS_HOLE`).
pub const HAS_HOLE: u8 = 0x01;
/// Redo restores the page from the image (`BKPIMAGE_APPLY`).
pub const APPLY: u8 = 0x02;
/// `BKPIMAGE_COMPRESS_PGLZ`
pub const COMPRESS_PGLZ: u8 = 0x04;
/// `BKPIMAGE_COMPRESS_LZ4`
pub const COMPRESS_LZ4: u8 = 0x08;
/// `BKPIMAGE_COMPRESS_ZSTD`
pub const COMPRESS_ZSTD: u8 = 0x10;
/// All compression methods (`BKPIMAGE_COMPRESSED`).
pub(super) const COMPRESSED: u8 = COMPRESS_PGLZ | COMPRESS_LZ4 | COMPRESS_ZSTD;

/// Offset of `pd_lower` in a data page. `pd_upper` follows `pd_lower`.
const PD_LOWER_AT: usize = 12;
/// Size of a data page's header.
const PAGE_HEADER: u16 = 24;

/// A full-page image, without the hole between line pointers and tuples.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Image {
    /// Offset of the hole. 0 if no hole is omitted.
    pub hole_offset: u16,
    /// Length of the hole. 0 if no hole is omitted.
    pub hole_length: u16,
    /// Flag bits, such as [`APPLY`].
    pub info: u8,
    /// The page without its hole. The bytes may be compressed.
    pub bytes: Bytes,
}

/// The reason why a page cannot be restored from an image.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum ImageError {
    /// The compression method is not supported.
    #[error("could not restore image compressed with {0}: not supported by this build")]
    Compressed(&'static str),
    /// The compressed data is damaged.
    #[error("could not decompress image compressed with {0}")]
    Damaged(&'static str),
    /// The image and the hole do not add up to a page.
    #[error(
        "image of {bytes} bytes and a hole of {hole_length} at {hole_offset} make no page of {page_size}"
    )]
    WrongSize {
        /// Length of the image.
        bytes: usize,
        /// Offset of the hole.
        hole_offset: u16,
        /// Length of the hole.
        hole_length: u16,
        /// Size of a page.
        page_size: u32,
    },
}

impl Image {
    /// The image of a page, for use in redo. `standard` means that the page has the standard
    /// layout. The hole is then omitted.
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

    /// Does redo restore the page from this image? If not, the image is only for consistency
    /// checks.
    #[must_use]
    pub const fn apply(&self) -> bool {
        self.info & APPLY != 0
    }

    /// The page with its hole zeroed (`RestoreBlockImage`). The page has the LSN from before the
    /// record.
    ///
    /// # Errors
    /// The image is compressed with zstd, damaged, or does not have the page size.
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

    /// The decompressed bytes, or `None` if the image is not compressed.
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

    /// The compression method. If several bits are set, the first bit in the order below counts.
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

/// The offset and length of the hole of a standard page. (0, 0) if the header is not plausible.
fn hole(page: &[u8]) -> (u16, u16) {
    let at = |offset: usize| u16::from_le_bytes([page[offset], page[offset + 1]]);
    let (lower, upper) = (at(PD_LOWER_AT), at(PD_LOWER_AT + 2));
    if lower >= PAGE_HEADER && upper > lower && usize::from(upper) <= page.len() {
        (lower, upper - lower)
    } else {
        (0, 0)
    }
}
