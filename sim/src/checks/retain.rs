//! RETAIN: old WAL is removed when nothing requires it, and slots are saved as they move on, so
//! that it can be.
//!
//! Both are judged when a checkpoint or a restartpoint has ended. What it had to let go of is
//! computed here from scratch, from the least that it could have seen.

use crate::disk::Disk;
use crate::referee::{
    About, Change, ChangeKind, Check, CheckpointEnd, Knowledge, Promise, Ruling, Site, Step,
    Subscription, control_file, horizon, slot_on_disk,
};
use std::fmt::Display;
use walsim_core::base::{Geometry, PgVersion};
use walsim_core::wal::names::WalFile;
use walsim_core::wire::control_file::ControlFile;

const ABOUT: About = About {
    code: "RETAIN",
    promise: Promise::Safety,
    statement: "Checkpoints remove WAL that nothing requires, and save each slot that has advanced.",
    details: "Judged when a checkpoint or a restartpoint has ended. No segment may lie before the first one that is\n\
              needed by recovery, by wal_keep_size, or by a valid slot within max_slot_wal_keep_size, each taken\n\
              at the lowest value that the checkpoint could have read; and every slot's file must be at least where\n\
              the slot was when the checkpoint began. Exempt are files of which the log says that they could not\n\
              be removed, and slots that a failing or full disk did not let be saved.",
    source: "Checkpoints and restartpoints remove old segments up to a horizon that KeepLogSeg computes from wal_keep_size,\n\
             slots and max_slot_wal_keep_size (xlog.c), and save slots first: CheckPointReplicationSlots (slot.c)",
};

const SUBSCRIPTIONS: [Subscription; 1] = [Subscription::Change(ChangeKind::Checkpoint)];

/// Remembers nothing.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Retain;

/// Where a checkpoint has ended.
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

/// No segment lies below what was needed.
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
        if segment >= keep || window.stuck.contains(&name) {
            continue;
        }
        let needed = geometry.segment_start(keep);
        let message = "WAL that nothing requires still exists after a checkpoint";
        let facts: [(&str, &dyn Display); 5] = [
            ("file", &name),
            ("needed from", &needed),
            ("redo point", &redo),
            ("held by slots", &window.published),
            ("end of WAL", &end),
        ];
        return Err(ground.site.violation(ABOUT.code, message, &facts));
    }
    Ok(())
}

/// Every slot's file has come at least to where the slot was when the checkpoint began.
fn saved(CheckpointEnd { window, .. }: &CheckpointEnd, ground: Ground<'_>) -> Ruling {
    if window.unsaved {
        return Ok(());
    }
    for (name, least) in &window.slots {
        let on_disk = slot_on_disk(ground.disk, ground.version, name).unwrap_or_default();
        // Dropping a slot takes its directory away first.
        let dropped = !ground.disk.exists(&format!("pg_replslot/{name}"));
        if on_disk < *least && !dropped {
            let message = "a checkpoint did not save the position of a slot";
            let facts: [(&str, &dyn Display); 3] = [
                ("slot", name),
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
