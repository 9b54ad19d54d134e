//! The contract between a machine and its driver, as plain data.
//!
//! A machine never blocks. Its requests are an ordered list of [`Effect`]s. Everything that happens
//! to a machine is an [`Input`]. Exactly one [`Input::Disk`] answers each disk operation, with two
//! exceptions. A close has no answer. If the process that issued the operation has died, no answer
//! follows.

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
pub use slot_message::{SlotExcess, SlotMessage, SlotObsolete};
pub use wait::{Poll, Wait, Woken, Yield};
