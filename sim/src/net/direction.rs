//! One direction of a connection: a pipe of bytes, part of it waiting, part of it travelling, part
//! of it arrived.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use walsim_core::base::Mono;

/// Pieces are joined up to this size, so that a header and its payload arrive in one event; larger
/// ones are shared.
const JOIN: usize = 32 * 1024;

/// How far the end of the stream has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum End {
    Open,
    /// The sender closed; its bytes go first.
    Queued,
    Travelling,
    Arrived,
    Told,
}

/// Bytes from one side to the other, oldest first: arrived, then travelling, then waiting.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Direction {
    pipe: VecDeque<Bytes>,
    /// Bytes that the receiver's kernel holds.
    pub(super) arrived: u64,
    /// Bytes on the wire.
    pub(super) travelling: u64,
    /// Bytes that wait in the sender's kernel.
    pub(super) waiting: u64,
    /// Lengths of the segments on the wire; 0 is the end of the stream.
    segments: VecDeque<u64>,
    pub(super) end: End,
    /// Bytes that the receiver wants.
    pub(super) credit: u64,
    /// Stream offset of the first byte that waits.
    pub(super) offset: u64,
    /// No later segment arrives earlier.
    pub(super) last_arrival: Mono,
    /// Segments whose arrival a partition prevents.
    pub(super) stuck: u32,
    /// Bytes that the sender believes to be in its kernel.
    pub(super) outstanding: u64,
    /// Bytes that have arrived and whose sender has not been told.
    pub(super) freed: u64,
    /// An acknowledgement is under way.
    pub(super) acknowledging: bool,
    /// The acknowledgement is held up by a partition.
    pub(super) ack_stuck: bool,
    /// Something was sent to a machine without power.
    pub(super) to_powerless_host: bool,
}

impl Direction {
    pub(super) const fn new() -> Self {
        Self {
            pipe: VecDeque::new(),
            arrived: 0,
            travelling: 0,
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

    /// The sender adds bytes.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        if !bytes.is_empty() {
            let len = as_u64(bytes.len());
            self.waiting += len;
            self.outstanding += len;
            self.pipe.push_back(bytes.clone());
        }
    }

    /// A segment leaves; of length 0 if it is the end of the stream.
    pub(super) fn depart(&mut self, len: u64) {
        assert!(len <= self.waiting, "a segment is cut from what waits");
        self.waiting -= len;
        self.travelling += len;
        self.offset += len;
        self.segments.push_back(len);
        if len == 0 {
            self.end = End::Travelling;
        }
    }

    /// The oldest segment on the wire arrives. Its length, or `None` if a reset has emptied the
    /// wire.
    pub(super) fn arrive(&mut self) -> Option<u64> {
        let len = self.segments.pop_front()?;
        self.travelling -= len;
        self.arrived += len;
        if len == 0 {
            self.end = End::Arrived;
        }
        Some(len)
    }

    /// What the receiver gets next within its credit.
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
        self.pipe.pop_front().expect("there is a front")
    }

    /// Drops what has arrived: nothing will read it.
    pub(super) fn discard_arrived(&mut self) {
        while self.arrived > 0 {
            let dropped = self.piece(self.arrived);
            self.arrived -= as_u64(dropped.len());
        }
    }

    /// Drops what waits: the sender's kernel is gone.
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

    /// Drops everything: the connection broke.
    pub(super) fn clear(&mut self) {
        self.pipe.clear();
        self.segments.clear();
        self.arrived = 0;
        self.travelling = 0;
        self.waiting = 0;
        self.stuck = 0;
    }

    /// Is there something that the receiver has not got yet?
    pub(super) const fn has_undelivered(&self) -> bool {
        self.arrived + self.travelling + self.waiting > 0
    }
}

pub(super) fn as_u64(n: usize) -> u64 {
    u64::try_from(n).expect("a length fits into 64 bits")
}

fn as_usize(n: u64) -> usize {
    usize::try_from(n).expect("bounded by the length of a buffer in memory")
}
