//! Log sequence numbers: byte positions in the WAL stream.

use super::PgVersion;
use core::fmt;
use core::ops::{Add, AddAssign, Sub};
use core::str::FromStr;

/// A byte position in the WAL (`XLogRecPtr`). Zero means invalid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// `InvalidXLogRecPtr`.
    pub const INVALID: Self = Self(0);
    /// The largest position.
    pub const MAX: Self = Self(u64::MAX);

    /// True unless the position is [`Lsn::INVALID`].
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 != 0
    }

    /// Rounds up to a multiple of 8 (`MAXALIGN`). A position too close to the largest LSN is
    /// rounded down.
    #[must_use]
    pub const fn align8(self) -> Self {
        Self(self.0.saturating_add(7) & !7)
    }

    /// Returns the LSN in the text format of this version's servers and programs.
    #[must_use]
    pub const fn text(self, version: PgVersion) -> LsnText {
        LsnText { lsn: self, version }
    }
}

/// The text format of servers before 19, which walsim also uses: two hex halves without padding
/// (`%X/%X`).
impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// An LSN in the text format of a version. Since 19 the second half always has eight digits
/// (`%X/%08X`). Before 19 it is not padded (`%X/%X`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LsnText {
    /// The LSN.
    pub lsn: Lsn,
    /// The version whose text format is used.
    pub version: PgVersion,
}

impl fmt::Display for LsnText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lsn(at) = self.lsn;
        if self.version < PgVersion::V19 {
            self.lsn.fmt(f)
        } else {
            write!(f, "{:X}/{:08X}", at >> 32, at & 0xFFFF_FFFF)
        }
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Add<u64> for Lsn {
    type Output = Self;
    fn add(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

impl AddAssign<u64> for Lsn {
    fn add_assign(&mut self, bytes: u64) {
        self.0 += bytes;
    }
}

impl Sub for Lsn {
    type Output = u64;
    fn sub(self, other: Self) -> u64 {
        self.0 - other.0
    }
}

/// The text is not an LSN. An LSN is two hexadecimal numbers of at most eight digits, separated by
/// a slash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "invalid LSN: expected two hexadecimal numbers of 1 to 8 digits with a slash between, such as 0/3000028"
)]
pub struct ParseLsnError;

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, ParseLsnError> {
        let (high, low) = text.split_once('/').ok_or(ParseLsnError)?;
        let half = |digits: &str| {
            let plain =
                (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            if plain {
                u64::from_str_radix(digits, 16).map_err(|_| ParseLsnError)
            } else {
                Err(ParseLsnError)
            }
        };
        Ok(Self(half(high)? << 32 | half(low)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn text_form_has_no_padding() {
        assert_eq!(Lsn(0x3000028).to_string(), "0/3000028");
        assert_eq!("16/B374D848".parse(), Ok(Lsn(0x16_B374_D848)));
        assert_eq!(Lsn(0x16_B374_D848).to_string(), "16/B374D848");
    }

    #[test]
    fn since_19_the_second_half_has_all_digits() {
        let texts = |at: u64| PgVersion::ALL.map(|version| Lsn(at).text(version).to_string());
        assert_eq!(
            texts(0x300_0028),
            [
                "0/3000028",
                "0/3000028",
                "0/3000028",
                "0/3000028",
                "0/03000028"
            ]
        );
        assert_eq!(texts(0)[4], "0/00000000");
        assert_eq!(texts(0x16_B374_D848)[4], "16/B374D848");
        assert_eq!("0/03000028".parse(), Ok(Lsn(0x300_0028)));
    }

    #[test]
    fn refuses_invalid_lsns() {
        for text in [
            "",
            "/",
            "0/",
            "/0",
            "0",
            "0/123456789",
            "+1/0",
            "0/ 1",
            "0/G",
        ] {
            assert_eq!(text.parse::<Lsn>(), Err(ParseLsnError), "{text:?}");
        }
    }
}
