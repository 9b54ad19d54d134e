//! What follows a checkpoint or restartpoint that the control file names: letting go of old WAL.
//! Mirrors the ends of CreateCheckPoint and CreateRestartPoint.
//!
//! Nothing of it is needed for the checkpoint to be one; a crash in its middle leaves more WAL than
//! necessary.

use super::wal_removal::{PreallocXlogFiles, RemoveOldXlogFiles};
use crate::base::{Bug, Lsn, PgVersion, SegmentNo, TimelineId};
use crate::call::{LogEvent, Place, Poll, Yield};
use crate::ready_ok;
use crate::replication::slot::checkpoint::CheckPointReplicationSlots;
use crate::replication::slot::invalidate::InvalidateObsoleteReplicationSlots;
use crate::replication::slot::required_lsn::slots_minimum;
use crate::replication::wal_horizon::{distance_estimate, keep_log_seg};
use crate::sys::Cx;

/// After which kind of checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReleaseAfter {
    /// A checkpoint whose record ends there, on that timeline.
    Checkpoint {
        /// End of its record.
        end: Lsn,
        /// `ThisTimeLineID`
        tli: TimelineId,
        /// The server stops, or recovery does: the next segment is not made.
        shutdown: bool,
    },
    /// A restartpoint, which looks for itself how far WAL goes.
    RestartPoint,
}

/// The end of a checkpoint.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReleaseWal {
    after: ReleaseAfter,
    /// Redo point of the checkpoint before; invalid if there was none.
    prior_redo: Lsn,
    redo: Lsn,
    /// What slots held before they were saved, where that counts.
    slots: Lsn,
    /// End of WAL.
    end: Lsn,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Start,
    Horizon,
    Invalidate(InvalidateObsoleteReplicationSlots, SegmentNo),
    /// Slots were invalidated (15): what the others hold counts once it is on disk.
    SaveSlots(CheckPointReplicationSlots),
    /// Slots were invalidated: back to the redo point.
    Again,
    Remove(RemoveOldXlogFiles, TimelineId),
    Preallocate(PreallocXlogFiles),
}

impl ReleaseWal {
    /// After a checkpoint with redo point `redo` that followed one with `prior_redo`.
    #[must_use]
    pub const fn new(after: ReleaseAfter, prior_redo: Lsn, redo: Lsn, slots: Lsn) -> Self {
        Self {
            after,
            prior_redo,
            redo,
            slots,
            end: Lsn::INVALID,
            phase: Phase::Start,
        }
    }

