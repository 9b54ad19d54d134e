//! The machines of `walsim-core` on real sockets and files.
//!
//! This package makes no protocol decisions. Like the simulator's world, the [`driver::Driver`]
//! executes the effects of a machine and passes events to the machine.

pub mod driver;
pub mod receive;
pub mod serve;
