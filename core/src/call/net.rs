//! Connections: ordered byte streams with back-pressure both ways. Each has one owning process.

use crate::base::Pid;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes that a connection takes from its owner before it says "not yet": the kernel's send buffer.
/// What was sent and not yet freed by [`NetEvent::Sent`] beyond this is output pending in the
/// process (`pq_is_send_pending`).
pub const SEND_WINDOW: u32 = 64 * 1024;

/// What a process does with a connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum NetOp {
    /// Opens one, under an id of the node's own counting. Answered by `Connected` or `Refused`, or
    /// by nothing at all.
    Connect {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// Lets `max` more bytes come in. Without credit nothing is delivered but the end of the
    /// stream.
    Read {
        /// Bytes of new credit.
        max: u32,
    },
    /// Sends both pieces in order; two, so that a header needs no copy of its payload.
    Send([Bytes; 2]),
    /// Gives the connection to another process of the node.
    HandOver(Pid),
    /// Closes it in an orderly way: what was sent still arrives.
    Close,
}

/// What happens to a connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum NetEvent {
    /// A peer connected to the node's port; the postmaster owns the connection.
    Accepted,
    /// Our `Connect` succeeded.
    Connected,
    /// Our `Connect` failed.
    Refused(Refusal),
    /// Bytes within the credit that was given.
    Data(Bytes),
    /// So many bytes left the send buffer.
    Sent(u32),
    /// The peer closed in an orderly way; no more data will come. It may still be sent to, but no
    /// process need listen: then a `Reset` can follow.
    Closed,
    /// The connection broke; what was in flight is lost.
    Reset,
}

/// Why a connection did not come about.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub enum Refusal {
    /// No server listens there, as far as is known.
    #[default]
    Refused,
    /// The host's name has no address; in the system's words.
    Unresolved(String),
    /// The path of the socket is longer than the system allows.
    PathTooLong,
    /// Each address that was tried, and why it failed in the system's words. A socket in a
    /// directory has no address.
    Tried(Vec<(Option<String>, String)>),
}
