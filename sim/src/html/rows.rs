//! Chooses the events of the space-time diagram: the events that led to the violation, the other
//! ends of their messages, the faults, and events near all of these.

use super::Page;
use super::record::Record;
use crate::trace::{Act, MessageFields, TraceEvent};
use std::collections::BTreeSet;

/// The number of rows of the diagram. It has more rows only if the events that led to the violation
/// need them.
const ROWS: usize = 72;
/// The number of faults, starts and stops that are shown besides the events that led to the
/// violation.
const FAULTS: usize = 24;
/// Events whose numbers differ by at most this many are near to each other.
const NEAR: u64 = 24;

/// One event of the diagram.
#[derive(Clone, Debug)]
pub(super) struct Row<'a> {
    pub(super) event: &'a TraceEvent,
    /// The number of the event among the events that led to the violation, from 1.
    pub(super) line: Option<usize>,
    pub(super) text: String,
}

/// The events of the diagram, in their order.
pub(super) fn choose<'a>(page: &Page<'_>, record: &'a Record) -> Vec<Row<'a>> {
    let mut chosen: BTreeSet<u64> = record.story.iter().copied().collect();
    for number in &record.story {
        chosen.extend(partner(record, *number));
    }
    let faults = record.events.values().rev().filter(|event| is_fault(event));
    chosen.extend(faults.take(FAULTS).map(|event| event.number));
    let nodes: BTreeSet<&str> = (page.story.lines.iter())
        .map(|line| line.event.node.as_str())
        .collect();
    let matters = |event: &&TraceEvent| {
        (page.story.lines.is_empty() || nodes.contains(event.node.as_str()))
            && is_context(event, record)
    };
    let told = &record.story;
    let is_near = |event: &&TraceEvent| {
        let after = told.partition_point(|number| *number < event.number);
        let around = [after.checked_sub(1), Some(after)].into_iter().flatten();
        let mut around = around.filter_map(|index| told.get(index));
        around.any(|number| number.abs_diff(event.number) <= NEAR)
    };
    let near = record.events.values().filter(is_near).filter(matters);
    let last = record.events.values().rev().filter(matters);
    for event in near.take(ROWS / 3).chain(last) {
        if chosen.len() >= ROWS {
            break;
        }
        chosen.insert(event.number);
        chosen.extend(partner(record, event.number));
    }
    let events = chosen.iter().filter_map(|number| record.events.get(number));
    events.map(|event| row(page, event)).collect()
}

fn row<'a>(page: &Page<'_>, event: &'a TraceEvent) -> Row<'a> {
    let lines = &page.story.lines;
    let line = lines
        .iter()
        .position(|line| line.event.number == event.number);
    let text = line.map_or_else(|| event.act.brief(), |index| lines[index].text.clone());
    let repeats = line.and_then(|index| lines[index].repeats);
    let more = repeats.map_or_else(String::new, |repeats| {
        let until = super::text::seconds(repeats.until.0);
        format!(" (and {} more until {until})", repeats.more)
    });
    Row {
        event,
        line: line.map(|index| index + 1),
        text: text + &more,
    }
}

/// The event at the other end of a message, or the completion of an fsync. Returns `None` if the
/// report does not contain this event.
fn partner(record: &Record, number: u64) -> Option<u64> {
    let other = record.pairs.get(&number)?;
    record.events.contains_key(other).then_some(*other)
}

fn is_fault(event: &TraceEvent) -> bool {
    matches!(&event.act, Act::World { text } if text != "accepts connections")
        || matches!(&event.act, Act::Loss { lost, .. } if !lost.is_empty())
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "events of other kinds are shown only if the story has them"
)]
fn is_context(event: &TraceEvent, record: &Record) -> bool {
    match &event.act {
        Act::Send { message, .. } | Act::Receive { message, .. } => {
            let streams = matches!(
                message,
                MessageFields::XLogData { .. } | MessageFields::StandbyStatusUpdate { .. }
            );
            let is_receipt = matches!(event.act, Act::Receive { .. });
            streams && (!is_receipt || partner(record, event.number).is_some())
        }
        Act::Disk { act, .. } => {
            (act.op == "fsync" || act.op == "rename") && act.file.starts_with("pg_wal/")
        }
        Act::Exit { .. } => true,
        Act::Log { severity, .. } => severity != "LOG",
        Act::Client { text, .. } => text == "answered COMMIT",
        _ => false,
    }
}
