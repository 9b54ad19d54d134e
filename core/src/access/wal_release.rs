//! Removes old WAL after a checkpoint or restartpoint. Mirrors the ends of CreateCheckPoint and
//! CreateRestartPoint.
//!
//! The checkpoint is complete before the removal starts. A crash during the removal only leaves
//! more WAL than necessary.

use super::wal_removal::{PreallocXlogFiles, RemoveOldXlogFiles};
use crate::base::{Bug, Lsn, PgVersion, SegmentNo, TimelineId};
use crate::call::{LogEvent, Place, Poll, Yield};
use crate::ready_ok;
use crate::replication::slot::checkpoint::CheckPointReplicationSlots;
use crate::replication::slot::invalidate::InvalidateObsoleteReplicationSlots;
use crate::replication::slot::required_lsn::slots_minimum;
use crate::replication::wal_horizon::{distance_estimate, keep_log_seg};
use crate::sys::Cx;

/// Whether a checkpoint or a restartpoint was completed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReleaseAfter {
    /// A checkpoint.
    Checkpoint {
        /// End of the checkpoint record.
        end: Lsn,
        /// `ThisTimeLineID`
        tli: TimelineId,
        /// Whether the checkpoint is a shutdown or end-of-recovery checkpoint. No segment is
        /// preallocated after such a checkpoint.
        shutdown: bool,
    },
    /// A restartpoint. The removal itself determines the end of WAL.
    RestartPoint,
}

/// The result of `KeepLogSeg`, and the positions from which it was computed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WalHorizon {
    /// The oldest segment to keep.
    pub keep: SegmentNo,
    /// The redo point.
    pub redo: Lsn,
    /// The LSN that slots require. Invalid if no slot requires WAL.
    pub slots: Lsn,
    /// The end of WAL.
    pub end: Lsn,
    /// How often this checkpoint has computed the result. A checkpoint computes the result again
    /// after it has invalidated a slot.
    pub computed: u32,
}

/// The removal of old WAL.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReleaseWal {
    after: ReleaseAfter,
    /// Redo point of the previous checkpoint. Invalid if there was none.
    prior_redo: Lsn,
    redo: Lsn,
    /// The LSN that slots required before the slots were saved. Used only before 18.
    slots: Lsn,
    /// End of WAL.
    end: Lsn,
    horizon: Option<WalHorizon>,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Start,
    Horizon,
    Invalidate(InvalidateObsoleteReplicationSlots, SegmentNo),
    /// Slots were invalidated (before 18). Saves the remaining slots before the oldest segment to
    /// keep is computed again.
    SaveSlots(CheckPointReplicationSlots),
    /// Slots were invalidated. Recomputes the oldest segment to keep, from the redo point.
    Again,
    Remove(RemoveOldXlogFiles, TimelineId),
    Preallocate(PreallocXlogFiles),
}

impl ReleaseWal {
    /// The removal of WAL after a checkpoint. `redo` is the redo point of this checkpoint,
    /// `prior_redo` that of the previous checkpoint.
    #[must_use]
    pub const fn new(after: ReleaseAfter, prior_redo: Lsn, redo: Lsn, slots: Lsn) -> Self {
        Self {
            after,
            prior_redo,
            redo,
            slots,
            end: Lsn::INVALID,
            horizon: None,
            phase: Phase::Start,
        }
    }

    /// The last result of `KeepLogSeg`.
    #[must_use]
    pub const fn horizon(&self) -> Option<WalHorizon> {
        self.horizon
    }

