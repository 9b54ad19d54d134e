//! Reads WAL record by record. Mirrors xlogreader.c (XLogReadRecord, XLogDecodeNextRecord,
//! XLogFindNextRecord).
//!
//! The reader is a pull parser and does not access files. [`WalReader::next`] returns a record,
//! requests bytes of a page, or returns the reason why there is no further valid record. The reader
//! allocates memory only for bytes that it was given, even if a record claims to be longer. Unlike
//! in PostgreSQL, the reader's position advances only after a record was decoded completely. After
//! an error the same record can therefore be tried again from another source.

mod header;
mod pages;
mod room;
#[cfg(test)]
mod tests;

pub use room::Room;

use super::position::switch_end;
use super::{PagePlace, WalError};
use crate::base::{Bug, Geometry, Lsn, PgVersion, Probe, TimelineId};
use crate::wire::page::{FIRST_IS_CONTRECORD, PageHeader, overwrite_contrecord};
use crate::wire::record::{Record, RecordHeader, RecordParts, RecordView, checksum};
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;
use header::{check_header, check_length};
use pages::{Pages, Stop};
use room::Held;

/// The largest record that can be read (`MaxAllocSize`). PostgreSQL cannot allocate more.
pub const MAX_RECORD: u32 = (1 << 30) - 1;
/// A record that starts at this position or later could end beyond the largest LSN.
const TOO_FAR: Lsn = Lsn(u64::MAX - (1 << 33));
/// Bytes of a record header.
const RECORD_HEADER: u32 = 24;

/// The result of [`WalReader::next`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Next<R = Record> {
    /// The next record.
    Record(R),
    /// The caller must feed at least `len` bytes of the page, or report that the page cannot be
    /// read. After that the caller calls `next` again.
    Need {
        /// The page.
        page: Lsn,
        /// The number of bytes, from the start of the page, that the reader needs.
        len: u32,
        /// The record that needs the page.
        record: Lsn,
    },
    /// No valid record was found. The next call tries the same record again from its start.
    End(WalError),
}

/// A record of which only the first part could be read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Aborted {
    /// The start of the record (abortedRecPtr).
    pub record: Lsn,
    /// The page that is missing or invalid (missingContrecPtr).
    pub missing: Lsn,
}

/// Reads records from pages that the caller feeds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WalReader {
    /// The start of the last record that was returned (ReadRecPtr). Invalid right after the reader
    /// was positioned.
    pub decoded: Lsn,
    /// The end of the last record that was returned (EndRecPtr). The next record is expected there.
    pub end: Lsn,
    /// The incomplete record at the end of WAL. It is set when [`Next::End`] is returned for a
    /// record that continues beyond its first page.
    pub aborted: Option<Aborted>,
    /// The start of an incomplete record that was overwritten (overwrittenRecPtr). Redo of the
    /// OVERWRITE_CONTRECORD record compares this position with the position in the record, and
    /// clears the field.
    pub overwritten: Option<Lsn>,
    pages: Pages,
    phase: Phase,
    /// The reader skips records that start before this position.
    seek: Option<Lsn>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// Between two records.
    Idle,
    /// Searches for the first record on or after this page.
    Skipping(Lsn),
    /// Reads the record at this position. If the position is a page boundary, reads the first
    /// record on the page.
    Starting(Lsn),
    /// Assembles a record from several pages.
    Assembling(Partial),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Partial {
    start: Lsn,
    total: u32,
    /// The bytes of the record that were read so far. Empty until the rest of the record's first
    /// page is fed.
    got: Vec<u8>,
    /// The next page to read.
    page: Lsn,
}

impl<R> Next<R> {
    #[inline]
    fn map<T>(self, record: impl FnOnce(R) -> T) -> Next<T> {
        match self {
            Self::Record(found) => Next::Record(record(found)),
            Self::Need { page, len, record } => Next::Need { page, len, record },
            Self::End(error) => Next::End(error),
        }
    }
}

impl WalReader {
    /// A reader that is not yet positioned. `sysid` is the system identifier that pages must have.
    #[must_use]
    pub const fn new(geometry: Geometry, version: PgVersion, sysid: Option<u64>) -> Self {
        Self {
            decoded: Lsn::INVALID,
            end: Lsn::INVALID,
            aborted: None,
            overwritten: None,
            pages: Pages::new(geometry, version, sysid),
            phase: Phase::Idle,
            seek: None,
        }
    }

