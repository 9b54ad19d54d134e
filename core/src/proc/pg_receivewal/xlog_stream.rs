//! Streams one timeline after another. Mirrors ReceiveXlogStream of receivelog.c.

use super::copy_stream::{CopyEnd, CopyStream};
use super::history::FetchHistory;
use super::prepare::{Start, shown};
use super::stop::Stop;
use super::stream_error::{StreamError, counts};
use crate::base::{Lsn, TimelineId};
use crate::call::{LogEvent, Poll, ReceiveMessage};
use crate::ready_ok;
use crate::replication::libpqrcv::{Answer, Link, Query, Rows};
use crate::sys::Cx;
use crate::wire::command::Command;
use alloc::string::String;

/// How streaming ended without an error.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum End {
    /// The receiver was told to stop or has reached the end position.
    Stopped,
    /// The server has shut down, and all of its WAL is received.
    Shutdown,
}

/// `ReceiveXlogStream`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct ReceiveXlogStream {
    start: Start,
    slot: Option<String>,
    synchronous: bool,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    History(FetchHistory),
    Start,
    Starting(Query),
    Copy(CopyStream),
    /// The timeline has ended on the server.
    Ended(Query),
    /// CopyDone was sent. The receiver ignores further messages of the server.
    Stopping(Query),
}

impl ReceiveXlogStream {
    pub(super) const fn new(start: Start, slot: Option<String>, synchronous: bool) -> Self {
        Self {
            start,
            slot,
            synchronous,
            phase: Phase::History(FetchHistory::new(start.tli)),
        }
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Cx<'_>,
        link: &mut Link,
        stop: &mut Stop,
    ) -> Poll<Result<End, StreamError>> {
        loop {
            match &mut self.phase {
                Phase::History(fetch) => {
                    ready_ok!(fetch.poll(cx, link));
                    self.phase = Phase::Start;
                }
                Phase::Start => {
                    let Start { at, tli } = self.start;
                    let offset = cx.shmem.settings.geometry.segment_offset(at);
                    assert_eq!(offset, 0, "{at} is in a segment");
                    link.tli = tli;
                    (link.write, link.flush) = (at, at);
                    if stop.stop_streaming(cx, at, tli) {
                        return Poll::Ready(Ok(End::Stopped));
                    }
                    let command = Command::StartReplication {
                        slot: self.slot.clone(),
                        start: at,
                        timeline: Some(tli),
                    };
                    self.phase = Phase::Starting(Query::send(cx, link, &command));
                }
                Phase::Starting(query) => {
                    let answer = query.poll(cx, link);
                    let failing = |failure| StreamError::start(failure, link.is_standby);
                    match ready_ok!(answer.map(|done| done.map_err(failing))) {
                        Answer::CopyBoth => {
                            let copy = CopyStream::begin(cx, link, self.synchronous);
                            self.phase = Phase::Copy(copy);
                        }
                        // If the timeline ends at the requested start, the server does not start
                        // COPY.
                        Answer::Done(rows) => {
                            if let Err(error) = self.next_timeline(cx, link.write, &rows) {
                                return Poll::Ready(Err(error));
                            }
                        }
                    }
                }
                Phase::Copy(copy) => match ready_ok!(copy.poll(cx, link, stop)) {
                    CopyEnd::Stopped => {
                        assert_eq!(cx.sys.wal_file, None, "the file is closed");
                        self.phase = Phase::Stopping(Query::end_streaming(cx, link));
                    }
                    CopyEnd::Timeline => {
                        assert_eq!(cx.sys.wal_file, None, "the file is closed");
                        self.phase = Phase::Ended(Query::end_streaming(cx, link));
                    }
                    CopyEnd::Shutdown => return Poll::Ready(Ok(End::Shutdown)),
                    CopyEnd::Error(fields) => {
                        return Poll::Ready(Err(StreamError::copy_ended(&fields, link.is_standby)));
                    }
                },
                Phase::Ended(query) => {
                    let failing = |failure| StreamError::command("START_REPLICATION", failure);
                    let answer = ready_ok!(query.poll(cx, link).map(|done| done.map_err(failing)));
                    if let Err(error) = self.next_timeline(cx, link.write, &answer.rows()) {
                        return Poll::Ready(Err(error));
                    }
                }
                Phase::Stopping(query) => {
                    return match query.poll(cx, link) {
                        Poll::Yield(how) => Poll::Yield(how),
                        Poll::Ready(Ok(_) | Err(_)) => Poll::Ready(Ok(End::Stopped)),
                    };
                }
            }
        }
    }

    /// `ReadEndOfStreamingResult` and the checks of its values. The new timeline can begin before
    /// the received end of the old timeline, because the last record may have been received only in
    /// part.
    fn next_timeline(&mut self, cx: &Cx<'_>, stopped: Lsn, rows: &Rows) -> Result<(), StreamError> {
        let (next, begin) = parse(rows).map_err(StreamError::lost)?;
        let tli = self.start.tli;
        if next <= tli {
            return Err(StreamError::lost(ReceiveMessage::NextTimeline {
                next,
                tli,
            }));
        }
        if begin > stopped {
            return Err(StreamError::lost(ReceiveMessage::NextBegins {
                tli,
                stop: stopped,
                next,
                begin,
            }));
        }
        let geometry = &cx.shmem.settings.geometry;
        self.start = Start {
            at: geometry.segment_start(geometry.segment_of(begin)),
            tli: next,
        };
        self.phase = Phase::History(FetchHistory::new(next));
        Ok(())
    }
}

fn parse(rows: &Rows) -> Result<(TimelineId, Lsn), ReceiveMessage> {
    let Some(row) = rows.only(2) else {
        return Err(ReceiveMessage::EndOfTimelineRows(counts(rows, 2)));
    };
    let (next, begin) = (shown(row, 0), shown(row, 1));
    match begin.parse() {
        // As with atoi, an invalid text becomes 0. A later check refuses timeline 0.
        Ok(begin) => Ok((TimelineId(next.parse().unwrap_or(0)), begin)),
        Err(_) => Err(ReceiveMessage::UnparsedNext(begin)),
    }
}

/// The error for a COPY that cannot continue.
pub(super) fn broken(why: String) -> StreamError {
    let code = crate::call::SqlState::CONNECTION_FAILURE;
    StreamError::Lost(LogEvent::error(
        code,
        crate::call::Message::StreamBroken(why),
    ))
}
