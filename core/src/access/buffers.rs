//! The routines of `storage::buffer`, with `XLogFlush` as the routine that flushes WAL before a
//! page is written.

use super::xlog_flush::XLogFlush;
use crate::base::Lsn;
use crate::call::{LogEvent, Poll};
use crate::storage::{buffer, buffer_sync};
use crate::sys::Cx;

/// `ReadBuffer`
pub type ReadBuffer = buffer::ReadBuffer<XLogFlush>;
/// `BufferSync`
pub type BufferSync = buffer_sync::BufferSync<XLogFlush>;
/// `CheckPointBuffers`
pub type CheckPointBuffers = buffer_sync::CheckPointBuffers<XLogFlush>;

impl buffer::FlushWal for XLogFlush {
    fn new(upto: Lsn) -> Self {
        Self::new(upto)
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        self.poll(cx)
    }
}

#[cfg(test)]
mod tests;
