//! The machine's clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use walsim_core::base::{Mono, Now, TimestampTz};

/// The monotonic clock and the wall clock. The monotonic clock starts when the driver is created.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    pub(super) fn mono(&self) -> Mono {
        Mono(micros(self.began.elapsed()))
    }

    pub(super) fn now(&self) -> Now {
        Now {
            mono: self.mono(),
            wall: wall(),
        }
    }

    /// The time left until `until`.
    pub(super) fn left(&self, until: Mono) -> Duration {
        Duration::from_micros(until.0.saturating_sub(self.mono().0))
    }
}

/// Wall time. The clock must not be before 1970.
fn wall() -> TimestampTz {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let unix_us = micros(since.unwrap_or_default());
    TimestampTz(unix_us.cast_signed() - TimestampTz::UNIX_OFFSET_S * 1_000_000)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
