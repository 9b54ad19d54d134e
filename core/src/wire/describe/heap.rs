//! Records of the Heap resource manager. Mirrors heapdesc.c (heap_desc).

use super::standby::InvalidatedIn;
use super::text::Text;
use crate::base::PgVersion;
use crate::wire::layout::{Cursor, Pad, layout};
use crate::wire::payload::{PayloadError, count, items};

/// All bits of the record type except XLOG_HEAP_INIT_PAGE (`XLOG_HEAP_OPMASK`).
pub(super) const OP_MASK: u8 = 0x70;

layout! {
    /// `xl_heap_insert`
    struct Insert: Disk {
        offnum: u16,
        flags: u8,
    }
}

layout! {
    /// `xl_heap_delete`, `xl_heap_lock` and `xl_heap_lock_updated`. All three have the same layout.
    pub(super) struct Marked: Disk {
        pub(super) xmax: u32,
        pub(super) offnum: u16,
        pub(super) infobits: u8,
        pub(super) flags: u8,
    }
}

layout! {
    /// `xl_heap_update`
    struct Update: Disk {
        old: Marked,
        new_xmax: u32,
        new_offnum: u16,
    }
}

layout! {
    /// `xl_heap_truncate`
    struct Truncate: Disk {
        db: u32,
        nrelids: u32,
        flags: u8,
        pad: Pad<3>,
    }
}

layout! {
    /// The fields of `xl_heap_inplace` after the offset, since 18.
    struct Inplace: Disk {
        pad: Pad<2>,
        db: u32,
        tablespace: u32,
        init_file: bool,
        pad2: Pad<3>,
        nmsgs: i32,
    }
}

/// The names of the bits of `infobits_set`.
const INFOBITS: [&str; 5] = [
    "IS_MULTI",
    "LOCK_ONLY",
    "EXCL_LOCK",
    "KEYSHR_LOCK",
    "KEYS_UPDATED",
];
/// The names of the bits `XLH_TRUNCATE_…`.
const TRUNCATE_FLAGS: [&str; 2] = ["CASCADE", "RESTART_SEQS"];

impl Text {
    pub(super) fn heap_desc(
        &mut self,
        version: PgVersion,
        info: u8,
        main: &[u8],
    ) -> Result<(), PayloadError> {
        match (info & OP_MASK, version) {
            (0x30, PgVersion::V15) => self.truncate_15(main)?,
            (0x30, _) => self.truncate(main)?,
            (_, PgVersion::V15) => self.heap_desc_15(info, main)?,
            (0x00, _) => {
                let insert = Insert::decode(main)?;
                self.with("off: ", insert.offnum);
                self.add(", flags: ").byte(insert.flags);
            }
            (0x10 | 0x60, _) => self.marked(&Marked::decode(main)?),
            (0x20 | 0x40, _) => {
                let update = Update::decode(main)?;
                self.with("old_xmax: ", update.old.xmax);
                self.with(", old_off: ", update.old.offnum);
                self.add(", old_infobits: ");
                self.bit_names(update.old.infobits, &INFOBITS);
                self.add(", flags: ").byte(update.old.flags);
                self.with(", new_xmax: ", update.new_xmax);
                self.with(", new_off: ", update.new_offnum);
            }
            (_confirm_or_inplace, _) => {
                let mut cursor = Cursor::disk(main);
                self.with("off: ", cursor.take::<u16>("offnum")?);
                if info & OP_MASK == 0x70 && version >= PgVersion::V18 {
                    self.inplace_invalidations(&mut cursor)?;
                }
            }
        }
        Ok(())
    }

