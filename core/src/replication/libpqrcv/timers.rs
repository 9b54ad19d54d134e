//! When to report, when to ask the upstream for a sign of life, when to give it up. Mirrors the
//! wait of WalReceiverMain: a tick of 100 ms with tests of elapsed time in 15,
//! WalRcvComputeNextWakeup in 18.

use crate::base::{Mono, Now, PgVersion, Settings, TimestampTz};

/// `NAPTIME_PER_CYCLE` of 15.
const TICK_MS: u64 = 100;

/// The upstream's silence at a time-out of our wait.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Silence {
    /// Nothing to worry about.
    Short,
    /// Half of the timeout: ask once.
    Ping,
    /// The whole timeout: give up.
    TooLong,
}

/// The timers of one stream.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Timers {
    /// 15: when the last of each kind was.
    Elapsed {
        /// A message of the upstream.
        heard: TimestampTz,
        /// The upstream was asked for a sign of life since.
        pinged: bool,
        /// A status update.
        reply: TimestampTz,
        /// Hot standby feedback.
        feedback: TimestampTz,
    },
    /// 18: when the next of each kind is due; `None` is never.
    Wakeups {
        /// The upstream has been silent for too long.
        terminate: Option<TimestampTz>,
        /// It is asked for a sign of life.
        ping: Option<TimestampTz>,
        /// A status update.
        reply: Option<TimestampTz>,
        /// Hot standby feedback.
        feedback: Option<TimestampTz>,
    },
}

impl Default for Timers {
    fn default() -> Self {
        Self::new(PgVersion::V15)
    }
}

impl Timers {
    /// As a walreceiver of that version keeps them.
    #[must_use]
    pub const fn new(version: PgVersion) -> Self {
        let zero = TimestampTz(0);
        match version {
            PgVersion::V15 => Self::Elapsed {
                heard: zero,
                pinged: false,
                reply: zero,
                feedback: zero,
            },
            PgVersion::V16 | PgVersion::V17 | PgVersion::V18 | PgVersion::V19 => Self::Wakeups {
                terminate: None,
                ping: None,
                reply: None,
                feedback: None,
            },
        }
    }

    /// A message came, or a stream begins.
    pub fn heard(&mut self, now: TimestampTz, settings: &Settings) {
        let timeout_ms = settings.wal_receiver_timeout_ms;
        match self {
            Self::Elapsed { heard, pinged, .. } => {
                *heard = now;
                *pinged = false;
            }
            Self::Wakeups {
                terminate, ping, ..
            } => {
                *terminate = due(now, timeout_ms, timeout_ms);
                *ping = due(now, timeout_ms, timeout_ms / 2);
            }
        }
    }

    /// The settings have changed. 18 reckons everything anew from now on; 15 compares with them at
    /// every tick.
    pub fn recompute(&mut self, now: TimestampTz, settings: &Settings) {
        if matches!(self, Self::Wakeups { .. }) {
            self.heard(now, settings);
            self.replied(now, settings);
        }
    }

    /// A status update goes out.
    pub fn replied(&mut self, now: TimestampTz, settings: &Settings) {
        let interval_ms = settings.wal_receiver_status_interval_ms;
        match self {
            Self::Elapsed { reply, .. } => *reply = now,
            Self::Wakeups { reply, .. } => *reply = due(now, interval_ms, interval_ms),
        }
    }

    /// Is a status update due although nothing has changed?
    #[must_use]
    pub fn reply_due(&self, now: TimestampTz, settings: &Settings) -> bool {
        let interval_ms = settings.wal_receiver_status_interval_ms;
        match self {
            Self::Elapsed { reply, .. } => now - *reply >= i64::from(interval_ms) * 1000,
            Self::Wakeups { reply, .. } => reply.is_some_and(|due| due <= now),
        }
    }

    /// Is hot standby feedback due? If so the next one is due an interval later.
    pub fn take_feedback(&mut self, now: TimestampTz, settings: &Settings) -> bool {
        let interval_ms = settings.wal_receiver_status_interval_ms;
        match self {
            Self::Elapsed { feedback, .. } => {
                let due = now - *feedback >= i64::from(interval_ms) * 1000;
                if due {
                    *feedback = now;
                }
                due
            }
            // Without hot_standby_feedback, which no server here has, the timer never runs.
            Self::Wakeups { feedback, .. } => feedback.is_some_and(|due| due <= now),
        }
    }

    /// Judges the upstream's silence, and remembers that it is asked.
    pub fn take_silence(&mut self, now: TimestampTz, settings: &Settings) -> Silence {
        let timeout_ms = settings.wal_receiver_timeout_ms;
        match self {
            Self::Elapsed { heard, pinged, .. } => {
                let silent_us = now - *heard;
                if timeout_ms == 0 {
                    return Silence::Short;
                }
                if silent_us >= i64::from(timeout_ms) * 1000 {
                    return Silence::TooLong;
                }
                if *pinged || silent_us < i64::from(timeout_ms / 2) * 1000 {
                    return Silence::Short;
                }
                *pinged = true;
                Silence::Ping
            }
            Self::Wakeups {
                terminate, ping, ..
            } => {
                if terminate.is_some_and(|due| due <= now) {
                    return Silence::TooLong;
                }
                if ping.is_some_and(|due| due <= now) {
                    *ping = None;
                    return Silence::Ping;
                }
                Silence::Short
            }
        }
    }

    /// Until when to sleep: the next tick, or the next thing that is due, rounded up to
    /// milliseconds.
    #[must_use]
    pub fn sleep_until(&self, now: Now) -> Option<Mono> {
        match self {
            Self::Elapsed { .. } => Some(now.mono.after_ms(TICK_MS)),
            Self::Wakeups {
                terminate,
                ping,
                reply,
                feedback,
            } => {
                let all = [terminate, ping, reply, feedback];
                let next = all.into_iter().flatten().min()?;
                let left_us = u64::try_from(*next - now.wall).unwrap_or(0);
                Some(now.mono.after_ms(left_us.div_ceil(1000)))
            }
        }
    }
}

/// So much later, unless the setting switches it off.
fn due(now: TimestampTz, setting: u32, after_ms: u32) -> Option<TimestampTz> {
    (setting > 0).then(|| now + i64::from(after_ms) * 1000)
}
