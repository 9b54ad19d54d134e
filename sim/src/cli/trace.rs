//! `--trace`: prints the events of a run as they happen, as lines of text or JSON.

use super::values::{count_value, simulated_value};
use super::{Format, json};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use walsim::plan::known_names;
use walsim::trace::{Filter, KINDS, Level, TraceEvent};
use walsim::world::World;
use walsim_core::base::{Lsn, Mono};

/// How many events are shown before the event that `--around` names, and how many after it.
const CONTEXT: u64 = 20;

/// Which events are printed.
#[derive(clap::Args)]
#[command(next_help_heading = "Trace")]
pub(super) struct TraceArgs {
    /// Print one event on each line: the story only, all events, or all steps
    #[arg(
        long,
        value_name = "LEVEL",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "story",
        group = "traced"
    )]
    pub(super) trace: Option<LevelName>,
    #[command(flatten)]
    filters: Filters,
}

/// The filters of a trace.
#[derive(clap::Args)]
#[command(next_help_heading = "Trace")]
pub(super) struct Filters {
    /// Only events of this node or session
    #[arg(long = "node", value_name = "NAME", requires = "traced")]
    nodes: Vec<String>,
    /// Only events of these processes, such as walsender or "walsender 1.7"
    #[arg(long = "process", value_name = "NAME", requires = "traced")]
    processes: Vec<String>,
    /// Only events of this kind, such as disk or receive, whatever the level
    #[arg(long = "kind", value_name = "KIND", requires = "traced", value_parser = kind_value)]
    kinds: Vec<String>,
    /// Only disk operations on files whose path contains this text
    #[arg(long = "file", value_name = "PART", requires = "traced")]
    files: Vec<String>,
    /// Only events about WAL between these positions, such as 0/1000000..0/1002000
    #[arg(long, value_name = "A..B", requires = "traced", value_parser = lsn_value)]
    lsn: Option<Range<Lsn>>,
    /// Only events from this simulated time on, such as 12.4s
    #[arg(long, value_name = "TIME", requires = "traced", value_parser = simulated_value)]
    since: Option<u64>,
    /// Only 20 events before and after the event with this number
    #[arg(long, value_name = "EVENT", requires = "traced", value_parser = count_value)]
    around: Option<u64>,
}

/// The value of `--trace`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum LevelName {
    Story,
    Events,
    Steps,
}

fn kind_value(text: &str) -> Result<String, String> {
    match KINDS.contains(&text) {
        true => Ok(String::from(text)),
        false => Err(known_names(text, &KINDS)),
    }
}

fn lsn_value(text: &str) -> Result<Range<Lsn>, String> {
    let form = "write A..B, such as 0/1000000..0/1002000";
    let (from, to) = text.split_once("..").ok_or(form)?;
    let lsn = |text: &str| {
        text.parse::<Lsn>()
            .map_err(|error| format!("{error}: {form}"))
    };
    let range = lsn(from)?..lsn(to)?;
    if range.is_empty() {
        return Err(String::from("the range is empty: A..B excludes B"));
    }
    Ok(range)
}

impl TraceArgs {
    /// The printer of events. Returns `None` if `--trace` was not given.
    pub(super) fn printer(&self, format: Format) -> Option<Printer> {
        let filter = self.filters.filter(self.trace?);
        let out = BufWriter::new(io::stdout());
        Some(Printer {
            filter,
            format,
            out,
        })
    }
}

impl Filters {
    /// The filter of a trace with this level.
    pub(super) fn filter(&self, level: LevelName) -> Filter {
        let level = match level {
            LevelName::Story => Level::Story,
            LevelName::Events => Level::Events,
            LevelName::Steps => Level::Steps,
        };
        Filter {
            nodes: self.nodes.clone(),
            processes: self.processes.clone(),
            kinds: self.kinds.clone(),
            files: self.files.clone(),
            lsn: self.lsn.clone(),
            since: self.since.map(Mono),
            around: self.around.map(|number| (number, CONTEXT)),
            ..Filter::level(level)
        }
    }
}

/// Prints events.
pub(super) struct Printer {
    filter: Filter,
    format: Format,
    out: BufWriter<io::Stdout>,
}

impl Printer {
    /// Prints the events that were recorded since the last call.
    pub(super) fn print(&mut self, world: &mut World) {
        for event in world.take_events() {
            if self.filter.admits(&event) {
                self.line(&event);
            }
        }
    }

    /// A closed pipe (`| head`) is not an error.
    fn line(&mut self, event: &TraceEvent) {
        let text = match self.format {
            Format::Text => event.to_string(),
            Format::Json => json::text(event),
        };
        let _ = writeln!(self.out, "{}", text.trim_end());
    }
}
