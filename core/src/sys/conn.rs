//! A connection in its owner: received bytes that were not yet read, and sent bytes that are still
//! in the send buffer.

use crate::call::{NetEvent, Refusal, SEND_WINDOW};
use alloc::collections::VecDeque;
use bytes::Bytes;

/// Size of the kernel's receive buffer: the credit that a reading process keeps open.
pub const RECEIVE_WINDOW: u32 = 64 * 1024;

/// Limit of pending output, for a peer that sends commands but reads no answers. More than the send
/// buffer plus the longest message.
const MOST_UNSENT: u32 = 4 * SEND_WINDOW;

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ConnEnd {
    /// The peer closed the connection. All bytes that it sent before were delivered.
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
    /// Bytes that were sent and are not yet reported to have left the send buffer.
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

    /// Does output exceed the send buffer (`pq_is_send_pending`)?
    #[must_use]
    pub fn send_pending(&self) -> bool {
        self.unsent > u64::from(SEND_WINDOW) && self.end.is_none()
    }

    /// Is so much output pending that no more input must be read from this peer?
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

    /// Why the connection was refused. Meaningful only after [`ConnEnd::Refused`].
    #[must_use]
    pub const fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// How it ended, once all received bytes were taken.
    #[must_use]
    pub fn end(&self) -> Option<ConnEnd> {
        self.end
            .filter(|end| self.inbox.is_empty() || *end != ConnEnd::Closed)
    }
}
