//! The predicate for candidates: runs a candidate, and compares its failure with the original
//! failure.

use super::{Failed, Progress, reduce};
use crate::plan::{PassDone, Plan};
use crate::story::{Story, story};
use crate::world::{Outcome, Verdict, run, run_at_most};
use walsim_core::base::Planted;

/// Identifies a failure by its code and, if the cluster did not converge, by what the cluster was
/// waiting for. Two failures with equal symptoms count as the same failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Symptom {
    code: String,
    /// The names of the facts in the violation. They show whether a server does not run or a
    /// standby lags.
    hung_at: Vec<String>,
}

impl Symptom {
    /// The symptom of a failed run.
    #[must_use]
    pub fn of(verdict: &Verdict) -> Option<Self> {
        let hung_at = match verdict {
            Verdict::NoConvergence(violation) => violation
                .facts
                .iter()
                .map(|fact| fact.name.clone())
                .collect(),
            Verdict::Pass | Verdict::Violation(_) | Verdict::Stuck(_) | Verdict::Panic { .. } => {
                Vec::new()
            }
        };
        let code = verdict.code()?.into();
        Some(Self { code, hung_at })
    }
}

/// Decides whether a candidate shows the original failure.
#[derive(Clone, Debug)]
pub struct Predicate {
    planted: Planted,
    symptom: Symptom,
    /// Whether the original plan passes without the planted bug. If so, a candidate must also pass
    /// without the bug.
    passes_without: bool,
    /// The maximum number of steps of a candidate.
    most_steps: u64,
    /// Whether only an audited run shows the failure.
    audit: bool,
}

/// The maximum number of steps of a candidate if the length of the original run is unknown. A
/// longer run would not be useful as a scenario.
const MOST_STEPS: u64 = 3_000_000;

impl Predicate {
    /// The predicate for a failing plan, and the outcome of the plan's run. Returns `None` if the
    /// plan does not fail.
    #[must_use]
    pub fn of(plan: &Plan, planted: Planted) -> Option<(Self, Outcome)> {
        let mut outcome = run(plan, planted, false);
        if outcome.verdict == Verdict::Pass {
            outcome = run(plan, planted, true);
        }
        let symptom = Symptom::of(&outcome.verdict)?;
        let passes_without = planted != Planted::NONE && passes(plan);
        // A candidate that takes many more steps than the original run is hardly simpler. Most
        // candidates that pass would take that many steps, so the limit also saves time.
        let most_steps = match outcome.steps {
            0 => MOST_STEPS,
            steps => 2 * steps + 20_000,
        };
        let predicate = Self {
            planted,
            symptom,
            passes_without,
            most_steps,
            audit: outcome.audited,
        };
        Some((predicate, outcome))
    }

    /// Whether the plan passes without the planted bug.
    #[must_use]
    pub const fn passes_without(&self) -> bool {
        self.passes_without
    }

    /// Runs a candidate. Returns the failure if it has the same symptom as the original failure.
    #[must_use]
    pub fn judge(&self, plan: &Plan) -> Option<Failed> {
        let outcome = run_at_most(plan, self.planted, self.audit, self.most_steps).ok()?;
        let same = Symptom::of(&outcome.verdict).as_ref() == Some(&self.symptom);
        if !same || self.passes_without && !passes(plan) {
            return None;
        }
        Some(failed(&outcome))
    }
}

fn passes(plan: &Plan) -> bool {
    let outcome = run_at_most(plan, Planted::NONE, false, MOST_STEPS).ok();
    outcome.is_some_and(|outcome| outcome.verdict == Verdict::Pass)
}

fn failed(outcome: &Outcome) -> Failed {
    let at_us = match &outcome.verdict {
        Verdict::Violation(_)
        | Verdict::NoConvergence(_)
        | Verdict::Stuck(_)
        | Verdict::Panic { .. } => Some(outcome.sim_us),
        Verdict::Pass => None,
    };
    let hash = outcome.hash;
    Failed { at_us, hash }
}

/// A shrunk plan.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest failing plan.
    pub plan: Plan,
    /// The outcome of the shrunk plan's run.
    pub outcome: Outcome,
    /// Number of candidates run.
    pub tries: u64,
    /// The passes that made the plan simpler, in their order.
    pub passes: Vec<PassDone>,
    /// The events of the shrunk plan's run that led to the failure.
    pub story: Story,
    /// Whether the plan passes without the planted bug.
    pub passes_without: bool,
}

/// Shrinks a failing plan. Returns `None` if the plan does not fail. `go_on` is called before each
/// try, and stops the search by returning false.
#[must_use]
pub fn shrink(
    plan: &Plan,
    planted: Planted,
    mut go_on: impl FnMut(&Progress) -> bool,
) -> Option<Shrunk> {
    let (predicate, outcome) = Predicate::of(plan, planted)?;
    let passes_without = predicate.passes_without;
    let reduced = reduce(
        plan,
        failed(&outcome),
        &mut |candidate| predicate.judge(candidate),
        &mut go_on,
    );
    let outcome = run(&reduced.plan, planted, outcome.audited);
    let story = story(&reduced.plan, planted, &outcome);
    Some(Shrunk {
        story,
        plan: reduced.plan,
        outcome,
        tries: reduced.tries,
        passes: reduced.passes,
        passes_without,
    })
}
