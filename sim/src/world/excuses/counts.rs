//! Counts how often each excuse was used, and defines how often an excuse may be used.

use super::Excuse;
use crate::plan::Profile;
use std::fmt;

/// How often one run used each excuse.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Excuses([u32; Excuse::ALL.len()]);

impl Excuses {
    /// Counts one more use.
    pub(in crate::world) fn add(&mut self, excuse: Excuse) {
        self.add_times(excuse, 1);
    }

    /// Counts several more uses.
    pub(in crate::world) fn add_times(&mut self, excuse: Excuse, times: u32) {
        let all = Excuse::ALL.iter().zip(&mut self.0);
        all.filter(|(other, _)| **other == excuse)
            .for_each(|(_, count)| *count += times);
    }

    /// How often the run used this excuse.
    #[must_use]
    pub fn of(&self, excuse: Excuse) -> u32 {
        let mut all = Excuse::ALL.iter().zip(&self.0);
        all.find_map(|(other, count)| (*other == excuse).then_some(*count))
            .unwrap_or(0)
    }
}

/// For each excuse, the number of runs in a campaign that used it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ExcuseCounts([u64; Excuse::ALL.len()]);

impl ExcuseCounts {
    /// Adds a run.
    pub fn add(&mut self, run: &Excuses) {
        for (seeds, count) in self.0.iter_mut().zip(run.0) {
            *seeds += u64::from(count > 0);
        }
    }

    /// Every excuse with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Excuse, u64)> {
        Excuse::ALL.into_iter().zip(self.0)
    }

    /// The excuses that more seeds used than the profile allows. `seeds` is the number of all
    /// seeds.
    #[must_use]
    pub fn excessive(&self, profile: Profile, seeds: u64) -> Vec<Excuse> {
        let above =
            |(excuse, count): &(Excuse, u64)| is_above(*count, most(*excuse, profile), seeds);
        self.iter()
            .filter(above)
            .map(|(excuse, _)| excuse)
            .collect()
    }
}

/// Formats as `slot-dropped 12, wal-removed 3`. Excuses with count 0 are included.
impl fmt::Display for ExcuseCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (excuse, count)) in self.iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            write!(f, "{comma}{} {count}", excuse.name())?;
        }
        Ok(())
    }
}

/// In how many of 10,000 seeds an excuse may be used. This is somewhat more than campaigns show.
const fn most(excuse: Excuse, profile: Profile) -> u64 {
    match (profile, excuse) {
        (_, Excuse::SlotDropped) => 700,
        // Only seeds of 18 and 19 can use this excuse. Two thirds of all seeds have these versions,
        // and one in eight of those uses the excuse.
        (_, Excuse::SlotInvalidated) => 1000,
        (_, Excuse::WalRemoved) => 2200,
        (_, Excuse::StaleWal | Excuse::AheadOfFlush) => 20,
        (Profile::Default, Excuse::ShutdownInCrashRestart | Excuse::CrashPassedOver) => 20,
        (Profile::Default, Excuse::SlotKept) => 20,
        (Profile::Default, Excuse::FsyncInCrashRecovery) => 220,
        (Profile::Default, Excuse::SegmentRenamedNotSynced) => 20,
        (_, Excuse::SegmentNameNotDurable) => 1700,
        (_, Excuse::SlotFileBehindMemory) => 280,
        (Profile::Faultless, _) => 0,
    }
}

/// Whether the count is too high for this rate. The limit is the expected count, four standard
/// deviations, and a constant for small campaigns.
const fn is_above(count: u64, per_10_000: u64, seeds: u64) -> bool {
    let mean = per_10_000 * seeds / 10_000;
    count > mean + 4 * mean.isqrt() + 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_counts_once_however_often_it_needs_the_excuse() {
        let mut run = Excuses::default();
        run.add(Excuse::WalRemoved);
        run.add(Excuse::WalRemoved);
        let mut counts = ExcuseCounts::default();
        counts.add(&run);
        counts.add(&Excuses::default());
        let given: Vec<_> = counts.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(given, [(Excuse::WalRemoved, 1)]);
        assert_eq!(
            (run.of(Excuse::WalRemoved), run.of(Excuse::StaleWal)),
            (2, 0)
        );
    }

    #[test]
    fn more_than_the_profile_allows_is_excessive() {
        let mut run = Excuses::default();
        run.add(Excuse::StaleWal);
        let mut counts = ExcuseCounts::default();
        let at = |n: u64, counts: &ExcuseCounts| counts.excessive(Profile::Default, n);
        (0..4).for_each(|_| counts.add(&run));
        assert_eq!(at(10, &counts), []);
        (0..200).for_each(|_| counts.add(&run));
        assert_eq!(at(2000, &counts), [Excuse::StaleWal]);
        assert_eq!(at(200_000, &counts), []);
    }
}
