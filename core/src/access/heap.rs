//! Rows with versions. Mirrors heap_insert and RelationGetBufferForTuple of heapam.c and hio.c, and
//! the visibility rules of heapam_visibility.c, for insert-only tables.
//!
//! A row is a heap tuple: PostgreSQL's header, a key of eight bytes, and the value. Writing a key
//! again inserts another tuple. A reader gets the last tuple of the key that is visible to the
//! reader's snapshot.

use super::clog::ClogStatus;
use super::generic_xlog::GenericXLogFinish;
use crate::access::buffers::ReadBuffer;
use crate::base::{Bug, Lsn, Xid};
use crate::call::{LogEvent, Message, Place, Poll, SqlState, Yield};
use crate::shmem::{BufId, BufTag, LockId, LockMode, XactStatus};
use crate::storage::buffer::{self, ReadMode};
use crate::storage::relation::RelationBlocks;
use crate::sys::Cx;
use crate::wire::data_page::{self, DataPage, HEADER_LEN};
use crate::wire::layout::{Pad, layout};
use crate::{ready, ready_ok};
use alloc::vec::Vec;
use bytes::Bytes;

/// `HEAP_HASVARWIDTH | HEAP_XMAX_INVALID`
const INFOMASK: u16 = 0x0002 | 0x0800;

/// The size of the page header and one line pointer, rounded up to a multiple of 8.
const PAGE_OVERHEAD: u32 = 32;

layout! {
    /// `HeapTupleHeaderData` up to the first attribute, which is the key.
    struct TupleHeader: Disk {
        xmin: Xid,
        xmax: Xid,
        command: u32,
        block_high: u16,
        block_low: u16,
        item: u16,
        infomask2: u16,
        infomask: u16,
        hoff: u8,
        pad: Pad<1>,
        key: u64,
    }
}

/// A version of a row.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Row {
    /// The key.
    pub key: u64,
    /// The value.
    pub value: Bytes,
}

/// A tuple on a page.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Tuple {
    /// The transaction that inserted the tuple.
    pub xmin: Xid,
    /// The row.
    pub row: Row,
}

impl Row {
    /// The row as a tuple for line pointer `item` of block `block`.
    fn tuple(&self, xmin: Xid, block: u32, item: u16) -> Vec<u8> {
        let [b0, b1, b2, b3] = block.to_be_bytes();
        let header = TupleHeader {
            xmin,
            xmax: Xid::INVALID,
            command: 0,
            block_high: u16::from_be_bytes([b0, b1]),
            block_low: u16::from_be_bytes([b2, b3]),
            item,
            infomask2: 2,
            infomask: INFOMASK,
            hoff: 24,
            pad: Pad,
            key: self.key,
        };
        let mut bytes = Vec::with_capacity(TupleHeader::LEN + self.value.len());
        header.encode(&mut bytes);
        bytes.extend_from_slice(&self.value);
        bytes
    }
}

/// The tuples of a page, in the order of their line pointers. Skips items that are not valid
/// tuples.
#[must_use]
pub fn tuples(page: &[u8]) -> Vec<Tuple> {
    DataPage::new(page)
        .items()
        .filter_map(|item| tuple(item, |_| true))
        .collect()
}

/// The tuples of a page that have this key, newest last.
fn versions(page: &[u8], key: u64) -> Vec<Tuple> {
    DataPage::new(page)
        .items()
        .filter_map(|item| tuple(item, |k| k == key))
        .collect()
}

fn tuple(item: &[u8], wanted: impl FnOnce(u64) -> bool) -> Option<Tuple> {
    let TupleHeader { xmin, key, .. } = TupleHeader::decode(item).ok()?;
    let value = || Bytes::copy_from_slice(&item[TupleHeader::LEN..]);
    wanted(key).then(|| Tuple {
        xmin,
        row: Row {
            key,
            value: value(),
        },
    })
}

/// `heap_insert`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HeapInsert {
    rel: u32,
    row: Row,
    xid: Xid,
    phase: InsertPhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum InsertPhase {
    Start,
    Blocks(RelationBlocks),
    Target(ReadBuffer),
    LockTarget(BufId),
    LockExtension {
        full: u32,
    },
    Extend(ReadBuffer),
    LockExtended(BufId),
    Insert(BufId),
    /// With the planted bug only: links a tuple in the previous block to the new block.
    ReadPrevious(BufId, ReadBuffer),
    LockPrevious(BufId, BufId),
    Log(BufId, GenericXLogFinish),
}

