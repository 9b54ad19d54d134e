//! SLOT: the WAL that a slot requires exists. The check uses the position that the slot would have
//! after a power loss, and not the position in shared memory. If a power loss can leave either of
//! two state files, the WAL for the lower position must exist.

use crate::disk::Disk;
use crate::referee::{
    About, Check, DiskEvent, DiskKind, Evidence, Exemption, FIRST_TIMELINE, FileClass, Knowledge,
    NodeAtEnd, PerNode, Promise, Ruling, Site, Step, Subscription, Value, Violation, segment_of,
    slot_name_of, slot_on_disk,
};
use std::collections::{BTreeMap, BTreeSet};
use walsim_core::base::{Geometry, Lsn, PgVersion, Pid, SegmentNo};
use walsim_core::call::{DiskError, DiskOp, Effect, Message};
use walsim_core::shmem::{self, Role, Shmem};
use walsim_core::wal::names::segment_path;

const ABOUT: About = About {
    code: "SLOT",
    promise: Promise::Safety,
    statement: "A node has all WAL from the restart_lsn in a slot's state file to the end of its \
              WAL.",
    details: "The check computes the restart_lsn that a slot would have after a power loss. All \
              WAL segments from this position to the end of the node's WAL must be in pg_wal. The \
              check runs when a segment is about to be removed, and when a process saves a slot.",
    notes: &[
        "If a power loss could leave different versions of a state file, the check uses the \
         lowest restart_lsn.",
        "The check ignores the restart_lsn in shared memory.",
        "A temporary slot, an invalidated slot, and a slot without a restart_lsn require no WAL.",
        "If a standby reports a lower position, its slot goes back. WAL that was legally removed \
         earlier need not exist.",
        "In some cases real servers also remove required WAL. These cases are not reported. \
         docs/hazards/slot-file-behind-memory.md lists them.",
    ],
    source: "A checkpoint keeps the WAL that the saved state of a slot requires: \
              ReplicationSlotsComputeRequiredLSN, InvalidateObsoleteReplicationSlots (slot.c), \
              KeepLogSeg (xlog.c)",
};

const SUBSCRIPTIONS: [Subscription; 2] = [
    Subscription::Step(&[
        Role::Backend,
        Role::WalSender,
        Role::Checkpointer,
        Role::Startup,
    ]),
    Subscription::Disk(DiskKind::Remove, FileClass::Wal),
];

const DIRECTORY: &str = "pg_replslot";

/// The state of the check.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Slot {
    nodes: PerNode<Slots>,
    /// How often [`Exemption::SlotFileBehindMemory`] was used.
    exempted: u32,
}

#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Slots {
    /// The ordinal number of the server's start. A new start makes `last` and `reporting` obsolete.
    boot: u32,
    /// The positions in shared memory, by slot number.
    last: Vec<Lsn>,
    /// For each slot, the position before which its WAL may legally have been removed. A slot gets
    /// such a position when a report sets the slot back, or when the first report sets its
    /// position.
    given_up: BTreeMap<String, Lsn>,
    /// Walsenders whose first report has set the position of a slot. Other processes see this
    /// position only after the walsender's next step.
    reporting: BTreeMap<Pid, String>,
    /// Slots that a process failed to save because the disk failed or was full.
    unsaved: BTreeSet<String>,
    /// The number of checkpoints that have begun.
    begun: u32,
    limit: Option<u64>,
}

/// A node whose slots are checked.
#[derive(Clone, Copy, Debug)]
struct Holder<'a> {
    site: Site<'a>,
    disk: &'a Disk,
    version: PgVersion,
    geometry: &'a Geometry,
    /// The end of the node's WAL.
    end: Lsn,
    /// For tests: the forced decision about the exemption.
    forced: Option<bool>,
}

impl<'a> Holder<'a> {
    fn new(site: Site<'a>, disk: &'a Disk, known: &'a Knowledge) -> Self {
        Self {
            site,
            disk,
            version: known.version(),
            geometry: known.geometry(),
            end: known.wal_end_of(site.host),
            forced: known.forced(Exemption::SlotFileBehindMemory),
        }
    }
}

