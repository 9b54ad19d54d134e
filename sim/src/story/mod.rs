//! The story of a failed run: the few events that led to its violation, chosen by relevance.
//!
//! [`story`] runs the failed plan again and records its events. [`Subjects`] are the positions,
//! files, slots, blocks, transactions and nodes that the facts of the violation name. Each event
//! gets a score, which is high if the event has much to do with the subjects (`relevance`). Equal
//! events are collapsed (`telling`), and the events with the highest scores make the story. The
//! story is data. The reports format it as text.

mod absent;
mod commits;
mod reads;
mod records;
mod relevance;
mod subjects;
mod telling;
mod waits;
mod words;

pub use absent::Absence;
pub use subjects::Subjects;
pub use waits::Waiting;

use crate::plan::Plan;
use crate::trace::TraceEvent;
use crate::world::{Outcome, run_recorded};
use serde::Serialize;
use telling::Telling;
use walsim_core::base::{Mono, Planted};

/// The largest number of lines in a story.
pub const LINES: usize = 25;

/// Events with a lower score are not told, even if there is room.
const LEAST: u32 = 24;

/// The story of a run.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug, Serialize)]
pub struct Story {
    /// The chosen events, in the order in which they happened.
    pub lines: Vec<Line>,
    /// The expected events that are missing, such as an fsync, the save of a slot, or the start of
    /// a process.
    pub absent: Vec<Absence>,
    /// What the processes wait for at the end of the run, on the nodes that the verdict is about.
    /// The list is empty if this does not matter to the verdict.
    pub waits: Vec<Waiting>,
    /// How many events have to do with the violation and are not in the story.
    pub left_out: u64,
}

/// One line: an event, and how often it was repeated.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Line {
    /// The event. If the event was repeated, this is the first of the equal events.
    #[serde(flatten)]
    pub event: TraceEvent,
    /// What happened, in words, without node, process and time.
    pub text: String,
    /// What the event has to do with the violation.
    pub relevance: Relevance,
    /// How important the line is. The lines with the highest scores are chosen.
    pub score: u32,
    /// Later events that are equal to this one and have no line of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Repeats>,
}

/// Later events that are equal to the event of a line.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Repeats {
    /// Their number.
    pub more: u64,
    /// The number of the last of these events.
    pub last_event: u64,
    /// Its time.
    #[serde(rename = "until_us", serialize_with = "microseconds")]
    pub until: Mono,
}

/// What an event has to do with the violation, in order from much to little.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relevance {
    /// The violation.
    Verdict,
    /// A fault, an action of an operator, a start or stop of a server.
    Fault,
    /// The event wrote, synced, sent, received or moved what the violation is about.
    Subject,
    /// An error, warning or other line of a server log.
    Log,
    /// Another event of a process that takes part.
    Context,
}

pub(super) fn microseconds<S: serde::Serializer>(at: &Mono, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(at.0)
}

/// Runs the plan of a failed run again, and returns its story. A run that passed has an empty
/// story.
#[must_use]
pub fn story(plan: &Plan, planted: Planted, outcome: &Outcome) -> Story {
    let Some(subjects) = Subjects::of(plan, &outcome.verdict) else {
        return Story::default();
    };
    let mut telling = Telling::new(subjects);
    let mut end = None;
    run_recorded(plan, planted, outcome, None, |world, events| {
        events.into_iter().for_each(|event| telling.hear(event));
        if world.finished().is_some() {
            end = Some(records::of(world));
        }
    });
    telling.tell(&end.unwrap_or_default())
}
