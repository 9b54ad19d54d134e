//! Data pages. Mirrors bufpage.h and itemid.h: header, line pointers, tuples.

use crate::base::Lsn;
use alloc::vec::Vec;
use core::ops::Range;

/// Size of the header (`SizeOfPageHeaderData`).
pub const HEADER_LEN: usize = 24;
/// Size of a line pointer.
const ITEM_ID_LEN: usize = 4;
/// `PG_PAGE_LAYOUT_VERSION`
const LAYOUT_VERSION: u16 = 4;
/// `LP_NORMAL`
const LP_NORMAL: u32 = 1;

/// A view of a data page. The page may contain any bytes. [`DataPage::is_plausible`] must be
/// checked first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataPage<'a> {
    bytes: &'a [u8],
}

impl<'a> DataPage<'a> {
    /// A view of the page `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// `pd_lsn`, whose high half comes first. [`Lsn::INVALID`] if the slice is shorter than a page
    /// header.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        let half = |at: usize| {
            let bytes = self.bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
            u64::from(u32::from_le_bytes(bytes.unwrap_or_default()))
        };
        Lsn(half(0) << 32 | half(4))
    }

    /// `pd_lower`: end of the line pointers.
    #[must_use]
    pub fn lower(&self) -> usize {
        self.half(12)
    }

    /// `pd_upper`: the start of the tuples. 0 on a page that was never used.
    #[must_use]
    pub fn upper(&self) -> usize {
        self.half(14)
    }

    /// `PageIsNew`
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.upper() == 0
    }

    /// `PageIsVerified` without the checksum. The page must be all zeros, or have a plausible
    /// header.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        if self.is_new() {
            return self.bytes.iter().all(|b| *b == 0);
        }
        let (lower, upper, special) = (self.lower(), self.upper(), self.half(16));
        self.half(10) & !7 == 0
            && HEADER_LEN <= lower
            && lower <= upper
            && upper <= special
            && special <= self.bytes.len()
            && special.is_multiple_of(8)
    }

    /// The free space for one more item (`PageGetFreeSpace`).
    #[must_use]
    pub fn free_space(&self) -> usize {
        self.upper()
            .saturating_sub(self.lower())
            .saturating_sub(ITEM_ID_LEN)
    }

    /// The hole, `[pd_lower, pd_upper)`, which images and comparisons skip. Empty if the header is
    /// not plausible.
    #[must_use]
    pub fn hole(&self) -> Range<usize> {
        let (lower, upper) = (self.lower(), self.upper());
        let sound = lower >= HEADER_LEN && upper > lower && upper <= self.bytes.len();
        if sound { lower..upper } else { 0..0 }
    }

    /// The tuples of all line pointers in state LP_NORMAL, in the order of the line pointers.
    pub fn items(&self) -> impl Iterator<Item = &'a [u8]> {
        let bytes = self.bytes;
        let count = self.lower().saturating_sub(HEADER_LEN) / ITEM_ID_LEN;
        (0..count).filter_map(move |n| {
            let at = HEADER_LEN + n * ITEM_ID_LEN;
            let id = u32::from_le_bytes(bytes.get(at..at + ITEM_ID_LEN)?.try_into().ok()?);
            let (offset, len) = ((id & 0x7FFF) as usize, (id >> 17) as usize);
            (id >> 15 & 3 == LP_NORMAL).then(|| bytes.get(offset..offset + len))?
        })
    }

    fn half(&self, at: usize) -> usize {
        let bytes = self.bytes.get(at..at + 2).and_then(|b| b.try_into().ok());
        u16::from_le_bytes(bytes.unwrap_or_default()).into()
    }
}

/// Sets `pd_lsn`.
///
/// # Panics
/// If the slice is shorter than a header.
pub fn set_lsn(page: &mut [u8], lsn: Lsn) {
    page[..4].copy_from_slice(&((lsn.0 >> 32) as u32).to_le_bytes());
    page[4..8].copy_from_slice(&((lsn.0 & 0xFFFF_FFFF) as u32).to_le_bytes());
}

