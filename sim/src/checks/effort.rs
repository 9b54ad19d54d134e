//! EFFORT: a standby that makes no progress pauses before it tries again.

use crate::referee::{
    About, Check, Evidence, Knowledge, PerNode, Promise, Ruling, Step, Subscription, Value,
};
use walsim_core::base::{Lsn, Mono, TimestampTz};
use walsim_core::call::Place;
use walsim_core::shmem::{Role, Shmem, WalRcvState};

const ABOUT: About = About {
    code: "EFFORT",
    promise: Promise::Safety,
    statement: "A standby that makes no progress does not start walreceivers more often than \
              wal_retrieve_retry_interval allows.",
    details: "While the startup process waits for WAL, at most four walreceivers may end within \
              one wal_retrieve_retry_interval. More than one is legal because a configuration \
              reload ends a pause early. The count starts again at zero when the standby flushes \
              or replays more WAL.",
    notes: &[
        "Four walreceivers may end within one interval: the first after the pause, one after a \
         connection with progress, and two after reloads. A reload ends the pause.",
        "A violation is reported only if the time was too short on both the wall clock and the \
         monotonic clock.",
        "If a walreceiver ends while the startup process does other work, it is not counted. Its \
         exit sets the latch of the startup process, so the next pause ends at once.",
        "The startup process does other work while it reads WAL that an earlier walreceiver has \
         flushed. It also does other work while it waits for the end of a walreceiver that it has \
         stopped.",
        "If a reload has changed the setting between these ends, the shortest interval applies.",
        "After a start or a crash restart, the check counts walreceivers from zero.",
    ],
    source: "When all sources of WAL have failed, WaitForWALToBecomeAvailable waits until \
              wal_retrieve_retry_interval has passed since the last failure (xlogrecovery.c). A \
              new request on the same timeline does not change flushedUpto: RequestXLogStreaming \
              (walreceiverfuncs.c)",
};

const SUBSCRIPTIONS: [Subscription; 1] = [Subscription::Step(&[Role::WalReceiver])];

/// How many walreceivers may legally end within one `wal_retrieve_retry_interval` without progress.
const LEGAL: usize = 4;

/// For each node, the last times at which a walreceiver ended.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Effort {
    nodes: PerNode<Ends>,
}

/// The walreceivers that have ended since the standby last received or replayed WAL.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Ends {
    state: (u32, Lsn, Lsn),
    /// The value of `walrcv.starts`, which counts started walreceivers, when the last walreceiver
    /// ended.
    starts: u32,
    ends: Vec<End>,
}

/// The end of a walreceiver.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct End {
    at: Mono,
    wall: TimestampTz,
    /// `wal_retrieve_retry_interval` at this time, in milliseconds.
    interval_ms: u32,
}

impl Check for Effort {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn after_step(&mut self, step: &Step<'_>, _: &Knowledge) -> Ruling {
        let shmem = step.view.shmem();
        if shmem.walrcv.state != WalRcvState::Stopped {
            return Ok(());
        }
        let ends = self.nodes.of(step.site.host);
        if !ends.ended(step.site.boot, shmem) || !awaited(step) {
            return Ok(());
        }
        ends.count(End {
            at: step.site.now,
            wall: step.clock.wall,
            interval_ms: shmem.settings.wal_retrieve_retry_interval_ms,
        });
        let Some((mono_us, wall_us)) = ends.span() else {
            return Ok(());
        };
        let interval_us = ends.shortest_interval_us();
        // Clocks of nodes drift.
        let least = interval_us - interval_us / 100;
        if mono_us >= least || u64::try_from(wall_us).is_ok_and(|wall| wall >= least) {
            return Ok(());
        }
        let facts: [(&str, &dyn Evidence); 3] = [
            ("walreceivers that ended", &(LEGAL + 1)),
            ("within", &Value::Duration(mono_us)),
            ("wal_retrieve_retry_interval", &Value::Duration(interval_us)),
        ];
        let message = "a standby starts walreceivers without a pause";
        Err(step.site.violation(ABOUT.code, message, &facts))
    }
}

