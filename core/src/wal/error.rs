//! The reasons why no further WAL record could be read. The texts are PostgreSQL's. Mirrors the
//! messages of xlogreader.c and xlogrecovery.c.
//!
//! The end of WAL has no mark. WAL ends at the first position without a valid record. Each of these
//! errors can therefore mean the end of WAL.

use super::names::segment_name;
use crate::base::{Geometry, Lsn, LsnText, PgVersion, SegmentNo, TimelineId};
use crate::wire::record::RecordError;
use alloc::format;
use alloc::string::String;
use core::fmt;

/// A page in error messages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PagePlace {
    /// Selects the format.
    pub version: PgVersion,
    /// The geometry, which determines file names and offsets.
    pub geometry: Geometry,
    /// The timeline of the file that is being read.
    pub tli: TimelineId,
    /// The page.
    pub page: Lsn,
}

/// Prints `log segment 000000010000000000000003, offset 8192` in 15. Later versions also print the
/// LSN.
impl fmt::Display for PagePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = segment_name(
            &self.geometry,
            self.tli,
            self.geometry.segment_of(self.page),
        );
        let offset = self.geometry.segment_offset(self.page);
        if self.version < PgVersion::V16 {
            write!(f, "log segment {file}, offset {offset}")
        } else {
            let page = self.page.text(self.version);
            write!(f, "WAL segment {file}, LSN {page}, offset {offset}")
        }
    }
}

/// The reason why no further WAL record could be read.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "the text of each variant is its documentation, its fields are what the text names"
)]
pub enum WalError {
    /// Occurs only with a planted bug. PostgreSQL versions that had this bug ended with this FATAL.
    #[error("invalid memory alloc request size {0}")]
    Allocation(u32),
    /// Occurs only with a planted bug. PostgreSQL versions that had this bug ended with SIGSEGV.
    #[error("checksum over a wrapped length of the record at {0}")]
    Segfault(Lsn),
    #[error("invalid magic number {magic:04X} in {place}")]
    Magic { magic: u16, place: PagePlace },
    #[error("invalid info bits {info:04X} in {place}")]
    InfoBits { info: u16, place: PagePlace },
    #[error(
        "WAL file is from different database system: WAL file database system identifier is {found}, \
         pg_control database system identifier is {expected}"
    )]
    SystemId { found: u64, expected: u64 },
    #[error("WAL file is from different database system: incorrect segment size in page header")]
    SegmentSize,
    #[error("WAL file is from different database system: incorrect XLOG_BLCKSZ in page header")]
    PageSize,
    #[error("unexpected pageaddr {pageaddr} in {place}")]
    PageAddr { pageaddr: LsnText, place: PagePlace },
    #[error("out-of-sequence timeline ID {tli} (after {latest}) in {place}")]
    TimelineOrder {
        tli: TimelineId,
        latest: TimelineId,
        place: PagePlace,
    },
    /// The caller of the reader reports this error, because the caller knows the expected
    /// timelines.
    #[error("unexpected timeline ID {tli} in {place}")]
    UnexpectedTimeline { tli: TimelineId, place: PagePlace },
    #[error("{}", offset_text(*version, *record, *least, *offset))]
    RecordOffset {
        version: PgVersion,
        record: Lsn,
        least: u32,
        offset: u32,
    },
    #[error("contrecord is requested by {0}")]
    ContrecordRequested(LsnText),
    #[error("{}", length_text(*version, *record, *len))]
    RecordLength {
        version: PgVersion,
        record: Lsn,
        len: u32,
    },
    #[error("invalid resource manager ID {rmid} at {record}")]
    Rmgr { rmid: u8, record: LsnText },
    #[error("record with incorrect prev-link {prev} at {record}")]
    PrevLink { prev: LsnText, record: LsnText },
    #[error("there is no contrecord flag at {0}")]
    NoContrecord(LsnText),
    #[error("invalid contrecord length {rem_len} (expected {expected}) at {record}")]
    ContrecordLength {
        rem_len: u32,
        expected: u64,
        record: LsnText,
    },
    #[error("record length {len} at {record} too long")]
    TooLong { len: u32, record: LsnText },
    #[error("incorrect resource manager data checksum in record at {0}")]
    Checksum(LsnText),
    /// As in PostgreSQL, the position is that of the last valid record, or 0/0.
    #[error("{error} at {last}")]
    Structure { error: RecordError, last: LsnText },
    /// The page source reports this error: the segment file is missing.
    #[error("could not find file \"{}\"", segment_name(geometry, *tli, *segment))]
    NoFile {
        geometry: Geometry,
        tli: TimelineId,
        segment: SegmentNo,
    },
    /// The page source reports this error: the file is too short, or the read failed.
    #[error("could not read from {place}: read {got} of {wanted}")]
    ShortRead {
        place: PagePlace,
        got: u32,
        wanted: u32,
    },
    /// The page source reports this error: none of its sources has the page.
    #[error("no WAL is available at {0}")]
    Unavailable(Lsn),
}

fn offset_text(version: PgVersion, record: Lsn, least: u32, offset: u32) -> String {
    let more = if version < PgVersion::V16 {
        String::new()
    } else {
        format!(": expected at least {least}, got {offset}")
    };
    format!("invalid record offset at {}{more}", record.text(version))
}

fn length_text(version: PgVersion, record: Lsn, len: u32) -> String {
    let wanted = if version < PgVersion::V16 {
        "wanted"
    } else {
        "expected at least"
    };
    let record = record.text(version);
    format!("invalid record length at {record}: {wanted} 24, got {len}")
}
