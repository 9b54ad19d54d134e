//! How a process ends its step.

use super::Exit;
use crate::base::{ConnId, Mono, OpId};

/// What a process waits for; the first that comes true ends the wait. One that waits for an operation, a lock or a
/// condition variable waits for nothing else.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Wait {
    /// Its latch.
    pub latch: bool,
    /// Input, or the end of the stream, on a connection.
    pub readable: Option<ConnId>,
    /// Room in the send buffer of a connection (no output pending).
    pub writable: Option<ConnId>,
    /// The completion of its operation.
    pub op: Option<OpId>,
    /// The grant of the lock for which it queues.
    pub lock: bool,
    /// The condition variable for which it queues.
    pub condvar: bool,
    /// A time-out.
    pub until: Option<Mono>,
    /// The C function that waits.
    pub why: &'static str,
}

impl Wait {
    /// Waits for the latch, with an optional time-out.
    #[must_use]
    pub fn latch(until: Option<Mono>, why: &'static str) -> Self {
        Self {
            latch: true,
            until,
            why,
            ..Self::default()
        }
    }

    /// Waits for a disk operation.
    #[must_use]
    pub fn op(op: OpId, why: &'static str) -> Self {
        Self {
            op: Some(op),
            why,
            ..Self::default()
        }
    }
}

/// Why a process runs again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Woken {
    /// Its latch is set.
    pub latch: bool,
    /// The connection has input.
    pub readable: bool,
    /// The connection has room.
    pub writable: bool,
    /// The time-out passed.
    pub timeout: bool,
}

/// The end of a step.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Yield {
    /// Another process of PostgreSQL could act here; the C function at whose place this is.
    Again(&'static str),
    /// Nothing to do until something happens.
    Wait(Wait),
    /// The process ends.
    Exit(Exit),
}
