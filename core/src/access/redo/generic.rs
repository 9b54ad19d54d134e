//! Redo of page deltas. Mirrors generic_redo of generic_xlog.c.

use super::super::heap;
use super::block::{ReadBufferForRedo, RedoAction};
use crate::base::Bug;
use crate::call::{LogEvent, Message, Poll, SqlState};
use crate::ready_ok;
use crate::shmem::BufId;
use crate::storage::buffer;
use crate::sys::Cx;
use crate::wire::generic;
use crate::wire::record::{BlockRef, Record};
use alloc::vec::Vec;

/// Redo of a Generic record. All pages of the record stay locked until all are changed, so no
/// process sees part of the change.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct GenericRedo {
    next: usize,
    read: Option<ReadBufferForRedo>,
    locked: Vec<BufId>,
}

impl GenericRedo {
    pub(super) const fn new() -> Self {
        Self {
            next: 0,
            read: None,
            locked: Vec::new(),
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Cx<'_>, record: &Record) -> Poll<Result<(), LogEvent>> {
        while let Some(block) = record.blocks.get(self.next) {
            let read = match &mut self.read {
                Some(read) => read,
                None if block.will_init => return Poll::Ready(Err(bad(record))),
                None => match ReadBufferForRedo::new(record, block) {
                    Ok(read) => self.read.insert(read),
                    Err(e) => return Poll::Ready(Err(e)),
                },
            };
            match ready_ok!(read.poll(cx, record, block)) {
                RedoAction::NeedsRedo(buffer) => {
                    let mut page = buffer::page(cx, buffer).to_vec();
                    if generic::apply_delta(&mut page, &block.data).is_err() {
                        return Poll::Ready(Err(bad(record)));
                    }
                    let clean = !cx.shmem.buffers.pool[usize::from(buffer)].dirty;
                    buffer::modify(cx, buffer, page);
                    buffer::set_lsn(cx, buffer, record.end);
                    // Before 15.18 and 18.4 one redo routine did not mark the buffer dirty. An
                    // eviction of the page then lost the change.
                    if clean && cx.planted(Bug::RedoForgetsDirty) {
                        let buffer = &mut cx.shmem.buffers.pool[usize::from(buffer)];
                        buffer.dirty = false;
                        buffer.just_dirtied = false;
                    }
                    self.locked.push(buffer);
                }
                RedoAction::Done(buffer) | RedoAction::Restored(buffer) => self.locked.push(buffer),
                RedoAction::NotFound => {}
            }
            self.read = None;
            self.next += 1;
        }
        if let Some((first, block)) = unregistered(record)
            && cx.planted(Bug::PageChangedWithoutRegisteredBlock)
        {
            ready_ok!(self.link(cx, record, first, block));
        }
        assert!(self.read.is_none(), "a page is still being read");
        for buffer in self.locked.drain(..) {
            buffer::unlock_release(cx, buffer);
        }
        Poll::Ready(Ok(()))
    }
}

impl GenericRedo {
    /// With the planted bug, changes the page that the record does not register.
    fn link(
        &mut self,
        cx: &mut Cx<'_>,
        record: &Record,
        first: &BlockRef,
        block: u32,
    ) -> Poll<Result<(), LogEvent>> {
        let other = BlockRef {
            block,
            image: None,
            will_init: false,
            ..first.clone()
        };
        let read = match &mut self.read {
            Some(read) => read,
            None => match ReadBufferForRedo::new(record, &other) {
                Ok(read) => self.read.insert(read),
                Err(e) => return Poll::Ready(Err(e)),
            },
        };
        match ready_ok!(read.poll(cx, record, &other)) {
            RedoAction::NeedsRedo(buffer) => {
                let mut page = buffer::page(cx, buffer).to_vec();
                if heap::link(&mut page, first.block) {
                    buffer::modify(cx, buffer, page);
                    buffer::set_lsn(cx, buffer, record.end);
                }
                self.locked.push(buffer);
            }
            RedoAction::Done(buffer) | RedoAction::Restored(buffer) => self.locked.push(buffer),
            RedoAction::NotFound => {}
        }
        self.read = None;
        Poll::Ready(Ok(()))
    }
}

/// The first block of the record, and the block number in the record's main data.
fn unregistered(record: &Record) -> Option<(&BlockRef, u32)> {
    let main: [u8; 4] = record.main.as_ref().try_into().ok()?;
    Some((record.blocks.first()?, u32::from_le_bytes(main)))
}

fn bad(record: &Record) -> LogEvent {
    LogEvent::error(SqlState::DATA_CORRUPTED, Message::BadGeneric(record.lsn))
}
