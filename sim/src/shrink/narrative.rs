//! Writes the file of a shrunk plan. The head comment of the file explains the failure.

use super::{Shrunk, Size, Symptom};
use crate::invariants::invariant_named;
use crate::plan::{Expect, Origin, Plan, PlanError, Scenario, show_seed};
use crate::report::{explanation, headline};
use crate::world::{Verdict, run};
use std::fmt::Write;
use walsim_core::base::{Bug, Planted};

/// Where a shrunk plan comes from, and in which file it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The original plan.
    pub plan: &'a Plan,
    /// The command that replays the original plan.
    pub replay: &'a str,
    /// The planted bug.
    pub bug: Option<Bug>,
    /// The path of the file.
    pub file: &'a str,
}

/// The error for a written file that cannot be read back, or whose run does not fail in the same
/// way as the shrunk plan. Such a file must not be kept.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfaithful {
    /// The written file cannot be read back.
    #[error("the shrunk plan cannot be read back: {0}")]
    Unread(#[from] PlanError),
    /// The run of the file passes, or fails in another way.
    #[error("the run of the shrunk plan, when read back, ends with {0}")]
    Other(String),
}

impl Shrunk {
    /// The text of the file. As a check, the text is parsed and the parsed plan is run.
    ///
    /// # Errors
    /// If the run of the parsed plan does not fail in the same way.
    pub fn to_file(&self, kept: Kept<'_>) -> Result<String, Unfaithful> {
        let code = self.outcome.verdict.code().unwrap_or_default();
        let mut plan = self.plan.clone();
        plan.name = match kept.bug {
            Some(bug) => format!("{}-{}", bug.name(), show_seed(kept.plan.seed)),
            None => format!("{}-{}", plain(code), show_seed(kept.plan.seed)),
        };
        plan.about = self.about(kept.bug);
        let expect = self.expect(kept.bug, code);
        let scenario = Scenario {
            plan,
            expect,
            origin: Some(self.origin(kept.plan, kept.replay)),
        };
        let text = scenario.to_toml_under(&self.head(kept));

        let again = Scenario::parse(&text, "shrunk")?.plan;
        let planted = kept
            .bug
            .map_or(Planted::NONE, |bug| Planted::NONE.with(bug));
        let verdict = run(&again, planted, self.outcome.audited).verdict;
        if Symptom::of(&verdict) == Symptom::of(&self.outcome.verdict) {
            Ok(text)
        } else {
            let other = verdict.code().unwrap_or("a pass");
            Err(Unfaithful::Other(other.into()))
        }
    }

    /// How the plan was shrunk.
    #[must_use]
    pub fn origin(&self, plan: &Plan, replay: &str) -> Origin {
        let audited = self.outcome.audited;
        Origin {
            tries: self.tries,
            passes: self.passes.clone(),
            ..Origin::unshrunk(plan, plan.seed, replay.to_owned(), audited)
        }
    }

    /// The expectation that the file states. With a planted bug, the run must violate the
    /// invariant. Without a bug the file states no expectation, because the plan must pass when the
    /// cause has been fixed.
    fn expect(&self, bug: Option<Bug>, code: &str) -> Expect {
        match (bug, invariant_named(code)) {
            (Some(bug), Some(invariant)) if self.passes_without => Expect {
                bug: Some(bug),
                invariants: vec![invariant.code],
                marks: Vec::new(),
                excuses: Vec::new(),
            },
            _ => Expect::default(),
        }
    }

    fn about(&self, bug: Option<Bug>) -> String {
        let with = bug.map_or(String::new(), |bug| {
            format!("With {} planted: ", bug.name())
        });
        match &self.outcome.verdict {
            Verdict::Violation(v) | Verdict::NoConvergence(v) | Verdict::Stuck(v) => {
                format!("{with}{} on {}: {}.", v.code, v.node, v.message)
            }
            Verdict::Panic { message, .. } => {
                let first = message.lines().next().unwrap_or_default();
                format!("{with}an assertion failed: {first}")
            }
            Verdict::Pass => format!("{with}passes."),
        }
    }

    fn head(&self, kept: Kept<'_>) -> String {
        let mut head = headline(&self.outcome.verdict);
        let add = |head: &mut String, line: std::fmt::Arguments<'_>| {
            writeln!(head, "{line}").expect("writing to a string cannot fail");
        };
        let told = explanation(&self.outcome.verdict, &self.story);
        add(&mut head, format_args!("\n{told}"));
        let bug = kept
            .bug
            .map_or(String::new(), |bug| format!(" --bug {}", bug.name()));
        let (was, is) = (Size::of(kept.plan), Size::of(&self.plan));
        let seed = show_seed(kept.plan.seed);
        let other = match self.plan.seed == kept.plan.seed {
            true => String::new(),
            false => format!(
                " The seed of the shrunk plan is {}.",
                show_seed(self.plan.seed)
            ),
        };
        add(
            &mut head,
            format_args!(
                "Shrunk from seed {seed}: {} rows of workload, faults and actions were reduced to {}.{other}",
                was.steps, is.steps
            ),
        );
        add(
            &mut head,
            format_args!("Replay: walsim replay {}{bug} --trace", kept.file),
        );
        head
    }
}

/// The code of an invariant in lower case, as a part of a scenario's name.
fn plain(code: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    code.to_lowercase()
        .chars()
        .map(plain)
        .take(40)
        .collect::<String>()
        .trim_matches('-')
        .into()
}
