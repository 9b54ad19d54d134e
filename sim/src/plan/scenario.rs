//! A plan with what is expected of its run: what a file holds.

use super::Plan;
use crate::world::{Excuse, Outcome};
use walsim_core::base::{Bug, Mark};

/// A plan file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scenario {
    /// What to run.
    pub plan: Plan,
    /// What the run must come to.
    pub expect: Expect,
}

/// What a run must come to: it passes, or violates one of these invariants if no bug is named, and
/// reaches these marks.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Expect {
    /// With this bug planted the run must violate one of the invariants.
    pub bug: Option<Bug>,
    /// The codes that count. Without a bug the run itself must violate one.
    pub invariants: Vec<&'static str>,
    /// Rare states that must be reached without the bug.
    pub marks: Vec<Mark>,
    /// Excuses that must be given without the bug, and no others.
    pub excuses: Vec<Excuse>,
}

impl Expect {
    /// Must the run violate something although no bug is planted?
    #[must_use]
    pub const fn is_violation(&self) -> bool {
        self.bug.is_none() && !self.invariants.is_empty()
    }

    /// What a run without the bug has not come to, in words. How it ended is looked at apart where
    /// it must pass.
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
            "was not given"
        } else {
            "was given"
        };
        Some(format!("the excuse {} {what}", excuse.name()))
    }
}

impl From<Plan> for Scenario {
    fn from(plan: Plan) -> Self {
        Self {
            plan,
            expect: Expect::default(),
        }
    }
}
