//! MONO: what may only grow. How far a standby has received, what its control file asks recovery
//! for, from where it begins, and where slots are found after a restart.

use crate::referee::{
    About, Change, ChangeKind, Check, DiskEvent, DiskKind, FileClass, Knowledge, PerNode, Promise,
    Received, Ruling, Saved, ServerAct, ServerEvent, ServerKind, Site, Step, Subscription,
};
use std::fmt::Display;
use walsim_core::base::Lsn;
use walsim_core::shmem::Slot;
use walsim_core::wire::control_file::{ControlFile, DbState};

const ABOUT: About = About {
    code: "MONO",
    promise: Promise::Safety,
    statement: "Positions that must not go back do not go back.",
    details: "The redo point in the control file; the minimum recovery point there during recovery; what a standby has\n\
              received and flushed, from the first walreceiver of a server on; and where a start finds a slot,\n\
              compared with where the slot was when the last completed checkpoint began. A standby may report less\n\
              than before, and take its slot back with it.",
    source: "flushedUpto grows within one chain of walreceivers: XLogWalRcvFlush, RequestXLogStreaming (walreceiverfuncs.c);\n\
             the control file goes forward: UpdateControlFile, UpdateMinRecoveryPoint (xlog.c); slots are where the last\n\
             checkpoint saved them: RestoreSlotFromDisk (slot.c)",
};

const SUBSCRIPTIONS: [Subscription; 4] = [
    Subscription::Change(ChangeKind::Received),
    Subscription::Server(ServerKind::Open),
    Subscription::Server(ServerKind::Boot),
    Subscription::Disk(DiskKind::Sync, FileClass::Control),
];

/// The control file of each node as it was.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Mono {
    controls: PerNode<Option<Control>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Control {
    recovering: bool,
    min_recovery_point: Lsn,
    redo: Lsn,
}

impl Check for Mono {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn after_change(&mut self, change: Change<'_>, step: &Step<'_>, _: &Knowledge) -> Ruling {
        let Change::Received(before, now) = change else {
            return Ok(());
        };
        received(step.site, before, now)
    }

    fn on_server(&mut self, event: &ServerEvent<'_>, known: &Knowledge) -> Ruling {
        match (event.act, event.view) {
            (ServerAct::Booted, _) => self.control(event.site, known),
            (ServerAct::Opened(_), Some(view)) => {
                let slots = &view.shmem().slots.slots;
                restarted(event.site, slots, known.saved(event.site.host))
            }
            _ => Ok(()),
        }
    }

    fn on_disk(&mut self, event: &DiskEvent<'_>, known: &Knowledge) -> Ruling {
        self.control(event.site, known)
    }
}

impl Mono {
    /// The control file may have changed on the platter.
    fn control(&mut self, site: Site<'_>, known: &Knowledge) -> Ruling {
        let Some(control) = known.control(site.host) else {
            return Ok(());
        };
        let now = Control::of(control);
        match self.controls.of(site.host).replace(now) {
            Some(before) => now.after(site, before),
            None => Ok(()),
        }
    }
}

/// A server has come up. A slot that is not there was being dropped.
fn restarted(site: Site<'_>, slots: &[Slot], saved: &Saved) -> Ruling {
    for slot in slots.iter().filter(|slot| slot.in_use) {
        let Some(saved) = saved.get(&slot.name) else {
            continue;
        };
        if slot.restart_lsn < *saved && slot.invalidated.is_none() {
            let message = "a restart set a slot back to a position before the last checkpoint";
            let facts: [(&str, &dyn Display); 3] = [
                ("slot", &slot.name),
                ("restart_lsn", &slot.restart_lsn),
                ("saved by the checkpoint", saved),
            ];
            return Err(site.violation(ABOUT.code, message, &facts));
        }
    }
    Ok(())
}

/// `flushedUpto` begins anew with the first walreceiver of a server and with another timeline.
fn received(site: Site<'_>, before: Received, now: Received) -> Ruling {
    let continues = before.asked && now.asked && before.tli == now.tli;
    if !continues || before.upto <= now.upto {
        return Ok(());
    }
    let message = "a standby has received less than before";
    let facts: [(&str, &dyn Display); 2] = [("before", &before.upto), ("now", &now.upto)];
    Err(site.violation(ABOUT.code, message, &facts))
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

    fn after(self, site: Site<'_>, before: Self) -> Ruling {
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
        Err(site.violation(ABOUT.code, message, &[("before", &was), ("now", &is)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::SITE;
    use walsim_core::base::TimelineId;

    #[test]
    fn a_slot_is_found_where_the_last_checkpoint_saved_it() {
        let slot = |name: &str, restart_lsn| Slot {
            in_use: true,
            name: name.into(),
            restart_lsn: Lsn(restart_lsn),
            ..Slot::default()
        };
        let saved = Saved::from([("s".into(), Lsn(50))]);
        let found = |slots: &[Slot]| restarted(SITE, slots, &saved);
        assert_eq!(found(&[slot("s", 50)]), Ok(()));
        assert_eq!(found(&[slot("s", 60)]), Ok(()));
        assert_eq!(found(&[slot("s", 49)]).expect_err("it bites").code, "MONO");
        assert_eq!(found(&[]), Ok(()), "it was being dropped");
        assert_eq!(found(&[slot("t", 1)]), Ok(()), "another slot");
    }

    #[test]
    fn what_was_received_only_grows_within_one_chain() {
        let at = |(upto, asked, tli)| Received {
            upto: Lsn(upto),
            asked,
            tli: TimelineId(tli),
        };
        let before = (50, true, 1);
        for (now, grows, why) in [
            ((60, true, 1), true, "more was received"),
            ((50, true, 1), true, "another walreceiver"),
            ((49, true, 1), false, "which forgets"),
            ((40, true, 2), true, "another timeline"),
            ((0, false, 0), true, "another server run"),
        ] {
            assert_eq!(received(SITE, at(before), at(now)).is_ok(), grows, "{why}");
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
