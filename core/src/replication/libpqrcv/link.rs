//! What a walreceiver keeps from one message to the next: its connection, and how far it has
//! written and flushed.

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
    /// The connection, once there is one.
    pub conn: Option<ConnId>,
    frames: FrameReader,
    /// The slot of the upstream, as it was when the process began; empty if there is none.
    pub slot_name: String,
    /// The upstream is a standby: its timeline and the end of its WAL follow those of another
    /// server.
    pub is_standby: bool,
    /// `startpointTLI`
    pub tli: TimelineId,
    /// `LogstreamResult.Write`. Goes back when the upstream repeats what we have.
    pub write: Lsn,
    /// `LogstreamResult.Flush`. Never beyond what is durable.
    pub flush: Lsn,
    /// Status updates tell nothing of what is durable, so that no primary takes us for a
    /// synchronous standby.
    pub hides_flush: bool,
    /// The positions of the last status update.
    pub reported: (Lsn, Lsn),
    /// When to report, and when to worry.
    pub timers: Timers,
    /// `primary_has_standby_xmin`: an earlier walreceiver may have sent feedback that must be taken
    /// back.
    pub upstream_has_feedback: bool,
}

/// What the connection has for us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incoming {
    /// A message that means something.
    Message(BackendMessage),
    /// Nothing more for now.
    WouldBlock,
    /// It ended, or cannot be understood any more; how libpq words that.
    Broken(String),
}

impl Link {
    /// At the entry of the process.
    pub fn begin(&mut self, tli: TimelineId, version: PgVersion) {
        self.tli = tli;
        self.timers = Timers::new(version);
        self.upstream_has_feedback = true;
    }

    /// The connection.
    ///
    /// # Panics
    /// If there is none yet.
    #[must_use]
    pub fn conn(&self) -> ConnId {
        self.conn.expect("connected before anything else")
    }

    /// The next message; notices, notifications and changed settings are skipped.
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

    /// The next message, whatever it is.
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

    /// How the step ends while WAL streams and nothing has come: until more comes, or a timer is
    /// due.
    pub fn wait_for_more(&self, now: Now, why: Place) -> Yield {
        Yield::Wait(Wait {
            latch: true,
            readable: self.conn,
            until: self.timers.sleep_until(now),
            ..Wait::at(why)
        })
    }

    /// How the step ends while the upstream is silent.
    pub fn wait(&self, why: Place) -> Yield {
        Yield::Wait(Wait {
            latch: true,
            readable: Some(self.conn()),
            ..Wait::at(why)
        })
    }
}
