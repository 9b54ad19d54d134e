//! Inserts WAL records: reserves space, then copies the record, in separate steps. Mirrors
//! XLogInsert, XLogInsertRecord, ReserveXLogInsertLocation, ReserveXLogSwitch and
//! CopyXLogRecordToWAL.

use super::wal_buffers::GetBuffer;
use super::xlog_flush::{XLogFlush, wal_insert_allowed};
use crate::base::{Bug, Geometry, Lsn, Mark, Xid};
use crate::call::{LogEvent, Place, Poll, Yield};
use crate::shmem::{BufId, BufTag, INSERTION_LOCKS, LockId, LockMode};
use crate::storage::relation;
use crate::sys::Cx;
use crate::wal::mark_contrecord;
use crate::wal::position::{bytepos_to_end, bytepos_to_start, lsn_to_bytepos};
use crate::wire::data_page::DataPage;
use crate::wire::record::{AssembledRecord, BlockPart, Image, RecordBody, RecordHeader, RmgrId};
use crate::{ready, ready_ok};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

/// `XLOG_CHECKPOINT_REDO`
const CHECKPOINT_REDO: u8 = 0xE0;

/// A buffer that the record changes (`XLogRegisterBuffer`). The buffer already has its new content,
/// but still its old LSN.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RegisteredBuffer {
    /// The buffer.
    pub buffer: BufId,
    /// The page in the buffer.
    pub tag: BufTag,
    /// Whether the record must include a full-page image (`REGBUF_FORCE_IMAGE`).
    pub force_image: bool,
    /// Whether redo initializes the page (`REGBUF_WILL_INIT`). Such a page needs no image.
    pub will_init: bool,
    /// Data that redo uses if the record has no image of the page.
    pub data: Vec<u8>,
}

/// A record to insert.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Insertion {
    /// The resource manager.
    pub rmid: RmgrId,
    /// `xl_info`
    pub info: u8,
    /// The transaction id. Invalid if there is no transaction.
    pub xid: Xid,
    /// Main data.
    pub main: Vec<u8>,
    /// The buffers that the record changes. Their block ids count from 0.
    pub blocks: Vec<RegisteredBuffer>,
    /// `XLOG_MARK_UNIMPORTANT`: whether the record is unimportant. If only unimportant records
    /// follow a checkpoint, the next checkpoint is skipped.
    pub unimportant: bool,
}

impl Insertion {
    /// A record without buffers.
    #[must_use]
    pub const fn new(rmid: RmgrId, info: u8, xid: Xid, main: Vec<u8>) -> Self {
        Self {
            rmid,
            info,
            xid,
            main,
            blocks: Vec::new(),
            unimportant: false,
        }
    }

    /// Is it a CHECKPOINT_REDO record? Reserving space for such a record moves the redo pointer to
    /// its start.
    fn is_redo_point(&self) -> bool {
        self.rmid == RmgrId::XLOG && self.info == CHECKPOINT_REDO
    }
}

/// The position of an inserted record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Inserted {
    /// `ProcLastRecPtr`
    pub start: Lsn,
    /// `XactLastRecEnd`: the end of the record. It becomes the LSN of the changed pages.
    pub end: Lsn,
}

/// `XLogInsert`. A switch record is also flushed before the routine returns.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct XLogInsert {
    insertion: Insertion,
    record: Option<AssembledRecord>,
    /// The lowest LSN among the pages without an image (`fpw_lsn`).
    unimaged: Option<Lsn>,
    /// The insertion locks to hold.
    locks: core::ops::Range<u8>,
    reserved: Inserted,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Assemble,
    Lock(u8),
    Reserve,
    Copy {
        done: usize,
        at: Lsn,
        page: GetBuffer,
    },
    /// Clears the pages that a switch record skips.
    Wipe {
        at: Lsn,
        page: GetBuffer,
    },
    Unlock,
    Flush(XLogFlush),
}

