//! How records lie on pages: page headers and the fragments of a record. Mirrors xlog.c
//! (AdvanceXLInsertBuffer, CopyXLogRecordToWAL). Reserving, locking and flushing are not decided
//! here.

use crate::base::{Geometry, Lsn, PgVersion, TimelineId};
use crate::wire::layout::Pad;
use crate::wire::page::{
    self, BKP_REMOVABLE, FIRST_IS_CONTRECORD, LONG_HEADER, LongPageHeader, PageHeader,
};
use alloc::vec::Vec;
use core::ops::Range;

/// What page headers say besides where they stand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageIdent {
    /// Decides the magic number.
    pub version: PgVersion,
    /// The timeline being written.
    pub tli: TimelineId,
    /// Which cluster.
    pub sysid: u64,
    /// No base backup is running.
    pub removable: bool,
}

/// Makes a fresh page: a header, then zeros.
///
/// # Panics
/// If the slice is no page.
pub fn init_page(out: &mut [u8], geometry: &Geometry, at: Lsn, ident: &PageIdent) {
    assert_eq!(out.len(), geometry.wal_page as usize);
    assert_eq!(geometry.page_offset(at), 0, "{at} is no page boundary");
    let long = geometry.page_header(at) as usize == LongPageHeader::LEN;
    let flag = |set: bool, bit: u16| if set { bit } else { 0 };
    // 19 has no such flag.
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

/// Notes in a page's header that it starts inside a record of which so many bytes are still to
/// come.
///
/// # Panics
/// If the slice is shorter than a header.
pub fn mark_contrecord(page: &mut [u8], rem_len: u32) {
    set_info(page, FIRST_IS_CONTRECORD);
    page[16..20].copy_from_slice(&rem_len.to_le_bytes());
}

/// Notes in a page's header that it replaces the continuation of an incomplete record.
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

/// The part of a record that lies on one page.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Fragment {
    /// The page.
    pub page: Lsn,
    /// Where on the page it starts.
    pub offset: u32,
    /// Which bytes of the record.
    pub range: Range<usize>,
    /// On every page but the first: bytes still to come, these included, for [`mark_contrecord`].
    pub rem_len: Option<u32>,
}

/// Cuts a record of `len` bytes that starts at `start` into its pages.
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
