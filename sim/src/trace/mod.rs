//! The trace of a run. It consists of a hash that distinguishes runs, and of events for people and
//! programs.
//!
//! The world computes the hash in every run. It records events only on request
//! ([`World::record`](crate::world::World::record)). To see the events of a failed run, the run is
//! repeated with recording. docs/trace.md describes the JSON form of events.

mod diff;
mod disk;
mod event;
mod filter;
mod hash;
mod kinds;
mod memory;
mod message;
mod net;
mod positions;
mod recorder;
mod status;
mod text;

pub use diff::{Compared, Difference};
pub use event::{Act, DiskAct, Level, ProcessName, TraceEvent};
pub use filter::Filter;
pub use hash::{RunHash, state_hash};
pub use kinds::{KINDS, Kind};
pub use message::MessageFields;
pub(crate) use recorder::{Before, Recorder, Spot};
