//! Fetches the history file of a timeline. Mirrors existsTimeLineHistoryFile and
//! writeTimeLineHistoryFile of receivelog.c.

use super::stream_error::{StreamError, counts};
use super::wal_file::size;
use crate::base::{Fd, TimelineId};
use crate::call::{DiskError, DiskOp, FilePath, LogEvent, OpenFlags, Place, Poll, ReceiveMessage};
use crate::ready_ok;
use crate::replication::libpqrcv::{Answer, Link, Query};
use crate::storage::file::{DurableRename, opened, written};
use crate::sys::Cx;
use crate::wal::names::history_name;
use crate::wire::command::{Command, TimelineHistory};
use alloc::format;
use bytes::{Buf, Bytes};

/// Fetches the history file of a timeline if the file is missing. Runs before any WAL of the
/// timeline is received.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct FetchHistory {
    tli: TimelineId,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Begin,
    Looked,
    Asked(Query),
    Opened(Bytes),
    Writing { fd: Fd, at: u64, rest: Bytes },
    Rename(DurableRename),
}

impl FetchHistory {
    pub(super) const fn new(tli: TimelineId) -> Self {
        Self {
            tli,
            phase: Phase::Begin,
        }
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Cx<'_>,
        link: &mut Link,
    ) -> Poll<Result<(), StreamError>> {
        let name = history_name(self.tli);
        // The file is written under a temporary name. A temporary file that a crash has left is
        // overwritten.
        let temp = FilePath::from(format!("{name}.tmp"));
        let failed = |what, e| {
            let event = LogEvent::file(what, temp.clone(), e);
            Poll::Ready(Err(StreamError::Lost(event)))
        };
        loop {
            let op = match &mut self.phase {
                // Timeline 1 has no history file.
                Phase::Begin if self.tli == TimelineId(1) => return Poll::Ready(Ok(())),
                Phase::Begin => {
                    self.phase = Phase::Looked;
                    DiskOp::Stat(FilePath::from(name.as_str()))
                }
                Phase::Looked => match size(cx) {
                    Ok(Some(_)) => return Poll::Ready(Ok(())),
                    Ok(None) => {
                        let command = Command::TimelineHistory(self.tli);
                        self.phase = Phase::Asked(Query::send(cx, link, &command));
                        continue;
                    }
                    Err(e) => return failed("stat", e),
                },
                Phase::Asked(query) => {
                    let failing = StreamError::history;
                    let answer = ready_ok!(query.poll(cx, link).map(|done| done.map_err(failing)));
                    match self.checked(answer) {
                        Ok(content) => self.phase = Phase::Opened(content),
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                    DiskOp::Open {
                        path: temp.clone(),
                        flags: OpenFlags::CreateTruncate,
                    }
                }
                Phase::Opened(content) => match cx.done() {
                    Ok(done) => {
                        let (fd, rest) = (opened(done), content.clone());
                        self.phase = Phase::Writing {
                            fd,
                            at: 0,
                            rest: rest.clone(),
                        };
                        DiskOp::Write {
                            fd,
                            offset: 0,
                            data: rest,
                        }
                    }
                    Err(e) => return failed("create timeline history", e),
                },
                Phase::Writing { fd, at, rest } => {
                    if let Err(e) = pass_written(cx, at, rest) {
                        cx.close(*fd);
                        return failed("write timeline history", e);
                    }
                    if rest.is_empty() {
                        cx.close(*fd);
                        let to = FilePath::from(name.as_str());
                        self.phase = Phase::Rename(DurableRename::new(temp.clone(), to));
                        continue;
                    }
                    DiskOp::Write {
                        fd: *fd,
                        offset: *at,
                        data: rest.clone(),
                    }
                }
                Phase::Rename(rename) => {
                    ready_ok!(rename.poll(cx).map(|done| done.map_err(StreamError::Fatal)));
                    return Poll::Ready(Ok(()));
                }
            };
            return Poll::Yield(cx.disk(op, Place::WriteTimeLineHistoryFile));
        }
    }

    /// The content of the history file, or the error if the answer is for another timeline.
    fn checked(&self, answer: Answer) -> Result<Bytes, StreamError> {
        let rows = answer.rows();
        let history = rows.only(2).and_then(|row| TimelineHistory::from_row(row));
        let unexpected = || StreamError::lost(ReceiveMessage::HistoryRows(counts(&rows, 2)));
        let history = history.ok_or_else(unexpected)?;
        if history.filename != history_name(self.tli) {
            return Err(StreamError::lost(ReceiveMessage::HistoryName {
                tli: self.tli,
                name: history.filename,
            }));
        }
        Ok(history.content)
    }
}

/// Skips the bytes that were written. A write of no bytes means that the disk is full.
fn pass_written(cx: &mut Cx<'_>, at: &mut u64, rest: &mut Bytes) -> Result<(), DiskError> {
    let count = written(cx.done()?);
    if count == 0 && !rest.is_empty() {
        return Err(DiskError::NoSpace);
    }
    *at += u64::from(count);
    rest.advance(count as usize);
    Ok(())
}
