//! The contents of one file. They are stored as sparse chunks behind `Arc`, so zeros take no
//! memory, and copies share chunks.

use std::ops::Range;
use std::sync::Arc;

const CHUNK: usize = 4096;
type Chunk = [u8; CHUNK];
static ZEROS: Chunk = [0; CHUNK];

/// The bytes of a file. A chunk that does not exist contains zeros.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Content {
    len: u64,
    chunks: Vec<Option<Arc<Chunk>>>,
}

/// A range of bytes within one chunk.
struct Piece {
    chunk: usize,
    within: Range<usize>,
}

impl Content {
    /// A file with these contents.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(0, bytes);
        content
    }

    /// Writes bytes, and extends the file if necessary. A gap between the old end and `offset` is
    /// filled with zeros. A write of no bytes does not extend the file.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.extend(offset + as_u64(bytes.len()));
        let mut rest = bytes;
        for piece in pieces(offset, as_u64(bytes.len())) {
            let (head, tail) = rest.split_at(piece.within.len());
            let chunk = &mut self.chunks[piece.chunk];
            // A write of a whole chunk replaces the old chunk.
            if let Ok(whole) = Chunk::try_from(head) {
                *chunk = Some(Arc::new(whole));
            } else {
                let chunk = chunk.get_or_insert_with(|| Arc::new(ZEROS));
                Arc::make_mut(chunk)[piece.within].copy_from_slice(head);
            }
            rest = tail;
        }
    }

    /// Writes zeros. Chunks that are completely zero are freed.
    pub fn zero(&mut self, offset: u64, len: u64) {
        if len == 0 {
            return;
        }
        self.extend(offset + len);
        self.blank(offset, len);
    }

    /// Sets the length.
    pub fn truncate(&mut self, len: u64) {
        if len < self.len {
            let keep = len.div_ceil(as_u64(CHUNK));
            self.chunks.truncate(as_usize(keep));
            // The rest of the chunk is cleared, because a later extension of the file must show
            // zeros there.
            self.blank(len, keep * as_u64(CHUNK) - len);
            self.len = len;
        } else {
            self.extend(len);
        }
    }

    /// Length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Up to `len` bytes, or fewer if the file ends before.
    #[must_use]
    pub fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        let len = len.min(self.len.saturating_sub(offset));
        let mut bytes = Vec::with_capacity(as_usize(len));
        for piece in pieces(offset, len) {
            bytes.extend_from_slice(&self.chunk(piece.chunk)[piece.within]);
        }
        bytes
    }

    /// The range from the first to the last byte that this write would change. A byte past the end
    /// of the file counts as changed, whatever its new value.
    #[must_use]
    pub fn change(&self, offset: u64, bytes: &[u8]) -> Range<u64> {
        let mut rest = bytes;
        self.difference(offset, as_u64(bytes.len()), |old| {
            let (head, tail) = rest.split_at(old.len());
            rest = tail;
            let first = same_prefix(old, head)?;
            let last = old.iter().zip(head).rposition(|(a, b)| a != b)?;
            Some((first, last))
        })
    }

    /// Like [`Content::change`], for a write of zeros.
    #[must_use]
    pub fn change_by_zeros(&self, offset: u64, len: u64) -> Range<u64> {
        self.difference(offset, len, |old| {
            let first = old.iter().position(|b| *b != 0)?;
            let last = old.iter().rposition(|b| *b != 0)?;
            Some((first, last))
        })
    }

    fn difference(
        &self,
        offset: u64,
        len: u64,
        mut compare: impl FnMut(&[u8]) -> Option<(usize, usize)>,
    ) -> Range<u64> {
        let end = offset + len;
        let mut changed = end..end;
        let inside = self.len.saturating_sub(offset).min(len);
        let mut at = offset;
        for piece in pieces(offset, inside) {
            let size = as_u64(piece.within.len());
            if let Some((first, last)) = compare(&self.chunk(piece.chunk)[piece.within]) {
                if changed.start == end {
                    changed = at + as_u64(first)..at;
                }
                changed.end = at + as_u64(last) + 1;
            }
            at += size;
        }
        if end > self.len && len > 0 {
            changed = changed.start.min(self.len)..end;
        }
        if changed.start == end {
            changed = end..end;
        }
        changed
    }

    fn chunk(&self, index: usize) -> &Chunk {
        match self.chunks.get(index) {
            Some(Some(chunk)) => chunk,
            Some(None) | None => &ZEROS,
        }
    }

    fn extend(&mut self, len: u64) {
        if len > self.len {
            self.len = len;
            self.chunks
                .resize(as_usize(len.div_ceil(as_u64(CHUNK))), None);
        }
    }

    /// Fills a range with zeros. Creates no new chunk.
    fn blank(&mut self, offset: u64, len: u64) {
        for piece in pieces(offset, len) {
            if let Some(slot) = self.chunks.get_mut(piece.chunk) {
                if piece.within.len() == CHUNK {
                    *slot = None;
                } else if let Some(chunk) = slot {
                    Arc::make_mut(chunk)[piece.within].fill(0);
                }
            }
        }
    }
}

