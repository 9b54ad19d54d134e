//! MONO: what may only grow. How far a standby has received, what its control file asks recovery for, from where it
//! begins, and where slots are found after a restart.

use super::retain::Saved;
use super::slot_changes::SlotChange;
use super::{Scene, Site, control_file};
use crate::disk::Disk;
use crate::world::Violation;
use std::fmt::Display;
use walsim_core::base::{Lsn, PgVersion, TimelineId};
use walsim_core::node::PmState;
use walsim_core::shmem::{Role, Slot, WalRcv};
use walsim_core::wire::control_file::{ControlFile, DbState};

const CODE: &str = "MONO";

/// Where each node stands.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Mono {
    nodes: Vec<Node>,
}

#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Node {
    received: Received,
    control: Option<Control>,
    /// What every slot's file has been able to tell since the last checkpoint. A slot that was put back since then may be
    /// there when the server starts again.
    saved: Saved,
    /// Slots are as a start found them, and not looked at yet.
    fresh: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
struct Received {
    upto: Lsn,
    /// A walreceiver was asked for.
    asked: bool,
    tli: TimelineId,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Control {
    recovering: bool,
    min_recovery_point: Lsn,
    redo: Lsn,
}

impl Mono {
    pub(super) fn new(nodes: usize) -> Self {
        let node = Node {
            fresh: true,
            ..Node::default()
        };
        Self {
            nodes: vec![node; nodes],
        }
    }

    /// A server is gone with its shared memory.
    pub(super) fn forget(&mut self, host: usize) {
        self.nodes[host].received = Received::default();
        self.nodes[host].fresh = true;
    }

    pub(super) fn after_step(
        &mut self,
        scene: &Scene<'_>,
        change: SlotChange,
    ) -> Result<(), Violation> {
        let node = &mut self.nodes[scene.host];
        let shmem = scene.view.shmem();
        match scene.ran {
            Some((_, Role::Startup | Role::WalReceiver)) => {
                node.received.follow(scene.site(), &shmem.walrcv)
            }
            Some((_, Role::Postmaster)) => {
                let state = scene.view.postmaster_state();
                match state {
                    Some(PmState::Run | PmState::HotStandby) if node.fresh => {
                        node.fresh = false;
                        node.restarted(scene.site(), &shmem.slots.slots)
                    }
                    Some(PmState::Init | PmState::Startup | PmState::Recovery) => {
                        node.fresh = true;
                        Ok(())
                    }
                    Some(_) | None => Ok(()),
                }
            }
            Some((_, Role::Backend | Role::WalSender | Role::Checkpointer)) => {
                if change.any {
                    node.follow(&shmem.slots.slots);
                }
                Ok(())
            }
            Some((_, Role::WalWriter)) | None => Ok(()),
        }
    }

    /// A checkpoint has ended: this is in every slot's file.
    pub(super) fn saved(&mut self, host: usize, saved: Saved) {
        self.nodes[host].saved = saved;
    }

    /// The control file may have changed on the platter.
    pub(super) fn control(
        &mut self,
        site: Site<'_>,
        host: usize,
        disk: &Disk,
        version: PgVersion,
    ) -> Result<(), Violation> {
        let Some(control) = control_file::on_platter(disk, version) else {
            return Ok(());
        };
        let now = Control::of(&control);
        match self.nodes[host].control.replace(now) {
            Some(before) => now.after(site, before),
            None => Ok(()),
        }
    }
}

impl Node {
    /// While a server runs: slots go, and may be put back by a standby that reports less.
    fn follow(&mut self, slots: &[Slot]) {
        if self.fresh || self.saved.is_empty() {
            return;
        }
        self.saved.retain(|name, least| {
            let named = |slot: &&Slot| slot.in_use && slot.name == *name;
            let slot = slots.iter().find(named);
            let slot = slot.filter(|slot| slot.invalidated.is_none());
            *least = slot.map_or(Lsn::INVALID, |slot| slot.restart_lsn.min(*least));
            least.is_valid()
        });
    }

    /// A server has come up. A slot that is not there was being dropped.
    fn restarted(&self, site: Site<'_>, slots: &[Slot]) -> Result<(), Violation> {
        for slot in slots.iter().filter(|slot| slot.in_use) {
            let Some(saved) = self.saved.get(&slot.name) else {
                continue;
            };
            if slot.restart_lsn < *saved && slot.invalidated.is_none() {
                let message = "a restart has put a slot back behind the last checkpoint";
                let facts: [(&str, &dyn Display); 3] = [
                    ("slot", &slot.name),
                    ("restart_lsn", &slot.restart_lsn),
                    ("saved by the checkpoint", saved),
                ];
                return Err(site.violation(CODE, message, &facts));
            }
        }
        Ok(())
    }
}

impl Received {
    /// `flushedUpto` begins anew with the first walreceiver of a server and with another timeline.
    fn follow(&mut self, site: Site<'_>, walrcv: &WalRcv) -> Result<(), Violation> {
        let now = Self {
            upto: walrcv.flushed_upto,
            asked: walrcv.receive_start.is_valid(),
            tli: walrcv.received_tli,
        };
        let before = core::mem::replace(self, now);
        let continues = before.asked && now.asked && before.tli == now.tli;
        if !continues || before.upto <= now.upto {
            return Ok(());
        }
        let message = "a standby has received less than before";
        let facts: [(&str, &dyn Display); 2] = [("before", &before.upto), ("now", &now.upto)];
        Err(site.violation(CODE, message, &facts))
    }
}

impl Control {
    fn of(file: &ControlFile) -> Self {
        let recovering = matches!(
            file.state,
            DbState::InArchiveRecovery | DbState::ShutDownInRecovery
        );
        Self {
            recovering,
            min_recovery_point: file.min_recovery_point,
            redo: file.checkpoint_copy.redo,
        }
    }