    /// # Errors
    /// pg_wal cannot be read, or the next segment cannot be made, as an ERROR.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let why = match self.after {
            ReleaseAfter::Checkpoint { .. } => Place::CreateCheckPoint,
            ReleaseAfter::RestartPoint => Place::CreateRestartPoint,
        };
        match &mut self.phase {
            Phase::Start => {
                self.estimate(cx);
                self.end = self.end_of_wal(cx);
                self.phase = Phase::Horizon;
                Poll::Yield(Yield::Again(why))
            }
            Phase::Horizon => {
                let keep = self.horizon(cx);
                let invalidate = InvalidateObsoleteReplicationSlots::new(keep);
                self.phase = Phase::Invalidate(invalidate, keep);
                Poll::Yield(Yield::Again(why))
            }
            Phase::Invalidate(invalidate, keep) => {
                let any = ready_ok!(invalidate.poll(cx));
                let keep = *keep;
                // Before 14 the horizon that had been computed for the slots stayed: it never came
                // past the slots of which the last had just gone.
                if !any || cx.planted(Bug::HorizonNotRecomputed) {
                    self.phase = self.remove(cx, keep);
                } else {
                    self.phase = self.after_invalidation(cx);
                }
                Poll::Yield(Yield::Again(why))
            }
            Phase::SaveSlots(save) => {
                ready_ok!(save.poll(cx));
                self.phase = Phase::Again;
                Poll::Yield(Yield::Again(why))
            }
            Phase::Again => {
                let keep = self.horizon(cx);
                self.phase = self.remove(cx, keep);
                Poll::Yield(Yield::Again(why))
            }
            Phase::Remove(remove, tli) => {
                ready_ok!(remove.poll(cx));
                let tli = *tli;
                if let ReleaseAfter::Checkpoint { shutdown: true, .. } = self.after {
                    return Poll::Ready(Ok(()));
                }
                self.phase = Phase::Preallocate(PreallocXlogFiles::new(cx, self.end, tli));
                Poll::Yield(Yield::Again(why))
            }
            Phase::Preallocate(preallocate) => preallocate.poll(cx),
        }
    }

    fn estimate(&self, cx: &mut Cx<'_>) {
        if self.prior_redo.is_valid() {
            let estimate = &mut cx.shmem.checkpointer.distance_estimate;
            let bytes = self.redo.0.saturating_sub(self.prior_redo.0);
            *estimate = distance_estimate(*estimate, bytes);
        }
    }

    /// From where `wal_keep_size` and the limit of slots are counted.
    fn end_of_wal(&self, cx: &Cx<'_>) -> Lsn {
        match self.after {
            ReleaseAfter::Checkpoint { end, .. } => end,
            ReleaseAfter::RestartPoint => {
                let received = cx.shmem.walrcv.flushed_upto;
                received.max(cx.shmem.recovery.last_replayed_end)
            }
        }
    }

    fn horizon(&self, cx: &mut Cx<'_>) -> SegmentNo {
        let slots = slots_minimum(cx, self.slots);
        let keep = keep_log_seg(&cx.shmem.settings, self.redo, self.end, slots);
        if cx.has_bug(Bug::WalKeepSizeIgnored) {
            let mut settings = cx.shmem.settings.clone();
            settings.wal_keep_size = 0;
            let bare = keep_log_seg(&settings, self.redo, self.end, slots);
            if bare != keep && cx.planted(Bug::WalKeepSizeIgnored) {
                return bare;
            }
        }
        keep
    }

    /// The redo point has not moved since the minimum was taken first, so that no lock is needed
    /// here.
    fn after_invalidation(&mut self, cx: &Cx<'_>) -> Phase {
        if cx.shmem.settings.pg_version >= PgVersion::V18 {
            return Phase::Again;
        }
        self.slots = cx.shmem.slots.required_lsn;
        Phase::SaveSlots(CheckPointReplicationSlots::new())
    }

    fn remove(&self, cx: &Cx<'_>, keep: SegmentNo) -> Phase {
        let tli = self.timeline(cx);
        let last = SegmentNo(keep.0.saturating_sub(1));
        let remove = RemoveOldXlogFiles::new(cx, last, self.redo, self.end, tli);
        Phase::Remove(remove, tli)
    }

    /// The timeline that will need segments next: if recovery has ended meanwhile, the one that is
    /// written.
    fn timeline(&self, cx: &Cx<'_>) -> TimelineId {
        match self.after {
            ReleaseAfter::Checkpoint { tli, .. } => tli,
            ReleaseAfter::RestartPoint if cx.shmem.recovery_in_progress() => {
                cx.shmem.recovery.last_replayed_tli
            }
            ReleaseAfter::RestartPoint => cx.shmem.xlog.insert_tli,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Planted;
    use crate::shmem::{Role, Slot};
    use crate::sys::testing::bench::{Bench, TINY};
    use alloc::string::String;

    /// The segments that are left of 1 to 9 after a checkpoint in segment 9, with a slot in segment
    /// 2 and a limit of three segments, and whether the slot still holds WAL.
    fn left(version: PgVersion, planted: Planted, limit: Option<u64>) -> (String, bool) {
        let mut bench = Bench::new(version, TINY, planted);
        bench.dirs.insert("pg_replslot".into());
        bench.dirs.insert("pg_replslot/a".into());
        for segment in 1..=9 {
            let path = bench.segment_path(SegmentNo(segment));
            bench.files.insert(path, alloc::vec![0; 1024]);
        }
        bench.shmem.recovery.state = crate::shmem::RecoveryState::Done;
        bench.shmem.settings.max_slot_wal_keep_size = limit;
        let held = Lsn(2 * 1024 + 500);
        bench.shmem.slots.slots[0] = Slot {
            in_use: true,
            name: "a".into(),
            restart_lsn: held,
            last_saved_restart_lsn: held,
            ..Slot::default()
        };
        bench.shmem.slots.required_lsn = held;
        let after = ReleaseAfter::Checkpoint {
            end: Lsn(9 * 1024 + 200),
            tli: TimelineId(1),
            shutdown: false,
        };
        let mut release = ReleaseWal::new(after, Lsn(1024), Lsn(9 * 1024 + 80), held);
        let pid = bench.attach(Role::Checkpointer);
        assert_eq!(bench.drive(pid, |cx| release.poll(cx)), Ok(Ok(())));
        let names = bench
            .files
            .keys()
            .filter_map(|path| path.strip_prefix("pg_wal/"));
        let valid = bench.shmem.slots.slots[0].restart_lsn == held;
        (names.map(|name| &name[23..]).collect(), valid)
    }

    #[test]
    fn a_slot_holds_wal_up_to_its_limit_and_then_none() {
        for version in PgVersion::ALL {
            let none = Planted::NONE;
            assert_eq!(left(version, none, None), ("23456789".into(), true));
            assert_eq!(
                left(version, none, Some(7 * 1024)),
                ("23456789".into(), true)
            );
            assert_eq!(left(version, none, Some(3 * 1024)), ("9".into(), false));
        }
    }

    #[test]
    fn the_planted_bug_keeps_what_the_slot_had() {
        let planted = Planted::NONE.with(Bug::HorizonNotRecomputed);
        for version in PgVersion::ALL {
            let kept = left(version, planted, Some(3 * 1024)).0;
            assert_eq!(kept, if Planted::AVAILABLE { "6789" } else { "9" });
        }
    }
}
