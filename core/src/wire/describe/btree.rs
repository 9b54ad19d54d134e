//! B-trees. Mirrors nbtdesc.c.

use super::text::Text;
use crate::base::PgVersion;
use crate::wire::layout::{Cursor, Pad, layout};
use crate::wire::payload::PayloadError;
use crate::wire::record::{RMGR_INFO_MASK, RecordView, RelLocator};
use crate::wire::xlog_records::FullXid;

layout! {
    /// `xl_btree_split`
    struct Split: Disk {
        level: u32,
        firstrightoff: u16,
        newitemoff: u16,
        postingoff: u16,
    }
}

layout! {
    /// `xl_btree_vacuum`
    struct Vacuum: Disk {
        ndeleted: u16,
        nupdated: u16,
    }
}

layout! {
    /// `xl_btree_delete`. In 15 the first field is `latestRemovedXid`. Since 16 a bool follows the
    /// struct. pg_waldump prints this bool since 17.
    struct Delete: Disk {
        horizon: u32,
        counts: Vacuum,
    }
}

layout! {
    /// `xl_btree_mark_page_halfdead`
    struct MarkPageHalfdead: Disk {
        poffset: u16,
        pad: Pad<2>,
        leaf: u32,
        left: u32,
        right: u32,
        topparent: u32,
    }
}

layout! {
    /// `xl_btree_unlink_page`
    struct UnlinkPage: Disk {
        left: u32,
        right: u32,
        level: u32,
        pad: Pad<4>,
        safexid: FullXid,
        leafleft: u32,
        leafright: u32,
        leaftopparent: u32,
    }
}

layout! {
    /// `xl_btree_newroot`
    struct Newroot: Disk {
        root: u32,
        level: u32,
    }
}

layout! {
    /// `xl_btree_reuse_page`. In 15 the last field is `latestRemovedFullXid`. Since 16 a bool
    /// follows the struct, as in [`Delete`].
    struct ReusePage: Disk {
        rel: RelLocator,
        block: u32,
        horizon: FullXid,
    }
}

layout! {
    /// The first part of `xl_btree_metadata`.
    struct Metadata: Disk {
        version: u32,
        root: u32,
        level: u32,
        fastroot: u32,
        fastlevel: u32,
        last_cleanup_num_delpages: u32,
    }
}

impl Text {
    pub(super) fn btree_desc(
        &mut self,
        version: PgVersion,
        record: &RecordView<'_>,
    ) -> Result<(), PayloadError> {
        // PostgreSQL 15 prints spaces where later versions print colons. It prints semicolons
        // between most fields.
        let old = version == PgVersion::V15;
        let (info, main) = (record.header.info & RMGR_INFO_MASK, record.main());
        let mut cursor = Cursor::disk(main);
        match info {
            0x00..=0x20 | 0x50 => {
                let offnum: u16 = cursor.take("offnum")?;
                self.with(if old { "off " } else { "off: " }, offnum);
            }
            0x30 | 0x40 => self.btree_split(old, &Split::decode(main)?),
            0x60 => {
                let label = if old { "nintervals " } else { "nintervals: " };
                self.with(label, cursor.take::<u16>("nintervals")?);
            }
            0x70 => {
                let delete: Delete = cursor.take("xl_btree_delete")?;
                if old {
                    self.with("latestRemovedXid ", delete.horizon).add("; ");
                } else {
                    self.with("snapshotConflictHorizon: ", delete.horizon)
                        .add(", ");
                }
                self.btree_counts(old, delete.counts);
                if version >= PgVersion::V17 {
                    self.add(", isCatalogRel: ")
                        .letter(cursor.take("isCatalogRel")?);
                }
                self.btree_deleted(old, delete.counts, record.block_data(0))?;
            }
            0x80 | 0x90 => self.btree_unlink_page(old, &UnlinkPage::decode(main)?),
            0xA0 => {
                let label = if old { "lev " } else { "level: " };
                self.with(label, Newroot::decode(main)?.level);
            }
            0xB0 => self.btree_halfdead(old, &MarkPageHalfdead::decode(main)?),
            0xC0 => {
                let counts = Vacuum::decode(main)?;
                self.btree_counts(old, counts);
                self.btree_deleted(old, counts, record.block_data(0))?;
            }
            0xD0 => {
                let reuse: ReusePage = cursor.take("xl_btree_reuse_page")?;
                self.add(if old { "rel " } else { "rel: " }).rel(reuse.rel);
                self.add(if old {
                    "; latestRemovedXid "
                } else {
                    ", snapshotConflictHorizon: "
                });
                self.full_xid(reuse.horizon);
                if version >= PgVersion::V17 {
                    self.add(", isCatalogRel: ")
                        .letter(cursor.take("isCatalogRel")?);
                }
            }
            0xE0 => {
                let metadata = Metadata::decode(record.block_data(0))?;
                self.with(
                    if old {
                        "last_cleanup_num_delpages "
                    } else {
                        "last_cleanup_num_delpages: "
                    },
                    metadata.last_cleanup_num_delpages,
                );
            }
            _ => {}
        }
        Ok(())
    }

