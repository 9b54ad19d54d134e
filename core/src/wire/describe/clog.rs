//! Clog pages and pages of commit timestamps. Mirrors clogdesc.c and committsdesc.c.

use super::known;
use super::text::Text;
use crate::base::PgVersion;
use crate::wire::clog_records::{ClogRecord, page_number};
use crate::wire::layout::Cursor;
use crate::wire::payload::PayloadError;
use crate::wire::record::RMGR_INFO_MASK;

impl Text {
    pub(super) fn clog_desc(
        &mut self,
        version: PgVersion,
        info: u8,
        main: &[u8],
    ) -> Result<(), PayloadError> {
        match known(ClogRecord::decode(version, info, main))? {
            Some(ClogRecord::ZeroPage(page)) => _ = self.add("page ").int(page),
            Some(ClogRecord::Truncate {
                page, oldest_xid, ..
            }) => {
                self.add("page ").int(page);
                self.with("; oldestXact ", oldest_xid.0);
            }
            None => {}
        }
        Ok(())
    }

    pub(super) fn commit_ts_desc(
        &mut self,
        version: PgVersion,
        info: u8,
        main: &[u8],
    ) -> Result<(), PayloadError> {
        let mut cursor = Cursor::disk(main);
        match info & RMGR_INFO_MASK {
            0x00 => _ = self.int(page_number(version, &mut cursor)?),
            0x10 => {
                self.add("pageno ").int(page_number(version, &mut cursor)?);
                self.with(", oldestXid ", cursor.take::<u32>("oldestXid")?);
            }
            _ => {}
        }
        Ok(())
    }
}
