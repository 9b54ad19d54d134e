//! Records legal events that can be the cause of an excuse, as they happen. An illegal event need
//! not be recorded, because a check then ends the run.

use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use walsim_core::base::{Geometry, Lsn, Pid, SegmentNo, TimestampTz};
use walsim_core::call::{Exit, FilePath, LogEvent, Message, Severity};
use walsim_core::node::PmState;
use walsim_core::shmem::{Invalidation, Role};
use walsim_core::wal::names::parse_segment_name;

/// The last invalidation of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Invalidated {
    /// Whether the invalidation was legal.
    right: bool,
    /// Whether the slot is still invalid. A crash makes the slot valid again if the server had not
    /// saved the invalidation.
    lasts: bool,
}

/// The recorded events. The first number in a key is the host.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(in crate::world) struct Causes {
    /// Slots that an operator has asked a server to drop since the slot was last created.
    dropped: BTreeSet<(usize, String)>,
    /// The last invalidation of each slot.
    invalidated: BTreeMap<(usize, String), Invalidated>,
    /// Since when a slot has had no owner, by the server's wall clock.
    inactive: BTreeMap<(usize, String), TimestampTz>,
    /// Slots that a checkpointer failed to save when it invalidated them. The checkpointer owns
    /// such a slot until it exits.
    kept: BTreeMap<(usize, String), Pid>,
    /// Segments that were removed or recycled.
    removed: BTreeSet<(usize, SegmentNo)>,
    /// For each standby that has skipped to a segment: the start of that segment. The standby has
    /// requested the segment although the end of the previous segment was missing.
    skipped: BTreeMap<usize, Lsn>,
    /// The lowest `max_slot_wal_keep_size` since the earliest time at which the current checkpoint
    /// may have begun.
    limits: BTreeMap<usize, u64>,
    /// Servers in a crash restart. The postmaster has reinitialized, and has not read the report
    /// that redo has started.
    restarting: BTreeSet<usize>,
    /// Servers that got a shutdown request during a crash restart.
    shut_down: BTreeSet<usize>,
    /// Processes that crashed during a crash restart.
    crashed: BTreeSet<(usize, Pid)>,
    /// Segments that processes have renamed into place in durable_rename. An entry ends when the
    /// process leaves durable_rename. If the process dies there, the entry remains until the server
    /// begins crash recovery.
    pub(super) installs: BTreeMap<(usize, Pid), FilePath>,
}

impl Causes {
    /// Called when an operator sends a statement that drops a slot.
    pub(in crate::world) fn drop_sent(&mut self, host: usize, slot: &str) {
        self.dropped.insert((host, slot.to_owned()));
    }

    /// Called when the server has reported that a slot was created.
    pub(in crate::world) fn slot_made(&mut self, host: usize, slot: &str) {
        let key = (host, slot.to_owned());
        self.dropped.remove(&key);
        self.invalidated.remove(&key);
    }

    /// Called when the limit of a server's slots is about to change. A running checkpoint still
    /// uses the old limit.
    pub(in crate::world) fn limit_changes(&mut self, host: usize, before: Option<u64>) {
        if let Some(before) = before {
            let limit = self.limits.entry(host).or_insert(before);
            *limit = before.min(*limit);
        }
    }

    pub(super) fn was_dropped(&self, host: usize, slot: &str) -> bool {
        self.dropped.contains(&(host, slot.to_owned()))
    }

    pub(super) fn was_rightly_invalidated(&self, host: usize, slot: &str) -> bool {
        let known = self.invalidated.get(&(host, slot.to_owned()));
        known.is_some_and(|known| known.right)
    }

    pub(super) fn is_kept(&self, host: usize, slot: &str) -> bool {
        self.kept.contains_key(&(host, slot.to_owned()))
    }

    /// Called when a file is removed and no check has reported a violation.
    pub(in crate::world) fn removes(&mut self, host: usize, geometry: &Geometry, path: &FilePath) {
        let name = path.as_str().strip_prefix("pg_wal/");
        let segment = name.and_then(|name| parse_segment_name(geometry, name));
        if let Some((_, segment)) = segment {
            self.removed.insert((host, segment));
        }
    }

    pub(super) fn was_removed(&self, host: usize, segment: SegmentNo) -> bool {
        self.removed.contains(&(host, segment))
    }

    pub(super) fn has_skipped_to(&self, host: usize, segment_start: Lsn) -> bool {
        self.skipped.get(&host) == Some(&segment_start)
    }

    /// Whether the server is in a crash restart and the postmaster has not read the report that
    /// redo has started.
    pub(in crate::world) fn is_restarting(&self, host: usize) -> bool {
        self.restarting.contains(&host)
    }

    /// Called when the postmaster has reached this state.
    pub(in crate::world) fn reached(&mut self, host: usize, state: Option<PmState>) {
        if !matches!(state, Some(PmState::Init | PmState::Startup)) {
            self.restarting.remove(&host);
        }
    }