    /// Positions the reader at the record at `lsn` (`XLogBeginRead`). If `lsn` is a page boundary,
    /// positions the reader at the first record on the page.
    pub fn begin_read(&mut self, lsn: Lsn) {
        self.decoded = Lsn::INVALID;
        self.end = lsn;
        self.phase = Phase::Idle;
        self.seek = None;
    }

    /// Positions the reader at the first record at or after `lsn` (`XLogFindNextRecord`). `lsn` can
    /// be any position.
    pub fn find_next_record(&mut self, lsn: Lsn) {
        self.begin_read(lsn);
        self.phase = Phase::Skipping(self.geometry().page_start(lsn));
        self.seek = Some(lsn);
    }

    /// Feeds the first bytes of a page, or the whole page.
    ///
    /// # Panics
    /// If `page` is not a page boundary, or `bytes` is longer than a page.
    pub fn feed(&mut self, page: Lsn, bytes: Bytes) {
        self.pages.feed(page, bytes);
    }

    /// Reports that the requested page cannot be read. The next call of `next` returns this reason.
    pub fn feed_failed(&mut self, reason: WalError) {
        self.pages.feed_failed(reason);
    }

    /// Checks the header of a whole page before the page is fed (`XLogReaderValidatePageHeader`).
    ///
    /// # Errors
    /// The first check that fails.
    ///
    /// # Panics
    /// If `bytes` is shorter than a long page header.
    pub fn check_page(&self, page: Lsn, bytes: &[u8]) -> Result<(), WalError> {
        let header = PageHeader::decode(bytes).expect("a whole page is there");
        self.pages.check(page, &header, bytes)
    }

    /// Forgets the current page. The reader will request the page again.
    pub fn invalidate(&mut self) {
        self.pages.invalidate();
    }

    /// Forgets the bytes of the current record and of the current page.
    pub fn restart(&mut self) {
        self.phase = match self.phase {
            Phase::Skipping(page) => Phase::Skipping(page),
            Phase::Idle | Phase::Starting(_) | Phase::Assembling(_) => Phase::Idle,
        };
        self.pages.invalidate();
    }

    /// Sets the timeline of the file from which pages are now read. The timeline is used only in
    /// error messages.
    pub const fn set_file_tli(&mut self, tli: TimelineId) {
        self.pages.file_tli = tli;
    }

    /// The page and segment sizes.
    #[must_use]
    pub const fn geometry(&self) -> &Geometry {
        &self.pages.geometry
    }

    /// The timeline in the last page header that was checked (latestPageTLI).
    #[must_use]
    pub const fn latest_page_tli(&self) -> TimelineId {
        self.pages.latest_tli()
    }

    /// The last page whose header was checked (latestPagePtr).
    #[must_use]
    pub const fn latest_page(&self) -> Lsn {
        self.pages.latest_page()
    }

    /// A page for use in error messages.
    #[must_use]
    pub const fn place(&self, page: Lsn) -> PagePlace {
        self.pages.place(page)
    }

    /// Returns the next record, or a request for bytes, or the reason why there is no further
    /// record.
    pub fn next(&mut self, probe: &mut Probe) -> Next {
        let mut room = Room::default();
        self.advance(probe, &mut room).map(|held| {
            let bytes = match held {
                Held::InPage => self.pages.bytes().slice(self.range(&room.parts)),
                Held::Gathered => Bytes::from(room.gathered),
            };
            Record::from_parts(&room.parts, &bytes)
        })
    }

