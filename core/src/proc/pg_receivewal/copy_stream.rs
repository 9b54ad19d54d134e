//! Receives one COPY stream. Mirrors HandleCopyStream of receivelog.c, with the walreceiver's
//! timers and status updates.
//!
//! The receiver sends a status update after each flush, when the server requests one, and at
//! intervals. With `--synchronous` it flushes after each write, otherwise at the end of a segment.

use super::stop::Stop;
use super::stream_error::StreamError;
use super::wal_file::{CloseWalFile, OpenWalFile, SyncWalFile, WritePiece};
use super::xlog_stream::broken;
use crate::call::{LogEvent, Message, Place, Poll, ReceiveMessage, SqlState, Yield};
use crate::ready_ok;
use crate::replication::libpqrcv::{Incoming, Link, Silence};
use crate::sys::Cx;
use crate::wire::backend::{BackendMessage, ErrorFields};
use crate::wire::replication::{WalMessage, WalMessageError};
use alloc::string::ToString;
use bytes::Bytes;

/// How a COPY ended. The segment file is closed by then.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum CopyEnd {
    /// The receiver stops. CopyDone is not yet sent.
    Stopped,
    /// The timeline has ended on the server.
    Timeline,
    /// The server is shutting down.
    Shutdown,
    /// The server sent an error.
    Error(ErrorFields),
}

/// `HandleCopyStream`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct CopyStream {
    synchronous: bool,
    /// Whether a message has arrived since the last wait.
    received: bool,
    turn: Turn,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Turn {
    /// Handles messages until none is left.
    Receive,
    /// `ProcessXLogDataMsg`: the rest of a message.
    Data(Bytes),
    Open(OpenWalFile, Bytes),
    Write(WritePiece, Bytes),
    /// Closes a complete segment.
    Finish(CloseWalFile, Bytes),
    /// Fsyncs the segment, then sends a status update.
    Sync(SyncWalFile),
    Close(CloseWalFile, CopyEnd),
    Wait,
    Woken,
}

impl CopyStream {
    pub(super) fn begin(cx: &mut Cx<'_>, link: &mut Link, synchronous: bool) -> Self {
        assert_eq!(cx.sys.wal_file, None, "nothing is received yet");
        assert_eq!(link.flush, link.write, "nothing is received yet");
        let settings = &cx.shmem.settings;
        link.timers.heard(cx.now.wall, settings);
        if settings.wal_receiver_status_interval_ms > 0 {
            link.send_reply(cx, true, false);
        }
        Self {
            synchronous,
            received: true,
            turn: Turn::Receive,
        }
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Cx<'_>,
        link: &mut Link,
        stop: &mut Stop,
    ) -> Poll<Result<CopyEnd, StreamError>> {
        loop {
            match &mut self.turn {
                Turn::Receive => {
                    if let Err(error) = self.receive(cx, link, stop) {
                        return Poll::Ready(Err(error));
                    }
                }
                Turn::Data(rest) => {
                    let rest = core::mem::take(rest);
                    if let Some(how) = self.place(cx, link, stop, rest) {
                        return Poll::Yield(how);
                    }
                }
                Turn::Open(open, rest) => {
                    ready_ok!(open.poll(cx));
                    let segment = cx.shmem.settings.geometry.segment_of(link.write);
                    let open = cx.sys.wal_file.map(|open| (open.segment, open.tli));
                    assert_eq!(open, Some((segment, link.tli)), "{} is in it", link.write);
                    self.turn = Turn::Data(core::mem::take(rest));
                }
                Turn::Write(piece, rest) => {
                    ready_ok!(piece.poll(cx, link));
                    let rest = core::mem::take(rest);
                    let at_end = cx.shmem.settings.geometry.segment_offset(link.write) == 0;
                    self.turn = if at_end {
                        Turn::Finish(CloseWalFile::new(), rest)
                    } else {
                        Turn::Data(rest)
                    };
                }
                Turn::Finish(close, rest) => {
                    ready_ok!(close.poll(cx, link));
                    assert_eq!(cx.sys.wal_file, None, "the file is closed");
                    assert_eq!(link.flush, link.write, "a segment is durable");
                    let rest = core::mem::take(rest);
                    self.turn = Turn::Data(rest);
                    // If streaming stops here, the rest of the message is dropped.
                    if stop.stop_streaming(cx, link.write, link.tli) {
                        return Poll::Ready(Ok(CopyEnd::Stopped));
                    }
                }
                Turn::Sync(sync) => {
                    ready_ok!(sync.poll(cx, link));
                    assert_eq!(link.flush, link.write, "the fsync covers all");
                    link.send_reply(cx, true, false);
                    self.turn = Turn::Receive;
                }
                Turn::Close(close, end) => {
                    ready_ok!(close.poll(cx, link));
                    return Poll::Ready(Ok(end.clone()));
                }
                Turn::Wait => {
                    self.turn = Turn::Woken;
                    return Poll::Yield(link.wait_for_more(cx.now, Place::HandleCopyStream));
                }
                Turn::Woken => {
                    if let Err(error) = woken(cx, link) {
                        return Poll::Ready(Err(error));
                    }
                    self.turn = Turn::Receive;
                    if stop.stop_streaming(cx, link.write, link.tli) {
                        self.turn = Turn::Close(CloseWalFile::new(), CopyEnd::Stopped);
                    }
                }
            }
        }
    }

