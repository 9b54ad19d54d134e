//! The changes that a step made to slots in shared memory, and the positions that slots would have
//! after a power loss. The changes are computed once for all checks.

use crate::disk::Disk;
use crate::referee::{ClientAct, Step};
use std::collections::BTreeSet;
use walsim_core::base::{Lsn, PgVersion, Pid};
use walsim_core::node::PmState;
use walsim_core::shmem::{Role, Slot};
use walsim_core::wire::slot_file::{FILE_LEN, Persistency, SlotFile};
use walsim_core::wire::sql::{SlotStatement, Statement};

const DIRECTORY: &str = "pg_replslot";

/// The slots of a node after its last step, and the statements about slots that the server has not
/// answered yet.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Slots {
    entries: Vec<SlotEntry>,
    /// For each slot, the position before which WAL may have been removed. A slot gets such a
    /// position when the slot goes back, or when a report sets its first position.
    given_up: Vec<Lsn>,
    /// The last step changed an entry.
    changed: bool,
    /// The number of changes to the entries when they were last read, and whether any entry was in
    /// use. This is `None` if shared memory is new.
    seen: Option<(u64, bool)>,
    /// Shared memory is new, and the startup process has not read the slots from disk yet.
    fresh: bool,
    /// Persistent slots that exist and that no client has asked to drop.
    kept: BTreeSet<String>,
    /// The statements that the server has not answered yet, each with the index of its session.
    asked: Vec<(usize, SlotStatement)>,
}

/// An entry for a slot in shared memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct SlotEntry {
    /// A slot uses the entry.
    pub in_use: bool,
    /// `restart_lsn`
    pub restart_lsn: Lsn,
    /// Whether the slot is invalidated.
    pub invalidated: bool,
    /// `active_pid`
    pub owner: Option<Pid>,
}

/// How a step has changed an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotStep {
    /// The index of the entry.
    pub number: usize,
    /// The entry before the step. In new shared memory, this is the default entry.
    pub was: SlotEntry,
    /// The entry after the step.
    pub is: SlotEntry,
}

/// What a step has changed about slots.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SlotChange {
    /// A slot was created, dropped, moved or invalidated.
    pub any: bool,
    /// At least one slot exists.
    pub in_use: bool,
}

impl SlotEntry {
    fn of(slot: &Slot) -> Self {
        Self {
            in_use: slot.in_use,
            restart_lsn: slot.restart_lsn,
            invalidated: slot.invalidated.is_some(),
            owner: slot.active_pid,
        }
    }

    /// The position of the slot, and whether the slot is invalidated. Returns `None` if the entry
    /// is free.
    fn place(self) -> Option<(Lsn, bool)> {
        self.in_use.then_some((self.restart_lsn, self.invalidated))
    }
}

impl Slots {
    pub(super) fn step(&mut self, step: &Step<'_>) -> (SlotChange, Vec<SlotStep>) {
        let (change, steps) = match step.ran {
            Some((_, Role::Backend | Role::WalSender | Role::Checkpointer | Role::Startup)) => {
                let shmem = step.view.shmem();
                let borrowed = shmem.slots.slots.borrowed();
                if let Some((_, in_use)) = self.seen.filter(|(seen, _)| *seen == borrowed) {
                    self.changed = false;
                    return (SlotChange { any: false, in_use }, Vec::new());
                }
                let given_up = &mut self.given_up;
                given_up.resize(shmem.slots.slots.len(), Lsn::INVALID);
                let fresh = std::mem::take(&mut self.fresh);
                let mut steps = Vec::new();
                let change = look(&mut self.entries, &shmem.slots.slots, |number, was, is| {
                    given_up[number] = match (was.place(), is.place()) {
                        (_, None) => Lsn::INVALID,
                        (Some((was, _)), Some((is, _))) if is.is_valid() && is < was => {
                            given_up[number].max(was)
                        }
                        // A standby's first report has set the position. If a checkpoint read the
                        // slots before this report, it keeps only the WAL that crash recovery
                        // needs.
                        (Some((Lsn::INVALID, _)), Some((is, _))) if is.is_valid() => {
                            given_up[number].max(shmem.xlog.redo)
                        }
                        (_, Some(_)) => given_up[number],
                    };
                    let was = if fresh { SlotEntry::default() } else { was };
                    if was != is {
                        steps.push(SlotStep { number, was, is });
                    }
                });
                for change in &steps {
                    self.keep(&shmem.slots.slots[change.number], change.was);
                }
                self.seen = Some((borrowed, change.in_use));
                (change, steps)
            }
            Some((_, Role::Postmaster)) => {
                if is_new(step) {
                    self.fresh = true;
                    self.seen = None;
                }
                Default::default()
            }
            // These processes do not change slots.
            Some((_, Role::WalWriter | Role::WalReceiver)) | None => Default::default(),
        };
        self.changed = !steps.is_empty();
        (change, steps)
    }

    /// Updates the set of slots that must exist after the next start.
    fn keep(&mut self, slot: &Slot, was: SlotEntry) {
        if slot.in_use && !slot.temporary && !was.in_use {
            self.kept.insert(slot.name.clone());
        } else if was.in_use && !slot.in_use {
            self.kept.remove(&slot.name);
        }
    }

