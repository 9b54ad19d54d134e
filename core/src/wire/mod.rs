//! F1: bytes <-> values, one definition each.

pub mod backend;
pub mod command;
pub mod frame;
pub mod frontend;
pub mod layout;
pub mod page;
pub mod pqformat;
pub mod record;
pub mod replication;
pub mod sql;
pub mod startup;
