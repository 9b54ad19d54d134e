//! Encodes and decodes hexadecimal digits.

use core::fmt;

/// Bytes that are printed as hexadecimal digits.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The mark of a byte that is not a hexadecimal digit.
pub(super) const NO_DIGIT: u8 = 0x80;

/// The value of each byte as a hexadecimal digit, or [`NO_DIGIT`].
pub(super) static VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < 16 {
        values[DIGITS[digit as usize] as usize] = digit;
        values[DIGITS[digit as usize].to_ascii_uppercase() as usize] = digit;
        digit += 1;
    }
    values
};

/// The two digits of every byte.
static PAIRS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
};

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The digits are written in pieces, because the content can be long.
        let mut piece = [[0; 2]; 128];
        self.0.chunks(piece.len()).try_for_each(|bytes| {
            for (pair, byte) in piece.iter_mut().zip(bytes) {
                *pair = PAIRS[usize::from(*byte)];
            }
            let text = core::str::from_utf8(piece[..bytes.len()].as_flattened());
            f.write_str(text.expect("digits are ASCII"))
        })
    }
}
