//! GiST indexes. Mirrors gistdesc.c.

use super::text::Text;
use crate::base::PgVersion;
use crate::wire::layout::{Cursor, Pad, layout};
use crate::wire::payload::PayloadError;
use crate::wire::record::{RMGR_INFO_MASK, RelLocator};
use crate::wire::xlog_records::FullXid;

layout! {
    /// `gistxlogDelete`. In 15 the first field is `latestRemovedXid`. Since 16 a bool follows the
    /// struct. pg_waldump prints this bool since 17.
    struct Delete: Disk {
        horizon: u32,
        ntodelete: u16,
    }
}

layout! {
    /// `gistxlogPageReuse`. Since 16 a bool follows the struct, as in [`Delete`].
    struct PageReuse: Disk {
        rel: RelLocator,
        block: u32,
        horizon: FullXid,
    }
}

layout! {
    /// The first part of `gistxlogPageSplit`.
    struct PageSplit: Disk {
        origrlink: u32,
        pad: Pad<4>,
        orignsn: u64,
        origleaf: bool,
        pad2: Pad<1>,
        npage: u16,
    }
}

layout! {
    /// `gistxlogPageDelete`
    struct PageDelete: Disk {
        delete_xid: FullXid,
        downlink: u16,
    }
}

impl Text {
    pub(super) fn gist_desc(
        &mut self,
        version: PgVersion,
        info: u8,
        main: &[u8],
    ) -> Result<(), PayloadError> {
        let horizon = if version == PgVersion::V15 {
            "latestRemovedXid "
        } else {
            "snapshotConflictHorizon "
        };
        let mut cursor = Cursor::disk(main);
        let of_catalog = match info & RMGR_INFO_MASK {
            0x10 => {
                let delete: Delete = cursor.take("gistxlogDelete")?;
                self.add("delete: ").with(horizon, delete.horizon);
                self.with(", nitems: ", delete.ntodelete);
                true
            }
            0x20 => {
                let reuse: PageReuse = cursor.take("gistxlogPageReuse")?;
                self.add("rel ").rel(reuse.rel);
                self.with("; blk ", reuse.block).add("; ");
                self.add(horizon).full_xid(reuse.horizon);
                true
            }
            0x30 => {
                let split = PageSplit::decode(main)?;
                self.with("page_split: splits to ", split.npage)
                    .add(" pages");
                false
            }
            0x60 => {
                let delete = PageDelete::decode(main)?;
                self.add("deleteXid ").full_xid(delete.delete_xid);
                self.with("; downlink ", delete.downlink);
                false
            }
            _without_details => false,
        };
        if of_catalog && version >= PgVersion::V17 {
            self.add(", isCatalogRel ")
                .letter(cursor.take("isCatalogRel")?);
        }
        Ok(())
    }
}
