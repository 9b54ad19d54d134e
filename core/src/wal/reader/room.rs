//! Memory for the last record that a reader has returned. The caller provides the memory.

use crate::wire::record::RecordParts;
use alloc::vec::Vec;

/// Memory for the last record that was returned. The caller should use the same memory for all
/// calls.
#[derive(Clone, Debug)]
pub struct Room {
    /// The bytes of the record, if the record crosses pages.
    pub(super) gathered: Vec<u8>,
    pub(super) parts: RecordParts,
}

/// Where the bytes of the returned record are.
pub(super) enum Held {
    /// In the current page.
    InPage,
    /// In [`Room::gathered`].
    Gathered,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            gathered: Vec::new(),
            parts: RecordParts::NONE,
        }
    }
}