    fn btree_split(&mut self, old: bool, split: &Split) {
        let colon = if old { " " } else { ": " };
        self.add("level").with(colon, split.level);
        self.add(", firstrightoff").with(colon, split.firstrightoff);
        self.add(", newitemoff").with(colon, split.newitemoff);
        self.add(", postingoff").with(colon, split.postingoff);
    }

    fn btree_counts(&mut self, old: bool, counts: Vacuum) {
        self.with(
            if old { "ndeleted " } else { "ndeleted: " },
            counts.ndeleted,
        );
        self.with(
            if old { "; nupdated " } else { ", nupdated: " },
            counts.nupdated,
        );
    }

    fn btree_unlink_page(&mut self, old: bool, unlink: &UnlinkPage) {
        let (colon, next) = if old { (" ", "; ") } else { (": ", ", ") };
        self.add("left").with(colon, unlink.left).add(next);
        self.add("right").with(colon, unlink.right).add(next);
        self.add("level").with(colon, unlink.level).add(next);
        self.add("safexid").add(colon).full_xid(unlink.safexid);
        self.add(next);
        self.add("leafleft").with(colon, unlink.leafleft).add(next);
        self.add("leafright")
            .with(colon, unlink.leafright)
            .add(next);
        self.add("leaftopparent").with(colon, unlink.leaftopparent);
    }

    fn btree_halfdead(&mut self, old: bool, mark: &MarkPageHalfdead) {
        let (colon, next) = if old { (" ", "; ") } else { (": ", ", ") };
        self.add("topparent").with(colon, mark.topparent).add(next);
        self.add("leaf").with(colon, mark.leaf).add(next);
        self.add("left").with(colon, mark.left).add(next);
        self.add("right").with(colon, mark.right);
    }

    /// `delvacuum_desc`, since 16.
    fn btree_deleted(
        &mut self,
        old: bool,
        counts: Vacuum,
        data: &[u8],
    ) -> Result<(), PayloadError> {
        if old || data.is_empty() {
            return Ok(());
        }
        let mut cursor = Cursor::disk(data);
        let deleted = cursor.bytes("deleted", 2 * usize::from(counts.ndeleted))?;
        let updated = cursor.bytes("updated", 2 * usize::from(counts.nupdated))?;
        self.add(", deleted:").offsets(deleted);
        self.add(", updated: [");
        let mut separator = "";
        for offset in updated.chunks_exact(2) {
            let offset = u16::from_le_bytes([offset[0], offset[1]]);
            let nptids: u16 = cursor.take("ndeletedtids")?;
            let ptids = cursor.bytes("deletedtids", 2 * usize::from(nptids))?;
            self.add(separator).with("{ off: ", offset);
            self.with(", nptids: ", nptids).add(", ptids: [");
            self.joined(ptids.chunks_exact(2), |text, ptid| {
                text.dec(u16::from_le_bytes([ptid[0], ptid[1]]));
            });
            self.add("] }");
            separator = ", ";
        }
        self.add("]");
        Ok(())
    }
}
