//! Parses numbers as guc.c does, with `strtol` and `strtod`. `strtol` accepts decimal, octal and
//! hexadecimal numbers.

use crate::base::double::Double;
use alloc::format;
use alloc::string::String;

/// The value of a `real` setting: the bits of a C `double` that is not NaN.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Real(u64);

impl Real {
    /// A value given in thousandths.
    #[must_use]
    pub fn from_thousandths(value: u32) -> Self {
        let quotient = Double::from_i64(value.into()).over(Double::from_i64(1000));
        Self(quotient.to_bits().expect("neither large nor tiny"))
    }

    /// The value in thousandths, rounded. The result for a negative value is 0.
    #[must_use]
    pub fn thousandths(self) -> u32 {
        let whole = Double::from_bits(self.0)
            .times(Double::from_i64(1000))
            .rint();
        whole
            .to_i64()
            .map_or(u32::MAX, |n| u32::try_from(n.max(0)).unwrap_or(u32::MAX))
    }

    /// Is the value in the range `least..=most`?
    #[must_use]
    pub fn is_within(self, least: u32, most: u32) -> bool {
        let bits = |n: u32| {
            Double::from_i64(n.into())
                .to_bits()
                .expect("neither large nor tiny")
        };
        // Doubles without a sign bit have the same order as their bits. A range contains no
        // negative number, but can contain -0.
        let magnitude = self.0 & !SIGN;
        (self.0 & SIGN == 0 || magnitude == 0) && (bits(least)..=bits(most)).contains(&magnitude)
    }

    /// The value as `%g` of PostgreSQL's own printf prints it.
    #[must_use]
    pub fn text(self) -> String {
        let number = f64::from_bits(self.0);
        if number.is_infinite() {
            let sign = if self.0 & SIGN == 0 { "" } else { "-" };
            return format!("{sign}Infinity");
        }
        let scientific = format!("{number:.5e}");
        let (digits, power) = scientific.split_once('e').expect("it was written with one");
        let power: i32 = power.parse().expect("it was written as a number");
        if (-4..6).contains(&power) {
            let decimals = usize::try_from(5 - power).expect("at least 0");
            let fixed = format!("{number:.decimals$}");
            return without_zeros(&fixed).into();
        }
        let sign = if power < 0 { '-' } else { '+' };
        format!(
            "{}e{sign}{:02}",
            without_zeros(digits),
            power.unsigned_abs()
        )
    }
}

const SIGN: u64 = 1 << 63;

fn without_zeros(decimal: &str) -> &str {
    if decimal.contains('.') {
        decimal.trim_end_matches('0').trim_end_matches('.')
    } else {
        decimal
    }
}

/// Is it white space in the C locale?
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

/// Parses the number at the start of an integer setting's text. Returns the number and the rest of
/// the text (`parse_int`). The number can be decimal, hexadecimal, octal or a fraction.
pub(super) fn integer(text: &str) -> Option<(Double, &str)> {
    let (value, rest) = strtol(text);
    let (value, rest) = match value {
        Some(value) if !rest.starts_with(['.', 'e', 'E']) => (Double::from_i64(value), rest),
        _ => match strtod(text)? {
            (Read::Finite(value), rest) => (value, rest),
            (Read::Infinite(_), _) => return None,
        },
    };
    (rest.len() < text.len()).then_some((value, rest))
}

/// Parses the number at the start of a real setting's text. Returns the number and the rest of the
/// text (`parse_real`).
pub(super) fn real(text: &str) -> Option<(Real, &str)> {
    let (value, rest) = strtod(text)?;
    let bits = match value {
        Read::Finite(value) => value.to_bits()?,
        Read::Infinite(negative) => f64::INFINITY.to_bits() | if negative { SIGN } else { 0 },
    };
    Some((Real(bits), rest))
}

/// `strtol` with base 0. Returns the number and the rest of the text. If there is no number, the
/// rest is the whole text. `None` means ERANGE.
fn strtol(text: &str) -> (Option<i64>, &str) {
    let (negative, unsigned) = sign(text);
    let hexadecimal = |digits: &&str| digits.starts_with(|c: char| c.is_ascii_hexdigit());
    let after_x = unsigned.strip_prefix("0x").or(unsigned.strip_prefix("0X"));
    let (base, digits) = match after_x.filter(hexadecimal) {
        Some(digits) => (16, digits),
        None if unsigned.starts_with('0') => (8, unsigned),
        None => (10, unsigned),
    };
    let (digits, rest) = digits.split_at(run(digits, |c| c.is_digit(base)));
    if digits.is_empty() {
        return (Some(0), text);
    }
    let magnitude = i128::from_str_radix(digits, base).ok();
    let value = magnitude.map(|n| if negative { -n } else { n });
    (value.and_then(|n| i64::try_from(n).ok()), rest)
}

/// A result of `strtod`. There is no variant for NaN, because no setting accepts NaN.
enum Read {
    Finite(Double),
    /// Infinity. The field is true for minus infinity.
    Infinite(bool),
}