/// The length of the common prefix of two slices of equal length. Returns `None` if the slices are
/// equal.
fn same_prefix(a: &[u8], b: &[u8]) -> Option<usize> {
    const STRIDE: usize = 64;
    let mut stride = a.chunks(STRIDE).zip(b.chunks(STRIDE));
    let start = stride.position(|(a, b)| a != b)? * STRIDE;
    let mut rest = a[start..].iter().zip(&b[start..]);
    rest.position(|(a, b)| a != b).map(|within| start + within)
}

fn pieces(offset: u64, len: u64) -> impl Iterator<Item = Piece> {
    let end = offset + len;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at == end {
            return None;
        }
        let start = as_usize(at % as_u64(CHUNK));
        let size = (CHUNK - start).min(as_usize(end - at));
        let piece = Piece {
            chunk: as_usize(at / as_u64(CHUNK)),
            within: start..start + size,
        };
        at += as_u64(size);
        Some(piece)
    })
}

fn as_usize(n: u64) -> usize {
    usize::try_from(n).expect("files on a fake disk fit into memory")
}

fn as_u64(n: usize) -> u64 {
    u64::try_from(n).expect("a length fits into 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_take_no_memory_and_gaps_read_as_zeros() {
        let mut content = Content::default();
        content.zero(0, 1 << 20);
        assert_eq!(content.len(), 1 << 20);
        assert!(content.chunks.iter().all(Option::is_none));
        content.write(5000, b"abc");
        assert_eq!(content.read(4998, 7), b"\0\0abc\0\0");
    }

    #[test]
    fn what_a_truncation_cut_off_does_not_come_back() {
        let mut content = Content::new(&[7; 10_000]);
        content.truncate(100);
        content.truncate(10_000);
        assert_eq!(content.read(98, 4), [7, 7, 0, 0]);
        assert_eq!(content.read(9_999, 10), [0]);
    }

    #[test]
    fn a_change_is_the_range_that_differs() {
        let mut content = Content::new(&[1; 9000]);
        assert_eq!(content.change(0, &[1; 9000]), 9000..9000);
        let mut other = [1; 9000];
        other[10] = 2;
        other[8999] = 2;
        assert_eq!(content.change(0, &other), 10..9000);
        other[8999] = 1;
        assert_eq!(content.change(0, &other), 10..11);
        assert_eq!(content.change(9000, &[0]), 9000..9001);
        assert_eq!(content.change(9500, &[0]), 9000..9501);
        content.zero(0, 9000);
        assert_eq!(content.change_by_zeros(0, 9000), 9000..9000);
        assert_eq!(content.change_by_zeros(0, 9010), 9000..9010);
    }
}