impl HeapInsert {
    /// Inserts a version of a row. The transaction must already have an id.
    #[must_use]
    pub const fn new(rel: u32, row: Row, xid: Xid) -> Self {
        Self {
            rel,
            row,
            xid,
            phase: InsertPhase::Start,
        }
    }

    /// Returns the end of the WAL record.
    ///
    /// # Errors
    /// The row is too large, a page cannot be read or created, or WAL could not be written.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Lsn, LogEvent>> {
        let extension = LockId::RelationExtension(self.rel);
        loop {
            match &mut self.phase {
                InsertPhase::Start => {
                    if let Err(e) = self.check_size(cx) {
                        return Poll::Ready(Err(e));
                    }
                    self.phase = InsertPhase::Blocks(RelationBlocks::new(self.rel));
                }
                InsertPhase::Blocks(blocks) => {
                    let blocks = ready_ok!(blocks.poll(cx));
                    self.phase = self.target(blocks, 0);
                }
                InsertPhase::Target(read) => {
                    let buffer = ready_ok!(read.poll(cx));
                    self.phase = InsertPhase::LockTarget(buffer);
                }
                InsertPhase::LockTarget(buffer) => {
                    let buffer = *buffer;
                    ready!(cx.acquire(LockId::BufferContent(buffer), LockMode::Exclusive));
                    let tag = cx.shmem.buffers.pool[usize::from(buffer)].tag;
                    assert_eq!(tag.map(|tag| tag.rel), Some(self.rel));
                    let page = DataPage::new(buffer::page(cx, buffer));
                    if page.is_new() || page.free_space() >= self.aligned_len() {
                        self.phase = self.has_room(cx, buffer);
                        continue;
                    }
                    let tag = cx.shmem.buffers.pool[usize::from(buffer)].tag;
                    let full = tag.expect("a pinned buffer holds a page").block + 1;
                    buffer::unlock_release(cx, buffer);
                    self.phase = InsertPhase::LockExtension { full };
                    return Poll::Yield(Yield::Again(Place::RelationGetBufferForTuple));
                }
                InsertPhase::LockExtension { full } => {
                    let full = *full;
                    ready!(cx.acquire(extension, LockMode::Exclusive));
                    // Another process may have found the same page full and may already have
                    // extended the relation.
                    let blocks = cx.shmem.buffers.blocks.get(&self.rel).copied();
                    let blocks = blocks.expect("asked for before");
                    assert!(full <= blocks, "{} shrank to {blocks}", self.rel);
                    if blocks > full {
                        cx.release(extension);
                        self.phase = self.target(blocks, full);
                    } else {
                        let tag = BufTag {
                            rel: self.rel,
                            block: blocks,
                        };
                        self.phase = InsertPhase::Extend(ReadBuffer::new(tag, ReadMode::Extend));
                    }
                }
                InsertPhase::Extend(read) => {
                    let buffer = ready_ok!(read.poll(cx));
                    let tag = cx.shmem.buffers.pool[usize::from(buffer)].tag;
                    let block = tag.expect("a pinned buffer holds a page").block;
                    assert!(cx.holds(extension), "{} extends {}", cx.me, self.rel);
                    cx.shmem.buffers.blocks.insert(self.rel, block + 1);
                    self.phase = InsertPhase::LockExtended(buffer);
                }
                InsertPhase::LockExtended(buffer) => {
                    let buffer = *buffer;
                    // The content lock is taken before the extension lock is released. No other
                    // process can then fill the page first.
                    ready!(cx.acquire(LockId::BufferContent(buffer), LockMode::Exclusive));
                    cx.release(extension);
                    let page = DataPage::new(buffer::page(cx, buffer));
                    assert!(page.is_new(), "another process has filled the page");
                    self.phase = self.has_room(cx, buffer);
                }
                InsertPhase::Insert(buffer) => {
                    let buffer = *buffer;
                    let log = self.insert(cx, buffer, None);
                    self.phase = InsertPhase::Log(buffer, log);
                }
                InsertPhase::ReadPrevious(buffer, read) => {
                    let buffer = *buffer;
                    let previous = ready_ok!(read.poll(cx));
                    self.phase = InsertPhase::LockPrevious(buffer, previous);
                }
                InsertPhase::LockPrevious(buffer, previous) => {
                    let (buffer, previous) = (*buffer, *previous);
                    ready!(cx.acquire(LockId::BufferContent(previous), LockMode::Exclusive));
                    let log = self.insert(cx, buffer, Some(previous));
                    self.phase = InsertPhase::Log(buffer, log);
                }
                InsertPhase::Log(buffer, log) => {
                    let buffer = *buffer;
                    let end = ready_ok!(log.poll(cx));
                    buffer::unlock_release(cx, buffer);
                    return Poll::Ready(Ok(end));
                }
            }
        }
    }

    fn tuple_len(&self) -> usize {
        TupleHeader::LEN + self.row.value.len()
    }

    /// `MaxHeapTupleSize`
    fn check_size(&self, cx: &Cx<'_>) -> Result<(), LogEvent> {
        let max = cx.shmem.settings.geometry.data_page - PAGE_OVERHEAD;
        let size = u32::try_from(self.tuple_len()).unwrap_or(u32::MAX);
        if size <= max {
            return Ok(());
        }
        let message = Message::RowTooBig { size, max };
        Err(LogEvent::error(SqlState::PROGRAM_LIMIT_EXCEEDED, message))
    }

    /// Selects the last block of the relation, unless that block is known to be full.
    fn target(&self, blocks: u32, full: u32) -> InsertPhase {
        if blocks <= full {
            return InsertPhase::LockExtension { full };
        }
        let tag = BufTag {
            rel: self.rel,
            block: blocks - 1,
        };
        InsertPhase::Target(ReadBuffer::new(tag, ReadMode::Normal))
    }

    fn aligned_len(&self) -> usize {
        self.tuple_len().next_multiple_of(8)
    }

    /// Called when the buffer has room for the row. An insertion changes only this page. With the
    /// planted bug, an insertion into a new page also changes the previous page but does not
    /// register that page.
    fn has_room(&self, cx: &mut Cx<'_>, buffer: BufId) -> InsertPhase {
        let pool = &cx.shmem.buffers.pool[usize::from(buffer)];
        let tag = pool.tag.expect("a pinned buffer holds a page");
        let first = tag.block == 0 || !DataPage::new(&pool.page).is_new();
        if first || !cx.planted(Bug::PageChangedWithoutRegisteredBlock) {
            return InsertPhase::Insert(buffer);
        }
        let block = tag.block - 1;
        assert!(cx.holds(LockId::BufferContent(buffer)), "{tag:?}");
        let read = ReadBuffer::new(BufTag { block, ..tag }, ReadMode::Normal);
        InsertPhase::ReadPrevious(buffer, read)
    }

    /// Adds the tuple to a copy of the page. Initializes a page of zeros first. Such a page is new,
    /// or a crash has left it.
    fn insert(&self, cx: &mut Cx<'_>, buffer: BufId, previous: Option<BufId>) -> GenericXLogFinish {
        let old = &cx.shmem.buffers.pool[usize::from(buffer)];
        let block = old.tag.expect("a pinned buffer holds a page").block;
        let is_new = DataPage::new(&old.page).is_new();
        let mut page = if is_new {
            data_page::empty_page(cx.shmem.settings.geometry.data_page)
        } else {
            old.page.to_vec()
        };
        let items = (DataPage::new(&page).lower() - HEADER_LEN) / 4;
        let item = u16::try_from(items + 1).expect("a page has fewer line pointers than bytes");
        let tuple = self.row.tuple(self.xid, block, item);
        assert_eq!(tuple.len(), self.tuple_len());
        assert!(self.xid.is_valid(), "a row belongs to a transaction");
        let added = data_page::add_item(&mut page, &tuple);
        assert_eq!(added, Some(item), "the free space was checked before");
        let finish = GenericXLogFinish::new(cx, buffer, page, self.xid, is_new);
        match previous {
            Some(previous) => finish.with_unregistered(cx, previous, block),
            None => finish,
        }
    }
}