impl Check for Slot {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn after_step(&mut self, step: &Step<'_>, known: &Knowledge) -> Ruling {
        let Some((pid, _)) = step.ran else {
            return Ok(());
        };
        let shmem = step.view.shmem();
        let slots = self.nodes.of(step.site.host);
        slots.boot(step.site.boot);
        slots.follow(shmem, pid);
        if known.slots_changed(step.site.host) {
            slots.positions(shmem, pid);
        }
        for (_, effect) in &step.effects.0 {
            match effect {
                Effect::Disk(_, DiskOp::Rename { from, to }) => {
                    let slots = self.nodes.of(step.site.host);
                    slots.renamed(from.as_str());
                    if let Some(name) = slot_name_of(to.as_str()) {
                        slots.unsaved.remove(name);
                        self.whole(Holder::new(step.site, step.disk, known), name)?;
                    }
                }
                Effect::Log(event) => self.nodes.of(step.site.host).heard(&event.message),
                Effect::Disk(..) | Effect::Net(..) | Effect::Exit(_) | Effect::Halt => {}
            }
        }
        Ok(())
    }

    fn on_disk(&mut self, event: &DiskEvent<'_>, known: &Knowledge) -> Ruling {
        let Some((FIRST_TIMELINE, segment)) = segment_of(known.geometry(), event.path) else {
            return Ok(());
        };
        let slots = event.view.map_or(&[][..], |view| &view.shmem().slots.slots);
        self.segment_removed(Holder::new(event.site, event.disk, known), segment, slots)
    }

    fn exempted(&self, exemption: Exemption) -> u32 {
        match exemption {
            Exemption::SlotFileBehindMemory => self.exempted,
        }
    }

    fn audit(&mut self, node: &NodeAtEnd<'_>, known: &Knowledge) -> Ruling {
        self.all(Holder::new(node.site, node.disk, known))
    }
}

impl Slot {
    /// Judges the removal of a segment, which is about to happen. `slots` contains the slots in
    /// shared memory.
    fn segment_removed(
        &mut self,
        holder: Holder<'_>,
        segment: SegmentNo,
        slots: &[shmem::Slot],
    ) -> Ruling {
        if segment > holder.geometry.segment_before(holder.end) {
            return Ok(());
        }
        for name in reachable_names(holder.disk) {
            if self
                .held_from(holder, &name)
                .is_none_or(|from| segment < from)
            {
                continue;
            }
            let is_known = self.is_known_hazard(holder, segment, &name, slots);
            if !holder.forced.unwrap_or(is_known) {
                let message = "a WAL segment required by a replication slot is being removed";
                return Err(holder.violation(&name, segment, message));
            }
            self.exempted += 1;
            let next = holder.geometry.segment_start(SegmentNo(segment.0 + 1));
            self.nodes.of(holder.site.host).give_up(&name, next);
        }
        Ok(())
    }

    /// Whether a real server would also remove this segment, although a slot requires the segment
    /// according to its state file (docs/hazards/slot-file-behind-memory.md). This happens in three
    /// cases:
    ///
    /// - The segment is older than `max_slot_wal_keep_size` allows, and the slot's position in
    ///   memory is past the segment.
    /// - Before 18, the slot could not be saved, and its position in memory is past the segment.
    /// - The server invalidated the slot, and could not save it.
    fn is_known_hazard(
        &mut self,
        holder: Holder<'_>,
        segment: SegmentNo,
        name: &str,
        slots: &[shmem::Slot],
    ) -> bool {
        let geometry = holder.geometry;
        let node = self.nodes.of(holder.site.host);
        let named = |slot: &&shmem::Slot| slot.in_use && slot.name == name;
        let Some(slot) = slots.iter().find(named) else {
            return false;
        };
        let unsaved = node.unsaved.contains(name);
        let last = geometry.segment_of(holder.end).0;
        let beyond = |limit: u64| segment.0 + limit / u64::from(geometry.segment) < last;
        let moved_on = geometry.segment_of(slot.restart_lsn) > segment;
        unsaved && slot.invalidated.is_some()
            || unsaved && moved_on && holder.version < PgVersion::V18
            || moved_on && node.limit.is_some_and(beyond)
    }

