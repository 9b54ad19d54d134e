//! What a run reports about itself besides its effects: marks of rare states, and the switch of
//! planted bugs.

use super::bug::{Bug, Planted};
use super::named::named;

named! {
    /// A rare state that was reached. A campaign that never sees a mandatory one proves little.
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
        /// A loss of power took bytes that had been written.
        PowerLossLostBytes = "power-loss-lost-bytes",
        /// A walreceiver was started again on a node.
        WalreceiverRestarted = "walreceiver-restarted",
        /// A full-page image replaced a torn page in recovery.
        FpiRepairedTornPage = "fpi-repaired-torn-page",
        /// A walsender had output that its peer did not take.
        BackpressureBlockedSend = "backpressure-blocked-send",
        /// A failed fsync of WAL ended in a PANIC.
        FsyncPanic = "fsync-panic",
        /// Two reservations in the WAL were open at once.
        TwoReservationsOpen = "two-reservations-open",
        /// A backend's commit was flushed by another's fsync.
        FlushFollower = "flush-follower",
        /// A process waited for a lock.
        LockWaited = "lock-waited",
        /// A smart shutdown came to its end.
        ShutdownSmart = "shutdown-smart",
        /// A fast shutdown came to its end.
        ShutdownFast = "shutdown-fast",
        /// An immediate shutdown came to its end.
        ShutdownImmediate = "shutdown-immediate",
        /// A process was killed, and its server has noticed.
        ProcessKilled = "process-killed",
        /// A slot was not dropped because a process had acquired it.
        SlotDropRefusedActive = "slot-drop-refused-active",
        /// A checkpoint gave up the WAL of a slot.
        SlotInvalidated = "slot-invalidated",
        /// A primary renamed an old WAL segment for future use.
        SegmentRecycled = "segment-recycled",
        /// A standby did.
        StandbyRecycledSegment = "standby-recycled-segment",
        /// A walsender was asked for WAL that is gone.
        WalRemovedRefusal = "wal-removed-refusal",
        /// A slot was made again under the name of one that had been dropped.
        SlotRecreated = "slot-recreated",
        /// A standby came back and found that its slot had been dropped.
        SlotDroppedUnderStandby = "slot-dropped-under-standby",
        /// A standby had applied a segment less than there was.
        StandbyLagOverOneSegment = "standby-lag-over-one-segment",
    }
}

/// A set of [`Mark`]s, and of the bugs whose spots were reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct MarkSet {
    bits: u64,
    bugs: Planted,
}

impl MarkSet {
    /// Adds one.
    pub const fn insert(&mut self, mark: Mark) {
        self.bits |= 1 << mark as u64;
    }

    /// Is it in?
    #[must_use]
    pub const fn contains(self, mark: Mark) -> bool {
        self.bits & (1 << mark as u64) != 0
    }

    /// Adds all of another set.
    pub const fn extend(&mut self, other: Self) {
        self.bits |= other.bits;
        self.bugs = self.bugs.and(other.bugs);
    }

    /// All that are in, in the order of their definition.
    pub fn iter(self) -> impl Iterator<Item = Mark> {
        Mark::ALL
            .iter()
            .copied()
            .filter(move |mark| self.contains(*mark))
    }

    /// Was the spot reached at which this planted bug makes a difference?
    #[must_use]
    pub const fn reached(&self, bug: Bug) -> bool {
        self.bugs.has(bug)
    }
}

/// Travels with a step as a value: what was planted, what was reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Probe {
    planted: Planted,
    marks: MarkSet,
}

impl Probe {
    /// Nothing reached yet.
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

    /// A rare state was reached.
    pub const fn mark(&mut self, mark: Mark) {
        self.marks.insert(mark);
    }

    /// Is the bug planted? If so it is noted as reached: ask where the answer makes a difference,
    /// after every other condition.
    #[must_use]
    pub const fn planted(&mut self, bug: Bug) -> bool {
        let planted = self.planted.has(bug);
        if planted {
            self.marks.bugs = self.marks.bugs.with(bug);
        }
        planted
    }

    /// Is the bug planted? Nothing is noted: [`Probe::planted`] follows once it is known to make a
    /// difference.
    #[must_use]
    pub const fn has_bug(&self, bug: Bug) -> bool {
        self.planted.has(bug)
    }

    /// What was reached so far.
    #[must_use]
    pub const fn marks(&self) -> MarkSet {
        self.marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only a bug that is planted, and only the look that decides, is noted.
    #[test]
    fn a_planted_bug_is_noted_where_it_decides() {
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
