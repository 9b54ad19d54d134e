//! The page that is being read. Mirrors xlogreader.c (ReadPageInternal,
//! XLogReaderValidatePageHeader).

use crate::base::{Geometry, Lsn, LsnText, PgVersion, SegmentNo, TimelineId};
use crate::wal::{PagePlace, WalError};
use crate::wire::page::{self, LONG_HEADER, LongPageHeader, PageHeader};
use bytes::Bytes;

/// Why reading stops.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Stop {
    /// The caller must feed at least `len` bytes of the page.
    Need { page: Lsn, len: u32 },
    /// The record is not valid.
    Failed(WalError),
}

impl From<WalError> for Stop {
    fn from(error: WalError) -> Self {
        Self::Failed(error)
    }
}

/// The current page, and the state that is kept from earlier pages.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Pages {
    pub(super) geometry: Geometry,
    pub(super) version: PgVersion,
    /// The system identifier that pages must have. `None` if it is not known.
    sysid: Option<u64>,
    /// The timeline of the file that is being read. It is used only in error messages.
    pub(super) file_tli: TimelineId,
    cached: Option<Cached>,
    /// The last segment whose first page was checked.
    segment: Option<SegmentNo>,
    /// The error that the page source reported for the requested page.
    failed: Option<WalError>,
    /// The last page whose header was checked, and its timeline (latestPagePtr, latestPageTLI).
    latest: (Lsn, TimelineId),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Cached {
    page: Lsn,
    /// The first bytes of the page, or the whole page.
    bytes: Bytes,
    /// The header of the page, after it was validated.
    header: Option<PageHeader>,
}

impl Pages {
    pub(super) const fn new(geometry: Geometry, version: PgVersion, sysid: Option<u64>) -> Self {
        Self {
            geometry,
            version,
            sysid,
            file_tli: TimelineId(0),
            cached: None,
            segment: None,
            failed: None,
            latest: (Lsn::INVALID, TimelineId(0)),
        }
    }

    pub(super) fn feed(&mut self, page: Lsn, bytes: Bytes) {
        assert_eq!(
            self.geometry.page_offset(page),
            0,
            "{page} is not a page boundary"
        );
        assert!(bytes.len() <= self.geometry.wal_page as usize);
        self.failed = None;
        self.cached = Some(Cached {
            page,
            bytes,
            header: None,
        });
    }

    pub(super) fn feed_failed(&mut self, reason: WalError) {
        self.failed = Some(reason);
    }

    /// `XLogReaderInvalReadState`
    pub(super) fn invalidate(&mut self) {
        self.cached = None;
        self.segment = None;
        self.failed = None;
    }

    pub(super) const fn latest_tli(&self) -> TimelineId {
        self.latest.1
    }

    pub(super) const fn latest_page(&self) -> Lsn {
        self.latest.0
    }

    pub(super) const fn place(&self, page: Lsn) -> PagePlace {
        PagePlace {
            version: self.version,
            geometry: self.geometry,
            tli: self.file_tli,
            page,
        }
    }

    /// Makes `page` the current page, with at least `need` bytes and a valid header. Returns the
    /// header of the page.
    #[inline]
    pub(super) fn fetch(&mut self, page: Lsn, need: u32) -> Result<PageHeader, Stop> {
        if let Some(cached) = &self.cached
            && cached.page == page
            && cached.bytes.len() >= need as usize
            && let Some(header) = cached.header
        {
            return Ok(header);
        }
        self.fetch_fed(page, need)
    }

    /// The bytes of the current page that the caller has fed.
    pub(super) fn bytes(&self) -> &Bytes {
        let cached = self.cached.as_ref();
        &cached.expect("asked for only after a fetch").bytes
    }

    fn fetch_fed(&mut self, page: Lsn, need: u32) -> Result<PageHeader, Stop> {
        if let Some(reason) = self.failed.take() {
            return Err(Stop::Failed(reason));
        }
        // If reading enters a segment in the middle, the first page of the segment is checked
        // first. The long header on the first page identifies the cluster.
        let segment = self.geometry.segment_of(page);
        let first = self.geometry.segment_start(segment);
        if self.segment != Some(segment) && page != first {
            self.load(first, self.geometry.wal_page)?;
            self.segment = Some(segment);
        }
        let header = self.load(page, need)?;
        self.segment = Some(segment);
        Ok(header)
    }

    fn load(&mut self, page: Lsn, need: u32) -> Result<PageHeader, Stop> {
        let cached = self.cached.as_ref().filter(|cached| cached.page == page);
        let have = cached.map_or(&[][..], |cached| &cached.bytes);
        let more = |len: usize| {
            let len = u32::try_from(len).expect("at most a page");
            Err(Stop::Need { page, len })
        };
        let least = PageHeader::LEN.max(need as usize);
        if have.len() < least {
            return more(least);
        }
        let header = PageHeader::decode(have).expect("24 bytes are there");
        let header_len = header.header_len() as usize;
        if have.len() < header_len {
            return more(header_len);
        }
        if cached.is_some_and(|cached| cached.header.is_none()) {
            self.check(page, &header, have)?;
            self.latest = (page, header.tli);
            if let Some(cached) = &mut self.cached {
                cached.header = Some(header);
            }
        }
        Ok(header)
    }

    /// Returns the LSN in the text format of error messages.
    pub(super) const fn text(&self, lsn: Lsn) -> LsnText {
        lsn.text(self.version)
    }

    /// Checks a page header. The order of the checks is PostgreSQL's.
    pub(super) fn check(
        &self,
        page: Lsn,
        header: &PageHeader,
        bytes: &[u8],
    ) -> Result<(), WalError> {
        let place = self.place(page);
        let (magic, info) = (header.magic, header.info);
        if magic != page::magic(self.version) {
            return Err(WalError::Magic { magic, place });
        }
        if info & !page::all_flags(self.version) != 0 {
            return Err(WalError::InfoBits { info, place });
        }
        if header.has(LONG_HEADER) {
            let long = LongPageHeader::decode(bytes).expect("40 bytes are there");
            self.check_long(&long)?;
        } else if self.geometry.segment_offset(page) == 0 {
            return Err(WalError::InfoBits { info, place });
        }
        if header.pageaddr != page {
            let pageaddr = self.text(header.pageaddr);
            return Err(WalError::PageAddr { pageaddr, place });
        }
        // From page to page the timeline must not decrease, because a child timeline has a higher
        // number than its parent. If an earlier page is read again, its timeline can be lower.
        let (tli, (latest_page, latest)) = (header.tli, self.latest);
        if page > latest_page && tli < latest {
            return Err(WalError::TimelineOrder { tli, latest, place });
        }
        Ok(())
    }

    fn check_long(&self, long: &LongPageHeader) -> Result<(), WalError> {
        if let Some(expected) = self.sysid
            && long.sysid != expected
        {
            let found = long.sysid;
            return Err(WalError::SystemId { found, expected });
        }
        if long.seg_size != self.geometry.segment {
            return Err(WalError::SegmentSize);
        }
        if long.blcksz != self.geometry.wal_page {
            return Err(WalError::PageSize);
        }
        Ok(())
    }
}
