//! SP-GiST indexes. Mirrors spgdesc.c.

use super::text::Text;
use crate::base::PgVersion;
use crate::wire::layout::{Cursor, Pad, layout};
use crate::wire::payload::PayloadError;
use crate::wire::record::RMGR_INFO_MASK;

layout! {
    /// `spgxlogAddLeaf`
    struct AddLeaf: Disk {
        new_page: bool,
        stores_nulls: bool,
        leaf: u16,
        head_leaf: u16,
        parent: u16,
        node: u16,
    }
}

layout! {
    /// `spgxlogMoveLeafs`
    struct MoveLeafs: Disk {
        nmoves: u16,
        new_page: bool,
        replace_dead: bool,
        stores_nulls: bool,
        pad: Pad<1>,
        parent: u16,
        node: u16,
    }
}

layout! {
    /// `spgxlogAddNode`
    struct AddNode: Disk {
        offnum: u16,
        new: u16,
        new_page: bool,
        parent_blk: i8,
        parent: u16,
        node: u16,
    }
}

layout! {
    /// `spgxlogSplitTuple`
    struct SplitTuple: Disk {
        prefix: u16,
        postfix: u16,
        new_page: bool,
        same_page: bool,
    }
}

layout! {
    /// `spgxlogPickSplit`
    struct PickSplit: Disk {
        is_root_split: bool,
        pad: Pad<1>,
        ndelete: u16,
        ninsert: u16,
        init: Pad<2>,
        inner: u16,
        init_inner: Pad<1>,
        stores_nulls: bool,
        inner_is_parent: bool,
        pad2: Pad<1>,
        parent: u16,
        node: u16,
    }
}

layout! {
    /// `spgxlogVacuumLeaf`
    struct VacuumLeaf: Disk {
        ndead: u16,
        nplaceholder: u16,
        nmove: u16,
        nchain: u16,
    }
}

layout! {
    /// `spgxlogVacuumRedirect`. In 15 the last field is `newestRedirectXid`. Since 16 a bool
    /// follows the struct.
    struct VacuumRedirect: Disk {
        to_placeholder: u16,
        first_placeholder: u16,
        horizon: u32,
    }
}

impl Text {
    pub(super) fn spg_desc(
        &mut self,
        version: PgVersion,
        info: u8,
        main: &[u8],
    ) -> Result<(), PayloadError> {
        match info & RMGR_INFO_MASK {
            0x10 => {
                let add = AddLeaf::decode(main)?;
                self.with("off: ", add.leaf);
                self.with(", headoff: ", add.head_leaf);
                self.spg_parent(add.parent, add.node);
                self.if_set(add.new_page, " (newpage)");
                self.if_set(add.stores_nulls, " (nulls)");
            }
            0x20 => {
                let moved = MoveLeafs::decode(main)?;
                self.with("nmoves: ", moved.nmoves);
                self.spg_parent(moved.parent, moved.node);
                self.if_set(moved.new_page, " (newpage)");
                self.if_set(moved.replace_dead, " (replacedead)");
                self.if_set(moved.stores_nulls, " (nulls)");
            }
            0x30 => {
                let add = AddNode::decode(main)?;
                self.with("off: ", add.offnum);
                self.with(", newoff: ", add.new);
                self.add(", parentBlk: ").int(add.parent_blk);
                self.spg_parent(add.parent, add.node);
                self.if_set(add.new_page, " (newpage)");
            }
            0x40 => {
                let split = SplitTuple::decode(main)?;
                self.with("prefixoff: ", split.prefix);
                self.with(", postfixoff: ", split.postfix);
                self.if_set(split.new_page, " (newpage)");
                self.if_set(split.same_page, " (same)");
            }
            0x50 => {
                let split = PickSplit::decode(main)?;
                self.with("ndelete: ", split.ndelete);
                self.with(", ninsert: ", split.ninsert);
                self.with(", inneroff: ", split.inner);
                self.spg_parent(split.parent, split.node);
                self.if_set(split.inner_is_parent, " (innerIsParent)");
                self.if_set(split.stores_nulls, " (nulls)");
                self.if_set(split.is_root_split, " (isRootSplit)");
            }
            0x60 => {
                let vacuum = VacuumLeaf::decode(main)?;
                self.with("ndead: ", vacuum.ndead);
                self.with(", nplaceholder: ", vacuum.nplaceholder);
                self.with(", nmove: ", vacuum.nmove);
                self.with(", nchain: ", vacuum.nchain);
            }
            0x70 => {
                let ndelete: u16 = Cursor::disk(main).take("nDelete")?;
                self.with("ndelete: ", ndelete);
            }
            0x80 => self.vacuum_redirect(version, main)?,
            _ => {}
        }
        Ok(())
    }

    fn spg_parent(&mut self, offset: u16, node: u16) {
        self.with(", parentoff: ", offset);
        self.with(", nodeI: ", node);
    }

    fn vacuum_redirect(&mut self, version: PgVersion, main: &[u8]) -> Result<(), PayloadError> {
        let mut cursor = Cursor::disk(main);
        let vacuum: VacuumRedirect = cursor.take("spgxlogVacuumRedirect")?;
        self.with("ntoplaceholder: ", vacuum.to_placeholder);
        self.with(", firstplaceholder: ", vacuum.first_placeholder);
        let label = if version == PgVersion::V15 {
            ", newestredirectxid: "
        } else {
            ", snapshotConflictHorizon: "
        };
        self.with(label, vacuum.horizon);
        if version >= PgVersion::V17 {
            self.add(", isCatalogRel: ")
                .letter(cursor.take("isCatalogRel")?);
        }
        Ok(())
    }
}
