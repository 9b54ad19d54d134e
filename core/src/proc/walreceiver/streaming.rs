//! The streaming loop. Mirrors the inner loop of WalReceiverMain, XLogWalRcvProcessMsg and
//! libpqrcv_receive.

use super::check_interrupts;
use super::flush::FlushWal;
use super::write::WriteWal;
use crate::base::{Bug, Lsn, PgVersion, TimestampTz};
use crate::call::{LogEvent, Message, Place, Poll, Signal, SqlState};
use crate::ready_ok;
use crate::replication::libpqrcv::{Incoming, Link, Silence, error_text};
use crate::sys::Cx;
use crate::wire::backend::BackendMessage;
use crate::wire::replication::{WalMessage, WalMessageError};
use alloc::string::{String, ToString};
use bytes::Bytes;

/// The state of one stream.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Streaming {
    /// Whether a message has arrived since the last wait.
    received: bool,
    end: Option<CopyEnd>,
    turn: Turn,
}

/// How the upstream ended the COPY.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum CopyEnd {
    /// The timeline has ended on the upstream. The connection stays open.
    CopyDone,
    /// The upstream is shutting down.
    CommandComplete,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Turn {
    Top,
    /// Handles messages until none is left.
    Receive,
    Write(WriteWal),
    Flush(FlushWal),
    Wait,
    Woken,
}

impl Streaming {
    /// The write and flush positions start at the replay position. The stream starts earlier, at a
    /// segment boundary.
    pub(super) fn begin(cx: &mut Cx<'_>, link: &mut Link) -> Self {
        assert_eq!(cx.sys.wal_file, None, "nothing is received yet");
        link.write = cx.shmem.recovery.last_replayed_end;
        link.flush = link.write;
        link.timers.heard(cx.now.wall, &cx.shmem.settings);
        // PostgreSQL 15 sends no status update before the first message or timeout.
        if cx.shmem.settings.pg_version >= PgVersion::V16 {
            link.send_reply(cx, true, false);
            link.send_feedback(cx, true);
        }
        Self {
            received: false,
            end: None,
            turn: Turn::Top,
        }
    }

    /// # Errors
    /// Any error that ends the process.
    pub(super) fn poll(
        &mut self,
        cx: &mut Cx<'_>,
        link: &mut Link,
    ) -> Poll<Result<CopyEnd, LogEvent>> {
        loop {
            match &mut self.turn {
                Turn::Top => {
                    if let Err(event) = check_recovery(cx).and_then(|()| check_interrupts(cx)) {
                        return Poll::Ready(Err(event));
                    }
                    if cx.take_signal(Signal::Hup) {
                        link.timers.recompute(cx.now.wall, &cx.shmem.settings);
                        link.send_feedback(cx, true);
                    }
                    self.received = false;
                    self.turn = Turn::Receive;
                }
                Turn::Receive => {
                    if let Err(event) = self.receive(cx, link) {
                        return Poll::Ready(Err(event));
                    }
                }
                Turn::Write(write) => {
                    ready_ok!(write.poll(cx, link));
                    self.turn = Turn::Receive;
                }
                Turn::Flush(flush) => {
                    ready_ok!(flush.poll(cx, link));
                    assert!(link.write <= link.flush, "{} {}", link.write, link.flush);
                    if let Some(end) = self.end {
                        return Poll::Ready(Ok(end));
                    }
                    self.turn = Turn::Wait;
                }
                Turn::Wait => {
                    self.turn = Turn::Woken;
                    return Poll::Yield(link.wait_for_more(cx.now, Place::WalReceiverMain));
                }
                Turn::Woken => {
                    if let Err(event) = woken(cx, link) {
                        return Poll::Ready(Err(event));
                    }
                    self.turn = Turn::Top;
                }
            }
        }
    }

