//! `walsim bugs`: lists the bugs that can be planted, and hunts for them.

use super::fuzz::OUT;
use super::output::{store, try_dir, try_file};
use super::refusal::Refusal;
use super::replay::workable;
use super::shrink::{Small, make_small};
use super::values::{SeedBase, base_value, budget_value, bug_value, duration_value, overrides};
use super::{Format, Outcome, json, os, pages, pool, say};
use std::path::{Path, PathBuf};
use std::time::Duration;
use walsim::bugs::{Found, Hunted, Skipped, bug_info, hunt, skipped, versions_of};
use walsim::fuzz::Task;
use walsim::html::Page;
use walsim::plan::{Expect, Origin, Profile, Scenario, show_seed};
use walsim::report::Status;
use walsim::story::story;
use walsim::world::Verdict;
use walsim_core::base::{Bug, PgVersion, Planted};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// List the bugs, and the invariants that each may violate
    List,
    /// Plant one bug after another, and search for a seed that shows it
    Hunt(HuntArgs),
}

#[derive(clap::Args)]
pub(super) struct HuntArgs {
    /// Names of bugs, see `walsim bugs list` [default: all]
    #[arg(value_name = "NAME", value_parser = bug_value)]
    names: Vec<Bug>,
    /// Override a setting of every plan, such as pg_version=19. A hunt for all bugs skips those
    /// that the version does not have
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// CPU time to spend on each bug
    #[arg(long, value_name = "TIME", value_parser = budget_value, default_value = "60s")]
    budget: Duration,
    /// The first seed, or `random`
    #[arg(long, value_name = "SEED", value_parser = base_value, default_value = "0")]
    seed_base: SeedBase,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Directory for the plans that show a bug
    #[arg(long, value_name = "DIR", default_value = OUT)]
    out: PathBuf,
    /// Number of hunts for each bug, from seeds a million apart. A bug counts as found if every
    /// hunt finds it; times are medians
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    repeat: u16,
    /// CPU time for shrinking the first plan of each bug; 0s does not shrink it
    #[arg(long, value_name = "TIME", value_parser = duration_value, default_value = "20s")]
    shrink_budget: Duration,
    /// Write a table of the results to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

pub(super) fn run(command: &Command) -> Outcome {
    match command {
        Command::List => {
            let wide = |text: fn(Bug) -> String| Bug::ALL.iter().map(|bug| text(*bug).len()).max();
            let names = wide(|bug| bug.name().into()).unwrap_or(0);
            let codes_wide = wide(|bug| bug_info(bug).codes.join(" ")).unwrap_or(0);
            for bug in Bug::ALL {
                let info = bug_info(*bug);
                let codes = info.codes.join(" ");
                let (name, about) = (bug.name(), info.about);
                say!(
                    "{name:names$}  {codes:codes_wide$}  {about}{}",
                    versions(*bug)
                );
            }
            Ok(Status::Pass)
        }
        Command::Hunt(args) => hunt_all(args),
    }
}

/// The versions that have the bug, in parentheses. This is empty if all versions have the bug.
fn versions(bug: Bug) -> String {
    let versions = versions_of(bug);
    if PgVersion::ALL
        .iter()
        .all(|version| versions.contains(*version))
    {
        return String::new();
    }
    format!(" (version {versions})")
}

fn hunt_all(args: &HuntArgs) -> Outcome {
    Refusal::unless_bugs_can_be_planted()?;
    let task = Task {
        profile: Profile::Default,
        overrides: overrides(&args.sets)?,
        planted: Planted::NONE,
        twice_percent: 0,
    };
    unless_named_in_vain(args, &task)?;
    let base = args.seed_base.seed();
    // The overrides are the same for all plans, so the first plan shows whether they are valid.
    workable(task.plan(base))?;
    try_dir(&args.out)?;
    args.markdown.as_deref().map_or(Ok(()), try_file)?;
    let bugs = if args.names.is_empty() {
        Bug::ALL
    } else {
        &args.names
    };
    let mut all = Vec::new();
    let mut awaiting = 0;
    for bug in bugs {
        let reason = skipped(*bug, task.overrides.version());
        if let Some(reason) = reason.filter(|_| args.names.is_empty()) {
            awaiting += usize::from(matches!(reason, Skipped::AwaitsCheck(_)));
            print_skipped(args.format, *bug, reason);
            continue;
        }
        let caught = Caught::hunt(args, &task, *bug, base)?;
        match args.format {
            Format::Json => json::line(&caught.line()),
            Format::Text => caught.print(&task.overrides.as_options()),
        }
        all.push(caught);
    }
    let hunted = all.len();
    let found = all.iter().filter(|caught| caught.every_time()).count();
    let times = || all.iter().map(Caught::cpu);
    let (median, worst) = (median(times()), times().max());
    let (median, worst) = (median.unwrap_or_default(), worst.unwrap_or_default());
    let steps = self::median(all.iter().filter_map(Caught::steps));
    match args.format {
        Format::Json => json::line(&json::HuntSummary {
            kind: "summary",
            bugs: hunted,
            found,
            awaiting,
            median_cpu_s: json::seconds(median),
            worst_cpu_s: json::seconds(worst),
            median_shrunk_steps: steps,
        }),
        Format::Text => {
            let (median, worst) = (json::seconds(median), json::seconds(worst));
            let rows = steps.map_or(String::new(), |n| format!("; median {n} rows left"));
            say!("found {found} of {hunted}; median {median} s of CPU, maximum {worst} s{rows}");
        }
    }
    if let Some(path) = &args.markdown {
        let text = markdown(args, &task, base, &all);
        std::fs::write(path, text).map_err(|e| Refusal::of_io(path, "write", &e))?;
    }
    Ok(if found == hunted {
        Status::Pass
    } else {
        Status::Violation
    })
}

fn print_skipped(format: Format, bug: Bug, reason: Skipped) {
    match format {
        Format::Json => json::line(&json::SkippedBug {
            kind: "skipped",
            name: bug.name(),
            reason: reason.to_string(),
        }),
        Format::Text => say!("skipped    {}: {reason}", bug.name()),
    }
}

/// Returns an error if the user named a bug that the chosen version cannot have.
fn unless_named_in_vain(args: &HuntArgs, task: &Task) -> Result<(), Refusal> {
    let Some(version) = task.overrides.version() else {
        return Ok(());
    };
    let lacking = |bug: &&Bug| !versions_of(**bug).contains(version);
    let Some(bug) = args.names.iter().find(lacking) else {
        return Ok(());
    };
    let (name, versions, major) = (bug.name(), versions_of(*bug), version.major());
    let message = format!("{name} exists only in version {versions}, not in {major}");
    Err(Refusal::new(message).help("omit the name or set another pg_version"))
}

/// The median. If the number of values is even, this is the lower of the two middle values.
fn median<T: Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.collect();
    values.sort();
    let middle = values.len().saturating_sub(1) / 2;
    (!values.is_empty()).then(|| values.swap_remove(middle))
}

