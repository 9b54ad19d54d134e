//! MOVES: the position of a slot in shared memory changes only for reasons that PostgreSQL has.

use crate::referee::{
    About, Change, ChangeKind, Check, Knowledge, Promise, Ruling, Site, SlotEntry, SlotStep, Step,
    Subscription, Value, Violation,
};
use walsim_core::base::{Lsn, PgVersion, Pid};
use walsim_core::shmem::{Role, Shmem, Slot, WalSndState};
use walsim_core::wire::slot_file::{FILE_LEN, SlotFile};
use walsim_core::wire::sql::SlotStatement;

const ABOUT: About = About {
    code: "MOVES",
    promise: Promise::Safety,
    statement: "A slot's restart_lsn changes only at a status message, \
              pg_replication_slot_advance, the reservation of WAL, invalidation, or a server \
              start.",
    details: "When a walsender has processed a status message, the restart_lsn of its slot must \
              equal the flush position in the message. Otherwise restart_lsn may change only in \
              four cases: pg_replication_slot_advance, the reservation of WAL, invalidation, and \
              the restoring of slots at a server start.",
    notes: &[
        "A status message sets restart_lsn to the reported flush position, even if this position \
         is lower than before. A reported position of 0 changes nothing.",
        "pg_replication_slot_advance may move restart_lsn forward, but not past its argument. On a \
         primary it must not move restart_lsn past the flushed WAL, and on a standby not past the \
         replayed WAL.",
        "Reserving WAL for a slot changes restart_lsn from 0 to a redo pointer.",
        "Invalidation sets restart_lsn to 0.",
        "At a start or crash restart, the startup process sets restart_lsn to the position in the \
         state file.",
    ],
    source: "Only these functions change restart_lsn: PhysicalConfirmReceivedLocation \
              (walsender.c), pg_physical_replication_slot_advance (slotfuncs.c), \
              ReplicationSlotReserveWal, InvalidatePossiblyObsoleteSlot and RestoreSlotFromDisk \
              (slot.c)",
};

const SUBSCRIPTIONS: [Subscription; 2] = [
    Subscription::Change(ChangeKind::Slots),
    Subscription::Change(ChangeKind::Reported),
];

/// Stateless.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct SlotMoves;

impl Check for SlotMoves {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn after_change(&mut self, change: Change<'_>, step: &Step<'_>, known: &Knowledge) -> Ruling {
        let Some((pid, role)) = step.ran else {
            return Ok(());
        };
        if let Change::Reported(reported) = change {
            let slots = &step.view.shmem().slots.slots;
            let slot = step.view.slot_of(pid).map(|number| &slots[number]);
            return followed(step.site, slot, reported.flush);
        }
        let Change::Slots(steps) = change else {
            return Ok(());
        };
        let (shmem, host) = (step.view.shmem(), step.site.host);
        for slot in steps.iter().filter(|slot| has_moved(slot)) {
            let to = slot.is.restart_lsn;
            let name = &shmem.slots.slots[slot.number].name;
            let is_legal = match role {
                Role::Startup => saved(step, known.version(), name) == Some(to),
                Role::Checkpointer => gives_up(slot.is),
                Role::Backend | Role::WalSender => match reported(shmem, pid) {
                    Some(flush) => to.is_valid() && to == flush,
                    None => {
                        reserves(slot, shmem.xlog.redo)
                            || advances(slot, end_of_wal(shmem))
                                && known.slots_asked(host).any(|asked| asks(asked, name, to))
                    }
                },
                Role::Postmaster | Role::WalWriter | Role::WalReceiver => false,
            };
            if !is_legal {
                return Err(moved(step.site, name, role, slot, reported(shmem, pid)));
            }
        }
        Ok(())
    }
}

/// Whether the slot has a different position than before the step.
fn has_moved(slot: &SlotStep) -> bool {
    slot.is.in_use && slot.is.restart_lsn != before(slot)
}

fn before(slot: &SlotStep) -> Lsn {
    if slot.was.in_use {
        slot.was.restart_lsn
    } else {
        Lsn::INVALID
    }
}

/// The position in the slot's state file.
fn saved(step: &Step<'_>, version: PgVersion, name: &str) -> Option<Lsn> {
    let path = format!("pg_replslot/{name}/state");
    let bytes = step.disk.read_cached(&path, 0, FILE_LEN as u64)?;
    Some(SlotFile::decode(version, &bytes).ok()?.restart_lsn)
}

/// `InvalidatePossiblyObsoleteSlot`
fn gives_up(is: SlotEntry) -> bool {
    !is.restart_lsn.is_valid() && is.invalidated
}

/// The last flush position that a streaming walsender received from its standby.
fn reported(shmem: &Shmem, pid: Pid) -> Option<Lsn> {
    let entry = shmem.walsnd.iter().find(|entry| entry.pid == Some(pid))?;
    (entry.state != WalSndState::Startup).then_some(entry.flush)
}

/// Whether ReplicationSlotReserveWal made this change. The redo pointer may have advanced after
/// that function read it.
fn reserves(slot: &SlotStep, redo: Lsn) -> bool {
    let to = slot.is.restart_lsn;
    !before(slot).is_valid() && to.is_valid() && to <= redo
}

