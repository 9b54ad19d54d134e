//! A connection as its owning process sees it: bytes that have arrived, bytes that have not left.

use crate::call::{NetEvent, Refusal, SEND_WINDOW};
use alloc::collections::VecDeque;
use bytes::Bytes;

/// Credit that a reading process keeps open: the kernel's receive buffer.
pub const RECEIVE_WINDOW: u32 = 64 * 1024;

/// Output that may wait for a peer which asks and does not read: more than the window and the
/// longest message.
const MOST_UNSENT: u32 = 4 * SEND_WINDOW;

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ConnEnd {
    /// The peer closed it; all its bytes arrived.
    Closed,
    /// It broke.
    Reset,
    /// It never came about.
    Refused,
}

/// One connection.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Conn {
    inbox: VecDeque<Bytes>,
    /// Handed to the kernel and not yet reported as having left the send buffer.
    unsent: u64,
    connected: bool,
    end: Option<ConnEnd>,
    refusal: Refusal,
}

impl Conn {
    /// One that a peer has opened.
    #[must_use]
    pub fn accepted() -> Self {
        Self {
            connected: true,
            ..Self::default()
        }
    }

    /// Takes an event of the world.
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

    /// The next bytes that arrived.
    pub fn take(&mut self) -> Option<Bytes> {
        self.inbox.pop_front()
    }

    /// Counts bytes that were handed to the kernel.
    pub fn sent(&mut self, bytes: usize) {
        self.unsent += bytes as u64;
    }

    /// Is there output that the kernel has not taken (`pq_is_send_pending`)?
    #[must_use]
    pub fn send_pending(&self) -> bool {
        self.unsent > u64::from(SEND_WINDOW) && self.end.is_none()
    }

    /// Is there so much output that the peer must take some of it before it is listened to?
    #[must_use]
    pub fn output_full(&self) -> bool {
        self.unsent > u64::from(MOST_UNSENT) && self.end.is_none()
    }

    /// Is there anything to look at: bytes, the end, or news of our `Connect`?
    #[must_use]
    pub fn readable(&self) -> bool {
        !self.inbox.is_empty() || self.end.is_some()
    }

    /// Is the handshake done?
    #[must_use]
    pub fn connected(&self) -> bool {
        self.connected
    }

    /// Why it was refused, if it was.
    #[must_use]
    pub const fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// The end, once all bytes before it were taken.
    #[must_use]
    pub fn end(&self) -> Option<ConnEnd> {
        self.end
            .filter(|end| self.inbox.is_empty() || *end != ConnEnd::Closed)
    }
}
