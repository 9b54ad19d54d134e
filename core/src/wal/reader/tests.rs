//! Tests of the reader. Written WAL is read back. Reading damaged WAL ends at the damage, with
//! PostgreSQL's message.

use super::*;
use crate::base::{Planted, SegmentNo, TimestampTz, Xid};
use crate::wal::position::lsn_to_bytepos;
use crate::wal::{PageIdent, Placed, WalBuilder};
use crate::wire::record::{BlockPart, Image, RecordBody, RelLocator, RmgrId};
use crate::wire::xlog_records::{OverwriteContrecord, XlogRecord};
use alloc::string::{String, ToString};
use alloc::vec;

mod properties;

const SYSID: u64 = 0x0123_4567_89AB_CDEF;

const fn geometry(wal_page: u32, segment: u32) -> Geometry {
    Geometry {
        wal_page,
        segment,
        data_page: 512,
        sector: 64,
    }
}

fn builder(geometry: Geometry, version: PgVersion) -> WalBuilder {
    let ident = PageIdent {
        version,
        tli: TimelineId(1),
        sysid: SYSID,
        removable: true,
    };
    WalBuilder::new(geometry, ident, SegmentNo(1))
}

fn message(len: usize) -> RecordBody {
    let fill = u8::try_from(len % 251).expect("below 256");
    RecordBody::new(RmgrId::LOGICAL_MESSAGE, 0, Xid(3), vec![fill; len])
}

/// The bytes of WAL from segment 1 on, and how they are fed to a reader.
struct Source<'a> {
    geometry: Geometry,
    bytes: &'a [u8],
    /// Whether the reader is fed only the bytes that it requested, as from a stream.
    stingy: bool,
}

impl Source<'_> {
    fn feed(&self, reader: &mut WalReader, page: Lsn, len: u32) {
        let whole = self.geometry.wal_page;
        let from = usize::try_from(page - self.geometry.segment_start(SegmentNo(1)));
        let from = from.expect("behind the start");
        let len = if self.stingy { len } else { whole } as usize;
        match self.bytes.get(from..from + len) {
            Some(bytes) => reader.feed(page, Bytes::copy_from_slice(bytes)),
            None => reader.feed_failed(WalError::Unavailable(page)),
        }
    }

    fn next(&self, reader: &mut WalReader) -> Result<Record, WalError> {
        let mut probe = Probe::new(Planted::NONE);
        loop {
            match reader.next(&mut probe) {
                Next::Record(record) => return Ok(record),
                Next::Need { page, len, record } => {
                    assert!(page <= record || record >= Lsn(u64::from(self.geometry.segment)));
                    self.feed(reader, page, len);
                }
                Next::End(error) => return Err(error),
            }
        }
    }

    fn read_all(&self, reader: &mut WalReader) -> (Vec<Record>, WalError) {
        let mut records = Vec::new();
        loop {
            match self.next(reader) {
                Ok(record) => records.push(record),
                Err(error) => return (records, error),
            }
        }
    }
}

fn source<'a>(wal: &'a WalBuilder, geometry: Geometry) -> Source<'a> {
    let (bytes, stingy) = (wal.bytes(), false);
    Source {
        geometry,
        bytes,
        stingy,
    }
}

fn reader(geometry: Geometry, version: PgVersion) -> WalReader {
    let mut reader = WalReader::new(geometry, version, Some(SYSID));
    reader.set_file_tli(TimelineId(1));
    reader.begin_read(geometry.segment_start(SegmentNo(1)));
    reader
}

/// Changes one record or page of a small WAL. Returns the incomplete record at the end of WAL, and
/// the error at which the reader stops.
fn end_after(version: PgVersion, change: impl Fn(&mut [u8])) -> (Option<Aborted>, String) {
    let mut wal = builder(Geometry::SMALLEST, version);
    for len in [10, 400, 20] {
        wal.append(&message(len));
    }
    let mut bytes = wal.bytes().to_vec();
    change(&mut bytes);
    let source = Source {
        geometry: Geometry::SMALLEST,
        bytes: &bytes,
        stingy: false,
    };
    let mut reader = reader(Geometry::SMALLEST, version);
    let (_, error) = source.read_all(&mut reader);
    (reader.aborted, error.to_string())
}

