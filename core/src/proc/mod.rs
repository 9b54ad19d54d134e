//! F6: one folder per process. A process never imports another.

pub mod postmaster;
pub mod walwriter;
