//! The system calls of one process.

mod conn;
mod cx;
mod kernel;
#[cfg(test)]
pub(crate) mod testing;

pub use conn::{Conn, ConnEnd, RECEIVE_WINDOW};
pub use cx::Cx;
pub use kernel::{Become, ChildExit, ExitKind, Fork, Kernel, OpenSegment, ProcSys};
