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
    /// The connection, once it is opened.
    pub conn: Option<ConnId>,
    frames: FrameReader,
    /// The slot on the upstream, as it was configured when the process started; empty if there is
    /// none.
    pub slot_name: String,
    /// The upstream is itself a standby, whose timeline can change.
    pub is_standby: bool,
    /// `startpointTLI`
    pub tli: TimelineId,
    /// `LogstreamResult.Write`. Goes back if the upstream sends WAL again.
    pub write: Lsn,
    /// `LogstreamResult.Flush`. Never beyond the durable WAL.
    pub flush: Lsn,
    /// Status updates report no flush position, so that a primary does not count this receiver as a
    /// synchronous standby.
    pub hides_flush: bool,
    /// The write and flush positions in the last status update.
    pub reported: (Lsn, Lsn),
    /// The apply position in the last status update.
    pub reported_apply: Lsn,
    /// When to send status updates, and when to give up a silent upstream.
    pub timers: Timers,
    /// `primary_has_standby_xmin`: an earlier walreceiver may have sent feedback, which must be
    /// reset.
    pub upstream_has_feedback: bool,
}

/// The result of reading from the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incoming {
    /// A message.
    Message(BackendMessage),
    /// Nothing more has arrived.
    WouldBlock,
    /// The connection broke, or an invalid message arrived. The text is libpq's.
    Broken(String),
}

impl Link {
    /// Initializes the state at the start of the process.
    pub fn begin(&mut self, tli: TimelineId, version: PgVersion) {
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

    /// The next message. Notices, notifications and ParameterStatus are skipped.
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

    /// Ends the step while streaming and no message has arrived: waits for more input or for the
    /// next timer.
    pub fn wait_for_more(&self, now: Now, why: Place) -> Yield {
        Yield::Wait(Wait {
            latch: true,
            readable: self.conn,
            until: self.timers.sleep_until(now),
            ..Wait::at(why)
        })
    }

    /// Ends the step: waits for input without a timeout.
    pub fn wait(&self, why: Place) -> Yield {
        Yield::Wait(Wait {
            latch: true,
            readable: Some(self.conn()),
            ..Wait::at(why)
        })
    }
}