    /// # Errors
    /// An ERROR if pg_wal cannot be read or the next segment cannot be created.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let why = match self.after {
            ReleaseAfter::Checkpoint { .. } => Place::CreateCheckPoint,
            ReleaseAfter::RestartPoint => Place::CreateRestartPoint,
        };
        match &mut self.phase {
            Phase::Start => {
                self.estimate(cx);
                self.end = self.end_of_wal(cx);
                let own = matches!(self.after, ReleaseAfter::Checkpoint { .. });
                assert!(!own || self.redo < self.end, "{} {}", self.redo, self.end);
                self.phase = Phase::Horizon;
                Poll::Yield(Yield::Again(why))
            }
            Phase::Horizon => {
                let keep = self.keep(cx);
                let invalidate = InvalidateObsoleteReplicationSlots::new(keep);
                self.phase = Phase::Invalidate(invalidate, keep);
                Poll::Yield(Yield::Again(why))
            }
            Phase::Invalidate(invalidate, keep) => {
                let any = ready_ok!(invalidate.poll(cx));
                let keep = *keep;
                // Before 14 the oldest segment to keep was not computed again. The checkpoint then
                // kept the WAL of slots that it had just invalidated.
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
                let keep = self.keep(cx);
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

    /// The end of WAL. `wal_keep_size` and `max_slot_wal_keep_size` are measured back from this
    /// position.
    fn end_of_wal(&self, cx: &Cx<'_>) -> Lsn {
        match self.after {
            ReleaseAfter::Checkpoint { end, .. } => end,
            ReleaseAfter::RestartPoint => {
                let received = cx.shmem.walrcv.flushed_upto;
                received.max(cx.shmem.recovery.last_replayed_end)
            }
        }
    }

    fn keep(&mut self, cx: &mut Cx<'_>) -> SegmentNo {
        let slots = slots_minimum(cx, self.slots);
        let keep = self.oldest_to_keep(cx, slots);
        self.horizon = Some(WalHorizon {
            keep,
            redo: self.redo,
            slots,
            end: self.end,
            computed: self.horizon.map_or(0, |last| last.computed) + 1,
        });
        keep
    }

    fn oldest_to_keep(&self, cx: &mut Cx<'_>, slots: Lsn) -> SegmentNo {
        let keep = keep_log_seg(&cx.shmem.settings, self.redo, self.end, slots);
        let redo = cx.shmem.settings.geometry.segment_of(self.redo);
        assert!(
            keep <= redo,
            "{keep:?} is after the segment of {}",
            self.redo
        );
        if cx.has_bug(Bug::WalKeepSizeIgnored) {
            let mut settings = cx.shmem.settings.clone();
            settings.wal_keep_size = 0;
            let bare = keep_log_seg(&settings, self.redo, self.end, slots);
            if bare != keep && cx.planted(Bug::WalKeepSizeIgnored) {
                return bare;
            }
        }
        if let ReleaseAfter::Checkpoint { end, .. } = self.after {
            let from_record = keep_log_seg(&cx.shmem.settings, end, self.end, slots);
            if from_record != keep && cx.planted(Bug::WalKeptFromCheckpointRecord) {
                return from_record;
            }
        }
        keep
    }

    /// The phase after slots were invalidated. The required LSN is read again. This needs no lock,
    /// because the redo point has not moved since the first read.
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
        let end = cx.shmem.settings.geometry.segment_of(self.end);
        assert!(
            last <= end,
            "{last:?} is after the end of WAL at {}",
            self.end
        );
        let remove = RemoveOldXlogFiles::new(cx, last, self.redo, self.end, tli);
        Phase::Remove(remove, tli)
    }

    /// The timeline of the segments to recycle or preallocate. If recovery has ended in the
    /// meantime, the result is the new timeline.
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
    use crate::sys::testing::Fixture;
    use alloc::string::String;

    /// Segments 1 to 9 exist, and a slot requires segment 2. Returns the segments that remain after
    /// a checkpoint in segment 9, and whether the slot is still valid.
    fn left(version: PgVersion, planted: Planted, limit: Option<u64>) -> (String, bool) {
        let mut fixture = Fixture::new(version, planted);
        fixture.dirs.insert("pg_replslot".into());
        fixture.dirs.insert("pg_replslot/a".into());
        for segment in 1..=9 {
            let path = fixture.segment_path(SegmentNo(segment));
            fixture.files.insert(path, alloc::vec![0; 1024]);
        }
        fixture.shmem.recovery.state = crate::shmem::RecoveryState::Done;
        fixture.shmem.settings.max_slot_wal_keep_size = limit;
        let held = Lsn(2 * 1024 + 500);
        fixture.shmem.slots.slots[0] = Slot {
            in_use: true,
            name: "a".into(),
            restart_lsn: held,
            last_saved_restart_lsn: held,
            ..Slot::default()
        };
        fixture.shmem.slots.required_lsn = held;
        let after = ReleaseAfter::Checkpoint {
            end: Lsn(9 * 1024 + 200),
            tli: TimelineId(1),
            shutdown: false,
        };
        let mut release = ReleaseWal::new(after, Lsn(1024), Lsn(9 * 1024 + 80), held);
        let pid = fixture.spawn(Role::Checkpointer);
        assert_eq!(fixture.drive(pid, |cx| release.poll(cx)), Ok(Ok(())));
        let names = fixture
            .files
            .keys()
            .filter_map(|path| path.strip_prefix("pg_wal/"));
        let valid = fixture.shmem.slots.slots[0].restart_lsn == held;
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
    fn the_planted_bug_keeps_the_wal_of_an_invalidated_slot() {
        let planted = Planted::NONE.with(Bug::HorizonNotRecomputed);
        for version in PgVersion::ALL {
            let kept = left(version, planted, Some(3 * 1024)).0;
            assert_eq!(kept, if Planted::AVAILABLE { "6789" } else { "9" });
        }
    }
}
