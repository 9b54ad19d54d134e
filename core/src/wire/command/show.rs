//! The result of SHOW.

use super::super::backend::{BackendMessage, Column};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// Appends the answer to SHOW: RowDescription, row and CommandComplete (`ShowGUCConfigOption`).
/// `name` is the canonical name of the setting.
pub fn encode_shown(name: &str, value: String, out: &mut Vec<u8>) {
    BackendMessage::RowDescription(vec![Column::text(name)]).encode(out);
    BackendMessage::row([Some(value)]).encode(out);
    BackendMessage::CommandComplete("SHOW".to_string()).encode(out);
}
