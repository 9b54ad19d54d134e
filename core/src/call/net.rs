//! Connections: ordered byte streams with flow control in both directions. Each connection is owned
//! by one process.

use crate::base::Pid;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// Size of the kernel's send buffer. Bytes that were sent and not yet reported by
/// [`NetEvent::Sent`] fill it. Bytes beyond this size are pending output of the process
/// (`pq_is_send_pending`).
pub const SEND_WINDOW: u32 = 64 * 1024;

/// An operation of a process on a connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum NetOp {
    /// Opens a connection, under an id that the node chose. Answered by `Connected`, `Refused`, or
    /// not at all.
    Connect {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// Allows `max` more bytes to be delivered. Without credit only the end of the stream is
    /// delivered.
    Read {
        /// Bytes of new credit.
        max: u32,
    },
    /// Sends both pieces in order. There are two, so that a payload need not be copied after its
    /// header.
    Send([Bytes; 2]),
    /// Transfers the connection to another process of the node.
    HandOver(Pid),
    /// Closes the connection. Bytes already sent still arrive.
    Close,
}

/// An event on a connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum NetEvent {
    /// A peer connected to the node's port; the postmaster owns the connection.
    Accepted,
    /// The node's `Connect` succeeded.
    Connected,
    /// The node's `Connect` failed.
    Refused(Refusal),
    /// Bytes that arrived, within the credit.
    Data(Bytes),
    /// This number of bytes left the send buffer.
    Sent(u32),
    /// The peer closed the connection, and no more data will come. Data can still be sent, but if
    /// the peer does not read it, a `Reset` can follow.
    Closed,
    /// The connection broke. Bytes in transit are lost.
    Reset,
}

/// Why a connection failed.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub enum Refusal {
    /// Connection refused: no server listens at this address.
    #[default]
    Refused,
    /// The host name cannot be resolved. The text is the operating system's.
    Unresolved(String),
    /// The path of the socket is longer than the operating system allows.
    PathTooLong,
    /// Each address that was tried, with the operating system's error text. A Unix socket has no
    /// address.
    Tried(Vec<(Option<String>, String)>),
}
