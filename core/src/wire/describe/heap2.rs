//! Records of the Heap2 resource manager: pruning, freezing, visibility. Mirrors heapdesc.c
//! (heap2_desc).

use super::heap::{Marked, OP_MASK};
use super::text::Text;
use crate::base::PgVersion;
use crate::wire::layout::{Cursor, Field, Pad, Short, layout};
use crate::wire::payload::PayloadError;
use crate::wire::record::{RecordView, RelLocator};

layout! {
    /// `xl_heap_visible`. In 15 the first field is `cutoff_xid`.
    struct Visible: Disk {
        horizon: u32,
        flags: u8,
    }
}

layout! {
    /// `xl_heap_multi_insert`
    struct MultiInsert: Disk {
        flags: u8,
        pad: Pad<1>,
        ntuples: u16,
    }
}

layout! {
    /// `xl_heap_new_cid`
    struct NewCid: Disk {
        top_xid: u32,
        cmin: u32,
        cmax: u32,
        combocid: u32,
        rel: RelLocator,
        block_high: u16,
        block_low: u16,
        offset: u16,
    }
}

layout! {
    /// `xl_heap_prune` before 17.
    struct Prune16: Disk {
        horizon: u32,
        nredirected: u16,
        ndead: u16,
    }
}

layout! {
    /// `xl_heap_freeze_page`, before 17. The second field is the number of tuples in 15, and the
    /// number of plans in 16.
    struct FreezePage: Disk {
        horizon: u32,
        nplans: u16,
    }
}

layout! {
    /// `xlhp_freeze_plan`, in 16 `xl_heap_freeze_plan`.
    struct FreezePlan: Disk {
        xmax: u32,
        infomask2: u16,
        infomask: u16,
        frzflags: u8,
        pad: Pad<1>,
        ntuples: u16,
    }
}

/// The bit XLOG_HEAP_INIT_PAGE.
const INIT_PAGE: u8 = 0x80;

/// All tuples of the page are frozen (`XLH_INSERT_ALL_FROZEN_SET`). PostgreSQL 19 prints this flag
/// as bits of the visibility map.
const ALL_FROZEN_SET: u8 = 1 << 5;

/// Flags of `xl_heap_prune` since 17 (`XLHP_…`).
mod prune {
    pub(super) const IS_CATALOG_REL: u16 = 1 << 1;
    pub(super) const HAS_CONFLICT_HORIZON: u16 = 1 << 3;
    pub(super) const HAS_FREEZE_PLANS: u16 = 1 << 4;
    pub(super) const HAS_REDIRECTIONS: u16 = 1 << 5;
    pub(super) const HAS_DEAD_ITEMS: u16 = 1 << 6;
    pub(super) const HAS_NOW_UNUSED_ITEMS: u16 = 1 << 7;
    /// Since 19 the bits to set in the visibility map are above the other flags.
    pub(super) const VM_SHIFT: u32 = 8;
    pub(super) const VM_MASK: u16 = 0x3;
}

impl Text {
    pub(super) fn heap2_desc(
        &mut self,
        version: PgVersion,
        record: &RecordView<'_>,
    ) -> Result<(), PayloadError> {
        let (info, main) = (record.header.info, record.main());
        match (info & OP_MASK, version) {
            (0x10..=0x30, PgVersion::V15) => self.prune_15(info, main)?,
            (0x10, PgVersion::V16) => self.prune_16(main, record.block_data(0))?,
            (0x20, PgVersion::V16) => self.vacuum_16(main, record.block_data(0))?,
            (0x30, PgVersion::V16) => self.freeze_page_16(main, record.block_data(0))?,
            (0x10..=0x30, _) => self.prune(version, main, record.block_data(0))?,
            (0x40, PgVersion::V15) => {
                let visible = Visible::decode(main)?;
                self.with("cutoff xid ", visible.horizon);
                self.add(" flags ").byte(visible.flags);
            }
            (0x40, _) => {
                let visible = Visible::decode(main)?;
                self.with("snapshotConflictHorizon: ", visible.horizon);
                self.add(", flags: ").byte(visible.flags);
            }
            (0x50, PgVersion::V15) => {
                let insert = MultiInsert::decode(main)?;
                self.dec(insert.ntuples);
                self.add(" tuples flags ").byte(insert.flags);
            }
            (0x50, _) => self.multi_insert(version, record)?,
            (0x60, PgVersion::V15) => self.locked_15("xmax", &Marked::decode(main)?),
            (0x60, _) => self.marked(&Marked::decode(main)?),
            (0x70, _) => self.new_cid(version, &NewCid::decode(main)?),
            (_rewrite, _) => {}
        }
        Ok(())
    }

