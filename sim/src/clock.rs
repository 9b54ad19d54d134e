//! The clocks of one machine. The wall clock is computed from the world's monotonic time, with an
//! offset, a drift and jumps.

use walsim_core::base::{Mono, Now, TimestampTz};

/// The wall clock of one machine. Monotonic time is the same for all machines.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Clock {
    /// Wall time at `since`.
    wall: TimestampTz,
    since: Mono,
    /// Microseconds gained per second of monotonic time.
    drift_ppm: i32,
}

impl Clock {
    /// Wall time at the start of the world: 2026-01-01 00:00:00 UTC.
    pub const EPOCH: TimestampTz = TimestampTz(820_540_800_000_000);

    /// A clock with an initial offset and a drift.
    #[must_use]
    pub fn new(offset_us: i64, drift_ppm: i32) -> Self {
        Self {
            wall: Self::EPOCH + offset_us,
            since: Mono(0),
            drift_ppm,
        }
    }

    /// The time of both clocks.
    #[must_use]
    pub fn now(&self, mono: Mono) -> Now {
        Now {
            mono,
            wall: self.wall(mono),
        }
    }

    /// The wall time at the monotonic time `mono`, which must not be before the last change of the
    /// clock.
    #[must_use]
    pub fn wall(&self, mono: Mono) -> TimestampTz {
        let elapsed = i64::try_from(mono - self.since).unwrap_or(i64::MAX);
        self.wall + elapsed + self.gained(elapsed)
    }

    /// The microseconds that the clock gains in this time because of its drift.
    fn gained(&self, elapsed: i64) -> i64 {
        // A division of 64 bits is faster than one of 128 bits.
        if let Some(product) = elapsed.checked_mul(self.drift_ppm.into()) {
            return product / 1_000_000;
        }
        let gained = i128::from(elapsed) * i128::from(self.drift_ppm) / 1_000_000;
        // Wall time saturates, because a plan can contain a drift that would overflow.
        let most = if gained < 0 { i64::MIN } else { i64::MAX };
        i64::try_from(gained).unwrap_or(most)
    }

    /// Makes the wall clock jump by `by_us`, which may be negative. Monotonic time does not change.
    pub fn jump(&mut self, now: Mono, by_us: i64) {
        self.wall = self.wall(now) + by_us;
        self.since = now;
    }

    /// Changes the drift from now on, without a jump.
    pub fn set_drift(&mut self, now: Mono, drift_ppm: i32) {
        self.jump(now, 0);
        self.drift_ppm = drift_ppm;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_jump_moves_wall_time_alone() {
        let mut clock = Clock::new(500, 0);
        let before = clock.now(Mono(SECOND));
        clock.jump(Mono(SECOND), -5_000_000);
        let after = clock.now(Mono(SECOND));
        assert_eq!(after.mono, before.mono);
        assert_eq!(after.wall - before.wall, -5_000_000);
        assert_eq!(clock.wall(Mono(3 * SECOND)) - after.wall, 2_000_000);
    }

    #[test]
    fn drift_gains_by_the_second_and_changes_without_a_jump() {
        let mut clock = Clock::new(0, 100);
        assert_eq!(clock.wall(Mono(10 * SECOND)) - Clock::EPOCH, 10_001_000);
        clock.set_drift(Mono(10 * SECOND), -100);
        assert_eq!(clock.wall(Mono(20 * SECOND)) - Clock::EPOCH, 20_000_000);
    }

    /// Offsets, jumps and drifts come from plans, so they can have any value.
    #[test]
    fn no_clock_leaves_time() {
        for drift in [i32::MIN, 0, i32::MAX] {
            for by in [i64::MIN, i64::MAX] {
                let mut clock = Clock::new(by, drift);
                clock.jump(Mono(u64::MAX / 2), by);
                let _ = clock.now(Mono(u64::MAX));
            }
        }
    }

    #[test]
    fn the_world_begins_in_2026() {
        assert_eq!(Clock::EPOCH.unix_seconds(), 1_767_225_600);
    }
}
