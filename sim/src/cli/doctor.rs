//! `walsim doctor`: checks that this build is deterministic. Runs the same seeds several times: in
//! this process and in another process, with one worker and with several.

use super::refusal::Refusal;
use super::{Format, Outcome, json, pool, say};
use std::process::{Command, Stdio};
use walsim::fuzz::{Campaign, Task};
use walsim::plan::{Overrides, Profile};
use walsim::report::Status;
use walsim_core::base::Planted;

/// How many seeds are compared.
const SEEDS: u64 = 50;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(args: &Args) -> Outcome {
    let expected = in_process(1);
    let checks = [
        ("again in this process", in_process(1)),
        ("with two workers", in_process(2)),
        ("in another process", in_another_process()?),
    ];
    let mut status = Status::Pass;
    for (name, hash) in checks {
        let ok = hash == expected;
        if !ok {
            status = Status::Nondeterminism;
        }
        match args.format {
            Format::Json => {
                let (hash, expected) = (hash, expected.clone());
                json::line(&json::Check {
                    kind: "check",
                    name,
                    ok,
                    hash,
                    expected,
                });
            }
            Format::Text if ok => say!("same       {SEEDS} seeds {name}"),
            Format::Text => say!("DIFFERENT  {SEEDS} seeds {name}: {hash}, not {expected}"),
        }
    }
    if args.format == Format::Text {
        say!("hash       {expected}");
    }
    Ok(status)
}

fn in_process(jobs: usize) -> String {
    let task = Task {
        profile: Profile::Default,
        overrides: Overrides::default(),
        planted: Planted::NONE,
        twice_percent: 0,
    };
    let mut campaign = Campaign::new(0);
    let take = |ran| {
        campaign.add(ran);
    };
    pool::each_seed((0, SEEDS), jobs, || true, |seed| task.run(seed), take);
    format!("{:#018x}", campaign.hash())
}

/// Starts this program again and returns the hash that it prints.
fn in_another_process() -> Result<String, Refusal> {
    let failed = |what: String| Refusal::new(format!("cannot start another process: {what}"));
    let program = std::env::current_exe().map_err(|e| failed(e.to_string()))?;
    let count = SEEDS.to_string();
    let output = Command::new(program)
        .args([
            "fuzz",
            "--count",
            &count,
            "--check-determinism",
            "0",
            "--format",
            "json",
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|e| failed(e.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    let summary: serde_json::Value =
        serde_json::from_str(last).map_err(|e| failed(e.to_string()))?;
    let hash = summary["hash"].as_str();
    hash.map(String::from)
        .ok_or_else(|| failed(String::from("it printed no hash")))
}
