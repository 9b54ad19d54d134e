//! The result of IDENTIFY_SYSTEM.

use super::super::backend::{BackendMessage, Column};
use crate::base::{Lsn, PgVersion, TimelineId};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::str::FromStr;

/// The row of the result.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SystemIdentity {
    /// The system identifier. initdb generates it, and all copies of the cluster share it.
    pub system_id: u64,
    /// The timeline at the end of the server's WAL.
    pub timeline: TimelineId,
    /// The server's flush position.
    pub xlogpos: Lsn,
    /// The database. NULL in a physical walsender.
    pub dbname: Option<String>,
}

impl SystemIdentity {
    /// Appends RowDescription, row and CommandComplete (`IdentifySystem`).
    pub fn encode(&self, server: PgVersion, out: &mut Vec<u8>) {
        let timeline = match server {
            PgVersion::V15 => Column::int4("timeline"),
            PgVersion::V16 | PgVersion::V17 | PgVersion::V18 | PgVersion::V19 => {
                Column::int8("timeline")
            }
        };
        let columns = vec![
            Column::text("systemid"),
            timeline,
            Column::text("xlogpos"),
            Column::text("dbname"),
        ];
        BackendMessage::RowDescription(columns).encode(out);
        BackendMessage::row([
            Some(self.system_id.to_string()),
            Some(self.timeline.to_string()),
            Some(self.xlogpos.text(server).to_string()),
            self.dbname.clone(),
        ])
        .encode(out);
        BackendMessage::CommandComplete("IDENTIFY_SYSTEM".to_string()).encode(out);
    }

    /// Decodes the row (`libpqrcv_identify_system`). Additional columns are ignored, because later
    /// versions may add columns.
    #[must_use]
    pub fn from_row(row: &[Option<Bytes>]) -> Option<Self> {
        fn text<T: FromStr>(value: &Option<Bytes>) -> Option<T> {
            core::str::from_utf8(value.as_ref()?).ok()?.parse().ok()
        }
        let [system_id, timeline, xlogpos, rest @ ..] = row else {
            return None;
        };
        Some(Self {
            system_id: text(system_id)?,
            timeline: TimelineId(text(timeline)?),
            xlogpos: text(xlogpos)?,
            dbname: rest.first().and_then(text),
        })
    }
}
