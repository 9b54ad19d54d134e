//! Page deltas. Mirrors genericdesc.c.

use super::text::Text;
use crate::wire::layout::Cursor;
use crate::wire::payload::PayloadError;

impl Text {
    pub(super) fn generic_desc(&mut self, main: &[u8]) -> Result<(), PayloadError> {
        let mut cursor = Cursor::disk(main);
        while !cursor.rest().is_empty() {
            let offset: u16 = cursor.take("offset")?;
            let length: u16 = cursor.take("length")?;
            cursor.bytes("data", usize::from(length))?;
            self.with("offset ", offset).with(", length ", length);
            if !cursor.rest().is_empty() {
                self.add("; ");
            }
        }
        Ok(())
    }
}
