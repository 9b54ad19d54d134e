//! The story of a failed run: the few events that led to its violation, chosen by relevance.
//!
//! [`story`] runs the failed plan again and records its events. [`Subjects`] are what the facts of
//! the violation name: positions, files, slots, blocks, transactions, nodes. Each event gets a
//! score for what it has to do with them (`relevance`). Equal events are collapsed (`telling`), and
//! the events with the highest scores make the story. It is data; reports format it.

mod records;
mod relevance;
mod subjects;
mod telling;
mod waits;
mod words;

pub use subjects::Subjects;
pub use waits::Waiting;

use crate::plan::Plan;
use crate::trace::TraceEvent;
use crate::world::{Outcome, run_recorded};
use serde::Serialize;
use telling::Telling;
use walsim_core::base::{Mono, Planted};

/// The number of lines of a story.
pub const LINES: usize = 25;

/// The story of a run.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug, Serialize)]
pub struct Story {
    /// The chosen events, in their order.
    pub lines: Vec<Line>,
    /// The processes of the nodes that the verdict is about, at the end of the run, and what they
    /// wait for. Empty if it does not matter to the verdict.
    pub waits: Vec<Waiting>,
    /// The number of events that have to do with the violation, and are not in the story.
    pub left_out: u64,
}

/// One line: an event, and how often it was repeated.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Line {
    /// The event; the first one if it was repeated.
    #[serde(flatten)]
    pub event: TraceEvent,
    /// What happened, in words, without node, process and time.
    pub text: String,
    /// What the event has to do with the violation.
    pub relevance: Relevance,
    /// How important it is. The lines with the highest scores are chosen.
    pub score: u32,
    /// Events like this one that followed it, and are not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Repeats>,
}

/// Further events like one that is told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Repeats {
    /// Their number.
    pub more: u64,
    /// The number of the last of them.
    pub last_event: u64,
    /// Its time.
    #[serde(rename = "until_us", serialize_with = "microseconds")]
    pub until: Mono,
}

/// What an event has to do with the violation, from much to little.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relevance {
    /// The violation.
    Verdict,
    /// A fault, an action of an operator, a start or stop of a server.
    Fault,
    /// It wrote, synced, sent, received or moved what the violation is about.
    Subject,
    /// An error, warning or other line of a server log.
    Log,
    /// Other events of the processes that take part.
    Context,
}

pub(super) fn microseconds<S: serde::Serializer>(at: &Mono, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(at.0)
}

/// Runs the plan of a failed run again, and tells its story. A run that passed has an empty story.
#[must_use]
pub fn story(plan: &Plan, planted: Planted, outcome: &Outcome) -> Story {
    let Some(subjects) = Subjects::of(plan, &outcome.verdict) else {
        return Story::default();
    };
    let mut telling = Telling::new(subjects);
    let mut end = None;
    run_recorded(plan, planted, |world, events| {
        events.into_iter().for_each(|event| telling.hear(event));
        if world.finished().is_some() {
            end = Some(records::of(world));
        }
    });
    telling.tell(&end.unwrap_or_default())
}