/// Whether the startup process waits for WAL. A walreceiver that ends sets the latch of the startup
/// process (WalRcvDie). If the startup process waits for WAL, the latch ends this wait. Otherwise
/// the latch stays set, and ends the next pause.
fn awaited(step: &Step<'_>) -> bool {
    let mut procs = step.view.shmem().procs.iter();
    let startup = procs.find(|proc| proc.role == Role::Startup);
    let wait = startup.and_then(|startup| step.view.wait(startup.pid));
    wait.is_some_and(|wait| wait.why == Place::WaitForWALToBecomeAvailable)
}

impl Ends {
    /// Whether a walreceiver has ended since the last call.
    fn ended(&mut self, boot: u32, shmem: &Shmem) -> bool {
        let walrcv = &shmem.walrcv;
        let replayed = shmem.recovery.last_replayed_end;
        let state = (boot, walrcv.flushed_upto, replayed);
        let another = walrcv.starts != self.starts;
        if self.state != state || walrcv.starts < self.starts {
            self.ends.clear();
        }
        self.state = state;
        self.starts = walrcv.starts;
        another
    }

    fn count(&mut self, end: End) {
        if self.ends.len() > LEGAL {
            self.ends.remove(0);
        }
        self.ends.push(end);
    }

    /// The shortest `wal_retrieve_retry_interval`, in microseconds, that was in force when a
    /// recorded walreceiver ended. A reload can change the setting.
    fn shortest_interval_us(&self) -> u64 {
        let intervals = self.ends.iter().map(|end| end.interval_ms);
        u64::from(intervals.min().unwrap_or_default()) * 1000
    }

    /// The time from the first to the last recorded end of a walreceiver, by both clocks. Returns
    /// `None` if the number of ends is legal.
    fn span(&self) -> Option<(u64, i64)> {
        let (first, last) = (self.ends.first()?, self.ends.last()?);
        let enough = self.ends.len() > LEGAL;
        enough.then(|| (last.at - first.at, last.wall - first.wall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::shmem;

    #[test]
    fn only_ends_between_which_nothing_changes_are_counted() {
        let (mut ends, mut shmem) = (Ends::default(), shmem());
        let mut end = |starts, replayed, ms: u64| {
            shmem.walrcv.starts = starts;
            shmem.recovery.last_replayed_end = Lsn(replayed);
            if ends.ended(1, &shmem) {
                ends.count(End {
                    at: Mono(ms * 1000),
                    wall: TimestampTz(7000),
                    interval_ms: 100,
                });
            }
            ends.span()
        };
        for starts in 1..=4 {
            assert_eq!(end(starts, 9, starts.into()), None);
        }
        assert_eq!(end(4, 9, 4), None, "has ended before");
        assert_eq!(end(5, 9, 5), Some((4000, 0)));
        assert_eq!(end(6, 9, 60), Some((58_000, 0)));
        assert_eq!(end(7, 10, 61), None, "a record was replayed");
        for starts in 8..=10 {
            assert_eq!(end(starts, 10, 62), None);
        }
        assert_eq!(end(1, 10, 63), None, "a crash restart");
    }

    /// The standby pauses for the interval that is set when the pause begins.
    #[test]
    fn a_reload_between_two_ends_does_not_lengthen_the_pauses_before_it() {
        let mut ends = Ends::default();
        let mut shortest = |interval_ms| {
            ends.count(End {
                at: Mono(0),
                wall: TimestampTz(0),
                interval_ms,
            });
            ends.shortest_interval_us()
        };
        assert_eq!(shortest(200), 200_000);
        for _ in 0..LEGAL {
            assert_eq!(shortest(5000), 200_000);
        }
        assert_eq!(shortest(5000), 5_000_000, "the first end is forgotten");
        assert_eq!(shortest(100), 100_000);
    }
}
