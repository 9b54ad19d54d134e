//! The two clocks. PostgreSQL computes its timeouts from wall time, and sleeps by the monotonic
//! clock.

use core::fmt;
use core::ops::{Add, Sub};

/// Monotonic time: microseconds since the start of the simulated world. Never goes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// The time `us` microseconds later. Saturates, because durations can come from users.
    #[must_use]
    pub const fn after_us(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// The time `ms` milliseconds later.
    #[must_use]
    pub const fn after_ms(self, ms: u64) -> Self {
        self.after_us(ms.saturating_mul(1000))
    }
}

impl Sub for Mono {
    type Output = u64;
    /// Microseconds between the two.
    fn sub(self, other: Self) -> u64 {
        self.0 - other.0
    }
}

/// Seconds with three decimals.
impl fmt::Display for Mono {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1_000_000, self.0 / 1000 % 1000)
    }
}

impl fmt::Debug for Mono {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mono({}us)", self.0)
    }
}

/// Wall time in PostgreSQL's format (`TimestampTz`): microseconds since 2000-01-01 00:00:00 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct TimestampTz(pub i64);

impl TimestampTz {
    /// The number of seconds from the Unix epoch to PostgreSQL's epoch.
    pub const UNIX_OFFSET_S: i64 = 946_684_800;

    /// Unix seconds (`time_t`), as pg_control stores them.
    #[must_use]
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000) + Self::UNIX_OFFSET_S
    }
}

impl Add<i64> for TimestampTz {
    type Output = Self;
    /// The time `us` microseconds later. Saturates, because a time can come from a peer, or from a
    /// clock that was set.
    fn add(self, us: i64) -> Self {
        Self(self.0.saturating_add(us))
    }
}

impl Sub for TimestampTz {
    type Output = i64;
    /// The microseconds from `other` to this time. Negative if the clock went back.
    fn sub(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0)
    }
}

/// The time of both clocks. It is read once per step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Now {
    /// The clock that measures sleeps.
    pub mono: Mono,
    /// The clock from which deadlines and time stamps are computed. This clock can jump.
    pub wall: TimestampTz,
}

/// Seconds since 1970 (`pg_time_t`). The text form is UTC without a zone: `2026-11-21 15:30:00`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnixTime(pub i64);

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, second) = (
            self.0.div_euclid(SECONDS_PER_DAY),
            self.0.rem_euclid(SECONDS_PER_DAY),
        );
        let (year, month, day) = civil(day);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
        )
    }
}

const SECONDS_PER_DAY: i64 = 86_400;
/// The number of days from 0000-03-01 to 1970-01-01. Years are counted from March, so that a leap
/// day is the last day of its year.
const DAYS_TO_UNIX: i64 = 719_468;
/// Days of 400 years.
const DAYS_PER_ERA: i64 = 146_097;

/// The year, month and day in the Gregorian calendar, for a day number that counts from 1970-01-01.
const fn civil(unix_day: i64) -> (i64, i64, i64) {
    let day = unix_day + DAYS_TO_UNIX;
    let (era, of_era) = (day.div_euclid(DAYS_PER_ERA), day.rem_euclid(DAYS_PER_ERA));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12 + 1;
    let year = era * 400 + year + (if month <= 2 { 1 } else { 0 });
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Durations come from plans and flags, time stamps from peers. No such value makes a time wrap
    /// around.
    #[test]
    fn times_do_not_wrap() {
        assert_eq!(Mono(1).after_us(u64::MAX), Mono(u64::MAX));
        assert_eq!(Mono(1).after_ms(u64::MAX), Mono(u64::MAX));
        let (first, last) = (TimestampTz(i64::MIN), TimestampTz(i64::MAX));
        assert_eq!(last + 1, last);
        assert_eq!(first + -1, first);
        assert_eq!(first - last, i64::MIN);
        assert_eq!(last - first, i64::MAX);
        assert!(first.unix_seconds() < last.unix_seconds());
    }
}
