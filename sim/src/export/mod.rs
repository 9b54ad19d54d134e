//! A trace in the formats of other tools: a Mermaid sequence diagram, and a trace for Perfetto.
//!
//! The functions take all events of a run and a filter. A message is exported if either of its ends
//! matches the filter, so that a filter by node does not separate the ends.

mod flows;
mod mermaid;
#[cfg(feature = "cli")]
mod perfetto;

pub use flows::Flows;
pub use mermaid::{LINES, mermaid};
#[cfg(feature = "cli")]
pub use perfetto::perfetto;

use crate::trace::{Act, TraceEvent};

/// Whether an export needs the event even if its filter does not match the event: the other end of
/// a message, and the completion of a disk operation.
#[must_use]
pub const fn is_other_end(event: &TraceEvent) -> bool {
    matches!(
        event.act,
        Act::Send { .. } | Act::Receive { .. } | Act::DiskDone { .. }
    )
}
