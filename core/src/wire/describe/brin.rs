//! BRIN indexes. Mirrors brindesc.c.

use super::text::Text;
use crate::wire::layout::{Cursor, Pad, layout};
use crate::wire::payload::PayloadError;

/// All bits of the record type except XLOG_BRIN_INIT_PAGE (`XLOG_BRIN_OPMASK`).
const OP_MASK: u8 = 0x70;

layout! {
    /// `xl_brin_createidx`
    struct CreateIndex: Disk {
        pages_per_range: u32,
        version: u16,
    }
}

layout! {
    /// `xl_brin_insert`
    struct Insert: Disk {
        heap_blk: u32,
        pages_per_range: u32,
        offnum: u16,
    }
}

layout! {
    /// `xl_brin_update`
    struct Update: Disk {
        old_offnum: u16,
        pad: Pad<2>,
        insert: Insert,
    }
}

layout! {
    /// `xl_brin_desummarize`
    struct Desummarize: Disk {
        pages_per_range: u32,
        heap_blk: u32,
        reg_offset: u16,
    }
}

impl Text {
    pub(super) fn brin_desc(&mut self, info: u8, main: &[u8]) -> Result<(), PayloadError> {
        let mut cursor = Cursor::disk(main);
        match info & OP_MASK {
            0x00 => {
                let create = CreateIndex::decode(main)?;
                self.with("v", create.version);
                self.with(" pagesPerRange ", create.pages_per_range);
            }
            0x10 => {
                let insert = Insert::decode(main)?;
                self.brin_range(&insert);
                self.with(" offnum ", insert.offnum);
            }
            0x20 => {
                let update = Update::decode(main)?;
                self.brin_range(&update.insert);
                self.with(" old offnum ", update.old_offnum);
                self.with(", new offnum ", update.insert.offnum);
            }
            0x30 => _ = self.with("offnum ", cursor.take::<u16>("offnum")?),
            0x40 => _ = self.with("targetBlk ", cursor.take::<u32>("targetBlk")?),
            0x50 => {
                let desummarize = Desummarize::decode(main)?;
                self.with("pagesPerRange ", desummarize.pages_per_range);
                self.with(", heapBlk ", desummarize.heap_blk);
                self.with(", page offset ", desummarize.reg_offset);
            }
            _ => {}
        }
        Ok(())
    }

    fn brin_range(&mut self, insert: &Insert) {
        self.with("heapBlk ", insert.heap_blk);
        self.with(" pagesPerRange ", insert.pages_per_range);
    }
}
