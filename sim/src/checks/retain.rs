//! RETAIN: a checkpoint removes old WAL that nothing requires, and saves the slots that have
//! advanced.
//!
//! The check looks at the disk when a checkpoint or restartpoint has completed. It computes
//! independently which WAL the checkpoint had to remove, from the lowest values that the checkpoint
//! could have read.

use crate::disk::Disk;
use crate::referee::{
    About, Change, ChangeKind, Check, CheckpointEnd, Evidence, Knowledge, Promise, Ruling, Site,
    Step, Subscription, Value, control_file, horizon, slot_on_disk,
};
use walsim_core::base::{Geometry, PgVersion};
use walsim_core::wal::names::WalFile;
use walsim_core::wire::control_file::ControlFile;

const ABOUT: About = About {
    code: "RETAIN",
    promise: Promise::Safety,
    statement: "Checkpoints remove WAL that nothing requires, and save each slot that has \
              advanced.",
    details: "When a checkpoint or restartpoint completes, pg_wal must contain no segment older \
              than the oldest required segment. A segment is required if recovery, wal_keep_size \
              or a slot requires it. The restart_lsn in a slot's state file must be at least the \
              restart_lsn that the slot had in memory when the checkpoint began.",
    notes: &[
        "A slot requires WAL only within max_slot_wal_keep_size. An invalidated slot requires no \
         WAL.",
        "If a setting or a slot has changed during the checkpoint, the check uses the value that \
         requires the most WAL.",
        "If the server has logged that it could not remove a segment, this segment is not checked.",
        "If a walreceiver creates a segment after the checkpointer has read the directory, this \
         segment is not checked. The next checkpoint removes it.",
        "A slot that could not be saved because of a disk error or a full disk is not checked.",
    ],
    source: "Checkpoints and restartpoints first save the slots: CheckPointReplicationSlots \
              (slot.c). Then they remove old segments. KeepLogSeg computes the first segment to \
              keep from wal_keep_size, slots and max_slot_wal_keep_size (xlog.c)",
};

const SUBSCRIPTIONS: [Subscription; 1] = [Subscription::Change(ChangeKind::Checkpoint)];

/// Stateless.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Retain;

/// The state of a node after a checkpoint.
#[derive(Clone, Copy, Debug)]
struct Ground<'a> {
    site: Site<'a>,
    disk: &'a Disk,
    control: Option<&'a ControlFile>,
    version: PgVersion,
    geometry: &'a Geometry,
}

impl Check for Retain {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn after_change(&mut self, change: Change<'_>, step: &Step<'_>, known: &Knowledge) -> Ruling {
        let Change::Checkpoint(end) = change else {
            return Ok(());
        };
        let ground = Ground {
            site: step.site,
            disk: step.disk,
            control: known.control(step.site.host),
            version: known.version(),
            geometry: known.geometry(),
        };
        removed(end, ground)?;
        saved(end, ground)
    }
}

/// Checks that no segment is older than the first required segment.
fn removed(
    CheckpointEnd {
        restartpoint,
        window,
    }: &CheckpointEnd,
    ground: Ground<'_>,
) -> Ruling {
    let (disk, geometry) = (ground.disk, ground.geometry);
    let Some(control) = ground.control else {
        return Ok(());
    };
    let redo = control.checkpoint_copy.redo;
    let (redo, end) = match restartpoint {
        Some(at) => (redo.min(*at), window.end),
        None => (
            redo,
            control_file::checkpoint_end(disk, geometry, control.checkpoint),
        ),
    };
    let keep = horizon(geometry, redo, end, window.published, window.limits);
    for name in disk.list("pg_wal") {
        let (Some(WalFile::Segment(_, segment)) | Some(WalFile::Partial(_, segment))) =
            WalFile::parse(geometry, &name)
        else {
            continue;
        };
        let is_exempt = window.stuck.contains(&name) || window.installed.contains(&name);
        if segment >= keep || is_exempt {
            continue;
        }
        let needed = geometry.segment_start(keep);
        let message = "WAL that nothing requires still exists after a checkpoint";
        let facts: [(&str, &dyn Evidence); 5] = [
            ("file", &Value::file(format!("pg_wal/{name}"))),
            ("required from", &needed),
            ("redo point", &redo),
            ("required by slots", &window.published),
            ("end of WAL", &end),
        ];
        return Err(ground.site.violation(ABOUT.code, message, &facts));
    }
    Ok(())
}

/// Checks that the state file of every slot contains at least the position that the slot had when
/// the checkpoint began.
fn saved(CheckpointEnd { window, .. }: &CheckpointEnd, ground: Ground<'_>) -> Ruling {
    if window.unsaved {
        return Ok(());
    }
    for (name, least) in &window.slots {
        let on_disk = slot_on_disk(ground.disk, ground.version, name).unwrap_or_default();
        // Before a process drops a slot, it renames the slot's directory.
        let dropped = !ground.disk.exists(&format!("pg_replslot/{name}"));
        if on_disk < *least && !dropped {
            let message = "a checkpoint did not save the position of a slot";
            let facts: [(&str, &dyn Evidence); 3] = [
                ("slot", &Value::slot(name)),
                ("restart_lsn when the checkpoint began", least),
                ("restart_lsn on its disk", &on_disk),
            ];
            return Err(ground.site.violation(ABOUT.code, message, &facts));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
