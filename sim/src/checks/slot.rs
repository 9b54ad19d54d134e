//! SLOT: the WAL that a slot holds is there. What counts is not where shared memory has the slot, but where its state
//! file would have it after a loss of power: WAL that only the older of two reachable files asks for must be there, too.

use super::slot_changes::SlotChange;
use super::{FIRST_TIMELINE, Scene, Site};
use crate::disk::Disk;
use crate::world::Violation;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use walsim_core::base::{Geometry, Lsn, PgVersion, Pid, SegmentNo};
use walsim_core::call::{DiskError, DiskOp, Effect, Message};
use walsim_core::node::PmState;
use walsim_core::shmem::{self, Role, Shmem};
use walsim_core::wal::names::segment_path;
use walsim_core::wire::slot_file::{FILE_LEN, Persistency, SlotFile};

const CODE: &str = "SLOT";

const DIRECTORY: &str = "pg_replslot";

/// What is known of the slots of all nodes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Slot {
    version: PgVersion,
    geometry: Geometry,
    nodes: Vec<Slots>,
}

#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Slots {
    /// Where shared memory had them, by their numbers.
    last: Vec<Lsn>,
    /// WAL before these positions was given up for good. A standby may report less than before, and its slot goes back;
    /// or its first report is the first that its slot knows of.
    given_up: BTreeMap<String, Lsn>,
    /// Walsenders whose first report has given a slot its position, which nobody else knows of before their next step.
    reporting: BTreeMap<Pid, String>,
    /// Slots that a failing or full disk did not let be saved.
    unsaved: BTreeSet<String>,
    /// Checkpoints begun, and the least `max_slot_wal_keep_size` since the last one did.
    begun: u32,
    limit: Option<u64>,
    /// The server runs.
    open: bool,
}

/// A node whose slots are looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder<'a> {
    pub(super) site: Site<'a>,
    pub(super) host: usize,
    pub(super) disk: &'a Disk,
    /// End of its WAL.
    pub(super) end: Lsn,
}

impl Slot {
    pub(super) fn new(nodes: usize, version: PgVersion, geometry: Geometry) -> Self {
        Self {
            version,
            geometry,
            nodes: vec![Slots::default(); nodes],
        }
    }

    /// A server is gone with its shared memory.
    pub(super) fn forget(&mut self, host: usize) {
        let slots = &mut self.nodes[host];
        slots.last.clear();
        slots.reporting.clear();
        slots.open = false;
    }

    pub(super) fn after_step(
        &mut self,
        scene: &Scene<'_>,
        change: SlotChange,
        end: Lsn,
    ) -> Result<(), Violation> {
        let Some((pid, role)) = scene.ran else {
            return Ok(());
        };
        let holder = Holder {
            site: scene.site(),
            host: scene.host,
            disk: scene.disk,
            end,
        };
        match role {
            Role::Postmaster => {
                let state = scene.view.postmaster_state();
                let open = matches!(state, Some(PmState::Run | PmState::HotStandby));
                let slots = &mut self.nodes[scene.host];
                let opens = open && !slots.open;
                slots.open = open;
                if opens { self.all(holder) } else { Ok(()) }
            }
            Role::Backend | Role::WalSender | Role::Checkpointer | Role::Startup => {
                let slots = &mut self.nodes[scene.host];
                let shmem = scene.view.shmem();
                slots.follow(shmem, pid);
                if change.any {
                    slots.positions(shmem, pid);
                }
                for (_, effect) in &scene.effects.0 {
                    match effect {
                        Effect::Disk(_, DiskOp::Rename { to, .. }) => {
                            if let Some(name) = slot_of(to.as_str()) {
                                self.nodes[scene.host].unsaved.remove(name);
                                self.whole(holder, name)?;
                            }
                        }
                        Effect::Log(event) => self.nodes[scene.host].heard(&event.message),
                        Effect::Disk(..) | Effect::Net(..) | Effect::Exit(_) | Effect::Halt => {}
                    }
                }
                Ok(())
            }
            Role::WalWriter | Role::WalReceiver => Ok(()),
        }
    }

