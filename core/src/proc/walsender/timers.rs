//! When the walsender requests a reply from a standby, and when it ends the connection. Mirrors
//! WalSndCheckTimeOut, WalSndKeepaliveIfNecessary and WalSndComputeSleeptime.

use crate::base::{Mono, Now, TimestampTz};

/// How long a walsender sleeps if wal_sender_timeout is 0.
const SLEEP_WITHOUT_TIMEOUT_MS: u64 = 10_000;

/// The timers of a walsender. They measure time up to the last poll for input. If the server
/// stalls, the stall therefore does not count as silence of the client.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Timers {
    /// When input was last polled.
    pub(super) last_processing: TimestampTz,
    /// When a message was last received. Before the first message, this is the start of streaming.
    last_reply: TimestampTz,
    /// Whether a keepalive that requests a reply was sent and not yet answered.
    waiting_for_ping_response: bool,
}

impl Timers {
    pub(super) const fn new(now: TimestampTz) -> Self {
        Self {
            last_processing: now,
            last_reply: now,
            waiting_for_ping_response: false,
        }
    }

    /// Records that the last poll has received a message.
    pub(super) const fn heard(&mut self) {
        self.last_reply = self.last_processing;
        self.answered();
    }

    /// Records that the standby has answered the outstanding request.
    pub(super) const fn answered(&mut self) {
        self.waiting_for_ping_response = false;
    }

    /// Records a request for a reply. Returns false if a request is already outstanding.
    pub(super) const fn ask(&mut self) -> bool {
        !core::mem::replace(&mut self.waiting_for_ping_response, true)
    }

    /// Has the client been silent for the whole timeout?
    pub(super) fn timed_out(&self, timeout_ms: u32) -> bool {
        timeout_ms > 0 && self.silence_us() >= i64::from(timeout_ms) * 1000
    }

    /// Has the client been silent for half of the timeout?
    pub(super) fn ping_due(&self, timeout_ms: u32) -> bool {
        let due = i64::from(timeout_ms / 2) * 1000;
        timeout_ms > 0 && !self.waiting_for_ping_response && self.silence_us() >= due
    }

    /// When to wake for the next request or the timeout, rounded up to milliseconds.
    pub(super) fn sleep_until(&self, now: Now, timeout_ms: u32) -> Mono {
        if timeout_ms == 0 {
            return now.mono.after_ms(SLEEP_WITHOUT_TIMEOUT_MS);
        }
        let allowed_ms = if self.waiting_for_ping_response {
            timeout_ms
        } else {
            timeout_ms / 2
        };
        let left_us = self.last_reply + i64::from(allowed_ms) * 1000 - now.wall;
        now.mono
            .after_ms(u64::try_from(left_us).unwrap_or(0).div_ceil(1000))
    }

    fn silence_us(&self) -> i64 {
        self.last_processing - self.last_reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        let wall = TimestampTz(i64::try_from(ms).unwrap() * 1000);
        Now {
            mono: Mono(ms * 1000),
            wall,
        }
    }

    #[test]
    fn half_of_the_timeout_is_rounded_down_to_milliseconds() {
        let mut timers = Timers::new(at(0).wall);
        assert_eq!(timers.sleep_until(at(0), 2001), Mono(1_000_000));
        timers.last_processing = at(1000).wall;
        assert!(timers.ping_due(2001));
        assert!(timers.ask() && !timers.ask());
        assert!(!timers.ping_due(2001));
        assert_eq!(timers.sleep_until(at(1000), 2001), Mono(2_001_000));
    }

    /// A jump of the wall clock changes only the next sleep, not a sleep that has begun.
    #[test]
    fn the_wall_clock_may_jump() {
        let timers = Timers::new(at(60_000).wall);
        let jumped = Now {
            wall: at(0).wall,
            ..at(100_000)
        };
        assert_eq!(timers.sleep_until(jumped, 2000), Mono(161_000_000));
        let jumped = Now {
            wall: at(90_000).wall,
            ..at(100_000)
        };
        assert_eq!(timers.sleep_until(jumped, 2000), Mono(100_000_000));
        assert!(!timers.timed_out(2000), "input was not polled since");
    }

    #[test]
    fn without_a_timeout_nothing_is_due() {
        let mut timers = Timers::new(at(0).wall);
        timers.last_processing = at(1_000_000).wall;
        assert!(!timers.timed_out(0) && !timers.ping_due(0));
        assert_eq!(timers.sleep_until(at(5), 0), Mono(10_005_000));
    }
}
