//! The timers of a receiver. They determine when to send a status update, when to request a reply
//! from a silent upstream, and when to end the connection.
//!
//! Mirrors the wait of WalReceiverMain. PostgreSQL 15 wakes every 100 ms and compares elapsed
//! times. Since 16 the walreceiver computes wake-up times (WalRcvComputeNextWakeup).

use crate::base::{Mono, Now, PgVersion, Settings, TimestampTz};

/// `NAPTIME_PER_CYCLE` of 15.
const TICK_MS: u64 = 100;

/// How long the upstream has been silent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Silence {
    /// The silence is shorter than half of wal_receiver_timeout.
    Short,
    /// The silence has lasted at least half of wal_receiver_timeout. The walreceiver requests a
    /// reply, but only once.
    Ping,
    /// The silence has lasted the whole wal_receiver_timeout. The walreceiver gives up.
    TooLong,
}

/// The timers of one stream.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Timers {
    /// PostgreSQL 15: when each event last happened.
    Elapsed {
        /// When the last message of the upstream arrived.
        heard: TimestampTz,
        /// Whether a reply was requested since the last message.
        pinged: bool,
        /// When the last status update was sent.
        reply: TimestampTz,
        /// When hot standby feedback was last sent.
        feedback: TimestampTz,
    },
    /// Since 16: the time at which each event is due. `None` means never.
    Wakeups {
        /// When to give up the silent upstream.
        terminate: Option<TimestampTz>,
        /// When to request a reply.
        ping: Option<TimestampTz>,
        /// When to send a status update.
        reply: Option<TimestampTz>,
        /// When to send hot standby feedback.
        feedback: Option<TimestampTz>,
    },
}

impl Default for Timers {
    fn default() -> Self {
        Self::new(PgVersion::V15)
    }
}

impl Timers {
    /// The timers of a walreceiver of this version.
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

    /// Records that a message has arrived or that streaming has started.
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
                assert!(*ping <= *terminate, "{ping:?} {terminate:?}");
            }
        }
    }

    /// Called when the settings have changed. Since 16 all wake-up times are computed again.
    /// PostgreSQL 15 reads the settings at every wake-up.
    pub fn recompute(&mut self, now: TimestampTz, settings: &Settings) {
        if matches!(self, Self::Wakeups { .. }) {
            self.heard(now, settings);
            self.replied(now, settings);
        }
    }

    /// Records that a status update is sent.
    pub fn replied(&mut self, now: TimestampTz, settings: &Settings) {
        let interval_ms = settings.wal_receiver_status_interval_ms;
        match self {
            Self::Elapsed { reply, .. } => *reply = now,
            Self::Wakeups { reply, .. } => *reply = due(now, interval_ms, interval_ms),
        }
    }

    /// Has the status interval passed?
    #[must_use]
    pub fn reply_due(&self, now: TimestampTz, settings: &Settings) -> bool {
        let interval_ms = settings.wal_receiver_status_interval_ms;
        match self {
            Self::Elapsed { reply, .. } => now - *reply >= i64::from(interval_ms) * 1000,
            Self::Wakeups { reply, .. } => reply.is_some_and(|due| due <= now),
        }
    }

    /// Is hot standby feedback due? If so, also schedules the next feedback.
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
            // hot_standby_feedback is always off in walsim, so this timer never runs.
            Self::Wakeups { feedback, .. } => feedback.is_some_and(|due| due <= now),
        }
    }

    /// Checks how long the upstream has been silent. If the caller must request a reply, records
    /// the request.
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

    /// When to wake, rounded up to milliseconds. In 15 this is the next 100 ms interval, since 16
    /// the next due event.
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

/// The due time. `None` if the setting disables the timer.
fn due(now: TimestampTz, setting: u32, after_ms: u32) -> Option<TimestampTz> {
    assert!(after_ms <= setting, "{after_ms} ms of {setting}");
    (setting > 0).then(|| now + i64::from(after_ms) * 1000)
}
