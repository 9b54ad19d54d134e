//! Hash indexes. Mirrors hashdesc.c.

use super::text::Text;
use crate::base::PgVersion;
use crate::wire::layout::{Cursor, layout};
use crate::wire::payload::PayloadError;
use crate::wire::record::RMGR_INFO_MASK;

layout! {
    /// `xl_hash_init_meta_page`. The first field is a double.
    struct InitMetaPage: Disk {
        num_tuples: u64,
        procid: u32,
        ffactor: u16,
    }
}

layout! {
    /// `xl_hash_add_ovfl_page`
    struct AddOvflPage: Disk {
        bmsize: u16,
        bmpage_found: bool,
    }
}

layout! {
    /// `xl_hash_split_allocate_page`
    struct SplitAllocatePage: Disk {
        new_bucket: u32,
        old_bucket_flag: u16,
        new_bucket_flag: u16,
        flags: u8,
    }
}

layout! {
    /// `xl_hash_split_complete`
    struct SplitComplete: Disk {
        old_bucket_flag: u16,
        new_bucket_flag: u16,
    }
}

layout! {
    /// `xl_hash_move_page_contents`
    struct Moved: Disk {
        ntups: u16,
        is_primary: bool,
    }
}

layout! {
    /// `xl_hash_squeeze_page`
    struct SqueezePage: Disk {
        prev: u32,
        next: u32,
        moved: Moved,
    }
}

layout! {
    /// `xl_hash_delete`
    struct Delete: Disk {
        clear_dead_marking: bool,
        is_primary: bool,
    }
}

/// `XLH_SPLIT_META_UPDATE_MASKS`
const UPDATE_MASKS: u8 = 1 << 0;
/// `XLH_SPLIT_META_UPDATE_SPLITPOINT`
const UPDATE_SPLITPOINT: u8 = 1 << 1;

impl Text {
    pub(super) fn hash_desc(
        &mut self,
        version: PgVersion,
        info: u8,
        main: &[u8],
    ) -> Result<(), PayloadError> {
        let mut cursor = Cursor::disk(main);
        match info & RMGR_INFO_MASK {
            0x00 => {
                let init = InitMetaPage::decode(main)?;
                self.add("num_tuples ").double(init.num_tuples);
                if version >= PgVersion::V19 {
                    self.with(", procid ", init.procid);
                }
                self.with(", fillfactor ", init.ffactor);
            }
            0x10 => _ = self.with("bmsize ", cursor.take::<u16>("bmsize")?),
            0x20 => _ = self.with("off ", cursor.take::<u16>("offnum")?),
            0x30 => {
                let add = AddOvflPage::decode(main)?;
                self.with("bmsize ", add.bmsize);
                self.add(", bmpage_found ").letter(add.bmpage_found);
            }
            0x40 => {
                let split = SplitAllocatePage::decode(main)?;
                self.with("new_bucket ", split.new_bucket);
                if version >= PgVersion::V19 {
                    self.with(", old_bucket_flag ", split.old_bucket_flag);
                    self.with(", new_bucket_flag ", split.new_bucket_flag);
                }
                self.add(", meta_page_masks_updated ")
                    .letter(split.flags & UPDATE_MASKS != 0);
                self.add(", issplitpoint_changed ")
                    .letter(split.flags & UPDATE_SPLITPOINT != 0);
            }
            0x60 => {
                let split = SplitComplete::decode(main)?;
                self.with("old_bucket_flag ", split.old_bucket_flag);
                self.with(", new_bucket_flag ", split.new_bucket_flag);
            }
            0x70 => self.moved(Moved::decode(main)?),
            0x80 => {
                let squeeze: SqueezePage = cursor.take("xl_hash_squeeze_page")?;
                self.with("prevblkno ", squeeze.prev);
                self.with(", nextblkno ", squeeze.next).add(", ");
                self.moved(squeeze.moved);
                if version >= PgVersion::V19 {
                    self.add(", is_previous ")
                        .letter(cursor.take("is_prev_bucket_same_wrt")?);
                }
            }
            0x90 => {
                let delete = Delete::decode(main)?;
                self.add("clear_dead_marking ")
                    .letter(delete.clear_dead_marking);
                self.add(", is_primary ").letter(delete.is_primary);
            }
            0xB0 => _ = self.add("ntuples ").double(cursor.take("ntuples")?),
            0xC0 => self.vacuum_one_page(version, &mut cursor)?,
            _ => {}
        }
        Ok(())
    }

    fn moved(&mut self, moved: Moved) {
        self.with("ntups ", moved.ntups);
        self.add(", is_primary ").letter(moved.is_primary);
    }

    /// `xl_hash_vacuum_one_page`. The count has 32 bits in 15 and 16 bits since 16.
    fn vacuum_one_page(
        &mut self,
        version: PgVersion,
        cursor: &mut Cursor<'_>,
    ) -> Result<(), PayloadError> {
        let horizon: u32 = cursor.take("snapshotConflictHorizon")?;
        if version == PgVersion::V15 {
            self.add("ntuples ").int(cursor.take::<i32>("ntuples")?);
            self.with(", latestRemovedXid ", horizon);
            return Ok(());
        }
        self.with("ntuples ", cursor.take::<u16>("ntuples")?);
        self.with(", snapshotConflictHorizon ", horizon);
        if version >= PgVersion::V17 {
            self.add(", isCatalogRel ")
                .letter(cursor.take("isCatalogRel")?);
        }
        Ok(())
    }
}