/// `pg_physical_replication_slot_advance`
fn advances(slot: &SlotStep, end: Lsn) -> bool {
    let before = before(slot);
    before.is_valid() && (before..=end).contains(&slot.is.restart_lsn)
}

fn end_of_wal(shmem: &Shmem) -> Lsn {
    if shmem.recovery_in_progress() {
        shmem.recovery.last_replayed_end
    } else {
        shmem.xlog.flush
    }
}

/// Whether the statement advances this slot at least to `to`.
fn asks(asked: &SlotStatement, slot: &str, to: Lsn) -> bool {
    matches!(asked, SlotStatement::Advance { name, upto } if name == slot && to <= *upto)
}

fn moved(
    site: Site<'_>,
    name: &str,
    role: Role,
    slot: &SlotStep,
    reported: Option<Lsn>,
) -> Violation {
    let message = "a replication slot moved without a legal reason";
    let (from, to) = (before(slot), slot.is.restart_lsn);
    let reported = reported.map_or_else(|| String::from("not streaming"), |lsn| lsn.to_string());
    site.violation(
        ABOUT.code,
        message,
        &[
            ("slot", &Value::slot(name)),
            ("restart_lsn before", &from),
            ("restart_lsn after", &to),
            ("moved by", &role),
            ("last reported flush position", &reported),
        ],
    )
}

/// Judges a walsender that has received new positions from its standby. `slot` is the slot that the
/// walsender owns.
fn followed(site: Site<'_>, slot: Option<&Slot>, flush: Lsn) -> Ruling {
    let Some(slot) = slot.filter(|slot| flush.is_valid() && slot.restart_lsn != flush) else {
        return Ok(());
    };
    let message = "a replication slot did not move to the flush position in a status message";
    Err(site.violation(
        ABOUT.code,
        message,
        &[
            ("slot", &Value::slot(&slot.name)),
            ("restart_lsn", &slot.restart_lsn),
            ("reported flush position", &flush),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::{SITE, shmem as memory};

    fn entry(restart_lsn: u64) -> SlotEntry {
        SlotEntry {
            in_use: true,
            restart_lsn: Lsn(restart_lsn),
            ..SlotEntry::default()
        }
    }

    fn step(was: u64, is: u64) -> SlotStep {
        let (was, is) = (entry(was), entry(is));
        SlotStep { number: 0, was, is }
    }

    #[test]
    fn a_slot_that_is_new_has_moved_if_it_is_somewhere() {
        let made = |is| SlotStep {
            was: SlotEntry::default(),
            ..step(0, is)
        };
        assert!(!has_moved(&made(0)) && has_moved(&made(7)));
        assert!(!has_moved(&step(7, 7)) && has_moved(&step(7, 0)));
        let mut freed = step(7, 0);
        freed.is.in_use = false;
        assert!(!has_moved(&freed), "checked by OWNER");
    }

    /// The redo pointer may have advanced after the process read it.
    #[test]
    fn wal_is_reserved_once_and_from_a_redo_pointer_on() {
        let redo = Lsn(9);
        assert!(reserves(&step(0, 9), redo) && reserves(&step(0, 8), redo));
        assert!(!reserves(&step(0, 10), redo) && !reserves(&step(5, 9), redo));
        assert!(!reserves(&step(5, 0), redo));
    }

    #[test]
    fn a_slot_is_advanced_upward_to_what_was_asked_for() {
        let end = Lsn(9);
        assert!(advances(&step(5, 9), end) && !advances(&step(5, 10), end));
        assert!(!advances(&step(5, 4), end) && !advances(&step(0, 9), end));
        let asked = SlotStatement::Advance {
            name: "s".into(),
            upto: Lsn(7),
        };
        assert!(asks(&asked, "s", Lsn(6)) && asks(&asked, "s", Lsn(7)));
        assert!(!asks(&asked, "s", Lsn(8)) && !asks(&asked, "t", Lsn(7)));
        assert!(!asks(&SlotStatement::Drop("s".into()), "s", Lsn(7)));
    }

    #[test]
    fn a_slot_that_is_given_up_says_so() {
        let mut is = entry(0);
        assert!(!gives_up(is));
        is.invalidated = true;
        assert!(gives_up(is));
        is.restart_lsn = Lsn(7);
        assert!(!gives_up(is));
    }

    /// An entry of a walsender keeps the positions that were reported during an earlier COPY.
    #[test]
    fn only_a_process_that_streams_is_told_positions() {
        let (me, mut shmem) = (Pid::postmaster(1), memory());
        assert_eq!(reported(&shmem, me), None);
        shmem.walsnd[1].pid = Some(me);
        shmem.walsnd[1].flush = Lsn(7);
        assert_eq!(reported(&shmem, me), None);
        shmem.walsnd[1].state = WalSndState::Catchup;
        assert_eq!(reported(&shmem, me), Some(Lsn(7)));
    }

    #[test]
    fn a_report_is_followed() {
        let slot = Slot {
            restart_lsn: Lsn(7),
            ..Slot::default()
        };
        let after = |flush, slot| followed(SITE, slot, Lsn(flush)).is_ok();
        assert!(after(7, Some(&slot)) && after(0, Some(&slot)) && after(9, None));
        assert!(!after(9, Some(&slot)) && !after(5, Some(&slot)));
    }
}
