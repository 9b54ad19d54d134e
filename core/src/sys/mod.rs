//! The system calls that a process can make.

mod conn;
mod cx;
mod kernel;
#[cfg(test)]
pub(crate) mod testing;

pub use conn::{Conn, ConnEnd, RECEIVE_WINDOW};
pub use cx::Cx;
pub use kernel::{Become, ChildExit, ExitKind, Fork, Kernel, OpenSegment, ProcSys};
