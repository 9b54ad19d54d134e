//! Replication origins. Mirrors replorigindesc.c.

use super::text::Text;
use crate::base::{Lsn, PgVersion};
use crate::wire::layout::{Cursor, layout};
use crate::wire::payload::PayloadError;
use crate::wire::record::RMGR_INFO_MASK;

layout! {
    /// `xl_replorigin_set`
    struct Set: Disk {
        remote_lsn: Lsn,
        node: u16,
        force: bool,
    }
}

impl Text {
    pub(super) fn replorigin_desc(
        &mut self,
        version: PgVersion,
        info: u8,
        main: &[u8],
    ) -> Result<(), PayloadError> {
        match info & RMGR_INFO_MASK {
            0x00 => {
                let set = Set::decode(main)?;
                self.with("set ", set.node);
                self.add("; lsn ").lsn_of(version, set.remote_lsn);
                self.with("; force: ", u8::from(set.force));
            }
            0x10 => {
                let node: u16 = Cursor::disk(main).take("node_id")?;
                self.with("drop ", node);
            }
            _ => {}
        }
        Ok(())
    }
}
