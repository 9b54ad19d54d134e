//! RETAIN: WAL goes when nobody needs it any more, and slots are saved as they move on, so that it can.
//!
//! Both are judged when a checkpoint or a restartpoint has ended. What it had to let go of is computed here from scratch,
//! from the least that it could have seen: slots move, come and go while it runs, and what they hold together is
//! published a step after somebody has looked at them, which may be long ago for a process that got no CPU.

mod horizon;

use super::slot_changes::SlotChange;
use super::{Scene, Site, control_file, slot};
use crate::disk::Disk;
use crate::world::Violation;
use horizon::{Least, Limits, horizon, required};
use std::collections::BTreeMap;
use std::fmt::Display;
use walsim_core::base::{Geometry, Lsn, PgVersion, Pid};
use walsim_core::call::{DiskError, Effect, Message, Place, SlotMessage};
use walsim_core::node::PmState;
use walsim_core::shmem::{Role, Shmem};
use walsim_core::wal::names::WalFile;

const CODE: &str = "RETAIN";

/// Where a process stands that has looked at all slots, and publishes in its next step what it has found.
const LOOKED: Place = Place::ReplicationSlotsComputeRequiredLSN;

/// What is known of each node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Retain {
    nodes: Vec<Node>,
}

#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Node {
    /// What slots hold together, as it was published last.
    published: Least,
    /// What was found and is not published yet.
    found: BTreeMap<Pid, Least>,
    /// Checkpoints begun.
    begun: u32,
    window: Option<Window>,
}

/// What a checkpoint may have seen since it began.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Window {
    /// The redo point that the control file names, to see it change.
    redo: Lsn,
    published: Least,
    /// Slots were invalidated, and what the others hold is not published yet.
    invalidated: bool,
    /// The least position of each slot that could have been saved all the time.
    slots: BTreeMap<String, Lsn>,
    limits: Limits,
    /// The least end of WAL, on a standby.
    end: Lsn,
    /// What could not be removed.
    stuck: Vec<String>,
    /// The disk has failed a slot.
    unsaved: bool,
}

/// Where a checkpoint has ended.
#[derive(Clone, Copy, Debug)]
struct Ground<'a> {
    site: Site<'a>,
    disk: &'a Disk,
    version: PgVersion,
    geometry: Geometry,
}

/// The least position of each slot since a checkpoint began that has ended well.
pub(super) type Saved = BTreeMap<String, Lsn>;

impl Retain {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            nodes: vec![Node::default(); nodes],
        }
    }

    /// A server is gone with its shared memory.
    pub(super) fn forget(&mut self, host: usize) {
        self.nodes[host] = Node::default();
    }

    /// When a checkpoint has ended: what every slot's file must be able to tell from now on.
    pub(super) fn after_step(
        &mut self,
        scene: &Scene<'_>,
        change: SlotChange,
    ) -> Result<Option<Saved>, Violation> {
        let Some((pid, role)) = scene.ran else {
            return Ok(None);
        };
        let shmem = scene.view.shmem();
        let node = &mut self.nodes[scene.host];
        match role {
            Role::Backend | Role::WalSender => {
                node.publish(scene, pid, role, change);
                node.widen(shmem, change);
                Ok(None)
            }
            Role::Startup => {
                // Slots are read from disk before anybody else may touch them.
                if scene.view.postmaster_state() == Some(PmState::Startup) {
                    *node = Node {
                        published: required(shmem),
                        ..Node::default()
                    };
                }
                Ok(None)
            }
            Role::Checkpointer => {
                node.publish(scene, pid, role, change);
                node.checkpoint(scene, change)
            }
            Role::Postmaster | Role::WalWriter | Role::WalReceiver => Ok(None),
        }
    }
}

impl Node {
    /// What a process has found in its last step it has published in this one.
    fn publish(&mut self, scene: &Scene<'_>, pid: Pid, role: Role, change: SlotChange) {
        if let Some(found) = self.found.remove(&pid) {
            let ended = scene.effects.0.iter();
            let ended =
                ended.filter(|(who, effect)| *who == pid && matches!(effect, Effect::Exit(_)));
            // Who was ended may have come to publish it, or not.
            self.published = if ended.count() > 0 {
                self.published.min(found)
            } else {
                found
            };
            if role == Role::Checkpointer
                && let Some(window) = &mut self.window
                && core::mem::take(&mut window.invalidated)
            {
                window.published = self.published;
            }
        }
        let looked = || {
            scene
                .view
                .process(pid)
                .is_some_and(|process| process.at == LOOKED)
        };
        if (change.in_use || self.published != Least::default()) && looked() {
            self.found.insert(pid, required(scene.view.shmem()));
        }
    }

    fn widen(&mut self, shmem: &Shmem, change: SlotChange) {
        if let Some(window) = &mut self.window {
            window.widen(shmem, self.published);
            if change.any {
                window.slots_moved(shmem);
            }
        }
    }

