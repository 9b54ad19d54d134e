//! What a reader keeps of the record that it found last, in memory that its caller lends.

use crate::wire::record::RecordParts;
use alloc::vec::Vec;

/// Memory for the record that was found last; best the same for every call.
#[derive(Clone, Debug)]
pub struct Room {
    /// Its bytes, if they lay in several pages.
    pub(super) gathered: Vec<u8>,
    pub(super) parts: RecordParts,
}

/// Where the bytes of a record are.
pub(super) enum Held {
    /// In the current page, where the record says.
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
