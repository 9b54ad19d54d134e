//! What a step has done to the slots in shared memory, found out once for all checks that ask:
//! mostly nothing. And where the slots of a node would be after a loss of power.

use crate::disk::Disk;
use crate::referee::Step;
use walsim_core::base::{Lsn, PgVersion};
use walsim_core::shmem::{Role, Slot};
use walsim_core::wire::slot_file::{FILE_LEN, Persistency, SlotFile};

const DIRECTORY: &str = "pg_replslot";

/// Where the slots of a node were after the last step.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Slots {
    places: Vec<Place>,
    /// WAL before these positions was given up: a slot went back, or got its first position from a
    /// report.
    given_up: Vec<Lsn>,
    changed: bool,
}

/// A slot: where it is, and whether it was invalidated. `None` is a free entry.
type Place = Option<(Lsn, bool)>;

/// What a step has done to slots.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SlotChange {
    /// Some slot came, went, moved, or was invalidated.
    pub any: bool,
    /// There are slots.
    pub in_use: bool,
}

impl Slots {
    pub(super) fn step(&mut self, step: &Step<'_>) -> SlotChange {
        let change = match step.ran {
            Some((_, Role::Backend | Role::WalSender | Role::Checkpointer | Role::Startup)) => {
                let shmem = step.view.shmem();
                let given_up = &mut self.given_up;
                given_up.resize(shmem.slots.slots.len(), Lsn::INVALID);
                look(&mut self.places, &shmem.slots.slots, |slot, was, is| {
                    given_up[slot] = match (was, is) {
                        (_, None) => Lsn::INVALID,
                        (Some((was, _)), Some((is, _))) if is.is_valid() && is < was => {
                            given_up[slot].max(was)
                        }
                        // A checkpoint that has looked at slots before keeps only what recovery
                        // needs.
                        (Some((Lsn::INVALID, _)), Some((is, _))) if is.is_valid() => {
                            given_up[slot].max(shmem.xlog.redo)
                        }
                        (_, Some(_)) => given_up[slot],
                    };
                })
            }
            // No other process touches slots.
            Some((_, Role::Postmaster | Role::WalWriter | Role::WalReceiver)) | None => {
                SlotChange::default()
            }
        };
        self.changed = change.any;
        change
    }

    /// WAL before this was given up for a slot, which is named by its number.
    pub(super) fn given_up(&self, slot: usize) -> Lsn {
        self.given_up.get(slot).copied().unwrap_or_default()
    }

    /// By the last step?
    pub(super) const fn changed(&self) -> bool {
        self.changed
    }
}

/// The slot whose state a file or a directory of that name becomes.
#[must_use]
pub fn slot_name_of(path: &str) -> Option<&str> {
    let path = path.strip_prefix(DIRECTORY)?.strip_prefix('/')?;
    let name = path.strip_suffix("/state").unwrap_or(path);
    (!name.contains('/') && !name.ends_with(".tmp")).then_some(name)
}

/// The lowest position that a loss of power now could give a slot. None if it could give it only
/// such as hold nothing.
#[must_use]
pub fn slot_on_disk(disk: &Disk, version: PgVersion, name: &str) -> Option<Lsn> {
    let path = format!("{DIRECTORY}/{name}/state");
    let files = disk.reachable(&path, FILE_LEN as u64).into_iter();
    // What is damaged is RECOVER's business.
    let slots = files.filter_map(|bytes| SlotFile::decode(version, &bytes).ok());
    let holding = slots.filter(|slot| {
        let invalidated = match version {
            PgVersion::V15 => slot.invalidated_at.is_valid(),
            PgVersion::V16 | PgVersion::V17 | PgVersion::V18 | PgVersion::V19 => slot.cause != 0,
        };
        slot.persistency == Persistency::PERSISTENT && slot.restart_lsn.is_valid() && !invalidated
    });
    holding.map(|slot| slot.restart_lsn).min()
}

fn look(
    places: &mut Vec<Place>,
    slots: &[Slot],
    mut changes: impl FnMut(usize, Place, Place),
) -> SlotChange {
    places.resize(slots.len(), None);
    let mut change = SlotChange {
        any: false,
        in_use: false,
    };
    for (number, (place, slot)) in places.iter_mut().zip(slots).enumerate() {
        let now = slot
            .in_use
            .then(|| (slot.restart_lsn, slot.invalidated.is_some()));
        change.in_use |= slot.in_use;
        if *place != now {
            change.any = true;
            changes(number, *place, now);
            *place = now;
        }
    }
    change
}

#[cfg(test)]
mod tests {
    use super::*;
    use walsim_core::shmem::Invalidation;

    #[test]
    fn whatever_happens_to_a_slot_is_a_move() {
        let mut slots = vec![Slot::default(); 2];
        let mut places = Vec::new();
        let mut after = |change: &dyn Fn(&mut Slot)| {
            change(&mut slots[1]);
            let first = look(&mut places, &slots, |_, _, _| ());
            let again = look(&mut places, &slots, |_, _, _| ());
            assert!(!again.any, "seen once");
            (first.any, first.in_use)
        };
        assert_eq!(after(&|_| ()), (false, false));
        assert_eq!(after(&|slot| slot.in_use = true), (true, true));
        assert_eq!(after(&|slot| slot.dirty = true), (false, true));
        assert_eq!(after(&|slot| slot.restart_lsn = Lsn(7)), (true, true));
        let lost = Some(Invalidation::Other(1));
        assert_eq!(after(&|slot| slot.invalidated = lost), (true, true));
        assert_eq!(after(&|slot| slot.in_use = false), (true, false));
        assert_eq!(after(&|slot| slot.restart_lsn = Lsn(8)), (false, false));
    }

    #[test]
    fn names_of_slots_are_told_from_those_of_their_files() {
        for (path, name) in [
            ("pg_replslot/s/state", Some("s")),
            ("pg_replslot/s", Some("s")),
            ("pg_replslot/s.tmp", None),
            ("pg_replslot/s/state.tmp", None),
            ("pg_replslot/s.tmp/state", None),
            ("pg_wal/state", None),
        ] {
            assert_eq!(slot_name_of(path), name, "{path}");
        }
    }
}
