//! Writes WAL buffers to segment files. Mirrors XLogWrite.

use super::checkpoint_request::request_checkpoint_by_volume;
use super::wal_file::{SwitchSegment, segment_path};
use crate::base::{Bug, Fd, Lsn, Mark, SegmentNo};
use crate::call::{DiskOp, LogEvent, Place, Poll};
use crate::ready_ok;
use crate::shmem::LockId;
use crate::storage::file::written;
use crate::sys::Cx;
use alloc::vec::Vec;
use bytes::Bytes;

/// The positions up to which WAL must be written and flushed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WriteRequest {
    /// The position up to which WAL must be written.
    pub write: Lsn,
    /// The position up to which WAL must be flushed. It is at most `write`.
    pub flush: Lsn,
}

/// `XLogWrite`: writes and flushes WAL. The caller holds `WALWriteLock`. All records up to
/// `request.write` must already be copied into the buffers. As in PostgreSQL, the new positions are
/// published at the end.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct XLogWrite {
    request: WriteRequest,
    /// The process's copy of `LogwrtResult`.
    write: Lsn,
    flush: Lsn,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Start,
    Next,
    Switch {
        open: SwitchSegment,
        upto: Lsn,
    },
    Write {
        fd: Fd,
        at: Lsn,
        upto: Lsn,
        data: Bytes,
    },
    SegmentSynced,
    Open(SwitchSegment),
    Synced,
    Publish,
}

impl XLogWrite {
    /// Writes and flushes up to the requested positions.
    #[must_use]
    pub const fn new(request: WriteRequest) -> Self {
        Self {
            request,
            write: Lsn::INVALID,
            flush: Lsn::INVALID,
            phase: Phase::Start,
        }
    }

