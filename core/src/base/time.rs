//! The two clocks. PostgreSQL compares wall time for its timeouts and sleeps on the monotonic clock.

use core::fmt;
use core::ops::{Add, Sub};

/// Monotonic microseconds since the world began. Never goes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// Later by so many microseconds.
    #[must_use]
    pub const fn after_us(self, us: u64) -> Self {
        Self(self.0 + us)
    }

    /// Later by so many milliseconds.
    #[must_use]
    pub const fn after_ms(self, ms: u64) -> Self {
        Self(self.0 + ms * 1000)
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

/// Wall time as PostgreSQL stores it (`TimestampTz`): microseconds since 2000-01-01 00:00:00 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct TimestampTz(pub i64);

impl TimestampTz {
    /// Seconds between the Unix epoch and PostgreSQL's.
    pub const UNIX_OFFSET_S: i64 = 946_684_800;

    /// Unix seconds (`time_t`), as pg_control stores them.
    #[must_use]
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000) + Self::UNIX_OFFSET_S
    }
}

impl Add<i64> for TimestampTz {
    type Output = Self;
    fn add(self, us: i64) -> Self {
        Self(self.0 + us)
    }
}

impl Sub for TimestampTz {
    type Output = i64;
    /// Microseconds between the two; negative if the clock went back.
    fn sub(self, other: Self) -> i64 {
        self.0 - other.0
    }
}

/// Both clocks, read once per step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Now {
    /// The clock that sleeps are measured by.
    pub mono: Mono,
    /// The clock that deadlines and time stamps are computed from; it may jump.
    pub wall: TimestampTz,
}