impl XLogInsert {
    /// Inserts the record.
    #[must_use]
    pub const fn new(insertion: Insertion) -> Self {
        Self {
            insertion,
            record: None,
            unimaged: None,
            locks: 0..0,
            reserved: Inserted {
                start: Lsn::INVALID,
                end: Lsn::INVALID,
            },
            phase: Phase::Assemble,
        }
    }

    /// Replaces the main data, before the first poll.
    pub(super) fn set_main(&mut self, main: Vec<u8>) {
        self.insertion.main = main;
    }

    /// # Errors
    /// A PANIC if WAL cannot be written.
    ///
    /// # Panics
    /// If WAL insertion is not allowed during recovery.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Inserted, LogEvent>> {
        let geometry = cx.shmem.settings.geometry;
        loop {
            match &mut self.phase {
                Phase::Assemble => {
                    assert!(
                        wal_insert_allowed(cx),
                        "cannot make new WAL entries during recovery"
                    );
                    self.assemble(cx);
                    // A checkpoint can move the redo pointer between this step and the next. The
                    // next step therefore checks the decision about images again, under the
                    // insertion lock.
                    self.phase = Phase::Lock(self.locks.start);
                    if !self.insertion.blocks.is_empty() {
                        return Poll::Yield(Yield::Again(Place::XLogInsertRecord));
                    }
                }
                Phase::Lock(next) => {
                    ready!(cx.acquire(LockId::WalInsert(*next), LockMode::Exclusive));
                    *next += 1;
                    if *next < self.locks.end {
                        // Only the variable of the last lock shows how far the insertion has got.
                        // The other locks get the largest position, so that no process waits for
                        // them.
                        cx.shmem
                            .locks
                            .set_var(LockId::WalInsert(*next - 1), Lsn::MAX);
                    } else if self.needs_images(cx) && !cx.planted(Bug::RedoPointerNotRechecked) {
                        self.unlock(cx);
                        self.phase = Phase::Assemble;
                    } else {
                        self.phase = Phase::Reserve;
                    }
                }
                Phase::Reserve => {
                    if !self.reserve(cx) {
                        self.unlock(cx);
                        let at = self.reserved.end;
                        self.phase = Phase::Flush(XLogFlush::new(at));
                        continue;
                    }
                    let page = GetBuffer::new(self.reserved.start, self.last_lock());
                    self.phase = Phase::Copy {
                        done: 0,
                        at: self.reserved.start,
                        page,
                    };
                    return Poll::Yield(Yield::Again(Place::CopyXLogRecordToWAL));
                }
                Phase::Copy { done, at, page } => {
                    let index = ready_ok!(page.poll(cx));
                    let record = self.record.as_ref().expect("assembled");
                    assert!(*at < self.reserved.end, "{at} in {:?}", self.reserved);
                    let (done, at) = copy(cx, record.bytes(), index, *done, *at);
                    self.phase = self.copied(&geometry, done, at);
                }
                Phase::Wipe { at, .. } if *at >= self.reserved.end => self.phase = Phase::Unlock,
                Phase::Wipe { at, page } => {
                    assert_eq!(geometry.page_offset(*at), 0);
                    let index = ready_ok!(page.poll(cx));
                    let bytes = Arc::make_mut(&mut cx.shmem.xlog.buffers[index].page);
                    bytes[..RecordHeader::LEN].fill(0);
                    let next = *at + u64::from(geometry.wal_page);
                    let page = GetBuffer::new(next, self.last_lock());
                    self.phase = Phase::Wipe { at: next, page };
                }
                Phase::Unlock => {
                    let Inserted { start, end } = self.reserved;
                    let xlog = &mut cx.shmem.xlog;
                    xlog.open_reservations -= 1;
                    if !self.insertion.unimportant {
                        // `GetLastImportantRecPtr` takes the largest position of all insertion
                        // locks. The record of an earlier reservation can be copied later.
                        xlog.last_important = xlog.last_important.max(start);
                    }
                    self.unlock(cx);
                    if geometry.page_start(start) != geometry.page_start(end) {
                        let xlog = &mut cx.shmem.xlog;
                        xlog.request_write = xlog.request_write.max(end);
                    }
                    if self.record.as_ref().is_some_and(AssembledRecord::is_switch) {
                        self.phase = Phase::Flush(XLogFlush::new(end));
                    } else {
                        return Poll::Ready(Ok(self.reserved));
                    }
                }
                Phase::Flush(flush) => {
                    ready_ok!(flush.poll(cx));
                    return Poll::Ready(Ok(self.switched(cx)));
                }
            }
        }
    }

    /// The phase after `done` bytes of the record were copied. It copies more bytes, skips the rest
    /// of the segment after a switch record, or finishes.
    fn copied(&self, geometry: &Geometry, done: usize, at: Lsn) -> Phase {
        let record = self.record.as_ref().expect("assembled");
        assert!(at <= self.reserved.end, "{at} in {:?}", self.reserved);
        let lock = self.last_lock();
        if done < record.bytes().len() {
            let page = GetBuffer::new(at, lock);
            return Phase::Copy { done, at, page };
        }
        if record.is_switch() && geometry.segment_offset(at.align8()) != 0 {
            assert_eq!(done, RecordHeader::LEN);
            let at = geometry.page_start(at.align8() + (u64::from(geometry.wal_page) - 1));
            let page = GetBuffer::new(at, lock);
            return Phase::Wipe { at, page };
        }
        assert_eq!(
            at.align8(),
            self.reserved.end,
            "the record fills its reservation"
        );
        Phase::Unlock
    }

    /// `XLogRecordAssemble`: decides which pages need full-page images.
    fn assemble(&mut self, cx: &mut Cx<'_>) {
        let redo = cx.shmem.xlog.redo;
        let page_writes = cx.shmem.xlog.full_page_writes;
        self.unimaged = None;
        let mut blocks = Vec::with_capacity(self.insertion.blocks.len());
        for (id, registered) in (0u8..).zip(&self.insertion.blocks) {
            check_registered(cx, registered, &blocks);
            let page = &cx.shmem.buffers.pool[usize::from(registered.buffer)].page;
            let lsn = DataPage::new(page).lsn();
            let rel = relation::locator(registered.tag.rel);
            let mut part = BlockPart::new(id, rel, registered.tag.block);
            part.will_init = registered.will_init;
            part.data = Bytes::copy_from_slice(&registered.data);
            // A page whose LSN equals the redo pointer was last changed before the redo point, so
            // it needs an image.
            let wanted = page_writes
                && !registered.will_init
                && (lsn < redo || lsn == redo && !cx.probe.planted(Bug::ImageDecisionOffByOne));
            if registered.force_image || wanted {
                part.image = Some(Image::of_page(page, true));
            } else if !registered.will_init {
                self.unimaged = Some(self.unimaged.map_or(lsn, |least| least.min(lsn)));
            }
            blocks.push(part);
        }
        let Insertion {
            rmid, info, xid, ..
        } = self.insertion;
        let main = Bytes::copy_from_slice(&self.insertion.main);
        let body = RecordBody {
            blocks,
            ..RecordBody::new(rmid, info, xid, main)
        };
        let record = body.assemble(cx.shmem.settings.geometry.data_page);
        let header = u32::try_from(RecordHeader::LEN).expect("a small constant");
        assert!(record.len() >= header, "{} bytes", record.len());
        // Only a switch record has no data.
        assert!(record.len() > header || record.is_switch());
        let own = u8::try_from(cx.me.n % u32::from(INSERTION_LOCKS)).expect("a small remainder");
        let all = record.is_switch() || self.insertion.is_redo_point();
        self.locks = if all {
            0..INSERTION_LOCKS
        } else {
            own..own + 1
        };
        self.record = Some(record);
    }

    /// Is the redo pointer now beyond the LSN of a page for which the record has no image? The
    /// record must then be assembled again.
    fn needs_images(&self, cx: &mut Cx<'_>) -> bool {
        let redo = cx.shmem.xlog.redo;
        cx.shmem.xlog.full_page_writes
            && self.unimaged.is_some_and(|lsn| {
                lsn < redo || lsn == redo && !cx.planted(Bug::ImageDecisionOffByOne)
            })
    }

    /// Reserves space for the record. Returns false for a switch record if WAL already ends at a
    /// segment boundary.
    fn reserve(&mut self, cx: &mut Cx<'_>) -> bool {
        let geometry = cx.shmem.settings.geometry;
        let mut locks = self.locks.clone();
        assert!(!locks.is_empty() && locks.all(|lock| cx.holds(LockId::WalInsert(lock))));
        let record = self.record.as_mut().expect("assembled");
        let xlog = &mut cx.shmem.xlog;
        let start = xlog.curr_byte_pos;
        let mut end = start + u64::from(record.len()).next_multiple_of(8);
        let mut fills = false;
        if record.is_switch() {
            let here = bytepos_to_end(&geometry, start);
            if geometry.segment_offset(here) == 0 {
                self.reserved = Inserted {
                    start: here,
                    end: here,
                };
                return false;
            }
            let natural = bytepos_to_end(&geometry, end);
            let left = geometry.segment_offset(natural);
            fills = left == 0;
            if left != 0 {
                let boundary = natural + u64::from(geometry.segment - left);
                end = lsn_to_bytepos(&geometry, boundary);
            }
        }
        let prev = bytepos_to_start(&geometry, xlog.prev_byte_pos);
        record.finish(prev);
        self.reserved = Inserted {
            start: bytepos_to_start(&geometry, start),
            end: bytepos_to_end(&geometry, end),
        };
        assert_eq!(lsn_to_bytepos(&geometry, self.reserved.start), start);
        assert_eq!(lsn_to_bytepos(&geometry, self.reserved.end), end);
        assert_eq!(lsn_to_bytepos(&geometry, prev), xlog.prev_byte_pos);
        assert!(self.reserved.start < self.reserved.end);
        let at_boundary = geometry.segment_offset(self.reserved.end) == 0;
        assert!(at_boundary || !record.is_switch(), "{:?}", self.reserved);
        if xlog.prev_byte_pos == 0 && xlog.curr_byte_pos == 0 {
            record.finish(Lsn::INVALID);
        }
        // The xl_prev of the next record points to the switch record, even if the switch record
        // ends exactly at the end of its segment.
        if !(fills && cx.probe.planted(Bug::SwitchBreaksChain)) {
            xlog.prev_byte_pos = start;
        }
        xlog.curr_byte_pos = end;
        xlog.open_reservations += 1;
        if xlog.open_reservations > 1 {
            cx.probe.mark(Mark::TwoReservationsOpen);
        }
        let Inserted { start, end } = self.reserved;
        let last = Lsn(end.0 - 1);
        if geometry.page_start(start) != geometry.page_start(last) && !record.is_switch() {
            cx.probe.mark(Mark::RecordCrossesPage);
        }
        if geometry.segment_of(start) != geometry.segment_of(last) {
            cx.probe.mark(Mark::RecordCrossesSegment);
        }
        if self.insertion.is_redo_point() && !cx.probe.has_bug(Bug::RedoPointerPublishedLate) {
            assert!(xlog.redo < start, "{} moves to {start}", xlog.redo);
            xlog.redo = start;
        }
        true
    }

    /// The result for an XLOG_SWITCH record. The reserved range extends to the end of the segment,
    /// but the returned `end` is the end of the record.
    fn switched(&self, cx: &Cx<'_>) -> Inserted {
        let geometry = &cx.shmem.settings.geometry;
        let Inserted { start, end } = self.reserved;
        if start == end {
            return self.reserved;
        }
        let mut natural = start + RecordHeader::LEN as u64;
        let page = geometry.page_start(natural);
        if geometry.page_start(start) != page {
            natural += u64::from(geometry.page_header(page));
        }
        Inserted {
            start,
            end: natural,
        }
    }

    fn last_lock(&self) -> LockId {
        LockId::WalInsert(self.locks.end - 1)
    }

    fn unlock(&self, cx: &mut Cx<'_>) {
        for lock in self.locks.clone() {
            cx.release(LockId::WalInsert(lock));
        }
    }
}

