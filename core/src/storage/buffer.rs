//! Shared buffers: finds, reads and replaces pages. Mirrors bufmgr.c (ReadBuffer_common,
//! BufferAlloc, FlushBuffer, MarkBufferDirty).
//!
//! A page is written only after WAL is flushed up to the page's LSN. The next checkpoint fsyncs the
//! file of the page. The content lock of a buffer guards the bytes of its page. A process that
//! reads or writes the page on disk holds the I/O lock of the buffer. A process can put another
//! page into a buffer only if no other process has pinned the buffer.

use super::relation::{ReadPage, WritePage};
use crate::base::{Bug, Lsn};
use crate::call::{LogEvent, Message, Place, Poll, SqlState, Yield};
use crate::shmem::{BufId, BufTag, LockId, LockMode};
use crate::sys::Cx;
use crate::wire::data_page::{self, DataPage};
use crate::{ready, ready_ok};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

/// `XLogFlush` for the buffer manager. The flush is a type parameter, because `access` implements
/// it, and this module must not import `access`. `access::buffers` supplies the type.
pub trait FlushWal: Clone + PartialEq + Eq + core::hash::Hash + core::fmt::Debug {
    /// Flushes WAL up to `upto`.
    #[must_use]
    fn new(upto: Lsn) -> Self;

    /// # Errors
    /// A PANIC if a write or an fsync failed.
    fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>>;
}

/// `ReadBufferMode`
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReadMode {
    /// Reads and verifies the page. Does not lock its content.
    Normal,
    /// The caller will initialize the page. The page is not read, and its content is locked. If the
    /// page is already in the pool, it is returned as it is.
    ZeroAndLock,
    /// Adds a page of zeros at the end of the relation. The caller holds the extension lock.
    Extend,
}

/// The bytes of a page. The process must have pinned the buffer and locked its content.
#[must_use]
pub fn page<'a>(cx: &'a Cx<'_>, buffer: BufId) -> &'a [u8] {
    assert!(is_pinned(cx, buffer), "{} reads buffer {buffer}", cx.me);
    assert!(cx.holds(LockId::BufferContent(buffer)), "buffer {buffer}");
    &cx.shmem.buffers.pool[usize::from(buffer)].page
}

/// `BufferIsPinned`, by the running process.
fn is_pinned(cx: &Cx<'_>, buffer: BufId) -> bool {
    let pins = &cx.shmem.buffers.pool[usize::from(buffer)].pins;
    pins.contains(&cx.me)
}

/// Replaces the bytes of a page, and marks the buffer dirty (`MarkBufferDirty`). The caller holds
/// the content lock. Must be called before the WAL record is inserted, because a checkpoint that
/// begins after the record must find the buffer dirty.
pub fn modify(cx: &mut Cx<'_>, buffer: BufId, bytes: Vec<u8>) {
    assert!(
        cx.holds(LockId::BufferContent(buffer)),
        "a page is changed under its content lock"
    );
    assert!(is_pinned(cx, buffer), "{} changes buffer {buffer}", cx.me);
    let buffer = &mut cx.shmem.buffers.pool[usize::from(buffer)];
    assert!(buffer.valid, "{:?} is not read yet", buffer.tag);
    assert_eq!(bytes.len(), buffer.page.len(), "a page keeps its size");
    buffer.page = Arc::new(bytes);
    buffer.dirty = true;
    buffer.just_dirtied = true;
}

/// `PageSetLSN`, called after [`modify`]. The change is then complete, and the simulator's checkers
/// can see it.
pub fn set_lsn(cx: &mut Cx<'_>, buffer: BufId, lsn: Lsn) {
    assert!(
        cx.holds(LockId::BufferContent(buffer)),
        "a page is changed under its content lock"
    );
    assert!(lsn.is_valid());
    let dirty = cx.shmem.buffers.pool[usize::from(buffer)].dirty;
    // A write of the page without its lock can clear the flag.
    let wrong = cx.has_bug(Bug::PageWrittenWithoutLock);
    assert!(dirty || wrong, "buffer {buffer} was not modified");
    let page: &mut Vec<u8> = Arc::make_mut(&mut cx.shmem.buffers.pool[usize::from(buffer)].page);
    data_page::set_lsn(page, lsn);
    cx.shmem.buffers.changed(buffer, lsn);
}

/// `UnlockReleaseBuffer`
pub fn unlock_release(cx: &mut Cx<'_>, buffer: BufId) {
    cx.release(LockId::BufferContent(buffer));
    cx.shmem.buffers.unpin(buffer, cx.me);
}

/// `ReadBuffer`: returns a pinned buffer that holds the page.
///
/// After an error the caller's `release_everything` releases locks and pins. The buffer then stays
/// in the pool without valid content. The next process that needs the page reads the page again.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReadBuffer<F> {
    tag: BufTag,
    mode: ReadMode,
    phase: Phase<F>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase<F> {
    Lookup,
    WaitIo(BufId),
    Victim,
    Flush(BufId, FlushBuffer<F>),
    Replace(BufId),
    Fill(BufId),
    Reading(BufId, ReadPage),
    Extending(BufId, WritePage),
    Locking(BufId),
}

