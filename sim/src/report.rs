//! The report of a failing run: the invariant, the compared facts, the events that led to the
//! violation, and the command that replays the run.

mod layout;
mod story;

pub use layout::Look;

use crate::invariants::invariant_named;
use crate::plan::show_seed;
use crate::referee::Fact;
use crate::story::Story;
use crate::world::{Outcome, Verdict};
use layout::{Style, hanging};
use std::fmt;
use story::told;

/// The result of a command, in order from best to worst. A command with several results ends with
/// the worst of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Status {
    /// Nothing was found.
    #[default]
    Pass,
    /// Too few seeds reached a rare state that campaigns must reach (a mark). Or more seeds than
    /// the profile allows had a standby that an operator had to repair (an excuse).
    MarkMissed,
    /// A cluster did not converge, and no legal reason is known.
    NoConvergence,
    /// An invariant was violated.
    Violation,
    /// Two runs of one plan took different steps.
    Nondeterminism,
    /// An assertion failed in the simulator or in a simulated server.
    Panic,
}

impl Status {
    /// The exit status of the command. Status 2 is used only for wrong usage and wrong input.
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

/// The report of one failing run. `Display` formats the report without colors, for 100 columns.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// The seed.
    pub seed: u64,
    /// The outcome of the run.
    pub outcome: &'a Outcome,
    /// The events that led to the failure.
    pub story: &'a Story,
    /// The command that replays the run.
    pub replay: String,
    /// The command that runs the seed under `cargo test`, if there is one.
    pub test: Option<String>,
    /// The file in which the plan was stored.
    pub file: Option<String>,
    /// The file with the report as HTML.
    pub page: Option<String>,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(Look::PLAIN))
    }
}

impl Report<'_> {
    /// The report as text for a terminal.
    #[must_use]
    pub fn text(&self, look: Look) -> String {
        let verdict = &self.outcome.verdict;
        let code = verdict.code().unwrap_or("pass");
        let (seed, steps) = (show_seed(self.seed), self.outcome.steps);
        let mut text = look.paint(Style::Red, &format!("FAIL  {code}"));
        text += &format!("  seed {seed}  step {steps}\n");
        text += &body(verdict, self.story, look);
        text.push('\n');
        let mut row = |name: &str, value: &str| {
            let name = look.paint(Style::Bold, name);
            text += &format!("  {name}  {value}\n");
        };
        row("replay", &self.replay);
        if let Some(test) = &self.test {
            row("test  ", test);
        }
        if let Some(file) = &self.file {
            row("plan  ", file);
        }
        if let Some(page) = &self.page {
            row("report", page);
        }
        text
    }
}

/// The invariant with its rule, the compared facts, and the events that led to the failure, as
/// text.
fn body(verdict: &Verdict, story: &Story, look: Look) -> String {
    let mut text = String::new();
    for line in promise(verdict).lines() {
        text += &hanging("  ", line, look, Style::Bold);
    }
    if let Some(about) = verdict.code().and_then(invariant_named) {
        text += &hanging("  rule: ", about.source, look, Style::Faint);
    }
    text.push('\n');
    text += &facts(verdict, look);
    text += &told(story, look);
    text
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

/// The compared facts and the events that led to the failure, as text for the head of a plan file.
#[must_use]
pub(crate) fn explanation(verdict: &Verdict, story: &Story) -> String {
    let look = Look::PLAIN;
    let text = facts(verdict, look) + &told(story, look);
    let line = |line: &str| String::from(line.strip_prefix("  ").unwrap_or(line)) + "\n";
    text.lines().map(line).collect()
}

fn facts(verdict: &Verdict, look: Look) -> String {
    match verdict {
        Verdict::Pass => String::new(),
        Verdict::Violation(found) | Verdict::NoConvergence(found) | Verdict::Stuck(found) => {
            let process = found.process.map_or(String::new(), |it| format!(", {it},"));
            let head = format!("{}{process} at {}: ", found.node, found.at);
            let mut text = hanging(
                "  ",
                &format!("{head}{}", found.message),
                look,
                Style::Plain,
            );
            let names = found.facts.iter().map(|fact| fact.name.len());
            let wide = names.max().unwrap_or(0);
            for Fact { name, value } in &found.facts {
                let head = format!("    {name:wide$}  ");
                text += &hanging(&head, &value.to_string(), look, Style::Bold);
            }
            text
        }
        Verdict::Panic {
            message,
            node,
            at,
            step,
            ..
        } => {
            let where_ = if node.is_empty() { "world" } else { node };
            let mut text = format!("  {where_} at {at}, in step {step}:\n");
            for line in message.lines() {
                text += &hanging("    ", line, look, Style::Plain);
            }
            text
        }
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