/// `XLogRegisterBuffer`: a registered buffer is pinned and locked, and registered once.
fn check_registered(cx: &Cx<'_>, registered: &RegisteredBuffer, earlier: &[BlockPart]) {
    let RegisteredBuffer { buffer, tag, .. } = registered;
    let it = &cx.shmem.buffers.pool[usize::from(*buffer)];
    assert_eq!(it.tag, Some(*tag), "buffer {buffer}");
    assert!(it.pins.contains(&cx.me), "{} registers {tag:?}", cx.me);
    assert!(cx.holds(LockId::BufferContent(*buffer)), "{tag:?}");
    let same = |part: &BlockPart| part.block == tag.block && part.rel.rel == tag.rel;
    assert!(!earlier.iter().any(same), "{tag:?} is registered twice");
    assert!(!registered.force_image || !registered.will_init, "{tag:?}");
}

/// Copies the part of the record that fits on one page. Returns how many bytes are copied so far,
/// and the position of the next part.
fn copy(cx: &mut Cx<'_>, record: &[u8], index: usize, done: usize, mut at: Lsn) -> (usize, Lsn) {
    let geometry = cx.shmem.settings.geometry;
    let page = Arc::make_mut(&mut cx.shmem.xlog.buffers[index].page);
    if done > 0 {
        // The record continues on the page that starts at `at`.
        let rest = u32::try_from(record.len() - done).expect("a record is at most 1020 MiB");
        mark_contrecord(page, rest);
        at += u64::from(geometry.page_header(at));
    }
    let offset = geometry.page_offset(at) as usize;
    let header = geometry.page_header(geometry.page_start(at)) as usize;
    assert!(offset >= header, "{at} is in a page header");
    let pageaddr: [u8; 8] = page[8..16].try_into().expect("8 bytes of the page header");
    assert_eq!(u64::from_le_bytes(pageaddr), geometry.page_start(at).0);
    let count = (record.len() - done).min(page.len() - offset);
    assert!(count > 0, "{done} of {} bytes are copied", record.len());
    page[offset..offset + count].copy_from_slice(&record[done..done + count]);
    (done + count, at + count as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shmem::Role;
    use crate::sys::testing::Fixture;
    use crate::wire::xlog_records::XlogRecord;

    /// A record that is reserved first can be copied last. The last important record is still the
    /// later one. Otherwise the next checkpoint could be skipped.
    #[test]
    fn the_last_important_record_is_the_latest() {
        let mut fixture = Fixture::primary();
        let (a, b) = (fixture.spawn(Role::Backend), fixture.spawn(Role::Backend));
        let record = XlogRecord::CheckpointRedo(0);
        let insertion = || {
            let main = record.encode(crate::base::PgVersion::V17);
            Insertion::new(RmgrId::XLOG, 0x20, Xid::INVALID, main)
        };
        let mut first = XLogInsert::new(insertion());
        let mut second = XLogInsert::new(insertion());
        fixture.run_to(a, Place::CopyXLogRecordToWAL, |cx| first.poll(cx));
        let later = fixture.run(b, |cx| second.poll(cx)).unwrap();
        let earlier = fixture.run(a, |cx| first.poll(cx)).unwrap();
        assert!(earlier.start < later.start);
        assert_eq!(fixture.shmem.xlog.last_important, later.start);
    }
}
