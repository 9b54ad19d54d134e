//! Structs of shared memory that are checked after the steps that may have changed them.

use core::hash::{Hash, Hasher};
use core::ops::{Deref, DerefMut};

/// The invariants of a struct, as far as the struct alone shows them.
pub(super) trait Check {
    /// # Panics
    /// If an invariant does not hold. The cause is a bug of this program.
    fn check(&self);
}

/// A struct of shared memory, and whether it was mutably borrowed since its last check.
#[derive(Clone, Default, Debug)]
pub struct Touched<T> {
    value: T,
    touched: bool,
}

impl<T> Touched<T> {
    /// Checks the struct if it was mutably borrowed since the last call.
    pub(super) fn check(&mut self)
    where
        T: Check,
    {
        if core::mem::take(&mut self.touched) {
            self.value.check();
        }
    }
}

impl<T> From<T> for Touched<T> {
    fn from(value: T) -> Self {
        let touched = true;
        Self { value, touched }
    }
}

impl<T> Deref for Touched<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Touched<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.touched = true;
        &mut self.value
    }
}

// Two states are equal even if only one of them was checked.
impl<T: PartialEq> PartialEq for Touched<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Touched<T> {}

impl<T: Hash> Hash for Touched<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::rc::Rc;
    use core::cell::Cell;

    struct Counted {
        checks: Rc<Cell<u32>>,
        number: u32,
    }

    impl Check for Counted {
        fn check(&self) {
            self.checks.set(self.checks.get() + 1);
        }
    }

    /// A read does not cause a check, and several changes cause one.
    #[test]
    fn only_changes_are_checked() {
        let checks = Rc::new(Cell::new(0));
        let mut counted = Touched::from(Counted {
            checks: Rc::clone(&checks),
            number: 0,
        });
        counted.check();
        assert_eq!((counted.number, checks.get()), (0, 1));
        counted.check();
        assert_eq!(checks.get(), 1);
        counted.number = 7;
        counted.number += 1;
        counted.check();
        counted.check();
        assert_eq!((counted.number, checks.get()), (8, 2));
    }
}
