//! Connections: ordered byte streams with flow control in both directions. One process owns each
//! connection.

use crate::base::Pid;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// Size of the kernel's send buffer. Sent bytes fill the buffer until [`NetEvent::Sent`] reports
/// them. Bytes beyond this size are pending output of the process (`pq_is_send_pending`).
pub const SEND_WINDOW: u32 = 64 * 1024;

/// An operation of a process on a connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum NetOp {
    /// Opens a connection with an id that the node chose. The answer is `Connected` or `Refused`.
    /// There may be no answer at all.
    Connect {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// Allows the delivery of `max` more bytes. Without this credit only the end of the stream is
    /// delivered.
    Read {
        /// Bytes of new credit.
        max: u32,
    },
    /// Sends both pieces in order. With two pieces, a payload need not be copied after its header.
    Send([Bytes; 2]),
    /// Transfers the connection to another process of the node.
    HandOver(Pid),
    /// Closes the connection. Bytes that were already sent still arrive.
    Close,
}

/// An event on a connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum NetEvent {
    /// A peer has connected to the node's port. The postmaster owns the connection.
    Accepted,
    /// The node's `Connect` succeeded.
    Connected,
    /// The node's `Connect` failed.
    Refused(Refusal),
    /// Bytes have arrived. They do not exceed the credit.
    Data(Bytes),
    /// This number of bytes has left the send buffer.
    Sent(u32),
    /// The peer has closed the connection, and no more data will arrive. Data can still be sent. If
    /// the peer does not read that data, a `Reset` can follow.
    Closed,
    /// The connection broke. Bytes in transit are lost.
    Reset,
}

/// Why a connection failed.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub enum Refusal {
    /// The connection was refused, because no server listens at this address.
    #[default]
    Refused,
    /// The host name cannot be resolved. The text is the error text of the operating system.
    Unresolved(String),
    /// The path of the socket is longer than the operating system allows.
    PathTooLong,
    /// Each address that was tried, with the operating system's error text. A Unix socket has no
    /// address, so the first part is `None`.
    Tried(Vec<(Option<String>, String)>),
}