    /// Checks all slots of a node.
    fn all(&mut self, holder: Holder<'_>) -> Ruling {
        let names = reachable_names(holder.disk);
        names.iter().try_for_each(|name| self.whole(holder, name))
    }

    /// Checks all WAL that a slot requires.
    fn whole(&mut self, holder: Holder<'_>, name: &str) -> Ruling {
        let Some(from) = self.held_from(holder, name) else {
            return Ok(());
        };
        let upto = holder.geometry.segment_before(holder.end);
        for segment in (from.0..=upto.0).map(SegmentNo) {
            let path = segment_path(holder.geometry, FIRST_TIMELINE, segment);
            if !holder.disk.exists(&path) {
                let message = "a replication slot requires WAL that does not exist";
                return Err(holder.violation(name, segment, message));
            }
        }
        Ok(())
    }

    /// The first segment that the slot would require if the server lost power now.
    fn held_from(&mut self, holder: Holder<'_>, name: &str) -> Option<SegmentNo> {
        let given_up = self.nodes.of(holder.site.host).given_up.get(name).copied();
        let from = slot_on_disk(holder.disk, holder.version, name)?;
        Some(
            holder
                .geometry
                .segment_of(from.max(given_up.unwrap_or_default())),
        )
    }
}

impl Holder<'_> {
    fn violation(&self, name: &str, segment: SegmentNo, message: &str) -> Violation {
        let on_disk = slot_on_disk(self.disk, self.version, name).unwrap_or_default();
        let start = self.geometry.segment_start(segment);
        let facts: [(&str, &dyn Evidence); 4] = [
            ("slot", &Value::slot(name)),
            ("restart_lsn on its disk", &on_disk),
            ("start of the segment", &start),
            ("end of WAL", &self.end),
        ];
        self.site.violation(ABOUT.code, message, &facts)
    }
}

/// The slots that a server may find at its start after a power loss. A server removes temporary
/// directories, including those of dropped slots, at every start.
fn reachable_names(disk: &Disk) -> Vec<String> {
    let names = disk.reachable_names(DIRECTORY).into_iter();
    names
        .filter(|name| !name.ends_with(".tmp"))
        .map(|name| String::from(&*name))
        .collect()
}

impl Slots {
    /// Forgets what was in shared memory if the server has been started again.
    fn boot(&mut self, boot: u32) {
        if self.boot != boot {
            self.boot = boot;
            self.last.clear();
            self.reporting.clear();
        }
    }

    /// Called when a slot was created under this name. Forgets what is known about an earlier slot
    /// of the same name.
    fn renamed(&mut self, from: &str) {
        if let Some(name) = from.strip_prefix(DIRECTORY)
            && let Some(name) = name
                .strip_prefix('/')
                .and_then(|name| name.strip_suffix(".tmp"))
        {
            self.given_up.remove(name);
        }
    }

    /// Updates what the check knows after a step.
    fn follow(&mut self, shmem: &Shmem, ran: Pid) {
        let begun = std::mem::replace(&mut self.begun, shmem.checkpointer.started);
        let limit = shmem.settings.max_slot_wal_keep_size;
        self.limit = if begun == self.begun {
            self.limit.into_iter().chain(limit).min()
        } else {
            limit
        };
        if let Some(name) = self.reporting.remove(&ran) {
            // If a checkpoint read the slots before this report, it may still remove all WAL that
            // crash recovery does not need.
            self.given_up.insert(name, shmem.xlog.redo);
        }
    }

    /// Records the current positions of the slots.
    fn positions(&mut self, shmem: &Shmem, ran: Pid) {
        self.last.resize(shmem.slots.slots.len(), Lsn::INVALID);
        for (number, slot) in shmem.slots.slots.iter().enumerate() {
            let now = if slot.in_use {
                slot.restart_lsn
            } else {
                Lsn::INVALID
            };
            let before = std::mem::replace(&mut self.last[number], now);
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
            && let Some(name) = slot_name_of(state)
        {
            // A failed creation of a file that already exists is not a disk error.
            if matches!(error, DiskError::Io | DiskError::NoSpace) {
                self.unsaved.insert(name.to_owned());
            } else {
                self.unsaved.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
