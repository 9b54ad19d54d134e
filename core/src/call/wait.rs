//! How a process ends its step.

use super::{Exit, Place};
use crate::base::{ConnId, Mono, OpId};

/// The events that a process waits for. The wait ends when the first of these events happens. A
/// process that waits for a disk operation, a lock or a condition variable waits for no other
/// event.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Wait {
    /// Whether the process waits until its latch is set.
    pub latch: bool,
    /// If set, the process waits until this connection has input or has ended.
    pub readable: Option<ConnId>,
    /// If set, the process waits until the send buffer of this connection has space.
    pub writable: Option<ConnId>,
    /// If set, the process waits until this disk operation has completed.
    pub op: Option<OpId>,
    /// Whether the process waits until its requested lock is granted or becomes free.
    pub lock: bool,
    /// Whether the process waits until its condition variable is broadcast.
    pub condvar: bool,
    /// If set, the wait ends at this time at the latest.
    pub until: Option<Mono>,
    /// The C function in which the process waits.
    pub why: Place,
}

impl Wait {
    /// A wait without any event. The caller adds the events.
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

    /// Waits for the latch, with or without a timeout.
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

/// The events that ended a wait.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Woken {
    /// Whether the latch of the process is set.
    pub latch: bool,
    /// Whether the connection has input or has ended.
    pub readable: bool,
    /// Whether the connection has space in its send buffer.
    pub writable: bool,
    /// Whether the timeout has expired.
    pub timeout: bool,
}

/// The end of a step. A routine must return it. If the routine dropped it, the process would
/// continue without waiting.
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
    /// The process continues in its next step. In PostgreSQL other processes could run at this
    /// point of the C function.
    Again(Place),
    /// The process waits.
    Wait(Wait),
    /// The process ends.
    Exit(Exit),
}

/// The result of polling a blocking routine. It is either the value of the routine, or a [`Yield`]
/// with which the process must end its step. The result must not be dropped:
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
/// Two more mistakes would make a process continue without waiting: creating a routine in the same
/// expression that polls it, and discarding a [`Poll::Yield`] in a match. A test searches the
/// sources for both mistakes.
#[must_use = "a routine that is not done ends the step of its process"]
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Poll<T> {
    /// The routine has finished.
    Ready(T),
    /// The routine is not finished. The process ends its step, and polls the routine again in the
    /// next step.
    Yield(Yield),
}

/// Unwraps a [`Poll`]. If the polled routine is not finished, returns from the enclosing routine.
#[macro_export]
macro_rules! ready {
    ($poll:expr) => {
        match $poll {
            $crate::call::Poll::Ready(value) => value,
            $crate::call::Poll::Yield(how) => return $crate::call::Poll::Yield(how),
        }
    };
}

/// Like [`ready!`], but for a routine that can fail. Also returns an error from the enclosing
/// routine.
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
    /// Changes the result of a finished routine.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Poll<U> {
        match self {
            Self::Ready(value) => Poll::Ready(f(value)),
            Self::Yield(how) => Poll::Yield(how),
        }
    }
}
