//! Writes and fsyncs all dirty pages, for checkpoints. Mirrors CheckPointBuffers and BufferSync of
//! bufmgr.c and ProcessSyncRequests of sync.c.

use super::buffer::{FlushBuffer, FlushWal};
use super::relation::OpenFile;
use crate::base::{Bug, Fd};
use crate::call::{DiskError, DiskOp, FilePath, LogEvent, Place, Poll, Yield};
use crate::shmem::{BufId, BufTag, LockId, LockMode};
use crate::sys::Cx;
use crate::{ready, ready_ok};
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

/// `CheckPointBuffers`, then `ProcessSyncRequests`. Makes all page changes durable that were made
/// before the routine began.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CheckPointBuffers<F> {
    write: BufferSync<F>,
    written: bool,
    sync: ProcessSyncRequests,
}

impl<F: FlushWal> Default for CheckPointBuffers<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: FlushWal> CheckPointBuffers<F> {
    /// Creates the routine. It does nothing before the first poll.
    #[must_use]
    pub fn new() -> Self {
        Self {
            write: BufferSync::new(),
            written: false,
            sync: ProcessSyncRequests::default(),
        }
    }

    /// # Errors
    /// An ERROR if a page could not be written. A PANIC if WAL could not be flushed or a file could
    /// not be fsynced.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        if !self.written {
            ready_ok!(self.write.poll(cx));
            self.written = true;
        }
        self.sync.poll(cx)
    }
}

/// `BufferSync`: writes all pages that are dirty when it begins. Other processes can write or
/// change these pages in the meantime.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BufferSync<F> {
    todo: Option<VecDeque<(BufTag, BufId)>>,
    phase: SyncPhase<F>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum SyncPhase<F> {
    Next,
    Lock(BufId),
    Flush(BufId, FlushBuffer<F>),
}

impl<F: FlushWal> Default for BufferSync<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: FlushWal> BufferSync<F> {
    /// Creates the routine. It does nothing before the first poll.
    #[must_use]
    pub fn new() -> Self {
        Self {
            todo: None,
            phase: SyncPhase::Next,
        }
    }

    /// # Errors
    /// An ERROR if a page could not be written, or WAL could not be flushed.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let todo = self.todo.get_or_insert_with(|| dirty_pages(cx));
        loop {
            match &mut self.phase {
                SyncPhase::Next => {
                    let Some((tag, id)) = todo.pop_front() else {
                        return Poll::Ready(Ok(()));
                    };
                    let buffer = &cx.shmem.buffers.pool[usize::from(id)];
                    // If another process has written the page in the meantime, the buffer may now
                    // hold another page.
                    if buffer.tag == Some(tag) && buffer.dirty {
                        cx.shmem.buffers.pin(id, cx.me);
                        self.phase = SyncPhase::Lock(id);
                    }
                }
                SyncPhase::Lock(id) => {
                    let id = *id;
                    let lock = LockId::BufferContent(id);
                    let taken = cx.shmem.locks.is_held(lock) && !cx.holds(lock);
                    if !(taken && cx.planted(Bug::PageWrittenWithoutLock)) {
                        ready!(cx.acquire(lock, LockMode::Shared));
                    }
                    self.phase = SyncPhase::Flush(id, FlushBuffer::new(id));
                }
                SyncPhase::Flush(id, flush) => {
                    let id = *id;
                    ready_ok!(flush.poll(cx));
                    // No process can change the page before its lock is released.
                    let dirty = cx.shmem.buffers.pool[usize::from(id)].dirty;
                    assert!(!dirty || cx.has_bug(Bug::PageWrittenWithoutLock));
                    if cx.holds(LockId::BufferContent(id)) {
                        cx.release(LockId::BufferContent(id));
                    }
                    cx.shmem.buffers.unpin(id, cx.me);
                    self.phase = SyncPhase::Next;
                    return Poll::Yield(Yield::Again(Place::BufferSync));
                }
            }
        }
    }
}

/// The dirty pages, in the order of their files.
fn dirty_pages(cx: &Cx<'_>) -> VecDeque<(BufTag, BufId)> {
    let buffers = &cx.shmem.buffers;
    let dirty = |(_, id): &(&BufTag, &BufId)| buffers.pool[usize::from(**id)].dirty;
    buffers
        .map
        .iter()
        .filter(dirty)
        .map(|(tag, id)| (*tag, *id))
        .collect()
}

/// `ProcessSyncRequests`: fsyncs all files that were written before it began, and the directories
/// of these files. A file that is written later is fsynced by the next call.
///
/// PostgreSQL does not fsync the directories. It relies on file systems on which the fsync of a new
/// file also makes the name of the file durable.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ProcessSyncRequests {
    todo: Option<VecDeque<FilePath>>,
    directories: Vec<FilePath>,
    phase: RequestPhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
enum RequestPhase {
    #[default]
    Next,
    Open(FilePath, OpenFile),
    Syncing(FilePath),
}

impl ProcessSyncRequests {
    /// The routine starts at the first poll, with the sync requests that exist at that time.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// # Errors
    /// A PANIC if a file could not be fsynced (`data_sync_elevel`). The kernel may have dropped the
    /// written pages, so they must be restored from WAL.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        if self.todo.is_none() {
            let files = core::mem::take(&mut cx.shmem.sync_requests.files);
            let parents: BTreeSet<FilePath> = files
                .iter()
                .map(|file| FilePath::from(file.parent()))
                .collect();
            self.directories = parents.into_iter().collect();
            assert!(self.directories.len() <= files.len());
            self.todo = Some(files.into_iter().collect());
        }
        let todo = self.todo.as_mut().expect("filled above");
        let op = loop {
            match &mut self.phase {
                RequestPhase::Next => {
                    if let Some(path) = todo.pop_front() {
                        let open = OpenFile::new(path.clone(), false);
                        self.phase = RequestPhase::Open(path, open);
                    } else if let Some(path) = self.directories.pop() {
                        self.phase = RequestPhase::Syncing(path.clone());
                        break DiskOp::SyncDir(path);
                    } else {
                        return Poll::Ready(Ok(()));
                    }
                }
                RequestPhase::Open(path, open) => {
                    let fd: Option<Fd> = match ready!(open.poll(cx)) {
                        Ok(fd) => fd,
                        Err(e) => return Poll::Ready(Err(e.in_critical_section())),
                    };
                    let Some(fd) = fd else {
                        return failed(path, DiskError::NotFound);
                    };
                    self.phase = RequestPhase::Syncing(path.clone());
                    break DiskOp::Fsync(fd);
                }
                RequestPhase::Syncing(path) => {
                    if let Err(e) = cx.done() {
                        return failed(path, e);
                    }
                    self.phase = RequestPhase::Next;
                }
            }
        };
        Poll::Yield(cx.disk(op, Place::ProcessSyncRequests))
    }
}

fn failed(path: &FilePath, error: DiskError) -> Poll<Result<(), LogEvent>> {
    Poll::Ready(Err(
        LogEvent::file("fsync", path.clone(), error).in_critical_section()
    ))
}
