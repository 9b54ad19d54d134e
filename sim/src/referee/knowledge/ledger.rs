//! The reference copy of a timeline's WAL, called the ledger. It contains each byte as the primary
//! first flushed it, and lists the records. The WAL of each node is compared with the ledger.

use std::ops::Range;
use std::sync::Arc;
use walsim_core::base::{Geometry, Lsn, Xid};
use walsim_core::wal::position::{
    bytepos_to_start, lsn_to_bytepos, record_end, skip_header, switch_end,
};
use walsim_core::wire::page;
use walsim_core::wire::record::RecordHeader;

/// The size of a chunk.
const CHUNK: usize = 64 * 1024;

/// The bytes of a timeline, beginning with its first segment.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Ledger {
    geometry: Geometry,
    start: Lsn,
    end: Lsn,
    chunks: Vec<Arc<Vec<u8>>>,
    /// The end of the records that were parsed so far.
    walked: Lsn,
    /// Ranges of records that were never completed. The WAL of a standby may lack these bytes.
    aborted: Vec<Range<Lsn>>,
    /// The highest transaction id in a record.
    highest_xid: Xid,
    /// The unused ranges after segment switches, in ascending order.
    unused: Vec<Range<Lsn>>,
    /// The ends of WAL that crash recovery of a primary has found.
    ends: Vec<Lsn>,
}

/// A complete record in the reference copy of the WAL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// The position of the record's first byte.
    pub start: Lsn,
    /// The end of the record's last byte.
    pub end: Lsn,
    /// Where the next record is expected. After a segment switch, this is in the next segment.
    pub next: Lsn,
    /// The transaction id in the record.
    pub xid: Xid,
}

/// How a record continues on the page after its first page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Continuation {
    /// It is unknown how the record continues, because the reference copy ends before the next page
    /// header.
    Unknown,
    /// Complete.
    Whole,
    /// The record was never completed. A new record begins on this page.
    Replaced(Lsn),
}

impl Ledger {
    /// An empty ledger that begins at `start`.
    pub(crate) fn new(geometry: Geometry, start: Lsn) -> Self {
        let (chunks, highest_xid, unused) = (Vec::new(), Xid::INVALID, Vec::new());
        Self {
            geometry,
            start,
            end: start,
            chunks,
            walked: start,
            aborted: Vec::new(),
            highest_xid,
            unused,
            ends: Vec::new(),
        }
    }

    /// The position of the first byte.
    #[must_use]
    pub const fn start(&self) -> Lsn {
        self.start
    }

    /// The position after the last byte.
    #[must_use]
    pub const fn end(&self) -> Lsn {
        self.end
    }

    /// The geometry.
    #[must_use]
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Crash recovery of a primary found that WAL ends at `end`, and discarded all later WAL.
    pub(super) fn found_end(&mut self, end: Lsn) {
        self.ends.push(end);
    }

    pub(super) const fn ends_found(&self) -> usize {
        self.ends.len()
    }

    /// Whether the WAL before this position has survived every crash recovery. The first `since`
    /// recoveries are ignored.
    pub(super) fn is_history(&self, lsn: Lsn, since: usize) -> bool {
        self.ends.iter().skip(since).all(|end| lsn <= *end)
    }

    /// The highest transaction id in a record.
    #[must_use]
    pub const fn highest_xid(&self) -> Xid {
        self.highest_xid
    }

