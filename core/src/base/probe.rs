//! What a run records in addition to its effects: which rare states it reached, and which planted
//! bugs changed its behavior.

use super::bug::{Bug, Planted};
use super::named::named;

named! {
    /// A mark records that a run has reached a rare state. Some marks are mandatory: if no run of a
    /// campaign reaches such a mark, the campaign proves little.
    Mark {
        /// A client was told that its commit succeeded.
        CommitAcked = "commit-acked",
        /// A record continues on a second page.
        RecordCrossesPage = "record-crosses-page",
        /// A record continues in a second segment.
        RecordCrossesSegment = "record-crosses-segment",
        /// A server recovered after a crash.
        CrashRecovery = "crash-recovery",
        /// An incomplete record at the end of WAL was overwritten.
        OverwriteContrecord = "overwrite-contrecord",
        /// A loss of power destroyed bytes that had been written.
        PowerLossLostBytes = "power-loss-lost-bytes",
        /// A walreceiver was started again on a node.
        WalreceiverRestarted = "walreceiver-restarted",
        /// In recovery, a full-page image replaced a torn page.
        FpiRepairedTornPage = "fpi-repaired-torn-page",
        /// A walsender had output that its peer did not read.
        BackpressureBlockedSend = "backpressure-blocked-send",
        /// A failed fsync of WAL ended in a PANIC.
        FsyncPanic = "fsync-panic",
        /// At the same time, two backends had reserved WAL space and not yet copied their records.
        TwoReservationsOpen = "two-reservations-open",
        /// The fsync of one backend flushed the commit record of another backend.
        FlushFollower = "flush-follower",
        /// A process waited for a lock.
        LockWaited = "lock-waited",
        /// A smart shutdown completed.
        ShutdownSmart = "shutdown-smart",
        /// A fast shutdown completed.
        ShutdownFast = "shutdown-fast",
        /// An immediate shutdown completed.
        ShutdownImmediate = "shutdown-immediate",
        /// A process was killed, and the postmaster has noticed the death.
        ProcessKilled = "process-killed",
        /// A slot could not be dropped, because a process had acquired it.
        SlotDropRefusedActive = "slot-drop-refused-active",
        /// A checkpoint invalidated a slot.
        SlotInvalidated = "slot-invalidated",
        /// A primary renamed an old WAL segment for future use.
        SegmentRecycled = "segment-recycled",
        /// A standby renamed an old WAL segment for future use.
        StandbyRecycledSegment = "standby-recycled-segment",
        /// A walsender was asked for WAL that had been removed.
        WalRemovedRefusal = "wal-removed-refusal",
        /// A slot was created with the name of a dropped slot.
        SlotRecreated = "slot-recreated",
        /// A standby reconnected and found its slot dropped.
        SlotDroppedUnderStandby = "slot-dropped-under-standby",
        /// A standby's apply position was more than a segment behind the end of WAL.
        StandbyLagOverOneSegment = "standby-lag-over-one-segment",
        /// A connection was refused, because all walsender slots were in use.
        WalSendersFull = "walsenders-full",
        /// A server without a replication timeout lost a connection to a machine without power. TCP
        /// keepalive detected the loss.
        KeepaliveDetectedLoss = "keepalive-detected-loss",
        /// A walreceiver sent no status message, because `wal_receiver_status_interval` was 0.
        StatusWithheld = "status-withheld",
        /// A standby reached consistency with `hot_standby` off.
        ConsistentWithoutHotStandby = "consistent-without-hot-standby",
        /// An old WAL segment was removed and not recycled, because `wal_recycle` was off.
        RecyclingOff = "recycling-off",
        /// In a loss of power, a change of a directory was lost, and a later change survived.
        DirectoryChangesReordered = "directory-changes-reordered",
    }
}

/// A set of [`Mark`]s, and of the planted bugs that changed the behavior.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct MarkSet {
    bits: u64,
    bugs: Planted,
}

impl MarkSet {
    /// Adds a mark.
    pub const fn insert(&mut self, mark: Mark) {
        self.bits |= 1 << mark as u64;
    }

    /// Is the mark in the set?
    #[must_use]
    pub const fn contains(self, mark: Mark) -> bool {
        self.bits & (1 << mark as u64) != 0
    }

    /// Adds all marks of another set.
    pub const fn extend(&mut self, other: Self) {
        self.bits |= other.bits;
        self.bugs = self.bugs.and(other.bugs);
    }

    /// All marks in the set, in the order of their definition.
    pub fn iter(self) -> impl Iterator<Item = Mark> {
        Mark::ALL
            .iter()
            .copied()
            .filter(move |mark| self.contains(*mark))
    }

    /// Did this planted bug change the behavior?
    #[must_use]
    pub const fn reached(&self, bug: Bug) -> bool {
        self.bugs.has(bug)
    }
}

/// The planted bugs, and the rare states (marks) that were reached so far. Passed to each step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Probe {
    planted: Planted,
    marks: MarkSet,
}

impl Probe {
    /// A probe without marks.
    #[must_use]
    pub const fn new(planted: Planted) -> Self {
        Self {
            planted,
            marks: MarkSet {
                bits: 0,
                bugs: Planted::NONE,
            },
        }
    }

    /// Records a rare state.
    pub const fn mark(&mut self, mark: Mark) {
        self.marks.insert(mark);
    }

    /// Is the bug planted? If so, records that the bug changed the behavior. In a condition, call
    /// this last. The bug is then recorded only if it changes the behavior.
    #[must_use]
    pub const fn planted(&mut self, bug: Bug) -> bool {
        let planted = self.planted.has(bug);
        if planted {
            self.marks.bugs = self.marks.bugs.with(bug);
        }
        planted
    }

    /// Is the bug planted? Unlike [`Probe::planted`], does not record that the bug changed the
    /// behavior.
    #[must_use]
    pub const fn has_bug(&self, bug: Bug) -> bool {
        self.planted.has(bug)
    }

    /// The marks that were reached so far.
    #[must_use]
    pub const fn marks(&self) -> MarkSet {
        self.marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bug is recorded only if it is planted, and only by a call of `planted`.
    #[test]
    fn a_planted_bug_is_recorded_when_it_makes_a_difference() {
        let bug = Bug::RenameNotDurable;
        let mut probe = Probe::new(Planted::NONE.with(bug));
        assert_eq!(probe.has_bug(bug), Planted::AVAILABLE);
        assert!(!probe.has_bug(Bug::FsyncRetry) && !probe.planted(Bug::FsyncRetry));
        assert!(Bug::ALL.iter().all(|bug| !probe.marks().reached(*bug)));
        assert_eq!(probe.planted(bug), Planted::AVAILABLE);
        assert_eq!(probe.marks().reached(bug), Planted::AVAILABLE);
        assert!(!probe.marks().reached(Bug::FsyncRetry));
        assert_eq!(probe.marks().iter().count(), 0);
    }
}
