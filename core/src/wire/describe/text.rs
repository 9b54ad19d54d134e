//! Text that is put together by hand, because a formatter costs more than the record that it describes. What stands in
//! it are bytes: names in the WAL have whatever encoding their database has.

use alloc::vec::Vec;
use core::fmt;

/// The digits of a byte, for numbers to both bases.
const HEX: &[u8; 16] = b"0123456789ABCDEF";
/// `00` to `99`.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0u8;
    while n < 100 {
        pairs[n as usize] = [b'0' + n / 10, b'0' + n % 10];
        n += 1;
    }
    pairs
};

/// Bytes to be printed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Text {
    /// What was added so far.
    pub bytes: Vec<u8>,
}

impl Text {
    /// Adds bytes as they are (`%s`).
    #[inline]
    pub fn add(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.bytes.extend_from_slice(bytes.as_ref());
        self
    }

    /// Adds what stands before the first NUL, as C would.
    pub fn cstr(&mut self, bytes: &[u8]) -> &mut Self {
        let end = bytes.iter().position(|&byte| byte == 0);
        self.add(&bytes[..end.unwrap_or(bytes.len())])
    }

    /// Adds a number (`%u`).
    #[inline]
    pub fn dec(&mut self, number: impl Into<u64>) -> &mut Self {
        self.dec_right(number, 0)
    }

    /// Adds a number, filled with spaces on its left (`%10u`).
    #[inline]
    pub fn dec_right(&mut self, number: impl Into<u64>, width: usize) -> &mut Self {
        let mut digits = [b' '; 20];
        let mut at = digits.len();
        let mut rest = number.into();
        while rest >= 100 {
            at -= 2;
            digits[at..at + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
            rest /= 100;
        }
        if rest >= 10 {
            at -= 2;
            digits[at..at + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
        } else {
            at -= 1;
            digits[at] = HEX[(rest & 0xF) as usize];
        }
        self.add(&digits[at.min(digits.len() - width.min(digits.len()))..])
    }

    /// Adds a number with its sign (`%d`).
    pub fn int(&mut self, number: i32) -> &mut Self {
        if number < 0 {
            self.add("-");
        }
        self.dec(number.unsigned_abs())
    }

    /// Adds a hexadecimal number of at least `width` digits, at most 8 (`%08X`).
    #[inline]
    pub fn hex(&mut self, number: u32, width: usize) -> &mut Self {
        let mut digits = [b'0'; 8];
        let mut at = digits.len();
        let mut rest = number;
        while rest != 0 || at == digits.len() {
            at -= 1;
            digits[at] = HEX[(rest & 0xF) as usize];
            rest >>= 4;
        }
        self.add(&digits[at.min(digits.len() - width)..])
    }

    /// Adds each byte as two digits, with a space between them.
    pub fn hex_dump(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.reserve(3 * bytes.len());
        for chunk in bytes.chunks(64) {
            let mut digits = [b' '; 3 * 64];
            for (to, byte) in digits.chunks_exact_mut(3).zip(chunk) {
                to[0] = HEX[usize::from(byte >> 4)];
                to[1] = HEX[usize::from(byte & 0xF)];
            }
            self.add(&digits[..3 * chunk.len()]);
        }
        if !bytes.is_empty() {
            self.bytes.pop();
        }
        self
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    #[test]
    fn bytes_are_dumped_with_spaces_between() {
        let dump = |bytes: &[u8]| Text::default().hex_dump(bytes).bytes.clone();
        assert_eq!(dump(b""), b"");
        assert_eq!(dump(b"\0\x9f"), b"00 9F");
        let long = dump(&[0xAB; 65]);
        assert_eq!((long.len(), long.last()), (3 * 65 - 1, Some(&b'B')));
    }

    proptest! {
        #![proptest_config(crate::base::testing::cases(256))]

        #[test]
        fn numbers_are_those_of_a_formatter(shift in 0u32..64, number: u64, width in 0usize..12) {
            let number = number >> shift;
            let low = (number & 0xFFFF_FFFF) as u32;
            let mut text = Text::default();
            text.dec_right(number, width).add(" ").int(low.cast_signed()).add(" ").hex(low, width.min(8));
            let (digits, signed) = (width.min(8), low.cast_signed());
            let expected = format!("{number:width$} {signed} {low:0digits$X}");
            prop_assert_eq!(text.bytes, expected.into_bytes());
        }
    }
}
