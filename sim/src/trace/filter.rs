//! Which events of a trace a reader wants to see.

use super::event::{Level, TraceEvent};
use std::ops::Range;
use walsim_core::base::{Lsn, Mono};

/// An event is shown if it passes all conditions; an empty list is none.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Filter {
    /// Not beyond this level.
    pub level: Level,
    /// Of these nodes or sessions.
    pub nodes: Vec<String>,
    /// Of processes with these names, such as `walsender`, or of one, such as `walsender 1.7`.
    pub processes: Vec<String>,
    /// Of these [kinds](super::KINDS); a kind that is named is shown whatever the level.
    pub kinds: Vec<String>,
    /// About files whose path contains one of these.
    pub files: Vec<String>,
    /// About WAL that has a byte in this range.
    pub lsn: Option<Range<Lsn>>,
    /// Not before this time.
    pub since: Option<Mono>,
    /// At most so many events before and after the one with this number.
    pub around: Option<(u64, u64)>,
}

impl Filter {
    /// All of a level.
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

    /// Is the event shown?
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
            // An empty range is the position itself.
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