/// All hunts for one bug.
struct Caught {
    bug: Bug,
    hunts: Vec<Hunt>,
    /// The shrunk plan of the first hunt that found the bug. If shrinking failed, `file` is the
    /// path of the original plan.
    small: Option<Small>,
    file: Option<String>,
}

struct Hunt {
    hunted: Hunted,
    cpu: Duration,
}

impl Caught {
    fn hunt(args: &HuntArgs, task: &Task, bug: Bug, base: u64) -> Result<Self, Refusal> {
        let hunt_from = |base| {
            let begun = os::cpu_time();
            let spent = || os::cpu_time().saturating_sub(begun);
            Hunt {
                hunted: pool::simulate(|| hunt(bug, task, base, || spent() < args.budget)),
                cpu: spent(),
            }
        };
        let bases = (0..u64::from(args.repeat)).map(|n| base.wrapping_add(n * APART));
        let hunts: Vec<Hunt> = bases.map(hunt_from).collect();
        let mut caught = Self {
            bug,
            hunts,
            small: None,
            file: None,
        };
        caught.keep(args)?;
        Ok(caught)
    }

    fn keep(&mut self, args: &HuntArgs) -> Result<(), Refusal> {
        let Some(found) = self.found() else {
            return Ok(());
        };
        let name = format!("{}-{}.toml", self.bug.name(), show_seed(found.seed));
        if args.shrink_budget.is_zero() {
            self.file = Some(keep_as_it_is(args, self.bug, found, &name)?);
        } else {
            let (bug, path) = (Some(self.bug), args.out.join(&name));
            let seed = show_seed(found.seed);
            let replay = format!("walsim replay {seed} --bug {}", self.bug.name());
            self.small = make_small(&found.plan, bug, args.shrink_budget, &path, &replay)?;
            self.file = self.small.as_ref().map(|small| small.file.clone());
        }
        Ok(())
    }

