//! The head of the page: the verdict, its facts, and how to replay the run.

use super::Page;
use super::text::{counted, grouped, seconds, seconds_short};
use crate::invariants::invariant_named;
use crate::plan::{Counts, PassDone, show_seed};
use crate::report::verdict_word;
use crate::story::{Line, Relevance};
use crate::world::Verdict;

/// The head, ready for its template.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) title: String,
    pub(super) passed: bool,
    /// `--until` ended the run before its end.
    pub(super) stopped: bool,
    pub(super) word: &'static str,
    pub(super) code: String,
    /// What should hold.
    pub(super) statement: String,
    pub(super) rule: String,
    pub(super) details: String,
    /// What was violated.
    pub(super) message: Vec<String>,
    pub(super) place: String,
    pub(super) facts: Vec<(String, String)>,
    pub(super) counts: Vec<(&'static str, String)>,
    pub(super) commands: Vec<(&'static str, String)>,
    pub(super) shrunk: Option<Shrunk>,
}

impl Head {
    pub(super) fn new(page: &Page<'_>) -> Self {
        let verdict = &page.outcome.verdict;
        let about = verdict.code().and_then(invariant_named);
        let code = verdict.code().unwrap_or("pass").to_owned();
        let seed = seed_in_words(page);
        let stopped = page.until.is_some();
        let passed = *verdict == Verdict::Pass;
        let mut head = Self {
            title: match (passed, stopped) {
                (true, false) => format!("walsim: seed {seed} passes"),
                (true, true) => format!("walsim: seed {seed}, stopped"),
                (false, _) => format!("walsim: {code} in seed {seed}"),
            },
            passed,
            stopped,
            word: verdict_word(verdict),
            code,
            statement: about.map_or_else(String::new, |about| about.statement.to_owned()),
            rule: about.map_or_else(String::new, |about| about.source.to_owned()),
            details: about.map_or_else(String::new, |about| about.details.to_owned()),
            message: Vec::new(),
            place: String::new(),
            facts: Vec::new(),
            counts: counts(page),
            commands: commands(page),
            shrunk: shrunk(page),
        };
        head.found(verdict);
        if let Some(until) = page.until {
            head.statement = format!(
                "The run was stopped at {} s, as --until demanded. No invariant was violated until then.",
                seconds(until.0)
            );
        }
        head
    }

    fn found(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Pass => {
                self.statement =
                    String::from("No invariant was violated, and all standbys caught up.");
            }
            Verdict::Violation(found) | Verdict::NoConvergence(found) | Verdict::Stuck(found) => {
                if matches!(verdict, Verdict::Stuck(_)) {
                    self.statement = String::from("Simulated time advances.");
                }
                let process = found
                    .process
                    .map_or_else(String::new, |it| format!(", {it}"));
                self.message = vec![found.message.clone()];
                self.place = format!("{}{process}, at {} s", found.node, seconds(found.at.0));
                let facts = found.facts.iter();
                let facts = facts.map(|fact| (fact.name.clone(), fact.value.to_string()));
                self.facts = facts.collect();
            }
            Verdict::Panic {
                message,
                node,
                at,
                step,
                ..
            } => {
                self.statement =
                    String::from("An assertion failed in the simulator or in a simulated server.");
                self.message = message.lines().map(String::from).collect();
                let node = if node.is_empty() { "world" } else { node };
                self.place = format!("{node}, at {} s, in step {step}", seconds(at.0));
            }
        }
    }
}

fn counts(page: &Page<'_>) -> Vec<(&'static str, String)> {
    let (plan, outcome) = (page.plan, page.outcome);
    let struck = plan.faults.len() - outcome.idle_faults.len();
    let shrunk = page.origin.filter(|origin| origin.tries > 0);
    let mut counts = match shrunk {
        None => vec![("seed", show_seed(plan.seed))],
        Some(origin) => vec![
            ("seed of this shrunk plan", show_seed(plan.seed)),
            ("seed of the original plan", show_seed(origin.seed)),
        ],
    };
    counts.extend([
        ("plan", plan.name.clone()),
        ("steps", grouped(outcome.steps)),
        ("simulated", seconds_short(outcome.sim_us / 1000 * 1000)),
        ("commits", grouped(outcome.commits)),
        ("WAL", counted(outcome.wal_bytes, "byte")),
        (
            "faults",
            format!("{struck} of {} took effect", plan.faults.len()),
        ),
    ]);
    if let Some(node) = plan.nodes.first() {
        counts.push(("PostgreSQL", node.settings.pg_version.major().to_string()));
    }
    if let Some(bug) = page.bug {
        counts.push(("planted bug", bug.name().to_owned()));
    }
    counts.push(("hash", format!("{:#018x}", outcome.hash)));
    counts
}

