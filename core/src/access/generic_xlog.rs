//! Changing a page under Generic WAL. Mirrors GenericXLogFinish of generic_xlog.c for one page.

use super::heap::link;
use super::xlog_insert::{Insertion, RegisteredBuffer, XLogInsert};
use crate::base::{Lsn, Xid};
use crate::call::{LogEvent, Poll};
use crate::shmem::BufId;
use crate::storage::buffer;
use crate::sys::Cx;
use crate::wire::generic;
use crate::wire::record::RmgrId;
use alloc::vec;
use alloc::vec::Vec;

/// `GenericXLogFinish`: a critical section in which a page gets its new bytes, the change is
/// logged, and the page gets the record's end as its LSN. The caller has the buffer pinned and its
/// content locked for all of it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct GenericXLogFinish {
    buffer: BufId,
    insert: XLogInsert,
    /// The planted bug alone: a page that the record changes and does not name.
    unregistered: Option<BufId>,
}

impl GenericXLogFinish {
    /// Puts `new` in place of the page, with zeros between its line pointers and its tuples.
    /// `full_image` logs the whole page instead of what changed (`GENERIC_XLOG_FULL_IMAGE`), which
    /// a page that was all zeros needs.
    #[must_use]
    pub fn new(
        cx: &mut Cx<'_>,
        buffer: BufId,
        mut new: Vec<u8>,
        xid: Xid,
        full_image: bool,
    ) -> Self {
        generic::zero_hole(&mut new).expect("the caller made the page from a sound one");
        let data = if full_image {
            Vec::new()
        } else {
            generic::compute_delta(buffer::page(cx, buffer), &new)
        };
        let tag = cx.shmem.buffers.pool[usize::from(buffer)].tag;
        let tag = tag.expect("a pinned buffer holds a page");
        buffer::modify(cx, buffer, new);
        let block = RegisteredBuffer {
            buffer,
            tag,
            force_image: full_image,
            will_init: false,
            data,
        };
        let mut record = Insertion::new(RmgrId::GENERIC, 0, xid, Vec::new());
        record.blocks = vec![block];
        Self {
            buffer,
            insert: XLogInsert::new(record),
            unregistered: None,
        }
    }

    /// The planted bug: a second page, pinned and locked as well, is changed, and redo must find it
    /// by the record's data. Before 17.11 and 18.6 bits of the visibility map were cleared like
    /// that: without a registered block there is no image of the page.
    #[must_use]
    pub fn with_unregistered(mut self, cx: &mut Cx<'_>, other: BufId, to: u32) -> Self {
        let mut page = buffer::page(cx, other).to_vec();
        if link(&mut page, to) {
            buffer::modify(cx, other, page);
            self.unregistered = Some(other);
            let tag = cx.shmem.buffers.pool[usize::from(other)].tag;
            let block = tag.expect("a pinned buffer holds a page").block;
            self.insert.set_main(block.to_le_bytes().to_vec());
        } else {
            buffer::unlock_release(cx, other);
        }
        self
    }

    /// The record's end.
    ///
    /// # Errors
    /// WAL could not be written, as a PANIC.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Lsn, LogEvent>> {
        let inserted = match crate::ready!(self.insert.poll(cx)) {
            Ok(inserted) => inserted,
            Err(e) => return Poll::Ready(Err(e.in_critical_section())),
        };
        buffer::set_lsn(cx, self.buffer, inserted.end);
        if let Some(other) = self.unregistered.take() {
            buffer::set_lsn(cx, other, inserted.end);
            buffer::unlock_release(cx, other);
        }
        Poll::Ready(Ok(inserted.end))
    }
}
