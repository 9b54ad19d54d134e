//! The choices that were drawn in a step, for traces. The world's state does not contain them, so
//! that recording does not change the state.

use super::Key;
use std::cell::{Cell, RefCell};

thread_local! {
    /// Whether choices on this thread are collected.
    static COLLECTS: Cell<bool> = const { Cell::new(false) };
    static DRAWN: RefCell<Vec<(Key, u64)>> = const { RefCell::new(Vec::new()) };
}

/// Collects the choices that `step` draws on this thread, if `on`.
pub(crate) fn collected<R>(on: bool, step: impl FnOnce() -> R) -> (R, Vec<(Key, u64)>) {
    if !on {
        return (step(), Vec::new());
    }
    DRAWN.take();
    COLLECTS.set(true);
    let result = step();
    COLLECTS.set(false);
    (result, DRAWN.take())
}

/// Ends the collection of a step that panicked. Returns the choices that the step has drawn.
pub(crate) fn collected_before_panic() -> Vec<(Key, u64)> {
    COLLECTS.set(false);
    DRAWN.take()
}

/// Called for each choice.
pub(super) fn note(key: Key, value: u64) {
    if COLLECTS.get() {
        DRAWN.with_borrow_mut(|drawn| drawn.push((key, value)));
    }
}
