//! Selects the events of a trace.

use super::event::{Level, TraceEvent};
use std::ops::Range;
use walsim_core::base::{Lsn, Mono};

/// The conditions that a shown event must meet. An empty list is no condition.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Filter {
    /// The highest level that is shown.
    pub level: Level,
    /// The event belongs to one of these nodes or sessions.
    pub nodes: Vec<String>,
    /// The event belongs to a process with one of these names. A name stands for all processes of a
    /// role, such as `walsender`, or for a single process, such as `walsender 1.7`.
    pub processes: Vec<String>,
    /// The event has one of these [kinds](super::KINDS). Events of these kinds are shown at any
    /// level.
    pub kinds: Vec<String>,
    /// The path of the event's file contains one of these texts.
    pub files: Vec<String>,
    /// The event is about WAL in this range.
    pub lsn: Option<Range<Lsn>>,
    /// The event is at this time or later.
    pub since: Option<Mono>,
    /// The event is near the event with the first number. The second number says how many events
    /// before and after that one are shown.
    pub around: Option<(u64, u64)>,
}

impl Filter {
    /// Shows all events of a level.
    #[must_use]
    pub const fn level(level: Level) -> Self {
        Self {
            level,
            nodes: Vec::new(),
            processes: Vec::new(),
            kinds: Vec::new(),
            files: Vec::new(),
            lsn: None,
            since: None,
            around: None,
        }
    }

    /// Whether the event is shown.
    #[must_use]
    pub fn admits(&self, event: &TraceEvent) -> bool {
        let act = &event.act;
        let kind = match &self.kinds[..] {
            [] => act.level() <= self.level,
            kinds => kinds.iter().any(|kind| kind == act.kind()),
        };
        let node = self.nodes.is_empty() || self.nodes.contains(&event.node);
        let is_process = |wanted: &String| {
            let process = event.process.as_ref();
            process.is_some_and(|it| it.role.name() == wanted || it.to_string() == *wanted)
        };
        let process = self.processes.is_empty() || self.processes.iter().any(is_process);
        let is_file = |part: &String| act.file().is_some_and(|file| file.contains(part));
        let file = self.files.is_empty() || self.files.iter().any(is_file);
        let lsn = self.lsn.as_ref().is_none_or(|range| {
            // An empty range counts as a single position.
            act.lsn().is_some_and(|of| {
                of.start < range.end && range.start < Lsn(of.end.0.max(of.start.0 + 1))
            })
        });
        let time = self.since.is_none_or(|since| since <= event.at);
        let near = self
            .around
            .is_none_or(|(number, context)| event.number.abs_diff(number) <= context);
        kind && node && process && file && lsn && time && near
    }
}
