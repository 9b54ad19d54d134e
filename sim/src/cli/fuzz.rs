//! `walsim fuzz`: runs many seeds on all cores and prints a summary.

use super::output::{store, try_dir};
use super::refusal::Refusal;
use super::replay::workable;
use super::shrink::{make_small, seed_name};
use super::values::{
    SeedBase, base_value, budget_value, bug_value, count_value, duration_value, overrides, planted,
    profile_value, range_value,
};
use super::{Format, Outcome, json, os, pages, pool, terminal, trace_diff};
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;
use walsim::fuzz::{Campaign, Ran, Repeat, Task};
use walsim::html::Page;
use walsim::plan::{Expect, Origin, Profile, Scenario, show_seed, show_us};
use walsim::report::{Report, Status};
use walsim::story::{Story, story};
use walsim::world::Verdict;
use walsim_core::base::Bug;

/// Default directory for failing plans.
pub(super) const OUT: &str = "target/walsim";
/// The number of failures with a full report. A further failure gets one line.
const REPORTS: u64 = 5;
/// The largest number of failures that are shrunk. Only the first failure of each kind is shrunk.
const SHRUNK: usize = 4;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Run the seeds from A to B, excluding B
    #[arg(long, value_name = "A..B", value_parser = range_value, conflicts_with_all = ["count", "seed_base"])]
    seeds: Option<Range<u64>>,
    /// Run this many seeds [default: 1000, or as many as the budget allows]
    #[arg(long, value_name = "N", value_parser = count_value)]
    count: Option<u64>,
    /// Start no further seed after this much wall time, such as 60s
    #[arg(long, value_name = "TIME", value_parser = budget_value)]
    budget: Option<Duration>,
    /// Distribution from which plans are drawn: default, faultless
    #[arg(long, value_name = "NAME", value_parser = profile_value, default_value = "default")]
    profile: Profile,
    /// Number of worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// The first seed, or `random`
    #[arg(long, value_name = "SEED", value_parser = base_value, default_value = "0")]
    seed_base: SeedBase,
    /// Directory for the plans of failing seeds
    #[arg(long, value_name = "DIR", default_value = OUT)]
    out: PathBuf,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Plant this bug
    #[arg(long, value_name = "NAME", value_parser = bug_value)]
    bug: Option<Bug>,
    /// Percentage of seeds to run twice and compare
    #[arg(long, value_name = "PERCENT", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=100))]
    check_determinism: u8,
    /// Override a setting of every plan, such as geometry=stock
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// CPU time for shrinking the first failing plan of each kind, after all seeds have run
    #[arg(long, value_name = "TIME", value_parser = duration_value, default_value = "30s")]
    shrink_budget: Duration,
    /// Do not shrink failing plans
    #[arg(long)]
    no_shrink: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    let task = Task {
        profile: args.profile,
        overrides: overrides(&args.sets)?,
        planted: planted(args.bug)?,
        twice_percent: args.check_determinism.into(),
    };
    let seeds = args.range()?;
    // All plans get the same overrides, so the first plan shows whether the overrides are valid.
    workable(task.plan(seeds.start))?;
    try_dir(&args.out)?;
    let jobs = args.jobs.map_or_else(os::parallelism, usize::from);
    let begun = os::now();
    let go_on = || args.budget.is_none_or(|budget| begun.elapsed() < budget);

    let bar = progress(&seeds, args.budget);
    let mut campaign = Campaign::new(seeds.start);
    campaign.overridden = !task.overrides.as_options().is_empty();
    let reporter = Reporter {
        args,
        task: &task,
        bar: &bar,
        kept: RefCell::default(),
    };
    let mut failures = 0;
    let mut firsts = Firsts::default();
    pool::each_seed(
        (seeds.start, seeds.end),
        jobs,
        go_on,
        |seed| task.run(seed),
        |ran| {
            for ran in campaign.add(ran) {
                bar.inc(1);
                if ran.status() != Status::Pass {
                    failures += 1;
                    bar.set_message(format!("{failures} failed"));
                    if !args.no_shrink && firsts.is_new(&ran) {
                        reporter.announce(&ran);
                        firsts.0.push(ran);
                    } else {
                        reporter.report_failure(&ran, failures);
                    }
                }
            }
        },
    );
    bar.finish_and_clear();
    let took = (os::cpu_time(), begun.elapsed());
    firsts.0.iter().for_each(|ran| reporter.report_shrunk(ran));

    match args.format {
        Format::Json => json::line(&summary_line(&campaign, args.profile, took.0)),
        Format::Text => {
            let text = summary(&campaign, args.profile, jobs, took);
            let _ = write!(std::io::stdout(), "{text}");
        }
    }
    Ok(campaign.final_status(args.profile))
}

