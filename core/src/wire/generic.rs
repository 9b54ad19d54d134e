//! Generic WAL. The change of a page is a list of byte ranges. Mirrors generic_xlog.c
//! (computeDelta, applyPageRedo).

use super::data_page::DataPage;
use super::layout::{Cursor, Short};
use alloc::vec::Vec;
use core::ops::Range;

/// The largest number of pages in a record (`MAX_GENERIC_XLOG_PAGES`).
pub const MAX_PAGES: u8 = 4;
/// Two ranges are merged if at most this number of equal bytes is between them. The number is the
/// size of a range's header.
const MERGE: usize = 4;

/// The reason why a delta cannot be applied to a page. PostgreSQL does not check for these errors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum DeltaError {
    /// The delta ends inside a range.
    #[error("page delta is cut off: {0}")]
    Short(#[from] Short),
    /// A range exceeds the page.
    #[error("page delta of {length} bytes at {offset} exceeds the page")]
    Outside {
        /// Start of the range.
        offset: u16,
        /// Its length.
        length: u16,
    },
    /// The delta leaves an implausible header on the page.
    #[error("page delta leaves pd_lower {lower} and pd_upper {upper}")]
    BadPointers {
        /// End of the line pointers.
        lower: usize,
        /// Start of the items.
        upper: usize,
    },
}

/// The delta from `old` to `new`. It is empty if the pages are equal outside of their holes. The
/// bytes are the same as in PostgreSQL.
///
/// # Panics
/// If the pages differ in size, or the header of `new` is not plausible.
#[must_use]
pub fn compute_delta(old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let size = new.len();
    let (lower, upper) = pointers(new);
    assert!(
        lower <= upper && upper <= size,
        "pd_lower {lower}, pd_upper {upper}"
    );
    let (old_lower, old_upper) = pointers(old);
    let mut delta = Vec::new();
    let valid = 0..old_lower.min(size);
    compute_region(&mut delta, old, new, 0..lower, valid);
    compute_region(&mut delta, old, new, upper..size, old_upper.min(size)..size);
    delta
}

/// Applies a delta to a page, and zeroes the hole of the page. Does not set the LSN of the page.
///
/// # Errors
/// The delta does not fit the page. The page can then be partly changed.
pub fn apply_delta(page: &mut [u8], delta: &[u8]) -> Result<(), DeltaError> {
    let mut cursor = Cursor::disk(delta);
    while !cursor.rest().is_empty() {
        let offset: u16 = cursor.take("offset")?;
        let length: u16 = cursor.take("length")?;
        let from = usize::from(offset);
        let Some(target) = page.get_mut(from..from + usize::from(length)) else {
            return Err(DeltaError::Outside { offset, length });
        };
        target.copy_from_slice(cursor.bytes("data", usize::from(length))?);
    }
    zero_hole(page)
}

/// Zeroes the hole between line pointers and items. Used when a change is logged, and in redo.
///
/// # Errors
/// The header is not plausible.
pub fn zero_hole(page: &mut [u8]) -> Result<(), DeltaError> {
    let (lower, upper) = pointers(page);
    match page.get_mut(lower..upper) {
        Some(hole) => {
            hole.fill(0);
            Ok(())
        }
        None => Err(DeltaError::BadPointers { lower, upper }),
    }
}

fn pointers(page: &[u8]) -> (usize, usize) {
    let view = DataPage::new(page);
    (view.lower(), view.upper())
}

/// Appends the ranges of one region of the page. A byte outside the valid region of the old page
/// counts as changed.
fn compute_region(
    delta: &mut Vec<u8>,
    old: &[u8],
    new: &[u8],
    region: Range<usize>,
    valid: Range<usize>,
) {
    let same = |at: usize| valid.contains(&at) && old[at] == new[at];
    let mut open: Option<Range<usize>> = None;
    let mut at = region.start;
    while at < region.end {
        // Compares 64 bytes at once, because usually nothing has changed.
        let ahead = at..at + 64;
        if ahead.end <= region.end
            && valid.start <= at
            && ahead.end <= valid.end
            && old[ahead.clone()] == new[ahead.clone()]
        {
            at = ahead.end;
            continue;
        }
        if !same(at) {
            match &mut open {
                Some(range) if at - range.end <= MERGE => range.end = at + 1,
                _ => {
                    if let Some(done) = open.replace(at..at + 1) {
                        write_range(delta, new, done);
                    }
                }
            }
        }
        at += 1;
    }
    if let Some(done) = open {
        write_range(delta, new, done);
    }
}

