//! A campaign: runs many seeds and collects the results. The results are in the order of the seeds,
//! whichever worker thread finishes first.
//!
//! This module defines what a campaign runs and what it counts. The command line owns the threads,
//! clocks and files.

use crate::marks::MarkCounts;
use crate::plan::{Overrides, Plan, Profile};
use crate::report::Status;
use crate::world::{Excuse, ExcuseCounts, Outcome, Verdict, World, run};
use std::collections::BTreeMap;
use std::ops::Range;
use walsim_core::base::{Mark, Planted};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// How each seed is run.
#[derive(Clone, Debug)]
pub struct Task {
    /// The distribution from which plans are drawn.
    pub profile: Profile,
    /// Changes to each plan.
    pub overrides: Overrides,
    /// The planted bugs.
    pub planted: Planted,
    /// The percentage of seeds that are run twice.
    pub twice_percent: u64,
}

/// The result of one seed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ran {
    /// The seed.
    pub seed: u64,
    /// The outcome of the seed's run.
    pub outcome: Outcome,
    /// For a seed that was run twice, whether both runs took the same steps.
    pub repeated: Option<Repeat>,
}

/// The comparison of two runs of one plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repeat {
    /// Both runs took the same steps.
    Same,
    /// The number of the first step that differs, counted from 1. The number is 0 if two further
    /// runs took the same steps.
    Differs(u64),
}

impl Ran {
    /// The exit status of a campaign that consists only of this run.
    #[must_use]
    pub fn status(&self) -> Status {
        let repeat = match self.repeated {
            Some(Repeat::Differs(_)) => Status::Nondeterminism,
            Some(Repeat::Same) | None => Status::Pass,
        };
        repeat.max(Status::from(&self.outcome.verdict))
    }
}

impl Task {
    /// The plan of a seed.
    #[must_use]
    pub fn plan(&self, seed: u64) -> Plan {
        self.overrides.generate(self.profile, seed)
    }

    /// Runs a seed. Some seeds are run twice. For one seed in a hundred, the run is audited: the
    /// checks also look at everything again, and not only at changes.
    #[must_use]
    pub fn run(&self, seed: u64) -> Ran {
        let plan = self.plan(seed);
        let outcome = run(&plan, self.planted, is_audited(seed));
        let repeated = percent_of_seeds(seed, TWICE, self.twice_percent)
            .then(|| repeat(&plan, self.planted, &outcome));
        Ran {
            seed,
            outcome,
            repeated,
        }
    }
}

const TWICE: u64 = 1;
const AUDITED: u64 = 2;

/// Whether a seed belongs to a random share of all seeds. Two shares with different `which` are
/// independent of each other.
fn percent_of_seeds(seed: u64, which: u64, percent: u64) -> bool {
    xxh3_64_with_seed(&seed.to_le_bytes(), which) % 100 < percent
}

/// Whether the run of a seed is audited: all WAL is compared again several times.
#[must_use]
pub fn is_audited(seed: u64) -> bool {
    percent_of_seeds(seed, AUDITED, 1)
}

/// Runs a plan for a second time, and compares both runs.
#[must_use]
pub fn repeat(plan: &Plan, planted: Planted, first: &Outcome) -> Repeat {
    let second = run(plan, planted, first.audited);
    let same_end = second.verdict.code() == first.verdict.code();
    if second.hash == first.hash && second.steps == first.steps && same_end {
        return Repeat::Same;
    }
    let differs = std::panic::catch_unwind(|| first_difference(plan, planted));
    Repeat::Differs(differs.unwrap_or(0))
}

/// Runs two worlds in lockstep. Returns the number of the first step after which the worlds differ,
/// or 0 if they never differ.
fn first_difference(plan: &Plan, planted: Planted) -> u64 {
    let mut one = World::new(plan, planted, false);
    let mut other = World::new(plan, planted, false);
    loop {
        let more = (one.step(), other.step());
        if one.trace_digest() != other.trace_digest() || more.0 != more.1 {
            return one.steps().max(other.steps());
        }
        if more == (false, false) {
            return 0;
        }
    }
}

/// The results of a campaign.
#[derive(Clone, Default, Debug)]
pub struct Campaign {
    /// Seeds that were run.
    pub seeds: u64,
    /// The range of seeds.
    pub range: Range<u64>,
    /// Seeds that failed.
    pub failures: u64,
    /// Steps of all runs.
    pub steps: u64,
    /// Simulated microseconds of all runs.
    pub sim_us: u64,
    /// Acknowledged commits.
    pub commits: u64,
    /// Faults that took effect.
    pub faults: u64,
    /// Seeds that ran twice.
    pub twice: u64,
    /// The number of seeds whose two runs took different steps.
    pub nondeterministic: u64,
    /// How often each rare state was reached.
    pub marks: MarkCounts,
    /// How many seeds used each excuse. An excuse is a legal reason why a standby could not catch
    /// up until the operator repaired it.
    pub excuses: ExcuseCounts,
    /// The worst status of all runs.
    pub status: Status,
    /// The plans have overridden settings. The expected rates of rare states do not apply to such
    /// plans.
    pub overridden: bool,
    hash: Xxh3Default,
    early: BTreeMap<u64, Ran>,
}

