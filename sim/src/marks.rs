//! Rare states that a campaign must reach, each with the least rate at which it should be seen.

use std::fmt;
use walsim_core::base::{Mark, MarkSet};

/// A campaign of at least this many seeds fails if it misses a mandatory mark.
pub const ENOUGH_SEEDS: u64 = 2000;

/// A mark that must be seen in at least so many of 10,000 seeds of profile `default`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mandatory {
    /// Which.
    pub mark: Mark,
    /// In so many of 10,000 seeds, at least.
    pub per_10_000: u64,
}

const fn mandatory(mark: Mark, per_10_000: u64) -> Mandatory {
    Mandatory { mark, per_10_000 }
}

/// All mandatory marks. The rates are a fraction of what campaigns show, so that chance alone misses none.
pub const MANDATORY: [Mandatory; 25] = [
    mandatory(Mark::CommitAcked, 9000),
    mandatory(Mark::RecordCrossesPage, 5000),
    mandatory(Mark::RecordCrossesSegment, 2000),
    mandatory(Mark::CrashRecovery, 2000),
    mandatory(Mark::OverwriteContrecord, 50),
    mandatory(Mark::PowerLossLostBytes, 300),
    mandatory(Mark::WalreceiverRestarted, 2000),
    mandatory(Mark::FpiRepairedTornPage, 30),
    mandatory(Mark::BackpressureBlockedSend, 1000),
    mandatory(Mark::FsyncPanic, 100),
    mandatory(Mark::TwoReservationsOpen, 1000),
    mandatory(Mark::FlushFollower, 1000),
    mandatory(Mark::LockWaited, 5000),
    mandatory(Mark::SegmentRecycled, 2000),
    mandatory(Mark::StandbyRecycledSegment, 2000),
    mandatory(Mark::WalRemovedRefusal, 200),
    mandatory(Mark::SlotInvalidated, 300),
    mandatory(Mark::SlotDropRefusedActive, 300),
    mandatory(Mark::SlotDroppedUnderStandby, 100),
    mandatory(Mark::SlotRecreated, 100),
    mandatory(Mark::ProcessKilled, 500),
    mandatory(Mark::ShutdownSmart, 200),
    mandatory(Mark::ShutdownFast, 500),
    mandatory(Mark::ShutdownImmediate, 500),
    mandatory(Mark::StandbyLagOverOneSegment, 2000),
];

/// In how many runs each mark was reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MarkCounts(Vec<u64>);

impl Default for MarkCounts {
    fn default() -> Self {
        Self(vec![0; Mark::ALL.len()])
    }
}

impl MarkCounts {
    /// One more run.
    pub fn add(&mut self, marks: MarkSet) {
        for (count, mark) in self.0.iter_mut().zip(Mark::ALL) {
            *count += u64::from(marks.contains(*mark));
        }
    }

    /// Every mark with its count, in the order of their definition.
    pub fn iter(&self) -> impl Iterator<Item = (Mark, u64)> {
        Mark::ALL.iter().copied().zip(self.0.iter().copied())
    }

    /// The mandatory marks that `seeds` seeds reached less often than they must.
    #[must_use]
    pub fn missed(&self, seeds: u64) -> Vec<Mark> {
        let rare = |m: &&Mandatory| {
            let count = self
                .iter()
                .find(|(mark, _)| *mark == m.mark)
                .map_or(0, |(_, n)| n);
            count * 10_000 < m.per_10_000 * seeds
        };
        MANDATORY.iter().filter(rare).map(|m| m.mark).collect()
    }
}

/// `commit-acked 998, lock-waited 12`; what was never reached comes with a 0.
impl fmt::Display for MarkCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (mark, count)) in self.iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            write!(f, "{comma}{} {count}", mark.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_is_too_rare_is_missed() {
        let mut counts = MarkCounts::default();
        let mut all = MarkSet::default();
        MANDATORY.iter().for_each(|m| all.insert(m.mark));
        for _ in 0..1999 {
            counts.add(all);
        }
        let mut but_one = MarkSet::default();
        but_one.insert(Mark::CommitAcked);
        counts.add(but_one);
        assert_eq!(counts.missed(2000), []);
        assert_eq!(MarkCounts::default().missed(2000).len(), MANDATORY.len());
        let mut never = MarkCounts::default();
        (0..2000).for_each(|_| never.add(but_one));
        assert!(!never.missed(2000).contains(&Mark::CommitAcked));
        assert!(never.missed(2000).contains(&Mark::OverwriteContrecord));
    }
}
