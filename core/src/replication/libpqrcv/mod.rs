//! The client side of a replication connection: connecting, commands, timers, and status updates.
//! Used by the walreceiver and by the standalone receiver. Mirrors libpqwalreceiver.c and the parts
//! of walreceiver.c that do not write WAL.

mod connect;
mod failure;
mod link;
mod query;
mod replies;
mod timers;

pub use connect::{ConnInfo, Connect};
pub use failure::{Failure, authentication_text, error_text, terminated};
pub use link::{Incoming, Link};
pub use query::{Answer, Query, Row, Rows};
pub use timers::{Silence, Timers};
