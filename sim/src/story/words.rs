//! Events in words.

use super::records::End;
use crate::trace::{Act, TraceEvent};
use walsim_core::call::Place;

/// What happened, as text without node, process and time.
pub(super) fn text(event: &TraceEvent, end: &End) -> String {
    if let Act::Position { what, of, from, to } = &event.act {
        let what = match *what {
            "restart_lsn" => format!("restart_lsn of slot {of}"),
            "redo" => String::from("redo point"),
            what => format!("{what} position"),
        };
        let record = match what.as_str() {
            "insert position" => end.records_in(*from, *to),
            _ => String::new(),
        };
        return format!("{what} {from} -> {to}{record}");
    }
    if let Act::Run { place, woken_by } = &event.act {
        return match decided(*place) {
            "" if woken_by.is_empty() => format!("runs in {place}"),
            "" => format!("runs in {place}, woken by {}", woken_by.join(" and ")),
            what => format!("{what} ({place})"),
        };
    }
    event.act.brief()
}

/// What a process does in one of the C functions whose decisions can explain a violation.
fn decided(at: Place) -> &'static str {
    let all = [
        (Place::RequestXLogStreaming, "requests a walreceiver"),
        (Place::ReplicationSlotReserveWal, "reserves WAL for a slot"),
        (
            Place::InvalidateObsoleteReplicationSlots,
            "looks for slots to invalidate",
        ),
    ];
    let known = all.iter().find(|(place, _)| *place == at);
    known.map_or("", |(_, what)| what)
}

/// The text of an event without its numbers. Events with equal texts count as repetitions.
pub(super) fn shape(event: &TraceEvent) -> String {
    let kind = event.act.kind();
    // The digits in a segment's name are kept, because another segment is another file.
    if let Act::Disk { act, .. } | Act::DiskDone { act, .. } = &event.act {
        let to = act.to.as_deref().unwrap_or_default();
        return format!("{kind}|{} {} {to}", act.op, act.file);
    }
    if let Act::Position { what, of, .. } = &event.act {
        return format!("{kind}|{what} {of}");
    }
    if let Act::SlotMinimum { from, to, held_by } = &event.act {
        let same = from == to;
        return format!("{kind}|{same} {}", held_by.join(" "));
    }
    if let Act::Horizon { by, computed, .. } = &event.act {
        return format!("{kind}|{by} {computed}");
    }
    format!("{kind}|{}", digits_hidden(&event.act.to_string()))
}

/// The text with each number replaced by `#`.
pub(super) fn digits_hidden(text: &str) -> String {
    let mut shape = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_ascii_digit() {
            shape.push(c);
        } else if !shape.ends_with('#') {
            shape.push('#');
        }
    }
    shape
}