/// `PageInit`: an empty page without special space.
#[must_use]
pub fn empty_page(page_size: u32) -> Vec<u8> {
    let mut page = alloc::vec![0; page_size as usize];
    let size = u16::try_from(page_size).expect("a page has at most 8192 bytes");
    page[12..14].copy_from_slice(&24u16.to_le_bytes());
    page[14..16].copy_from_slice(&size.to_le_bytes());
    page[16..18].copy_from_slice(&size.to_le_bytes());
    page[18..20].copy_from_slice(&(size | LAYOUT_VERSION).to_le_bytes());
    page
}

/// `PageAddItem`: adds a tuple. Returns the number of the line pointer, counted from 1. Returns
/// `None` if there is not enough space.
pub fn add_item(page: &mut [u8], tuple: &[u8]) -> Option<u16> {
    let view = DataPage::new(page);
    let (lower, upper) = (view.lower(), view.upper());
    let start = upper.checked_sub(tuple.len().checked_next_multiple_of(8)?)?;
    // A page with an implausible header has no free space.
    if lower < HEADER_LEN || lower + ITEM_ID_LEN > start || upper > page.len() {
        return None;
    }
    page[start..start + tuple.len()].copy_from_slice(tuple);
    let offset = u32::try_from(start).ok()?;
    let len = u32::try_from(tuple.len()).ok()?;
    let id = offset | LP_NORMAL << 15 | len << 17;
    page[lower..lower + ITEM_ID_LEN].copy_from_slice(&id.to_le_bytes());
    let new_lower = u16::try_from(lower + ITEM_ID_LEN).ok()?;
    page[12..14].copy_from_slice(&new_lower.to_le_bytes());
    page[14..16].copy_from_slice(&u16::try_from(start).ok()?.to_le_bytes());
    u16::try_from((lower - HEADER_LEN) / ITEM_ID_LEN + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_pointers_equal_those_of_a_real_page() {
        let mut page = empty_page(8192);
        assert_eq!(add_item(&mut page, &[7; 32]), Some(1));
        assert_eq!(page[24..28], [0xe0, 0x9f, 0x40, 0x00]);
        assert_eq!(add_item(&mut page, &[8; 34]), Some(2));
        assert_eq!(page[28..32], [0xb8, 0x9f, 0x44, 0x00]);
        let lens: Vec<usize> = DataPage::new(&page).items().map(<[u8]>::len).collect();
        assert_eq!(lens, [32, 34]);
    }

    #[test]
    fn a_full_page_takes_no_more() {
        let mut page = empty_page(512);
        while add_item(&mut page, &[1; 40]).is_some() {}
        let view = DataPage::new(&page);
        assert!(view.free_space() < 40 && view.is_plausible());
    }

    #[test]
    fn the_lsn_is_stored_high_half_first() {
        let mut page = empty_page(512);
        set_lsn(&mut page, Lsn(0x0000_0001_0200_0003));
        assert_eq!(page[..8], [1, 0, 0, 0, 3, 0, 0, 2]);
        assert_eq!(DataPage::new(&page).lsn(), Lsn(0x0000_0001_0200_0003));
    }

    #[test]
    fn garbage_is_not_plausible() {
        for seed in 0..200u8 {
            let mut page: Vec<u8> = (0..512u32)
                .map(|i| seed.wrapping_mul(31) ^ i.to_le_bytes()[0].wrapping_mul(7))
                .collect();
            let view = DataPage::new(&page);
            let _ = (
                view.is_plausible(),
                view.items().count(),
                view.hole(),
                view.free_space(),
            );
            let _ = add_item(&mut page, &[seed; 20]);
        }
        assert!(DataPage::new(&[0; 512]).is_plausible());
    }
}
