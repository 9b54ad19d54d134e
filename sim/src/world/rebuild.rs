//! The operator's repairs of standbys after faults and workload have stopped. Only a standby that
//! cannot catch up by itself for a legal reason is repaired. The operator recreates the slot,
//! writes a record, restarts the standby, or rebuilds the standby from a cold copy of its upstream.

use super::excuses::Excuse;
use super::{Event, World};
use crate::disk::Content;
use crate::plan::ShutdownMode;
use walsim_core::base::Mono;
use walsim_core::node::STANDBY_SIGNAL;
use walsim_core::wire::sql::{SlotStatement, Statement};

/// How long the operator leaves a server stopped before starting it.
const OFF_US: u64 = 100_000;

/// The standbys that are being rebuilt.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Rebuild {
    upstream: usize,
    standbys: Vec<usize>,
    stage: Stage,
}

/// The stages of a rebuild.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Stage {
    /// The standbys and their upstream are stopping.
    Stopping,
    /// The disks were copied, and the upstream is starting.
    Copied,
    /// The slots of the standbys are being recreated.
    Slots,
}

impl World {
    /// Repairs the standbys that cannot catch up by themselves. The operator rebuilds standbys only
    /// if no other repair is pending, because a rebuild stops the upstream.
    pub(super) fn help(&mut self, excused: &[(usize, Excuse)]) {
        let is_rebuild = |excuse: Excuse| excuse == Excuse::WalRemoved;
        let others = excused.iter().any(|(_, excuse)| !is_rebuild(*excuse));
        let mut rebuild = None;
        for (host, excuse) in excused.iter().copied() {
            if others && is_rebuild(excuse) {
                continue;
            }
            let Some(upstream) = self.upstream(host) else {
                continue;
            };
            self.excuses.add(excuse);
            self.note_help(host, excuse);
            let name = excuse.name();
            self.emit(Some(host), format!("cannot catch up by itself: {name}"));
            let slot = self.hosts[host].plan.settings.primary_slot_name.clone();
            match excuse {
                Excuse::SlotDropped => self.make_slot(upstream, slot),
                Excuse::SlotInvalidated => {
                    let drop = SlotStatement::Drop(slot.clone());
                    self.ask(upstream, Statement::Slot(drop));
                    self.make_slot(upstream, slot);
                }
                Excuse::WalRemoved => {
                    let rebuild = rebuild.get_or_insert(Rebuild {
                        upstream,
                        standbys: Vec::new(),
                        stage: Stage::Stopping,
                    });
                    if rebuild.upstream == upstream {
                        rebuild.standbys.push(host);
                    }
                }
                Excuse::StaleWal => self.restart(host, self.now.after_us(OFF_US)),
                // The restart ends the checkpointer that owns the slot.
                Excuse::SlotKept => self.restart(upstream, self.now.after_us(OFF_US)),
                Excuse::AheadOfFlush => self.write_a_record(),
                Excuse::ShutdownInCrashRestart
                | Excuse::CrashPassedOver
                | Excuse::FsyncInCrashRecovery
                | Excuse::SegmentRenamedNotSynced
                | Excuse::SegmentNameNotDurable
                | Excuse::SlotFileBehindMemory => {
                    unreachable!("no reason to stay behind")
                }
            }
        }
        if let Some(rebuild) = rebuild {
            for host in rebuild.standbys.iter().chain([&rebuild.upstream]) {
                self.restart(*host, Mono(u64::MAX));
            }
            self.rebuild = Some(rebuild);
        }
        self.judge_again();
    }

    /// Runs a transaction on the primary that writes only WAL.
    pub(super) fn write_a_record(&mut self) {
        let statement = Statement::EmitMessage {
            transactional: true,
            prefix: String::from("walsim"),
            content: bytes::Bytes::from_static(b"quiescence"),
        };
        self.ask(0, statement);
    }

    fn make_slot(&mut self, host: usize, name: String) {
        let (reserve_wal, temporary) = (true, false);
        let statement = SlotStatement::Create {
            name,
            reserve_wal,
            temporary,
        };
        self.ask(host, Statement::Slot(statement));
    }

    fn restart(&mut self, host: usize, at: Mono) {
        self.hosts[host].boots_at = Some(at);
        self.shut_down(host, ShutdownMode::Fast);
    }

    /// Enters the next stage of the rebuild if the current stage is complete. Returns whether a
    /// rebuild was in progress.
    pub(super) fn goes_on_rebuilding(&mut self) -> bool {
        let Some(mut rebuild) = self.rebuild.take() else {
            return false;
        };
        let is_up = |host: &usize| self.hosts[*host].node.is_some();
        match rebuild.stage {
            Stage::Stopping => {
                if !is_up(&rebuild.upstream) && !rebuild.standbys.iter().any(is_up) {
                    for host in &rebuild.standbys {
                        self.copy(*host, rebuild.upstream);
                    }
                    self.start(rebuild.upstream);
                    rebuild.stage = Stage::Copied;
                }
            }
            Stage::Copied => {
                if is_up(&rebuild.upstream) && self.hosts[rebuild.upstream].ready {
                    for host in &rebuild.standbys {
                        self.renew_slot(*host, rebuild.upstream);
                    }
                    rebuild.stage = Stage::Slots;
                }
            }
            Stage::Slots => {
                if self.clients.are_idle() {
                    for host in rebuild.standbys {
                        self.start(host);
                    }
                    self.judge_again();
                    return true;
                }
            }
        }
        self.rebuild = Some(rebuild);
        true
    }

    /// Replaces the standby's disk by a copy of the upstream's disk, without the slots.
    fn copy(&mut self, host: usize, upstream: usize) {
        let source = &self.hosts[upstream].disk;
        let capacity = self.hosts[host].disk.space().1.max(2 * source.space().0);
        let mut disk = source.copy_without(self.hosts[host].index, capacity, "pg_replslot");
        disk.set_up_file(STANDBY_SIGNAL, Content::new(&[]));
        self.hosts[host].disk = disk;
        self.referee.rebuilt(host, upstream);
        self.emit(Some(host), "rebuilt from a cold copy of its upstream");
    }

    /// Recreates the slot of a rebuilt standby. The old slot may be far behind the copy, and could
    /// exceed `max_slot_wal_keep_size` when the standby returns.
    fn renew_slot(&mut self, host: usize, upstream: usize) {
        let name = self.hosts[host].plan.settings.primary_slot_name.clone();
        let Some(node) = self.hosts[upstream]
            .node
            .as_ref()
            .filter(|_| !name.is_empty())
        else {
            return;
        };
        if node.view().shmem().slots.find(&name).is_some() {
            let drop = SlotStatement::Drop(name.clone());
            self.ask(upstream, Statement::Slot(drop));
        }
        self.make_slot(upstream, name);
    }

    fn start(&mut self, host: usize) {
        let at = self.now.after_us(OFF_US);
        self.hosts[host].boots_at = Some(at);
        self.at(at, Event::Boot(host));
    }
}
