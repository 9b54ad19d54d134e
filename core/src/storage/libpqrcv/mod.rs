//! The client side of a replication connection, as the walreceiver and whoever else receives WAL use it: connecting,
//! commands, the timers of a stream, status updates. Mirrors libpqwalreceiver.c and the parts of walreceiver.c that
//! write no WAL.

mod connect;
mod link;
mod query;
mod replies;
mod timers;

pub use connect::Connect;
pub use link::{Incoming, Link, check_interrupts, error_text};
pub use query::{Answer, Query, Row};
pub use timers::{Silence, Timers};
