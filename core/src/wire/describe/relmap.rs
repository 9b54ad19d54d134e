//! Relation maps. Mirrors relmapdesc.c.

use super::text::Text;
use crate::wire::layout::layout;
use crate::wire::payload::PayloadError;
use crate::wire::record::RMGR_INFO_MASK;

layout! {
    /// `xl_relmap_update`
    struct Update: Disk {
        db: u32,
        tablespace: u32,
        nbytes: i32,
    }
}

impl Text {
    pub(super) fn relmap_desc(&mut self, info: u8, main: &[u8]) -> Result<(), PayloadError> {
        if info & RMGR_INFO_MASK == 0x00 {
            let update = Update::decode(main)?;
            self.with("database ", update.db);
            self.with(" tablespace ", update.tablespace);
            self.add(" size ").int(update.nbytes);
        }
        Ok(())
    }
}