    /// Like [`WalReader::next`], but does not copy the record. The result is a view of the bytes in
    /// the page. If the record crosses pages, its bytes are collected in `room`, and the result is
    /// a view of `room`.
    #[inline]
    pub fn next_view<'a>(
        &'a mut self,
        probe: &mut Probe,
        room: &'a mut Room,
    ) -> Next<RecordView<'a>> {
        self.advance(probe, room).map(|held| {
            room.parts.view(match held {
                Held::InPage => &self.pages.bytes()[self.range(&room.parts)],
                Held::Gathered => &room.gathered,
            })
        })
    }

    /// The range of a record in its page.
    #[inline]
    const fn range(&self, parts: &RecordParts) -> Range<usize> {
        let from = self.geometry().page_offset(parts.lsn) as usize;
        from..from + parts.header.tot_len as usize
    }

    fn advance(&mut self, probe: &mut Probe, room: &mut Room) -> Next<Held> {
        loop {
            let step = match &self.phase {
                Phase::Idle => {
                    self.aborted = None;
                    self.start(self.end, probe, room)
                }
                Phase::Skipping(page) => self.skip(*page).map(|()| None),
                Phase::Starting(at) => self.start(*at, probe, room),
                Phase::Assembling(_) => self.assemble(probe, room),
            };
            match step {
                Ok(None) => {}
                Ok(Some(held)) => {
                    self.decoded = room.parts.lsn;
                    self.end = room.parts.next;
                    if !matches!(self.phase, Phase::Idle) {
                        self.phase = Phase::Idle;
                    }
                    if self.seek.is_none_or(|target| target <= self.decoded) {
                        self.seek = None;
                        return Next::Record(held);
                    }
                }
                Err(Stop::Need { page, len }) => {
                    let record = self.current();
                    if matches!(self.phase, Phase::Idle) {
                        self.phase = Phase::Starting(record);
                    }
                    return Next::Need { page, len, record };
                }
                Err(Stop::Failed(error)) => return self.fail(error),
            }
        }
    }

    fn fail(&mut self, error: WalError) -> Next<Held> {
        if let Phase::Assembling(partial) = &self.phase {
            self.aborted = Some(Aborted {
                record: partial.start,
                missing: partial.page,
            });
        }
        self.restart();
        Next::End(error)
    }

    /// The start of the record that is being read.
    const fn current(&self) -> Lsn {
        match &self.phase {
            Phase::Idle => self.end,
            Phase::Skipping(at) | Phase::Starting(at) => *at,
            Phase::Assembling(partial) => partial.start,
        }
    }

    /// Skips the rest of a record that began on an earlier page.
    fn skip(&mut self, page: Lsn) -> Result<(), Stop> {
        if page > TOO_FAR {
            return Err(self.bad_offset(page, 0, 0));
        }
        let header = self.pages.fetch(page, 0)?;
        let (header_len, wal_page) = (header.header_len(), self.geometry().wal_page);
        let rest = u64::from(header.rem_len).next_multiple_of(8);
        if !header.has(FIRST_IS_CONTRECORD) {
            self.end = page + u64::from(header_len);
        } else if rest >= u64::from(wal_page - header_len) {
            self.phase = Phase::Skipping(page + u64::from(wal_page));
            return Ok(());
        } else {
            self.end = page + u64::from(header_len) + rest;
        }
        self.phase = Phase::Idle;
        Ok(())
    }

    /// Reads a record up to the end of its first page.
    #[inline]
    fn start(&mut self, at: Lsn, probe: &mut Probe, room: &mut Room) -> Result<Option<Held>, Stop> {
        let geometry = *self.geometry();
        let wal_page = geometry.wal_page;
        let (page, mut offset) = (geometry.page_start(at), geometry.page_offset(at));
        let header = self
            .pages
            .fetch(page, (offset + RECORD_HEADER).min(wal_page))?;
        let least = header.header_len();
        if offset == 0 {
            offset = least;
            self.pages.fetch(page, offset + RECORD_HEADER)?;
        } else if offset < least || offset % 8 != 0 || at > TOO_FAR {
            return Err(self.bad_offset(at, least, offset));
        }
        let start = page + u64::from(offset);
        if header.has(FIRST_IS_CONTRECORD) && offset == least {
            return Err(WalError::ContrecordRequested(self.pages.text(start)).into());
        }

        let bytes = &self.pages.bytes()[offset as usize..];
        let total = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if let Ok(header) = RecordHeader::decode(bytes) {
            check_header(self.pages.version, self.decoded, start, &header)?;
        } else {
            // Up to 15.4, memory for the record was allocated before the length of the record was
            // validated. In a recycled segment the length can be left over from old WAL.
            if total > MAX_RECORD && probe.planted(Bug::TrustUnvalidatedLength) {
                return Err(WalError::Allocation(total).into());
            }
            // Up to 15.4, a length below the minimum was not rejected here. The length of the
            // checksummed part then wrapped around. The checksum was computed over nearly all of
            // memory.
            if let Err(error) = check_length(self.pages.version, start, total) {
                if !probe.planted(Bug::ShortLengthAtPageEnd) {
                    return Err(error.into());
                }
                if total <= wal_page - offset {
                    return Err(WalError::Segfault(start).into());
                }
            }
        }
        if total > wal_page - offset {
            let mut got = core::mem::take(&mut room.gathered);
            got.clear();
            self.phase = Phase::Assembling(Partial {
                start,
                total,
                got,
                page: page + u64::from(wal_page),
            });
            return Ok(None);
        }
        self.pages.fetch(page, offset + total)?;
        let range = offset as usize..(offset + total) as usize;
        let end = Lsn(start.0 + u64::from(total)).align8();
        self.decode(
            start,
            &self.pages.bytes()[range],
            end,
            probe,
            &mut room.parts,
        )?;
        Ok(Some(Held::InPage))
    }

    /// Adds the part of the record that is on the next page.
    fn assemble(&mut self, probe: &mut Probe, room: &mut Room) -> Result<Option<Held>, Stop> {
        let Phase::Assembling(partial) = &mut self.phase else {
            unreachable!("called in this phase only")
        };
        let Partial {
            start, total, page, ..
        } = *partial;
        let wal_page = self.pages.geometry.wal_page;
        if partial.got.is_empty() {
            let first = self.pages.geometry.page_start(start);
            let offset = self.pages.geometry.page_offset(start);
            self.pages.fetch(first, wal_page)?;
            partial
                .got
                .extend_from_slice(&self.pages.bytes()[offset as usize..]);
        }
        let got = u32::try_from(partial.got.len()).expect("less than the record");
        let overwrite = overwrite_contrecord(self.pages.version);
        let header = self.pages.fetch(page, 0)?;
        if header.has(overwrite) {
            self.overwritten = Some(start);
            self.phase = Phase::Starting(page);
            return Ok(None);
        }
        if !header.has(FIRST_IS_CONTRECORD) {
            return Err(WalError::NoContrecord(self.pages.text(start)).into());
        }
        let missing = total - got;
        if header.rem_len != missing {
            return Err(WalError::ContrecordLength {
                rem_len: header.rem_len,
                expected: u64::from(missing),
                record: self.pages.text(start),
            }
            .into());
        }
        let header_len = header.header_len();
        let take = missing.min(wal_page - header_len);
        self.pages.fetch(page, header_len + take)?;
        let (from, to) = (header_len as usize, (header_len + take) as usize);
        partial.got.extend_from_slice(&self.pages.bytes()[from..to]);

        if got < RECORD_HEADER {
            check_length(self.pages.version, start, total)?;
            let header = RecordHeader::decode(&partial.got).expect("two pages hold a header");
            check_header(self.pages.version, self.decoded, start, &header)?;
        }
        if total > MAX_RECORD {
            let (len, record) = (total, self.pages.text(start));
            return Err(WalError::TooLong { len, record }.into());
        }
        if take < missing {
            partial.page += u64::from(wal_page);
            return Ok(None);
        }
        room.gathered = core::mem::take(&mut partial.got);
        let end = Lsn(page.0 + u64::from(header_len + take)).align8();
        self.decode(start, &room.gathered, end, probe, &mut room.parts)?;
        Ok(Some(Held::Gathered))
    }

    /// Validates and decodes a complete record. `end` is the end of the record, including padding.
    #[inline]
    fn decode(
        &self,
        start: Lsn,
        bytes: &[u8],
        end: Lsn,
        probe: &mut Probe,
        parts: &mut RecordParts,
    ) -> Result<(), WalError> {
        let header = RecordHeader::decode(bytes).expect("a record has a header");
        if header.crc != checksum(bytes) && !probe.planted(Bug::RecordChecksumIgnored) {
            return Err(WalError::Checksum(self.pages.text(start)));
        }
        let next = if header.is_switch() {
            switch_end(self.geometry(), end)
        } else {
            end
        };
        let (at, page_size) = ([start, end, next], self.geometry().data_page);
        let decoded = parts.replace(header, bytes, at, page_size);
        let last = self.pages.text(self.decoded);
        decoded.map_err(|error| WalError::Structure { error, last })
    }

    fn bad_offset(&self, record: Lsn, least: u32, offset: u32) -> Stop {
        let version = self.pages.version;
        Stop::Failed(WalError::RecordOffset {
            version,
            record,
            least,
            offset,
        })
    }
}
