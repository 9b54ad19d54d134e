//! F1: bytes <-> values, one definition each.

pub mod layout;
