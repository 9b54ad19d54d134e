//! The state that a walreceiver keeps between messages: its connection, and its write and flush
//! positions.

use super::timers::Timers;
use crate::base::{ConnId, Lsn, Now, PgVersion, TimelineId};
use crate::call::{Place, Wait, Yield};
use crate::sys::{ConnEnd, Cx};
use crate::wire::backend::{BackendMessage, backend_limit};
use crate::wire::frame::FrameReader;
use alloc::string::{String, ToString};

/// The state of the connection and of the stream (`LogstreamResult` and the static variables of
/// walreceiver.c).
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Link {
    /// The connection. `None` until it is opened.
    pub conn: Option<ConnId>,
    frames: FrameReader,
    /// The slot on the upstream, as configured when the process started. Empty if no slot is
    /// configured.
    pub slot_name: String,
    /// Whether the upstream is itself a standby. The timeline of a standby can change.
    pub is_standby: bool,
    /// `startpointTLI`
    pub tli: TimelineId,
    /// `LogstreamResult.Write`. Moves back if the upstream sends WAL again.
    pub write: Lsn,
    /// `LogstreamResult.Flush`. It is never beyond the durable WAL.
    pub flush: Lsn,
    /// Whether status updates report no flush position. A primary then does not count this receiver
    /// as a synchronous standby.
    pub hides_flush: bool,
    /// The write and flush positions in the last status update.
    pub reported: (Lsn, Lsn),
    /// The apply position in the last status update.
    pub reported_apply: Lsn,
    /// When to send status updates, and when to end the connection to a silent upstream.
    pub timers: Timers,
    /// `primary_has_standby_xmin`: whether an earlier walreceiver may have sent feedback that this
    /// walreceiver must reset.
    pub upstream_has_feedback: bool,
}

/// The result of reading from the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incoming {
    /// A message.
    Message(BackendMessage),
    /// No complete message has arrived.
    WouldBlock,
    /// The connection broke or an invalid message arrived. The text is libpq's error message.
    Broken(String),
}

impl Link {
    /// Initializes the state at the start of the process.
    pub fn begin(&mut self, tli: TimelineId, version: PgVersion) {
        assert_eq!(self.conn, None, "the process has just started");
        assert!(!self.write.is_valid() && !self.flush.is_valid(), "{self:?}");
        self.tli = tli;
        self.timers = Timers::new(version);
        self.upstream_has_feedback = true;
    }

    /// The open connection.
    ///
    /// # Panics
    /// If no connection is open.
    #[must_use]
    pub fn conn(&self) -> ConnId {
        self.conn.expect("connected before anything else")
    }

    /// Returns the next message. Skips notices, notifications and ParameterStatus.
    pub fn receive(&mut self, cx: &mut Cx<'_>) -> Incoming {
        loop {
            match self.receive_any(cx) {
                Incoming::Message(
                    BackendMessage::ParameterStatus { .. }
                    | BackendMessage::NoticeResponse(_)
                    | BackendMessage::NotificationResponse { .. },
                ) => {}
                other @ (Incoming::Message(_) | Incoming::WouldBlock | Incoming::Broken(_)) => {
                    return other;
                }
            }
        }
    }

    /// The next message of any kind.
    pub(super) fn receive_any(&mut self, cx: &mut Cx<'_>) -> Incoming {
        loop {
            match self.frames.next(backend_limit) {
                Ok(Some(frame)) => match BackendMessage::decode(frame) {
                    Ok(message) => return Incoming::Message(message),
                    Err(e) => return Incoming::Broken(e.to_string()),
                },
                Ok(None) => match cx.receive(self.conn()) {
                    Some(bytes) => self.frames.push(bytes),
                    None => {
                        return match cx.conn_end(self.conn()) {
                            Some(ConnEnd::Closed) => {
                                Incoming::Broken("server closed the connection unexpectedly".into())
                            }
                            Some(ConnEnd::Reset | ConnEnd::Refused) => Incoming::Broken(
                                "could not receive data from server: Connection reset by peer"
                                    .into(),
                            ),
                            None => Incoming::WouldBlock,
                        };
                    }
                },
                Err(e) => return Incoming::Broken(e.to_string()),
            }
        }
    }

    /// Ends the step when the stream has no message. The process waits for input or for the next
    /// timer.
    pub fn wait_for_more(&self, now: Now, why: Place) -> Yield {
        Yield::Wait(Wait {
            latch: true,
            readable: self.conn,
            until: self.timers.sleep_until(now),
            ..Wait::at(why)
        })
    }

    /// Ends the step. The process waits for input without a timeout.
    pub fn wait(&self, why: Place) -> Yield {
        Yield::Wait(Wait {
            latch: true,
            readable: Some(self.conn()),
            ..Wait::at(why)
        })
    }
}