    fn every_time(&self) -> bool {
        self.times() == self.hunts.len()
    }

    /// How many hunts found the bug.
    fn times(&self) -> usize {
        let found = |hunt: &&Hunt| hunt.hunted.found.is_some();
        self.hunts.iter().filter(found).count()
    }

    /// The first hunt that found the bug.
    fn found(&self) -> Option<&Found> {
        let mut hunts = self.hunts.iter();
        hunts.find_map(|hunt| hunt.hunted.found.as_ref())
    }

    fn code(&self) -> Option<&str> {
        self.found()?.outcome.verdict.code()
    }

    fn cpu(&self) -> Duration {
        median(self.hunts.iter().map(|hunt| hunt.cpu)).unwrap_or_default()
    }

    fn seeds(&self) -> u64 {
        median(self.hunts.iter().map(|hunt| hunt.hunted.seeds)).unwrap_or_default()
    }

    /// The number of seeds that reached the code in which the bug is planted, and the number of all
    /// seeds. Both include all hunts.
    fn reached(&self) -> (u64, u64) {
        (
            self.sum(|hunted| hunted.reached),
            self.sum(|hunted| hunted.seeds),
        )
    }

    fn sum(&self, what: fn(&Hunted) -> u64) -> u64 {
        self.hunts.iter().map(|hunt| what(&hunt.hunted)).sum()
    }

    fn steps(&self) -> Option<usize> {
        self.small.as_ref().map(|small| small.size.steps)
    }

    fn line(&self) -> json::Bug {
        json::Bug {
            kind: "bug",
            name: self.bug.name(),
            found: self.every_time(),
            invariant: self.code().map(String::from),
            seed: self.found().map(|found| show_seed(found.seed)),
            seeds: self.seeds(),
            reached: self.reached().0,
            assertions: self.sum(|hunted| hunted.assertions),
            long_runs: self.sum(|hunted| hunted.long_runs),
            cpu_s: json::seconds(self.cpu()),
            shrunk_steps: self.steps(),
            shrunk_faults: self.small.as_ref().map(|small| small.size.faults),
            file: self.file.clone(),
        }
    }

    fn print(&self, sets: &str) {
        let (name, seeds, cpu_s) = (self.bug.name(), self.seeds(), json::seconds(self.cpu()));
        if !self.every_time() {
            let (times, of) = (self.times(), self.hunts.len());
            let (reached, seeds) = self.reached();
            say!(
                "NOT FOUND  {name}: found by {times} of {of} hunts, reached in {reached} of {seeds} seeds, {cpu_s} s of CPU"
            );
        }
        let assertions = self.sum(|hunted| hunted.assertions);
        let long_runs = self.sum(|hunted| hunted.long_runs);
        if assertions > 0 || long_runs > 0 {
            say!(
                "           {assertions} seeds ended in a failed assertion, {long_runs} took too many steps"
            );
        }
        let Some(found) = self.found() else { return };
        let code = self.code().unwrap_or_default();
        if self.every_time() {
            say!("found      {name}: {code} after {seeds} seeds, {cpu_s} s of CPU");
        }
        let outcome = match &self.small {
            Some(small) => &small.shrunk.outcome,
            None => &found.outcome,
        };
        if let Verdict::Violation(v) | Verdict::NoConvergence(v) | Verdict::Stuck(v) =
            &outcome.verdict
        {
            say!("           {} at {}: {}", v.node, v.at, v.message);
        }
        let seed = show_seed(found.seed);
        say!("           walsim replay {seed}{sets} --bug {name}");
        if let Some(small) = &self.small {
            let (file, words, tries) = (&small.file, small.in_words(), small.shrunk.tries);
            say!("           walsim replay {file} --bug {name}");
            say!("           {words}, after {tries} tries");
        }
    }
}

