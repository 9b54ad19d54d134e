//! Transaction status on disk. Mirrors clog.c (ExtendCLOG, TransactionIdSetTreeStatus,
//! CheckPointCLOG, TrimCLOG) and the reading and writing of slru.c.
//!
//! Clog pages have no LSN, no checksum and no full-page images. Replay nevertheless repairs a torn
//! page: it sets every status again that was set since the redo point. Unlike in PostgreSQL, a page
//! is never evicted from memory.

use super::xlog_flush::XLogFlush;
use super::xlog_insert::{Insertion, XLogInsert};
use crate::base::{Bug, Lsn, Xid};
use crate::call::{FilePath, LogEvent, Message, Poll, SqlState};
use crate::shmem::{Clog, ClogPage, LockId, LockMode, XactStatus};
use crate::storage::relation::{ReadAt, WriteAt};
use crate::sys::Cx;
use crate::wire::clog_records::ClogRecord;
use crate::wire::record::RmgrId;
use crate::{ready, ready_ok};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;
use bytes::Bytes;

/// `SLRU_PAGES_PER_SEGMENT`
const PAGES_PER_FILE: u32 = 32;

/// The file that holds a page, and the offset of the page in the file.
fn place(page: u32, page_size: u32) -> (FilePath, u64) {
    let path = FilePath::from(format!("pg_xact/{:04X}", page / PAGES_PER_FILE));
    (
        path,
        u64::from(page % PAGES_PER_FILE) * u64::from(page_size),
    )
}

fn page_size(cx: &Cx<'_>) -> u32 {
    cx.shmem.settings.geometry.data_page
}

/// Takes the lock, and reads the page of the transaction if the page is not in memory
/// (`SimpleLruReadPage`). Releases the lock during the read.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct LockPage {
    xid: Xid,
    mode: LockMode,
    phase: LockPhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum LockPhase {
    Lock,
    Look,
    Read(ReadAt),
}

impl LockPage {
    const fn new(xid: Xid, mode: LockMode) -> Self {
        Self {
            xid,
            mode,
            phase: LockPhase::Lock,
        }
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let size = page_size(cx);
        let page = Clog::page_of(self.xid, size);
        loop {
            match &mut self.phase {
                LockPhase::Lock => {
                    ready!(cx.acquire(LockId::Clog, self.mode));
                    self.phase = LockPhase::Look;
                }
                LockPhase::Look => {
                    if cx.shmem.clog.pages.contains_key(&page) {
                        return Poll::Ready(Ok(()));
                    }
                    cx.release(LockId::Clog);
                    let (path, offset) = place(page, size);
                    self.phase = LockPhase::Read(ReadAt::new(path, offset, size));
                }
                LockPhase::Read(read) => {
                    let bytes = ready_ok!(read.poll(cx)).unwrap_or_default();
                    let mut bytes = bytes.to_vec();
                    assert!(bytes.len() <= size as usize, "{} bytes", bytes.len());
                    // In recovery a missing page is not an error. A later record may create the
                    // page, or the page may never have been written. The missing bytes are zeros.
                    if bytes.len() < size as usize && !cx.shmem.recovery_in_progress() {
                        let error = Message::NoTransactionStatus(self.xid);
                        return Poll::Ready(Err(LogEvent::error(SqlState::UNDEFINED_FILE, error)));
                    }
                    bytes.resize(size as usize, 0);
                    // Another process may have read and changed the page in the meantime. In that
                    // case the page in memory is kept.
                    let read = ClogPage {
                        bytes: Arc::new(bytes),
                        dirty: false,
                        lsn: Lsn::INVALID,
                    };
                    cx.shmem.clog.pages.entry(page).or_insert(read);
                    self.phase = LockPhase::Lock;
                }
            }
        }
    }
}

/// `TransactionIdGetStatus`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ClogStatus {
    xid: Xid,
    lock: LockPage,
}

impl ClogStatus {
    /// Reads the status of this transaction.
    #[must_use]
    pub const fn new(xid: Xid) -> Self {
        Self {
            xid,
            lock: LockPage::new(xid, LockMode::Shared),
        }
    }

