//! Writes WAL records into memory, for the first segment of a new cluster and for tests.

use super::position::{
    bytepos_to_start, lsn_to_bytepos, record_end, skip_header, switch_end, switch_returns,
};
use super::writer::{PageIdent, fragments, init_page, mark_contrecord, mark_overwrite};
use crate::base::{Geometry, Lsn, SegmentNo, TimestampTz, Xid};
use crate::wire::record::{RecordBody, RmgrId};
use crate::wire::xlog_records::{OverwriteContrecord, XlogRecord};
use alloc::vec::Vec;
use bytes::Bytes;

/// WAL in memory, from a segment boundary to the last record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WalBuilder {
    geometry: Geometry,
    ident: PageIdent,
    /// The position of the first byte, which is a segment boundary.
    base: Lsn,
    /// The bytes of all pages. The last page is complete.
    bytes: Vec<u8>,
    /// End of the last record.
    end: Lsn,
    /// Start of the last record.
    prev: Lsn,
}

/// Position of an appended record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Placed {
    /// Its start.
    pub start: Lsn,
    /// The end of the record. If the record fills its page, this is the page boundary.
    pub end: Lsn,
    /// The position at which the next record can start. After a switch record it is the end of the
    /// segment.
    pub next: Lsn,
}

impl WalBuilder {
    /// Empty WAL that starts at the beginning of a segment.
    #[must_use]
    pub const fn new(geometry: Geometry, ident: PageIdent, first: SegmentNo) -> Self {
        let base = geometry.segment_start(first);
        Self {
            geometry,
            ident,
            base,
            bytes: Vec::new(),
            end: base,
            prev: Lsn::INVALID,
        }
    }

    /// Start of the next record.
    #[must_use]
    pub const fn next_start(&self) -> Lsn {
        skip_header(&self.geometry, self.end)
    }

    /// The end of the last record. After a switch record it is the end of the segment.
    #[must_use]
    pub const fn end(&self) -> Lsn {
        self.end
    }

    /// Start of the last record.
    #[must_use]
    pub const fn prev(&self) -> Lsn {
        self.prev
    }

    /// Appends a record.
    pub fn append(&mut self, body: &RecordBody) -> Placed {
        let start = bytepos_to_start(&self.geometry, lsn_to_bytepos(&self.geometry, self.end));
        let mut record = body.assemble(self.geometry.data_page);
        record.finish(self.prev);
        for part in fragments(self.geometry, start, record.len()) {
            let page = self.page(part.page);
            if let Some(rem_len) = part.rem_len {
                mark_contrecord(page, rem_len);
            }
            let from = part.offset as usize;
            page[from..from + part.range.len()].copy_from_slice(&record.bytes()[part.range]);
        }
        let end = record_end(&self.geometry, start, record.len());
        let next = if record.is_switch() {
            switch_end(&self.geometry, end)
        } else {
            end
        };
        self.end = next;
        self.prev = start;
        Placed { start, end, next }
    }

    /// Ends the segment early (`RequestXLogSwitch`), and returns what pg_switch_wal() returns. Does
    /// nothing if WAL already ends at a segment boundary.
    pub fn switch(&mut self) -> Lsn {
        if self.geometry.segment_offset(self.end) == 0 {
            return self.end;
        }
        let info = XlogRecord::Switch.info();
        let placed = self.append(&RecordBody::new(
            RmgrId::XLOG,
            info,
            Xid::INVALID,
            Bytes::new(),
        ));
        switch_returns(&self.geometry, placed.start)
    }

    /// Abandons the record that starts at `aborted`, as crash recovery does. The page `missing` is
    /// rewritten and starts with an OVERWRITE_CONTRECORD. Earlier pages stay as they are. `last` is
    /// the start of the last complete record.
    ///
    /// # Panics
    /// If page `missing` was not written.
    pub fn overwrite_contrecord(
        &mut self,
        [last, aborted, missing]: [Lsn; 3],
        time: TimestampTz,
    ) -> Placed {
        let keep = usize::try_from(missing - self.base).expect("written");
        assert!(keep < self.bytes.len(), "{missing} was not written");
        self.bytes.truncate(keep);
        mark_overwrite(self.page(missing));
        self.end = missing;
        self.prev = last;
        let record = XlogRecord::OverwriteContrecord(OverwriteContrecord {
            overwritten_lsn: aborted,
            time,
        });
        let main = record.encode(self.ident.version);
        self.append(&RecordBody::new(
            RmgrId::XLOG,
            record.info(),
            Xid::INVALID,
            main,
        ))
    }

    /// Sets the header fields for pages that are initialized after this call.
    pub const fn set_ident(&mut self, ident: PageIdent) {
        self.ident = ident;
    }

    /// All bytes from the first segment on. The last page is complete.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The segments. The last segment is padded with zeros.
    #[must_use]
    pub fn segments(&self) -> Vec<(SegmentNo, Vec<u8>)> {
        let len = self.geometry.segment as usize;
        let numbers = (self.geometry.segment_of(self.base).0..).map(SegmentNo);
        numbers
            .zip(self.bytes.chunks(len))
            .map(|(number, bytes)| {
                let mut bytes = bytes.to_vec();
                bytes.resize(len, 0);
                (number, bytes)
            })
            .collect()
    }

