//! Durations and sizes in PostgreSQL's units: `3.2s`, `150ms`, `20us`, `16MB`. Uses integer
//! arithmetic and is always exact.

use super::spelling::did_you_mean;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// An error: the text is not a valid amount. The error includes a hint that tells how to write an
/// amount.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{text}` is no {what}")]
pub struct UnitError {
    /// The text.
    pub text: String,
    /// What was expected.
    pub what: &'static str,
    /// How to write the amount.
    pub help: String,
}

/// PostgreSQL's units of time, largest first, in microseconds.
pub(super) const TIMES: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("min", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1000),
    ("us", 1),
];
/// PostgreSQL's units of memory, largest first, in bytes.
pub(super) const SIZES: [(&str, u64); 5] = [
    ("TB", 1 << 40),
    ("GB", 1 << 30),
    ("MB", 1 << 20),
    ("kB", 1 << 10),
    ("B", 1),
];
/// The units of memory with their binary names.
const BINARY_SIZES: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// Parses a duration. Returns microseconds.
///
/// # Errors
/// If the text is not a number with the unit `d`, `h`, `min`, `s`, `ms` or `us`.
pub fn duration_us(text: &str) -> Result<u64, UnitError> {
    let help = || quantity_help(text, &TIMES, "\"3.2s\", \"150ms\", \"20us\" or \"1min\"");
    quantity(text, &TIMES).ok_or_else(|| UnitError {
        text: text.into(),
        what: "duration",
        help: help(),
    })
}

/// Parses a size. Returns bytes.
///
/// # Errors
/// If the text is not a number with or without a unit (`B`, `kB`, `MB`, `GB` or `TB`).
pub fn size(text: &str) -> Result<u64, UnitError> {
    let plain = whole(text);
    plain
        .or_else(|| quantity(text, &SIZES))
        .or_else(|| quantity(text, &BINARY_SIZES))
        .ok_or_else(|| UnitError {
            text: text.into(),
            what: "size",
            help: quantity_help(text, &SIZES, "\"512\", \"64kB\" or \"16MB\""),
        })
}

/// A duration in the form that [`duration_us`] reads. Uses the largest unit that leaves at most
/// three decimals.
#[must_use]
pub fn show_us(us: u64) -> String {
    match us {
        0 => "0s".into(),
        us if us.is_multiple_of(1000) && us >= 1_000_000 => decimals(us, 1_000_000, "s"),
        us if us >= 1000 => decimals(us, 1000, "ms"),
        us => format!("{us}us"),
    }
}

/// A size in the form that [`size`] reads. Uses the largest unit that divides the size.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    in_units(bytes, &SIZES)
}

/// An amount in the largest unit that divides it. The amount 0 has no unit
/// (`convert_int_from_base_unit`).
pub(super) fn in_units(amount: u64, units: &[(&str, u64)]) -> String {
    let unit = units.iter().find(|(_, size)| amount.is_multiple_of(*size));
    match unit {
        Some((unit, size)) if amount > 0 => format!("{}{unit}", amount / size),
        Some(_) | None => amount.to_string(),
    }
}

/// A whole number without sign and blanks.
#[must_use]
pub fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Parses a number with one of the given units. Returns `None` if the result is not a whole number.
pub(super) fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let (number, unit) = text.split_at(end);
    let (_, unit) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    scaled(number, *unit)
}

/// `number` times `unit`. Returns `None` if the result is not a whole number.
pub(super) fn scaled(number: &str, unit: u64) -> Option<u64> {
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
        "KB" | "k" | "K" => Some("kB"),
        "M" => Some("MB"),
        "G" => Some("GB"),
        unit => did_you_mean(unit, &names),
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
    }

    #[test]
    fn shown_amounts_round_trip() {
        for us in [
            0, 1, 999, 1000, 1500, 20_001, 1_000_000, 3_200_000, 1_000_001, 60_000_000,
        ] {
            assert_eq!(duration_us(&show_us(us)), Ok(us), "{us}");
        }
        for bytes in [0, 1, 1023, 1024, 1500, 16 << 20, 5 << 30] {
            assert_eq!(size(&show_size(bytes)), Ok(bytes), "{bytes}");
        }
        assert_eq!(show_us(3_200_000), "3.2s");
        assert_eq!(show_size(16 << 20), "16MB");
        assert_eq!(show_size(1500), "1500B");
    }

    /// The units have the same meaning as in postgresql.conf.
    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("512", 512),
            ("64KiB", 64 << 10),
            ("64kB", 64 << 10),
            ("1MB", 1 << 20),
            ("2GB", 2 << 30),
            ("1.5GiB", 3 << 29),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_misspelled_unit_gets_a_suggestion() {
        let help = |text| duration_us(text).expect_err("no duration").help;
        assert!(help("3.2m").contains("`min`"));
        assert!(help("150mss").contains("`ms`"));
        let size_help = size("16Mb").expect_err("no size").help;
        assert!(size_help.contains("`MB`"), "{size_help}");
    }
}