/// `strtod` in the C locale. Returns the number and the rest of the text. `None` if there is no
/// number, or for NaN or ERANGE.
fn strtod(text: &str) -> Option<(Read, &str)> {
    let (negative, unsigned) = sign(text);
    for word in ["infinity", "inf"] {
        let there = unsigned.get(..word.len());
        if there.is_some_and(|there| there.eq_ignore_ascii_case(word)) {
            return Some((Read::Infinite(negative), &unsigned[word.len()..]));
        }
    }
    if let Some(digits) = unsigned.strip_prefix("0x").or(unsigned.strip_prefix("0X"))
        && let Some((value, rest)) = hexadecimal(negative, digits)
    {
        value.to_bits()?;
        return Some((Read::Finite(value), rest));
    }
    let (whole, fraction, rest) = digits(unsigned, 10)?;
    let rest = exponent(rest, ['e', 'E']).map_or(rest, |(_, rest)| rest);
    let number = &unsigned[..unsigned.len() - rest.len()];
    let bits = number.parse::<f64>().ok()?.to_bits();
    let is_zero = [whole, fraction]
        .iter()
        .all(|d| d.bytes().all(|b| b == b'0'));
    let value = Double::from_bits(bits | if negative { SIGN } else { 0 });
    let fits = if is_zero {
        true
    } else {
        // ERANGE: the number is infinite, or so small that bits are lost.
        (1..2047).contains(&(bits >> 52))
    };
    fits.then_some((Read::Finite(value), rest))
}

/// The part after `0x`, for example `1A.8p-3`.
fn hexadecimal(negative: bool, text: &str) -> Option<(Double, &str)> {
    let (whole, fraction, rest) = digits(text, 16)?;
    let (power, rest) = exponent(rest, ['p', 'P']).unwrap_or((0, rest));
    let mut mantissa = 0u128;
    let (mut scale, mut inexact) = (0i32, false);
    for (digit, step) in whole
        .chars()
        .map(|c| (c, 0))
        .chain(fraction.chars().map(|c| (c, -4)))
    {
        let digit = digit.to_digit(16).unwrap_or(0);
        if mantissa >> 100 == 0 {
            mantissa = mantissa << 4 | u128::from(digit);
            scale = scale.saturating_add(step);
        } else {
            inexact |= digit > 0;
            scale = scale.saturating_add(step + 4);
        }
    }
    let value = Double::rounded(negative, mantissa, scale.saturating_add(power), inexact);
    Some((value, rest))
}

/// Splits the digits from the rest of the text. Returns the digits before and after a decimal
/// point, and the rest. There must be at least one digit.
fn digits(text: &str, base: u32) -> Option<(&str, &str, &str)> {
    let (whole, rest) = text.split_at(run(text, |c| c.is_digit(base)));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(after) => after.split_at(run(after, |c| c.is_digit(base))),
        None => ("", rest),
    };
    (!whole.is_empty() || !fraction.is_empty()).then_some((whole, fraction, rest))
}

/// The exponent at the start of `text`, and the rest of the text.
fn exponent(text: &str, marks: [char; 2]) -> Option<(i32, &str)> {
    let after = text.strip_prefix(marks)?;
    let (negative, unsigned) = match after.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, after.strip_prefix('+').unwrap_or(after)),
    };
    let (digits, rest) = unsigned.split_at(run(unsigned, |c| c.is_ascii_digit()));
    if digits.is_empty() {
        return None;
    }
    let value = digits.parse().unwrap_or(i32::MAX);
    Some((if negative { -value } else { value }, rest))
}

/// Skips blanks and a sign. Returns whether the sign is a minus, and the rest of the text.
fn sign(text: &str) -> (bool, &str) {
    let text = text.trim_start_matches(is_space);
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// The length of the leading run of characters for which `is` returns true.
pub(super) fn run(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is(c)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values are the output of a C program.
    #[test]
    fn integers() {
        for (text, value, rest) in [
            ("10", 10, ""),
            (" \t-7 s", -7, " s"),
            ("+7", 7, ""),
            ("0x10s", 16, "s"),
            ("0X1e5", 0x1E5, ""),
            ("0x", 0, "x"),
            ("010", 8, ""),
            ("09", 0, "9"),
            ("0.5", 0, ""),
            ("1.5", 2, ""),
            ("2.5kB", 2, "kB"),
            (".6", 1, ""),
            ("1e3", 1000, ""),
            ("1e", 1, "e"),
            ("1E+", 1, "E+"),
            ("0x1.8", 2, ""),
            ("0x1.8p1MB", 3, "MB"),
            ("0x8000000000000000", 1 << 62, ""),
        ] {
            let (number, left) = integer(text).unwrap_or_else(|| panic!("{text}"));
            let number = number.rint().to_i64().unwrap_or(1 << 62);
            assert_eq!((number, left), (value, rest), "{text}");
        }
        for text in [
            "", " ", "s", "-", " .5", "e5", "inf", "nan", "1e400", "1e-400", "--1",
        ] {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    /// `%g`
    #[test]
    fn reals_as_text() {
        for (text, shown) in [
            ("0.9", "0.9"),
            ("0.90", "0.9"),
            ("1", "1"),
            ("-0", "-0"),
            ("0.1234567", "0.123457"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("123456", "123456"),
            ("999999.5", "1e+06"),
            ("1e300", "1e+300"),
            ("inf", "Infinity"),
            ("-Infinity", "-Infinity"),
            ("0x.8", "0.5"),
        ] {
            let (real, rest) = real(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((&*real.text(), rest), (shown, ""), "{text}");
        }
        assert_eq!(real("nan"), None);
        assert_eq!(real("1e-320"), None);
    }

    #[test]
    fn thousandths() {
        for n in [0, 1, 5, 900, 999, 1000] {
            assert_eq!(Real::from_thousandths(n).thousandths(), n);
        }
        let within = |text| real(text).is_some_and(|(real, _)| real.is_within(0, 1));
        assert!(["0", "-0", "0.5", "1"].map(within).iter().all(|&w| w));
        assert!(
            !["-0.1", "1.0000001", "inf", "-inf"]
                .map(within)
                .iter()
                .any(|&w| w)
        );
    }
}
