//! What happens in a run, step by step: the hash that tells two runs apart, and the events that a
//! person or a program reads.
//!
//! The world keeps the hash in every run. Events are recorded on request alone
//! ([`World::record`](crate::world::World::record)): a run that failed is simply run again with
//! them. docs/trace.md describes the events as JSON.

mod disk;
mod event;
mod filter;
mod hash;
mod message;
mod net;
mod positions;
mod recorder;
mod text;

pub use event::{Act, DiskAct, KINDS, Level, ProcessName, TraceEvent};
pub use filter::Filter;
pub use hash::{RunHash, state_hash};
pub use message::MessageFields;
pub(crate) use recorder::{Before, Recorder, Spot};
