//! The quiescent phase: everything is healed, nothing new is asked for, and all nodes must come to the same end within a
//! bound.

use super::{Event, Verdict, Violation, World};
use crate::plan::{Fault, ShutdownMode};
use walsim_core::base::{Mono, PgVersion};
use walsim_core::call::Place;
use walsim_core::node::{PmState, ProcessView};
use walsim_core::shmem::{Role, WalSndState};
use walsim_core::wal::names::segment_path;
use walsim_core::wal::position::bytepos_to_end;

/// How often convergence is looked at.
const LOOK_US: u64 = 50_000;

/// Since when, and until when.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Quiescence {
    since: Mono,
    bound: Mono,
}

impl World {
    pub(super) fn begin_quiescence(&mut self) {
        self.tell(None, "faults and workload stop");
        for from in 0..self.hosts.len() {
            self.hosts[from].disk.heal();
            for to in 0..self.hosts.len() {
                let (a, b) = (self.hosts[from].index, self.hosts[to].index);
                if self.net.is_blocked(a, b) {
                    self.net.heal(self.now, a, b, &self.choices);
                }
            }
            self.hosts[from].doomed = None;
            self.hosts[from].stalls.clear();
            self.resume(from);
            self.net.resume_reading(self.now, self.hosts[from].index);
        }
        self.clients.stop();
        self.quiescence = Some(Quiescence {
            since: self.now,
            bound: self.now.after_us(self.bound_us()),
        });
        let nodes = self.hosts.iter().filter_map(|host| host.at_end(self.now));
        let ruling = self.referee.at_quiescence(&nodes.collect::<Vec<_>>());
        self.judge(ruling);
        self.at(self.now.after_us(LOOK_US), Event::Look);
    }

    /// Three rounds of the slowest timer, the time that the backlog takes, and the hours that clocks were put back.
    fn bound_us(&self) -> u64 {
        let slowest = self.hosts.iter().map(|host| {
            let settings = &host.plan.settings;
            let timeouts = [
                settings.wal_sender_timeout_ms,
                settings.wal_receiver_timeout_ms,
                settings.wal_receiver_status_interval_ms,
                settings.checkpoint_timeout_ms,
            ];
            let longest = timeouts.into_iter().max().unwrap_or(0);
            u64::from(longest) + u64::from(settings.wal_retrieve_retry_interval_ms) + 10_000
        });
        let rounds_us = 3 * 1000 * slowest.max().unwrap_or(0);
        let backlog = self.referee.wal_end().0;
        let transfer_us = backlog.saturating_mul(1000) / self.plan.network.bytes_per_ms.max(1);
        let jumps = self.plan.faults.iter().map(|row| match row.fault {
            Fault::ClockJump { by_us, .. } => {
                if by_us < 0 {
                    by_us.unsigned_abs()
                } else {
                    0
                }
            }
            Fault::PowerLoss { .. }
            | Fault::NodeCrash { .. }
            | Fault::Partition { .. }
            | Fault::Reset { .. }
            | Fault::Delay { .. }
            | Fault::FsyncError { .. }
            | Fault::DiskFull { .. }
            | Fault::Shutdown { .. }
            | Fault::Kill { .. }
            | Fault::Pause { .. }
            | Fault::Stall { .. }
            | Fault::StopReading { .. } => 0,
        });
        jumps.fold(rounds_us.saturating_add(transfer_us), u64::saturating_add)
    }

    pub(super) fn look(&mut self) {
        let Some(quiescence) = self.quiescence else {
            return;
        };
        for host in 0..self.hosts.len() {
            if self.hangs_in_shutdown(host) || self.lives_on_after_a_crash(host) {
                self.shut_down(host, ShutdownMode::Immediate);
            }
        }
        let late = self.now >= quiescence.bound;
        match self.lagging(late) {
            None => {
                let arrived = (0..self.hosts.len()).filter(|host| {
                    self.excuse(*host).is_none() && !(late && self.reads_stale_wal(*host))
                });
                let nodes = arrived.filter_map(|host| self.hosts[host].at_end(self.now));
                match self.referee.at_end(&nodes.collect::<Vec<_>>()) {
                    Ok(()) => self.verdict = Some(Verdict::Pass),
                    Err(violation) => self.violated(violation),
                }
            }
            Some(laggard) if late => {
                let waited = self.now - quiescence.since;
                let violation = Violation {
                    code: "LIVE",
                    node: laggard.0,
                    at: self.now,
                    message: format!("no convergence within {} ms of quiet", waited / 1000),
                    facts: laggard.1,
                };
                self.violated(violation);
            }
            Some(_) => self.at(self.now.after_us(LOOK_US), Event::Look),
        }
    }

