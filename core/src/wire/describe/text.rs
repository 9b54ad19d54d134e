//! A text that is built without Rust's formatter, because formatting would take longer than
//! decoding the record. The text consists of bytes, because names in WAL are in the encoding of
//! their database.

use crate::wire::record::RelLocator;
use crate::wire::xlog_records::FullXid;
use alloc::vec::Vec;
use core::fmt;

/// Digits for decimal and hexadecimal numbers.
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

/// A text to print.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Text {
    /// The bytes added so far.
    pub bytes: Vec<u8>,
}

impl Text {
    /// Adds bytes unchanged (`%s`).
    #[inline]
    pub fn add(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.bytes.extend_from_slice(bytes.as_ref());
        self
    }

    /// Adds the bytes before the first NUL.
    pub fn cstr(&mut self, bytes: &[u8]) -> &mut Self {
        let end = bytes.iter().position(|&byte| byte == 0);
        self.add(&bytes[..end.unwrap_or(bytes.len())])
    }

    /// Adds a number (`%u`).
    #[inline]
    pub fn dec(&mut self, number: impl Into<u64>) -> &mut Self {
        let mut rest = number.into();
        if rest < 10 {
            self.bytes.push(HEX[(rest & 0xF) as usize]);
            return self;
        }
        if rest >= 100_000_000 {
            return self.dec_right(rest, 0);
        }
        // Copies a fixed number of bytes. That is faster than copying exactly `len` bytes.
        let len = rest.ilog10() as usize + 1;
        let mut digits = [0; 8];
        let mut at = len;
        while at >= 2 {
            at -= 2;
            digits[at..at + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
            rest /= 100;
        }
        if at == 1 {
            digits[0] = HEX[(rest & 0xF) as usize];
        }
        let before = self.bytes.len();
        self.bytes.extend_from_slice(&digits);
        self.bytes.truncate(before + len);
        self
    }

    /// Adds a number, padded with spaces on the left (`%10u`).
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
        let least = digits.len() - width.min(digits.len());
        // A copy of a fixed number of bytes is faster than a copy of a variable number.
        if at >= least {
            self.add(&digits[least..])
        } else {
            self.add(&digits[at..])
        }
    }

    /// Adds a text, then a number (`… %u`).
    #[inline]
    pub(super) fn with(&mut self, label: &str, number: impl Into<u64>) -> &mut Self {
        self.add(label).dec(number)
    }

    /// Adds a signed number (`%d`).
    pub fn int(&mut self, number: impl Into<i64>) -> &mut Self {
        let number = number.into();
        if number < 0 {
            self.add("-");
        }
        self.dec(number.unsigned_abs())
    }

    /// Adds a byte in the format of flags (`0x%02X`).
    #[inline]
    pub(super) fn byte(&mut self, byte: u8) -> &mut Self {
        let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xF)]];
        self.add("0x").add(digits)
    }

    /// Adds `T` or `F`.
    pub(super) fn letter(&mut self, is_true: bool) -> &mut Self {
        self.add(if is_true { "T" } else { "F" })
    }

    /// Adds a text if the condition is true.
    pub(super) fn if_set(&mut self, is_set: bool, text: &str) {
        if is_set {
            self.add(text);
        }
    }

    /// Adds the three numbers of a relation locator.
    pub(super) fn rel(&mut self, rel: RelLocator) -> &mut Self {
        self.dec(rel.spc).with("/", rel.db).with("/", rel.rel)
    }

    /// Adds a transaction id, preceded by its epoch.
    pub(super) fn full_xid(&mut self, xid: FullXid) -> &mut Self {
        self.dec(xid.epoch()).with(":", xid.xid().0)
    }

    /// Adds elements, separated by commas.
    pub(super) fn joined<T>(
        &mut self,
        elements: impl Iterator<Item = T>,
        mut add: impl FnMut(&mut Self, T),
    ) {
        let mut separator = "";
        for element in elements {
            self.add(separator);
            add(self, element);
            separator = ", ";
        }
    }

    /// Adds a space, then a list in brackets (`array_desc`).
    pub(super) fn list<T>(
        &mut self,
        elements: impl Iterator<Item = T>,
        add: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.add(" [").joined(elements, add);
        self.add("]")
    }

    /// Adds a list of offset numbers (`offset_elem_desc`).
    pub(super) fn offsets(&mut self, offsets: &[u8]) -> &mut Self {
        self.list(offsets.chunks_exact(2), |text, offset| {
            text.dec(u16::from_le_bytes([offset[0], offset[1]]));
        })
    }

    /// Adds a hexadecimal number with at least `width` digits (`%08X`). `width` is at most 8.
    #[inline]
    pub fn hex(&mut self, number: u32, width: usize) -> &mut Self {
        if number < 16 && width <= 1 {
            self.bytes.push(HEX[(number & 0xF) as usize]);
            return self;
        }
        let mut digits = [0; 8];
        for (digit, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
            digit[0] = HEX[usize::from(byte >> 4)];
            digit[1] = HEX[usize::from(byte & 0xF)];
        }
        let zeros = (number.leading_zeros() / 4) as usize;
        let least = digits.len() - width.clamp(1, digits.len());
        // A copy of a fixed number of bytes is faster than a copy of a variable number.
        if zeros >= least {
            self.add(&digits[least..])
        } else {
            self.add(&digits[zeros..])
        }
    }

    /// Adds each byte as two digits, separated by spaces.
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
