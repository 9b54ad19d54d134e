//! Connecting to the upstream, up to its first ReadyForQuery. Mirrors libpqrcv_connect, which waits without any limit.

use super::link::{Incoming, Link, check_interrupts, error_text};
use crate::call::{LogEvent, Message, Poll, SqlState, Wait, Yield};
use crate::sys::{ConnEnd, Cx};
use crate::wire::backend::BackendMessage;
use crate::wire::startup::{StartupMessage, StartupPacket};
use alloc::string::String;
use bytes::Bytes;

/// The user that connects; every server here trusts everybody.
const USER: &str = "postgres";

/// `libpqrcv_connect`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Connect {
    conninfo: Option<(String, u16)>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Connect,
    Connecting,
    Greeting,
}

impl Connect {
    /// To host and port, if there is an upstream.
    #[must_use]
    pub const fn new(conninfo: Option<(String, u16)>) -> Self {
        Self {
            conninfo,
            phase: Phase::Connect,
        }
    }

    /// Ready when commands may be sent.
    ///
    /// # Errors
    /// There is no upstream, or it refuses us.
    pub fn poll(&mut self, cx: &mut Cx<'_>, link: &mut Link) -> Poll<Result<(), LogEvent>> {
        cx.reset_latch();
        if let Err(event) = check_interrupts(cx) {
            return Poll::Ready(Err(event));
        }
        loop {
            match self.phase {
                Phase::Connect => {
                    let Some((host, port)) = &self.conninfo else {
                        return failed("no connection string".into());
                    };
                    link.conn = Some(cx.connect(host, *port));
                    self.phase = Phase::Connecting;
                }
                Phase::Connecting if cx.connected(link.conn()) => {
                    let name = match cx.shmem.settings.cluster_name.as_str() {
                        "" => "walreceiver",
                        name => name,
                    };
                    let packet = StartupPacket::Startup(StartupMessage::receiver(USER, name));
                    cx.start_reading(link.conn());
                    cx.send(link.conn(), [packet.to_bytes(), Bytes::new()]);
                    self.phase = Phase::Greeting;
                }
                Phase::Connecting => {
                    return match cx.conn_end(link.conn()) {
                        Some(ConnEnd::Refused) => {
                            let code = SqlState::CONNECTION_FAILURE;
                            Poll::Ready(Err(LogEvent::error(code, Message::ConnectRefused)))
                        }
                        Some(ConnEnd::Closed | ConnEnd::Reset) => failed("connection reset".into()),
                        None => Poll::Yield(Yield::Wait(Wait {
                            latch: true,
                            writable: link.conn,
                            why: "libpqrcv_connect",
                            ..Wait::default()
                        })),
                    };
                }
                Phase::Greeting => match link.receive(cx) {
                    Incoming::WouldBlock => return Poll::Yield(link.wait("libpqrcv_connect")),
                    Incoming::Broken(why) => return failed(why),
                    Incoming::Message(BackendMessage::ReadyForQuery(_)) => {
                        return Poll::Ready(Ok(()));
                    }
                    Incoming::Message(BackendMessage::ErrorResponse(fields)) => {
                        return failed(error_text(&fields));
                    }
                    Incoming::Message(
                        BackendMessage::AuthenticationOk
                        | BackendMessage::BackendKeyData { .. }
                        | BackendMessage::NegotiateProtocolVersion { .. },
                    ) => {}
                    Incoming::Message(BackendMessage::Authentication { .. }) => {
                        return failed("fe_sendauth: no password supplied".into());
                    }
                    Incoming::Message(_) => {
                        return failed("unexpected message during startup".into());
                    }
                },
            }
        }
    }
}

fn failed(why: String) -> Poll<Result<(), LogEvent>> {
    let what = "could not connect to the primary server";
    let message = Message::Upstream { what, why };
    Poll::Ready(Err(LogEvent::error(SqlState::CONNECTION_FAILURE, message)))
}