    pub(super) fn was_shut_down_in_restart(&self, host: usize) -> bool {
        self.shut_down.contains(&host)
    }

    /// Called when a process has exited.
    pub(in crate::world) fn ended(&mut self, host: usize, pid: Pid, exit: &Exit) {
        self.kept.retain(|_, owner| *owner != pid);
        if matches!(exit, Exit::Panic(_) | Exit::Killed) && self.is_restarting(host) {
            self.crashed.insert((host, pid));
        }
    }

    pub(super) fn crashed_in_restart(&self, host: usize, pid: Pid) -> bool {
        self.crashed.contains(&(host, pid))
    }

    /// Called when the server has stopped.
    pub(in crate::world) fn forget_server(&mut self, host: usize) {
        self.inactive.retain(|(other, _), _| *other != host);
        self.skipped.remove(&host);
        self.kept.retain(|(other, _), _| *other != host);
        self.restarting.remove(&host);
        self.shut_down.remove(&host);
        self.crashed.retain(|(other, _)| *other != host);
    }
}

impl World {
    /// Whether a slot at this position may be invalidated. This is so if its WAL exceeds a limit,
    /// or if the WAL was legally removed before.
    fn may_invalidate(&self, host: usize, name: &str, restart_lsn: Lsn) -> bool {
        let Some(node) = &self.hosts[host].node else {
            return false;
        };
        let shmem = node.view().shmem();
        let geometry = &self.hosts[host].plan.settings.geometry;
        let known = self.referee.known();
        let segment = geometry.segment_of(restart_lsn);
        let last = geometry.segment_of(known.wal_end_of(host)).0;
        let limits = self.causes.limits.get(&host).copied();
        let limit = shmem.settings.max_slot_wal_keep_size;
        let exceeds = |limit: u64| segment.0 + limit / u64::from(geometry.segment) < last;
        let slot = shmem.slots.find(name);
        limit.into_iter().chain(limits).any(exceeds)
            || self.causes.was_removed(host, segment)
            || slot.is_some_and(|slot| known.is_given_up(host, slot, restart_lsn))
    }

    /// Whether this process owns a slot that is invalidated in shared memory.
    fn has_invalidated(&self, host: usize, pid: Pid, name: &str) -> bool {
        let Some(node) = &self.hosts[host].node else {
            return false;
        };
        let slots = &node.view().shmem().slots;
        let slot = slots.find(name).map(|slot| &slots.slots[slot]);
        slot.is_some_and(|slot| slot.invalidated.is_some() && slot.active_pid == Some(pid))
    }

    /// Called after every step of a server. Judges each new invalidation of a slot. The server may
    /// die before it logs an invalidation that it has saved.
    pub(in crate::world) fn note_invalidations(&mut self, host: usize) {
        if !self.referee.known().slots_changed(host) {
            return;
        }
        let Some(node) = &self.hosts[host].node else {
            return;
        };
        let slots = node.view().shmem().slots.slots.iter();
        let slots: Vec<_> = slots
            .filter(|slot| slot.in_use)
            .map(|slot| {
                (
                    slot.name.clone(),
                    slot.invalidated,
                    slot.active_pid.is_some(),
                )
            })
            .collect();
        let timeout_s = node.view().shmem().settings.idle_replication_slot_timeout_s;
        let now = self.hosts[host].clock.now(self.now).wall;
        for (name, invalidated, owned) in slots {
            let key = (host, name);
            let since = self.causes.inactive.get(&key).copied();
            if owned {
                self.causes.inactive.remove(&key);
            } else {
                self.causes.inactive.entry(key.clone()).or_insert(now);
            }
            let known = self.causes.invalidated.get_mut(&key);
            match invalidated {
                None => {
                    if let Some(known) = known {
                        known.lasts = false;
                    }
                }
                Some(_) if known.is_some_and(|known| known.lasts) => {}
                Some(invalidation) => {
                    let right = match invalidation {
                        Invalidation::WalRemoved(restart_lsn) if restart_lsn.is_valid() => {
                            self.may_invalidate(host, &key.1, restart_lsn)
                        }
                        Invalidation::IdleTimeout => has_timed_out(since, now, timeout_s),
                        Invalidation::WalRemoved(_) | Invalidation::Other(_) => false,
                    };
                    let invalidated = Invalidated { right, lasts: true };
                    self.causes.invalidated.insert(key, invalidated);
                }
            }
        }
    }