fn put(at: usize, new: &'static [u8]) -> impl Fn(&mut [u8]) {
    move |bytes| bytes[at..at + new.len()].copy_from_slice(new)
}

/// The WAL of [`end_after`] has records at 0x428 (36 bytes), 0x450 (429 bytes, on three pages) and
/// 0x628.
#[test]
fn messages_are_postgresqls() {
    use PgVersion::{V15, V18};
    let file = "000000010000000000000001";
    for (version, change, text) in [
        (
            V15,
            put(256, &[0]),
            alloc::format!("invalid magic number D100 in log segment {file}, offset 256"),
        ),
        (
            V18,
            put(256, &[0]),
            alloc::format!(
                "invalid magic number D100 in WAL segment {file}, LSN 0/500, offset 256"
            ),
        ),
        (
            V15,
            put(258, &[0x15]),
            alloc::format!("invalid info bits 0015 in log segment {file}, offset 256"),
        ),
        (
            V15,
            put(2, &[0x04]),
            alloc::format!("invalid info bits 0004 in log segment {file}, offset 0"),
        ),
        (
            V15,
            put(24, &[0xEE]),
            "WAL file is from different database system: WAL file database system identifier is \
            81985529216486894, pg_control database system identifier is 81985529216486895"
                .into(),
        ),
        (
            V15,
            put(33, &[0]),
            "WAL file is from different database system: incorrect segment size in page header"
                .into(),
        ),
        (
            V15,
            put(37, &[0]),
            "WAL file is from different database system: incorrect XLOG_BLCKSZ in page header"
                .into(),
        ),
        (
            V18,
            put(264, &[8]),
            alloc::format!(
                "unexpected pageaddr 0/508 in WAL segment {file}, LSN 0/500, offset 256"
            ),
        ),
        (
            V15,
            put(260, &[0]),
            alloc::format!(
                "out-of-sequence timeline ID 0 (after 1) in log segment {file}, offset 256"
            ),
        ),
        (
            V15,
            put(2, &[0x07]),
            "contrecord is requested by 0/428".into(),
        ),
        (
            V15,
            put(80, &[23, 0]),
            "invalid record length at 0/450: wanted 24, got 23".into(),
        ),
        (
            V18,
            put(80, &[0, 0]),
            "invalid record length at 0/450: expected at least 24, got 0".into(),
        ),
        (
            V15,
            put(80 + 17, &[77]),
            "invalid resource manager ID 77 at 0/450".into(),
        ),
        (
            V15,
            put(80 + 8, &[0x20]),
            "record with incorrect prev-link 0/420 at 0/450".into(),
        ),
        (
            V15,
            put(258, &[4]),
            "there is no contrecord flag at 0/450".into(),
        ),
        (
            V15,
            put(256 + 16, &[1]),
            "invalid contrecord length 1 (expected 253) at 0/450".into(),
        ),
        (
            V15,
            put(256 + 30, &[1]),
            "incorrect resource manager data checksum in record at 0/450".into(),
        ),
    ] {
        assert_eq!(end_after(version, change).1, text);
    }
}

/// If a record continues on a second page, an error on that page or on a later page sets `aborted`.
/// An error on the first page of the record does not set `aborted`.
#[test]
fn incomplete_records_are_reported() {
    let at = |missing| {
        Some(Aborted {
            record: Lsn(0x450),
            missing: Lsn(missing),
        })
    };
    assert_eq!(end_after(PgVersion::V15, put(256, &[0])).0, at(0x500));
    assert_eq!(end_after(PgVersion::V15, put(258, &[4])).0, at(0x500));
    assert_eq!(end_after(PgVersion::V15, put(512, &[0])).0, at(0x600));
    assert_eq!(end_after(PgVersion::V15, put(256 + 30, &[1])).0, at(0x600));
    assert_eq!(end_after(PgVersion::V15, put(80, &[0, 0])).0, None);
    assert_eq!(end_after(PgVersion::V15, |_| ()).0, None);
}

