//! Connects to the upstream, up to the upstream's first ReadyForQuery. Mirrors libpqrcv_connect and
//! PQconnectPoll.

use super::failure::Failure;
use super::link::{Incoming, Link};
use crate::base::Mono;
use crate::call::{Place, Poll, Signal, Wait, Yield};
use crate::sys::{ConnEnd, Cx};
use crate::wire::backend::BackendMessage;
use crate::wire::startup::{StartupMessage, StartupPacket};
use alloc::string::String;
use bytes::Bytes;

/// The parameters of a connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ConnInfo {
    /// `host`: a name, an address, or the directory of a Unix-domain socket.
    pub host: String,
    /// `port`
    pub port: u16,
    /// `user`
    pub user: String,
    /// `application_name`
    pub application_name: String,
    /// `connect_timeout`. 0 means no limit.
    pub connect_timeout_ms: u32,
    /// Whether a `password` or a password file is configured. walsim does not support passwords.
    pub has_password: bool,
}

/// `libpqrcv_connect`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Connect {
    conninfo: Option<ConnInfo>,
    deadline: Option<Mono>,
    /// `server_version`
    version: String,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Connect,
    Connecting,
    Greeting,
}

impl Connect {
    /// Connects to an upstream. `None` means that no upstream is configured.
    #[must_use]
    pub const fn new(conninfo: Option<ConnInfo>) -> Self {
        Self {
            conninfo,
            deadline: None,
            version: String::new(),
            phase: Phase::Connect,
        }
    }

    /// Waits until commands can be sent. Returns the upstream's server_version.
    ///
    /// # Errors
    /// No upstream is configured, or the upstream refuses the connection.
    pub fn poll(&mut self, cx: &mut Cx<'_>, link: &mut Link) -> Poll<Result<String, Failure>> {
        cx.reset_latch();
        if cx.take_signal(Signal::Term) {
            return Poll::Ready(Err(Failure::Terminated));
        }
        loop {
            let Some(conninfo) = &self.conninfo else {
                return failed("no connection string");
            };
            match self.phase {
                Phase::Connect => {
                    assert_eq!(link.conn, None, "a receiver has one connection");
                    let limit_ms = conninfo.connect_timeout_ms.into();
                    self.deadline = (limit_ms > 0).then(|| cx.now.mono.after_ms(limit_ms));
                    link.conn = Some(cx.connect(&conninfo.host, conninfo.port));
                    self.phase = Phase::Connecting;
                }
                Phase::Connecting if cx.connected(link.conn()) => {
                    let (user, name) = (&conninfo.user, &conninfo.application_name);
                    let packet = StartupPacket::Startup(StartupMessage::receiver(user, name));
                    cx.start_reading(link.conn());
                    cx.send(link.conn(), [packet.to_bytes(), Bytes::new()]);
                    self.phase = Phase::Greeting;
                }
                Phase::Connecting => {
                    return match cx.conn_end(link.conn()) {
                        Some(ConnEnd::Refused) => {
                            let why = cx.refusal(link.conn());
                            Poll::Ready(Err(Failure::Refused(why)))
                        }
                        Some(ConnEnd::Closed | ConnEnd::Reset) => failed("connection reset"),
                        None => {
                            let writable = link.conn;
                            let wait = Wait::latch(self.deadline, Place::LibpqrcvConnect);
                            self.sleep(cx, Wait { writable, ..wait })
                        }
                    };
                }
                Phase::Greeting => match link.receive_any(cx) {
                    Incoming::WouldBlock => {
                        let readable = link.conn;
                        let wait = Wait::latch(self.deadline, Place::LibpqrcvConnect);
                        return self.sleep(cx, Wait { readable, ..wait });
                    }
                    Incoming::Broken(why) => return Poll::Ready(Err(Failure::Broken(why))),
                    Incoming::Message(message) => {
                        if let Some(outcome) = self.greeted(link, message) {
                            return Poll::Ready(outcome);
                        }
                    }
                },
            }
        }
    }

    /// Handles one message before the first ReadyForQuery. Returns the outcome if the message ends
    /// the connection phase.
    fn greeted(
        &mut self,
        link: &mut Link,
        message: BackendMessage,
    ) -> Option<Result<String, Failure>> {
        let broken = |why: &str| Some(Err(Failure::Broken(why.into())));
        match message {
            BackendMessage::ReadyForQuery(_) => Some(Ok(core::mem::take(&mut self.version))),
            BackendMessage::ErrorResponse(fields) => Some(Err(Failure::Error(fields))),
            BackendMessage::ParameterStatus { name, value } => {
                match name.as_str() {
                    "server_version" => self.version = value,
                    "in_hot_standby" => link.is_standby = value == "on",
                    _ => {}
                }
                None
            }
            BackendMessage::AuthenticationOk
            | BackendMessage::BackendKeyData { .. }
            | BackendMessage::NegotiateProtocolVersion { .. }
            | BackendMessage::NoticeResponse(_)
            | BackendMessage::NotificationResponse { .. } => None,
            BackendMessage::Authentication { code: method, .. } => {
                let has_password = self.conninfo.as_ref().is_some_and(|to| to.has_password);
                Some(Err(Failure::Authentication {
                    method,
                    has_password,
                }))
            }
            BackendMessage::RowDescription(_)
            | BackendMessage::DataRow(_)
            | BackendMessage::CommandComplete(_)
            | BackendMessage::EmptyQueryResponse
            | BackendMessage::CopyBothResponse { .. }
            | BackendMessage::CopyData(_)
            | BackendMessage::CopyDone => broken("unexpected message during startup"),
        }
    }

    fn sleep(&self, cx: &Cx<'_>, wait: Wait) -> Poll<Result<String, Failure>> {
        if self.deadline.is_some_and(|limit| limit <= cx.now.mono) {
            return failed("timeout expired");
        }
        Poll::Yield(Yield::Wait(wait))
    }
}

fn failed(why: &str) -> Poll<Result<String, Failure>> {
    Poll::Ready(Err(Failure::Broken(why.into())))
}
