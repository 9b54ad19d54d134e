//! Runs whole simulations as tests. Each run is audited: the checks also look at everything again,
//! and not only at changes. There is one test for each seed of a fixed set, and one for each
//! scenario.
//!
//! `WALSIM_SEED=0x1f` runs only that seed. `WALSIM_SEEDS=100..200` runs only those seeds.

use libtest_mimic::{Arguments, Failed, Trial};
use std::path::{Path, PathBuf};
use walsim::bugs::awaited_check;
use walsim::plan::{Plan, Profile, Scenario, generate, seed, show_seed};
use walsim::report::Report;
use walsim::story::story;
use walsim::world::{Outcome, Verdict, run};
use walsim_core::base::{Bug, Planted};

/// The seeds of `cargo test`. They are enough to find most errors, and few enough to run quickly.
const SEEDS: std::ops::Range<u64> = 0..24;
const FAULTLESS_SEEDS: std::ops::Range<u64> = 0..8;

fn main() {
    // The verdict of a run contains the message of its panic, so the hook prints nothing.
    std::panic::set_hook(Box::new(|_| {}));
    let args = Arguments::from_args();
    let mut trials = match asked() {
        Some(seeds) => seeds.map(|seed| of_seed(Profile::Default, seed)).collect(),
        None => {
            let default = SEEDS.map(|seed| of_seed(Profile::Default, seed));
            let faultless = FAULTLESS_SEEDS.map(|seed| of_seed(Profile::Faultless, seed));
            default.chain(faultless).collect::<Vec<_>>()
        }
    };
    trials.extend(scenarios().into_iter().map(of_scenario));
    trials.push(Trial::test("every_bug_has_a_play", every_bug_has_a_play));
    libtest_mimic::run(&args, trials).exit();
}

/// The seeds that the environment variables select.
#[expect(
    clippy::disallowed_methods,
    reason = "only selects the seeds that are tested"
)]
fn asked() -> Option<std::ops::Range<u64>> {
    let read = |text: &str| seed(text).unwrap_or_else(|e| panic!("{e}: {}", e.help));
    if let Ok(text) = std::env::var("WALSIM_SEED") {
        let seed = read(&text);
        return Some(seed..seed + 1);
    }
    let text = std::env::var("WALSIM_SEEDS").ok()?;
    let (from, to) = text.split_once("..").expect("WALSIM_SEEDS is A..B");
    Some(read(from)..read(to))
}

fn of_seed(profile: Profile, seed: u64) -> Trial {
    let shown = show_seed(seed);
    Trial::test(format!("{}::{shown}", profile.name()), move || {
        let plan = generate(profile, seed);
        let outcome = run(&plan, Planted::NONE, true);
        let name = profile.name();
        let replay = match profile {
            Profile::Default => format!("walsim replay {shown} --trace"),
            Profile::Faultless => {
                format!("walsim fuzz --profile faultless --seed-base {shown} --count 1")
            }
        };
        let test = format!("cargo test -p walsim-tests --test simulation {name}::{shown}");
        passes(&plan, &outcome, replay, test)
    })
}

fn of_scenario((name, path): (String, PathBuf)) -> Trial {
    Trial::test(format!("scenario::{name}"), move || {
        let text = std::fs::read_to_string(&path)?;
        let scenario = Scenario::parse(&text, &name)?;
        // Writing a scenario and reading it back must not change it.
        if Scenario::parse(&scenario.to_toml(), "other")? != scenario {
            return Err("the written file does not read back as the same plan".into());
        }
        let Scenario { plan, expect, .. } = scenario;
        let outcome = run(&plan, Planted::NONE, true);
        let replay = format!("walsim replay {} --trace", path.display());
        let test = format!("cargo test -p walsim-tests --test simulation {name}");
        if !expect.is_violation() {
            passes(&plan, &outcome, replay, test)?;
        }
        if let Some(missed) = expect.missed(&outcome) {
            return Err(missed.into());
        }
        match expect.bug {
            Some(bug) if Planted::AVAILABLE => violates(&plan, bug, &expect.invariants),
            Some(_) | None => Ok(()),
        }
    })
}

fn passes(plan: &Plan, outcome: &Outcome, replay: String, test: String) -> Result<(), Failed> {
    if outcome.verdict == Verdict::Pass {
        return Ok(());
    }
    let (test, file) = (Some(test), None);
    let story = story(plan, Planted::NONE, outcome);
    Err(Report {
        page: None,
        seed: plan.seed,
        outcome,
        story: &story,
        replay,
        test,
        file,
    }
    .to_string()
    .into())
}

fn violates(plan: &Plan, bug: Bug, invariants: &[&str]) -> Result<(), Failed> {
    let outcome = run(plan, Planted::NONE.with(bug), true);
    let code = outcome.verdict.code().unwrap_or("nothing");
    if invariants.contains(&code) {
        return Ok(());
    }
    let wanted = invariants.join(" or ");
    Err(format!(
        "with {} planted {code} is violated, not {wanted}",
        bug.name()
    )
    .into())
}

/// All plan files under `scenarios`, with their names as in `walsim scenarios`.
fn scenarios() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "toml") {
                let name = path.with_extension("");
                let name = name.strip_prefix(&root).expect("found below it");
                found.push((name.to_string_lossy().into_owned(), path));
            }
        }
    }
    found.sort();
    found
}

/// Every bug needs a scenario, because a campaign would find some bugs only by chance. A bug whose
/// check does not exist yet needs no scenario.
fn every_bug_has_a_play() -> Result<(), Failed> {
    let mut shown = Vec::new();
    for (name, path) in scenarios() {
        let scenario = Scenario::parse(&std::fs::read_to_string(&path)?, &name)?;
        shown.extend(scenario.expect.bug);
    }
    let mut missing = Bug::ALL
        .iter()
        .filter(|bug| !shown.contains(bug) && awaited_check(**bug).is_none());
    missing.next().map_or(Ok(()), |bug| {
        Err(format!("no scenario shows {}", bug.name()).into())
    })
}
