//! How a run ended, and what is told of it.

use super::excuses::Excuses;
use crate::referee::Violation;
use walsim_core::base::{MarkSet, Mono};

/// The outcome of a run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// Nothing was wrong, and everything converged.
    Pass,
    /// An invariant was violated.
    Violation(Violation),
    /// The faults have stopped, the bound has passed, and there is no legal reason.
    NoConvergence(Violation),
    /// Simulated time does not move any more: the processes of the node, and where they stand.
    Stuck(Violation),
    /// An assertion failed, or something panicked, in the machines or in the simulator.
    Panic {
        /// Where, as `ASSERT:file:line`: failures at different places are different failures.
        label: String,
        /// What it said.
        message: String,
        /// The node that was making a step; empty if none was.
        node: String,
        /// When.
        at: Mono,
        /// The number of the step, from 1.
        step: u64,
    },
}

impl Verdict {
    /// The code under which failures are grouped; `None` for a pass.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Pass => None,
            Self::Violation(violation)
            | Self::NoConvergence(violation)
            | Self::Stuck(violation) => Some(violation.code),
            Self::Panic { label, .. } => Some(label),
        }
    }
}

/// One line of the story of a run: something that a person would tell.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StoryLine {
    /// When.
    pub at: Mono,
    /// On which node; empty for the world's own.
    pub node: String,
    /// What happened.
    pub text: String,
}

/// Everything that a campaign wants to know of a run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Outcome {
    /// How it ended.
    pub verdict: Verdict,
    /// `Machine::step` calls.
    pub steps: u64,
    /// Simulated time in microseconds.
    pub sim_us: u64,
    /// The trace hash.
    pub hash: u64,
    /// Rare states that were reached.
    pub marks: MarkSet,
    /// Acknowledged commits.
    pub commits: u64,
    /// WAL that the primary made, in bytes.
    pub wal_bytes: u64,
    /// Segments that the primary filled.
    pub segments: u64,
    /// Faults that really struck.
    pub faults: u64,
    /// Legal reasons to stay behind that an operator had to end.
    pub excuses: Excuses,
    /// Rows of the plan's faults that did not strike.
    pub idle_faults: Vec<usize>,
    /// The last lines of the story.
    pub story: Vec<StoryLine>,
}
