//! Servers in memory for unit tests.

pub(crate) mod bench;
pub(crate) mod server;
