//! GIN indexes. Mirrors gindesc.c.

use super::text::Text;
use crate::base::PgVersion;
use crate::wire::layout::{Cursor, Pad, Short, layout};
use crate::wire::payload::PayloadError;
use crate::wire::record::{APPLY, BlockView, RMGR_INFO_MASK, RecordView, RelLocator};

layout! {
    /// `BlockIdData`
    struct BlockId: Disk {
        high: u16,
        low: u16,
    }
}

layout! {
    /// The first part of `ginxlogInsertEntry`.
    struct InsertEntry: Disk {
        offset: u16,
        is_delete: bool,
    }
}

layout! {
    /// `ginxlogInsertDataInternal`
    struct InsertDataInternal: Disk {
        offset: u16,
        child: BlockId,
        key_block: BlockId,
        key_offset: u16,
    }
}

layout! {
    /// `ginxlogSplit`
    struct Split: Disk {
        rel: RelLocator,
        rrlink: u32,
        left_child: u32,
        right_child: u32,
        flags: u16,
    }
}

layout! {
    /// `ginxlogUpdateMeta`, which is described since 19.
    struct UpdateMeta: Disk {
        rel: RelLocator,
        pad: Pad<4>,
        metadata: Pad<56>,
        prev_tail: u32,
        new_rightlink: u32,
        ntuples: i32,
    }
}

layout! {
    /// `ginxlogInsertListPage`, which is described since 19.
    struct InsertListPage: Disk {
        rightlink: u32,
        ntuples: i32,
    }
}

layout! {
    /// `ginxlogDeleteListPages`
    struct DeleteListPages: Disk {
        metadata: Pad<56>,
        ndeleted: i32,
    }
}

/// `GIN_INSERT_ISDATA`
const IS_DATA: u16 = 0x01;
/// `GIN_INSERT_ISLEAF`
const IS_LEAF: u16 = 0x02;
/// `GIN_SPLIT_ROOT`
const SPLIT_ROOT: u16 = 0x04;

impl BlockId {
    fn number(self) -> u32 {
        u32::from(self.high) << 16 | u32::from(self.low)
    }
}

impl Text {
    pub(super) fn gin_desc(
        &mut self,
        version: PgVersion,
        record: &RecordView<'_>,
    ) -> Result<(), PayloadError> {
        let main = record.main();
        match record.header.info & RMGR_INFO_MASK {
            0x20 => self.gin_insert(version, record)?,
            0x30 => {
                let split = Split::decode(main)?;
                self.add("isrootsplit: ")
                    .letter(split.flags & SPLIT_ROOT != 0)
                    .add(" ");
                self.gin_kind(split.flags);
            }
            0x60 if version >= PgVersion::V19 => {
                let update = UpdateMeta::decode(main)?;
                self.add("ntuples: ").int(update.ntuples);
                if update.prev_tail != u32::MAX {
                    self.with(" prevTail: ", update.prev_tail);
                    self.with(" newRightlink: ", update.new_rightlink);
                }
            }
            0x70 if version >= PgVersion::V19 => {
                let insert = InsertListPage::decode(main)?;
                self.add("ntuples: ").int(insert.ntuples);
            }
            0x80 => {
                let deleted = DeleteListPages::decode(main)?;
                self.add("ndeleted: ").int(deleted.ndeleted);
            }
            0x90 => {
                let block = record.block(0);
                if !self.gin_image(version, block.as_ref()) {
                    self.recompress_leaf(block.map_or(&[], |block| block.data))?;
                }
            }
            _without_further_information => {}
        }
        Ok(())
    }

    fn gin_insert(
        &mut self,
        version: PgVersion,
        record: &RecordView<'_>,
    ) -> Result<(), PayloadError> {
        let mut cursor = Cursor::disk(record.main());
        let flags: u16 = cursor.take("flags")?;
        self.gin_kind(flags);
        if flags & IS_LEAF == 0 {
            let (left, right): (BlockId, BlockId) = (cursor.take("left")?, cursor.take("right")?);
            self.with(" children: ", left.number());
            self.with("/", right.number());
        }
        let block = record.block(0);
        if self.gin_image(version, block.as_ref()) {
            return Ok(());
        }
        let data = block.map_or(&[][..], |block| block.data);
        if flags & IS_DATA == 0 {
            let entry = InsertEntry::decode(data)?;
            self.add(" isdelete: ").letter(entry.is_delete);
        } else if flags & IS_LEAF != 0 {
            self.recompress_leaf(data)?;
        } else {
            let item = InsertDataInternal::decode(data)?;
            self.with(" pitem: ", item.child.number());
            self.with("-", item.key_block.number());
            self.with("/", item.key_offset);
        }
        Ok(())
    }

    fn gin_kind(&mut self, flags: u16) {
        self.add("isdata: ").letter(flags & IS_DATA != 0);
        self.add(" isleaf: ").letter(flags & IS_LEAF != 0);
    }

    /// Returns whether the block has a full-page image. Before 19, adds a note if there is an
    /// image.
    fn gin_image(&mut self, version: PgVersion, block: Option<&BlockView<'_>>) -> bool {
        let Some(image) = block.and_then(|block| block.header.image) else {
            return false;
        };
        if version >= PgVersion::V19 {
            return true;
        }
        self.add(if image.info & APPLY != 0 {
            " (full page image)"
        } else {
            " (full page image, for WAL verification)"
        });
        true
    }

    /// `desc_recompress_leaf`
    fn recompress_leaf(&mut self, data: &[u8]) -> Result<(), Short> {
        let mut cursor = Cursor::disk(data);
        let nactions: u16 = cursor.take("nactions")?;
        self.with(" ", nactions).add(" segments:");
        for _ in 0..nactions {
            let segno: u8 = cursor.take("segno")?;
            let action: u8 = cursor.take("action")?;
            self.with(" ", segno);
            match action {
                1 => _ = self.add(" (delete)"),
                2 | 3 => {
                    // A GinPostingList: the first item, a length, and that number of bytes.
                    cursor.bytes("first", 6)?;
                    let nbytes: u16 = cursor.take("nbytes")?;
                    cursor.bytes("bytes", usize::from(nbytes).next_multiple_of(2))?;
                    self.add(if action == 2 {
                        " (insert)"
                    } else {
                        " (replace)"
                    });
                }
                4 => {
                    let nitems: u16 = cursor.take("nitems")?;
                    cursor.bytes("items", 6 * usize::from(nitems))?;
                    self.with(" (add ", nitems).add(" items)");
                }
                _ => {
                    self.with(" unknown action ", action).add(" ???");
                    break;
                }
            }
        }
        Ok(())
    }
}
