//! The result of TIMELINE_HISTORY.

use super::super::backend::{BackendMessage, Column};
use crate::base::PgVersion;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

/// The row of the result, which is a history file.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TimelineHistory {
    /// The file's name, without a directory.
    pub filename: String,
    /// The file's content.
    pub content: Bytes,
}

impl TimelineHistory {
    /// Appends the RowDescription. The server sends it before it opens the file
    /// (`SendTimeLineHistory`).
    pub fn encode_columns(server: PgVersion, out: &mut Vec<u8>) {
        let columns = ["filename", "content"].map(|name| Column {
            // PostgreSQL 15 builds this message by hand, and sets the type modifier to 0.
            typmod: if server == PgVersion::V15 { 0 } else { -1 },
            ..Column::text(name)
        });
        BackendMessage::RowDescription(columns.into()).encode(out);
    }

    /// Appends the row and CommandComplete.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let filename = Bytes::from(self.filename.clone());
        let row = vec![Some(filename), Some(self.content.clone())];
        BackendMessage::DataRow(row).encode(out);
        BackendMessage::CommandComplete("TIMELINE_HISTORY".to_string()).encode(out);
    }

    /// Decodes the row, which must have two columns that are not NULL
    /// (`libpqrcv_readtimelinehistoryfile`).
    #[must_use]
    pub fn from_row(row: &[Option<Bytes>]) -> Option<Self> {
        let [Some(filename), Some(content)] = row else {
            return None;
        };
        Some(Self {
            filename: String::from(core::str::from_utf8(filename).ok()?),
            content: content.clone(),
        })
    }
}
