//! FILES: a server does not accumulate segments and temporary files.

use crate::referee::{
    About, Change, ChangeKind, Check, CheckpointEnd, Evidence, Knowledge, Promise, Ruling, Step,
    Subscription, Value, control_file, horizon,
};
use walsim_core::shmem::{LockId, RecoveryState};
use walsim_core::wal::names::WalFile;

const ABOUT: About = About {
    code: "FILES",
    promise: Promise::Safety,
    statement: "A server does not accumulate WAL segments, temporary files, or files restored \
              from an archive.",
    details: "When a checkpoint or restartpoint completes, pg_wal may contain at most \
              max_wal_size / segment size + 1 segments in addition to the required segments. \
              pg_wal may contain at most one xlogtemp file per process. After recovery, pg_wal \
              must not contain RECOVERYXLOG or RECOVERYHISTORY. A slot may have a state.tmp only \
              while a process saves the slot.",
    notes: &[
        "The required segments begin with the first segment that the checkpoint had to keep. They \
         end with the segment at the end of WAL.",
        "The check uses max_wal_size or min_wal_size, whichever is larger. If this value has \
         changed or differs between nodes, the check uses the largest value at any checkpoint so \
         far.",
        "If the server has logged that it could not remove a segment, this segment does not count.",
        "The temporary files of slots are not checked after a disk error.",
        "History files, .backup files and backup_label.old may remain.",
    ],
    source: "Old segments are recycled up to the limit of XLOGfileslop and removed beyond it \
              (RemoveXlogFile, xlog.c)",
};

const SUBSCRIPTIONS: [Subscription; 1] = [Subscription::Change(ChangeKind::Checkpoint)];

/// The largest `max_wal_size` or `min_wal_size` that any node had at a checkpoint.
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
        // The limit is computed from the highest WAL position of the node. WAL may have grown after
        // the checkpoint computed which WAL it keeps. A restarted standby may not have replayed all
        // WAL that it received before the restart.
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
        let facts: [(&str, &dyn Evidence); 5] = [
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

/// Checks temporary segments, and temporary files of segments that were restored from an archive.
fn temporary(step: &Step<'_>, known: &Knowledge, names: &[String]) -> Ruling {
    let named = |start: &str| names.iter().filter(|name| name.starts_with(start)).count();
    let (in_the_making, processes) = (named("xlogtemp."), step.view.processes().count());
    if in_the_making > processes {
        let facts: [(&str, &dyn Evidence); 2] = [
            ("xlogtemp files", &in_the_making),
            ("processes", &processes),
        ];
        let message = "there are more temporary segments than processes";
        return Err(step.site.violation(ABOUT.code, message, &facts));
    }
    let restored = named("RECOVERYXLOG") + named("RECOVERYHISTORY");
    if known.recovery(step.site.host) == RecoveryState::Done && restored > 0 {
        let message = "files RECOVERYXLOG or RECOVERYHISTORY exist after the end of recovery";
        let facts: [(&str, &dyn Evidence); 1] = [("files", &restored)];
        return Err(step.site.violation(ABOUT.code, message, &facts));
    }
    Ok(())
}

/// Checks that a slot has a temporary state file only while a process saves the slot.
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
            let message = "a slot has a temporary file, but no process is saving the slot";
            let facts: [(&str, &dyn Evidence); 1] = [("slot", &Value::slot(&slot.name))];
            return Err(step.site.violation(ABOUT.code, message, &facts));
        }
    }
    Ok(())
}
