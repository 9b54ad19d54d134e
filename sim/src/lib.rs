//! The simulator: nodes on fake disks, networks and clocks, driven from a seed.