    /// Handles one message. While further messages wait, the walreceiver flushes only complete
    /// segments.
    fn receive(&mut self, cx: &mut Cx<'_>, link: &mut Link) -> Result<(), LogEvent> {
        match link.receive(cx) {
            Incoming::WouldBlock if self.received => self.finish_batch(cx, link),
            Incoming::WouldBlock => self.turn = Turn::Wait,
            Incoming::Broken(why) => return Err(broken(why)),
            Incoming::Message(BackendMessage::CopyData(payload)) => {
                if !payload.is_empty() {
                    self.received = true;
                    link.timers.heard(cx.now.wall, &cx.shmem.settings);
                    self.process(cx, link, payload)?;
                }
            }
            Incoming::Message(BackendMessage::CopyDone) => {
                self.end_of_copy(cx, link, CopyEnd::CopyDone);
            }
            Incoming::Message(BackendMessage::CommandComplete(_)) => {
                self.end_of_copy(cx, link, CopyEnd::CommandComplete);
            }
            Incoming::Message(BackendMessage::ErrorResponse(fields)) => {
                return Err(broken(error_text(&fields)));
            }
            Incoming::Message(other) => {
                return Err(broken(alloc::format!("unexpected message: {other:?}")));
            }
        }
        Ok(())
    }

    fn end_of_copy(&mut self, cx: &mut Cx<'_>, link: &mut Link, end: CopyEnd) {
        assert_eq!(self.end, None, "the COPY ends once");
        cx.log(LogEvent::log(Message::ReplicationTerminated));
        self.end = Some(end);
        self.finish_batch(cx, link);
    }

    /// Reports the write position, then flushes the WAL and reports the flush position.
    fn finish_batch(&mut self, cx: &mut Cx<'_>, link: &mut Link) {
        link.send_reply(cx, false, false);
        self.turn = Turn::Flush(FlushWal::new());
    }

    /// `XLogWalRcvProcessMsg`
    fn process(
        &mut self,
        cx: &mut Cx<'_>,
        link: &mut Link,
        payload: Bytes,
    ) -> Result<(), LogEvent> {
        assert_eq!(self.turn, Turn::Receive, "one message is handled at a time");
        match WalMessage::decode(payload).map_err(violation)? {
            WalMessage::XLogData(header, data) => {
                // If the end of the data would be beyond the largest LSN, the message is invalid.
                if header.start.0.checked_add(data.len() as u64).is_none() {
                    return Err(violation(WalMessageError::XLogData));
                }
                note_sender(cx, header.wal_end, header.send_time);
                self.turn = Turn::Write(WriteWal::new(header.start, data));
            }
            WalMessage::Keepalive(keepalive) => {
                note_sender(cx, keepalive.wal_end, keepalive.send_time);
                if keepalive.reply_requested {
                    link.send_reply(cx, true, false);
                }
            }
        }
        Ok(())
    }
}

/// Handles the end of a wait. The wait counts as a timeout only if no input has arrived and the
/// latch is not set.
fn woken(cx: &mut Cx<'_>, link: &mut Link) -> Result<(), LogEvent> {
    let woken = cx.woken_by();
    if woken.latch {
        cx.reset_latch();
        check_interrupts(cx)?;
        if core::mem::take(&mut cx.shmem.walrcv.force_reply) {
            link.send_requested_reply(cx);
        }
    } else if woken.timeout && !woken.readable {
        let silence = link.timers.take_silence(cx.now.wall, &cx.shmem.settings);
        if silence == Silence::TooLong && !cx.planted(Bug::ReceiverNeverGivesUp) {
            let code = SqlState::CONNECTION_FAILURE;
            return Err(LogEvent::error(code, Message::ReceiverTimeout));
        }
        let ping = silence == Silence::Ping;
        link.send_reply(cx, ping, ping);
        link.send_feedback(cx, false);
    }
    Ok(())
}

fn check_recovery(cx: &Cx<'_>) -> Result<(), LogEvent> {
    if cx.shmem.recovery_in_progress() {
        return Ok(());
    }
    Err(LogEvent::fatal(
        SqlState::NOT_IN_STATE,
        Message::RecoveryEnded,
    ))
}

/// `ProcessWalSndrMessage`
fn note_sender(cx: &mut Cx<'_>, wal_end: Lsn, send_time: TimestampTz) {
    let now = cx.now.wall;
    let walrcv = &mut cx.shmem.walrcv;
    if walrcv.latest_wal_end < wal_end {
        walrcv.latest_wal_end_time = send_time;
    }
    walrcv.latest_wal_end = wal_end;
    walrcv.last_send_time = send_time;
    walrcv.last_receipt_time = now;
}

fn broken(why: String) -> LogEvent {
    LogEvent::error(SqlState::CONNECTION_FAILURE, Message::StreamBroken(why))
}

fn violation(error: WalMessageError) -> LogEvent {
    let message = Message::Protocol(error.to_string());
    LogEvent::error(SqlState::PROTOCOL_VIOLATION, message)
}
