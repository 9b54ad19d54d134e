//! Machine-readable output, with one JSON object per line. Other tools read the objects, so the
//! names of the fields never change.

use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;
use walsim::referee::Fact;
use walsim::story::{Absence, Line, Story, Waiting};
use walsim::world::Verdict;
use walsim_core::base::Mono;

/// Prints one line to stdout. A closed pipe (`| head`) is not an error.
pub(super) fn line(value: &impl Serialize) {
    let _ = writeln!(std::io::stdout(), "{}", text(value));
}

/// An object of this module as JSON.
pub(super) fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our own structs are JSON")
}

/// The shortest CPU time for which a rate is computed. CPU time is measured in hundredths of a
/// second, so the rate for a shorter time would be meaningless.
pub(super) const SHORT: Duration = Duration::from_millis(100);

/// `a / b`, rounded. This is null if `b` is shorter than [`SHORT`].
#[expect(clippy::float_arithmetic, reason = "rates are only displayed")]
pub(super) fn rate(count: u64, per: Duration) -> Option<f64> {
    (per >= SHORT).then(|| rounded(as_float(count) / per.as_secs_f64()))
}

/// Seconds with two decimals.
pub(super) fn seconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64())
}

/// `count / of`, rounded. 0 if `of` is 0.
#[expect(clippy::float_arithmetic, reason = "averages are only displayed")]
pub(super) fn per(count: u64, of: u64) -> f64 {
    if of == 0 {
        0.0
    } else {
        rounded(as_float(count) / as_float(of))
    }
}

#[expect(clippy::float_arithmetic, reason = "numbers are only displayed")]
pub(super) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a campaign are far below 2^53"
)]
pub(super) const fn as_float(count: u64) -> f64 {
    count as f64
}

#[derive(Serialize)]
pub(super) struct Failure {
    pub(super) kind: &'static str,
    pub(super) seed: String,
    pub(super) invariant: String,
    #[serde(flatten)]
    pub(super) found: Found,
    pub(super) file: Option<String>,
}

/// What was found, where and when. After a panic `message` is its text, and there are no facts.
#[derive(Serialize)]
pub(super) struct Found {
    /// Empty if the failure does not belong to a node.
    pub(super) node: String,
    /// The process whose step violated the invariant. This is null if no process ran.
    pub(super) process: Option<String>,
    pub(super) at_s: f64,
    pub(super) message: String,
    pub(super) facts: Vec<Fact>,
    /// The events that led to the failure.
    pub(super) story: Vec<Line>,
    /// The expected events that are missing.
    pub(super) absent: Vec<Absence>,
    /// What processes wait for, if the cluster did not converge or simulated time did not advance.
    pub(super) waits: Vec<Waiting>,
}

impl Found {
    /// Returns `None` if the run passed.
    pub(super) fn of(verdict: &Verdict, told: Story) -> Option<Self> {
        let (story, absent, waits) = (told.lines, told.absent, told.waits);
        let seconds_at = |at: Mono| seconds(Duration::from_micros(at.0));
        match verdict {
            Verdict::Pass => None,
            Verdict::Violation(found) | Verdict::NoConvergence(found) | Verdict::Stuck(found) => {
                Some(Self {
                    node: found.node.clone(),
                    process: found.process.map(|process| process.to_string()),
                    at_s: seconds_at(found.at),
                    message: found.message.clone(),
                    facts: found.facts.clone(),
                    story,
                    absent,
                    waits,
                })
            }
            Verdict::Panic {
                message, node, at, ..
            } => Some(Self {
                node: node.clone(),
                process: None,
                at_s: seconds_at(*at),
                message: message.clone(),
                facts: Vec::new(),
                story,
                absent,
                waits,
            }),
        }
    }
}

#[derive(Serialize)]
pub(super) struct FuzzSummary {
    pub(super) kind: &'static str,
    pub(super) seeds: u64,
    pub(super) seed_range: [String; 2],
    pub(super) failures: u64,
    pub(super) steps: u64,
    pub(super) sim_s: f64,
    pub(super) cpu_s: f64,
    pub(super) steps_per_cpu_s: Option<f64>,
    pub(super) seeds_per_cpu_s: Option<f64>,
    pub(super) commits: u64,
    pub(super) double_checked: u64,
    pub(super) nondeterministic: u64,
    pub(super) marks: BTreeMap<&'static str, u64>,
    pub(super) missed_marks: Vec<&'static str>,
    pub(super) excuses: BTreeMap<&'static str, u64>,
    pub(super) excessive_excuses: Vec<&'static str>,
    pub(super) hash: String,
}