/// Links the first tuple of a page to a tuple in block `to` (`t_ctid`), as an update would. Returns
/// false if the page has no tuple.
pub fn link(page: &mut [u8], to: u32) -> bool {
    let pointer = page.get(HEADER_LEN..HEADER_LEN + 4);
    let pointer = pointer.and_then(|bytes| bytes.try_into().ok());
    let offset = pointer.map_or(0, |bytes| u32::from_le_bytes(bytes) & 0x7FFF) as usize;
    let [b0, b1, b2, b3] = to.to_be_bytes();
    let ctid = [b1, b0, b3, b2, 1, 0];
    let place = page.get_mut(offset + 12..offset + 12 + ctid.len());
    let Some(place) = place.filter(|_| offset >= HEADER_LEN) else {
        return false;
    };
    place.copy_from_slice(&ctid);
    true
}

/// The transactions that a statement sees (`SnapshotData`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Snapshot {
    /// The statement's own transaction, whose rows are visible.
    own: Xid,
    /// The next transaction id at the time of the snapshot.
    xmax: Xid,
    /// The transactions that were running at the time of the snapshot. Their rows are not visible,
    /// even if they have committed since.
    running: Vec<Xid>,
}

impl Snapshot {
    /// `GetSnapshotData`
    #[must_use]
    pub fn take(cx: &mut Cx<'_>, own: Xid) -> Self {
        let running = cx.shmem.procs.running_xids();
        let next = cx.shmem.next_xid;
        let newest = Xid(next.0.saturating_sub(1));
        let ended = newest != own && !running.contains(&newest);
        let xmax = if ended && cx.planted(Bug::SnapshotExcludesNewest) {
            newest
        } else {
            next
        };
        Self { own, xmax, running }
    }
}

