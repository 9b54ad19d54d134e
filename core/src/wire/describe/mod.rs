//! Descriptions of WAL records, as pg_waldump prints them. Mirrors access/rmgrdesc, file by file.
//!
//! The text is that of the PostgreSQL version that wrote the record.

mod brin;
mod btree;
mod clog;
mod database;
mod float;
mod generic;
mod gin;
mod gist;
mod hash;
mod heap;
mod heap2;
mod message;
mod multixact;
mod origin;
mod relmap;
mod relpath;
mod sequence;
mod spgist;
mod standby;
mod storage;
mod tablespace;
mod text;
mod time;
mod xact;
mod xlog;

pub use relpath::{fork_name, fork_number};
pub use text::Text;

use super::payload::PayloadError;
use super::record::{RecordView, RmgrId};
use crate::base::PgVersion;

impl Text {
    /// Adds the description of a record (`rm_desc`).
    ///
    /// # Errors
    /// The main data is not valid. pg_waldump does not check this: it prints bytes from beyond the
    /// main data, or crashes.
    pub fn describe(
        &mut self,
        version: PgVersion,
        record: &RecordView<'_>,
    ) -> Result<(), PayloadError> {
        let (info, main) = (record.header.info, record.main());
        match record.header.rmid {
            RmgrId::XLOG => self.xlog_desc(version, info, main),
            RmgrId::TRANSACTION => self.xact_desc(version, record.origin.unwrap_or(0), info, main),
            RmgrId::STORAGE => self.smgr_desc(version, info, main),
            RmgrId::CLOG => self.clog_desc(version, info, main),
            RmgrId::DATABASE => self.dbase_desc(info, main),
            RmgrId::TABLESPACE => self.tblspc_desc(info, main),
            RmgrId::MULTIXACT => self.multixact_desc(version, info, main),
            RmgrId::RELMAP => self.relmap_desc(info, main),
            RmgrId::STANDBY => self.standby_desc(version, info, main),
            RmgrId::HEAP2 => self.heap2_desc(version, record),
            RmgrId::HEAP => self.heap_desc(version, info, main),
            RmgrId::BTREE => self.btree_desc(version, record),
            RmgrId::HASH => self.hash_desc(version, info, main),
            RmgrId::GIN => self.gin_desc(version, record),
            RmgrId::GIST => self.gist_desc(version, info, main),
            RmgrId::SEQUENCE => self.seq_desc(info, main),
            RmgrId::SPGIST => self.spg_desc(version, info, main),
            RmgrId::BRIN => self.brin_desc(info, main),
            RmgrId::COMMIT_TS => self.commit_ts_desc(version, info, main),
            RmgrId::REPLICATION_ORIGIN => self.replorigin_desc(version, info, main),
            RmgrId::GENERIC => self.generic_desc(main),
            RmgrId::LOGICAL_MESSAGE => self.logicalmsg_desc(info, main),
            // The resource manager belongs to an extension. pg_waldump prints only its number
            // (`default_desc`).
            rmid => {
                self.with("rmid: ", rmid.0);
                Ok(())
            }
        }
    }
}

/// Returns `None` for an unknown record type, because such a record has no description. Any other
/// error is returned.
fn known<T>(decoded: Result<T, PayloadError>) -> Result<Option<T>, PayloadError> {
    match decoded {
        Ok(record) => Ok(Some(record)),
        Err(PayloadError::UnknownType { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
