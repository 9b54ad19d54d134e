//! The report of a run as one HTML file, which loads nothing from elsewhere.
//!
//! [`Page::html`] runs the plan again and records its events (`record`). Small modules turn the
//! events into data for the templates in `sim/templates/report`, which escape all texts: the
//! space-time diagram (`diagram`), the chart of positions (`chart`), the disks (`disks`), the table
//! of events (`table`), and the plan (`setup`). All geometry is integers, so the bytes of the file
//! depend only on the run and the build's version.

mod axis;
mod chart;
mod diagram;
mod disks;
mod head;
mod lanes;
mod page;
mod positions;
mod record;
mod rows;
mod setup;
mod table;
mod text;

use crate::plan::{Origin, Plan};
use crate::story::Story;
use crate::world::Outcome;
use walsim_core::base::{Bug, Mono, Planted};

/// A run and what is known about it.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The planted bug.
    pub bug: Option<Bug>,
    /// The outcome of the run.
    pub outcome: &'a Outcome,
    /// The events that led to the failure.
    pub story: &'a Story,
    /// The command that replays the run, without `--trace`.
    pub replay: &'a str,
    /// The command that repeats the run under `cargo test`, if there is one.
    pub test: Option<&'a str>,
    /// The file in which the plan was stored.
    pub file: Option<&'a str>,
    /// Where the plan comes from, for example how it was shrunk.
    pub origin: Option<&'a Origin>,
    /// The time at which the run was stopped. `None` if it went to its end.
    pub until: Option<Mono>,
}

impl Page<'_> {
    /// The report as HTML.
    #[must_use]
    pub fn html(&self) -> String {
        let planted = self
            .bug
            .map_or(Planted::NONE, |bug| Planted::NONE.with(bug));
        let record = record::Record::of(self, planted);
        page::render(self, &record)
    }
}
