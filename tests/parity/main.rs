//! What nodes assume about disks and networks must be true both in the simulator and on a real
//! machine. Each test runs on the simulated disk and on the real file system, or on the simulated
//! network and on real sockets.
//!
//! All behavior here is without faults. Other tests cover losses of power and other faults.

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