#[derive(Serialize)]
pub(super) struct Shrink {
    pub(super) kind: &'static str,
    /// Either the seed or the path of the plan is present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) plan: Option<String>,
    /// Null if the plan does not fail. The numbers in the other fields are then 0.
    pub(super) invariant: Option<String>,
    pub(super) tries: u64,
    pub(super) cpu_s: f64,
    pub(super) steps_before: usize,
    pub(super) steps_after: usize,
    pub(super) faults_after: usize,
    pub(super) file: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Run {
    pub(super) kind: &'static str,
    pub(super) seed: String,
    pub(super) verdict: &'static str,
    pub(super) invariant: Option<String>,
    pub(super) steps: u64,
    pub(super) sim_s: f64,
    pub(super) hash: String,
    /// The number of faults in the plan. `faults_struck` says how many of them took effect, and is
    /// null if the run was stopped early.
    pub(super) faults: usize,
    pub(super) faults_struck: Option<usize>,
    /// Pinned choices that did not change the run.
    pub(super) idle_pins: Vec<String>,
    /// Rare states that the run reached.
    pub(super) marks: Vec<&'static str>,
    /// Absent if the run passed.
    #[serde(flatten)]
    pub(super) found: Option<Found>,
    /// Whether the run reached the code in which the bug is planted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bug_reached: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nodes: Option<Vec<Node>>,
}

#[derive(Serialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) dir: String,
    pub(super) timeline: u32,
    pub(super) first_record: String,
    pub(super) end_of_wal: String,
}

#[derive(Serialize)]
pub(super) struct Bug {
    pub(super) kind: &'static str,
    pub(super) name: &'static str,
    pub(super) found: bool,
    pub(super) invariant: Option<String>,
    pub(super) seed: Option<String>,
    pub(super) seeds: u64,
    /// The number of seeds, in all hunts, that reached the code in which the bug is planted.
    pub(super) reached: u64,
    /// The number of seeds in which an assertion failed.
    pub(super) assertions: u64,
    /// The number of seeds that were abandoned after too many steps.
    pub(super) long_runs: u64,
    pub(super) cpu_s: f64,
    /// The number of entries (workload, faults and actions) in the shrunk plan. `shrunk_faults` is
    /// the number of faults among them. Both are null if the plan was not shrunk.
    pub(super) shrunk_steps: Option<usize>,
    pub(super) shrunk_faults: Option<usize>,
    pub(super) file: Option<String>,
}

/// A bug that a hunt for all bugs skips.
#[derive(Serialize)]
pub(super) struct SkippedBug {
    pub(super) kind: &'static str,
    pub(super) name: &'static str,
    pub(super) reason: String,
}

#[derive(Serialize)]
pub(super) struct HuntSummary {
    pub(super) kind: &'static str,
    pub(super) bugs: usize,
    pub(super) found: usize,
    /// Bugs that were not hunted because their checks do not exist yet.
    pub(super) awaiting: usize,
    pub(super) median_cpu_s: f64,
    pub(super) worst_cpu_s: f64,
    pub(super) median_shrunk_steps: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct Bench {
    pub(super) kind: &'static str,
    pub(super) profile: &'static str,
    pub(super) steps_per_cpu_s: f64,
    pub(super) seeds_per_cpu_s: f64,
    pub(super) commits_per_cpu_s: f64,
    pub(super) wal_bytes_per_run: f64,
    pub(super) faults_per_run: f64,
    pub(super) sim_to_cpu: f64,
    pub(super) max_rss_mib: f64,
    pub(super) runs: u64,
    pub(super) counted: u64,
    pub(super) failures: u64,
}

#[derive(Serialize)]
pub(super) struct Codec {
    pub(super) kind: &'static str,
    pub(super) name: &'static str,
    pub(super) mb_per_cpu_s: f64,
}

#[derive(Serialize)]
pub(super) struct Growth {
    pub(super) kind: &'static str,
    pub(super) by: &'static str,
    pub(super) factor: u64,
    /// In microseconds.
    pub(super) cpu_per_step: f64,
    pub(super) ratio: f64,
}

#[derive(Serialize)]
pub(super) struct Check {
    pub(super) kind: &'static str,
    pub(super) name: &'static str,
    pub(super) ok: bool,
    pub(super) hash: String,
    pub(super) expected: String,
}
