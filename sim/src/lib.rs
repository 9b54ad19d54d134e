//! The simulator: nodes on fake disks, networks and clocks, driven from a seed.

pub mod choice;
pub mod clock;
pub mod disk;
pub mod invariants;
pub mod net;
pub mod trace;

pub mod plan;
pub mod world;

mod checks;
