//! Initializes pages of the WAL buffers. Mirrors AdvanceXLInsertBuffer and GetXLogBuffer.

use super::xlog_flush::WaitInsertions;
use super::xlog_write::{WriteRequest, XLogWrite};
use crate::base::Lsn;
use crate::call::{LogEvent, Poll};
use crate::shmem::{LockId, LockMode};
use crate::sys::Cx;
use crate::wal::{PageIdent, init_page};
use crate::{ready, ready_ok};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// `AdvanceXLInsertBuffer`: initializes pages up to the page that holds `upto`. If a buffer still
/// holds an old page that is not written, first writes that page.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AdvanceInsertBuffer {
    upto: Lsn,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    LockMapping,
    Look,
    Insertions { wait: WaitInsertions, old: Lsn },
    LockWrite { old: Lsn },
    Write(XLogWrite),
}

impl AdvanceInsertBuffer {
    /// Initializes pages until the page of `upto` is in the buffers.
    #[must_use]
    pub const fn new(upto: Lsn) -> Self {
        Self {
            upto,
            phase: Phase::LockMapping,
        }
    }

    /// # Errors
    /// A PANIC if a write failed.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let wal_page = cx.shmem.settings.geometry.wal_page;
        loop {
            match &mut self.phase {
                Phase::LockMapping => {
                    ready!(cx.acquire(LockId::WalBufMapping, LockMode::Exclusive));
                    self.phase = Phase::Look;
                }
                Phase::Look => {
                    let page = cx.shmem.xlog.initialized_upto;
                    if self.upto < page {
                        cx.release(LockId::WalBufMapping);
                        return Poll::Ready(Ok(()));
                    }
                    let index = cx.shmem.xlog.buffer_index(page, wal_page);
                    let old = cx.shmem.xlog.buffers[index].end;
                    let ring = cx.shmem.xlog.buffers.len() as u64 * u64::from(wal_page);
                    let oldest = old + ring == page + u64::from(wal_page);
                    assert!(oldest || !old.is_valid(), "{old} is replaced by {page}");
                    if old <= cx.shmem.xlog.write {
                        Self::replace(cx, page);
                        continue;
                    }
                    // The old page must be written first. During the write the mapping lock is
                    // released, because the insertions for which this process waits may need that
                    // lock.
                    cx.shmem.xlog.request_write = cx.shmem.xlog.request_write.max(old);
                    cx.release(LockId::WalBufMapping);
                    let wait = WaitInsertions::new(cx, old);
                    self.phase = Phase::Insertions { wait, old };
                }
                Phase::Insertions { wait, old } => {
                    let complete = ready!(wait.poll(cx));
                    assert!(*old <= complete, "{old} is not yet copied");
                    self.phase = Phase::LockWrite { old: *old };
                }
                Phase::LockWrite { old } => {
                    ready!(cx.acquire(LockId::WalWrite, LockMode::Exclusive));
                    if cx.shmem.xlog.write >= *old {
                        cx.release(LockId::WalWrite);
                        self.phase = Phase::LockMapping;
                        continue;
                    }
                    let request = WriteRequest {
                        write: *old,
                        flush: Lsn::INVALID,
                    };
                    self.phase = Phase::Write(XLogWrite::new(request));
                }
                Phase::Write(write) => {
                    ready_ok!(write.poll(cx));
                    cx.release(LockId::WalWrite);
                    self.phase = Phase::LockMapping;
                }
            }
        }
    }

    fn replace(cx: &mut Cx<'_>, page: Lsn) {
        assert!(cx.holds(LockId::WalBufMapping), "{} replaces {page}", cx.me);
        let settings = &cx.shmem.settings;
        let xlog = &mut *cx.shmem.xlog;
        let index = xlog.buffer_index(page, settings.geometry.wal_page);
        let buffer = &mut xlog.buffers[index];
        let ident = PageIdent {
            version: settings.pg_version,
            tli: xlog.insert_tli,
            sysid: cx.shmem.control.system_identifier,
            removable: true,
        };
        assert!(buffer.end <= xlog.write, "{} is not written", buffer.end);
        assert_eq!(settings.geometry.page_offset(page), 0);
        let bytes: &mut Vec<u8> = Arc::make_mut(&mut buffer.page);
        init_page(bytes, &settings.geometry, page, &ident);
        buffer.end = page + u64::from(settings.geometry.wal_page);
        xlog.initialized_upto = buffer.end;
    }
}

/// `GetXLogBuffer`: makes sure that the page of `at` is in the buffers. The caller holds the
/// insertion lock `lock`. After this call the caller can write into the page.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct GetBuffer {
    at: Lsn,
    lock: LockId,
    advance: Option<AdvanceInsertBuffer>,
}

impl GetBuffer {
    /// Gets the buffer of the page that holds `at`.
    #[must_use]
    pub const fn new(at: Lsn, lock: LockId) -> Self {
        Self {
            at,
            lock,
            advance: None,
        }
    }

    /// Returns the index of the buffer.
    ///
    /// # Errors
    /// A PANIC if a write failed.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<usize, LogEvent>> {
        let geometry = cx.shmem.settings.geometry;
        let page = geometry.page_start(self.at);
        assert!(cx.holds(self.lock), "{} inserts at {}", cx.me, self.at);
        let offset = geometry.page_offset(self.at);
        assert!(offset == 0 || offset >= geometry.page_header(page));
        let index = cx.shmem.xlog.buffer_index(page, geometry.wal_page);
        let end = page + u64::from(geometry.wal_page);
        // Once [`AdvanceInsertBuffer`] has started, it must be polled to its end, even if another
        // process has initialized the page in the meantime. Otherwise this process could stay
        // queued for a lock.
        if self.advance.is_some() || cx.shmem.xlog.buffers[index].end != end {
            let advance = self.advance.get_or_insert_with(|| {
                // Publishes how far this insertion has got, so that other processes need not wait
                // for the part before this position. Without this step, two inserters that both
                // need a free buffer would deadlock.
                let header = geometry.page_header(page);
                let at_first_byte = geometry.page_offset(self.at) == header;
                let reached = if at_first_byte { page } else { self.at };
                cx.shmem.locks.set_var(self.lock, reached);
                AdvanceInsertBuffer::new(self.at)
            });
            ready_ok!(advance.poll(cx));
            assert_eq!(
                cx.shmem.xlog.buffers[index].end, end,
                "the page was initialized"
            );
        }
        Poll::Ready(Ok(index))
    }
}