    /// The page at `at`. If the page is new, it is initialized. Pages that a switch has skipped
    /// stay zero.
    fn page(&mut self, at: Lsn) -> &mut [u8] {
        let from = usize::try_from(at - self.base).expect("what is built fits into memory");
        let len = self.geometry.wal_page as usize;
        if self.bytes.len() <= from {
            self.bytes.resize(from + len, 0);
            init_page(&mut self.bytes[from..], &self.geometry, at, &self.ident);
        }
        &mut self.bytes[from..from + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PgVersion, TimelineId};
    use crate::wire::page::PageHeader;
    use crate::wire::record::{RecordHeader, checksum};
    use alloc::vec;

    fn builder() -> WalBuilder {
        let ident = PageIdent {
            version: PgVersion::V15,
            tli: TimelineId(1),
            sysid: 77,
            removable: true,
        };
        WalBuilder::new(Geometry::SMALLEST, ident, SegmentNo(1))
    }

    fn message(len: usize) -> RecordBody {
        RecordBody::new(RmgrId::LOGICAL_MESSAGE, 0, Xid(3), vec![7; len])
    }

    /// A record crosses pages and a segment boundary. Each page header has the number of bytes that
    /// remain.
    #[test]
    fn each_page_header_has_the_remaining_length() {
        let mut wal = builder();
        let placed = wal.append(&message(2000));
        assert_eq!(placed.start, Lsn(1024 + 40));
        let total = 24 + 5 + 2000;
        let mut at = placed.start;
        let mut got = Vec::new();
        for (n, page) in wal.bytes().chunks(256).enumerate() {
            let header = PageHeader::decode(page).expect("whole");
            assert_eq!(header.pageaddr.0, 1024 + 256 * n as u64);
            assert_eq!(header.header_len(), if n % 4 == 0 { 40 } else { 24 });
            let expected = if n == 0 { 0 } else { total - got.len() };
            assert_eq!(header.rem_len as usize, expected);
            let from = header.header_len() as usize;
            let to = 256.min(from + total - got.len());
            got.extend_from_slice(&page[from..to]);
            at = header.pageaddr + (to as u64).next_multiple_of(8);
        }
        assert_eq!((got.len(), placed.end), (total, at));
        let header = RecordHeader::decode(&got).expect("whole");
        assert_eq!((header.crc, header.prev), (checksum(&got), Lsn::INVALID));
    }

    /// A switch in the middle of a segment leaves zeros without page headers. A second switch
    /// directly after it writes nothing.
    #[test]
    fn a_switch_consumes_the_segment() {
        let mut wal = builder();
        wal.append(&message(10));
        let (before, returned) = (wal.next_start(), wal.switch());
        assert_eq!(returned, before + 24);
        assert_eq!(wal.switch(), Lsn(2048));
        let next = wal.append(&message(1));
        assert_eq!(next.start, Lsn(2048 + 40));
        assert!(wal.bytes()[256..1024].iter().all(|&b| b == 0));
        let segments = wal.segments();
        let record = RecordHeader::decode(&segments[1].1[40..]).expect("whole");
        assert_eq!((segments.len(), record.prev), (2, before));
    }

    /// If a switch record ends in the next segment, it also skips the rest of the next segment.
    #[test]
    fn a_switch_may_consume_the_next_segment() {
        let mut wal = builder();
        let target = Lsn(2048 - 16);
        let room = lsn_to_bytepos(&Geometry::SMALLEST, target)
            - lsn_to_bytepos(&Geometry::SMALLEST, wal.end());
        wal.append(&message(usize::try_from(room).expect("small") - 29));
        assert_eq!(wal.next_start(), target);
        assert_eq!(wal.switch(), Lsn(2048 + 40 + 8));
        assert_eq!(wal.end(), Lsn(3072));
    }

    /// If a switch record ends exactly at the end of its segment, it skips nothing.
    #[test]
    fn a_switch_may_end_with_the_segment() {
        let mut wal = builder();
        let room = lsn_to_bytepos(&Geometry::SMALLEST, Lsn(2048 - 24))
            - lsn_to_bytepos(&Geometry::SMALLEST, wal.end());
        wal.append(&message(usize::try_from(room).expect("small") - 29));
        assert_eq!(wal.switch(), Lsn(2048 + 40));
        assert_eq!(wal.end(), Lsn(2048));
    }

    /// Overwriting an incomplete record rewrites the missing page. The pages before the missing
    /// page stay.
    #[test]
    fn an_aborted_record_is_overwritten() {
        let mut wal = builder();
        let last = wal.append(&message(10));
        let aborted = wal.append(&message(600));
        let before = wal.bytes()[..512].to_vec();
        let missing = Lsn(1024 + 512);
        let placed = wal.overwrite_contrecord([last.start, aborted.start, missing], TimestampTz(0));
        assert_eq!(placed.start, missing + 24);
        assert_eq!(wal.bytes()[..512], before);
        let header = PageHeader::decode(&wal.bytes()[512..]).expect("whole");
        assert_eq!((header.info, header.rem_len), (0x000C, 0));
        let record = RecordHeader::decode(&wal.bytes()[536..]).expect("whole");
        assert_eq!((record.tot_len, record.prev), (42, last.start));
    }
}
