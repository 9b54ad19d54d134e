//! FILES: files do not pile up.

use crate::referee::{
    About, Change, ChangeKind, Check, CheckpointEnd, Knowledge, Promise, Ruling, Step,
    Subscription, control_file, horizon,
};
use std::fmt::Display;
use walsim_core::shmem::{LockId, RecoveryState};
use walsim_core::wal::names::WalFile;

const ABOUT: About = About {
    code: "FILES",
    promise: Promise::Safety,
    statement: "Segments, temporary files and files that were restored do not pile up.",
    details: "Judged when a checkpoint or a restartpoint has ended. There are at most as many segment files as lie\n\
              between the first one that is needed and the end of WAL, plus max_wal_size or min_wal_size, whichever\n\
              is more, plus one; the largest setting that was seen on any node counts, since files go from node to\n\
              node. There are at most as many xlogtemp files as processes. A slot has a state.tmp only while it is\n\
              saved. After recovery neither RECOVERYXLOG nor RECOVERYHISTORY is left. Exempt are files of which the\n\
              log says that they could not be removed, and temporary files of slots once a disk has failed a\n\
              process. History files, .backup files and backup_label.old stay.",
    source: "Old segments are recycled up to the limit of XLOGfileslop and removed beyond it (RemoveXlogFile, xlog.c)",
};

const SUBSCRIPTIONS: [Subscription; 1] = [Subscription::Change(ChangeKind::Checkpoint)];

/// The largest of all sizes that limit recycling.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Files {
    most: u64,
}

impl Check for Files {
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
        let settings = &step.view.shmem().settings;
        self.most = self
            .most
            .max(settings.max_wal_size)
            .max(settings.min_wal_size);
        let names = step.disk.list("pg_wal");
        self.segments(end, step, known, &names)?;
        temporary(step, known, &names)?;
        let unsaved = end.window.unsaved || known.disk_failed(step.site.host).is_some();
        if unsaved { Ok(()) } else { slots(step) }
    }
}

impl Files {
    fn segments(
        &self,
        CheckpointEnd {
            restartpoint,
            window,
        }: &CheckpointEnd,
        step: &Step<'_>,
        known: &Knowledge,
        names: &[String],
    ) -> Ruling {
        let (geometry, shmem) = (known.geometry(), step.view.shmem());
        let Some(control) = known.control(step.site.host) else {
            return Ok(());
        };
        let redo = control.checkpoint_copy.redo;
        let (redo, end) = match restartpoint {
            Some(at) => (redo.min(*at), window.end),
            None => (
                redo,
                control_file::checkpoint_end(step.disk, geometry, control.checkpoint),
            ),
        };
        let keep = horizon(geometry, redo, end, window.published, window.limits);
        // More WAL has come since the checkpoint looked, and a standby that was started again has
        // not yet replayed all that it received before.
        let had = known.wal_end_of(step.site.host);
        let written = shmem.xlog.write.max(shmem.walrcv.written_upto);
        let received = shmem.walrcv.flushed_upto;
        let replayed = shmem.recovery.last_replayed_end;
        let now = end.max(written).max(received).max(replayed).max(had);
        let needed = geometry.segment_of(now).0.saturating_sub(keep.0) + 1;
        let limit = needed + self.most / u64::from(geometry.segment) + 1;
        let is_segment = |name: &&String| {
            let file = WalFile::parse(geometry, name);
            matches!(file, Some(WalFile::Segment(..))) && !window.stuck.contains(name)
        };
        let count = names.iter().filter(is_segment).count();
        if count as u64 <= limit {
            return Ok(());
        }
        let facts: [(&str, &dyn Display); 5] = [
            ("segment files", &count),
            ("at most", &limit),
            ("needed from", &geometry.segment_start(keep)),
            ("end of WAL", &now),
            ("largest max_wal_size or min_wal_size", &self.most),
        ];
        let message = "more segments exist after a checkpoint than the settings allow";
        Err(step.site.violation(ABOUT.code, message, &facts))
    }
}

/// Files in the making, and files that were restored.
fn temporary(step: &Step<'_>, known: &Knowledge, names: &[String]) -> Ruling {
    let named = |start: &str| names.iter().filter(|name| name.starts_with(start)).count();
    let (in_the_making, processes) = (named("xlogtemp."), step.view.processes().count());
    if in_the_making > processes {
        let facts: [(&str, &dyn Display); 2] = [
            ("xlogtemp files", &in_the_making),
            ("processes", &processes),
        ];
        let message = "temporary segments of processes that are gone pile up";
        return Err(step.site.violation(ABOUT.code, message, &facts));
    }
    let restored = named("RECOVERYXLOG") + named("RECOVERYHISTORY");
    if known.recovery(step.site.host) == RecoveryState::Done && restored > 0 {
        let message = "files that recovery has restored are left";
        let facts: [(&str, &dyn Display); 1] = [("files", &restored)];
        return Err(step.site.violation(ABOUT.code, message, &facts));
    }
    Ok(())
}

/// No slot that nothing saves has a temporary file.
fn slots(step: &Step<'_>) -> Ruling {
    let shmem = step.view.shmem();
    for (slot, index) in shmem.slots.slots.iter().zip(0..) {
        let saved = shmem.locks.is_held(LockId::SlotIo(index));
        if !slot.in_use || saved {
            continue;
        }
        if step
            .disk
            .exists(&format!("pg_replslot/{}/state.tmp", slot.name))
        {
            let message = "a slot that nothing saves has a temporary file";
            let facts: [(&str, &dyn Display); 1] = [("slot", &slot.name)];
            return Err(step.site.violation(ABOUT.code, message, &facts));
        }
    }
    Ok(())
}