    /// A name is about to go.
    pub(super) fn removed(&mut self, holder: Holder<'_>, path: &str) {
        // The last act of making a slot: whatever had its name before is forgotten.
        if let Some(name) = path.strip_prefix(DIRECTORY)
            && let Some(name) = name.strip_prefix('/').and_then(|n| n.strip_suffix(".tmp"))
        {
            self.nodes[holder.host].given_up.remove(name);
        }
    }

    /// A segment is about to go. `slots` are those in shared memory.
    pub(super) fn segment_removed(
        &mut self,
        holder: Holder<'_>,
        segment: SegmentNo,
        slots: &[shmem::Slot],
    ) -> Result<(), Violation> {
        if segment > self.geometry.segment_before(holder.end) {
            return Ok(());
        }
        let names: Vec<String> = self.names(holder).collect();
        for name in names {
            if self
                .held_from(holder, &name)
                .is_none_or(|from| segment < from)
            {
                continue;
            }
            if !self.is_known_hazard(holder, segment, &name, slots) {
                let message = "a segment of WAL goes that a slot holds";
                return Err(self.violation(holder, &name, segment, message));
            }
            let next = self.geometry.segment_start(SegmentNo(segment.0 + 1));
            self.nodes[holder.host].give_up(&name, next);
        }
        Ok(())
    }

    /// Real servers let WAL go that only the file of a slot asks for (docs/hazards/slot-file-behind-memory.md): beyond
    /// `max_slot_wal_keep_size` if memory has the slot further on, the same in 15 if the slot could not be saved, and in
    /// both versions if what could not be saved is that it is invalid.
    fn is_known_hazard(
        &self,
        holder: Holder<'_>,
        segment: SegmentNo,
        name: &str,
        slots: &[shmem::Slot],
    ) -> bool {
        let node = &self.nodes[holder.host];
        let named = |slot: &&shmem::Slot| slot.in_use && slot.name == name;
        let Some(slot) = slots.iter().find(named) else {
            return false;
        };
        let unsaved = node.unsaved.contains(name);
        let last = self.geometry.segment_of(holder.end).0;
        let beyond = |limit: u64| segment.0 + limit / u64::from(self.geometry.segment) < last;
        let moved_on = self.geometry.segment_of(slot.restart_lsn) > segment;
        unsaved && slot.invalidated.is_some()
            || unsaved && moved_on && self.version < PgVersion::V18
            || moved_on && node.limit.is_some_and(beyond)
    }

    /// All slots of a node.
    pub(super) fn all(&self, holder: Holder<'_>) -> Result<(), Violation> {
        let mut names = self.names(holder);
        names.try_for_each(|name| self.whole(holder, &name))
    }

    /// All the WAL of a slot.
    fn whole(&self, holder: Holder<'_>, name: &str) -> Result<(), Violation> {
        let Some(from) = self.held_from(holder, name) else {
            return Ok(());
        };
        let upto = self.geometry.segment_before(holder.end);
        for segment in (from.0..=upto.0).map(SegmentNo) {
            let path = segment_path(&self.geometry, FIRST_TIMELINE, segment);
            if !holder.disk.exists(&path) {
                let message = "a slot holds WAL that is not there";
                return Err(self.violation(holder, name, segment, message));
            }
        }
        Ok(())
    }

    fn names(&self, holder: Holder<'_>) -> impl Iterator<Item = String> {
        let names = holder.disk.reachable_names(DIRECTORY).into_iter();
        // Directories in the making, or of slots that were dropped, are removed by every start.
        names
            .filter(|name| !name.ends_with(".tmp"))
            .map(|name| String::from(&*name))
    }

    /// The first segment that a slot holds after some loss of power that could happen now.
    fn held_from(&self, holder: Holder<'_>, name: &str) -> Option<SegmentNo> {
        let given_up = self.nodes[holder.host].given_up.get(name);
        let from = on_disk(holder.disk, self.version, name)?;
        let from = from.max(given_up.copied().unwrap_or_default());
        Some(self.geometry.segment_of(from))
    }