impl Args {
    fn range(&self) -> Result<Range<u64>, Refusal> {
        if let Some(seeds) = &self.seeds {
            return Ok(seeds.clone());
        }
        let base = self.seed_base.seed();
        let count = match (self.count, self.budget) {
            (Some(count), _) => count,
            (None, None) => 1000,
            (None, Some(_)) => return Ok(base..u64::MAX),
        };
        let end = base.checked_add(count).ok_or_else(|| {
            Refusal::new("the seeds are out of range")
                .help("the largest seed is 18446744073709551615")
        })?;
        Ok(base..end)
    }
}

/// The progress bar. It is hidden if stderr is not a terminal.
fn progress(seeds: &Range<u64>, budget: Option<Duration>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match budget {
        None => (
            ProgressBar::new(seeds.end - seeds.start),
            "{bar:40} {pos}/{len} seeds  {per_sec}  {eta} left  {msg}",
        ),
        Some(_) => (
            ProgressBar::new_spinner(),
            "{spinner} {pos} seeds  {per_sec}  {elapsed}  {msg}",
        ),
    };
    let style = ProgressStyle::with_template(template).expect("a fixed template");
    bar.set_style(style);
    bar
}

/// The first failure of each kind. These failures are shrunk after all seeds have run, because
/// shrinking would make the worker threads wait.
#[derive(Default)]
struct Firsts(Vec<Ran>);

impl Firsts {
    fn is_new(&self, ran: &Ran) -> bool {
        let code = ran.outcome.verdict.code();
        let known = self
            .0
            .iter()
            .any(|other| other.outcome.verdict.code() == code);
        let repeats_itself = !matches!(ran.repeated, Some(Repeat::Differs(_)));
        code.is_some() && repeats_itself && !known && self.0.len() < SHRUNK
    }
}

struct Reporter<'a> {
    args: &'a Args,
    task: &'a Task,
    bar: &'a ProgressBar,
    /// The seeds whose plans and reports were kept.
    kept: RefCell<BTreeSet<u64>>,
}

/// The files of a failure.
struct Kept {
    file: String,
    /// The report as HTML. `None` if it could not be written, or if the run has no verdict that a
    /// report could show.
    page: Option<String>,
}