    /// The first node that is not where it should be, and why. Late in the day those are passed over that PostgreSQL
    /// would leave there for ever, too.
    fn lagging(&self, late: bool) -> Option<(String, Vec<(String, String)>)> {
        let fact =
            |what: &str, value: &dyn std::fmt::Display| (String::from(what), value.to_string());
        let name = |host: usize| self.hosts[host].plan.name.clone();
        let Some(primary) = &self.hosts[0].node else {
            return Some((name(0), vec![fact("server", &"not running")]));
        };
        let shmem = primary.view().shmem();
        if primary.view().postmaster_state() != Some(PmState::Run) {
            let state = format!("{:?}", primary.view().postmaster_state());
            return Some((name(0), vec![fact("postmaster", &state)]));
        }
        let geometry = &self.hosts[0].plan.settings.geometry;
        let insert = bytepos_to_end(geometry, shmem.xlog.curr_byte_pos);
        let flush = shmem.xlog.flush;
        if flush < insert {
            return Some((
                name(0),
                vec![fact("insert", &insert), fact("flush", &flush)],
            ));
        }
        if !self.clients.are_idle() {
            return Some((name(0), vec![fact("sessions", &"still busy")]));
        }
        (1..self.hosts.len()).find_map(|host| {
            let Some(node) = &self.hosts[host].node else {
                return Some((name(host), vec![fact("server", &"not running")]));
            };
            let theirs = node.view().shmem();
            let replayed = theirs.recovery.last_replayed_end;
            let followed = shmem
                .walsnd
                .iter()
                .filter(|s| s.state == WalSndState::Streaming);
            let upstream = self.hosts[host].plan.settings.primary_conninfo.as_ref();
            let direct = upstream.is_some_and(|(to, _)| *to == self.hosts[0].plan.name);
            let peers = followed.filter(|s| s.sent == flush).count();
            let streams = theirs.walrcv.is_streaming() && (!direct || peers > 0);
            let open = node.view().postmaster_state() == Some(PmState::HotStandby);
            if replayed == flush && streams && open || self.excuse(host).is_some() {
                return None;
            }
            if late && self.reads_stale_wal(host) {
                return None;
            }
            let facts = vec![
                fact("flush of the primary", &flush),
                fact("replayed", &replayed),
                fact("received and flushed", &theirs.walrcv.flushed_upto),
                fact("walreceiver", &format!("{:?}", theirs.walrcv.state)),
                fact(
                    "postmaster",
                    &format!("{:?}", node.view().postmaster_state()),
                ),
                fact("walsenders that have sent everything", &peers),
                fact("min recovery point", &theirs.control.min_recovery_point),
            ];
            Some((name(host), facts))
        })
    }

    /// A shutdown that was asked for in a crash restart waits for a checkpointer that nobody has told to end:
    /// docs/hazards/shutdown-in-crash-restart.md.
    fn hangs_in_shutdown(&self, host: usize) -> bool {
        let Some(node) = &self.hosts[host].node else {
            return false;
        };
        let view = node.view();
        let left = |process: ProcessView| {
            let idle = process.at == Place::CheckpointerMain;
            process.role == Role::Postmaster || process.role == Role::Checkpointer && idle
        };
        view.postmaster_state() == Some(PmState::WaitBackends) && view.processes().all(left)
    }

    /// Since 16 a server passes over the crash of a child that it reaps before it has heard that crash recovery replays, and goes on
    /// with shared memory in which the dead hold locks: docs/hazards/crash-ignored.md.
    fn lives_on_after_a_crash(&self, host: usize) -> bool {
        let Some(node) = &self.hosts[host].node else {
            return false;
        };
        let view = node.view();
        let settings = &view.shmem().settings;
        let is_dead = |pid| view.process(pid).is_none();
        settings.pg_version >= PgVersion::V16
            && view.postmaster_state() == Some(PmState::Run)
            && view.shmem().locks.holders().any(is_dead)
    }

    /// Does the next record begin in a segment that counts as received and yet does not hold what the primary wrote?
    /// docs/hazards/stale-first-half-of-a-record.md tells why no retry mends that. Wrong bytes that a walreceiver wrote
    /// are PREFIX's business, and were reported when they were written.
    fn reads_stale_wal(&self, host: usize) -> bool {
        let Some(node) = &self.hosts[host].node else {
            return false;
        };
        let geometry = &self.hosts[host].plan.settings.geometry;
        let shmem = node.view().shmem();
        let from = shmem.recovery.last_replayed_end;
        let segment = geometry.segment_of(from);
        let offset = u64::from(geometry.segment_offset(from));
        let rest = u64::from(geometry.segment) - offset;
        let path = segment_path(geometry, shmem.walrcv.received_tli, segment);
        let bytes = |host: usize| self.hosts[host].disk.read_cached(&path, offset, rest);
        shmem.walrcv.flushed_upto > from + rest && bytes(host) != bytes(0)
    }
}
