//! Multixacts. Mirrors mxactdesc.c.

use super::text::Text;
use crate::base::PgVersion;
use crate::wire::clog_records::page_number;
use crate::wire::layout::{Cursor, Pad, layout};
use crate::wire::payload::{PayloadError, count};
use crate::wire::record::RMGR_INFO_MASK;

layout! {
    /// `xl_multixact_create`
    struct Create: Disk {
        mid: u32,
        moff: u32,
        nmembers: i32,
    }
}

layout! {
    /// `xl_multixact_create` since 19.
    struct Create19: Disk {
        mid: u32,
        pad: Pad<4>,
        moff: u64,
        nmembers: i32,
    }
}

layout! {
    /// `MultiXactMember`
    struct Member: Disk {
        xid: u32,
        status: u32,
    }
}

layout! {
    /// `xl_multixact_truncate`
    struct Truncate: Disk {
        db: u32,
        start_off: u32,
        end_off: u32,
        start_memb: u32,
        end_memb: u32,
    }
}

layout! {
    /// `xl_multixact_truncate` since 19.
    struct Truncate19: Disk {
        db: u32,
        oldest_multi: u32,
        oldest_offset: u64,
    }
}

/// The kinds of members (`MultiXactStatus`).
const STATUS: [&str; 6] = [
    " (keysh) ",
    " (sh) ",
    " (fornokeyupd) ",
    " (forupd) ",
    " (nokeyupd) ",
    " (upd) ",
];

impl Text {
    pub(super) fn multixact_desc(
        &mut self,
        version: PgVersion,
        info: u8,
        main: &[u8],
    ) -> Result<(), PayloadError> {
        let mut cursor = Cursor::disk(main);
        match info & RMGR_INFO_MASK {
            0x00 | 0x10 => _ = self.int(page_number(version, &mut cursor)?),
            0x20 => {
                let nmembers = if version >= PgVersion::V19 {
                    let create: Create19 = cursor.take("xl_multixact_create")?;
                    self.dec(create.mid).with(" offset ", create.moff);
                    create.nmembers
                } else {
                    let create: Create = cursor.take("xl_multixact_create")?;
                    self.dec(create.mid).with(" offset ", create.moff);
                    create.nmembers
                };
                self.add(" nmembers ").int(nmembers).add(": ");
                for _ in 0..count("nmembers", nmembers)? {
                    let member: Member = cursor.take("members")?;
                    let status = STATUS.get(member.status as usize);
                    self.dec(member.xid).add(status.unwrap_or(&" (unk) "));
                }
            }
            0x30 if version >= PgVersion::V19 => {
                let truncate = Truncate19::decode(main)?;
                self.with("oldestMulti ", truncate.oldest_multi);
                self.with(", oldestOffset ", truncate.oldest_offset);
            }
            0x30 => {
                let truncate = Truncate::decode(main)?;
                self.with("offsets [", truncate.start_off);
                self.with(", ", truncate.end_off);
                self.with("), members [", truncate.start_memb);
                self.with(", ", truncate.end_memb).add(")");
            }
            _ => {}
        }
        Ok(())
    }
}