    /// # Errors
    /// A PANIC for the operation that failed.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let outcome = match self.run(cx) {
            Poll::Ready(outcome) => outcome,
            Poll::Yield(how) => return Poll::Yield(how),
        };
        Poll::Ready(outcome.map_err(LogEvent::in_critical_section))
    }

    fn run(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let geometry = cx.shmem.settings.geometry;
        let tli = cx.shmem.xlog.insert_tli;
        loop {
            match &mut self.phase {
                Phase::Start => {
                    assert!(cx.holds(LockId::WalWrite), "{} writes WAL", cx.me);
                    let WriteRequest { write, flush } = self.request;
                    assert!(flush <= write, "{flush} is beyond {write}");
                    let initialized = cx.shmem.xlog.initialized_upto;
                    assert!(write <= initialized, "{write} is beyond {initialized}");
                    self.write = cx.shmem.xlog.write;
                    self.flush = cx.shmem.xlog.flush;
                    self.phase = Phase::Next;
                }
                Phase::Next if self.write < self.request.write => {
                    let upto = self.chunk_end(cx);
                    let segment = geometry.segment_of(self.write);
                    self.phase = Phase::Switch {
                        open: SwitchSegment::new(segment, tli),
                        upto,
                    };
                }
                Phase::Next if self.flush < self.request.flush && self.flush < self.write => {
                    let segment = geometry.segment_before(self.write);
                    self.phase = Phase::Open(SwitchSegment::new(segment, tli));
                }
                Phase::Next => self.phase = Phase::Publish,
                Phase::Switch { open, upto } => {
                    let fd = ready_ok!(open.poll(cx));
                    let (at, upto) = (geometry.page_start(self.write), *upto);
                    let data = Self::gather(cx, at, upto);
                    assert_eq!(data.len() as u64, upto - at);
                    // One write stays in one segment.
                    assert_eq!(geometry.segment_of(at), geometry.segment_before(upto));
                    let op = Self::pwrite(&geometry, fd, at, &data);
                    self.phase = Phase::Write { fd, at, upto, data };
                    return Poll::Yield(cx.disk(op, Place::XLogWrite));
                }
                Phase::Write { fd, at, upto, data } => {
                    let n = match pwritten(cx, *at) {
                        Ok(n) => n,
                        Err(event) => return Poll::Ready(Err(event)),
                    };
                    assert!(n as usize <= data.len(), "{n} bytes at {at}");
                    if (n as usize) < data.len() {
                        *at += u64::from(n);
                        *data = data.slice(n as usize..);
                        let op = Self::pwrite(&geometry, *fd, *at, data);
                        return Poll::Yield(cx.disk(op, Place::XLogWrite));
                    }
                    let (fd, upto) = (*fd, *upto);
                    self.write = upto.min(self.request.write);
                    if geometry.segment_offset(upto) == 0 && self.write == upto {
                        self.phase = Phase::SegmentSynced;
                        return Poll::Yield(cx.disk(DiskOp::Fsync(fd), Place::IssueXLogFsync));
                    }
                    self.phase = Phase::Next;
                }
                Phase::SegmentSynced | Phase::Synced if Self::retries(cx) => {
                    let fd = cx.sys.wal_file.expect("the file that was fsynced").fd;
                    return Poll::Yield(cx.disk(DiskOp::Fsync(fd), Place::IssueXLogFsync));
                }
                Phase::SegmentSynced => {
                    let segment = geometry.segment_before(self.write);
                    if let Err(e) = Self::fsynced(cx, segment) {
                        return Poll::Ready(Err(e));
                    }
                    assert_eq!(geometry.segment_offset(self.write), 0);
                    self.flush = self.write;
                    request_checkpoint_by_volume(cx, segment);
                    self.phase = Phase::Next;
                }
                Phase::Open(open) => {
                    let fd = ready_ok!(open.poll(cx));
                    self.phase = Phase::Synced;
                    return Poll::Yield(cx.disk(DiskOp::Fsync(fd), Place::IssueXLogFsync));
                }
                Phase::Synced => {
                    if let Err(e) = Self::fsynced(cx, geometry.segment_before(self.write)) {
                        return Poll::Ready(Err(e));
                    }
                    assert!(self.flush < self.write, "{} {}", self.flush, self.write);
                    self.flush = self.write;
                    self.phase = Phase::Publish;
                }
                Phase::Publish => {
                    let WriteRequest { write, flush } = self.request;
                    assert!(write <= self.write && flush <= self.flush, "{self:?}");
                    // WALWriteLock was held, so no other process has published since.
                    assert!(cx.holds(LockId::WalWrite), "{} writes WAL", cx.me);
                    let xlog = &mut cx.shmem.xlog;
                    assert!(xlog.write <= self.write, "{} {}", xlog.write, self.write);
                    assert!(xlog.flush <= self.flush, "{} {}", xlog.flush, self.flush);
                    xlog.write = self.write;
                    xlog.flush = self.flush;
                    xlog.request_write = xlog.request_write.max(self.write);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// The end of the pages that one `pwrite` writes. A write ends at the requested position, at
    /// the end of the segment, or where the ring of buffers wraps around.
    fn chunk_end(&self, cx: &Cx<'_>) -> Lsn {
        let geometry = &cx.shmem.settings.geometry;
        let page = u64::from(geometry.wal_page);
        let xlog = &cx.shmem.xlog;
        assert!(xlog.flush <= self.flush && xlog.write <= self.write);
        let mut end = geometry.page_start(self.write) + page;
        loop {
            let index = xlog.buffer_index(end, geometry.wal_page);
            let stop = end >= self.request.write || geometry.segment_offset(end) == 0 || index == 0;
            if stop {
                return end;
            }
            end += page;
            let ring = page * xlog.buffers.len() as u64;
            assert!(end - self.write <= ring, "{end} is beyond the ring");
        }
    }

    fn gather(cx: &Cx<'_>, from: Lsn, upto: Lsn) -> Bytes {
        let wal_page = cx.shmem.settings.geometry.wal_page;
        let xlog = &cx.shmem.xlog;
        let mut bytes = Vec::with_capacity(usize::try_from(upto - from).expect("at most the ring"));
        let mut at = from;
        while at < upto {
            let buffer = &xlog.buffers[xlog.buffer_index(at, wal_page)];
            assert_eq!(
                buffer.end,
                at + u64::from(wal_page),
                "the page to write is in the buffers"
            );
            bytes.extend_from_slice(&buffer.page);
            at += u64::from(wal_page);
        }
        Bytes::from(bytes)
    }

    fn pwrite(geometry: &crate::base::Geometry, fd: Fd, at: Lsn, data: &Bytes) -> DiskOp {
        DiskOp::Write {
            fd,
            offset: geometry.segment_offset(at).into(),
            data: data.clone(),
        }
    }

    /// Up to 11.1 a failed fsync was retried. The kernel may have dropped the pages. The second
    /// fsync then succeeded, but the pages were never written.
    fn retries(cx: &mut Cx<'_>) -> bool {
        let failed = matches!(cx.sys.done, Some(Err(_)));
        failed && cx.planted(Bug::FsyncRetry) && cx.done().is_err()
    }

    fn fsynced(cx: &mut Cx<'_>, segment: SegmentNo) -> Result<(), LogEvent> {
        match cx.done() {
            Ok(_) => Ok(()),
            Err(e) => {
                cx.mark(Mark::FsyncPanic);
                let path = segment_path(cx, cx.shmem.xlog.insert_tli, segment);
                Err(LogEvent::file("fsync", path, e))
            }
        }
    }
}

/// The number of bytes that the `pwrite` at position `at` has written.
fn pwritten(cx: &mut Cx<'_>, at: Lsn) -> Result<u32, LogEvent> {
    cx.done().map(written).map_err(|e| {
        let segment = cx.shmem.settings.geometry.segment_of(at);
        let path = segment_path(cx, cx.shmem.xlog.insert_tli, segment);
        LogEvent::file("write to", path, e)
    })
}
