//! The values that a checkpoint or restartpoint may have read since it began: positions of slots,
//! the published minimum of these positions, and settings.
//!
//! Backends create, move and drop slots during a checkpoint. A process reads the slots in one step
//! and publishes their minimum in its next step, which may be much later. The checks therefore use
//! the lowest value since the checkpoint began. They use it to decide which WAL the checkpoint had
//! to remove, and which slots it had to save.

use super::SlotChange;
use super::horizon::{Least, Limits, required};
use crate::referee::Step;
use std::collections::BTreeMap;
use walsim_core::base::{Lsn, Pid};
use walsim_core::call::{DiskError, DiskOp, Effect, FilePath, Message, Place, SlotMessage};
use walsim_core::node::PmState;
use walsim_core::shmem::{Role, Shmem, Slot};

/// The place of a process that has read all slots and will publish their minimum in its next step.
const LOOKED: Place = Place::ReplicationSlotsComputeRequiredLSN;

/// The lowest position of each slot during a completed checkpoint.
pub type Saved = BTreeMap<String, Lsn>;

/// The checkpoints of one node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Checkpoints {
    published: Published,
    /// Number of checkpoints begun.
    begun: u32,
    window: Option<Window>,
    /// For each slot, the lowest position that its state file may have contained since the last
    /// checkpoint. If a slot went back after its state file was saved, a restart may restore the
    /// lower position.
    saved: Saved,
    /// The server has started and has not read its slots from disk yet.
    fresh: bool,
}

/// The lowest position that slots require, as published in shared memory (`replicationSlotMinLSN`).
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Published {
    /// The published value.
    last: Least,
    /// Values that a process has computed and not published yet.
    found: BTreeMap<Pid, Least>,
}

/// A completed checkpoint or restartpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckpointEnd {
    /// The redo point of a restartpoint. This is `None` for a checkpoint.
    pub restartpoint: Option<Lsn>,
    /// The values that the checkpoint may have read.
    pub window: Window,
}

/// The values that a checkpoint may have read since it began.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Window {
    /// The redo point in the control file. A change of this value shows that the file was updated.
    redo: Lsn,
    /// The lowest published value.
    pub published: Least,
    /// Slots were invalidated, and no process has published a new minimum since.
    invalidated: bool,
    /// The lowest position of each slot that has existed since the checkpoint began.
    pub slots: Saved,
    /// The values of the settings that retain most WAL.
    pub limits: Limits,
    /// The lowest end of WAL that a standby had during the checkpoint. This is not used on a
    /// primary.
    pub end: Lsn,
    /// The files in `pg_wal` that the server failed to remove, according to its log.
    pub stuck: Vec<String>,
    /// The files that were created in `pg_wal` after the checkpointer had read the directory. For
    /// example, the checkpoint may remove a segment, and a restarted walreceiver may then receive
    /// the WAL of this segment again.
    pub installed: Vec<String>,
    /// A process failed to save a slot because of a disk error.
    pub unsaved: bool,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self {
            published: Published::default(),
            begun: 0,
            window: None,
            saved: Saved::new(),
            fresh: true,
        }
    }
}

impl Checkpoints {
    pub(super) const fn saved(&self) -> &Saved {
        &self.saved
    }

    /// The lowest position that slots require, as last published.
    pub(super) const fn published(&self) -> Least {
        self.published.last
    }

    /// Called when the server has stopped. Its shared memory is lost.
    pub(super) fn gone(&mut self) {
        let saved = std::mem::take(&mut self.saved);
        *self = Self {
            saved,
            ..Self::default()
        };
    }

    pub(super) fn step(&mut self, step: &Step<'_>, change: SlotChange) -> Option<CheckpointEnd> {
        let (pid, role) = step.ran?;
        let shmem = step.view.shmem();
        match role {
            Role::Backend | Role::WalSender => {
                self.publish(step, pid, role, change);
                self.widen(shmem, change);
                None
            }
            Role::Startup => {
                // The startup process reads the slots from disk before any other process can change
                // them.
                if step.view.postmaster_state() == Some(PmState::Startup) {
                    self.published = Published {
                        last: required(shmem),
                        ..Published::default()
                    };
                    self.begun = 0;
                    self.window = None;
                }
                None
            }
            Role::Checkpointer => {
                self.publish(step, pid, role, change);
                self.checkpoint(step, change)
            }
            Role::Postmaster => {
                match step.view.postmaster_state() {
                    Some(PmState::Run | PmState::HotStandby) => self.fresh = false,
                    Some(PmState::Init | PmState::Startup | PmState::Recovery) => self.fresh = true,
                    Some(_) | None => {}
                }
                None
            }
            Role::WalWriter | Role::WalReceiver => None,
        }
    }

