//! The contents of a plan file: a plan, and the expected result of its run.

use super::Plan;
use crate::world::{Excuse, Outcome};
use walsim_core::base::{Bug, Mark};

/// A plan file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scenario {
    /// The plan.
    pub plan: Plan,
    /// The expected result.
    pub expect: Expect,
    /// Where the plan comes from, if a command made it from another plan.
    pub origin: Option<Origin>,
}

/// Where a plan comes from. Only `audited` has an effect on a run of the plan.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Origin {
    /// The seed of the original plan. The shrinker may have changed the seed.
    pub seed: u64,
    /// The command that replays the original plan. Empty if it is unknown.
    pub replay: String,
    /// Only an audited run shows the failure. A replay of the plan is audited too.
    pub audited: bool,
    /// The size of the original plan.
    pub was: Counts,
    /// The number of smaller plans that the shrinker ran. 0 if the plan was not shrunk.
    pub tries: u64,
    /// The passes that made the plan simpler, in their order.
    pub passes: Vec<PassDone>,
}

impl Origin {
    /// The origin of a plan that was not shrunk.
    #[must_use]
    pub const fn unshrunk(plan: &Plan, seed: u64, replay: String, audited: bool) -> Self {
        Self {
            seed,
            replay,
            audited,
            was: Counts::of(plan),
            tries: 0,
            passes: Vec::new(),
        }
    }
}

/// A pass of the shrinker that made the plan simpler.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PassDone {
    /// The name of the pass.
    pub name: String,
    /// The number of changes that were kept.
    pub changes: u64,
    /// The size of the plan after the pass.
    pub left: Counts,
}

/// The size of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Counts {
    /// The number of nodes.
    pub nodes: usize,
    /// The number of entries of the workload.
    pub workload: usize,
    /// The number of faults.
    pub faults: usize,
    /// The number of actions of the operator.
    pub actions: usize,
}

impl Counts {
    /// The size of this plan.
    #[must_use]
    pub const fn of(plan: &Plan) -> Self {
        Self {
            nodes: plan.nodes.len(),
            workload: plan.workload.len(),
            faults: plan.faults.len(),
            actions: plan.actions.len(),
        }
    }
}

/// The expected result of a run. If neither `bug` nor `invariants` is set, the run must pass.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Expect {
    /// The bug to plant. The run with the bug must violate one of `invariants`, and the run without
    /// the bug must pass.
    pub bug: Option<Bug>,
    /// The expected invariants. If `bug` is not set, the run without any bug must violate one of
    /// them.
    pub invariants: Vec<&'static str>,
    /// Rare states that the run without the bug must reach.
    pub marks: Vec<Mark>,
    /// The excuses (legal reasons why a standby cannot catch up) that the run without the bug must
    /// use. If the list is not empty, the run must not use any other excuse.
    pub excuses: Vec<Excuse>,
}

impl Expect {
    /// Whether the run must violate an invariant although no bug is planted.
    #[must_use]
    pub const fn is_violation(&self) -> bool {
        self.bug.is_none() && !self.invariants.is_empty()
    }

    /// The first expectation that the run without the bug did not meet, as text. If the run must
    /// pass, the caller checks the verdict, and this function checks the expected rare states and
    /// excuses.
    #[must_use]
    pub fn missed(&self, outcome: &Outcome) -> Option<String> {
        if self.is_violation() {
            let code = outcome.verdict.code().unwrap_or("nothing");
            if !self.invariants.contains(&code) {
                let wanted = self.invariants.join(" or ");
                return Some(format!("{code} is violated, not {wanted}"));
            }
        }
        let mut marks = self.marks.iter();
        if let Some(mark) = marks.find(|mark| !outcome.marks.contains(**mark)) {
            return Some(format!("never reached {}", mark.name()));
        }
        let differs =
            |excuse: &Excuse| self.excuses.contains(excuse) != (outcome.excuses.of(*excuse) > 0);
        let mut wrong = Excuse::ALL.into_iter().filter(differs);
        let excuse = wrong.next().filter(|_| !self.excuses.is_empty())?;
        let what = if self.excuses.contains(&excuse) {
            "was not used"
        } else {
            "was used"
        };
        Some(format!("the excuse {} {what}", excuse.name()))
    }
}

impl From<Plan> for Scenario {
    fn from(plan: Plan) -> Self {
        Self {
            plan,
            expect: Expect::default(),
            origin: None,
        }
    }
}
