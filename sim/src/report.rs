//! What a person is told of a failing run: which invariant, the facts that were compared, what led there, and how to see
//! it again.

use crate::invariants::invariant_named;
use crate::plan::show_seed;
use crate::world::{Outcome, StoryLine, Verdict, Violation};
use std::fmt;

/// How a command ends, mildest first: of several the last counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Status {
    /// Nothing was found.
    #[default]
    Pass,
    /// A mandatory mark was missed.
    MarkMissed,
    /// A cluster did not converge, and there is no legal reason.
    NoConvergence,
    /// An invariant was violated.
    Violation,
    /// A run did not repeat itself.
    Nondeterminism,
    /// An assertion failed in the simulator or in the machines.
    Panic,
}

impl Status {
    /// The exit status of the process. 2 is for wrong usage and wrong input.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Violation => 1,
            Self::NoConvergence => 3,
            Self::Nondeterminism => 4,
            Self::Panic => 5,
            Self::MarkMissed => 6,
        }
    }
}

impl From<&Verdict> for Status {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::Violation(_) => Self::Violation,
            Verdict::NoConvergence(_) => Self::NoConvergence,
            Verdict::Panic { .. } => Self::Panic,
        }
    }
}

/// The verdict in one word, as machine-readable output has it.
#[must_use]
pub const fn verdict_word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Violation(_) => "violation",
        Verdict::NoConvergence(_) => "no-convergence",
        Verdict::Panic { .. } => "panic",
    }
}

/// Lines of the story that a report shows.
const LINES: usize = 12;

/// The report of one failing run; `Display` is the text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report<'a> {
    /// The seed.
    pub seed: u64,
    /// What came of it.
    pub outcome: &'a Outcome,
    /// The command that runs it again.
    pub replay: String,
    /// The command that runs it again under `cargo test`, if one does.
    pub test: Option<String>,
    /// Where the plan was stored.
    pub file: Option<String>,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = self.outcome;
        let code = outcome.verdict.code().unwrap_or("pass");
        let seed = show_seed(self.seed);
        writeln!(f, "FAIL  {code}  seed {seed}  step {}", outcome.steps)?;
        match &outcome.verdict {
            Verdict::Pass => writeln!(f, "  passed")?,
            Verdict::Violation(v) | Verdict::NoConvergence(v) => violation(f, v)?,
            Verdict::Panic { message, .. } => {
                writeln!(
                    f,
                    "  an assertion failed in the simulator or in the machines:"
                )?;
                message
                    .lines()
                    .try_for_each(|line| writeln!(f, "    {line}"))?;
            }
        }
        story(f, &outcome.story)?;
        writeln!(f)?;
        writeln!(f, "  replay  {}", self.replay)?;
        if let Some(test) = &self.test {
            writeln!(f, "  test    {test}")?;
        }
        if let Some(file) = &self.file {
            writeln!(f, "  plan    {file}")?;
        }
        Ok(())
    }
}

fn violation(f: &mut fmt::Formatter<'_>, violation: &Violation) -> fmt::Result {
    if let Some(invariant) = invariant_named(violation.code) {
        writeln!(f, "  {}", invariant.promise)?;
    }
    writeln!(f)?;
    writeln!(
        f,
        "  {} at {}: {}",
        violation.node, violation.at, violation.message
    )?;
    let wide = violation
        .facts
        .iter()
        .map(|(what, _)| what.len())
        .max()
        .unwrap_or(0);
    for (what, value) in &violation.facts {
        writeln!(f, "    {what:wide$}  {value}")?;
    }
    Ok(())
}

fn story(f: &mut fmt::Formatter<'_>, story: &[StoryLine]) -> fmt::Result {
    if story.is_empty() {
        return Ok(());
    }
    writeln!(f)?;
    writeln!(f, "  what led there:")?;
    let from = story.len().saturating_sub(LINES);
    let wide = story[from..]
        .iter()
        .map(|line| line.node.len())
        .max()
        .unwrap_or(0);
    story[from..].iter().try_for_each(|line| {
        let at = line.at.to_string();
        writeln!(f, "    {at:>9}  {:wide$}  {}", line.node, line.text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_decides_and_the_numbers_are_fixed() {
        let order = [
            (Status::Pass, 0),
            (Status::MarkMissed, 6),
            (Status::NoConvergence, 3),
            (Status::Violation, 1),
            (Status::Nondeterminism, 4),
            (Status::Panic, 5),
        ];
        assert!(order.is_sorted());
        assert!(order.iter().all(|(status, code)| status.code() == *code));
    }
}
