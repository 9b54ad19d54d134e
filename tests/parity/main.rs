//! What nodes believe of disks and networks must hold in the simulator and on a real machine: one
//! body of each test runs against the fake disk and the real file system, against the fake network
//! and real sockets.
//!
//! Only what a running machine can show is tested here. What a loss of power leaves, and what
//! faults do, is tested where they are made.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an answer of any other kind is wrong"
)]

mod disk;
mod disk_at_random;
mod fake;
mod net;
mod real;

use walsim_core::base::Pid;

/// The process that acts unless a test says otherwise.
const ONE: Pid = Pid::postmaster(1);
/// Another one of the same node.
const OTHER: Pid = Pid {
    incarnation: 1,
    n: 2,
};
