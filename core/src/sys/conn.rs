//! The state of a connection in the process that owns it. It includes received bytes that are not
//! yet read, and the number of sent bytes that are still in the send buffer.

use crate::call::{NetEvent, Refusal, SEND_WINDOW};
use alloc::collections::VecDeque;
use bytes::Bytes;

/// The size of the kernel's receive buffer. The peer can send this many bytes before the process
/// reads any.
pub const RECEIVE_WINDOW: u32 = 64 * 1024;

/// The limit of pending output, for a peer that sends commands but reads no answers. The limit is
/// larger than the send buffer plus the longest message.
const MOST_UNSENT: u32 = 4 * SEND_WINDOW;

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ConnEnd {
    /// The peer has closed the connection. All bytes that the peer had sent before were delivered.
    Closed,
    /// The connection broke.
    Reset,
    /// The connection could not be opened.
    Refused,
}

/// One connection.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Conn {
    inbox: VecDeque<Bytes>,
    /// The number of bytes that were sent and that are still in the send buffer.
    unsent: u64,
    connected: bool,
    end: Option<ConnEnd>,
    refusal: Refusal,
}

impl Conn {
    /// A connection that a peer opened.
    #[must_use]
    pub fn accepted() -> Self {
        Self {
            connected: true,
            ..Self::default()
        }
    }

    /// Applies an event.
    pub fn apply(&mut self, event: NetEvent) {
        match event {
            NetEvent::Accepted | NetEvent::Connected => self.connected = true,
            NetEvent::Data(bytes) => self.inbox.push_back(bytes),
            NetEvent::Sent(n) => self.unsent = self.unsent.saturating_sub(u64::from(n)),
            NetEvent::Refused(why) => {
                self.end = Some(ConnEnd::Refused);
                self.refusal = why;
            }
            NetEvent::Closed => self.end = Some(ConnEnd::Closed),
            NetEvent::Reset => self.end = Some(ConnEnd::Reset),
        }
    }

    /// The next received bytes.
    pub fn take(&mut self) -> Option<Bytes> {
        self.inbox.pop_front()
    }

    /// Counts bytes that were sent.
    pub fn sent(&mut self, bytes: usize) {
        self.unsent += bytes as u64;
    }

    /// Is more output pending than fits into the send buffer (`pq_is_send_pending`)?
    #[must_use]
    pub fn send_pending(&self) -> bool {
        self.unsent > u64::from(SEND_WINDOW) && self.end.is_none()
    }

    /// Is so much output pending that the process must read no more input from this peer?
    #[must_use]
    pub fn output_full(&self) -> bool {
        self.unsent > u64::from(MOST_UNSENT) && self.end.is_none()
    }

    /// Are there bytes to read, or has the connection ended or failed?
    #[must_use]
    pub fn readable(&self) -> bool {
        !self.inbox.is_empty() || self.end.is_some()
    }

    /// Is the connection established?
    #[must_use]
    pub fn connected(&self) -> bool {
        self.connected
    }

    /// Why the connection was refused. Valid only after [`ConnEnd::Refused`].
    #[must_use]
    pub const fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// How the connection ended. `None` until all received bytes are taken.
    #[must_use]
    pub fn end(&self) -> Option<ConnEnd> {
        self.end
            .filter(|end| self.inbox.is_empty() || *end != ConnEnd::Closed)
    }
}
