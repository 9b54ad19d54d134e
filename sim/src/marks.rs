//! The rare states that a campaign must reach. Each is called a mark, and has the rate at which
//! seeds of the default profile reach it. A mark counts as missing if too few seeds reached it. Too
//! few means that a correct campaign would have this count, or a lower one, with a probability
//! below 1 in 10,000.

use std::fmt;
use walsim_core::base::{Mark, MarkSet};

/// A correct campaign reports a rare state (mark) as missing with a probability of 1 in `ONCE_IN`.
const ONCE_IN: u32 = 10_000;

/// A rare state (mark) and its rate in the profile `default`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mandatory {
    /// The mark.
    pub mark: Mark,
    /// The number of seeds among 10,000 that reach the mark. This number is somewhat lower than the
    /// measured one.
    pub per_10_000: u64,
}

const fn mandatory(mark: Mark, per_10_000: u64) -> Mandatory {
    Mandatory { mark, per_10_000 }
}

/// All rare states that a campaign must reach (marks), each with its rate. A rate is five sixths of
/// the rate in the last large campaign, so that a small change of the model does not require a
/// change here.
pub const MANDATORY: [Mandatory; 25] = [
    mandatory(Mark::CommitAcked, 9900),
    mandatory(Mark::RecordCrossesPage, 9900),
    mandatory(Mark::RecordCrossesSegment, 4500),
    mandatory(Mark::CrashRecovery, 5600),
    mandatory(Mark::OverwriteContrecord, 600),
    mandatory(Mark::PowerLossLostBytes, 1050),
    mandatory(Mark::WalreceiverRestarted, 9000),
    mandatory(Mark::FpiRepairedTornPage, 110),
    mandatory(Mark::BackpressureBlockedSend, 5300),
    mandatory(Mark::FsyncPanic, 720),
    mandatory(Mark::TwoReservationsOpen, 5100),
    mandatory(Mark::FlushFollower, 5500),
    mandatory(Mark::LockWaited, 9900),
    mandatory(Mark::SegmentRecycled, 5900),
    mandatory(Mark::StandbyRecycledSegment, 8000),
    mandatory(Mark::WalRemovedRefusal, 950),
    mandatory(Mark::SlotInvalidated, 1400),
    mandatory(Mark::SlotDropRefusedActive, 1600),
    mandatory(Mark::SlotDroppedUnderStandby, 500),
    mandatory(Mark::SlotRecreated, 380),
    mandatory(Mark::ProcessKilled, 1600),
    mandatory(Mark::ShutdownSmart, 700),
    mandatory(Mark::ShutdownFast, 2050),
    mandatory(Mark::ShutdownImmediate, 1450),
    mandatory(Mark::StandbyLagOverOneSegment, 7500),
];

/// How many runs reached each rare state (mark).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MarkCounts(Vec<u64>);

impl Default for MarkCounts {
    fn default() -> Self {
        Self(vec![0; Mark::ALL.len()])
    }
}

impl MarkCounts {
    /// Adds a run.
    pub fn add(&mut self, marks: MarkSet) {
        for (count, mark) in self.0.iter_mut().zip(Mark::ALL) {
            *count += u64::from(marks.contains(*mark));
        }
    }

    /// Every rare state (mark) with its count, in the order in which the marks are defined.
    pub fn iter(&self) -> impl Iterator<Item = (Mark, u64)> {
        Mark::ALL.iter().copied().zip(self.0.iter().copied())
    }

    /// The rare states (marks) that too few of `seeds` seeds have reached.
    #[must_use]
    pub fn missed(&self, seeds: u64) -> Vec<Mark> {
        let rare = |m: &&Mandatory| {
            let count = self
                .iter()
                .find(|(mark, _)| *mark == m.mark)
                .map_or(0, |(_, n)| n);
            is_too_rare(count, seeds, m.per_10_000)
        };
        MANDATORY.iter().filter(rare).map(|m| m.mark).collect()
    }
}

/// Whether a count is too low. Assume that each of `seeds` seeds reaches the mark with probability
/// `per_10_000 / 10_000`. The count is too low if this or a lower count has a probability below 1
/// in 10,000. The function sums the lower tail of the binomial distribution.
fn is_too_rare(count: u64, seeds: u64, per_10_000: u64) -> bool {
    let without = 10_000 - per_10_000.min(10_000);
    if count * 10_000 >= seeds * per_10_000 {
        return false;
    }
    if without == 0 {
        return true;
    }
    let mut term = Tiny::ONE;
    for _ in 0..seeds {
        term = term.times(without, 10_000);
    }
    let mut sum = term;
    for n in 0..count {
        term = term.times(seeds - n, n + 1).times(per_10_000, without);
        sum = sum.plus(term);
    }
    sum.is_below_one_in(ONCE_IN)
}

