//! `walsim trace export`: writes the trace of a run in the format of another tool.

use super::output::try_file;
use super::refusal::Refusal;
use super::replay::plan_of;
use super::trace::{Filters, LevelName};
use super::values::{bug_value, planted, simulated_value};
use super::{Outcome, json, pool};
use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use walsim::export::{is_other_end, mermaid, perfetto};
use walsim::plan::Plan;
use walsim::report::Status;
use walsim::story::story;
use walsim::trace::{Filter, TraceEvent};
use walsim::world::{World, run as run_plan};
use walsim_core::base::{Bug, Mono, Planted};

#[derive(clap::Args)]
pub(super) struct Args {
    /// A seed (17, 0x11, the 40 digits of a commit) or a plan file
    // The group stands for `--trace` of `replay`, which the filters require.
    #[arg(value_name = "SEED|FILE", group = "traced")]
    what: String,
    /// Format of the export
    #[arg(long, value_enum)]
    format: Format,
    /// Write to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Stop at this simulated time, such as 12.4s, after all events at that time
    #[arg(long, value_name = "TIME", value_parser = simulated_value)]
    until: Option<u64>,
    /// Plant this bug
    #[arg(long, value_name = "NAME", value_parser = bug_value)]
    bug: Option<Bug>,
    /// Override a setting of the plan, such as geometry=stock
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Export the story only, all events, or all steps
    #[arg(
        long,
        value_name = "LEVEL",
        value_enum,
        default_value_t = LevelName::Events,
        require_equals = true,
        help_heading = "Trace"
    )]
    trace: LevelName,
    #[command(flatten)]
    filters: Filters,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Format {
    /// A binary trace for ui.perfetto.dev
    Perfetto,
    /// A sequence diagram of at most 60 lines
    Mermaid,
    /// The events that `replay --trace --format json` prints
    Jsonl,
}

pub(super) fn run(args: &Args) -> Outcome {
    let planted = planted(args.bug)?;
    let plan = plan_of(&args.what, &args.sets)?;
    match &args.out {
        Some(path) => try_file(path)?,
        None if args.format == Format::Perfetto && io::stdout().is_terminal() => {
            let error = Refusal::new("a trace for Perfetto is binary, and stdout is a terminal");
            return Err(error.help("add --out FILE"));
        }
        None => {}
    }
    let filter = args.filters.filter(args.trace);
    let events = recorded(&plan, planted, args.until, &filter);
    let bytes = match args.format {
        Format::Perfetto => perfetto(&events, &filter),
        Format::Mermaid => {
            let story = story_events(&plan, planted);
            mermaid(&events, &filter, &story).into_bytes()
        }
        Format::Jsonl => {
            let events = events.iter().filter(|event| filter.admits(event));
            let lines = events.map(|event| json::text(event).trim_end().to_owned() + "\n");
            lines.collect::<String>().into_bytes()
        }
    };
    match &args.out {
        Some(path) => {
            std::fs::write(path, bytes).map_err(|e| Refusal::of_io(path, "write", &e))?;
        }
        // A closed pipe (`| head`) is not an error.
        None => drop(io::stdout().write_all(&bytes)),
    }
    Ok(Status::Pass)
}

/// Runs the plan and returns the events that the export needs.
fn recorded(plan: &Plan, planted: Planted, until: Option<u64>, filter: &Filter) -> Vec<TraceEvent> {
    let mut events = Vec::new();
    let mut world = World::new(plan, planted, false);
    world.record();
    let mut take = |world: &mut World| {
        let needed = |event: &TraceEvent| filter.admits(event) || is_other_end(event);
        events.extend(world.take_events().into_iter().filter(needed));
    };
    let run = AssertUnwindSafe(|| {
        let goes_on = |next: Mono| until.is_none_or(|us| next.0 <= us);
        while world.next_at().is_some_and(goes_on) && world.step() {
            take(&mut world);
        }
    });
    // If the run panics, the events before the panic are exported.
    drop(pool::simulate(|| catch_unwind(run)));
    take(&mut world);
    events
}

/// The numbers of the events that led to the violation. The list is empty if nothing was violated.
fn story_events(plan: &Plan, planted: Planted) -> BTreeSet<u64> {
    let told = pool::simulate(|| {
        let outcome = run_plan(plan, planted, false);
        story(plan, planted, &outcome)
    });
    told.lines.iter().map(|line| line.event.number).collect()
}
