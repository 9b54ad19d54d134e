//! Messages from the standby during streaming. Mirrors ProcessRepliesIfAny,
//! ProcessStandbyReplyMessage and ProcessStandbyHSFeedbackMessage.

use super::WalSender;
use super::stream::Turn;
use crate::base::Bug;
use crate::call::{Exit, LogEvent, Message, Place, SqlState, Yield};
use crate::replication::slot::advance::confirm_received_location;
use crate::replication::slot::required_lsn::ReplicationSlotsComputeRequiredLsn;
use crate::sys::Cx;
use crate::wire::backend::BackendMessage;
use crate::wire::frame::{Frame, FrameError};
use crate::wire::frontend::streaming_limit;
use crate::wire::replication::{StandbyMessage, StandbyMessageError, StandbyStatus};
use alloc::string::ToString;

/// The largest number of messages that one step handles. The limit lets other processes run.
const MESSAGES_PER_TURN: u32 = 100;

impl WalSender {
    /// Handles the messages that have arrived, up to the client's CopyDone. Messages after the
    /// CopyDone are commands. Returns a yield if the COPY or the process ends.
    ///
    /// Unlike PostgreSQL, the walsender stops reading from a client that requests replies but does
    /// not read them. The walsender continues to read when the client reads the replies. If the
    /// client never reads them, wal_sender_timeout ends the connection.
    pub(super) fn process_replies(&mut self, cx: &mut Cx<'_>) -> Option<Yield> {
        assert_eq!(self.streaming().turn, Turn::Top, "a message is being sent");
        self.streaming().timers.last_processing = cx.now.wall;
        self.streaming().more_to_read = false;
        let mut received = 0;
        while !self.streaming().done_receiving && !cx.output_full(self.conn) {
            if received == MESSAGES_PER_TURN {
                self.streaming().more_to_read = true;
                break;
            }
            match self.frames.next(streaming_limit) {
                Ok(Some(frame)) => {
                    received += 1;
                    if let Some(end) = self.process_message(cx, frame) {
                        return Some(end);
                    }
                }
                Ok(None) => match cx.receive(self.conn) {
                    Some(bytes) => self.frames.push(bytes),
                    None if cx.conn_end(self.conn).is_some() => {
                        let code = SqlState::PROTOCOL_VIOLATION;
                        return Some(self.hang_up(cx, code, Message::StandbyEof));
                    }
                    None => break,
                },
                Err(e) => return Some(self.bad_frame(cx, e)),
            }
        }
        if received > 0 {
            self.heard(cx);
        }
        None
    }

    /// Any message restarts the timeout.
    fn heard(&mut self, cx: &mut Cx<'_>) {
        if cx.planted(Bug::TimeoutEndsHealthyStandby) {
            self.streaming().timers.answered();
        } else {
            self.streaming().timers.heard();
        }
    }

    fn bad_frame(&mut self, cx: &mut Cx<'_>, error: FrameError) -> Yield {
        let sqlstate = SqlState(error.sqlstate());
        let message = Message::Protocol(error.to_string());
        match error {
            FrameError::StandbyType(_) => self.fatal(cx, LogEvent::fatal(sqlstate, message)),
            FrameError::Length { .. }
            | FrameError::FrontendType(_)
            | FrameError::BackendType(_)
            | FrameError::StartupLength(_) => self.hang_up(cx, sqlstate, message),
        }
    }

    fn process_message(&mut self, cx: &mut Cx<'_>, frame: Frame) -> Option<Yield> {
        match frame.tag {
            b'd' => self.process_payload(cx, &frame.body),
            b'c' => {
                let stream = self.streaming();
                let answer = !stream.done_sending;
                stream.done_sending = true;
                stream.done_receiving = true;
                if answer {
                    self.send(cx, &[BackendMessage::CopyDone]);
                }
                None
            }
            b'X' => Some(self.exit(cx, Exit::Normal)),
            other => Some(self.bad_frame(cx, FrameError::StandbyType(other))),
        }
    }

    fn process_payload(&mut self, cx: &mut Cx<'_>, payload: &[u8]) -> Option<Yield> {
        match StandbyMessage::decode(payload) {
            Ok(StandbyMessage::Status(status)) => self.process_status(cx, status),
            // Feedback has no effect, because walsim has no vacuum.
            Ok(StandbyMessage::Feedback(feedback)) => {
                self.entry(cx).reply_time = feedback.client_time;
                None
            }
            Err(StandbyMessageError::Body(e)) => {
                let message = Message::Protocol(e.to_string());
                Some(self.error(cx, LogEvent::error(SqlState(e.sqlstate()), message)))
            }
            Err(e @ StandbyMessageError::Type(_)) => {
                let message = Message::Protocol(e.to_string());
                Some(self.hang_up(cx, SqlState::PROTOCOL_VIOLATION, message))
            }
        }
    }

    /// `ProcessStandbyReplyMessage`
    fn process_status(&mut self, cx: &mut Cx<'_>, status: StandbyStatus) -> Option<Yield> {
        if status.reply_requested {
            self.send_keepalive(cx, false);
        }
        // As in `ProcessStandbyReplyMessage`, the positions are not compared with the old values. A
        // restarted standby may report lower positions.
        let entry = self.entry(cx);
        entry.write = status.write;
        entry.flush = status.flush;
        entry.apply = status.apply;
        entry.reply_time = status.client_time;
        // `PhysicalConfirmReceivedLocation`
        let has_slot = cx.sys.my_slot.is_some() && status.flush.is_valid();
        let unflushed = status.write > status.flush;
        let confirmed = if has_slot && unflushed && cx.planted(Bug::SlotMovedToWrite) {
            status.write
        } else {
            status.flush
        };
        if has_slot && confirm_received_location(cx, confirmed) {
            self.heard(cx);
            let stream = self.streaming();
            stream.turn = Turn::Confirm(ReplicationSlotsComputeRequiredLsn::new());
            return Some(Yield::Again(Place::PhysicalConfirmReceivedLocation));
        }
        None
    }
}