/// An error in the structure of a record names the last valid record. The invalid record is tried
/// again, not skipped.
#[test]
fn a_refused_record_is_tried_again() {
    let mut wal = builder(Geometry::SMALLEST, PgVersion::V15);
    let first = wal.append(&message(10));
    let second = wal.append(&message(20));
    wal.append(&message(30));
    let mut bytes = wal.bytes().to_vec();
    let at = usize::try_from(second.start - Lsn(1024)).expect("small");
    bytes[at + 24] = 33;
    let crc = checksum(&bytes[at..at + 46]).to_le_bytes();
    bytes[at + 20..at + 24].copy_from_slice(&crc);
    let bad = Source {
        geometry: Geometry::SMALLEST,
        bytes: &bytes,
        stingy: false,
    };
    let mut reader = reader(Geometry::SMALLEST, PgVersion::V15);
    assert_eq!(bad.next(&mut reader).map(|r| r.lsn), Ok(first.start));
    for _ in 0..2 {
        let error = bad.next(&mut reader).expect_err("refused");
        assert_eq!(error.to_string(), "invalid block_id 33 at 0/428");
        assert_eq!((reader.decoded, reader.end), (first.start, first.next));
    }
    let good = source(&wal, Geometry::SMALLEST);
    assert_eq!(good.next(&mut reader).map(|r| r.lsn), Ok(second.start));
    assert_eq!(good.read_all(&mut reader).0.len(), 1);
}

/// If a page cannot be read, the reader returns the reason that the page source reported. At the
/// next call the reader requests the page again.
#[test]
fn a_failed_page_is_requested_again() {
    let mut wal = builder(Geometry::SMALLEST, PgVersion::V15);
    let placed = wal.append(&message(1500));
    let short = Source {
        bytes: &wal.bytes()[..512],
        ..source(&wal, Geometry::SMALLEST)
    };
    let mut reader = reader(Geometry::SMALLEST, PgVersion::V15);
    for _ in 0..2 {
        assert_eq!(
            short.next(&mut reader),
            Err(WalError::Unavailable(Lsn(0x600)))
        );
        let (record, missing) = (placed.start, Lsn(0x600));
        assert_eq!(reader.aborted, Some(Aborted { record, missing }));
    }
    let record = source(&wal, Geometry::SMALLEST)
        .next(&mut reader)
        .expect("whole");
    assert_eq!(
        (record.lsn, record.end, reader.aborted),
        (placed.start, placed.end, None)
    );
}

/// The reader requests as few bytes as possible, in PostgreSQL's order. When it enters a segment,
/// it checks the first page of the segment.
#[test]
fn requests_are_minimal() {
    let mut wal = builder(Geometry::SMALLEST, PgVersion::V15);
    wal.append(&message(700));
    let second = wal.append(&message(300));
    let source = Source {
        stingy: true,
        ..source(&wal, Geometry::SMALLEST)
    };
    let mut reader = reader(Geometry::SMALLEST, PgVersion::V15);
    reader.begin_read(second.start);
    let mut probe = Probe::new(Planted::NONE);
    let mut needs = Vec::new();
    let record = loop {
        match reader.next(&mut probe) {
            Next::Need { page, len, .. } => {
                needs.push((page.0, len));
                source.feed(&mut reader, page, len);
            }
            Next::Record(record) => break record,
            Next::End(error) => panic!("{error}"),
        }
    };
    assert_eq!(record.lsn, Lsn(0x750));
    assert_eq!(
        needs,
        [
            (0x400, 256),
            (0x700, 0x50 + 24),
            (0x700, 256),
            (0x800, 24),
            (0x800, 40),
            (0x800, 40 + 153),
        ]
    );
}

