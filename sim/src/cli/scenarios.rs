//! `walsim scenarios`: lists and runs the scenarios in scenarios/. Each scenario tests one
//! behavior.

use super::refusal::Refusal;
use super::replay::read;
use super::{Outcome, pool, say, terminal};
use std::path::{Path, PathBuf};
use walsim::plan::{Expect, Plan, Scenario, known_names};
use walsim::report::{Report, Status};
use walsim::story::story;
use walsim::world::run as run_plan;
use walsim_core::base::Planted;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// List the scenarios and what each protects
    List,
    /// Run all scenarios or the named ones
    Run {
        /// Names of scenarios, see `walsim scenarios list`, or paths of plan files [default: all]
        #[arg(value_name = "NAME|FILE")]
        names: Vec<String>,
    },
}

pub(super) fn run(command: &Command) -> Outcome {
    let files = files()?;
    match command {
        Command::List => list(&files),
        Command::Run { names } => {
            let mut status = Status::Pass;
            for (name, path) in chosen(&files, names)? {
                status = status.max(play(name, path)?);
            }
            Ok(status)
        }
    }
}

/// The folder of the scenarios. If the current directory has such a folder, this is that folder.
/// Otherwise it is the folder in the source tree of this build.
fn root() -> PathBuf {
    let here = PathBuf::from("scenarios");
    if here.is_dir() {
        return here;
    }
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

/// The names and paths of all scenarios, sorted by name. A scenario in a subfolder has the name
/// `folder/name`.
fn files() -> Result<Vec<(String, PathBuf)>, Refusal> {
    let mut found = Vec::new();
    let mut folders = vec![(String::new(), root())];
    while let Some((prefix, folder)) = folders.pop() {
        let entries = std::fs::read_dir(&folder);
        for entry in entries.map_err(|e| Refusal::of_io(&folder, "read", &e))? {
            let path = entry
                .map_err(|e| Refusal::of_io(&folder, "read", &e))?
                .path();
            let name = path.file_stem().map(|n| n.to_string_lossy().into_owned());
            let name = format!("{prefix}{}", name.unwrap_or_default());
            if path.is_dir() {
                folders.push((format!("{name}/"), path));
            } else if path.extension().is_some_and(|ext| ext == "toml") {
                found.push((name, path));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn chosen<'a>(
    files: &'a [(String, PathBuf)],
    names: &'a [String],
) -> Result<Vec<(&'a str, &'a Path)>, Refusal> {
    let all = files
        .iter()
        .map(|(name, path)| (name.as_str(), path.as_path()));
    if names.is_empty() {
        return Ok(all.collect());
    }
    let find = |name: &'a String| {
        let path = Path::new(name);
        let file = path.is_file().then_some((name.as_str(), path));
        let known = all.clone().find(|(known, _)| known == name);
        known.or(file).ok_or_else(|| {
            let known: Vec<_> = all.clone().map(|(name, _)| name).collect();
            Refusal::new(format!("there is no scenario `{name}`")).help(known_names(name, &known))
        })
    };
    names.iter().map(find).collect()
}

fn list(files: &[(String, PathBuf)]) -> Outcome {
    let wide = files.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, path) in files {
        let scenario = read(path)?;
        say!("{name:wide$}  {}", scenario.plan.about);
    }
    Ok(Status::Pass)
}

fn play(name: &str, path: &Path) -> Outcome {
    let Scenario { plan, expect, .. } = read(path)?;
    let outcome = pool::simulate(|| run_plan(&plan, Planted::NONE, true));
    let status = Status::from(&outcome.verdict);
    if status != Status::Pass && !expect.is_violation() {
        let replay = format!("walsim replay {} --trace", path.display());
        let test = Some(format!(
            "cargo test -p walsim-tests --test simulation {name}"
        ));
        let told = pool::simulate(|| story(&plan, Planted::NONE, &outcome));
        let report = Report {
            page: None,
            seed: plan.seed,
            outcome: &outcome,
            story: &told,
            replay,
            test,
            file: None,
        };
        say!("{}", report.text(terminal::look()));
        return Ok(status);
    }
    let (said, status) = judged(&plan, &expect, &outcome);
    let word = if status == Status::Pass {
        "PASS"
    } else {
        "FAIL"
    };
    say!("{word}  {name}: {} steps{said}", outcome.steps);
    Ok(status)
}

/// Checks that the run without the planted bug met the expectation of its file, and that the run
/// with the bug fails as expected. Returns text for the end of the output line, and the status.
pub(super) fn judged(
    plan: &Plan,
    expect: &Expect,
    outcome: &walsim::world::Outcome,
) -> (String, Status) {
    if let Some(missed) = expect.missed(outcome) {
        return (format!("; {missed}"), Status::MarkMissed);
    }
    if expect.is_violation() {
        let code = outcome.verdict.code().unwrap_or("nothing");
        return (format!("; {code} violated, as expected"), Status::Pass);
    }
    planted(plan, expect)
}

/// Runs the scenario with its planted bug. The run must violate one of the expected invariants.
fn planted(plan: &Plan, expect: &Expect) -> (String, Status) {
    let Some(bug) = expect.bug else {
        return (String::new(), Status::Pass);
    };
    let name = bug.name();
    if !Planted::AVAILABLE {
        return (
            format!("; {name} cannot be planted in this build"),
            Status::Pass,
        );
    }
    let outcome = pool::simulate(|| run_plan(plan, Planted::NONE.with(bug), true));
    let wanted = expect.invariants.join(" or ");
    match outcome.verdict.code() {
        Some(code) if expect.invariants.contains(&code) => {
            (format!("; {code} violated with {name}"), Status::Pass)
        }
        Some(code) => (
            format!("; with {name} {code}, not {wanted}"),
            Status::Violation,
        ),
        None => (
            format!("; with {name} {wanted} is not violated"),
            Status::Violation,
        ),
    }
}