    fn after(self, site: Site<'_>, before: Self) -> Result<(), Violation> {
        let recovers = self.recovering && before.recovering;
        let (message, was, is) = if self.redo < before.redo {
            let message = "the redo point in the control file goes back";
            (message, before.redo, self.redo)
        } else if recovers && self.min_recovery_point < before.min_recovery_point {
            let message = "the minimum recovery point goes back during recovery";
            (message, before.min_recovery_point, self.min_recovery_point)
        } else {
            return Ok(());
        };
        Err(site.violation(CODE, message, &[("before", &was), ("now", &is)]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::SITE;
    use super::*;
    use std::collections::BTreeMap;

    fn slot(restart_lsn: u64) -> Slot {
        Slot {
            in_use: true,
            name: "s".into(),
            restart_lsn: Lsn(restart_lsn),
            ..Slot::default()
        }
    }

    fn node(saved: u64) -> Node {
        Node {
            saved: BTreeMap::from([("s".into(), Lsn(saved))]),
            ..Node::default()
        }
    }

    #[test]
    fn a_slot_is_found_where_the_last_checkpoint_saved_it() {
        let found = |restart_lsn| node(50).restarted(SITE, &[slot(restart_lsn)]);
        assert_eq!(found(50), Ok(()));
        assert_eq!(found(60), Ok(()));
        assert_eq!(found(49).expect_err("it bites").code, CODE);
        assert_eq!(
            node(50).restarted(SITE, &[]),
            Ok(()),
            "it was being dropped"
        );
        let other = Slot {
            name: "t".into(),
            ..slot(1)
        };
        assert_eq!(node(50).restarted(SITE, &[other]), Ok(()));
    }

    #[test]
    fn a_standby_may_put_a_slot_back_and_a_restart_may_not() {
        let mut node = node(50);
        node.follow(&[slot(70)]);
        node.follow(&[slot(40)]);
        node.follow(&[slot(70)]);
        assert_eq!(node.restarted(SITE, &[slot(40)]), Ok(()));
        assert!(node.restarted(SITE, &[slot(39)]).is_err());
        node.fresh = true;
        node.follow(&[slot(39)]);
        assert!(node.restarted(SITE, &[slot(39)]).is_err());
        node.fresh = false;
        node.follow(&[]);
        assert_eq!(node.restarted(SITE, &[slot(1)]), Ok(()), "another slot");
    }

    #[test]
    fn what_was_received_only_grows_within_one_chain() {
        let walrcv = |upto, start, tli| WalRcv {
            flushed_upto: Lsn(upto),
            receive_start: Lsn(start),
            received_tli: TimelineId(tli),
            ..WalRcv::default()
        };
        for (before, now, grows, why) in [
            ((50, 10, 1), (60, 10, 1), true, "more was received"),
            ((50, 10, 1), (50, 40, 1), true, "another walreceiver"),
            ((50, 10, 1), (49, 40, 1), false, "which forgets"),
            ((50, 10, 1), (40, 40, 2), true, "another timeline"),
            ((50, 10, 1), (0, 0, 0), true, "another server run"),
        ] {
            let mut received = Received::default();
            let (start, tli) = (before.1, before.2);
            assert_eq!(received.follow(SITE, &walrcv(before.0, start, tli)), Ok(()));
            let outcome = received.follow(SITE, &walrcv(now.0, now.1, now.2));
            assert_eq!(outcome.is_ok(), grows, "{why}");
        }
    }

    #[test]
    fn the_control_file_goes_forward() {
        let control = |recovering, min, redo| Control {
            recovering,
            min_recovery_point: Lsn(min),
            redo: Lsn(redo),
        };
        for (before, now, forward, why) in [
            (
                control(true, 5, 5),
                control(true, 5, 6),
                true,
                "a restartpoint",
            ),
            (
                control(true, 5, 5),
                control(true, 4, 5),
                false,
                "the minimum goes back",
            ),
            (
                control(true, 5, 5),
                control(false, 0, 7),
                true,
                "recovery has ended",
            ),
            (
                control(false, 0, 5),
                control(false, 0, 4),
                false,
                "redo goes back",
            ),
            (
                control(false, 0, 5),
                control(true, 5, 5),
                true,
                "recovery begins",
            ),
        ] {
            assert_eq!(now.after(SITE, before).is_ok(), forward, "{why}");
        }
    }
}
