//! The machines of `walsim-core` on real sockets and files.
//!
//! No decision of the protocol is taken here: the [`driver::Driver`] does what a machine asks for
//! and tells it what happened, as the simulator's world does.

pub mod driver;
pub mod receive;
pub mod serve;
