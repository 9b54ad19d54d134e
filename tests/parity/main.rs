//! Assumptions of nodes about disks and networks, which must hold both in the simulator and on a
//! real machine. Each test runs on the fake disk and on the real file system, or on the fake
//! network and on real sockets.
//!
//! Only behavior without faults is tested here. Losses of power and other faults have their own
//! tests.

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

/// The default process.
const ONE: Pid = Pid::postmaster(1);
/// Another process of the same node.
const OTHER: Pid = Pid {
    incarnation: 1,
    n: 2,
};
