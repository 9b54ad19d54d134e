//! The contract between a machine and the world, as plain data.
//!
//! A machine never blocks. Its requests are an ordered list of [`Effect`]s, and everything that
//! happens to it is one [`Input`]. Each disk operation except a close is answered by exactly one
//! [`Input::Disk`], unless the process or node that issued it has died.

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
