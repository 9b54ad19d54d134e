//! `walsim trace diff`: shows the first step in which two traces differ.

use super::refusal::Refusal;
use super::replay::plan_of;
use super::values::{bug_value, planted};
use super::{Outcome, pool, say};
use serde_json::Value;
use std::fmt::{self, Display};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use walsim::plan::Plan;
use walsim::report::Status;
use walsim::trace::{Compared, Difference, TraceEvent};
use walsim::world::RecordedRun;
use walsim_core::base::{Bug, Planted};

const HELP: &str = "\
A trace is a file that `walsim replay --trace=steps --format json` has written, or the run of a seed or
plan file. The lines of A begin with -, the lines of B with +, and the equal lines before them with a space.

The exit status is 0 if the traces are equal, and 4 if they differ.";

#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// A trace, a seed (17, 0x11, the 40 digits of a commit) or a plan file
    #[arg(value_name = "A")]
    one: String,
    /// A trace, a seed or a plan file
    #[arg(value_name = "B")]
    other: String,
    /// Plant this bug in the runs
    #[arg(long, value_name = "NAME", value_parser = bug_value)]
    bug: Option<Bug>,
}

pub(super) fn run(args: &Args) -> Outcome {
    let planted = planted(args.bug)?;
    let (one, other) = (rows(&args.one, planted)?, rows(&args.other, planted)?);
    let compared = pool::simulate(|| {
        let both = AssertUnwindSafe(|| Difference::first(one, other));
        catch_unwind(both)
    });
    let difference = compared.map_err(|_| {
        Refusal::new("an assertion failed in a run").help("walsim replay shows the failure")
    })?;
    Ok(match difference {
        None => {
            say!("the traces are equal");
            Status::Pass
        }
        Some(difference) => {
            say!("{}", difference.to_string().trim_end());
            Status::Nondeterminism
        }
    })
}

/// Runs a plan twice, and shows the first difference of both runs.
pub(super) fn of_two_runs(plan: &Plan, planted: Planted) -> String {
    let run = || RecordedRun::new(plan, planted);
    let both = AssertUnwindSafe(|| Difference::first(run(), run()));
    match pool::simulate(|| catch_unwind(both)) {
        Ok(Some(difference)) => difference.to_string(),
        Ok(None) => String::from("two more runs, with recorded events, took the same steps\n"),
        Err(_) => String::from("an assertion failed in two more runs with recorded events\n"),
    }
}

type Rows = Box<dyn Iterator<Item = Row>>;

/// The events of a trace file or of a run.
fn rows(what: &str, planted: Planted) -> Result<Rows, Refusal> {
    let path = Path::new(what);
    let Some(first) = first_line(path)?.filter(|line| line.starts_with('{')) else {
        let plan = plan_of(what, &[])?;
        let run = RecordedRun::new(&plan, planted);
        return Ok(Box::new(run.map(|event| Row::of_event(&event))));
    };
    if Row::of_line(&first).is_none_or(|row| row.value.get("event").is_none()) {
        let error = Refusal::new(format!("{what} is not a trace"));
        return Err(error.help("walsim replay SEED --trace=steps --format json writes one"));
    }
    let file = File::open(path).map_err(|error| Refusal::of_io(path, "read", &error))?;
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    Ok(Box::new(lines.filter_map(|line| Row::of_line(&line))))
}

/// The first line of a file. Returns `None` if the file does not exist.
fn first_line(path: &Path) -> Result<Option<String>, Refusal> {
    if !path.is_file() {
        return Ok(None);
    }
    let file = File::open(path).map_err(|error| Refusal::of_io(path, "read", &error))?;
    let mut bytes = Vec::new();
    let read = BufReader::new(file).read_until(b'\n', &mut bytes);
    read.map_err(|error| Refusal::of_io(path, "read", &error))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// An event as JSON.
#[derive(PartialEq)]
struct Row {
    value: Value,
}

impl Row {
    fn of_event(event: &TraceEvent) -> Self {
        let value = serde_json::to_value(event).expect("our own structs are JSON");
        Self { value }
    }

    /// A line of a trace. Returns `None` for the result of the run, which is the last line. A line
    /// that is not JSON is compared as a text.
    fn of_line(line: &str) -> Option<Self> {
        let value = serde_json::from_str(line).unwrap_or_else(|_| Value::String(line.into()));
        let is_result =
            value.get("kind").is_some_and(|kind| kind == "run") && value.get("verdict").is_some();
        (!is_result).then_some(Self { value })
    }

    fn number(&self, field: &str) -> u64 {
        let number = self.value.get(field).and_then(Value::as_u64);
        number.unwrap_or_default()
    }
}

impl Compared for Row {
    fn step(&self) -> u64 {
        self.number("step")
    }
}

/// The columns are event, time, node, process, kind, and the other fields.
impl Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(fields) = self.value.as_object() else {
            return write!(f, "{}", self.value);
        };
        let text = |field: &str| {
            fields
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let at = self.number("at_us");
        let time = format!("{}.{:06}s", at / 1_000_000, at % 1_000_000);
        let (event, kind) = (self.number("event"), text("kind"));
        let (node, process) = (text("node"), text("process"));
        write!(
            f,
            "{event:>8}  {time:>12}  {node:<9}  {process:<17}  {kind}"
        )?;
        let columns = ["event", "step", "at_us", "node", "process", "kind"];
        for (name, value) in fields {
            if columns.contains(&name.as_str()) {
                continue;
            }
            match value.as_str() {
                Some(value) => write!(f, "  {name} {value}")?,
                None => write!(f, "  {name} {value}")?,
            }
        }
        Ok(())
    }
}
