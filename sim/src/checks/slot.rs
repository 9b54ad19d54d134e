//! SLOT: the WAL that a slot holds is there. What counts is not where shared memory has the slot, but where its state
//! file would have it after a loss of power: WAL that only the older of two reachable files asks for must be there, too.

use super::{FIRST_TIMELINE, Scene, Site, wal_files};
use crate::disk::Disk;
use crate::world::Violation;
use std::collections::BTreeMap;
use std::fmt::Display;
use walsim_core::base::{Geometry, Lsn, PgVersion, SegmentNo};
use walsim_core::call::{DiskOp, Effect};
use walsim_core::node::PmState;
use walsim_core::shmem::Role;
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
    /// A standby may report less than before, and its slot goes back. WAL below the highest position that was left so
    /// was given up, and is not had back.
    given_up: BTreeMap<String, Lsn>,
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
        self.nodes[host].last.clear();
        self.nodes[host].open = false;
    }

    pub(super) fn after_step(&mut self, scene: &Scene<'_>, end: Lsn) -> Result<(), Violation> {
        let Some((_, role)) = scene.ran else {
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
                self.nodes[scene.host].follow(&scene.view.shmem().slots.slots);
                for (_, effect) in &scene.effects.0 {
                    if let Effect::Disk(_, DiskOp::Rename { to, .. }) = effect
                        && let Some(name) = slot_of(to.as_str())
                    {
                        self.whole(holder, name)?;
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

    /// A segment is about to go.
    pub(super) fn segment_removed(
        &self,
        holder: Holder<'_>,
        segment: SegmentNo,
    ) -> Result<(), Violation> {
        for name in self.names(holder) {
            if let Some(from) = self.held_from(holder, &name)
                && from <= segment
                && segment <= self.geometry.segment_before(holder.end)
            {
                let message = "a segment of WAL goes that a slot holds";
                return Err(self.violation(holder, &name, segment, message));
            }
        }
        Ok(())
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
            let path = wal_files::path(&self.geometry, FIRST_TIMELINE, segment);
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
    fn follow(&mut self, slots: &[walsim_core::shmem::Slot]) {
        self.last.resize(slots.len(), Lsn::INVALID);
        for (slot, last) in slots.iter().zip(&mut self.last) {
            let now = if slot.in_use {
                slot.restart_lsn
            } else {
                Lsn::INVALID
            };
            if now < *last && now.is_valid() {
                let given_up = self.given_up.entry(slot.name.clone()).or_default();
                *given_up = (*given_up).max(*last);
            }
            *last = now;
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
            PgVersion::V18 => slot.cause != 0,
        };
        slot.persistency == Persistency::PERSISTENT && slot.restart_lsn.is_valid() && !invalidated
    });
    holding.map(|slot| slot.restart_lsn).min()
}

#[cfg(test)]
mod tests;
