//! Changes a page with Generic WAL. Mirrors GenericXLogFinish of generic_xlog.c for one page.

use super::heap::link;
use super::xlog_insert::{Insertion, RegisteredBuffer, XLogInsert};
use crate::base::{Lsn, Xid};
use crate::call::{LogEvent, Poll};
use crate::shmem::BufId;
use crate::storage::buffer;
use crate::sys::Cx;
use crate::wire::data_page::DataPage;
use crate::wire::generic;
use crate::wire::record::RmgrId;
use alloc::vec;
use alloc::vec::Vec;

/// `GenericXLogFinish`: replaces the content of a page, logs the change, and sets the page's LSN to
/// the end of the record. These steps are a critical section. The caller has pinned the buffer and
/// locked its content.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct GenericXLogFinish {
    buffer: BufId,
    insert: XLogInsert,
    /// With the planted bug only: a page that the record changes but does not register.
    unregistered: Option<BufId>,
}

impl GenericXLogFinish {
    /// Replaces the page by `new`. Zeroes the gap between line pointers and tuples. `full_image`
    /// logs the whole page instead of the changes (`GENERIC_XLOG_FULL_IMAGE`). A page that was all
    /// zeros requires `full_image`.
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
        // A delta needs the page header of the old page.
        let is_new = DataPage::new(buffer::page(cx, buffer)).is_new();
        assert!(full_image || !is_new, "{tag:?} is all zeros");
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

    /// With the planted bug, the record also changes the page `other`, which the caller has pinned
    /// and locked. The block number of `other` is only in the main data of the record. The page
    /// `other` therefore gets no full-page image. Before 17.11 and 18.6 PostgreSQL cleared bits of
    /// the visibility map in this way.
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

    /// Returns the end of the WAL record.
    ///
    /// # Errors
    /// A PANIC if WAL could not be written.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Lsn, LogEvent>> {
        let inserted = match crate::ready!(self.insert.poll(cx)) {
            Ok(inserted) => inserted,
            Err(e) => return Poll::Ready(Err(e.in_critical_section())),
        };
        assert!(inserted.start < inserted.end, "{inserted:?}");
        buffer::set_lsn(cx, self.buffer, inserted.end);
        if let Some(other) = self.unregistered.take() {
            buffer::set_lsn(cx, other, inserted.end);
            buffer::unlock_release(cx, other);
        }
        Poll::Ready(Ok(inserted.end))
    }
}
