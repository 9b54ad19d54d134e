//! Parses seeds, and durations that may be negative. core defines the other units.

use walsim_core::base::{UnitError, duration_us, show_us, whole};

/// A duration in microseconds that may be negative.
///
/// # Errors
/// The same as for [`duration_us`].
pub fn signed_us(text: &str) -> Result<i64, UnitError> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let us = duration_us(digits)?;
    match i64::try_from(us) {
        Ok(us) => Ok(sign * us),
        Err(_) => Err(UnitError {
            text: text.into(),
            what: "duration",
            help: "the duration is too long".into(),
        }),
    }
}

/// A seed. The text is a decimal number, a hexadecimal number after `0x`, or the 40 hexadecimal
/// digits of a commit. Of a commit, the first 8 bytes are the seed.
///
/// # Errors
/// If the text has none of these forms.
pub fn seed(text: &str) -> Result<u64, UnitError> {
    let hex = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        plain
            .then(|| u64::from_str_radix(digits, 16).ok())
            .flatten()
    };
    let seed = if text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        hex(&text[..16])
    } else if let Some(digits) = text.strip_prefix("0x") {
        hex(digits)
    } else {
        whole(text)
    };
    seed.ok_or_else(|| UnitError {
        text: text.into(),
        what: "seed",
        help: "write 17, 0x11, or the 40 digits of a commit".into(),
    })
}

/// Formats a duration so that [`signed_us`] can parse it.
#[must_use]
pub(super) fn show_signed_us(us: i64) -> String {
    let sign = if us < 0 { "-" } else { "" };
    format!("{sign}{}", show_us(us.unsigned_abs()))
}

/// Formats a seed as reports print it.
#[must_use]
pub fn show_seed(seed: u64) -> String {
    format!("{seed:#x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_durations() {
        assert_eq!(signed_us("-4.5s"), Ok(-4_500_000));
        assert_eq!(signed_us(&show_signed_us(-1500)), Ok(-1500));
    }

    #[test]
    fn seeds() {
        assert_eq!(seed("17"), Ok(17));
        assert_eq!(seed("0xff"), Ok(255));
        let commit = "123456789abcdef0aaaaaaaaaaaaaaaaaaaaaaaa";
        assert_eq!(seed(commit), Ok(0x1234_5678_9abc_def0));
        for text in ["", "0x", "ff", "-1", "18446744073709551616"] {
            assert!(seed(text).is_err(), "{text}");
        }
    }
}
