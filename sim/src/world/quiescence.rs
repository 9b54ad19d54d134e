//! The end of a run, called the quiescent phase. All faults are healed, no new work is started, and
//! all nodes must converge within a bound. The operator repairs each standby that cannot catch up
//! for a legal reason (an excuse). Then the repaired standby must converge too.

use super::excuses::{Excuse, Witness};
use super::{Event, Verdict, Violation, World};
use crate::plan::Fault;
use crate::referee::{Evidence, Fact};
use std::collections::BTreeMap;
use walsim_core::base::Mono;
use walsim_core::node::{Node, PmState};
use walsim_core::shmem::WalSndState;
use walsim_core::wal::position::bytepos_to_end;

/// The interval between two checks of convergence.
const LOOK_US: u64 = 50_000;

/// The state of a standby's postmaster when recovery is consistent. Without `hot_standby` the
/// standby never accepts sessions.
const fn open_standby(node: &Node) -> PmState {
    if node.view().shmem().settings.hot_standby {
        PmState::HotStandby
    } else {
        PmState::Recovery
    }
}

/// The state of the quiescent phase.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Quiescence {
    since: Mono,
    bound: Mono,
    /// How often the operator has repaired each standby.
    helps: BTreeMap<(usize, Excuse), u32>,
    /// The cluster has converged once, and one more record was written. The next convergence ends
    /// the run.
    wrote: bool,
}

