//! `walsim bugs`: what can be planted, and the hunt for it.

use super::fuzz::{OUT, store};
use super::refusal::Refusal;
use super::values::{SeedBase, base_value, bug_value, duration_value};
use super::{Format, Outcome, json, os, pool, say};
use std::path::PathBuf;
use std::time::Duration;
use walsim::bugs::{Found, bug_info, hunt};
use walsim::fuzz::Task;
use walsim::plan::{Expect, Overrides, Profile, Scenario, show_seed};
use walsim::report::Status;
use walsim::world::Verdict;
use walsim_core::base::{Bug, Planted};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Their names, and the invariants that each may violate
    List,
    /// Plant one after the other and look for it
    Hunt(HuntArgs),
}

#[derive(clap::Args)]
pub(super) struct HuntArgs {
    /// Names as `list` prints them [default: all]
    #[arg(value_name = "NAME", value_parser = bug_value)]
    names: Vec<Bug>,
    /// CPU time for each bug
    #[arg(long, value_name = "TIME", value_parser = duration_value, default_value = "60s")]
    budget: Duration,
    /// The first seed, or `random`
    #[arg(long, value_name = "SEED", value_parser = base_value, default_value = "0")]
    seed_base: SeedBase,
    /// How results are written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Where the plans that show a bug are stored
    #[arg(long, value_name = "DIR", default_value = OUT)]
    out: PathBuf,
}

pub(super) fn run(command: &Command) -> Outcome {
    match command {
        Command::List => {
            for bug in Bug::ALL {
                let info = bug_info(*bug);
                say!(
                    "{:30} {:36} {}",
                    bug.name(),
                    info.codes.join(" "),
                    info.about
                );
            }
            Ok(Status::Pass)
        }
        Command::Hunt(args) => hunt_all(args),
    }
}

fn hunt_all(args: &HuntArgs) -> Outcome {
    Refusal::unless_bugs_can_be_planted()?;
    let bugs = if args.names.is_empty() {
        Bug::ALL
    } else {
        &args.names
    };
    let base = args.seed_base.seed();
    let task = Task {
        profile: Profile::Default,
        overrides: Overrides::default(),
        planted: Planted::NONE,
        twice_percent: 0,
    };
    let mut times = Vec::new();
    let mut found = 0;
    for bug in bugs {
        let begun = os::cpu_time();
        let spent = || os::cpu_time().saturating_sub(begun);
        let (result, seeds) = pool::simulate(|| hunt(*bug, &task, base, || spent() < args.budget));
        let cpu = spent();
        times.push(cpu);
        found += usize::from(result.is_some());
        let file = match &result {
            Some(result) => Some(keep(args, *bug, result)?),
            None => None,
        };
        tell(args.format, *bug, result.as_ref(), seeds, cpu, file);
    }
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    match args.format {
        Format::Json => json::line(&json::HuntSummary {
            kind: "summary",
            bugs: bugs.len(),
            found,
            median_cpu_s: json::seconds(median),
            worst_cpu_s: json::seconds(worst),
            median_shrunk_steps: None,
        }),
        Format::Text => {
            let (median, worst) = (json::seconds(median), json::seconds(worst));
            let all = bugs.len();
            say!("found {found} of {all}; median {median} s of CPU, at worst {worst} s");
        }
    }
    Ok(if found == bugs.len() {
        Status::Pass
    } else {
        Status::Violation
    })
}

/// Stores the plan that shows a bug, with what is to be expected of it.
fn keep(args: &HuntArgs, bug: Bug, found: &Found) -> Result<String, Refusal> {
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
    };
    let name = format!("{}.toml", plan.name);
    store(&args.out, &name, &Scenario { plan, expect })
}

fn tell(
    format: Format,
    bug: Bug,
    found: Option<&Found>,
    seeds: u64,
    cpu: Duration,
    file: Option<String>,
) {
    let code = found.and_then(|found| found.outcome.verdict.code().map(String::from));
    let seed = found.map(|found| show_seed(found.seed));
    let cpu_s = json::seconds(cpu);
    match format {
        Format::Json => json::line(&json::Bug {
            kind: "bug",
            name: bug.name(),
            found: found.is_some(),
            invariant: code,
            seed,
            seeds,
            cpu_s,
            shrunk_steps: None,
            shrunk_faults: None,
            file,
        }),
        Format::Text => {
            let Some(found) = found else {
                say!("NOT FOUND  {}: {seeds} seeds, {cpu_s} s of CPU", bug.name());
                return;
            };
            let (code, seed) = (code.unwrap_or_default(), seed.unwrap_or_default());
            say!(
                "found      {}: {code} after {seeds} seeds, {cpu_s} s of CPU",
                bug.name()
            );
            if let Verdict::Violation(v) | Verdict::NoConvergence(v) = &found.outcome.verdict {
                say!("           {} at {}: {}", v.node, v.at, v.message);
            }
            say!("           walsim replay {seed} --bug {}", bug.name());
        }
    }
}
