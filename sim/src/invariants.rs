//! The invariants by their codes: what each promises, and where it is judged. They are what the
//! built-in checks say of themselves.

use crate::checks::built_in;
use crate::referee::About;
use std::sync::LazyLock;

static INVARIANTS: LazyLock<Vec<About>> =
    LazyLock::new(|| built_in().iter().map(|check| *check.about()).collect());

/// All that are checked, in the order in which they are asked.
#[must_use]
pub fn invariants() -> &'static [About] {
    &INVARIANTS
}

/// The invariant of that code, whatever the case.
#[must_use]
pub fn invariant_named(code: &str) -> Option<&'static About> {
    let mut all = invariants().iter();
    all.find(|about| about.code.eq_ignore_ascii_case(code))
}
