//! Durations, sizes and seeds as people write them: `3.2s`, `150ms`, `20us`, `16MiB`, `0x1f`. Integers only.

/// A text that is not what it should be, and what would be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{text}` is no {what}")]
pub struct UnitError {
    /// The text.
    pub text: String,
    /// What was expected.
    pub what: &'static str,
    /// How to write it.
    pub help: String,
}

const DURATIONS: [(&str, u64); 4] = [
    ("min", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1000),
    ("us", 1),
];
const SIZES: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// A duration in microseconds.
///
/// # Errors
/// If the text is no number with the unit `min`, `s`, `ms` or `us`.
pub fn duration_us(text: &str) -> Result<u64, UnitError> {
    let help = || {
        quantity_help(
            text,
            &DURATIONS,
            "\"3.2s\", \"150ms\", \"20us\" or \"1min\"",
        )
    };
    quantity(text, &DURATIONS).ok_or_else(|| UnitError {
        text: text.into(),
        what: "duration",
        help: help(),
    })
}

/// A duration in microseconds that may be negative.
///
/// # Errors
/// As [`duration_us`].
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
            help: "that is longer than any run".into(),
        }),
    }
}

/// A size in bytes.
///
/// # Errors
/// If the text is no number of bytes, nor one with the unit `KiB`, `MiB`, `GiB` or `B`.
pub fn size(text: &str) -> Result<u64, UnitError> {
    let plain = whole(text);
    plain
        .or_else(|| quantity(text, &SIZES))
        .ok_or_else(|| UnitError {
            text: text.into(),
            what: "size",
            help: quantity_help(text, &SIZES, "\"512\", \"64KiB\" or \"16MiB\""),
        })
}

/// A seed: decimal, hexadecimal after `0x`, or the 40 hexadecimal digits of a commit, of which the first 8 bytes count.
///
/// # Errors
/// If the text is none of these.
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

/// A duration as [`duration_us`] reads it, in the largest unit that leaves at most three decimals.
#[must_use]
pub fn show_us(us: u64) -> String {
    match us {
        0 => "0s".into(),
        us if us.is_multiple_of(1000) && us >= 1_000_000 => decimals(us, 1_000_000, "s"),
        us if us >= 1000 => decimals(us, 1000, "ms"),
        us => format!("{us}us"),
    }
}

/// A duration as [`signed_us`] reads it.
#[must_use]
pub(super) fn show_signed_us(us: i64) -> String {
    let sign = if us < 0 { "-" } else { "" };
    format!("{sign}{}", show_us(us.unsigned_abs()))
}

/// A size as [`size`] reads it, exact.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let unit = SIZES
        .iter()
        .find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match unit {
        Some((name, unit)) if *unit > 1 => format!("{}{name}", bytes / unit),
        Some(_) | None => bytes.to_string(),
    }
}

/// A seed as reports print it.
#[must_use]
pub fn show_seed(seed: u64) -> String {
    format!("{seed:#x}")
}

/// A whole number without sign or blanks.
pub(crate) fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// A number such as `0.9` in thousandths.
pub(crate) fn thousandths(text: &str) -> Option<u64> {
    scaled(text, 1000)
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let (number, unit) = text.split_at(end);
    let (_, unit) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    scaled(number, *unit)
}

/// `number` times `unit`, exactly.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole_part, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.len() > 9 {
        return None;
    }
    let tens = 10u64.pow(u32::try_from(fraction.len()).ok()?);
    let part = whole(fraction)?.checked_mul(unit)?;
    if !part.is_multiple_of(tens) {
        return None;
    }
    whole(whole_part)?
        .checked_mul(unit)?
        .checked_add(part / tens)
}

fn quantity_help(text: &str, units: &[(&str, u64)], examples: &str) -> String {
    let unit = text
        .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
        .trim();
    let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
    let meant = match unit {
        "" => None,
        "m" => Some("min"),
        "µs" => Some("us"),
        "sec" | "seconds" => Some("s"),
        "kB" | "KB" | "k" | "K" => Some("KiB"),
        "MB" | "M" => Some("MiB"),
        "GB" | "G" => Some("GiB"),
        unit => super::errors::did_you_mean(unit, &names),
    };
    match meant.filter(|meant| names.contains(meant) && *meant != unit) {
        Some(meant) => format!("did you mean the unit `{meant}`? write {examples}"),
        None => format!("write {examples}"),
    }
}

fn decimals(value: u64, unit: u64, name: &str) -> String {
    let (whole, rest) = (value / unit, value % unit * 1000 / unit);
    let fraction = format!("{rest:03}");
    match fraction.trim_end_matches('0') {
        "" => format!("{whole}{name}"),
        digits => format!("{whole}.{digits}{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, us) in [
            ("3.2s", 3_200_000),
            ("150ms", 150_000),
            ("20us", 20),
            ("1.5 min", 90_000_000),
            ("0s", 0),
            ("0.000001s", 1),
        ] {
            assert_eq!(duration_us(text), Ok(us), "{text}");
        }
        for text in [
            "",
            "s",
            "5",
            "5 sx",
            "1.5us",
            "-1s",
            "1e3s",
            ".5s",
            "99999999999999s",
        ] {
            assert!(duration_us(text).is_err(), "{text}");
        }
        assert_eq!(signed_us("-4.5s"), Ok(-4_500_000));
    }

    #[test]
    fn what_is_shown_reads_back() {
        for us in [
            0, 1, 999, 1000, 1500, 20_001, 1_000_000, 3_200_000, 1_000_001, 60_000_000,
        ] {
            assert_eq!(duration_us(&show_us(us)), Ok(us), "{us}");
        }
        for bytes in [0, 1, 1023, 1024, 1500, 16 << 20, 5 << 30] {
            assert_eq!(size(&show_size(bytes)), Ok(bytes), "{bytes}");
        }
        assert_eq!(show_us(3_200_000), "3.2s");
        assert_eq!(show_size(16 << 20), "16MiB");
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

    #[test]
    fn a_misspelt_unit_is_guessed() {
        let help = |text| duration_us(text).expect_err("no duration").help;
        assert!(help("3.2m").contains("`min`"));
        assert!(help("150mss").contains("`ms`"));
        let size_help = size("16MB").expect_err("no size").help;
        assert!(size_help.contains("`MiB`"));
    }
}
