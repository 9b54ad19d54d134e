//! The invariants, as described by the built-in checks.

use crate::checks::built_in;
use crate::referee::About;
use std::sync::LazyLock;

static INVARIANTS: LazyLock<Vec<About>> =
    LazyLock::new(|| built_in().iter().map(|check| *check.about()).collect());

/// All invariants, in the order in which their checks run.
#[must_use]
pub fn invariants() -> &'static [About] {
    &INVARIANTS
}

/// The invariant with this code, case-insensitive.
#[must_use]
pub fn invariant_named(code: &str) -> Option<&'static About> {
    let mut all = invariants().iter();
    all.find(|about| about.code.eq_ignore_ascii_case(code))
}