    /// Called when a file has got this name.
    pub(super) fn renamed(&mut self, path: &FilePath) {
        if let (Some(window), Some(name)) =
            (&mut self.window, path.as_str().strip_prefix("pg_wal/"))
        {
            window.installed.push(name.to_owned());
        }
    }

    /// Publishes the value that this process computed in its previous step.
    fn publish(&mut self, step: &Step<'_>, pid: Pid, role: Role, change: SlotChange) {
        if let Some(found) = self.published.found.remove(&pid) {
            let ended = step.effects.0.iter();
            let ended =
                ended.filter(|(who, effect)| *who == pid && matches!(effect, Effect::Exit(_)));
            // It is unknown whether a process that exited had published its value.
            self.published.last = if ended.count() > 0 {
                self.published.last.min(found)
            } else {
                found
            };
            if role == Role::Checkpointer
                && let Some(window) = &mut self.window
                && core::mem::take(&mut window.invalidated)
            {
                window.published = self.published.last;
            }
        }
        let looked = || {
            step.view
                .process(pid)
                .is_some_and(|process| process.at == LOOKED)
        };
        if (change.in_use || self.published.last != Least::default()) && looked() {
            self.published
                .found
                .insert(pid, required(step.view.shmem()));
        }
    }

    fn widen(&mut self, shmem: &Shmem, change: SlotChange) {
        if let Some(window) = &mut self.window {
            window.widen(shmem, self.published.last);
            if change.any {
                window.slots_moved(shmem);
            }
        }
        if change.any && !self.fresh {
            least_positions(&mut self.saved, &shmem.slots.slots);
        }
    }

    fn checkpoint(&mut self, step: &Step<'_>, change: SlotChange) -> Option<CheckpointEnd> {
        let shmem = step.view.shmem();
        let begun = std::mem::replace(&mut self.begun, shmem.checkpointer.started);
        let mut begins = begun != self.begun;
        let mut ended = None;
        for (_, effect) in &step.effects.0 {
            let event = match effect {
                Effect::Log(event) => event,
                Effect::Disk(_, DiskOp::List(path)) if path.as_str() == "pg_wal" => {
                    self.window.iter_mut().for_each(Window::listed);
                    continue;
                }
                Effect::Disk(..) | Effect::Net(..) | Effect::Exit(_) | Effect::Halt => continue,
            };
            let message = &event.message;
            begins |= *message == Message::ShuttingDownXlog;
            if *message == Message::Checkpoint("complete") {
                ended = Some(None);
            } else if let Message::RestartPoint(redo) = message {
                ended = Some(Some(redo.lsn));
            }
            if let Some(window) = &mut self.window {
                window.heard(message);
            }
        }
        self.widen(shmem, change);
        let window = self.window.take_if(|_| ended.is_some());
        // The next checkpoint may begin in the same step. Its values are recorded from now on.
        if begins {
            self.window = Some(Window::new(shmem, self.published.last));
        }
        let (restartpoint, window) = (ended?, window?);
        if !window.unsaved {
            self.saved = window.slots.clone();
        }
        Some(CheckpointEnd {
            restartpoint,
            window,
        })
    }
}

impl Window {
    pub(crate) fn new(shmem: &Shmem, published: Least) -> Self {
        let slots = shmem.slots.slots.iter();
        let slots = slots.filter(|slot| {
            slot.in_use
                && !slot.temporary
                && slot.invalidated.is_none()
                && slot.restart_lsn.is_valid()
        });
        Self {
            redo: shmem.control.checkpoint_copy.redo,
            published,
            invalidated: false,
            slots: slots
                .map(|slot| (slot.name.clone(), slot.restart_lsn))
                .collect(),
            limits: Limits::of(&shmem.settings),
            end: end_of_wal(shmem),
            stuck: Vec::new(),
            installed: Vec::new(),
            unsaved: false,
        }
    }

    /// Adds the values after a step to those that the checkpoint may have read.
    fn widen(&mut self, shmem: &Shmem, published: Least) {
        let redo = shmem.control.checkpoint_copy.redo;
        let named = std::mem::replace(&mut self.redo, redo) != redo;
        self.published = if named && Least::is_saved_first(&shmem.settings) {
            // Since 18 the checkpoint updates the control file before it reads the published value,
            // so earlier values do not count.
            published
        } else {
            self.published.min(published)
        };
        self.limits = self.limits.widest(Limits::of(&shmem.settings));
        self.end = self.end.min(end_of_wal(shmem));
    }

    fn slots_moved(&mut self, shmem: &Shmem) {
        least_positions(&mut self.slots, &shmem.slots.slots);
    }

    /// Called when the checkpointer reads the names of all files in `pg_wal`.
    pub(crate) fn listed(&mut self) {
        self.installed.clear();
    }

