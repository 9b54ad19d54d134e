//! The table of events.

use super::Page;
use super::diagram::looks;
use super::record::Record;
use super::text::{grouped, seconds};
use crate::trace::Level;

/// The table, ready for its template.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
    pub(super) nodes: Vec<String>,
    pub(super) kinds: Vec<&'static str>,
    /// What is left out, and how to see it.
    pub(super) note: String,
}

/// One event.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) number: u64,
    pub(super) line: Option<usize>,
    pub(super) time: String,
    pub(super) node: String,
    pub(super) process: String,
    pub(super) kind: &'static str,
    pub(super) class: &'static str,
    pub(super) text: String,
    /// Events before this one are left out.
    pub(super) gap: bool,
}

pub(super) fn table(page: &Page<'_>, record: &Record) -> Table {
    let line_of = |number: u64| {
        let mut lines = page.story.lines.iter();
        lines
            .position(|line| line.event.number == number)
            .map(|index| index + 1)
    };
    let mut rows: Vec<Row> = Vec::new();
    // The story can have events of another level, which the total does not count.
    let of_level = record.events.values();
    let of_level = of_level.filter(|event| event.act.level() <= Level::Events);
    let shown = u64::try_from(of_level.count()).unwrap_or(u64::MAX);
    let extra = u64::try_from(record.events.len()).unwrap_or(u64::MAX) - shown;
    let all = record.total == shown;
    for event in record.events.values() {
        let before = rows.last().map_or(0, |row| row.number);
        rows.push(Row {
            number: event.number,
            line: line_of(event.number),
            time: seconds(event.at.0),
            node: event.node.clone(),
            process: event
                .process
                .map(|process| process.to_string())
                .unwrap_or_default(),
            kind: event.act.kind(),
            class: looks(event).1,
            text: event.act.to_string(),
            // Events of levels that are not shown have numbers too, so a small difference is no
            // gap.
            gap: !all && event.number > before + 400,
        });
    }
    let mut nodes: Vec<String> = rows.iter().map(|row| row.node.clone()).collect();
    nodes.retain(|node| !node.is_empty());
    nodes.sort();
    nodes.dedup();
    let mut kinds: Vec<&str> = rows.iter().map(|row| row.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let total = grouped(record.total);
    let mut note = if all {
        format!("All {total} events of the level “events” are here.")
    } else {
        format!(
            "{} of {total} events of the level “events” are here: the last ones, those near the events that led to the failure, faults, and the first lines of the server logs.",
            grouped(shown),
        )
    };
    if extra > 0 {
        note += &format!(
            " {} of the level “steps” are added.",
            match extra {
                1 => String::from("1 event"),
                n => format!("{} events", grouped(n)),
            }
        );
    }
    Table {
        rows,
        nodes,
        kinds,
        note,
    }
}
