//! KEEP: a checkpoint does not remove the WAL that wal_keep_size retains.

use crate::referee::{
    About, Check, DiskEvent, DiskKind, FileClass, Knowledge, PerNode, Promise, Ruling, Site, Step,
    Subscription, control_file, segment_of,
};
use walsim_core::base::{Geometry, Lsn, SegmentNo};
use walsim_core::shmem::Role;

const ABOUT: About = About {
    code: "KEEP",
    promise: Promise::Safety,
    statement: "A checkpoint does not remove WAL that wal_keep_size retains.",
    details: "A checkpoint or restartpoint must not remove or recycle the segment at the end of \
              WAL, nor the n segments before it. The number n is wal_keep_size / segment size, \
              rounded down.",
    notes: &[
        "For a checkpoint, the end of WAL is the end of the checkpoint record.",
        "For a restartpoint, the end of WAL is the later of two positions: the end of the WAL \
         that the walreceiver has flushed, and the end of the replayed WAL.",
        "If wal_keep_size changes after the checkpoint has updated pg_control and before it \
         removes the first segment, the check uses the lowest value.",
        "If wal_keep_size is smaller than a segment, it retains no WAL. It never retains segment \
         0.",
        "Removals by processes other than the checkpointer are not checked.",
    ],
    source: "CreateCheckPoint and CreateRestartPoint pass the end of WAL to KeepLogSeg. KeepLogSeg \
              subtracts wal_keep_size from this position. RemoveOldXlogFiles removes the segments \
              before the result (xlog.c)",
};

const SUBSCRIPTIONS: [Subscription; 2] = [
    Subscription::Step(&[Role::Checkpointer]),
    Subscription::Disk(DiskKind::Remove, FileClass::Wal),
];

/// The current checkpoint of each node.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Keep {
    nodes: PerNode<Under>,
}

/// The values that a checkpoint could read between its update of the control file and its first
/// removal. In this time the checkpoint computes which WAL it keeps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
struct Under {
    /// Identifies the checkpoint by three values: how often the server has been started, how many
    /// checkpoints have begun, and the checkpoint in the control file.
    which: (u32, u32, Lsn),
    /// The lowest `wal_keep_size`.
    size: Option<u64>,
    /// The highest end of WAL that a standby has received or replayed. On a primary this is lower
    /// than the checkpoint record and has no effect.
    end: Lsn,
    removing: bool,
}

impl Check for Keep {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn after_step(&mut self, step: &Step<'_>, _: &Knowledge) -> Ruling {
        let shmem = step.view.shmem();
        let which = (
            step.site.boot,
            shmem.checkpointer.started,
            shmem.control.checkpoint,
        );
        let end = shmem.walrcv.flushed_upto;
        let end = end.max(shmem.recovery.last_replayed_end);
        self.nodes
            .of(step.site.host)
            .saw(which, shmem.settings.wal_keep_size, end);
        Ok(())
    }

    fn on_disk(&mut self, event: &DiskEvent<'_>, known: &Knowledge) -> Ruling {
        let geometry = known.geometry();
        let role = event.pid.and_then(|pid| event.view?.role(pid));
        let (Some(Role::Checkpointer), Some((_, segment))) =
            (role, segment_of(geometry, event.path))
        else {
            return Ok(());
        };
        let under = self.nodes.of(event.site.host);
        under.removing = true;
        let (Some(size), Some(control)) = (under.size, known.control(event.site.host)) else {
            return Ok(());
        };
        // `wal_keep_size` is measured back from the end of WAL. On a primary this is the end of the
        // checkpoint record. On a standby it is `under.end`, which lies beyond the checkpoint
        // record.
        let end = control_file::checkpoint_end(event.disk, geometry, control.checkpoint);
        removed(event.site, geometry, segment, size, end.max(under.end))
    }
}

impl Under {
    fn saw(&mut self, which: (u32, u32, Lsn), size: u64, end: Lsn) {
        if self.which != which {
            *self = Self {
                which,
                ..Self::default()
            };
        }
        if !self.removing {
            self.size = Some(self.size.map_or(size, |least| least.min(size)));
            self.end = self.end.max(end);
        }
    }
}

/// Judges the removal or recycling of a segment by the checkpointer.
fn removed(site: Site<'_>, geometry: &Geometry, segment: SegmentNo, size: u64, end: Lsn) -> Ruling {
    let segments = size / u64::from(geometry.segment);
    let first = geometry.segment_of(end).0.saturating_sub(segments).max(1);
    if segments == 0 || segment.0 < first {
        return Ok(());
    }
    let message = "a checkpoint removes WAL that wal_keep_size retains";
    let (removed, first) = (
        geometry.segment_start(segment),
        geometry.segment_start(SegmentNo(first)),
    );
    Err(site.violation(
        ABOUT.code,
        message,
        &[
            ("removed", &removed),
            ("kept from", &first),
            ("wal_keep_size in segments", &segments),
            ("end of WAL", &end),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::{GEOMETRY, SITE};

    #[test]
    fn what_the_size_covers_is_kept() {
        let end = Lsn(9 * 1024 + 100);
        let judge = |segment, size| removed(SITE, &GEOMETRY, SegmentNo(segment), size, end).is_ok();
        assert!(judge(6, 2 * 1024));
        assert!(!judge(7, 2 * 1024));
        assert!(!judge(8, 2 * 1024));
        assert!(judge(8, 1023), "less than a segment keeps nothing");
        assert!(judge(6, 3 * 1024 - 1), "whole segments");
        assert!(judge(0, 90 * 1024), "segment 0 is never kept");
        assert!(!judge(1, 90 * 1024));
    }

    /// After a checkpoint has computed which WAL it keeps, a reload or new WAL does not change the
    /// result.
    #[test]
    fn what_is_set_after_the_horizon_does_not_count() {
        let mut under = Under::default();
        let which = (1, 1, Lsn(1024));
        under.saw(which, 0, Lsn(5000));
        under.saw(which, 4096, Lsn(4000));
        assert_eq!((under.size, under.end), (Some(0), Lsn(5000)));
        under.removing = true;
        under.saw(which, 0, Lsn(9000));
        assert_eq!(under.end, Lsn(5000));
        under.saw((1, 2, Lsn(1024)), 4096, Lsn(4000));
        assert_eq!((under.size, under.end), (Some(4096), Lsn(4000)));
    }
}