/// A number from 0 to 1 that may be too small for a 64-bit fraction. Its value is `digits / 2^(63 +
/// places)`, and the highest bit of `digits` is set. Integers are used, so that every build
/// computes the same result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Tiny {
    digits: u64,
    places: u32,
}

impl Tiny {
    const ONE: Self = Self {
        digits: 1 << 63,
        places: 0,
    };

    /// Multiplies the number by a fraction. Both parts of the fraction are below 2^32 and not 0.
    fn times(self, by: u64, over: u64) -> Self {
        let exact = (u128::from(self.digits) << 32) * u128::from(by) / u128::from(over);
        let bits = 128 - exact.leading_zeros();
        // The number 1.0 is 2^63 in 64 bits, and 2^95 in this product.
        let shift = bits - 64;
        let digits = u64::try_from(exact >> shift).expect("64 bits are left");
        let places = (self.places + 32).saturating_sub(shift);
        Self { digits, places }
    }

    fn plus(self, other: Self) -> Self {
        let (large, small) = if self.places <= other.places {
            (self, other)
        } else {
            (other, self)
        };
        let apart = small.places - large.places;
        let small = small.digits.checked_shr(apart).unwrap_or(0);
        let sum = u128::from(large.digits) + u128::from(small);
        match u64::try_from(sum) {
            Ok(digits) => Self { digits, ..large },
            Err(_) => Self {
                digits: u64::try_from(sum >> 1).expect("65 bits shifted by one fit into 64"),
                places: large.places.saturating_sub(1),
            },
        }
    }

    fn is_below_one_in(self, n: u32) -> bool {
        let whole = u128::from(self.digits) * u128::from(n);
        whole.checked_shr(self.places).unwrap_or(0) < 1 << 63
    }
}

/// Formats as `commit-acked 998, lock-waited 12`. Marks with count 0 are included.
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

    /// The lowest count that is not too rare in a campaign of this many seeds.
    fn least(seeds: u64, per_10_000: u64) -> u64 {
        (0..=seeds)
            .find(|count| !is_too_rare(*count, seeds, per_10_000))
            .expect("reaching it in all seeds is enough")
    }

    /// The expected limits were computed with exact fractions. Each limit is the first count for
    /// which the lower tail has at least the probability 1 in 10,000.
    #[test]
    fn a_count_is_too_rare_where_the_tail_says_so() {
        for (seeds, per_10_000, expected) in [
            (300, 700, 7),
            (300, 110, 0),
            (300, 9900, 289),
            (1000, 500, 26),
            (2000, 2050, 344),
            (2000, 9900, 1962),
            (20000, 110, 167),
        ] {
            assert_eq!(
                least(seeds, per_10_000),
                expected,
                "{per_10_000} in {seeds}"
            );
        }
    }

    #[test]
    fn a_few_seeds_miss_nothing_that_is_rare() {
        for seeds in 1..20 {
            assert_eq!(least(seeds, 500), 0);
        }
        assert_eq!(least(3, 9900), 1, "not one commit in three seeds");
    }

    #[test]
    fn what_every_seed_meets_may_never_be_missed() {
        assert!(is_too_rare(299, 300, 10_000));
        assert!(!is_too_rare(300, 300, 10_000));
    }

    #[test]
    fn a_campaign_tells_which_marks_it_has_missed() {
        let mut all = MarkSet::default();
        MANDATORY.iter().for_each(|m| all.insert(m.mark));
        let mut commits = MarkSet::default();
        commits.insert(Mark::CommitAcked);
        let mut counts = MarkCounts::default();
        (0..299).for_each(|_| counts.add(all));
        counts.add(commits);
        assert_eq!(counts.missed(300), []);
        assert_eq!(MarkCounts::default().missed(300).len(), MANDATORY.len() - 1);
        let mut never = MarkCounts::default();
        (0..300).for_each(|_| never.add(commits));
        let missed = never.missed(300);
        assert!(missed.contains(&Mark::ShutdownSmart) && missed.contains(&Mark::ShutdownFast));
        assert!(!missed.contains(&Mark::CommitAcked));
    }
}