    /// Called when a process logs a message.
    pub(in crate::world) fn note_cause(
        &mut self,
        host: usize,
        pid: Pid,
        role: Role,
        event: &LogEvent,
    ) {
        match (role, &event.message) {
            (Role::WalReceiver, Message::StartedStreaming(start, _)) => {
                let Some(node) = &self.hosts[host].node else {
                    return;
                };
                let replayed = node.view().shmem().recovery.last_replayed_end;
                let geometry = &self.hosts[host].plan.settings.geometry;
                let next = SegmentNo(geometry.segment_of(replayed).0 + 1);
                if replayed.is_valid() && geometry.segment_start(next) == start.lsn {
                    self.causes.skipped.insert(host, start.lsn);
                }
            }
            (Role::Checkpointer, Message::File { path, .. })
                if event.severity == Severity::Error =>
            {
                let in_slots = path.as_str().strip_prefix("pg_replslot/");
                if let Some((name, _)) = in_slots.and_then(|path| path.split_once('/'))
                    && self.has_invalidated(host, pid, name)
                {
                    // The checkpointer logs an invalidation only after saving the slot, so this
                    // invalidation was not saved.
                    self.causes.kept.insert((host, name.to_owned()), pid);
                }
            }
            (Role::Checkpointer, Message::Checkpoint("complete") | Message::RestartPoint(_)) => {
                self.causes.limits.remove(&host);
            }
            // After these messages, SyncDataDirectory fsyncs the directories of all unfinished
            // renames.
            (
                Role::Startup,
                Message::WasInterrupted(_)
                | Message::ShutdownWasInterrupted(_)
                | Message::WasInterruptedInRecovery(_)
                | Message::WasInterruptedInArchiveRecovery(_),
            ) => self.causes.installs.retain(|(other, _), _| *other != host),
            (Role::Postmaster, Message::Reinitializing) => {
                self.causes.restarting.insert(host);
            }
            (Role::Postmaster, Message::ShutdownRequest(_)) if self.causes.is_restarting(host) => {
                self.causes.shut_down.insert(host);
            }
            _ => {}
        }
    }
}

/// Whether a slot that has had no owner since this time may be invalidated for
/// `idle_replication_slot_timeout`.
fn has_timed_out(since: Option<TimestampTz>, now: TimestampTz, timeout_s: u32) -> bool {
    let timeout_us = i64::from(timeout_s) * 1_000_000;
    timeout_us > 0 && since.is_some_and(|since| now - since >= timeout_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_idle_slot_may_be_invalidated_for_its_idle_time() {
        let idle = Some(TimestampTz(1));
        let at = |us: i64| TimestampTz(1 + us);
        assert!(has_timed_out(idle, at(2_000_000), 2));
        assert!(!has_timed_out(idle, at(1_999_999), 2));
        assert!(!has_timed_out(None, at(2_000_000), 2));
        assert!(!has_timed_out(idle, at(2_000_000), 0));
    }

    #[test]
    fn a_drop_counts_until_the_slot_is_made_again() {
        let mut causes = Causes::default();
        assert!(!causes.was_dropped(0, "s1"));
        causes.drop_sent(0, "s1");
        assert!(causes.was_dropped(0, "s1"));
        assert!(!causes.was_dropped(1, "s1") && !causes.was_dropped(0, "s2"));
        causes.slot_made(0, "s1");
        assert!(!causes.was_dropped(0, "s1"));
    }

    #[test]
    fn an_unjustified_invalidation_is_no_cause() {
        let mut causes = Causes::default();
        let of = |name: &str| (0, name.to_owned());
        for (slot, right) in [("right", true), ("wrong", false)] {
            let invalidated = Invalidated { right, lasts: true };
            causes.invalidated.insert(of(slot), invalidated);
        }
        assert!(causes.was_rightly_invalidated(0, "right"));
        assert!(!causes.was_rightly_invalidated(0, "wrong"));
        assert!(!causes.was_rightly_invalidated(0, "other"));
        causes.slot_made(0, "right");
        assert!(!causes.was_rightly_invalidated(0, "right"));
    }

    #[test]
    fn a_segment_that_was_never_removed_is_no_cause() {
        let mut causes = Causes::default();
        let geometry = crate::plan::TINY;
        for path in ["pg_wal/000000010000000000000003", "pg_wal/xlogtemp.7"] {
            causes.removes(0, &geometry, &FilePath::from(path));
        }
        assert!(causes.was_removed(0, SegmentNo(3)));
        assert!(!causes.was_removed(0, SegmentNo(4)) && !causes.was_removed(1, SegmentNo(3)));
    }

    /// Shutdown requests and crashes are recorded only during a crash restart.
    #[test]
    fn a_crash_restart_ends_when_the_postmaster_hears_of_redo() {
        let mut causes = Causes::default();
        let pid = Pid {
            incarnation: 1,
            n: 7,
        };
        causes.ended(0, pid, &Exit::Killed);
        assert!(!causes.crashed_in_restart(0, pid));
        causes.restarting.insert(0);
        causes.reached(0, Some(PmState::Startup));
        causes.ended(0, pid, &Exit::Killed);
        assert!(causes.is_restarting(0) && causes.crashed_in_restart(0, pid));
        causes.reached(0, Some(PmState::Recovery));
        assert!(!causes.is_restarting(0));
        causes.forget_server(0);
        assert!(!causes.crashed_in_restart(0, pid));
    }
}
