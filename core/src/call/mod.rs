//! F2: the contract between a machine and the world, as plain data.
//!
//! A machine never blocks: what it wants is an ordered list of [`Effect`]s, what happens to it is
//! one [`Input`]. Every disk operation but a close is answered by exactly one [`Input::Disk`],
//! unless the process or the node that issued it died.

mod disk;
mod effect;
mod log;
mod net;
mod place;
mod receive_message;
mod report;
mod slot_message;
mod wait;

pub use disk::{DiskDone, DiskError, DiskOp, FileKind, FilePath, OpenFlags};
pub use effect::{Effect, Effects, Exit, Input, Machine, RunSet, Signal};
pub use log::{LogEvent, Message, Severity, SqlState};
pub use net::{NetEvent, NetOp, Refusal, SEND_WINDOW};
pub use place::Place;
pub use receive_message::{ReceiveMessage, RowCounts};
pub use slot_message::{SlotExcess, SlotMessage};
pub use wait::{Poll, Wait, Woken, Yield};