/// An incomplete record that was overwritten is skipped. The record that overwrote it is returned.
#[test]
fn an_overwritten_record_is_skipped() {
    for (missing, stingy) in [(0x500, false), (0x600, true), (0x800, true)] {
        let mut wal = builder(Geometry::SMALLEST, PgVersion::V18);
        let last = wal.append(&message(10));
        let aborted = wal.append(&message(1300));
        let lsns = [last.start, aborted.start, Lsn(missing)];
        let overwrite = wal.overwrite_contrecord(lsns, TimestampTz(5));
        let after = wal.append(&message(20));
        let source = Source {
            stingy,
            ..source(&wal, Geometry::SMALLEST)
        };
        let mut reader = reader(Geometry::SMALLEST, PgVersion::V18);
        assert_eq!(source.next(&mut reader).map(|r| r.lsn), Ok(last.start));
        let record = source.next(&mut reader).expect("the overwriting record");
        assert_eq!(record.lsn, overwrite.start);
        assert_eq!(reader.overwritten, Some(aborted.start));
        let payload = XlogRecord::decode(PgVersion::V18, record.header.info, &record.main);
        let expected = OverwriteContrecord {
            overwritten_lsn: aborted.start,
            time: TimestampTz(5),
        };
        assert_eq!(payload, Ok(XlogRecord::OverwriteContrecord(expected)));
        assert_eq!(source.next(&mut reader).map(|r| r.lsn), Ok(after.start));

        reader.find_next_record(aborted.start + 8);
        assert_eq!(source.next(&mut reader).map(|r| r.lsn), Ok(overwrite.start));
    }
}

/// For every position, the reader finds the first record at or after that position.
#[test]
fn the_next_record_is_found() {
    let mut wal = builder(Geometry::SMALLEST, PgVersion::V15);
    let starts: Vec<Lsn> = [10, 900, 20, 216, 30, 5, 2000, 1]
        .into_iter()
        .map(|len| wal.append(&message(len)).start)
        .collect();
    let source = source(&wal, Geometry::SMALLEST);
    let mut at = Lsn(1024);
    while at < wal.end() {
        let mut reader = reader(Geometry::SMALLEST, PgVersion::V15);
        reader.find_next_record(at);
        let expected = starts.iter().find(|start| **start >= at);
        let found = source.next(&mut reader).ok();
        assert_eq!(found.map(|r| r.lsn).as_ref(), expected, "from {at}");
        at += 8;
    }
}

/// An impossible length is rejected, even if the headers of all pages agree with it.
#[test]
fn absurd_lengths_end_the_wal() {
    let total: u32 = 0x5000_0000;
    let mut wal = builder(Geometry::SMALLEST, PgVersion::V15);
    wal.append(&message(600));
    let mut bytes = wal.bytes().to_vec();
    bytes[40..44].copy_from_slice(&total.to_le_bytes());
    bytes[272..276].copy_from_slice(&(total - 216).to_le_bytes());
    let source = Source {
        geometry: Geometry::SMALLEST,
        bytes: &bytes,
        stingy: false,
    };
    let error = source
        .next(&mut reader(Geometry::SMALLEST, PgVersion::V15))
        .expect_err("too long");
    assert_eq!(
        error.to_string(),
        "record length 1342177280 at 0/428 too long"
    );
}

/// Positions at which no record can start. Such positions can come from damaged files.
#[test]
fn absurd_positions_end_the_wal() {
    let mut wal = builder(Geometry::SMALLEST, PgVersion::V18);
    wal.append(&message(100));
    let source = source(&wal, Geometry::SMALLEST);
    let mut reader = reader(Geometry::SMALLEST, PgVersion::V18);
    for (at, text) in [
        (
            0x410,
            "invalid record offset at 0/410: expected at least 40, got 16",
        ),
        (
            0x42C,
            "invalid record offset at 0/42C: expected at least 40, got 44",
        ),
        (
            0x4FC,
            "invalid record offset at 0/4FC: expected at least 40, got 252",
        ),
        (
            0x450,
            "invalid record length at 0/450: expected at least 24, got 117901063",
        ),
    ] {
        reader.begin_read(Lsn(at));
        let error = source.next(&mut reader).expect_err(text).to_string();
        if at != 0x450 {
            assert_eq!(error, text);
        }
    }
    for at in [Lsn(0), Lsn::MAX, Lsn(!255)] {
        for seek in [false, true] {
            if seek {
                reader.find_next_record(at)
            } else {
                reader.begin_read(at)
            }
            let mut probe = Probe::new(Planted::NONE);
            match reader.next(&mut probe) {
                Next::Need { page, .. } => {
                    reader.feed_failed(WalError::Unavailable(page));
                    assert!(matches!(reader.next(&mut probe), Next::End(_)));
                }
                Next::End(_) => {}
                Next::Record(record) => panic!("{record:?}"),
            }
        }
    }
}