    /// The descriptions of PostgreSQL 15. Version 16 changed the texts.
    fn heap_desc_15(&mut self, info: u8, main: &[u8]) -> Result<(), PayloadError> {
        match info & OP_MASK {
            0x00 => {
                let insert = Insert::decode(main)?;
                self.with("off ", insert.offnum);
                self.add(" flags ").byte(insert.flags);
            }
            0x10 => {
                let delete = Marked::decode(main)?;
                self.with("off ", delete.offnum);
                self.add(" flags ").byte(delete.flags).add(" ");
                self.infobits_15(delete.infobits);
            }
            0x20 | 0x40 => {
                let update = Update::decode(main)?;
                self.with("off ", update.old.offnum);
                self.with(" xmax ", update.old.xmax);
                self.add(" flags ").byte(update.old.flags).add(" ");
                self.infobits_15(update.old.infobits);
                self.with("; new off ", update.new_offnum);
                self.with(" xmax ", update.new_xmax);
            }
            0x60 => self.locked_15("xid", &Marked::decode(main)?),
            _confirm_or_inplace => {
                let offnum: u16 = Cursor::disk(main).take("offnum")?;
                self.with("off ", offnum);
            }
        }
        Ok(())
    }

    /// Adds a tuple that was deleted or locked.
    pub(super) fn marked(&mut self, tuple: &Marked) {
        self.with("xmax: ", tuple.xmax);
        self.with(", off: ", tuple.offnum);
        self.add(", infobits: ");
        self.bit_names(tuple.infobits, &INFOBITS);
        self.add(", flags: ").byte(tuple.flags);
    }

    pub(super) fn locked_15(&mut self, xid: &str, lock: &Marked) {
        self.with("off ", lock.offnum);
        self.add(": ").add(xid).with(" ", lock.xmax);
        self.add(": flags ").byte(lock.flags).add(" ");
        self.infobits_15(lock.infobits);
    }

    fn infobits_15(&mut self, infobits: u8) {
        for (bit, name) in INFOBITS.iter().enumerate() {
            if infobits & 1 << bit != 0 {
                self.add(name).add(" ");
            }
        }
    }

    /// `infobits_desc`, but without the name of the field.
    fn bit_names(&mut self, bits: u8, names: &[&str]) {
        self.add("[");
        let mut separator = "";
        for (bit, name) in names.iter().enumerate() {
            if bits & 1 << bit != 0 {
                self.add(separator).add(name);
                separator = ", ";
            }
        }
        self.add("]");
    }

    fn truncate(&mut self, main: &[u8]) -> Result<(), PayloadError> {
        let (truncate, relids) = truncated(main)?;
        self.add("flags: ")
            .bit_names(truncate.flags, &TRUNCATE_FLAGS);
        self.with(", nrelids: ", truncate.nrelids).add(", relids:");
        self.list(relids.chunks_exact(4), |text, relid| {
            text.dec(u32_at(relid));
        });
        Ok(())
    }

    fn truncate_15(&mut self, main: &[u8]) -> Result<(), PayloadError> {
        let (truncate, relids) = truncated(main)?;
        for (bit, name) in ["cascade ", "restart_seqs "].into_iter().enumerate() {
            if truncate.flags & 1 << bit != 0 {
                self.add(name);
            }
        }
        self.with("nrelids ", truncate.nrelids).add(" relids");
        for relid in relids.chunks_exact(4) {
            self.with(" ", u32_at(relid));
        }
        Ok(())
    }

    fn inplace_invalidations(&mut self, cursor: &mut Cursor<'_>) -> Result<(), PayloadError> {
        let inplace: Inplace = cursor.take("xl_heap_inplace")?;
        let msgs = items(cursor, "msgs", count("nmsgs", inplace.nmsgs)?)?;
        let place = InvalidatedIn {
            db: inplace.db,
            tablespace: inplace.tablespace,
            init_file: inplace.init_file,
        };
        self.invalidations(place, &msgs);
        Ok(())
    }
}

fn truncated(main: &[u8]) -> Result<(Truncate, &[u8]), PayloadError> {
    let mut cursor = Cursor::disk(main);
    let truncate: Truncate = cursor.take("xl_heap_truncate")?;
    let relids = cursor.bytes("relids", (truncate.nrelids as usize).saturating_mul(4))?;
    Ok((truncate, relids))
}

fn u32_at(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("cut to four bytes"))
}
