//! One direction of a connection: a pipe of bytes. Some bytes have arrived, some are on the wire,
//! and some wait at the sender.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use walsim_core::base::Mono;

/// Adjacent pieces are joined up to this size, so that a header and its payload arrive in one
/// event. A larger piece is not copied.
const JOIN: usize = 32 * 1024;

/// How far the end of the stream has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum End {
    Open,
    /// The sender has closed the connection. Its remaining bytes will be sent first.
    Queued,
    Traveling,
    Arrived,
    Told,
}

/// The bytes that one side sends to the other, oldest first. The first bytes have arrived, the next
/// are on the wire, and the last wait at the sender.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Direction {
    pipe: VecDeque<Bytes>,
    /// Bytes in the receiver's kernel.
    pub(super) arrived: u64,
    /// Bytes on the wire.
    pub(super) traveling: u64,
    /// Bytes that wait in the sender's kernel.
    pub(super) waiting: u64,
    /// The lengths of the segments on the wire. A segment of length 0 is the end of the stream.
    segments: VecDeque<u64>,
    pub(super) end: End,
    /// Bytes that the receiver is ready to read.
    pub(super) credit: u64,
    /// The stream offset of the first waiting byte.
    pub(super) offset: u64,
    /// The arrival time of the last segment. A later segment does not arrive before this time.
    pub(super) last_arrival: Mono,
    /// Segments that cannot arrive because of a partition.
    pub(super) stuck: u32,
    /// The number of sent bytes that are not acknowledged yet.
    pub(super) outstanding: u64,
    /// Bytes that have arrived and are not acknowledged yet.
    pub(super) freed: u64,
    /// An acknowledgment is on the way.
    pub(super) acknowledging: bool,
    /// A partition blocks the acknowledgment that is on the way.
    pub(super) ack_stuck: bool,
    /// The sender has sent something to a machine without power.
    pub(super) to_powerless_host: bool,
}

impl Direction {
    pub(super) const fn new() -> Self {
        Self {
            pipe: VecDeque::new(),
            arrived: 0,
            traveling: 0,
            waiting: 0,
            segments: VecDeque::new(),
            end: End::Open,
            credit: 0,
            offset: 0,
            last_arrival: Mono(0),
            stuck: 0,
            outstanding: 0,
            freed: 0,
            acknowledging: false,
            ack_stuck: false,
            to_powerless_host: false,
        }
    }

    /// Adds bytes at the sender.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        if !bytes.is_empty() {
            let len = as_u64(bytes.len());
            self.waiting += len;
            self.outstanding += len;
            self.pipe.push_back(bytes.clone());
        }
    }

    /// Puts a segment on the wire. A segment of length 0 is the end of the stream.
    pub(super) fn depart(&mut self, len: u64) {
        assert!(len <= self.waiting, "a segment is cut from what waits");
        self.waiting -= len;
        self.traveling += len;
        self.offset += len;
        self.segments.push_back(len);
        if len == 0 {
            self.end = End::Traveling;
        }
    }

    /// Lets the oldest segment on the wire arrive and returns its length. Returns `None` if a reset
    /// has removed all segments.
    pub(super) fn arrive(&mut self) -> Option<u64> {
        let len = self.segments.pop_front()?;
        self.traveling -= len;
        self.arrived += len;
        if len == 0 {
            self.end = End::Arrived;
        }
        Some(len)
    }

    /// The next bytes that the receiver gets, but no more than it has allowed.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let want = self.credit.min(self.arrived);
        if want == 0 {
            return None;
        }
        let mut bytes = self.piece(want);
        if as_u64(bytes.len()) < want && bytes.len() < JOIN {
            let mut joined = BytesMut::with_capacity(as_usize(want).min(JOIN));
            joined.extend_from_slice(&bytes);
            while as_u64(joined.len()) < want && joined.len() < JOIN {
                let left = want - as_u64(joined.len());
                let more = self.piece(left.min(as_u64(JOIN - joined.len())));
                joined.extend_from_slice(&more);
            }
            bytes = joined.freeze();
        }
        let len = as_u64(bytes.len());
        self.arrived -= len;
        self.credit -= len;
        Some(bytes)
    }

    /// Up to `max` bytes of the oldest piece.
    fn piece(&mut self, max: u64) -> Bytes {
        let front = self.pipe.front_mut().expect("the pipe holds what arrived");
        if as_u64(front.len()) > max {
            return front.split_to(as_usize(max));
        }
        self.pipe.pop_front().expect("the pipe is not empty")
    }

    /// Drops the bytes that have arrived, because no process will read them.
    pub(super) fn discard_arrived(&mut self) {
        while self.arrived > 0 {
            let dropped = self.piece(self.arrived);
            self.arrived -= as_u64(dropped.len());
        }
    }

    /// Drops the waiting bytes, because the sender's kernel is gone.
    pub(super) fn discard_waiting(&mut self) {
        while self.waiting > 0 {
            let last = self.pipe.back_mut().expect("the pipe holds what waits");
            let len = as_u64(last.len());
            if len > self.waiting {
                last.truncate(as_usize(len - self.waiting));
                self.waiting = 0;
            } else {
                self.waiting -= len;
                self.pipe.pop_back();
            }
        }
    }

    /// Drops all bytes, because the connection broke.
    pub(super) fn clear(&mut self) {
        self.pipe.clear();
        self.segments.clear();
        self.arrived = 0;
        self.traveling = 0;
        self.waiting = 0;
        self.stuck = 0;
    }

    /// Whether the receiver lacks bytes or the end of the stream.
    pub(super) const fn has_undelivered(&self) -> bool {
        self.arrived + self.traveling + self.waiting > 0
    }
}

pub(super) fn as_u64(n: usize) -> u64 {
    u64::try_from(n).expect("a length fits into 64 bits")
}

fn as_usize(n: u64) -> usize {
    usize::try_from(n).expect("bounded by the length of a buffer in memory")
}