fn write_range(delta: &mut Vec<u8>, new: &[u8], range: Range<usize>) {
    for number in [range.start, range.len()] {
        let number = u16::try_from(number).expect("a page has at most 8192 bytes");
        delta.extend_from_slice(&number.to_le_bytes());
    }
    delta.extend_from_slice(&new[range]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::data_page::empty_page;
    use proptest::prelude::*;

    fn page(lower: u16, upper: u16, fill: u8) -> Vec<u8> {
        let mut page = empty_page(512);
        page[24..].fill(fill);
        page[12..14].copy_from_slice(&lower.to_le_bytes());
        page[14..16].copy_from_slice(&upper.to_le_bytes());
        page
    }

    /// The offset and length of each range in a delta.
    fn ranges(delta: &[u8]) -> Vec<(u16, u16)> {
        let mut cursor = Cursor::disk(delta);
        let mut ranges = Vec::new();
        while !cursor.rest().is_empty() {
            let offset = cursor.take("offset").expect("whole");
            let length: u16 = cursor.take("length").expect("whole");
            cursor.bytes("data", usize::from(length)).expect("whole");
            ranges.push((offset, length));
        }
        ranges
    }

    fn changed(old: &[u8], at: &[usize]) -> Vec<u8> {
        let mut new = old.to_vec();
        for &at in at {
            new[at] ^= 1;
        }
        new
    }

    /// Ranges with at most four equal bytes between them are merged. Bytes in the hole are ignored.
    #[test]
    fn close_ranges_are_merged() {
        let old = page(100, 300, 5);
        for (at, expected) in [
            (&[][..], &[][..]),
            (&[30], &[(30, 1)]),
            (&[30, 35], &[(30, 6)]),
            (&[30, 36], &[(30, 1), (36, 1)]),
            (&[30, 31, 32, 36], &[(30, 7)]),
            (&[99], &[(99, 1)]),
            (&[100, 200, 299], &[]),
            (&[300, 511], &[(300, 1), (511, 1)]),
            (&[97, 301], &[(97, 1), (301, 1)]),
        ] {
            assert_eq!(ranges(&compute_delta(&old, &changed(&old, at))), expected);
        }
    }

    /// A byte in the hole of the old page counts as changed, even if it has the same value on the
    /// new page. Ranges of such bytes are merged with neighboring ranges.
    #[test]
    fn bytes_outside_the_old_ranges_are_written() {
        let old = page(100, 300, 5);
        let grown = page(110, 280, 5);
        assert_eq!(
            ranges(&compute_delta(&old, &grown)),
            [(12, 3), (100, 10), (280, 20)]
        );
        let merged = changed(&grown, &[96, 303]);
        assert_eq!(
            ranges(&compute_delta(&old, &merged)),
            [(12, 3), (96, 14), (280, 24)]
        );
        let shrunk = page(90, 310, 5);
        assert_eq!(ranges(&compute_delta(&old, &shrunk)), [(12, 3)]);
    }

    #[test]
    fn deltas_are_bounded() {
        let mut page = page(100, 300, 5);
        let outside = DeltaError::Outside {
            offset: 510,
            length: 3,
        };
        assert_eq!(
            apply_delta(&mut page, &[0xFE, 1, 3, 0, 1, 2, 3]),
            Err(outside)
        );
        assert!(matches!(
            apply_delta(&mut page, &[0, 1, 3, 0, 1, 2]),
            Err(DeltaError::Short(_))
        ));
        let bad = DeltaError::BadPointers {
            lower: 0x0303,
            upper: 300,
        };
        assert_eq!(apply_delta(&mut page, &[12, 0, 2, 0, 3, 3]), Err(bad));
    }

    fn pages() -> impl Strategy<Value = Vec<u8>> {
        (24u16..250, 250u16..=512, prop::collection::vec(0u8..2, 512)).prop_map(
            |(lower, upper, noise)| {
                let mut page = page(lower, upper, 0);
                page[24..].copy_from_slice(&noise[24..]);
                page
            },
        )
    }

    proptest! {
        #![proptest_config(crate::base::testing::cases(64))]

        /// Applying the delta to the old page results in the new page with its hole zeroed.
        #[test]
        fn round_trip(old in pages(), new in pages()) {
            let delta = compute_delta(&old, &new);
            let mut page = old;
            prop_assert_eq!(apply_delta(&mut page, &delta), Ok(()));
            let mut expected = new;
            prop_assert_eq!(zero_hole(&mut expected), Ok(()));
            prop_assert_eq!(page, expected);
        }

        /// A delta that fits leaves a page of the same size with a hole of zeros. Applying it again
        /// changes nothing.
        #[test]
        fn garbage_is_no_panic(page in pages(), delta in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut changed = page.clone();
            let applied = apply_delta(&mut changed, &delta);
            prop_assert_eq!(changed.len(), page.len());
            if applied.is_ok() {
                let mut again = changed.clone();
                prop_assert_eq!(zero_hole(&mut again), Ok(()));
                prop_assert_eq!(&again, &changed);
                prop_assert_eq!(apply_delta(&mut again, &delta), Ok(()));
                prop_assert_eq!(again, changed);
            }
        }
    }
}