    fn violation(
        &self,
        holder: Holder<'_>,
        name: &str,
        segment: SegmentNo,
        message: &str,
    ) -> Violation {
        let on_disk = on_disk(holder.disk, self.version, name).unwrap_or_default();
        let start = self.geometry.segment_start(segment);
        let facts: [(&str, &dyn Display); 4] = [
            ("slot", &name),
            ("restart_lsn on its disk", &on_disk),
            ("start of the segment", &start),
            ("end of WAL", &holder.end),
        ];
        holder.site.violation(CODE, message, &facts)
    }
}

impl Slots {
    /// What a step means for WAL that is given up.
    fn follow(&mut self, shmem: &Shmem, ran: Pid) {
        let begun = core::mem::replace(&mut self.begun, shmem.checkpointer.started);
        let limit = shmem.settings.max_slot_wal_keep_size;
        self.limit = if begun == self.begun {
            self.limit.into_iter().chain(limit).min()
        } else {
            limit
        };
        if let Some(name) = self.reporting.remove(&ran) {
            // Checkpoints that have looked at slots before may still remove all but what recovery needs.
            self.given_up.insert(name, shmem.xlog.redo);
        }
    }

    /// Where the slots are now.
    fn positions(&mut self, shmem: &Shmem, ran: Pid) {
        self.last.resize(shmem.slots.slots.len(), Lsn::INVALID);
        for (number, slot) in shmem.slots.slots.iter().enumerate() {
            let now = if slot.in_use {
                slot.restart_lsn
            } else {
                Lsn::INVALID
            };
            let before = core::mem::replace(&mut self.last[number], now);
            if now == before || !now.is_valid() {
                continue;
            }
            let mut sender = shmem.walsnd.iter().filter(|entry| entry.pid == Some(ran));
            if now < before {
                self.give_up(&slot.name, before);
            } else if !before.is_valid() && sender.any(|entry| entry.flush == now) {
                self.give_up(&slot.name, Lsn::MAX);
                self.reporting.insert(ran, slot.name.clone());
            }
        }
    }

    fn give_up(&mut self, name: &str, before: Lsn) {
        let given_up = self.given_up.entry(name.to_owned()).or_default();
        *given_up = before.max(*given_up);
    }

    fn heard(&mut self, message: &Message) {
        if let Message::File { path, error, .. } = message
            && let Some(state) = path.as_str().strip_suffix(".tmp")
            && let Some(name) = slot_of(state)
        {
            // A file that is in its own way is no failure of the disk.
            if matches!(error, DiskError::Io | DiskError::NoSpace) {
                self.unsaved.insert(name.to_owned());
            } else {
                self.unsaved.remove(name);
            }
        }
    }
}

/// The slot whose state a file or a directory of that name becomes.
fn slot_of(path: &str) -> Option<&str> {
    let path = path.strip_prefix(DIRECTORY)?.strip_prefix('/')?;
    let name = path.strip_suffix("/state").unwrap_or(path);
    (!name.contains('/') && !name.ends_with(".tmp")).then_some(name)
}

/// The lowest position that a loss of power now could give a slot. None if it could give it only such as hold nothing.
pub(super) fn on_disk(disk: &Disk, version: PgVersion, name: &str) -> Option<Lsn> {
    let path = format!("{DIRECTORY}/{name}/state");
    let files = disk.reachable(&path, FILE_LEN as u64).into_iter();
    // What is damaged is RECOVER's business.
    let slots = files.filter_map(|bytes| SlotFile::decode(version, &bytes).ok());
    let holding = slots.filter(|slot| {
        let invalidated = match version {
            PgVersion::V15 => slot.invalidated_at.is_valid(),
            PgVersion::V16 | PgVersion::V17 | PgVersion::V18 => slot.cause != 0,
        };
        slot.persistency == Persistency::PERSISTENT && slot.restart_lsn.is_valid() && !invalidated
    });
    holding.map(|slot| slot.restart_lsn).min()
}

#[cfg(test)]
mod tests;