    /// Called when a session has sent a statement or received its answer.
    pub(super) fn client(&mut self, session: usize, act: ClientAct<'_>) {
        match act {
            ClientAct::Statement(Statement::Slot(statement)) => {
                self.asked.push((session, statement.clone()));
            }
            ClientAct::Answer(Statement::Slot(statement), _) => {
                self.asked
                    .retain(|(by, asked)| (*by, asked) != (session, statement));
            }
            ClientAct::Statement(_)
            | ClientAct::Answer(..)
            | ClientAct::Commit(_)
            | ClientAct::RowMissing(_) => {}
        }
    }

    /// Called when the server has stopped. If a client asked to drop a slot and got no answer, the
    /// slot may or may not exist after the next start.
    pub(super) fn gone(&mut self) {
        self.seen = None;
        for (_, statement) in std::mem::take(&mut self.asked) {
            if let SlotStatement::Drop(name) = statement {
                self.kept.remove(&name);
            }
        }
    }

    /// The unanswered statements.
    pub(super) fn asked(&self) -> impl Iterator<Item = &SlotStatement> {
        self.asked.iter().map(|(_, statement)| statement)
    }

    /// The persistent slots that must exist after the next start.
    pub(super) const fn kept(&self) -> &BTreeSet<String> {
        &self.kept
    }

    /// The position before which the WAL of this slot may have been removed.
    pub(super) fn given_up(&self, slot: usize) -> Lsn {
        self.given_up.get(slot).copied().unwrap_or_default()
    }

    /// Whether the last step changed, acquired or released a slot.
    pub(super) const fn changed(&self) -> bool {
        self.changed
    }
}

/// The name of the slot to which this file or directory belongs.
#[must_use]
pub fn slot_name_of(path: &str) -> Option<&str> {
    let path = path.strip_prefix(DIRECTORY)?.strip_prefix('/')?;
    let name = path.strip_suffix("/state").unwrap_or(path);
    (!name.contains('/') && !name.ends_with(".tmp")).then_some(name)
}

/// The lowest position that the slot could have after a power loss now. Returns `None` if the slot
/// would not retain WAL in any state that a power loss can leave.
#[must_use]
pub fn slot_on_disk(disk: &Disk, version: PgVersion, name: &str) -> Option<Lsn> {
    let path = format!("{DIRECTORY}/{name}/state");
    let files = disk.reachable(&path, FILE_LEN as u64).into_iter();
    // A damaged file is ignored here, because RECOVER checks it.
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

/// Whether shared memory is new and contains no slots yet. The startup process reads slots from
/// disk in `PM_STARTUP`.
fn is_new(step: &Step<'_>) -> bool {
    let slots = &step.view.shmem().slots.slots;
    matches!(
        step.view.postmaster_state(),
        Some(PmState::Init | PmState::Startup)
    ) && !slots.iter().any(|slot| slot.in_use)
}

fn look(
    entries: &mut Vec<SlotEntry>,
    slots: &[Slot],
    mut changes: impl FnMut(usize, SlotEntry, SlotEntry),
) -> SlotChange {
    entries.resize(slots.len(), SlotEntry::default());
    let mut change = SlotChange::default();
    for (number, (entry, slot)) in entries.iter_mut().zip(slots).enumerate() {
        let now = SlotEntry::of(slot);
        change.in_use |= now.in_use;
        if *entry != now {
            change.any |= entry.place() != now.place();
            changes(number, *entry, now);
            *entry = now;
        }
    }
    change
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::Answer;
    use walsim_core::shmem::Invalidation;

    #[test]
    fn whatever_happens_to_a_slot_is_a_move() {
        let mut slots = vec![Slot::default(); 2];
        let mut entries = Vec::new();
        let mut after = |change: &dyn Fn(&mut Slot)| {
            change(&mut slots[1]);
            let first = look(&mut entries, &slots, |_, _, _| ());
            let again = look(&mut entries, &slots, |_, _, _| ());
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

    /// A statement that asks to drop a slot counts until the server answers it or stops.
    #[test]
    fn a_slot_is_kept_until_a_drop_was_asked_for() {
        let mut slots = Slots::default();
        let slot = |name: &str, in_use, temporary| Slot {
            in_use,
            name: name.into(),
            temporary,
            ..Slot::default()
        };
        let used = SlotEntry {
            in_use: true,
            ..SlotEntry::default()
        };
        for name in ["a", "b", "c"] {
            slots.keep(&slot(name, true, false), SlotEntry::default());
        }
        slots.keep(&slot("t", true, true), SlotEntry::default());
        slots.keep(&slot("a", false, false), used);
        let kept = |slots: &Slots| slots.kept().iter().cloned().collect::<Vec<_>>();
        assert_eq!(kept(&slots), ["b", "c"]);

        let drop = |name: &str| Statement::Slot(SlotStatement::Drop(name.into()));
        let (b, c) = (drop("b"), drop("c"));
        slots.client(1, ClientAct::Statement(&b));
        slots.client(1, ClientAct::Statement(&Statement::Checkpoint));
        slots.client(1, ClientAct::Answer(&b, &Answer::Error));
        slots.client(2, ClientAct::Statement(&c));
        slots.client(1, ClientAct::Answer(&c, &Answer::Error));
        assert_eq!(slots.asked().count(), 1, "another session waits");
        slots.gone();
        assert_eq!(kept(&slots), ["b"]);
        assert_eq!(slots.asked().count(), 0);
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