fn commands(page: &Page<'_>) -> Vec<(&'static str, String)> {
    let replay = page.replay;
    let mut commands = vec![
        ("replay", format!("{replay} --trace")),
        ("every event", format!("{replay} --trace=events")),
        ("every step", format!("{replay} --trace=steps")),
    ];
    commands.extend(page.test.map(|test| ("as a test", test.to_owned())));
    commands.extend(page.file.map(|file| ("plan file", file.to_owned())));
    commands
}

/// The seed of the plan and, if the plan was shrunk from a plan with another seed, that seed.
fn seed_in_words(page: &Page<'_>) -> String {
    let own = show_seed(page.plan.seed);
    match page.origin {
        Some(origin) if origin.seed != page.plan.seed => {
            format!("{own} (shrunk from seed {})", show_seed(origin.seed))
        }
        Some(_) | None => own,
    }
}

/// How the plan was shrunk.
#[derive(Debug)]
pub(super) struct Shrunk {
    pub(super) text: String,
    /// The command that replays the original plan.
    pub(super) replay: String,
    /// What the plan has, how many of it before, and how many after.
    pub(super) sizes: Vec<(&'static str, usize, usize)>,
    pub(super) passes: Vec<PassDone>,
}

fn shrunk(page: &Page<'_>) -> Option<Shrunk> {
    let origin = page.origin.filter(|origin| origin.tries > 0)?;
    let (was, is) = (origin.was, Counts::of(page.plan));
    let rows = |counts: Counts| counts.workload + counts.faults + counts.actions;
    let (before, after) = (rows(was), rows(is));
    let as_u64 = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let seed = show_seed(origin.seed);
    let seeds = match origin.seed == page.plan.seed {
        true => format!("Both plans have the seed {seed}."),
        false => format!(
            "The original plan has the seed {seed}. The shrunk plan has the seed {}, because the shrinker also tries other seeds.",
            show_seed(page.plan.seed)
        ),
    };
    Some(Shrunk {
        text: format!(
            "{} were tried. {} of workload, faults and actions became {after}; {} removed. {seeds}",
            counted(origin.tries, "smaller plan"),
            counted(as_u64(before), "entry").replace("entrys", "entries"),
            match before.saturating_sub(after) {
                1 => String::from("1 was"),
                n => format!("{n} were"),
            },
        ),
        replay: origin.replay.clone(),
        sizes: vec![
            ("nodes", was.nodes, is.nodes),
            ("workload", was.workload, is.workload),
            ("faults", was.faults, is.faults),
            ("actions", was.actions, is.actions),
        ],
        passes: origin.passes.clone(),
    })
}

/// An event that led to the violation, ready for its template.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) number: u64,
    pub(super) line: usize,
    pub(super) time: String,
    pub(super) node: String,
    pub(super) process: String,
    pub(super) text: String,
    pub(super) more: String,
    pub(super) relevance: &'static str,
    pub(super) sign: &'static str,
}

/// The events that led to the violation, one on each line.
pub(super) fn told(lines: &[Line]) -> Vec<Told> {
    let told = lines.iter().enumerate().map(|(index, line)| {
        let (relevance, sign) = match line.relevance {
            Relevance::Verdict => ("verdict", "verdict"),
            Relevance::Fault => match super::diagram::looks(&line.event).1 {
                "verdict" => ("verdict", "verdict"),
                "fault" => ("fault", "fault"),
                "client" => ("context", "operator"),
                _ => ("context", "server"),
            },
            Relevance::Subject => ("subject", "evidence"),
            Relevance::Log => ("log", "log"),
            Relevance::Context => ("context", "context"),
        };
        Told {
            number: line.event.number,
            line: index + 1,
            time: seconds(line.event.at.0),
            node: line.event.node.clone(),
            process: line
                .event
                .process
                .map(|it| it.to_string())
                .unwrap_or_default(),
            text: line.text.clone(),
            more: line.repeats.map_or_else(String::new, |repeats| {
                format!(
                    "{} more until {} s",
                    grouped(repeats.more),
                    seconds(repeats.until.0)
                )
            }),
            relevance,
            sign,
        }
    });
    told.collect()
}