/// `GET`: finds the newest version of a row that the snapshot sees. A snapshot on a hot standby
/// does not know the running transactions, so only the clog status counts on a standby.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HeapGet {
    rel: u32,
    key: u64,
    snapshot: Snapshot,
    phase: GetPhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum GetPhase {
    Blocks(RelationBlocks),
    /// Reads the next lower block. Blocks from this number on are already searched.
    Next(u32),
    Read(u32, ReadBuffer),
    Lock(u32, BufId),
    /// The versions of the row on one page, newest last.
    Check(u32, Vec<Tuple>),
    Status(u32, Vec<Tuple>, Tuple, ClogStatus),
}

impl HeapGet {
    /// Looks up a row.
    #[must_use]
    pub const fn new(rel: u32, key: u64, snapshot: Snapshot) -> Self {
        Self {
            rel,
            key,
            snapshot,
            phase: GetPhase::Blocks(RelationBlocks::new(rel)),
        }
    }

    /// Returns the value, or `None` if the snapshot sees no such row.
    ///
    /// # Errors
    /// A page or a transaction's status cannot be read.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Option<Bytes>, LogEvent>> {
        loop {
            match &mut self.phase {
                GetPhase::Blocks(blocks) => {
                    let blocks = ready_ok!(blocks.poll(cx));
                    self.phase = GetPhase::Next(blocks);
                }
                GetPhase::Next(0) => return Poll::Ready(Ok(None)),
                GetPhase::Next(done) => {
                    let block = *done - 1;
                    let tag = BufTag {
                        rel: self.rel,
                        block,
                    };
                    self.phase = GetPhase::Read(block, ReadBuffer::new(tag, ReadMode::Normal));
                }
                GetPhase::Read(block, read) => {
                    let buffer = ready_ok!(read.poll(cx));
                    self.phase = GetPhase::Lock(*block, buffer);
                }
                GetPhase::Lock(block, buffer) => {
                    let (block, buffer) = (*block, *buffer);
                    ready!(cx.acquire(LockId::BufferContent(buffer), LockMode::Shared));
                    let versions = versions(buffer::page(cx, buffer), self.key);
                    buffer::unlock_release(cx, buffer);
                    self.phase = GetPhase::Check(block, versions);
                }
                GetPhase::Check(block, versions) => {
                    let Some(version) = versions.pop() else {
                        self.phase = GetPhase::Next(*block);
                        continue;
                    };
                    let Snapshot { own, xmax, running } = &self.snapshot;
                    let xmin = version.xmin;
                    if xmin == *own {
                        return Poll::Ready(Ok(Some(version.row.value)));
                    }
                    if xmin < *xmax && !running.contains(&xmin) {
                        let rest = core::mem::take(versions);
                        let status = ClogStatus::new(xmin);
                        self.phase = GetPhase::Status(*block, rest, version, status);
                    }
                }
                GetPhase::Status(block, rest, version, status) => {
                    if ready_ok!(status.poll(cx)) == XactStatus::Committed {
                        return Poll::Ready(Ok(Some(version.row.value.clone())));
                    }
                    self.phase = GetPhase::Check(*block, core::mem::take(rest));
                }
            }
        }
    }
}
