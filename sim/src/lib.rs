//! The simulator: runs nodes on simulated disks, networks and clocks. The seed determines all that
//! happens.

pub mod bench;
pub mod bugs;
pub mod choice;
pub mod clock;
pub mod disk;
pub mod dump;
pub mod export;
pub mod fuzz;
#[cfg(feature = "cli")]
pub mod html;
pub mod invariants;
pub mod marks;
pub mod net;
pub mod report;
pub mod shrink;
pub mod story;
pub mod trace;

pub mod checks;
pub mod plan;
pub mod referee;
pub mod world;