/// The hash of all trace hashes. The wrapper exists because the hasher does not implement `Debug`.
#[derive(Clone, Default)]
struct Xxh3Default(Xxh3);

impl std::fmt::Debug for Xxh3Default {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#018x}", self.0.digest())
    }
}

impl Campaign {
    /// An empty campaign. Its first seed is `from`.
    #[must_use]
    pub fn new(from: u64) -> Self {
        Self {
            range: from..from,
            ..Self::default()
        }
    }

    /// Adds a run. Runs may arrive in any order. Returns the runs that are now next in the order of
    /// seeds.
    pub fn add(&mut self, ran: Ran) -> Vec<Ran> {
        self.early.insert(ran.seed, ran);
        let mut turns = Vec::new();
        while let Some(ran) = self.early.remove(&self.range.end) {
            self.count(&ran);
            turns.push(ran);
        }
        turns
    }

    fn count(&mut self, ran: &Ran) {
        let outcome = &ran.outcome;
        self.range.end += 1;
        self.seeds += 1;
        self.failures += u64::from(outcome.verdict != Verdict::Pass);
        self.steps += outcome.steps;
        self.sim_us += outcome.sim_us;
        self.commits += outcome.commits;
        self.faults += outcome.faults;
        self.twice += u64::from(ran.repeated.is_some());
        self.nondeterministic += u64::from(matches!(ran.repeated, Some(Repeat::Differs(_))));
        self.marks.add(outcome.marks);
        self.excuses.add(&outcome.excuses);
        self.hash.0.update(&outcome.hash.to_le_bytes());
        self.status = self.status.max(ran.status());
    }

    /// The mandatory rare states (marks) that the campaign did not reach. The list is empty if
    /// settings are overridden, or if the rates of the profile are unknown.
    #[must_use]
    pub fn missed(&self, profile: Profile) -> Vec<Mark> {
        match profile {
            Profile::Default if !self.overridden => self.marks.missed(self.seeds),
            Profile::Default | Profile::Faultless => Vec::new(),
        }
    }

    /// The excuses (legal reasons why a standby cannot catch up) that more seeds used than the
    /// profile allows. The list is empty if settings are overridden, because a setting can change
    /// the rates. For example, version 15 never refuses an invalidated slot, and version 18 always
    /// does.
    #[must_use]
    pub fn excessive(&self, profile: Profile) -> Vec<Excuse> {
        match self.overridden {
            true => Vec::new(),
            false => self.excuses.excessive(profile, self.seeds),
        }
    }

    /// The status of the whole campaign.
    #[must_use]
    pub fn final_status(&self, profile: Profile) -> Status {
        let missed = if self.missed(profile).is_empty() && self.excessive(profile).is_empty() {
            Status::Pass
        } else {
            Status::MarkMissed
        };
        self.status.max(missed)
    }

    /// The hash of the trace hashes of all seeds, in the order of the seeds.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.0.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Excuses;
    use walsim_core::base::MarkSet;

    fn ran(seed: u64) -> Ran {
        let outcome = Outcome {
            verdict: Verdict::Pass,
            audited: false,
            steps: 10,
            sim_us: 1000,
            hash: seed * 7,
            marks: MarkSet::default(),
            commits: 1,
            wal_bytes: 0,
            segments: 0,
            faults: 0,
            excuses: Excuses::default(),
            idle_faults: Vec::new(),
        };
        Ran {
            seed,
            outcome,
            repeated: None,
        }
    }

    #[test]
    fn the_order_of_arrival_does_not_matter() {
        let gather = |seeds: [u64; 4]| {
            let mut campaign = Campaign::new(5);
            let turns: Vec<_> = seeds
                .into_iter()
                .flat_map(|s| campaign.add(ran(s)))
                .collect();
            assert!(turns.is_sorted_by_key(|ran| ran.seed));
            assert_eq!((campaign.range.clone(), campaign.steps), (5..9, 40));
            campaign.hash()
        };
        assert_eq!(gather([5, 6, 7, 8]), gather([8, 6, 5, 7]));
    }

    #[test]
    fn a_share_is_a_share() {
        let share = (0..10_000)
            .filter(|seed| percent_of_seeds(*seed, TWICE, 2))
            .count();
        assert!((150..250).contains(&share), "{share}");
        assert!((0..100).all(|seed| percent_of_seeds(seed, TWICE, 100)));
        assert!(!(0..100).any(|seed| percent_of_seeds(seed, TWICE, 0)));
    }

    #[test]
    fn the_worst_run_decides() {
        let mut campaign = Campaign::new(0);
        let mut bad = ran(0);
        bad.repeated = Some(Repeat::Differs(3));
        campaign.add(bad);
        campaign.add(ran(1));
        assert_eq!(
            campaign.final_status(Profile::Default),
            Status::Nondeterminism
        );
        assert_eq!(campaign.nondeterministic, 1);
    }
}
