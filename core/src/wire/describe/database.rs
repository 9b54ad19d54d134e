//! Databases. Mirrors dbasedesc.c.

use super::text::Text;
use crate::wire::layout::{Cursor, layout};
use crate::wire::payload::{PayloadError, count};
use crate::wire::record::RMGR_INFO_MASK;

layout! {
    /// `xl_dbase_create_file_copy_rec`
    struct CreateFileCopy: Disk {
        db: u32,
        tablespace: u32,
        src_db: u32,
        src_tablespace: u32,
    }
}

layout! {
    /// `xl_dbase_create_wal_log_rec`
    struct CreateWalLog: Disk {
        db: u32,
        tablespace: u32,
    }
}

layout! {
    /// `xl_dbase_drop_rec`
    struct Drop: Disk {
        db: u32,
        ntablespaces: i32,
    }
}

impl Text {
    pub(super) fn dbase_desc(&mut self, info: u8, main: &[u8]) -> Result<(), PayloadError> {
        match info & RMGR_INFO_MASK {
            0x00 => {
                let create = CreateFileCopy::decode(main)?;
                self.with("copy dir ", create.src_tablespace);
                self.with("/", create.src_db);
                self.with(" to ", create.tablespace).with("/", create.db);
            }
            0x10 => {
                let create = CreateWalLog::decode(main)?;
                self.with("create dir ", create.tablespace);
                self.with("/", create.db);
            }
            0x20 => {
                let mut cursor = Cursor::disk(main);
                let drop: Drop = cursor.take("xl_dbase_drop_rec")?;
                self.add("dir");
                for _ in 0..count("ntablespaces", drop.ntablespaces)? {
                    let tablespace: u32 = cursor.take("tablespace_ids")?;
                    self.with(" ", tablespace).with("/", drop.db);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