impl Reporter<'_> {
    /// Stores the plan and the report of a failing seed and prints a line. They are stored before
    /// the plan is shrunk, because the user may interrupt the campaign.
    fn announce(&self, ran: &Ran) {
        let file = self.keep(ran).map(|kept| kept.file).unwrap_or_default();
        let code = ran.outcome.verdict.code().unwrap_or("pass");
        let seed = show_seed(ran.seed);
        let text = format!("FAIL  {code}  seed {seed}: {file}, to be shrunk at the end\n");
        self.bar.suspend(|| print_to(std::io::stderr(), &text));
    }

    /// Shrinks the plan of a failing seed and reports the failure.
    fn report_shrunk(&self, ran: &Ran) {
        let (bug, budget) = (self.args.bug, self.args.shrink_budget);
        let plan = self.task.plan(ran.seed);
        let name = format!("{}-shrunk.toml", seed_name(ran.seed, bug));
        let replay = self.replay_line(ran, None);
        let small = match make_small(&plan, bug, budget, &self.args.out.join(name), &replay) {
            Ok(Some(small)) => small,
            Ok(None) => return self.report_failure(ran, 0),
            Err(refusal) => {
                refusal.print();
                return self.report_failure(ran, 0);
            }
        };
        self.failure_line(ran, Some(small.file.clone()));
        let test = self.is_plain().then(|| test_line(ran.seed));
        let report = small.report(ran.seed, bug, test);
        self.print(&(report.text(terminal::look()) + "\n"));
    }

    fn failure_line(&self, ran: &Ran, file: Option<String>) {
        let verdict = &ran.outcome.verdict;
        if self.args.format == Format::Text {
            return;
        }
        if let (Some(code), Some(found)) =
            (verdict.code(), json::Found::of(verdict, self.story(ran)))
        {
            json::line(&json::Failure {
                kind: "failure",
                seed: show_seed(ran.seed),
                invariant: code.into(),
                found,
                file,
            });
        }
    }

    fn print(&self, text: &str) {
        self.bar.suspend(|| match self.args.format {
            Format::Text => print_to(std::io::stdout(), text),
            Format::Json => print_to(std::io::stderr(), text),
        });
    }

    /// Stores the plan of a failing seed and reports the failure. The report is a single line if
    /// [`REPORTS`] failures were reported before. It is also a single line if failures are shrunk,
    /// because each shrunk failure gets a full report at the end.
    fn report_failure(&self, ran: &Ran, nth: u64) {
        let kept = self.keep(ran);
        let (file, page) = kept.map_or((None, None), |kept| (Some(kept.file), kept.page));
        let seed = show_seed(ran.seed);
        self.failure_line(ran, file.clone());
        let text = if let Some(Repeat::Differs(step)) = ran.repeated {
            let difference = trace_diff::of_two_runs(&self.task.plan(ran.seed), self.task.planted);
            format!(
                "FAIL  seed {seed} is not deterministic: its two runs first differ at step {step}\n{difference}"
            )
        } else if nth > REPORTS || !self.args.no_shrink && nth > 0 {
            let code = ran.outcome.verdict.code().unwrap_or("pass");
            let replay = self.replay_line(ran, file.as_deref());
            format!("FAIL  {code}  seed {seed}: {replay}\n")
        } else {
            self.report(ran, file, page) + "\n"
        };
        self.print(&text);
    }

    /// Whether the seed alone determines the plan, as in the profile `default` without overrides
    /// and without a bug.
    fn is_plain(&self) -> bool {
        let as_drawn = self.task.overrides.as_options().is_empty() && self.args.bug.is_none();
        as_drawn && self.args.profile == Profile::Default
    }

    fn replay_line(&self, ran: &Ran, file: Option<&str>) -> String {
        let seed = show_seed(ran.seed);
        let bug = self
            .args
            .bug
            .map(|bug| format!(" --bug {}", bug.name()))
            .unwrap_or_default();
        let options = format!("{}{bug}", self.task.overrides.as_options());
        match (self.args.profile, file) {
            (Profile::Faultless, Some(file)) => format!("walsim replay {file}{bug}"),
            (Profile::Default, _) | (Profile::Faultless, None) => {
                format!("walsim replay {seed}{options}")
            }
        }
    }

    /// Stores the plan of a failure, and the report beside the plan, unless there are too many
    /// failures.
    fn keep(&self, ran: &Ran) -> Option<Kept> {
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= pages::KEPT && !kept.contains(&ran.seed) {
            return None;
        }
        kept.insert(ran.seed);
        let file = self.store(ran)?;
        let page = self.page(ran, &file);
        Some(Kept { file, page })
    }

    fn page(&self, ran: &Ran, file: &str) -> Option<String> {
        if ran.outcome.verdict == Verdict::Pass {
            return None;
        }
        let test = self.is_plain().then(|| test_line(ran.seed));
        let page = Page {
            plan: &self.task.plan(ran.seed),
            bug: self.args.bug,
            outcome: &ran.outcome,
            story: &self.story(ran),
            replay: &self.replay_line(ran, Some(file)),
            test: test.as_deref(),
            file: Some(file),
            origin: None,
            until: None,
        };
        let path = pages::beside(Path::new(file));
        match pages::write(&path, &page) {
            Ok(()) => Some(path.display().to_string()),
            Err(refusal) => {
                self.bar.suspend(|| refusal.print());
                None
            }
        }
    }

    fn report(&self, ran: &Ran, file: Option<String>, page: Option<String>) -> String {
        let story = self.story(ran);
        let report = Report {
            seed: ran.seed,
            outcome: &ran.outcome,
            story: &story,
            replay: self.replay_line(ran, file.as_deref()),
            test: self.is_plain().then(|| test_line(ran.seed)),
            file,
            page,
        };
        report.text(terminal::look())
    }

    /// Runs a failed seed again, and collects the events that led to the failure.
    fn story(&self, ran: &Ran) -> Story {
        let plan = self.task.plan(ran.seed);
        pool::simulate(|| story(&plan, self.task.planted, &ran.outcome))
    }

    fn store(&self, ran: &Ran) -> Option<String> {
        let mut plan = self.task.plan(ran.seed);
        if let Some(code) = ran.outcome.verdict.code() {
            plan.about = match &ran.outcome.verdict {
                Verdict::Violation(v) | Verdict::NoConvergence(v) | Verdict::Stuck(v) => {
                    format!("Violated {code}: {}", v.message)
                }
                Verdict::Pass | Verdict::Panic { .. } => format!("Failed with {code}"),
            };
        }
        let replay = match self.args.profile {
            Profile::Default => self.replay_line(ran, None),
            Profile::Faultless => String::new(),
        };
        let origin = Origin::unshrunk(&plan, ran.seed, replay, ran.outcome.audited);
        let scenario = Scenario {
            plan,
            expect: Expect::default(),
            origin: Some(origin),
        };
        let name = format!("{}.toml", seed_name(ran.seed, self.args.bug));
        match store(&self.args.out, &name, &scenario, ran.outcome.hash) {
            Ok(path) => Some(path),
            Err(refusal) => {
                self.bar.suspend(|| refusal.print());
                None
            }
        }
    }
}

/// The command that runs this seed of the profile `default` as a test.
fn test_line(seed: u64) -> String {
    format!(
        "WALSIM_SEED={} cargo test -p walsim-tests --test simulation",
        show_seed(seed)
    )
}

fn print_to(mut to: impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes());
}

