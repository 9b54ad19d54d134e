//! Reads a page for redo. Mirrors XLogReadBufferForRedoExtended, XLogReadBufferExtended and
//! log_invalid_page of xlogutils.c.

use crate::access::buffers::ReadBuffer;
use crate::call::{LogEvent, Message, Poll, SqlState};
use crate::shmem::{BufId, BufTag, LockId, LockMode};
use crate::storage::buffer::{self, ReadMode};
use crate::storage::relation::{self, OpenFile, RelationBlocks};
use crate::sys::Cx;
use crate::wire::data_page::DataPage;
use crate::wire::record::{BlockRef, Image, Record};
use crate::{ready, ready_ok};
use alloc::vec::Vec;

/// `XLogRedoAction`. With every result except `NotFound`, the buffer is pinned and its content is
/// locked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum RedoAction {
    /// The change must be applied.
    NeedsRedo(BufId),
    /// The page already contains the change.
    Done(BufId),
    /// The page was restored from the full-page image.
    Restored(BufId),
    /// The page does not exist. It was added to the table of invalid pages.
    NotFound,
}

/// `XLogReadBufferForRedo`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct ReadBufferForRedo {
    tag: BufTag,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Create(OpenFile),
    Blocks(RelationBlocks),
    Extend {
        block: u32,
        read: Option<ReadBuffer>,
    },
    Read(ReadBuffer),
    Lock(BufId),
    Decide(BufId),
}

impl ReadBufferForRedo {
    /// Reads a block of a record.
    ///
    /// # Errors
    /// The block is not in the main fork of a relation of this database.
    pub(super) fn new(record: &Record, block: &BlockRef) -> Result<Self, LogEvent> {
        if !relation::is_ours(block.rel) || block.fork != 0 {
            return Err(super::unknown(record));
        }
        let tag = BufTag {
            rel: block.rel.rel,
            block: block.block,
        };
        // A missing file is created. A later record may drop the relation, in which case the file
        // may already have been removed before the crash.
        let create = OpenFile::new(relation::path(tag.rel), true);
        Ok(Self {
            tag,
            phase: Phase::Create(create),
        })
    }

    /// Must be polled with the same record and block as in [`Self::new`].
    ///
    /// # Errors
    /// The page cannot be read or created, or its image cannot be restored.
    pub(super) fn poll(
        &mut self,
        cx: &mut Cx<'_>,
        record: &Record,
        block: &BlockRef,
    ) -> Poll<Result<RedoAction, LogEvent>> {
        let image = block.image.as_ref().filter(|image| image.apply());
        // If the record has an image of the page or initializes the page, the old content is not
        // needed. The page is not read, so a torn page does no harm.
        let zero = image.is_some() || block.will_init;
        loop {
            match &mut self.phase {
                Phase::Create(create) => {
                    ready_ok!(create.poll(cx));
                    self.phase = Phase::Blocks(RelationBlocks::new(self.tag.rel));
                }
                Phase::Blocks(blocks) => {
                    let blocks = ready_ok!(blocks.poll(cx));
                    self.phase = match (self.tag.block < blocks, zero) {
                        (true, false) => self.read(ReadMode::Normal),
                        (true, true) => self.read(ReadMode::ZeroAndLock),
                        (false, true) => Phase::Extend {
                            block: blocks,
                            read: None,
                        },
                        (false, false) => return Poll::Ready(self.invalid(cx)),
                    };
                }
                Phase::Extend { block, read: None } if *block > self.tag.block => {
                    self.phase = self.read(ReadMode::ZeroAndLock);
                }
                Phase::Extend { block, read } => {
                    let next = BufTag {
                        rel: self.tag.rel,
                        block: *block,
                    };
                    let buffer = ready_ok!(
                        read.get_or_insert(ReadBuffer::new(next, ReadMode::Extend))
                            .poll(cx)
                    );
                    assert!(next.block <= self.tag.block, "{next:?} is not needed");
                    cx.shmem.buffers.unpin(buffer, cx.me);
                    cx.shmem.buffers.blocks.insert(next.rel, next.block + 1);
                    self.phase = Phase::Extend {
                        block: next.block + 1,
                        read: None,
                    };
                }
                Phase::Read(read) => {
                    let buffer = ready_ok!(read.poll(cx));
                    self.phase = Phase::Lock(buffer);
                }
                Phase::Lock(buffer) => {
                    let buffer = *buffer;
                    let lock = LockId::BufferContent(buffer);
                    if !cx.holds(lock) {
                        ready!(cx.acquire(lock, LockMode::Exclusive));
                    }
                    let tag = cx.shmem.buffers.pool[usize::from(buffer)].tag;
                    assert_eq!(tag, Some(self.tag), "buffer {buffer} is pinned");
                    self.phase = Phase::Decide(buffer);
                }
                Phase::Decide(buffer) => {
                    let buffer = *buffer;
                    if let Some(image) = image {
                        return Poll::Ready(restore(cx, buffer, record, block, image));
                    }
                    let page = DataPage::new(buffer::page(cx, buffer));
                    if block.will_init {
                        return Poll::Ready(Ok(RedoAction::NeedsRedo(buffer)));
                    }
                    if page.is_new() {
                        buffer::unlock_release(cx, buffer);
                        return Poll::Ready(self.invalid(cx));
                    }
                    return Poll::Ready(Ok(if record.end <= page.lsn() {
                        RedoAction::Done(buffer)
                    } else {
                        RedoAction::NeedsRedo(buffer)
                    }));
                }
            }
        }
    }

    const fn read(&self, mode: ReadMode) -> Phase {
        Phase::Read(ReadBuffer::new(self.tag, mode))
    }

    /// `log_invalid_page`: before the consistent point, a missing page is remembered, because a
    /// later record may drop or truncate the relation. After the consistent point, a missing page
    /// is a PANIC.
    fn invalid(&self, cx: &mut Cx<'_>) -> Result<RedoAction, LogEvent> {
        if cx.shmem.recovery.consistent {
            return Err(LogEvent::panic(
                SqlState::DATA_CORRUPTED,
                Message::InvalidPages,
            ));
        }
        assert!(!cx.shmem.recovery.hot_standby_active);
        cx.shmem.recovery.invalid_pages.insert(self.tag);
        Ok(RedoAction::NotFound)
    }
}

/// `RestoreBlockImage`. Also sets the page's LSN, unless the page is all zeros.
fn restore(
    cx: &mut Cx<'_>,
    buffer: BufId,
    record: &Record,
    block: &BlockRef,
    image: &Image,
) -> Result<RedoAction, LogEvent> {
    let page_size = cx.shmem.settings.geometry.data_page;
    let page: Vec<u8> = image.restore(page_size).map_err(|error| {
        let message = Message::BadImage {
            lsn: record.lsn,
            block: block.id,
            error,
        };
        LogEvent::error(SqlState::INTERNAL, message)
    })?;
    let is_new = DataPage::new(&page).is_new();
    buffer::modify(cx, buffer, page);
    if !is_new {
        buffer::set_lsn(cx, buffer, record.end);
    }
    Ok(RedoAction::Restored(buffer))
}