    /// # Errors
    /// The page cannot be read.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<XactStatus, LogEvent>> {
        let size = page_size(cx);
        if self.xid >= Xid::FIRST_NORMAL {
            ready_ok!(self.lock.poll(cx));
            let status = cx
                .shmem
                .clog
                .status(self.xid, size)
                .expect("the page is in memory");
            cx.release(LockId::Clog);
            return Poll::Ready(Ok(status));
        }
        Poll::Ready(Ok(cx
            .shmem
            .clog
            .status(self.xid, size)
            .expect("permanent ids have no page")))
    }
}

/// `TransactionIdSetTreeStatus`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ClogSet {
    xid: Xid,
    status: XactStatus,
    lsn: Lsn,
    lock: LockPage,
}

impl ClogSet {
    /// `lsn` is the end of the commit record if that record may not be flushed yet. Otherwise `lsn`
    /// is [`Lsn::INVALID`].
    #[must_use]
    pub const fn new(xid: Xid, status: XactStatus, lsn: Lsn) -> Self {
        Self {
            xid,
            status,
            lsn,
            lock: LockPage::new(xid, LockMode::Exclusive),
        }
    }

    /// # Errors
    /// The page cannot be read.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        ready_ok!(self.lock.poll(cx));
        let size = page_size(cx);
        assert!(cx.holds(LockId::Clog), "{} sets {}", cx.me, self.xid.0);
        // `TransactionIdSetStatusBit`: a transaction ends once. Replay repeats what a page may
        // already show.
        let was = cx.shmem.clog.status(self.xid, size);
        let ends = was == Some(XactStatus::InProgress) || was == Some(self.status);
        let replayed = cx.shmem.recovery_in_progress() || self.xid < Xid::FIRST_NORMAL;
        assert!(ends || replayed, "{was:?}: {self:?}");
        cx.shmem.clog.set(self.xid, self.status, self.lsn, size);
        cx.release(LockId::Clog);
        Poll::Ready(Ok(()))
    }
}

/// `ExtendCLOG`: creates the clog page of a transaction id before the id is assigned. The caller
/// holds `XidGenLock`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ClogExtend {
    xid: Xid,
    phase: ExtendPhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum ExtendPhase {
    Start,
    Lock,
    Insert(XLogInsert),
}

impl ClogExtend {
    /// Creates the clog page of this transaction id, but only if the id is the first on the page.
    #[must_use]
    pub const fn new(xid: Xid) -> Self {
        Self {
            xid,
            phase: ExtendPhase::Start,
        }
    }