impl<F: FlushWal> ReadBuffer<F> {
    /// Reads the page `tag`.
    #[must_use]
    pub const fn new(tag: BufTag, mode: ReadMode) -> Self {
        Self {
            tag,
            mode,
            phase: Phase::Lookup,
        }
    }

    /// # Errors
    /// All buffers are pinned, the page cannot be read or is invalid, or the victim page cannot be
    /// written.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<BufId, LogEvent>> {
        loop {
            match &mut self.phase {
                Phase::Lookup => self.phase = self.lookup(cx),
                Phase::WaitIo(id) => {
                    let id = *id;
                    ready!(cx.acquire(LockId::BufferIo(id), LockMode::Exclusive));
                    let tag = cx.shmem.buffers.pool[usize::from(id)].tag;
                    assert_eq!(tag, Some(self.tag), "buffer {id} was pinned");
                    if cx.shmem.buffers.pool[usize::from(id)].valid {
                        cx.release(LockId::BufferIo(id));
                        self.phase = Phase::Locking(id);
                    } else {
                        // The process that was reading the page has failed. This process therefore
                        // reads the page.
                        self.phase = Phase::Fill(id);
                    }
                }
                Phase::Victim => match victim(cx) {
                    Ok(Victim::Clean(id)) => self.phase = Phase::Replace(id),
                    Ok(Victim::Dirty(id)) => {
                        self.phase = Phase::Flush(id, FlushBuffer::new(id));
                        return Poll::Yield(Yield::Again(Place::BufferAlloc));
                    }
                    Ok(Victim::Busy) => return Poll::Yield(Yield::Again(Place::BufferAlloc)),
                    Err(e) => return Poll::Ready(Err(e)),
                },
                Phase::Flush(id, flush) => {
                    let id = *id;
                    ready_ok!(flush.poll(cx));
                    cx.release(LockId::BufferContent(id));
                    self.phase = Phase::Replace(id);
                }
                Phase::Replace(id) => {
                    let id = *id;
                    self.phase = self.replace(cx, id);
                }
                Phase::Fill(id) => {
                    let id = *id;
                    self.phase = self.fill(cx, id);
                }
                Phase::Reading(id, read) => {
                    let id = *id;
                    let bytes = ready_ok!(read.poll(cx));
                    if !DataPage::new(&bytes).is_plausible() {
                        let BufTag {
                            rel: relation,
                            block,
                        } = self.tag;
                        let message = Message::InvalidPage { relation, block };
                        return Poll::Ready(Err(LogEvent::error(
                            SqlState::DATA_CORRUPTED,
                            message,
                        )));
                    }
                    end_read(cx, id, bytes);
                    self.phase = Phase::Locking(id);
                }
                Phase::Extending(id, write) => {
                    let id = *id;
                    ready_ok!(write.poll(cx));
                    let zeros = vec![0; cx.shmem.settings.geometry.data_page as usize];
                    end_read(cx, id, zeros);
                    self.phase = Phase::Locking(id);
                }
                Phase::Locking(id) => {
                    let id = *id;
                    let lock = LockId::BufferContent(id);
                    if self.mode == ReadMode::ZeroAndLock && !cx.holds(lock) {
                        ready!(cx.acquire(lock, LockMode::Exclusive));
                    }
                    return Poll::Ready(Ok(id));
                }
            }
        }
    }

    fn lookup(&self, cx: &mut Cx<'_>) -> Phase<F> {
        let buffers = &mut cx.shmem.buffers;
        let Some(&id) = buffers.map.get(&self.tag) else {
            return Phase::Victim;
        };
        buffers.pin(id, cx.me);
        assert_eq!(buffers.pool[usize::from(id)].tag, Some(self.tag));
        if buffers.pool[usize::from(id)].valid {
            Phase::Locking(id)
        } else {
            Phase::WaitIo(id)
        }
    }

    /// Assigns the pinned victim buffer to the new page. Does nothing if the buffer was pinned or
    /// dirtied in the meantime.
    fn replace(&self, cx: &mut Cx<'_>, id: BufId) -> Phase<F> {
        let buffers = &mut cx.shmem.buffers;
        if buffers.map.contains_key(&self.tag) {
            buffers.unpin(id, cx.me);
            return Phase::Lookup;
        }
        let buffer = &mut buffers.pool[usize::from(id)];
        assert!(buffer.pins.contains(&cx.me), "buffer {id} is the victim");
        if buffer.pins.len() > 1 || buffer.dirty {
            buffers.unpin(id, cx.me);
            return Phase::Victim;
        }
        let old = buffer.tag.replace(self.tag);
        buffer.valid = false;
        buffer.just_dirtied = false;
        buffer.usage = 1;
        if let Some(old) = old {
            assert_eq!(buffers.map.remove(&old), Some(id), "{old:?}");
        }
        let other = buffers.map.insert(self.tag, id);
        assert_eq!(other, None, "{:?} has two buffers", self.tag);
        assert!(
            cx.try_acquire(LockId::BufferIo(id)),
            "no other process does I/O on a buffer that only this one has pinned"
        );
        Phase::Fill(id)
    }

    /// Starts to fill the buffer. The caller holds the I/O lock of the buffer.
    fn fill(&self, cx: &mut Cx<'_>, id: BufId) -> Phase<F> {
        assert!(cx.holds(LockId::BufferIo(id)), "buffer {id}");
        assert!(!cx.shmem.buffers.pool[usize::from(id)].valid, "buffer {id}");
        let zeros = || vec![0; cx.shmem.settings.geometry.data_page as usize];
        match self.mode {
            ReadMode::Normal => Phase::Reading(id, ReadPage::new(cx, self.tag)),
            ReadMode::Extend => {
                let write = WritePage::new(cx, self.tag, Bytes::from(zeros()));
                Phase::Extending(id, write)
            }
            ReadMode::ZeroAndLock => {
                let zeros = zeros();
                // The content is locked before the page becomes valid. No other process can
                // therefore see the zeros.
                assert!(
                    cx.try_acquire(LockId::BufferContent(id)),
                    "no process locks a page that is not valid"
                );
                end_read(cx, id, zeros);
                Phase::Locking(id)
            }
        }
    }
}

