//! Tablespaces. Mirrors tblspcdesc.c.

use super::text::Text;
use crate::wire::layout::Cursor;
use crate::wire::payload::PayloadError;
use crate::wire::record::RMGR_INFO_MASK;

impl Text {
    pub(super) fn tblspc_desc(&mut self, info: u8, main: &[u8]) -> Result<(), PayloadError> {
        let mut cursor = Cursor::disk(main);
        match info & RMGR_INFO_MASK {
            0x00 => {
                self.dec(cursor.take::<u32>("ts_id")?);
                self.add(" \"").add(cursor.cstr("ts_path")?).add("\"");
            }
            0x10 => _ = self.dec(cursor.take::<u32>("ts_id")?),
            _ => {}
        }
        Ok(())
    }
}
