//! Sequences. Mirrors seqdesc.c.

use super::text::Text;
use crate::wire::payload::PayloadError;
use crate::wire::record::{RMGR_INFO_MASK, RelLocator};

impl Text {
    pub(super) fn seq_desc(&mut self, info: u8, main: &[u8]) -> Result<(), PayloadError> {
        if info & RMGR_INFO_MASK == 0x00 {
            self.add("rel ").rel(RelLocator::decode(main)?);
        }
        Ok(())
    }
}
