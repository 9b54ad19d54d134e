//! The command TIMELINE_HISTORY. Mirrors SendTimeLineHistory.

use super::{Phase, WalSender};
use crate::base::{Fd, TimelineId};
use crate::call::{DiskOp, FilePath, LogEvent, Message, OpenFlags, Place, Poll, SqlState, Yield};
use crate::storage::file::{opened, read};
use crate::sys::Cx;
use crate::wal::names::history_name;
use crate::wire::command::TimelineHistory;
use crate::wire::frame::LARGE_LIMIT;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// The size of one read, a `PGAlignedBlock`. It does not depend on the page size.
const CHUNK: u32 = 8192;

/// An upper bound for the rest of the message: the length word, the number and lengths of the
/// columns, and the file name.
const AROUND: u32 = 64;

/// Sends the one row of the answer, after the RowDescription.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct SendTimelineHistory {
    filename: String,
    phase: History,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum History {
    Open,
    Opened,
    Reading { fd: Fd, content: Vec<u8> },
}

impl SendTimelineHistory {
    pub(super) fn new(tli: TimelineId) -> Self {
        Self {
            filename: history_name(tli),
            phase: History::Open,
        }
    }

    /// # Errors
    /// The file does not exist or cannot be read.
    fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<TimelineHistory, LogEvent>> {
        let why = Place::SendTimeLineHistory;
        match &mut self.phase {
            History::Open => {
                let (path, flags) = (self.path(), OpenFlags::Existing);
                self.phase = History::Opened;
                Poll::Yield(cx.disk(DiskOp::Open { path, flags }, why))
            }
            History::Opened => match cx.done() {
                Ok(done) => {
                    let fd = opened(done);
                    let content = Vec::new();
                    self.phase = History::Reading { fd, content };
                    Poll::Yield(cx.disk(next(fd, 0), why))
                }
                Err(e) => Poll::Ready(Err(LogEvent::file("open", self.path(), e))),
            },
            History::Reading { fd, content } => {
                let fd = *fd;
                let got = match cx.done() {
                    Ok(done) => read(done),
                    Err(e) => {
                        cx.close(fd);
                        return Poll::Ready(Err(LogEvent::file("read", self.path(), e)));
                    }
                };
                assert!(got.len() <= CHUNK as usize, "{} bytes", got.len());
                if got.is_empty() {
                    cx.close(fd);
                    let content = Bytes::from(core::mem::take(content));
                    let filename = core::mem::take(&mut self.filename);
                    return Poll::Ready(Ok(TimelineHistory { filename, content }));
                }
                if content.len() + got.len() > (LARGE_LIMIT - AROUND) as usize {
                    cx.close(fd);
                    let code = SqlState::PROGRAM_LIMIT_EXCEEDED;
                    return Poll::Ready(Err(LogEvent::error(code, Message::OutOfMemory)));
                }
                content.extend_from_slice(&got);
                Poll::Yield(cx.disk(next(fd, content.len()), why))
            }
        }
    }

    fn path(&self) -> FilePath {
        FilePath::from(format!("pg_wal/{}", self.filename))
    }
}

fn next(fd: Fd, offset: usize) -> DiskOp {
    DiskOp::Read {
        fd,
        offset: offset as u64,
        len: CHUNK,
    }
}

impl WalSender {
    pub(super) fn begin_history(&mut self, cx: &mut Cx<'_>, tli: TimelineId) -> Yield {
        let mut columns = Vec::new();
        TimelineHistory::encode_columns(cx.shmem.settings.pg_version, &mut columns);
        cx.send(self.conn, [Bytes::from(columns), Bytes::new()]);
        self.phase = Phase::History(SendTimelineHistory::new(tli));
        self.timeline_history(cx)
    }

    pub(super) fn timeline_history(&mut self, cx: &mut Cx<'_>) -> Yield {
        let Phase::History(history) = &mut self.phase else {
            unreachable!("only called for such a command")
        };
        match history.poll(cx) {
            Poll::Yield(how) => how,
            Poll::Ready(Ok(history)) => {
                let mut out = Vec::new();
                history.encode(&mut out);
                self.answer(cx, out)
            }
            Poll::Ready(Err(event)) => self.fail(cx, event),
        }
    }
}
