//! A plan with what is expected of its run: what a file holds.

use super::Plan;
use walsim_core::base::{Bug, Mark};

/// A plan file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scenario {
    /// What to run.
    pub plan: Plan,
    /// What the run must come to.
    pub expect: Expect,
}

/// What a run must come to: it passes, and reaches these marks.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Expect {
    /// With this bug planted the run must violate one of the invariants.
    pub bug: Option<Bug>,
    /// The codes that count.
    pub invariants: Vec<&'static str>,
    /// Rare states that must be reached without the bug.
    pub marks: Vec<Mark>,
}

impl From<Plan> for Scenario {
    fn from(plan: Plan) -> Self {
        Self {
            plan,
            expect: Expect::default(),
        }
    }
}
