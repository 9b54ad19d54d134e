//! Logical decoding messages. Mirrors logicalmsgdesc.c.

use super::text::Text;
use crate::wire::logical_message::{LogicalMessage, LogicalMessageParts};
use crate::wire::payload::PayloadError;
use crate::wire::record::RMGR_INFO_MASK;

impl Text {
    pub(super) fn logicalmsg_desc(&mut self, info: u8, main: &[u8]) -> Result<(), PayloadError> {
        if info & RMGR_INFO_MASK != LogicalMessage::INFO {
            return Ok(());
        }
        let message = LogicalMessageParts::decode(main)?;
        let kind = if message.transactional {
            "transactional"
        } else {
            "non-transactional"
        };
        self.add(kind)
            .add(", prefix \"")
            .cstr(message.prefix)
            .add("\"; payload (")
            .dec(message.message.len() as u64)
            .add(" bytes): ")
            .hex_dump(message.message);
        Ok(())
    }
}