    /// # Errors
    /// WAL could not be written.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let size = page_size(cx);
        loop {
            match &mut self.phase {
                ExtendPhase::Start => {
                    assert!(cx.holds(LockId::XidGen), "{} assigns an id", cx.me);
                    let first =
                        self.xid.0.is_multiple_of(size * 4) || self.xid == Xid::FIRST_NORMAL;
                    if !first {
                        return Poll::Ready(Ok(()));
                    }
                    self.phase = ExtendPhase::Lock;
                }
                ExtendPhase::Lock => {
                    ready!(cx.acquire(LockId::Clog, LockMode::Exclusive));
                    let page = Clog::page_of(self.xid, size);
                    cx.shmem.clog.zero(page, size);
                    let record = ClogRecord::ZeroPage(page.into());
                    let version = cx.shmem.settings.pg_version;
                    let main = record.encode(version);
                    let insert = Insertion::new(RmgrId::CLOG, record.info(), Xid::INVALID, main);
                    self.phase = ExtendPhase::Insert(XLogInsert::new(insert));
                }
                ExtendPhase::Insert(insert) => {
                    ready_ok!(insert.poll(cx));
                    cx.release(LockId::Clog);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

/// `SimpleLruWritePage`: writes one page. First flushes WAL up to the last asynchronous commit on
/// the page.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ClogWrite {
    page: u32,
    phase: WritePhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum WritePhase {
    Lock,
    FlushWal(XLogFlush, Bytes),
    Write(WriteAt),
}

impl ClogWrite {
    /// Writes this page. The page must be in memory.
    #[must_use]
    pub const fn new(page: u32) -> Self {
        Self {
            page,
            phase: WritePhase::Lock,
        }
    }

    /// # Errors
    /// WAL could not be flushed, or the write failed. A failed write is an ERROR, and the page
    /// stays dirty.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        loop {
            match &mut self.phase {
                WritePhase::Lock => {
                    ready!(cx.acquire(LockId::Clog, LockMode::Exclusive));
                    let page = cx
                        .shmem
                        .clog
                        .pages
                        .get_mut(&self.page)
                        .expect("pages stay in memory");
                    // The bytes are copied now, because WAL is flushed only for the commits that
                    // are now on the page. A status that is set later is written by the next write.
                    page.dirty = false;
                    let data = Bytes::copy_from_slice(&page.bytes);
                    let lsn = page.lsn;
                    assert_eq!(data.len(), cx.shmem.settings.geometry.data_page as usize);
                    cx.release(LockId::Clog);
                    let ahead = lsn > cx.shmem.xlog.flush && !cx.shmem.recovery_in_progress();
                    self.phase = if lsn.is_valid() && !(ahead && cx.planted(Bug::ClogBeforeWal)) {
                        WritePhase::FlushWal(XLogFlush::new(lsn), data)
                    } else {
                        self.write(cx, data)
                    };
                }
                WritePhase::FlushWal(flush, data) => {
                    ready_ok!(flush.poll(cx));
                    assert!(!cx.holds(LockId::Clog), "other sessions could not commit");
                    let data = data.clone();
                    self.phase = self.write(cx, data);
                }
                WritePhase::Write(write) => {
                    let outcome = ready!(write.poll(cx));
                    if outcome.is_err() {
                        let page = cx.shmem.clog.pages.get_mut(&self.page);
                        page.expect("pages stay in memory").dirty = true;
                    }
                    return Poll::Ready(outcome);
                }
            }
        }
    }

    fn write(&self, cx: &Cx<'_>, data: Bytes) -> WritePhase {
        let (path, offset) = place(self.page, page_size(cx));
        WritePhase::Write(WriteAt::new(path, offset, data))
    }
}

/// `CheckPointCLOG`: writes all pages that are dirty when it begins. A later step fsyncs their
/// files together with all other files.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct CheckPointClog {
    todo: Option<VecDeque<u32>>,
    write: Option<ClogWrite>,
}

impl CheckPointClog {
    /// Creates the routine. It does nothing before the first poll.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The errors of [`ClogWrite`].
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let todo = self.todo.get_or_insert_with(|| {
            let pages = cx.shmem.clog.pages.iter();
            pages
                .filter(|(_, page)| page.dirty)
                .map(|(number, _)| *number)
                .collect()
        });
        loop {
            if let Some(write) = &mut self.write {
                ready_ok!(write.poll(cx));
            }
            match todo.pop_front() {
                Some(page) => self.write = Some(ClogWrite::new(page)),
                None => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// `TrimCLOG`: runs at the end of recovery. On the current page, clears the statuses at and after
/// the next transaction id. These statuses belong to transactions whose WAL was lost.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TrimClog {
    next: Xid,
    lock: LockPage,
}

impl TrimClog {
    /// `next` is the next transaction id.
    #[must_use]
    pub const fn new(next: Xid) -> Self {
        Self {
            next,
            lock: LockPage::new(next, LockMode::Exclusive),
        }
    }

    /// # Errors
    /// The page cannot be read.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let size = page_size(cx);
        let in_page = self.next.0 % (size * 4);
        if in_page == 0 {
            // The next transaction id is the first on its page, so there is nothing to clear.
            return Poll::Ready(Ok(()));
        }
        ready_ok!(self.lock.poll(cx));
        let number = Clog::page_of(self.next, size);
        let page = cx
            .shmem
            .clog
            .pages
            .get_mut(&number)
            .expect("the page is in memory");
        let bytes = Arc::make_mut(&mut page.bytes);
        let byte = (in_page / 4) as usize;
        assert_eq!(bytes.len(), size as usize);
        bytes[byte] &= (1u8 << (in_page % 4 * 2)) - 1;
        bytes[byte + 1..].fill(0);
        page.dirty = true;
        cx.release(LockId::Clog);
        Poll::Ready(Ok(()))
    }
}
