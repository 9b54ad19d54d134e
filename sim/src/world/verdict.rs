//! How a run ended, and what is recorded about its end.

use super::excuses::Excuses;
use crate::referee::Violation;
use walsim_core::base::{MarkSet, Mono};

/// The code of the verdict [`Verdict::Stuck`].
pub const STUCK: &str = "STUCK";

/// The verdict of a run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// No invariant was violated, and the cluster converged.
    Pass,
    /// An invariant was violated.
    Violation(Violation),
    /// The cluster did not converge within the bound, and no legal reason is known.
    NoConvergence(Violation),
    /// Simulated time does not advance. The facts list each process of the node with its C
    /// function.
    Stuck(Violation),
    /// An assertion failed, or code of core or of the simulator panicked.
    Panic {
        /// The place, as `ASSERT:file:line`. Failures at different places are different failures.
        label: String,
        /// The panic message.
        message: String,
        /// The node that was making a step. This is empty if no node was making one.
        node: String,
        /// The time.
        at: Mono,
        /// The number of the last step. The first step has the number 1.
        step: u64,
    },
}

impl Verdict {
    /// The code by which failures are grouped. Returns `None` if the run passed.
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

/// The outcome of a run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// Whether the run was audited: all WAL was compared again several times. Only an audited run
    /// can find some violations, so a second run of the plan must be audited too.
    pub audited: bool,
    /// Number of `Machine::step` calls.
    pub steps: u64,
    /// Simulated time in microseconds.
    pub sim_us: u64,
    /// The trace hash.
    pub hash: u64,
    /// Rare states that the run reached.
    pub marks: MarkSet,
    /// Acknowledged commits.
    pub commits: u64,
    /// Bytes of WAL that the primary wrote.
    pub wal_bytes: u64,
    /// Segments that the primary filled.
    pub segments: u64,
    /// Number of faults that took effect.
    pub faults: u64,
    /// Excuses that were used.
    pub excuses: Excuses,
    /// The faults of the plan that had no effect, by number.
    pub idle_faults: Vec<usize>,
}