    pub(crate) fn heard(&mut self, message: &Message) {
        self.invalidated |= matches!(message, Message::Slot(SlotMessage::Invalidating { .. }));
        if let Message::File { path, error, .. } = message {
            if let Some(name) = path.as_str().strip_prefix("pg_wal/") {
                self.stuck.push(name.to_owned());
            }
            // A failed creation of a file that already exists is not a disk error.
            let failed = matches!(error, DiskError::Io | DiskError::NoSpace);
            self.unsaved |= failed && path.as_str().starts_with("pg_replslot/");
        }
    }
}

/// Removes the slots that were dropped or invalidated, and lowers the positions of slots that went
/// back.
fn least_positions(positions: &mut Saved, slots: &[Slot]) {
    positions.retain(|name, least| {
        let slot = slots.iter().find(|slot| slot.in_use && slot.name == *name);
        let slot = slot.filter(|slot| slot.invalidated.is_none());
        *least = slot.map_or(Lsn::INVALID, |slot| slot.restart_lsn.min(*least));
        least.is_valid()
    });
}

/// The end of WAL for a restartpoint. `wal_keep_size` is measured back from this position.
fn end_of_wal(shmem: &Shmem) -> Lsn {
    shmem
        .walrcv
        .flushed_upto
        .max(shmem.recovery.last_replayed_end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::shmem as memory;
    use walsim_core::base::PgVersion;
    use walsim_core::shmem::Invalidation;

    const NAME: &str = "s";

    fn at(segment: u64) -> Lsn {
        Lsn(segment * 1024 + 40)
    }

    /// Shared memory with one slot.
    fn shmem(version: PgVersion, restart_lsn: Lsn) -> Shmem {
        let mut shmem = memory();
        shmem.settings.pg_version = version;
        shmem.slots.slots[0] = Slot {
            in_use: true,
            name: NAME.into(),
            restart_lsn,
            ..Slot::default()
        };
        shmem
    }

    /// If a slot moves forward during a checkpoint, the checkpoint need not save the new position.
    /// If a slot goes back, is dropped or is invalidated, the checkpoint need not save the old
    /// position.
    #[test]
    fn of_each_slot_the_least_position_counts() {
        let mut shmem = shmem(PgVersion::V15, at(4));
        let mut window = Window::new(&shmem, Least(None));
        let mut after = |change: &dyn Fn(&mut Slot)| {
            change(&mut shmem.slots.slots[0]);
            window.slots_moved(&shmem);
            window.slots.get(NAME).copied()
        };
        assert_eq!(after(&|slot| slot.restart_lsn = at(5)), Some(at(4)));
        assert_eq!(after(&|slot| slot.restart_lsn = at(3)), Some(at(3)));
        assert_eq!(after(&|slot| slot.restart_lsn = at(6)), Some(at(3)));
        let lost = Some(Invalidation::WalRemoved(at(6)));
        assert_eq!(after(&|slot| slot.invalidated = lost), None);
        assert_eq!(after(&|slot| slot.invalidated = None), None);
    }

    #[test]
    fn slots_that_are_not_saved_are_not_expected_on_disk() {
        for change in [
            (|slot| slot.temporary = true) as fn(&mut Slot),
            |slot| slot.restart_lsn = Lsn::INVALID,
            |slot| slot.invalidated = Some(Invalidation::Other(1)),
            |slot| slot.in_use = false,
        ] {
            let mut shmem = shmem(PgVersion::V15, at(4));
            change(&mut shmem.slots.slots[0]);
            assert!(Window::new(&shmem, Least(None)).slots.is_empty());
        }
    }

    /// Version 15 reads the published minimum before it saves the slots. Version 18 reads the
    /// minimum after it has updated the control file.
    #[test]
    fn the_look_at_slots_is_taken_when_the_version_takes_it() {
        let least = |segment| Least(Some(at(segment)));
        for (version, expected) in [(PgVersion::V15, least(2)), (PgVersion::V18, least(4))] {
            let mut shmem = shmem(version, at(4));
            let mut window = Window::new(&shmem, least(2));
            window.widen(&shmem, least(3));
            shmem.control.checkpoint_copy.redo = at(6);
            window.widen(&shmem, least(4));
            window.widen(&shmem, least(5));
            assert_eq!(window.published, expected, "{version:?}");
        }
    }

    #[test]
    fn a_reload_counts_for_whoever_needs_more() {
        let mut shmem = shmem(PgVersion::V15, at(4));
        let mut window = Window::new(&shmem, Least(None));
        shmem.settings.wal_keep_size = 5 * 1024;
        shmem.walrcv.flushed_upto = at(8);
        window.widen(&shmem, Least(None));
        shmem.settings.wal_keep_size = 0;
        window.widen(&shmem, Least(None));
        assert_eq!((window.limits.keep, window.end), (5 * 1024, Lsn::INVALID));
    }
}
