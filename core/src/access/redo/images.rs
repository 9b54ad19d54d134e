//! Redo of records that contain only full-page images. Mirrors XLOG_FPI and XLOG_FPI_FOR_HINT in
//! xlog_redo.

use super::block::{ReadBufferForRedo, RedoAction};
use crate::call::{LogEvent, Poll};
use crate::ready_ok;
use crate::storage::buffer;
use crate::sys::Cx;
use crate::wire::record::Record;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct ImagesRedo {
    /// Whether every block must have an image. A record for hint bits has no image if
    /// full_page_writes is off.
    all: bool,
    next: usize,
    read: Option<ReadBufferForRedo>,
}

impl ImagesRedo {
    pub(super) const fn new(all: bool) -> Self {
        Self {
            all,
            next: 0,
            read: None,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Cx<'_>, record: &Record) -> Poll<Result<(), LogEvent>> {
        while let Some(block) = record.blocks.get(self.next) {
            if block.image.is_none() {
                if self.all {
                    return Poll::Ready(Err(super::unknown(record)));
                }
                self.next += 1;
                continue;
            }
            let read = match &mut self.read {
                Some(read) => read,
                None => match ReadBufferForRedo::new(record, block) {
                    Ok(read) => self.read.insert(read),
                    Err(e) => return Poll::Ready(Err(e)),
                },
            };
            match ready_ok!(read.poll(cx, record, block)) {
                RedoAction::Restored(buffer) => buffer::unlock_release(cx, buffer),
                RedoAction::NeedsRedo(_) | RedoAction::Done(_) | RedoAction::NotFound => {
                    return Poll::Ready(Err(super::unknown(record)));
                }
            }
            self.read = None;
            self.next += 1;
        }
        Poll::Ready(Ok(()))
    }
}