/// `--repeat` runs several hunts. The first seeds of two successive hunts differ by this number.
const APART: u64 = 1_000_000;

/// Stores the plan that shows a bug, with an `[expect]` table.
fn keep_as_it_is(args: &HuntArgs, bug: Bug, found: &Found, name: &str) -> Result<String, Refusal> {
    let mut plan = found.plan.clone();
    let code = found.outcome.verdict.code().unwrap_or_default();
    plan.name = format!("{}-{}", bug.name(), show_seed(found.seed));
    plan.about = format!("With {} planted {code} is violated.", bug.name());
    let invariants = bug_info(bug)
        .codes
        .iter()
        .copied()
        .filter(|known| *known == code)
        .collect();
    let expect = Expect {
        bug: Some(bug),
        invariants,
        marks: Vec::new(),
        excuses: Vec::new(),
    };
    let (seed, planted) = (show_seed(found.seed), bug.name());
    let replay = format!("walsim replay {seed} --bug {planted}");
    let origin = Origin::unshrunk(&plan, found.seed, replay, found.outcome.audited);
    let scenario = Scenario {
        plan,
        expect,
        origin: Some(origin),
    };
    let file = store(&args.out, name, &scenario, found.outcome.hash)?;
    let (plan, outcome) = (&scenario.plan, &found.outcome);
    let told = pool::simulate(|| story(plan, Planted::NONE.with(bug), outcome));
    let page = Page {
        plan,
        bug: Some(bug),
        outcome,
        story: &told,
        replay: &format!("walsim replay {file} --bug {}", bug.name()),
        test: None,
        file: Some(&file),
        origin: scenario.origin.as_ref(),
        until: None,
    };
    pages::write(&pages::beside(Path::new(&file)), &page)?;
    Ok(file)
}

/// The table of results, after a paragraph that says how the results were measured.
fn markdown(args: &HuntArgs, task: &Task, base: u64, all: &[Caught]) -> String {
    let sets = task.overrides.as_options();
    let found = all.iter().filter(|caught| caught.every_time()).count();
    let (times, base) = (args.repeat, show_seed(base));
    let hunts = match times {
        1 => format!("The hunt started at seed {base}"),
        n => {
            format!(
                "The first of {n} hunts started at seed {base}, and each later hunt started one million seeds after the previous hunt. A\n\
                 bug counts as found only if all hunts found it"
            )
        }
    };
    let mut text = format!(
        "# Planted bugs\n\n\
         `walsim bugs hunt --repeat {times}{sets}` of walsim {} made this table. Each bug was planted alone.\n\
         {hunts}.\n\n\
         The columns `seeds` and `CPU s` say how many seeds and how much CPU time on one core a hunt needed to find the bug\n\
         (medians of all hunts). The column `rows` says how many rows of workload, faults and actions the shrunk plan has.\n\
         The number in parentheses counts only the faults.\n\n\
         Found {found} of {}.\n\n\
         | bug | what goes wrong | invariant | seeds | CPU s | rows |\n\
         | --- | --- | --- | ---: | ---: | ---: |\n",
        env!("CARGO_PKG_VERSION"),
        all.len(),
    );
    for caught in all {
        let info = bug_info(caught.bug);
        let code = match caught.code() {
            Some(code) if caught.every_time() => code,
            Some(_) | None => "not found",
        };
        let rows = caught.small.as_ref().map_or_else(
            || String::from("–"),
            |small| format!("{} ({})", small.size.steps, small.size.faults),
        );
        text += &format!(
            "| `{}` | {} | {code} | {} | {:.2} | {rows} |\n",
            caught.bug.name(),
            info.about,
            caught.seeds(),
            caught.cpu().as_secs_f64(),
        );
    }
    text
}