impl World {
    pub(super) fn begin_quiescence(&mut self) {
        self.emit(None, "faults and workload stop");
        self.forget_unmet_fsync_errors();
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
            helps: BTreeMap::new(),
            wrote: false,
        });
        let nodes = self.hosts.iter().filter_map(|host| host.at_end(self.now));
        let ruling = self.referee.at_quiescence(&nodes.collect::<Vec<_>>());
        self.judge(ruling);
        self.at(self.now.after_us(LOOK_US), Event::Look);
    }

    /// How long convergence may take. The limit is the sum of three times the slowest timer, the
    /// time to transfer all WAL, and the time by which clocks were set back.
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
            // Without a timeout a connection is lost only when keepalive says so.
            let keepalive_ms = self.plan.network.keepalive_us / 1000;
            u64::from(longest)
                + u64::from(settings.wal_retrieve_retry_interval_ms)
                + keepalive_ms.max(10_000)
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

    /// Restarts the time limit for convergence after a repair or a new record. Earlier reports of
    /// standbys no longer count.
    pub(super) fn judge_again(&mut self) {
        self.witnesses.fill(Witness::default());
        let (since, bound) = (self.now, self.now.after_us(self.bound_us()));
        if let Some(quiescence) = &mut self.quiescence {
            quiescence.since = since;
            quiescence.bound = bound;
        }
    }

    /// Counts a repair of a standby by the operator.
    pub(super) fn note_help(&mut self, host: usize, excuse: Excuse) {
        if let Some(quiescence) = &mut self.quiescence {
            *quiescence.helps.entry((host, excuse)).or_default() += 1;
        }
    }

    /// Whether the operator can still repair this standby. No repair follows a rebuild.
    pub(super) fn can_still_help(&self, host: usize, excuse: Excuse) -> bool {
        let helps = |excuse| {
            let quiescence = self.quiescence.as_ref();
            let helps = quiescence.and_then(|it| it.helps.get(&(host, excuse)));
            helps.copied().unwrap_or(0)
        };
        let is_about_wal = match excuse {
            Excuse::SlotDropped | Excuse::SlotInvalidated | Excuse::WalRemoved => true,
            Excuse::SlotKept
            | Excuse::StaleWal
            | Excuse::AheadOfFlush
            | Excuse::ShutdownInCrashRestart
            | Excuse::CrashPassedOver
            | Excuse::FsyncInCrashRecovery
            | Excuse::SegmentRenamedNotSynced
            | Excuse::SegmentNameNotDurable
            | Excuse::SlotFileBehindMemory => false,
        };
        helps(excuse) < excuse.most_helps() && !(is_about_wal && helps(Excuse::WalRemoved) > 0)
    }

    pub(super) fn look(&mut self) {
        let Some(quiescence) = &self.quiescence else {
            return;
        };
        let (since, bound, wrote) = (quiescence.since, quiescence.bound, quiescence.wrote);
        self.end_hung_servers();
        let laggard = if self.goes_on_rebuilding() {
            let fact = Fact::new("operator", &"waits for it to stop");
            let up = (0..self.hosts.len()).find(|host| self.hosts[*host].node.is_some());
            Some((self.hosts[up.unwrap_or(0)].plan.name.clone(), vec![fact]))
        } else {
            self.lagging()
        };
        if let Some((node, facts)) = laggard {
            if self.now < bound {
                self.at(self.now.after_us(LOOK_US), Event::Look);
                return;
            }
            let waited = self.now - since;
            self.violated(Violation {
                code: "LIVE",
                node,
                process: None,
                at: self.now,
                message: format!(
                    "no convergence within {} ms after faults and workload stopped",
                    waited / 1000
                ),
                facts,
            });
            return;
        }
        let excused = (1..self.hosts.len()).filter(|host| !self.has_converged(*host));
        let excused: Vec<_> = excused
            .filter_map(|host| Some((host, self.excuse(host)?)))
            .collect();
        if !excused.is_empty() {
            self.help(&excused);
        } else if wrote {
            self.last_look();
            return;
        } else {
            self.prove_it();
        }
        self.at(self.now.after_us(LOOK_US), Event::Look);
    }

    /// Called when all nodes have converged. Writes one more record that all standbys must replay.
    /// Without this record, a standby that is stuck could have stopped at exactly the position of
    /// the primary, and no check would notice.
    fn prove_it(&mut self) {
        if let Some(quiescence) = &mut self.quiescence {
            quiescence.wrote = true;
        }
        self.write_a_record();
        self.judge_again();
    }

    fn last_look(&mut self) {
        let nodes = (0..self.hosts.len()).filter_map(|host| self.hosts[host].at_end(self.now));
        match self.referee.at_end(&nodes.collect::<Vec<_>>()) {
            Ok(()) => self.verdict = Some(Verdict::Pass),
            Err(violation) => self.violated(violation),
        }
    }

    /// Whether this standby streams, and has replayed all WAL that the primary has flushed.
    fn has_converged(&self, host: usize) -> bool {
        let (Some(primary), Some(node)) = (&self.hosts[0].node, &self.hosts[host].node) else {
            return false;
        };
        let (primary, ours) = (primary.view().shmem(), node.view().shmem());
        let flush = primary.xlog.flush;
        ours.recovery.last_replayed_end == flush
            && ours.walrcv.is_streaming()
            && (self.upstream(host) != Some(0) || self.has_sent_everything(host))
            && node.view().postmaster_state() == Some(open_standby(node))
    }

    /// Whether the primary's walsender for this standby has sent all WAL that the primary has
    /// flushed.
    fn has_sent_everything(&self, host: usize) -> bool {
        let Some(primary) = &self.hosts[0].node else {
            return false;
        };
        let shmem = primary.view().shmem();
        let mut senders = shmem.walsnd.iter();
        senders.any(|sender| {
            let peer = sender
                .conn
                .and_then(|conn| self.net.peer(self.hosts[0].index, conn));
            sender.state == WalSndState::Streaming
                && sender.sent == shmem.xlog.flush
                && peer.is_some_and(|(peer, _)| peer == self.hosts[host].index)
        })
    }

    /// The first node that has not converged and has no legal reason for this, with facts about the
    /// node.
    fn lagging(&self) -> Option<(String, Vec<Fact>)> {
        let fact = |what: &str, value: &dyn Evidence| Fact::new(what, value);
        let name = |host: usize| self.hosts[host].plan.name.clone();
        let Some(primary) = &self.hosts[0].node else {
            return Some((name(0), vec![fact("server", &"not running")]));
        };
        let shmem = primary.view().shmem();
        if primary.view().postmaster_state() != Some(PmState::Run) {
            let state = primary.view().postmaster_state().unwrap_or(PmState::Init);
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
            if self.has_converged(host) || self.excuse(host).is_some() {
                return None;
            }
            let theirs = node.view().shmem();
            let postmaster = node.view().postmaster_state().unwrap_or(PmState::Init);
            let mut facts = vec![
                fact("flush of the primary", &flush),
                fact("replayed", &theirs.recovery.last_replayed_end),
                fact("received and flushed", &theirs.walrcv.flushed_upto),
                fact("walreceiver", &theirs.walrcv.state),
                fact("postmaster", &postmaster),
                fact("min recovery point", &theirs.control.min_recovery_point),
            ];
            let refused = self.witnesses[host].fact();
            facts.extend(refused.map(|refused| fact("refused", &refused)));
            Some((name(host), facts))
        })
    }
}