    /// Handles one message.
    fn receive(
        &mut self,
        cx: &mut Cx<'_>,
        link: &mut Link,
        stop: &mut Stop,
    ) -> Result<(), StreamError> {
        let end = match link.receive(cx) {
            Incoming::WouldBlock if self.received => {
                self.received = false;
                self.end_burst(cx, link, stop);
                return Ok(());
            }
            Incoming::WouldBlock => {
                self.turn = Turn::Wait;
                return Ok(());
            }
            Incoming::Broken(why) => return Err(broken(why)),
            Incoming::Message(BackendMessage::CopyData(payload)) => {
                self.received = true;
                link.timers.heard(cx.now.wall, &cx.shmem.settings);
                return self.process(cx, link, payload);
            }
            Incoming::Message(BackendMessage::CopyDone) => CopyEnd::Timeline,
            Incoming::Message(BackendMessage::CommandComplete(_)) => CopyEnd::Shutdown,
            Incoming::Message(BackendMessage::ErrorResponse(fields)) => CopyEnd::Error(fields),
            Incoming::Message(other) => {
                return Err(broken(alloc::format!("unexpected message: {other:?}")));
            }
        };
        self.turn = Turn::Close(CloseWalFile::new(), end);
        Ok(())
    }

    /// Called when all received WAL is written.
    fn end_burst(&mut self, cx: &mut Cx<'_>, link: &mut Link, stop: &mut Stop) {
        if stop.stop_streaming(cx, link.write, link.tli) {
            self.turn = Turn::Close(CloseWalFile::new(), CopyEnd::Stopped);
        } else if self.synchronous && is_unflushed(cx, link) {
            self.turn = Turn::Sync(SyncWalFile::new());
        } else if link.reported.1 != link.flush
            || link.timers.reply_due(cx.now.wall, &cx.shmem.settings)
        {
            link.send_reply(cx, false, false);
        }
    }

    fn process(
        &mut self,
        cx: &mut Cx<'_>,
        link: &mut Link,
        payload: Bytes,
    ) -> Result<(), StreamError> {
        assert_eq!(self.turn, Turn::Receive, "one message is handled at a time");
        match WalMessage::decode(payload).map_err(violation)? {
            WalMessage::XLogData(header, data) => {
                // If the end of the data would be beyond the largest LSN, the message is invalid.
                if header.start.0.checked_add(data.len() as u64).is_none() {
                    return Err(violation(WalMessageError::XLogData));
                }
                let offset = |at| cx.shmem.settings.geometry.segment_offset(at);
                if header.start != link.write {
                    let (got, expected) = (offset(header.start), offset(link.write));
                    return Err(StreamError::lost(
                        if cx.sys.wal_file.is_none() && got != 0 {
                            ReceiveMessage::NoFileOpen(got)
                        } else {
                            ReceiveMessage::WrongOffset { got, expected }
                        },
                    ));
                }
                self.turn = Turn::Data(data);
            }
            WalMessage::Keepalive(keepalive) if keepalive.reply_requested => {
                // A server that shuts down requests replies until this receiver has flushed all
                // WAL.
                if !link.hides_flush && is_unflushed(cx, link) {
                    self.turn = Turn::Sync(SyncWalFile::new());
                } else {
                    link.send_reply(cx, true, false);
                }
            }
            WalMessage::Keepalive(_) => {}
        }
        Ok(())
    }

    /// Handles the next part of a message. Returns a yield if it issued a disk operation.
    fn place(
        &mut self,
        cx: &mut Cx<'_>,
        link: &Link,
        stop: &mut Stop,
        mut rest: Bytes,
    ) -> Option<Yield> {
        let geometry = cx.shmem.settings.geometry;
        if rest.is_empty() {
            self.turn = Turn::Receive;
            if stop.stop_streaming(cx, link.write, link.tli) {
                self.turn = Turn::Close(CloseWalFile::new(), CopyEnd::Stopped);
            }
            return None;
        }
        if cx.sys.wal_file.is_none() {
            let segment = geometry.segment_of(link.write);
            self.turn = Turn::Open(OpenWalFile::new(segment, link.tli), rest);
            return None;
        }
        let room = (geometry.segment - geometry.segment_offset(link.write)) as usize;
        let piece = rest.split_to(room.min(rest.len()));
        let (piece, how) = WritePiece::begin(cx, link, piece);
        self.turn = Turn::Write(piece, rest);
        Some(how)
    }
}

fn is_unflushed(cx: &Cx<'_>, link: &Link) -> bool {
    link.flush < link.write && cx.sys.wal_file.is_some()
}

/// Handles the end of a wait. The wait counts as a timeout only if no input has arrived and the
/// latch is not set.
fn woken(cx: &mut Cx<'_>, link: &mut Link) -> Result<(), StreamError> {
    let woken = cx.woken_by();
    if woken.latch {
        cx.reset_latch();
    } else if woken.timeout && !woken.readable {
        let silence = link.timers.take_silence(cx.now.wall, &cx.shmem.settings);
        if silence == Silence::TooLong {
            let code = SqlState::CONNECTION_FAILURE;
            let event = LogEvent::error(code, Message::ReceiverTimeout);
            return Err(StreamError::Lost(event));
        }
        let ping = silence == Silence::Ping;
        link.send_reply(cx, ping, ping);
    }
    Ok(())
}

fn violation(error: WalMessageError) -> StreamError {
    let message = Message::Protocol(error.to_string());
    StreamError::Lost(LogEvent::error(SqlState::PROTOCOL_VIOLATION, message))
}
