//! A server in memory for unit tests.

mod disk;
mod fixture;

pub(crate) use fixture::{Fixture, SYSID};