    /// PRUNE, VACUUM and FREEZE_PAGE as PostgreSQL 15 describes them.
    fn prune_15(&mut self, info: u8, main: &[u8]) -> Result<(), PayloadError> {
        match info & OP_MASK {
            0x10 => {
                let prune = Prune16::decode(main)?;
                self.with("latestRemovedXid ", prune.horizon);
                self.with(" nredirected ", prune.nredirected);
                self.with(" ndead ", prune.ndead);
            }
            0x20 => {
                let nunused: u16 = Cursor::disk(main).take("nunused")?;
                self.with("nunused ", nunused);
            }
            _freeze_page => {
                let freeze = FreezePage::decode(main)?;
                self.with("cutoff xid ", freeze.horizon);
                self.with(" ntuples ", freeze.nplans);
            }
        }
        Ok(())
    }

    fn prune_16(&mut self, main: &[u8], data: &[u8]) -> Result<(), PayloadError> {
        let prune = Prune16::decode(main)?;
        self.with("snapshotConflictHorizon: ", prune.horizon);
        self.with(", nredirected: ", prune.nredirected);
        self.with(", ndead: ", prune.ndead);
        if data.is_empty() {
            return Ok(());
        }
        let mut cursor = Cursor::disk(data);
        let redirected = cursor.bytes("redirected", 4 * usize::from(prune.nredirected))?;
        let dead = cursor.bytes("nowdead", 2 * usize::from(prune.ndead))?;
        let unused = cursor.rest();
        self.with(", nunused: ", (unused.len() / 2) as u64);
        self.add(", redirected:").redirections(redirected);
        self.add(", dead:").offsets(dead);
        self.add(", unused:").offsets(unused);
        Ok(())
    }

    fn vacuum_16(&mut self, main: &[u8], data: &[u8]) -> Result<(), PayloadError> {
        let nunused: u16 = Cursor::disk(main).take("nunused")?;
        self.with("nunused: ", nunused);
        if !data.is_empty() {
            let unused = Cursor::disk(data).bytes("nowunused", 2 * usize::from(nunused))?;
            self.add(", unused:").offsets(unused);
        }
        Ok(())
    }

    fn freeze_page_16(&mut self, main: &[u8], data: &[u8]) -> Result<(), PayloadError> {
        let freeze = FreezePage::decode(main)?;
        self.with("snapshotConflictHorizon: ", freeze.horizon);
        self.with(", nplans: ", freeze.nplans);
        if !data.is_empty() {
            let mut cursor = Cursor::disk(data);
            let plans = cursor.bytes("plans", FreezePlan::LEN * usize::from(freeze.nplans))?;
            self.freeze_plans(plans, &mut cursor)?;
        }
        Ok(())
    }

