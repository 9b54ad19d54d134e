//! Code that tests share: a driver of one machine on a simulated disk.

mod harness;

pub use harness::{Drive, Harness, client, new_cluster};