    fn checkpoint(
        &mut self,
        scene: &Scene<'_>,
        change: SlotChange,
    ) -> Result<Option<Saved>, Violation> {
        let shmem = scene.view.shmem();
        let begun = core::mem::replace(&mut self.begun, shmem.checkpointer.started);
        let mut begins = begun != self.begun;
        let mut ended = None;
        for (_, effect) in &scene.effects.0 {
            let Effect::Log(event) = effect else { continue };
            let message = &event.message;
            begins |= *message == Message::ShuttingDownXlog;
            if *message == Message::Checkpoint("complete") {
                ended = Some(None);
            } else if let Message::RestartPoint(redo) = message {
                ended = Some(Some(*redo));
            }
            if let Some(window) = &mut self.window {
                window.heard(message);
            }
        }
        self.widen(shmem, change);
        let window = self.window.take_if(|_| ended.is_some());
        // The next one may begin in the step in which this one ends.
        if begins {
            self.window = Some(Window::new(shmem, self.published));
        }
        let (Some(restartpoint), Some(window)) = (ended, window) else {
            return Ok(None);
        };
        let ground = Ground {
            site: scene.site(),
            disk: scene.disk,
            version: shmem.settings.pg_version,
            geometry: scene.geometry,
        };
        window.removed(ground, restartpoint)?;
        window.saved(ground)
    }
}

impl Window {
    fn new(shmem: &Shmem, published: Least) -> Self {
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
            unsaved: false,
        }
    }

    /// A step was made while the checkpoint is under way.
    fn widen(&mut self, shmem: &Shmem, published: Least) {
        let redo = shmem.control.checkpoint_copy.redo;
        let named = core::mem::replace(&mut self.redo, redo) != redo;
        self.published = if named && Least::is_saved_first(&shmem.settings) {
            // It goes by what is published once the control file names it.
            published
        } else {
            self.published.min(published)
        };
        self.limits = self.limits.widest(Limits::of(&shmem.settings));
        self.end = self.end.min(end_of_wal(shmem));
    }

    fn slots_moved(&mut self, shmem: &Shmem) {
        self.slots.retain(|name, least| {
            let slot = shmem
                .slots
                .find(name)
                .map(|index| &shmem.slots.slots[index]);
            let slot = slot.filter(|slot| slot.invalidated.is_none());
            *least = slot.map_or(Lsn::INVALID, |slot| slot.restart_lsn.min(*least));
            least.is_valid()
        });
    }

    fn heard(&mut self, message: &Message) {
        self.invalidated |= matches!(message, Message::Slot(SlotMessage::Invalidating { .. }));
        if let Message::File { path, error, .. } = message {
            if let Some(name) = path.as_str().strip_prefix("pg_wal/") {
                self.stuck.push(name.to_owned());
            }
            // A file that is in its own way is no failure of the disk.
            let failed = matches!(error, DiskError::Io | DiskError::NoSpace);
            self.unsaved |= failed && path.as_str().starts_with("pg_replslot/");
        }
    }

    /// No segment lies below what was needed.
    fn removed(&self, ground: Ground<'_>, restartpoint: Option<Lsn>) -> Result<(), Violation> {
        let (disk, geometry) = (ground.disk, ground.geometry);
        let Some(control) = control_file::on_platter(disk, ground.version) else {
            return Ok(());
        };
        let redo = control.checkpoint_copy.redo;
        let (redo, end) = match restartpoint {
            Some(at) => (redo.min(at), self.end),
            None => {
                let at = control.checkpoint;
                (redo, control_file::checkpoint_end(disk, &geometry, at))
            }
        };
        let keep = horizon(&geometry, redo, end, self.published, self.limits);
        for name in disk.list("pg_wal") {
            let (Some(WalFile::Segment(_, segment)) | Some(WalFile::Partial(_, segment))) =
                WalFile::parse(&geometry, &name)
            else {
                continue;
            };
            if segment >= keep || self.stuck.contains(&name) {
                continue;
            }
            let needed = geometry.segment_start(keep);
            let message = "WAL that nobody needs is still there after a checkpoint";
            let facts: [(&str, &dyn Display); 5] = [
                ("file", &name),
                ("needed from", &needed),
                ("redo point", &redo),
                ("held by slots", &self.published),
                ("end of WAL", &end),
            ];
            return Err(ground.site.violation(CODE, message, &facts));
        }
        Ok(())
    }

    /// Every slot's file has come at least to where the slot was when the checkpoint began.
    fn saved(self, ground: Ground<'_>) -> Result<Option<Saved>, Violation> {
        if self.unsaved {
            return Ok(None);
        }
        for (name, least) in &self.slots {
            let on_disk = slot::on_disk(ground.disk, ground.version, name).unwrap_or_default();
            // Whoever drops a slot takes its directory away first.
            let dropped = !ground.disk.exists(&format!("pg_replslot/{name}"));
            if on_disk < *least && !dropped {
                let message = "a checkpoint has not saved how far a slot is";
                let facts: [(&str, &dyn Display); 3] = [
                    ("slot", name),
                    ("restart_lsn when the checkpoint began", least),
                    ("restart_lsn on its disk", &on_disk),
                ];
                return Err(ground.site.violation(CODE, message, &facts));
            }
        }
        Ok(Some(self.slots))
    }
}

/// From where a restartpoint counts back.
fn end_of_wal(shmem: &Shmem) -> Lsn {
    shmem
        .walrcv
        .flushed_upto
        .max(shmem.recovery.last_replayed_end)
}

#[cfg(test)]
mod tests;
