//! Lays out records on pages: page headers, and the parts of a record. Mirrors xlog.c
//! (AdvanceXLInsertBuffer, CopyXLogRecordToWAL). Does not reserve space, take locks or flush.

use crate::base::{Geometry, Lsn, PgVersion, TimelineId};
use crate::wire::layout::Pad;
use crate::wire::page::{
    self, BKP_REMOVABLE, FIRST_IS_CONTRECORD, LONG_HEADER, LongPageHeader, PageHeader,
};
use alloc::vec::Vec;
use core::ops::Range;

/// The fields of page headers that do not depend on the position.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageIdent {
    /// The version, which determines the magic number.
    pub version: PgVersion,
    /// The timeline being written.
    pub tli: TimelineId,
    /// The system identifier.
    pub sysid: u64,
    /// Whether no base backup is running (`XLP_BKP_REMOVABLE`).
    pub removable: bool,
}

/// Initializes a page: a header, then zeros.
///
/// # Panics
/// If the slice does not have the size of a page.
pub fn init_page(out: &mut [u8], geometry: &Geometry, at: Lsn, ident: &PageIdent) {
    assert_eq!(out.len(), geometry.wal_page as usize);
    assert_eq!(geometry.page_offset(at), 0, "{at} is not a page boundary");
    let long = geometry.page_header(at) as usize == LongPageHeader::LEN;
    let flag = |set: bool, bit: u16| if set { bit } else { 0 };
    // PostgreSQL 19 does not have the flag BKP_REMOVABLE.
    let removable = ident.removable && ident.version < PgVersion::V19;
    let std = PageHeader {
        magic: page::magic(ident.version),
        info: flag(long, LONG_HEADER) | flag(removable, BKP_REMOVABLE),
        tli: ident.tli,
        pageaddr: at,
        rem_len: 0,
        pad: Pad,
    };
    let mut header = Vec::with_capacity(LongPageHeader::LEN);
    if long {
        LongPageHeader {
            std,
            sysid: ident.sysid,
            seg_size: geometry.segment,
            blcksz: geometry.wal_page,
        }
        .encode(&mut header);
    } else {
        std.encode(&mut header);
    }
    out.fill(0);
    out[..header.len()].copy_from_slice(&header);
}

/// Sets the flag of a page that starts inside a record, `XLP_FIRST_IS_CONTRECORD`. `rem_len` bytes
/// of the record remain.
///
/// # Panics
/// If the slice is shorter than a header.
pub fn mark_contrecord(page: &mut [u8], rem_len: u32) {
    set_info(page, FIRST_IS_CONTRECORD);
    page[16..20].copy_from_slice(&rem_len.to_le_bytes());
}

/// Sets the flag `XLP_FIRST_IS_OVERWRITE_CONTRECORD` in a page header. The page replaces the
/// continuation of an incomplete record.
///
/// # Panics
/// If the slice is shorter than a header.
pub fn mark_overwrite(page: &mut [u8]) {
    let version = page::version(u16::from_le_bytes([page[0], page[1]]));
    set_info(
        page,
        page::overwrite_contrecord(version.unwrap_or(PgVersion::V18)),
    );
}

fn set_info(page: &mut [u8], bit: u16) {
    let info = u16::from_le_bytes([page[2], page[3]]) | bit;
    page[2..4].copy_from_slice(&info.to_le_bytes());
}

/// The part of a record on one page.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Fragment {
    /// The page.
    pub page: Lsn,
    /// The offset of the part on the page.
    pub offset: u32,
    /// The range of the part in the bytes of the record.
    pub range: Range<usize>,
    /// The number of remaining bytes, including this part, for [`mark_contrecord`]. `None` on the
    /// first page of the record.
    pub rem_len: Option<u32>,
}

/// Splits a record of `len` bytes, which starts at `start`, into its parts on each page.
pub fn fragments(geometry: Geometry, start: Lsn, len: u32) -> impl Iterator<Item = Fragment> {
    let mut page = geometry.page_start(start);
    let mut offset = geometry.page_offset(start);
    let mut done = 0u32;
    core::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let take = (geometry.wal_page - offset).min(len - done);
        let fragment = Fragment {
            page,
            offset,
            range: done as usize..(done + take) as usize,
            rem_len: (done > 0).then_some(len - done),
        };
        done += take;
        page += u64::from(geometry.wal_page);
        offset = geometry.page_header(page);
        Some(fragment)
    })
}
