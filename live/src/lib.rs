//! The machines of `walsim-core` on real sockets and files.
//!
//! This package makes no protocol decisions. The [`driver::Driver`] executes the effects of a
//! machine and passes events to it, like the simulator's world.

pub mod driver;
pub mod receive;
pub mod serve;
