//! Parses numbers as C's sscanf does. sscanf skips leading blanks, accepts signs and ignores
//! trailing text. Of a number that is too large it keeps the low half.

/// The text that is not parsed yet.
pub(super) struct Scan<'a>(pub(super) &'a [u8]);

impl Scan<'_> {
    /// Skips exactly this text.
    pub(super) fn literal(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text.as_bytes())?;
        Some(())
    }

    /// `%u`
    pub(super) fn unsigned(&mut self) -> Option<u32> {
        let (negative, magnitude) = self.number(10, usize::MAX)?;
        Some(low(match magnitude {
            Some(magnitude) if negative => magnitude.wrapping_neg(),
            Some(magnitude) => magnitude,
            None => u64::MAX,
        }))
    }

    /// Parses `%d`. With a width, as in `%3d`, reads only that many characters.
    pub(super) fn int(&mut self, width: usize) -> Option<i32> {
        let (negative, magnitude) = self.number(10, width)?;
        let most = if negative { 1 << 63 } else { (1 << 63) - 1 };
        let magnitude = magnitude.unwrap_or(most).min(most);
        let value = if negative {
            magnitude.wrapping_neg()
        } else {
            magnitude
        };
        Some(low(value).cast_signed())
    }

    /// Parses `%X`. With a width, as in `%8X`, reads only that many characters.
    pub(super) fn hex(&mut self, width: usize) -> Option<u32> {
        let (negative, magnitude) = self.number(16, width)?;
        let magnitude = magnitude.unwrap_or(u64::MAX);
        Some(low(if negative {
            magnitude.wrapping_neg()
        } else {
            magnitude
        }))
    }

    /// Parses a number that may have a base prefix, as strtoul does. Returns `None` if the number
    /// does not fit, and 0 if there are no digits.
    pub(super) fn unsigned_long(&mut self) -> Option<u64> {
        let before = self.0;
        let digits = self.0.trim_ascii_start();
        let digits = match digits {
            [b'-' | b'+', digits @ ..] => digits,
            digits => digits,
        };
        let radix = match digits {
            [b'0', b'x' | b'X', first, ..] if first.is_ascii_hexdigit() => 16,
            [b'0', ..] => 8,
            _ => 10,
        };
        let Some((negative, magnitude)) = self.number(radix, usize::MAX) else {
            self.0 = before;
            return Some(0);
        };
        let signed = |sum: u64| if negative { sum.wrapping_neg() } else { sum };
        magnitude.map(signed)
    }

    /// The sign and the magnitude of a number. The magnitude is `None` if it does not fit into 64
    /// bits.
    fn number(&mut self, radix: u32, width: usize) -> Option<(bool, Option<u64>)> {
        let blanks = self.0.iter().take_while(|byte| is_space(**byte)).count();
        let text = &self.0[blanks..];
        let text = &text[..width.min(text.len())];
        let negative = text.first() == Some(&b'-');
        let mut at = usize::from(matches!(text.first(), Some(b'-' | b'+')));
        let mut magnitude = Some(0u64);
        let mut digits = 0;
        if radix == 16 && matches!(text[at..], [b'0', b'x' | b'X', ..]) {
            at += 2;
            digits += 1;
        }
        while let Some(digit) = text.get(at).and_then(|&b| char::from(b).to_digit(radix)) {
            magnitude = magnitude
                .and_then(|sum| sum.checked_mul(u64::from(radix)))
                .and_then(|sum| sum.checked_add(u64::from(digit)));
            at += 1;
            digits += 1;
        }
        self.0 = &self.0[blanks + at..];
        (digits > 0).then_some((negative, magnitude))
    }
}

/// `isspace`
pub(super) const fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0B
}

#[expect(clippy::cast_possible_truncation, reason = "as C does it")]
const fn low(number: u64) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected results are those of glibc 2.36.
    #[test]
    fn numbers_are_read_as_c_reads_them() {
        let unsigned = |text: &str| Scan(text.as_bytes()).unsigned();
        let int = |text: &str| Scan(text.as_bytes()).int(usize::MAX);
        for (text, expected) in [
            ("12", Some(12)),
            (" \t+7x", Some(7)),
            ("-1", Some(u32::MAX)),
            ("4294967296", Some(0)),
            ("99999999999999999999999", Some(u32::MAX)),
            ("", None),
            ("x", None),
            ("-", None),
        ] {
            assert_eq!(unsigned(text), expected, "{text}");
        }
        assert_eq!(int("-5"), Some(-5));
        assert_eq!(int("99999999999999999999999"), Some(-1));
        assert_eq!(int("-99999999999999999999999"), Some(0));
        assert_eq!(Scan(b"1280").int(3), Some(128));
    }

    /// The expected results are those of glibc 2.36. Each has the text that is left after the
    /// number.
    #[test]
    fn numbers_say_their_base() {
        for (text, expected, left) in [
            ("12", Some(12), ""),
            (" +0x1F ", Some(31), " "),
            ("017", Some(15), ""),
            ("08", Some(0), "8"),
            ("0x", Some(0), "x"),
            ("-1", Some(u64::MAX), ""),
            ("-", Some(0), "-"),
            ("x", Some(0), "x"),
            ("", Some(0), ""),
            ("99999999999999999999999", None, ""),
        ] {
            let mut scan = Scan(text.as_bytes());
            assert_eq!((scan.unsigned_long(), scan.0), (expected, left.as_bytes()));
        }
    }

    #[test]
    fn positions_are_two_numbers() {
        let lsn = |text: &str| {
            let mut scan = Scan(text.as_bytes());
            let high = scan.hex(usize::MAX)?;
            scan.literal("/")?;
            Some((high, scan.hex(usize::MAX)?))
        };
        assert_eq!(lsn("0/3000028"), Some((0, 0x0300_0028)));
        assert_eq!(lsn("aB/0x10 and more"), Some((0xAB, 16)));
        assert_eq!(lsn("0x/ 1"), Some((0, 1)));
        for text in ["0", "/1", "0 /1", "0/", "g/1"] {
            assert_eq!(lsn(text), None, "{text}");
        }
        assert_eq!(Scan(b"0000000100").hex(8), Some(1));
    }
}