/// If the header of a record crosses pages, the header is checked after both parts were read.
#[test]
fn a_split_header_is_checked() {
    let mut wal = builder(Geometry::SMALLEST, PgVersion::V15);
    let room = lsn_to_bytepos(&Geometry::SMALLEST, Lsn(0x5F8))
        - lsn_to_bytepos(&Geometry::SMALLEST, wal.end());
    wal.append(&message(usize::try_from(room).expect("small") - 29));
    let split = wal.append(&message(10));
    assert_eq!(split.start, Lsn(0x5F8));
    let good = source(&wal, Geometry::SMALLEST);
    assert_eq!(
        good.read_all(&mut reader(Geometry::SMALLEST, PgVersion::V15))
            .0
            .len(),
        2
    );
    let mut bytes = wal.bytes().to_vec();
    bytes[512 + 24] ^= 1;
    let bad = Source {
        bytes: &bytes,
        ..good
    };
    let mut reader = reader(Geometry::SMALLEST, PgVersion::V15);
    let (_, error) = bad.read_all(&mut reader);
    assert_eq!(
        error.to_string(),
        "record with incorrect prev-link 0/429 at 0/5F8"
    );
    let (record, missing) = (split.start, Lsn(0x600));
    assert_eq!(reader.aborted, Some(Aborted { record, missing }));
}

/// A record starts 8 bytes before the end of a page, so its length is on this page. As in a
/// recycled segment, the next page does not continue the record.
#[test]
fn a_length_in_the_last_bytes_of_a_page() {
    let garbage = |len: u32, bug: Option<Bug>| {
        let mut wal = builder(Geometry::SMALLEST, PgVersion::V15);
        // The record is padded so that it ends 8 bytes before the end of the page.
        let room = 256 - 40 - 8;
        let placed = wal.append(&message(room - 24 - 2));
        assert_eq!(placed.end, Lsn(1024 + 248));
        let mut bytes = wal.bytes().to_vec();
        bytes[248..252].copy_from_slice(&len.to_le_bytes());
        let mut reader = reader(Geometry::SMALLEST, PgVersion::V15);
        reader.begin_read(Lsn(1024 + 40));
        let planted = bug.map_or(Planted::NONE, |bug| Planted::NONE.with(bug));
        let mut probe = Probe::new(planted);
        let source = Source {
            geometry: Geometry::SMALLEST,
            bytes: &bytes,
            stingy: false,
        };
        loop {
            match reader.next(&mut probe) {
                Next::Record(_) => {}
                Next::Need { page, len, .. } => source.feed(&mut reader, page, len),
                Next::End(error) => return error,
            }
        }
    };
    let at = Lsn(1024 + 248);
    let refused = WalError::RecordLength {
        version: PgVersion::V15,
        record: at,
        len: 0,
    };
    assert_eq!(garbage(0, None), refused);
    assert!(!matches!(
        garbage(MAX_RECORD + 1, None),
        WalError::Allocation(_)
    ));
    if Planted::AVAILABLE {
        let trusted = garbage(MAX_RECORD + 1, Some(Bug::TrustUnvalidatedLength));
        assert_eq!(trusted, WalError::Allocation(MAX_RECORD + 1));
        assert_eq!(
            garbage(0, Some(Bug::ShortLengthAtPageEnd)),
            WalError::Segfault(at)
        );
        // A record of this length continues on the next page. Even without the check of the length,
        // the reader stops at the header of the next page, because that page does not continue the
        // record.
        let next = garbage(20, Some(Bug::ShortLengthAtPageEnd));
        assert!(!matches!(next, WalError::Segfault(_)), "{next:?}");
    }
}
