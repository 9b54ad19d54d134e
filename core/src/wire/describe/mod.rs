//! What a record says, as pg_waldump prints it. Mirrors access/rmgrdesc, for the resource managers whose records we know
//! to the last field; of the others nothing is said but the name of the type.
//!
//! The words are those of the version that wrote the record.

mod relpath;
mod standby;
mod text;
mod time;
mod xact;
mod xlog;

pub use relpath::{fork_name, fork_number};
pub use text::Text;

use super::layout::Cursor;
use super::logical_message::LogicalMessage;
use super::payload::PayloadError;
use super::record::{RMGR_INFO_MASK, RecordView, RmgrId};
use super::smgr_records::SmgrRecord;
use crate::base::PgVersion;
use bytes::Bytes;

impl Text {
    /// Adds the description of a record (`rm_desc`).
    ///
    /// # Errors
    /// The main data is none that PostgreSQL writes. Its programs would print what lies behind it, or crash.
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
            RmgrId::STANDBY => self.standby_desc(version, info, main),
            RmgrId::GENERIC => self.generic_desc(main),
            RmgrId::LOGICAL_MESSAGE => self.logicalmsg_desc(info, main),
            rmid if rmid.name().is_none() => {
                self.add("rmid: ").dec(rmid.0);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn smgr_desc(&mut self, version: PgVersion, info: u8, main: &[u8]) -> Result<(), PayloadError> {
        match known(SmgrRecord::decode(info, main))? {
            Some(SmgrRecord::Create(create)) => {
                let fork = fork_name(create.fork).ok_or(PayloadError::BadFork(create.fork))?;
                self.relpath(version, create.rel, fork);
            }
            Some(SmgrRecord::Truncate(truncate)) => {
                self.relpath(version, truncate.rel, "main")
                    .add(" to ")
                    .dec(truncate.blocks)
                    .add(" blocks flags ")
                    .int(truncate.flags);
            }
            None => {}
        }
        Ok(())
    }

    fn generic_desc(&mut self, main: &[u8]) -> Result<(), PayloadError> {
        let mut cursor = Cursor::disk(main);
        while !cursor.rest().is_empty() {
            let offset: u16 = cursor.take("offset")?;
            let length: u16 = cursor.take("length")?;
            cursor.bytes("data", usize::from(length))?;
            self.add("offset ").dec(offset).add(", length ").dec(length);
            if !cursor.rest().is_empty() {
                self.add("; ");
            }
        }
        Ok(())
    }

    fn logicalmsg_desc(&mut self, info: u8, main: &[u8]) -> Result<(), PayloadError> {
        if info & RMGR_INFO_MASK != LogicalMessage::INFO {
            return Ok(());
        }
        let message = LogicalMessage::decode(info, &Bytes::copy_from_slice(main))?;
        let kind = if message.transactional {
            "transactional"
        } else {
            "non-transactional"
        };
        self.add(kind)
            .add(", prefix \"")
            .cstr(&message.prefix)
            .add("\"; payload (")
            .dec(message.message.len() as u64)
            .add(" bytes): ")
            .hex_dump(&message.message);
        Ok(())
    }
}

/// A type that does not exist is not described; everything else must be as announced.
fn known<T>(decoded: Result<T, PayloadError>) -> Result<Option<T>, PayloadError> {
    match decoded {
        Ok(record) => Ok(Some(record)),
        Err(PayloadError::UnknownType { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