fn summary_line(campaign: &Campaign, profile: Profile, cpu: Duration) -> json::FuzzSummary {
    json::FuzzSummary {
        kind: "summary",
        seeds: campaign.seeds,
        seed_range: [campaign.range.start, campaign.range.end].map(show_seed),
        failures: campaign.failures,
        steps: campaign.steps,
        sim_s: json::seconds(Duration::from_micros(campaign.sim_us)),
        cpu_s: json::seconds(cpu),
        steps_per_cpu_s: json::rate(campaign.steps, cpu),
        seeds_per_cpu_s: json::rate(campaign.seeds, cpu),
        commits: campaign.commits,
        double_checked: campaign.twice,
        nondeterministic: campaign.nondeterministic,
        marks: campaign
            .marks
            .iter()
            .map(|(mark, count)| (mark.name(), count))
            .collect(),
        missed_marks: campaign
            .missed(profile)
            .iter()
            .map(|mark| mark.name())
            .collect(),
        excuses: campaign
            .excuses
            .iter()
            .map(|(excuse, count)| (excuse.name(), count))
            .collect(),
        excessive_excuses: campaign
            .excessive(profile)
            .iter()
            .map(|excuse| excuse.name())
            .collect(),
        hash: format!("{:#018x}", campaign.hash()),
    }
}

fn summary(
    campaign: &Campaign,
    profile: Profile,
    jobs: usize,
    (cpu, wall): (Duration, Duration),
) -> String {
    let Range { start, end } = campaign.range;
    let verdict = match campaign.failures {
        0 => String::from("no invariant was violated"),
        n => format!("{n} FAILED"),
    };
    let mut lines = vec![
        format!(
            "{} ({start}..{end}) of profile {}: {verdict}",
            counted(campaign.seeds, "seed"),
            profile.name()
        ),
        format!(
            "  steps      {}{}",
            grouped(campaign.steps),
            rate(campaign.steps, cpu, "per CPU second")
        ),
        format!("  commits    {} acknowledged", grouped(campaign.commits)),
        format!("  faults     {} took effect", grouped(campaign.faults)),
        format!(
            "  simulated  {} s{}",
            grouped(campaign.sim_us / 1_000_000),
            rate(campaign.sim_us / 1_000_000, cpu, "times the CPU time")
        ),
        format!(
            "  took       {} s of CPU on {}, {} s of wall time",
            json::seconds(cpu),
            counted(jobs as u64, "thread"),
            json::seconds(wall)
        ),
        format!("  repeated   {}", repeated(campaign)),
    ];
    lines.push(format!(
        "  marks      {}",
        wrapped(&campaign.marks.to_string())
    ));
    let missed: Vec<_> = campaign
        .missed(profile)
        .iter()
        .map(|mark| mark.name())
        .collect();
    if !missed.is_empty() {
        lines.push(format!("  MISSED     {}", missed.join(", ")));
    }
    lines.push(format!(
        "  excuses    {}",
        wrapped(&campaign.excuses.to_string())
    ));
    let excessive = campaign.excessive(profile);
    if !excessive.is_empty() {
        let names: Vec<_> = excessive.iter().map(|excuse| excuse.name()).collect();
        lines.push(format!("  TOO OFTEN  {}", names.join(", ")));
    }
    lines.push(format!("  hash       {:#018x}", campaign.hash()));
    lines.join("\n") + "\n"
}

fn repeated(campaign: &Campaign) -> String {
    match (campaign.twice, campaign.nondeterministic) {
        (0, _) => String::from("no seed was run twice"),
        (twice, 0) => format!("{} took the same steps twice", counted(twice, "seed")),
        (twice, differ) => {
            format!("{differ} OF {twice} SEEDS TOOK DIFFERENT STEPS THE SECOND TIME")
        }
    }
}

/// Breaks a list into lines after commas. Each further line is indented to the start of the list.
fn wrapped(list: &str) -> String {
    let mut text = String::new();
    let mut column = 0;
    for item in list.split(", ") {
        if column + item.len() > 76 {
            text.push_str(",\n             ");
            column = 0;
        } else if column > 0 {
            text.push_str(", ");
        }
        text.push_str(item);
        column += item.len() + 2;
    }
    text
}

/// A rate in whole numbers, in parentheses. This is empty if the CPU time is too short for a
/// meaningful rate.
fn rate(count: u64, time: Duration, unit: &str) -> String {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if time < json::SHORT {
        return String::new();
    }
    format!(" ({} {unit})", grouped(count.saturating_mul(1000) / ms))
}

/// Formats a count with its noun: `1 seed`, `1,000 seeds`.
pub(super) fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(number))
}

/// Formats 1234567 as 1,234,567.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a run's simulated time.
pub(super) fn simulated(us: u64) -> String {
    show_us(us / 1000 * 1000)
}