    /// Appends bytes.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) {
        self.end += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
                self.chunks.push(Arc::new(Vec::with_capacity(CHUNK)));
            }
            let chunk = Arc::make_mut(
                self.chunks
                    .last_mut()
                    .expect("a chunk was added if there was none"),
            );
            let (head, tail) = bytes.split_at(bytes.len().min(CHUNK - chunk.len()));
            chunk.extend_from_slice(head);
            bytes = tail;
        }
        while let Some(record) = self.record_after(self.walked) {
            if record.start != skip_header(&self.geometry, self.walked) {
                self.aborted.push(self.walked..record.start);
            }
            self.walked = record.next;
            self.highest_xid = self.highest_xid.max(record.xid);
            if record.end < record.next {
                self.unused.push(record.end..record.next);
            }
        }
    }

    /// The end of the last complete record.
    pub(super) const fn walked(&self) -> Lsn {
        self.walked
    }

    /// The first `len` bytes of the record at `start`, without page headers. Returns `None` if the
    /// reference copy ends before the last of these bytes.
    #[must_use]
    pub fn bytes_of(&self, start: Lsn, len: usize) -> Option<Vec<u8>> {
        let page = u64::from(self.geometry.wal_page);
        let mut bytes = Vec::with_capacity(len);
        let mut at = start;
        while bytes.len() < len {
            at = skip_header(&self.geometry, at);
            let in_page = usize::try_from(self.geometry.page_start(at) + page - at).ok()?;
            let piece = in_page.min(len - bytes.len());
            if at + piece as u64 > self.end {
                return None;
            }
            let (chunk, within) = self.place(at);
            bytes.extend_from_slice(self.chunks[chunk].get(within..within + piece)?);
            at += piece as u64;
        }
        Some(bytes)
    }

    /// The first position at which these bytes differ from the reference copy of the WAL. Bytes
    /// outside of the reference copy are not compared.
    ///
    /// Unused bytes after a segment switch are not compared, because no process reads them. If the
    /// connection of a standby breaks after the switch record, the standby continues with the next
    /// segment. The rest of the segment then keeps the old bytes of the recycled file.
    #[must_use]
    pub fn difference(&self, at: Lsn, bytes: &[u8]) -> Option<Lsn> {
        self.difference_but(at, bytes, |place| end_of(&self.unused, place))
    }

    /// [`Self::difference`] for a standby. A standby may lack the beginning of a record that was
    /// never completed, and skips it. Such bytes are not compared.
    #[must_use]
    pub fn difference_on_a_standby(&self, at: Lsn, bytes: &[u8]) -> Option<Lsn> {
        self.difference_but(at, bytes, |place| {
            end_of(&self.unused, place).or_else(|| end_of(&self.aborted, place))
        })
    }

    /// The first difference that must be reported. For a difference that may be ignored, `passes`
    /// returns the position at which the comparison continues.
    fn difference_but(
        &self,
        at: Lsn,
        bytes: &[u8],
        passes: impl Fn(Lsn) -> Option<Lsn>,
    ) -> Option<Lsn> {
        let (mut from, mut rest) = (at, bytes);
        loop {
            let place = self.first_difference(from, rest)?;
            let Some(end) = passes(place) else {
                return Some(place);
            };
            let skip = usize::try_from(end - from).expect("the range is short");
            rest = rest.get(skip..)?;
            from = end;
        }
    }

    fn first_difference(&self, at: Lsn, bytes: &[u8]) -> Option<Lsn> {
        let skip = usize::try_from(self.start.0.saturating_sub(at.0)).unwrap_or(usize::MAX);
        let mut rest = bytes.get(skip..)?;
        let mut at = at.max(self.start);
        while !rest.is_empty() && at < self.end {
            let (chunk, within) = self.place(at);
            let known = &self.chunks[chunk][within..];
            let len = known.len().min(rest.len());
            if known[..len] != rest[..len] {
                let same = known.iter().zip(rest).take_while(|(a, b)| a == b).count();
                return Some(at + same as u64);
            }
            rest = &rest[len..];
            at += len as u64;
        }
        None
    }

    /// The byte at this position.
    #[must_use]
    pub fn byte(&self, at: Lsn) -> Option<u8> {
        if at < self.start || at >= self.end {
            return None;
        }
        let (chunk, within) = self.place(at);
        Some(self.chunks[chunk][within])
    }

    /// The record after the one that ended at `from`, or `None` if it is not complete. The record
    /// begins on a later page if the header of that page says that an earlier record was never
    /// completed.
    #[must_use]
    pub fn record_after(&self, from: Lsn) -> Option<Placed> {
        let geometry = &self.geometry;
        let mut start = skip_header(geometry, from);
        loop {
            let len = self.word(start)?;
            let xid = Xid(self.word(start + 4)?);
            if (len as usize) < RecordHeader::LEN {
                return None;
            }
            let end = record_end(geometry, start, len);
            match self.continuation(start, end) {
                Continuation::Unknown => return None,
                Continuation::Replaced(page) => start = skip_header(geometry, page),
                Continuation::Whole => {
                    let switch = self.is_switch(start, len);
                    let next = if switch {
                        switch_end(geometry, end)
                    } else {
                        end
                    };
                    return Some(Placed {
                        start,
                        end,
                        next,
                        xid,
                    });
                }
            }
        }
    }

    /// How a record continues on the pages after its first one.
    fn continuation(&self, start: Lsn, end: Lsn) -> Continuation {
        let size = u64::from(self.geometry.wal_page);
        let mut page = self.geometry.page_start(start) + size;
        while page < end {
            let number = |at| Some(u16::from_le_bytes([self.byte(at)?, self.byte(at + 1)?]));
            let (Some(magic), Some(info)) = (number(page), number(page + 2)) else {
                return Continuation::Unknown;
            };
            // Since 19 another bit is the flag for an aborted record.
            if page::version(magic).is_some_and(|v| info & page::overwrite_contrecord(v) != 0) {
                return Continuation::Replaced(page);
            }
            page += size;
        }
        if end > self.end {
            Continuation::Unknown
        } else {
            Continuation::Whole
        }
    }

    fn is_switch(&self, start: Lsn, len: u32) -> bool {
        if len as usize != RecordHeader::LEN {
            return false;
        }
        let at = |offset| {
            let bytepos = lsn_to_bytepos(&self.geometry, start) + offset;
            bytepos_to_start(&self.geometry, bytepos)
        };
        let header = [self.byte(at(16)), self.byte(at(17))];
        header == [Some(0x40), Some(0)]
    }

    /// A 4-byte number within one page.
    fn word(&self, at: Lsn) -> Option<u32> {
        if at < self.start || at + 4 > self.end {
            return None;
        }
        let (chunk, within) = self.place(at);
        let bytes = self.chunks[chunk].get(within..within + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn place(&self, at: Lsn) -> (usize, usize) {
        let offset = usize::try_from(at - self.start).expect("the ledger fits into memory");
        (offset / CHUNK, offset % CHUNK)
    }
}

/// The end of the range that contains this position.
fn end_of(ranges: &[Range<Lsn>], place: Lsn) -> Option<Lsn> {
    let covers = |range: &&Range<Lsn>| range.contains(&place);
    ranges.iter().find(covers).map(|range| range.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::{GEOMETRY, builder, message};
    use walsim_core::base::TimestampTz;

    fn ledger(bytes: &[u8], end: Lsn) -> Ledger {
        let mut ledger = Ledger::new(GEOMETRY, Lsn(1024));
        let len = usize::try_from(end.0 - 1024).unwrap();
        ledger.append(&bytes[..len]);
        ledger
    }

    #[test]
    fn records_follow_one_another_over_pages_and_switches() {
        let mut wal = builder();
        let first = wal.append(&message(7, 10));
        let long = wal.append(&message(8, 900));
        wal.switch();
        let last = wal.append(&message(5, 1));
        let ledger = ledger(wal.bytes(), last.end);
        let mut at = ledger.start();
        let mut starts = Vec::new();
        while let Some(record) = ledger.record_after(at) {
            starts.push(record.start);
            at = record.next;
        }
        assert_eq!(starts.len(), 4);
        assert_eq!(
            [starts[0], starts[1], starts[3]],
            [first.start, long.start, last.start]
        );
        assert_eq!((at, ledger.highest_xid()), (last.end, Xid(8)));
    }

    #[test]
    fn what_a_switch_leaves_unused_may_hold_anything() {
        let mut wal = builder();
        let first = wal.append(&message(7, 10));
        wal.switch();
        let last = wal.append(&message(5, 1));
        let ledger = ledger(wal.bytes(), last.end);
        let switch = ledger.record_after(first.end).expect("whole");
        let mut other = wal.bytes().to_vec();
        let index = |at: Lsn| usize::try_from(at.0 - 1024).unwrap();
        let segment_end = index(GEOMETRY.segment_start(GEOMETRY.segment_of(last.start)));
        other[index(switch.end)..segment_end].fill(0x55);
        assert_eq!(ledger.difference(Lsn(1024), &other), None);
        other[index(last.end) - 1] ^= 1;
        assert_eq!(
            ledger.difference(Lsn(1024), &other),
            Some(Lsn(last.end.0 - 1))
        );
        other[index(first.start)] ^= 1;
        assert_eq!(ledger.difference(Lsn(1024), &other), Some(first.start));
    }

    #[test]
    fn an_incomplete_record_is_none_until_its_page_begins_anew() {
        let mut wal = builder();
        let first = wal.append(&message(3, 10));
        let aborted = wal.append(&message(4, 600));
        let missing = Lsn(1024 + 512);
        let cut = ledger(wal.bytes(), missing);
        assert_eq!(cut.record_after(first.end), None);
        let again = wal.overwrite_contrecord([first.start, aborted.start, missing], TimestampTz(0));
        let whole = ledger(wal.bytes(), again.end);
        let record = whole.record_after(first.end).expect("whole");
        assert_eq!((record.start, record.end), (again.start, again.end));
        assert_eq!(whole.highest_xid(), Xid(3));

        let mut other = wal.bytes().to_vec();
        let half = usize::try_from(aborted.start - whole.start()).expect("small");
        other[half + 4] ^= 1;
        let differs = aborted.start + 4;
        assert_eq!(whole.difference(whole.start(), &other), Some(differs));
        assert_eq!(whole.difference_on_a_standby(whole.start(), &other), None);
        other[half - 1] ^= 1;
        let before = Lsn(aborted.start.0 - 1);
        assert_eq!(
            whole.difference_on_a_standby(whole.start(), &other),
            Some(before)
        );
    }

    #[test]
    fn the_first_difference_is_found_across_chunks() {
        let mut ledger = Ledger::new(GEOMETRY, Lsn(1024));
        let mut bytes = vec![9; 3 * CHUNK];
        ledger.append(&bytes[..CHUNK + 7]);
        ledger.append(&bytes[CHUNK + 7..]);
        assert_eq!(ledger.difference(Lsn(1024), &bytes), None);
        bytes[2 * CHUNK + 5] = 1;
        let at = Lsn(1024 + 2 * CHUNK as u64 + 5);
        assert_eq!(ledger.difference(Lsn(1024), &bytes), Some(at));
        assert_eq!(ledger.difference(Lsn(1000), &[9; 100]), None);
        assert_eq!(ledger.difference(ledger.end(), &[1, 2]), None);
        assert_eq!(ledger.byte(at), Some(9));
    }
}