    /// PRUNE_ON_ACCESS and similar records, since 17.
    fn prune(&mut self, version: PgVersion, main: &[u8], data: &[u8]) -> Result<(), PayloadError> {
        let mut cursor = Cursor::disk(main);
        let flags: u16 = if version >= PgVersion::V19 {
            cursor.take("flags")?
        } else {
            cursor.take::<u8>("reason")?;
            u16::from(cursor.take::<u8>("flags")?)
        };
        let has = |flag: u16| flags & flag != 0;
        if has(prune::HAS_CONFLICT_HORIZON) {
            self.with("snapshotConflictHorizon: ", cursor.take::<u32>("horizon")?);
        }
        self.add(", isCatalogRel: ")
            .letter(has(prune::IS_CATALOG_REL));
        if let vm_flags @ 1.. = flags >> prune::VM_SHIFT & prune::VM_MASK {
            self.add(", vm_flags: ").byte(vm_flags.to_le_bytes()[0]);
        }
        if data.is_empty() {
            return Ok(());
        }
        let mut cursor = Cursor::disk(data);
        let mut list = |flag: u16, pad: usize, each: usize| -> Result<&[u8], Short> {
            if !has(flag) {
                return Ok(&[]);
            }
            let number: u16 = cursor.take("ntargets")?;
            cursor.bytes("padding", pad)?;
            cursor.bytes("targets", each * usize::from(number))
        };
        let plans = list(prune::HAS_FREEZE_PLANS, 2, FreezePlan::LEN)?;
        let redirected = list(prune::HAS_REDIRECTIONS, 0, 4)?;
        let dead = list(prune::HAS_DEAD_ITEMS, 0, 2)?;
        let unused = list(prune::HAS_NOW_UNUSED_ITEMS, 0, 2)?;
        self.with(", nplans: ", (plans.len() / FreezePlan::LEN) as u64);
        self.with(", nredirected: ", (redirected.len() / 4) as u64);
        self.with(", ndead: ", (dead.len() / 2) as u64);
        self.with(", nunused: ", (unused.len() / 2) as u64);
        if !plans.is_empty() {
            self.freeze_plans(plans, &mut cursor)?;
        }
        if !redirected.is_empty() {
            self.add(", redirected:").redirections(redirected);
        }
        if !dead.is_empty() {
            self.add(", dead:").offsets(dead);
        }
        if !unused.is_empty() {
            self.add(", unused:").offsets(unused);
        }
        Ok(())
    }

    /// Adds the freeze plans. After each plan, adds the tuples of the plan, which are read from the
    /// cursor.
    fn freeze_plans(&mut self, plans: &[u8], tuples: &mut Cursor<'_>) -> Result<(), PayloadError> {
        let plans = plans.chunks_exact(FreezePlan::LEN);
        let mut short = Ok(());
        self.add(", plans:").list(plans, |text, plan| {
            if short.is_ok() {
                short = text.freeze_plan(plan, tuples);
            }
        });
        Ok(short?)
    }

    fn freeze_plan(&mut self, plan: &[u8], tuples: &mut Cursor<'_>) -> Result<(), Short> {
        let plan = FreezePlan::decode(plan)?;
        self.with("{ xmax: ", plan.xmax);
        self.with(", infomask: ", plan.infomask);
        self.with(", infomask2: ", plan.infomask2);
        self.with(", ntuples: ", plan.ntuples);
        let offsets = tuples.bytes("offsets", u16::LEN * usize::from(plan.ntuples))?;
        self.add(", offsets:").offsets(offsets).add(" }");
        Ok(())
    }

    fn redirections(&mut self, pairs: &[u8]) -> &mut Self {
        self.list(pairs.chunks_exact(4), |text, pair| {
            text.dec(u16::from_le_bytes([pair[0], pair[1]]));
            text.with("->", u16::from_le_bytes([pair[2], pair[3]]));
        })
    }

    fn multi_insert(
        &mut self,
        version: PgVersion,
        record: &RecordView<'_>,
    ) -> Result<(), PayloadError> {
        let mut cursor = Cursor::disk(record.main());
        let insert: MultiInsert = cursor.take("xl_heap_multi_insert")?;
        self.with("ntuples: ", insert.ntuples);
        self.add(", flags: ").byte(insert.flags);
        if version >= PgVersion::V19 && insert.flags & ALL_FROZEN_SET != 0 {
            self.add(", vm_flags: 0x03");
        }
        if record.header.info & INIT_PAGE == 0 && !record.block_data(0).is_empty() {
            let offsets = cursor.bytes("offsets", 2 * usize::from(insert.ntuples))?;
            self.add(", offsets:").offsets(offsets);
        }
        Ok(())
    }

    fn new_cid(&mut self, version: PgVersion, cid: &NewCid) {
        let (rel, tid) = if version == PgVersion::V15 {
            ("rel ", "; tid ")
        } else {
            ("rel: ", ", tid: ")
        };
        self.add(rel).rel(cid.rel);
        let block = u32::from(cid.block_high) << 16 | u32::from(cid.block_low);
        self.with(tid, block).with("/", cid.offset);
        let cmin = if version == PgVersion::V15 {
            "; cmin: "
        } else {
            ", cmin: "
        };
        self.with(cmin, cid.cmin);
        self.with(", cmax: ", cid.cmax);
        self.with(", combo: ", cid.combocid);
    }
}
