//! MONO: some positions must not go back. These are the received position of a standby, and the
//! minimum recovery point and the redo point in the control file.

use crate::referee::{
    About, Change, ChangeKind, Check, DiskEvent, DiskKind, Evidence, FileClass, Knowledge, PerNode,
    Promise, Received, Ruling, Site, Step, Subscription,
};
use walsim_core::base::Lsn;
use walsim_core::shmem::Role;
use walsim_core::wire::control_file::{ControlFile, DbState};

const ABOUT: About = About {
    code: "MONO",
    promise: Promise::Safety,
    statement: "The redo point, the minimum recovery point, and the received position of a \
              standby do not go back.",
    details: "The redo point in the durable pg_control must not decrease. During archive \
              recovery, the minimum recovery point in the durable pg_control must not decrease \
              either. A walreceiver must not decrease flushedUpto, the end of the WAL that the \
              standby has received.",
    notes: &[
        "The startup process may lower the received position when it requests WAL again.",
        "A standby may report a lower flush position than before. Its slot then goes back too.",
    ],
    source: "A walreceiver only advances flushedUpto: XLogWalRcvFlush (walreceiver.c). Only the \
              startup process may lower it: RequestXLogStreaming (walreceiverfuncs.c). \
              UpdateMinRecoveryPoint (xlog.c) only advances the minimum recovery point",
};

const SUBSCRIPTIONS: [Subscription; 2] = [
    Subscription::Change(ChangeKind::Received),
    Subscription::Disk(DiskKind::Sync, FileClass::Control),
];

/// For each node, its control file when the check last read it.
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
        let asks = matches!(step.ran, Some((_, Role::Startup)));
        received(step.site, asks, before, now)
    }

    fn on_disk(&mut self, event: &DiskEvent<'_>, known: &Knowledge) -> Ruling {
        self.control(event.site, known)
    }
}

impl Mono {
    /// Compares the control file that would survive a power loss with its previous version.
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

/// Checks that a walreceiver does not set `flushedUpto` back. The position may be lower in two
/// cases: with the first walreceiver after a start of the server, and on another timeline. The
/// check allows the startup process to set the position back when it requests WAL
/// (RequestXLogStreaming), although PostgreSQL never does so.
fn received(site: Site<'_>, asks: bool, before: Received, now: Received) -> Ruling {
    let continues = before.asked && now.asked && before.tli == now.tli;
    if asks || !continues || before.upto <= now.upto {
        return Ok(());
    }
    let message = "the received position of a standby went back";
    let facts: [(&str, &dyn Evidence); 2] = [("before", &before.upto), ("now", &now.upto)];
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
            let message = "the redo point in the control file went back";
            (message, before.redo, self.redo)
        } else if recovers && self.min_recovery_point < before.min_recovery_point {
            let message = "the minimum recovery point went back during recovery";
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
            let ruling = received(SITE, false, at(before), at(now));
            assert_eq!(ruling.is_ok(), grows, "{why}");
            let ruling = received(SITE, true, at(before), at(now));
            assert_eq!(ruling, Ok(()), "WAL may be asked for again: {why}");
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
