//! `walsim bench`: measures CPU time and memory over fixed seeds. Each profile runs in a process of
//! its own.

use super::refusal::Refusal;
use super::values::profile_value;
use super::{Format, Outcome, json, os, pool, say};
use std::process::{Command, Stdio};
use std::time::Duration;
use walsim::bench::{Codec, SEEDS, Sample, Totals, grown};
use walsim::plan::{Profile, generate};
use walsim::report::Status;
use walsim::world::run as run_plan;
use walsim_core::base::Planted;

#[derive(clap::Args)]
pub(super) struct Args {
    /// How results are written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The profile that this child process measures
    #[arg(long, hide = true, value_parser = profile_value)]
    only: Option<Profile>,
}

pub(super) fn run(args: &Args) -> Outcome {
    if let Some(profile) = args.only {
        profile_alone(args.format, profile);
        return Ok(Status::Pass);
    }
    for profile in Profile::ALL {
        in_child(args.format, profile)?;
    }
    codecs(args.format);
    growth(args.format);
    Ok(Status::Pass)
}

/// Runs a profile in a child process, so that the memory of each profile is measured separately.
fn in_child(format: Format, profile: Profile) -> Result<(), Refusal> {
    let failed = |what: String| Refusal::new(format!("cannot measure {}: {what}", profile.name()));
    let program = std::env::current_exe().map_err(|e| failed(e.to_string()))?;
    let format = match format {
        Format::Text => "text",
        Format::Json => "json",
    };
    let status = Command::new(program)
        .args(["bench", "--only", profile.name(), "--format", format])
        .stdin(Stdio::null())
        .status()
        .map_err(|e| failed(e.to_string()))?;
    if status.success() {
        Ok(())
    } else {
        Err(failed(status.to_string()))
    }
}

/// A rate per second of CPU time. A bench takes seconds, so the divisor is never close to 0.
fn measured(count: u64, cpu: Duration) -> f64 {
    json::rate(count, cpu).unwrap_or_default()
}

fn profile_alone(format: Format, profile: Profile) {
    let begun = os::cpu_time();
    let mut totals = Totals::default();
    for seed in SEEDS {
        let outcome = pool::simulate(|| run_plan(&generate(profile, seed), Planted::NONE, false));
        totals.add(profile, &outcome);
    }
    let cpu = os::cpu_time().saturating_sub(begun);
    let line = json::Bench {
        kind: "bench",
        profile: profile.name(),
        steps_per_cpu_s: measured(totals.steps, cpu),
        seeds_per_cpu_s: measured(totals.counted, cpu),
        commits_per_cpu_s: measured(totals.commits, cpu),
        wal_bytes_per_run: json::per(totals.wal_bytes, totals.runs),
        faults_per_run: json::per(totals.faults, totals.runs),
        sim_to_cpu: measured(totals.sim_us / 1_000_000, cpu),
        max_rss_mib: json::per(os::max_rss_kib().unwrap_or(0), 1024),
        runs: totals.runs,
        counted: totals.counted,
        failures: totals.failures,
    };
    match format {
        Format::Json => json::line(&line),
        Format::Text => {
            say!(
                "profile {}: {} runs, of which {} count",
                line.profile,
                line.runs,
                line.counted
            );
            for (value, what) in [
                (line.steps_per_cpu_s, "steps per CPU second"),
                (line.seeds_per_cpu_s, "counted runs per CPU second"),
                (line.commits_per_cpu_s, "commits per CPU second"),
                (line.sim_to_cpu, "simulated seconds per CPU second"),
                (line.wal_bytes_per_run, "bytes of WAL per run"),
                (line.faults_per_run, "faults per run"),
                (line.max_rss_mib, "MiB of memory, maximum"),
            ] {
                say!("  {value:>12.1}  {what}");
            }
            if line.failures > 0 {
                say!("  {:>12}  runs FAILED", line.failures);
            }
        }
    }
}

/// How long to measure each codec.
const CODEC_TIME: Duration = Duration::from_millis(500);

fn codecs(format: Format) {
    let sample = Sample::default();
    for codec in Codec::ALL {
        let begun = os::cpu_time();
        let mut bytes = 0;
        let mut spent = Duration::ZERO;
        while spent < CODEC_TIME {
            bytes += (0..20).map(|_| sample.pass(codec)).sum::<usize>();
            spent = os::cpu_time().saturating_sub(begun);
        }
        let name = codec.name();
        let mb_per_cpu_s = measured(bytes as u64 / 1_000_000, spent);
        match format {
            Format::Json => json::line(&json::Codec {
                kind: "codec",
                name,
                mb_per_cpu_s,
            }),
            Format::Text => say!("codec {name}: {mb_per_cpu_s} MB per CPU second"),
        }
    }
}

/// The number of plans in one measurement of growth.
const GROWTH_SEEDS: u64 = 20;

fn growth(format: Format) {
    for (by, sizes) in [
        ("nodes", &[(3, 1), (6, 1), (12, 1)][..]),
        ("wal", &[(3, 1), (3, 10)]),
    ] {
        let mut first = None;
        for (nodes, times) in sizes {
            let begun = os::cpu_time();
            let mut steps = 0;
            for seed in 0..GROWTH_SEEDS {
                let plan = grown(seed, *nodes, *times);
                steps += pool::simulate(|| run_plan(&plan, Planted::NONE, false)).steps;
            }
            let cpu = os::cpu_time().saturating_sub(begun);
            let nanos = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
            let cost = nanos / steps.max(1);
            let base = *first.get_or_insert(cost);
            let factor = if by == "nodes" {
                *nodes as u64
            } else {
                u64::from(*times)
            };
            let (cpu_per_step, ratio) = (json::per(cost, 1000), json::per(cost, base));
            let line = json::Growth {
                kind: "growth",
                by,
                factor,
                cpu_per_step,
                ratio,
            };
            match format {
                Format::Json => json::line(&line),
                Format::Text => {
                    say!("growth in {by} to {factor}: {cpu_per_step} us per step, {ratio} times");
                }
            }
        }
    }
}
