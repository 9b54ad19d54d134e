//! SLOT: the WAL that a slot holds is there. What counts is not where shared memory has the slot, but where its state
//! file would have it after a loss of power: WAL that only the older of two reachable files asks for must be there, too.

use super::{FIRST_TIMELINE, Scene, Site, wal_files};
use crate::disk::Disk;
use crate::world::Violation;
use std::collections::BTreeMap;
use std::fmt::Display;
use walsim_core::base::{Geometry, Lsn, PgVersion, SegmentNo};
use walsim_core::call::{DiskOp, Effect, LogEvent, Message};
use walsim_core::node::PmState;
use walsim_core::shmem::{Role, WalSndState};
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
    /// WAL below was given up, and is not had back: a standby reported less than before, or for the first time, or the
    /// slot exceeded its limit.
    given_up: BTreeMap<String, Lsn>,
    /// `max_slot_wal_keep_size` in segments, as it is and as it was before: removal goes on by what it began with.
    limits: [Option<u64>; 2],
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
                self.nodes[scene.host].follow(scene);
                for (_, effect) in &scene.effects.0 {
                    match effect {
                        Effect::Disk(_, DiskOp::Rename { to, .. }) => {
                            if let Some(name) = slot_of(to.as_str()) {
                                self.whole(holder, name)?;
                            }
                        }
                        Effect::Log(LogEvent {
                            message: Message::File { path, .. },
                            ..
                        }) if self.version == PgVersion::V15 => {
                            self.nodes[scene.host].not_saved(scene, path.as_str());
                        }
                        Effect::Disk(..)
                        | Effect::Net(..)
                        | Effect::Log(_)
                        | Effect::Exit(_)
                        | Effect::Halt => {}
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
        &mut self,
        holder: Holder<'_>,
        segment: SegmentNo,
    ) -> Result<(), Violation> {
        let end = self.geometry.segment_before(holder.end);
        let slots = &self.nodes[holder.host];
        let excess = |limit: &u64| segment.0 + limit < end.0;
        let exceeds = slots.limits.iter().flatten().any(excess);
        for name in self.names(holder) {
            if let Some(from) = self.held_from(holder, &name)
                && from <= segment
                && segment <= end
            {
                if exceeds {
                    // Its position in memory may be young enough. Only that of its file is not, and nobody will need it.
                    let next = self.geometry.segment_start(SegmentNo(segment.0 + 1));
                    let slots = &mut self.nodes[holder.host];
                    slots.given_up.insert(name, next);
                    continue;
                }
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

    fn names<'a>(&self, holder: Holder<'a>) -> impl Iterator<Item = String> + use<'a> {
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
    /// 15 removes WAL by what a slot had in memory, also if it could not be saved (docs/hazards/unsaved-slot.md).
    fn not_saved(&mut self, scene: &Scene<'_>, path: &str) {
        let slots = &scene.view.shmem().slots.slots;
        let directory = |name: &str| format!("{DIRECTORY}/{name}/");
        if let Some(slot) = slots.iter().find(|s| path.starts_with(&directory(&s.name))) {
            let given_up = self.given_up.entry(slot.name.clone()).or_default();
            *given_up = (*given_up).max(slot.restart_lsn);
        }
    }

    fn follow(&mut self, scene: &Scene<'_>) {
        let shmem = scene.view.shmem();
        let settings = &shmem.settings;
        let segment = u64::from(scene.geometry.segment);
        let limit = settings.max_slot_wal_keep_size.map(|size| size / segment);
        if limit != self.limits[0] {
            self.limits = [limit, self.limits[0]];
        }
        let streams = |pid| {
            let mut senders = shmem.walsnd.iter();
            senders.any(|s| s.pid == Some(pid) && s.state != WalSndState::Startup)
        };
        let reports = scene.ran.is_some_and(|(pid, _)| streams(pid));
        self.positions(&shmem.slots.slots, |from| {
            if reports {
                gone_before(scene, from)
            } else {
                Lsn::INVALID
            }
        });
    }

    /// Takes over where the slots are; `gone` tells of a new position behind which WAL there is some again.
    fn positions(&mut self, slots: &[walsim_core::shmem::Slot], gone: impl Fn(Lsn) -> Lsn) {
        self.last.resize(slots.len(), Lsn::INVALID);
        for (slot, last) in slots.iter().zip(&mut self.last) {
            let now = if slot.in_use {
                slot.restart_lsn
            } else {
                Lsn::INVALID
            };
            if now == *last {
                continue;
            }
            let mut given_up = Lsn::INVALID;
            if now < *last && now.is_valid() {
                given_up = *last;
            }
            if now.is_valid() {
                given_up = given_up.max(gone(now));
            }
            if given_up.is_valid() {
                let known = self.given_up.entry(slot.name.clone()).or_default();
                *known = (*known).max(given_up);
            }
            *last = now;
        }
    }
}

/// Behind the WAL that is already gone from a position on. A report does not ask whether what it asks for is there.
fn gone_before(scene: &Scene<'_>, from: Lsn) -> Lsn {
    let geometry = &scene.geometry;
    let end = geometry.segment_of(scene.view.shmem().xlog.flush);
    let mut segment = geometry.segment_of(from);
    let path = |segment| wal_files::path(geometry, FIRST_TIMELINE, segment);
    while segment < end && !scene.disk.exists(&path(segment)) {
        segment.0 += 1;
    }
    if segment == geometry.segment_of(from) {
        Lsn::INVALID
    } else {
        geometry.segment_start(segment)
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
