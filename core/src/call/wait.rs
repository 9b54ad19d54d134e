//! How a process ends its step.

use super::{Exit, Place};
use crate::base::{ConnId, Mono, OpId};

/// What a process waits for; the first that comes true ends the wait. One that waits for an
/// operation, a lock or a condition variable waits for nothing else.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
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
    pub why: Place,
}

impl Wait {
    /// Waits for nothing yet, at a place.
    #[must_use]
    pub const fn at(why: Place) -> Self {
        Self {
            latch: false,
            readable: None,
            writable: None,
            op: None,
            lock: false,
            condvar: false,
            until: None,
            why,
        }
    }

    /// Waits for the latch, with an optional time-out.
    #[must_use]
    pub fn latch(until: Option<Mono>, why: Place) -> Self {
        Self {
            latch: true,
            until,
            ..Self::at(why)
        }
    }

    /// Waits for a disk operation.
    #[must_use]
    pub fn op(op: OpId, why: Place) -> Self {
        Self {
            op: Some(op),
            ..Self::at(why)
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

/// The end of a step. One that is dropped would lose a wait, and a process would go on before what
/// it waits for:
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// use walsim_core::call::{Place, Yield};
/// fn step() -> Yield {
///     Yield::Again(Place::BufferAlloc);
///     Yield::Again(Place::BufferSync)
/// }
/// ```
///
/// ```
/// #![deny(unused_must_use)]
/// use walsim_core::call::{Place, Yield};
/// fn step() -> Yield {
///     Yield::Again(Place::BufferSync)
/// }
/// ```
#[must_use = "a process ends its step with this"]
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Yield {
    /// Another process of PostgreSQL could act here; the C function at whose place this is.
    Again(Place),
    /// Nothing to do until something happens.
    Wait(Wait),
    /// The process ends.
    Exit(Exit),
}

/// What polling a blocking routine gives: its result, or how the step of its process ends
/// meanwhile. It cannot be dropped by accident:
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// use walsim_core::call::{Place, Poll, Yield};
/// fn sleep() -> Poll<()> {
///     Poll::Yield(Yield::Again(Place::BufferAlloc))
/// }
/// fn poll() -> Poll<()> {
///     sleep();
///     Poll::Ready(())
/// }
/// ```
///
/// ```
/// #![deny(unused_must_use)]
/// use walsim_core::call::{Place, Poll, Yield};
/// use walsim_core::ready;
/// fn sleep() -> Poll<()> {
///     Poll::Yield(Yield::Again(Place::BufferAlloc))
/// }
/// fn poll() -> Poll<()> {
///     ready!(sleep());
///     Poll::Ready(())
/// }
/// ```
///
/// Nor may a routine be made in the expression that polls it, or its yield be matched away; a test
/// reads the sources.
#[must_use = "a routine that is not done ends the step of its process"]
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Poll<T> {
    /// The routine is done.
    Ready(T),
    /// The process ends its step here and polls again in the next.
    Yield(Yield),
}

/// Unwraps a [`Poll`], returning from the enclosing routine while it is not done.
#[macro_export]
macro_rules! ready {
    ($poll:expr) => {
        match $poll {
            $crate::call::Poll::Ready(value) => value,
            $crate::call::Poll::Yield(how) => return $crate::call::Poll::Yield(how),
        }
    };
}

/// Like [`ready!`] for a fallible routine in a fallible routine: passes the error on as well.
#[macro_export]
macro_rules! ready_ok {
    ($poll:expr) => {
        match $poll {
            $crate::call::Poll::Ready(Ok(value)) => value,
            $crate::call::Poll::Ready(Err(error)) => {
                return $crate::call::Poll::Ready(Err(error.into()));
            }
            $crate::call::Poll::Yield(how) => return $crate::call::Poll::Yield(how),
        }
    };
}

impl<T> Poll<T> {
    /// Changes the result of a routine that is done.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Poll<U> {
        match self {
            Self::Ready(value) => Poll::Ready(f(value)),
            Self::Yield(how) => Poll::Yield(how),
        }
    }
}
