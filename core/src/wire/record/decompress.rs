//! Decompresses full-page images. Mirrors pglz_decompress of pg_lzcompress.c and LZ4's block
//! format.
//!
//! In both formats the data is a sequence of literal bytes and of references to earlier output. All
//! lengths and distances in the data are checked.

use crate::wire::layout::{Cursor, Short};
use alloc::vec::Vec;

/// An error: the data is invalid, or its decompressed size is not the expected size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Damaged;

impl From<Short> for Damaged {
    fn from(_: Short) -> Self {
        Self
    }
}

/// Appends a copy of `length` bytes that start `distance` bytes before the end of the output. The
/// copy can overlap the original.
fn repeat(out: &mut Vec<u8>, distance: usize, length: usize) -> Result<(), Damaged> {
    let from = out.len().checked_sub(distance).filter(|_| distance > 0);
    let from = from.ok_or(Damaged)?;
    for at in from..from + length {
        out.push(out[at]);
    }
    Ok(())
}

/// Decompresses pglz data. The result must have `size` bytes.
pub(super) fn pglz(bytes: &[u8], size: usize) -> Result<Vec<u8>, Damaged> {
    let mut out = Vec::with_capacity(size);
    let mut cursor = Cursor::disk(bytes);
    while !cursor.rest().is_empty() && out.len() < size {
        let control: u8 = cursor.take("control")?;
        for bit in 0..8 {
            if cursor.rest().is_empty() || out.len() >= size {
                break;
            }
            if control & 1 << bit == 0 {
                out.push(cursor.take("literal")?);
                continue;
            }
            let [first, low]: [u8; 2] = cursor.take("tag")?;
            let mut length = usize::from(first & 0x0F) + 3;
            let distance = usize::from(first & 0xF0) << 4 | usize::from(low);
            if length == 18 {
                length += usize::from(cursor.take::<u8>("length")?);
            }
            let length = length.min(size - out.len());
            repeat(&mut out, distance, length)?;
        }
    }
    if out.len() == size && cursor.rest().is_empty() {
        Ok(out)
    } else {
        Err(Damaged)
    }
}

/// Decompresses LZ4 data. The result must have `size` bytes.
pub(super) fn lz4(bytes: &[u8], size: usize) -> Result<Vec<u8>, Damaged> {
    let mut out = Vec::with_capacity(size);
    let mut cursor = Cursor::disk(bytes);
    loop {
        let token: u8 = cursor.take("token")?;
        let literals = length(&mut cursor, token >> 4)?;
        if literals > size - out.len() {
            return Err(Damaged);
        }
        out.extend_from_slice(cursor.bytes("literals", literals)?);
        // The last sequence has only literals.
        if cursor.rest().is_empty() {
            break;
        }
        let distance: u16 = cursor.take("offset")?;
        let length = length(&mut cursor, token & 0x0F)? + 4;
        if length > size - out.len() {
            return Err(Damaged);
        }
        repeat(&mut out, usize::from(distance), length)?;
    }
    if out.len() == size {
        Ok(out)
    } else {
        Err(Damaged)
    }
}

/// A length: the value of four bits, plus the bytes that follow. A byte of 255 means that another
/// byte follows.
fn length(cursor: &mut Cursor<'_>, nibble: u8) -> Result<usize, Damaged> {
    let mut length = usize::from(nibble);
    let mut full = nibble == 0x0F;
    while full {
        let more: u8 = cursor.take("length")?;
        length += usize::from(more);
        full = more == u8::MAX;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn literals_and_references() {
        // Three literal bytes, then two references that copy from three bytes back. The first
        // copies 17 bytes. The second copies 18 + 2 bytes, and has an extra length byte.
        let packed = b"\x18abc\x0E\x03\x0F\x03\x02";
        let text: Vec<u8> = b"abc".iter().copied().cycle().take(3 + 17 + 20).collect();
        assert_eq!(pglz(packed, 40), Ok(text));
        assert_eq!(pglz(packed, 41), Err(Damaged));
        assert_eq!(pglz(b"\x01\x00\x01", 3), Err(Damaged));
        // Three literal bytes, then a reference that copies 19 + 2 bytes, then a last literal byte.
        let packed = b"\x3Fabc\x03\x00\x02\x10z";
        let mut text: Vec<u8> = b"abc".iter().copied().cycle().take(3 + 21).collect();
        text.push(b'z');
        assert_eq!(lz4(packed, 25), Ok(text));
        assert_eq!(lz4(packed, 24), Err(Damaged));
        assert_eq!(lz4(b"\x00\x01\x00\x00", 4), Err(Damaged));
        assert_eq!(lz4(b"", 0), Err(Damaged));
    }

    proptest! {
        #![proptest_config(crate::base::testing::cases(256))]

        #[test]
        fn any_data_is_decompressed_or_refused(bytes: Vec<u8>, size in 0usize..8192) {
            for out in [pglz(&bytes, size), lz4(&bytes, size)].into_iter().flatten() {
                prop_assert_eq!(out.len(), size);
            }
        }
    }
}
