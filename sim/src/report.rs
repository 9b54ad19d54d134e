//! The report of a failing run: the invariant, the facts that were compared, the events that led to
//! the violation, and how to replay it.

use crate::invariants::invariant_named;
use crate::plan::show_seed;
use crate::referee::Fact;
use crate::world::{Outcome, StoryLine, Verdict, Violation};
use std::fmt;

/// The result of a command, best first. A command with several results ends with the worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Status {
    /// Nothing was found.
    #[default]
    Pass,
    /// A mandatory mark was not reached, or an excuse was used more often than the profile allows.
    MarkMissed,
    /// A cluster did not converge, and no legal reason excuses it.
    NoConvergence,
    /// An invariant was violated.
    Violation,
    /// A run was not deterministic.
    Nondeterminism,
    /// An assertion failed in the simulator or in a simulated server.
    Panic,
}

impl Status {
    /// The exit status of the process. 2 is reserved for wrong usage and wrong input.
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
            Verdict::NoConvergence(_) | Verdict::Stuck(_) => Self::NoConvergence,
            Verdict::Panic { .. } => Self::Panic,
        }
    }
}

/// The verdict as one word for machine-readable output.
#[must_use]
pub const fn verdict_word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Violation(_) => "violation",
        Verdict::NoConvergence(_) => "no-convergence",
        Verdict::Stuck(_) => "stuck",
        Verdict::Panic { .. } => "panic",
    }
}

/// Number of events that a report shows.
const LINES: usize = 12;

/// The report of one failing run; `Display` formats it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report<'a> {
    /// The seed.
    pub seed: u64,
    /// The outcome of the run.
    pub outcome: &'a Outcome,
    /// The command that replays it.
    pub replay: String,
    /// The command that runs it under `cargo test`, if there is one.
    pub test: Option<String>,
    /// The file in which the plan was stored.
    pub file: Option<String>,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = self.outcome;
        let code = outcome.verdict.code().unwrap_or("pass");
        let seed = show_seed(self.seed);
        writeln!(f, "FAIL  {code}  seed {seed}  step {}", outcome.steps)?;
        f.write_str(&indented(&promise(&outcome.verdict)))?;
        if !matches!(outcome.verdict, Verdict::Panic { .. }) {
            writeln!(f)?;
        }
        f.write_str(&indented(&facts(outcome)))?;
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

fn indented(text: &str) -> String {
    let line = |line: &str| match line {
        "" => String::from("\n"),
        line => format!("  {line}\n"),
    };
    text.trim_end().lines().map(line).collect()
}

/// The code and the statement of the violated invariant.
#[must_use]
pub(crate) fn headline(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Violation(v) | Verdict::NoConvergence(v) => {
            format!("{} is violated: {}\n", v.code, promise(verdict))
        }
        Verdict::Pass | Verdict::Stuck(_) | Verdict::Panic { .. } => promise(verdict) + "\n",
    }
}

fn promise(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Pass => "passed".into(),
        Verdict::Stuck(_) => "Simulated time advances.".into(),
        Verdict::Violation(v) | Verdict::NoConvergence(v) => {
            invariant_named(v.code).map_or(String::new(), |i| i.statement.into())
        }
        Verdict::Panic { .. } => {
            "an assertion failed in the simulator or in a simulated server:".into()
        }
    }
}

/// Formats the facts that were compared and the last events before the violation.
#[must_use]
pub(crate) fn facts(outcome: &Outcome) -> String {
    let mut text = String::new();
    match &outcome.verdict {
        Verdict::Pass => {}
        Verdict::Violation(v) | Verdict::NoConvergence(v) | Verdict::Stuck(v) => {
            violation(&mut text, v)
        }
        Verdict::Panic {
            message,
            node,
            at,
            step,
            ..
        } => {
            let where_ = if node.is_empty() { "world" } else { node };
            text += &format!("{where_} at {at}, in step {step}:\n");
            text.extend(message.lines().map(|line| format!("  {line}\n")));
        }
    }
    story(&mut text, &outcome.story);
    text
}

fn violation(text: &mut String, violation: &Violation) {
    let Violation {
        node, at, message, ..
    } = violation;
    *text += &format!("{node} at {at}: {message}\n");
    let names = violation.facts.iter().map(|fact| fact.name.len());
    let wide = names.max().unwrap_or(0);
    for Fact { name, value } in &violation.facts {
        *text += &format!("  {name:wide$}  {value}\n");
    }
}

fn story(text: &mut String, story: &[StoryLine]) {
    if story.is_empty() {
        return;
    }
    *text += "\nlast events:\n";
    let last = &story[story.len().saturating_sub(LINES)..];
    let wide = last.iter().map(|line| line.node.len()).max().unwrap_or(0);
    for line in last {
        let at = line.at.to_string();
        let (node, what) = (&line.node, &line.text);
        *text += &format!("  {at:>9}  {node:wide$}  {what}\n");
    }
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