/// `TerminateBufferIO` after a read.
fn end_read(cx: &mut Cx<'_>, id: BufId, bytes: Vec<u8>) {
    assert!(is_pinned(cx, id), "{} reads into buffer {id}", cx.me);
    assert_eq!(bytes.len(), cx.shmem.settings.geometry.data_page as usize);
    let buffer = &mut cx.shmem.buffers.pool[usize::from(id)];
    assert!(!buffer.dirty, "{:?} would be lost", buffer.tag);
    buffer.page = Arc::new(bytes);
    buffer.valid = true;
    cx.release(LockId::BufferIo(id));
}

/// The result of the clock sweep. A victim is pinned. The content of a dirty victim is also locked.
enum Victim {
    Clean(BufId),
    Dirty(BufId),
    Busy,
}

fn victim(cx: &mut Cx<'_>) -> Result<Victim, LogEvent> {
    let buffers = &mut cx.shmem.buffers;
    let Some(id) = buffers.victim() else {
        return Err(LogEvent::error(
            SqlState::INTERNAL,
            Message::NoUnpinnedBuffers,
        ));
    };
    buffers.pin(id, cx.me);
    if !buffers.pool[usize::from(id)].dirty {
        return Ok(Victim::Clean(id));
    }
    // This code does not wait for the content lock. The process that holds this lock may wait for a
    // content lock of this process, so a wait could cause a deadlock.
    if cx.try_acquire(LockId::BufferContent(id)) {
        return Ok(Victim::Dirty(id));
    }
    cx.shmem.buffers.unpin(id, cx.me);
    Ok(Victim::Busy)
}

/// `FlushBuffer`: writes a dirty page. The caller has pinned the buffer and locked its content, at
/// least in shared mode.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FlushBuffer<F> {
    buffer: BufId,
    phase: FlushPhase<F>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum FlushPhase<F> {
    StartIo,
    FlushWal(F),
    Writing(WritePage),
}

impl<F: FlushWal> FlushBuffer<F> {
    /// Writes the page in this buffer.
    #[must_use]
    pub const fn new(buffer: BufId) -> Self {
        Self {
            buffer,
            phase: FlushPhase::StartIo,
        }
    }

    /// # Errors
    /// WAL could not be flushed, or the write failed. A failed write is an ERROR, and the page
    /// stays dirty.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let index = usize::from(self.buffer);
        loop {
            match &mut self.phase {
                FlushPhase::StartIo => {
                    ready!(cx.acquire(LockId::BufferIo(self.buffer), LockMode::Exclusive));
                    assert!(is_pinned(cx, self.buffer), "{} writes it", cx.me);
                    let locked = cx.holds(LockId::BufferContent(self.buffer));
                    assert!(locked || cx.has_bug(Bug::PageWrittenWithoutLock));
                    let buffer = &mut cx.shmem.buffers.pool[index];
                    if !buffer.dirty {
                        cx.release(LockId::BufferIo(self.buffer));
                        return Poll::Ready(Ok(()));
                    }
                    buffer.just_dirtied = false;
                    let lsn = DataPage::new(&buffer.page).lsn();
                    self.phase = FlushPhase::FlushWal(F::new(lsn));
                }
                FlushPhase::FlushWal(flush) => {
                    ready_ok!(flush.poll(cx));
                    let buffer = &cx.shmem.buffers.pool[index];
                    let tag = buffer.tag.expect("a dirty buffer holds a page");
                    assert!(buffer.valid, "{tag:?} is not read yet");
                    let data = Bytes::copy_from_slice(&buffer.page);
                    self.phase = FlushPhase::Writing(WritePage::new(cx, tag, data));
                }
                FlushPhase::Writing(write) => {
                    ready_ok!(write.poll(cx));
                    let buffer = &mut cx.shmem.buffers.pool[index];
                    buffer.dirty = buffer.just_dirtied;
                    cx.release(LockId::BufferIo(self.buffer));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}
