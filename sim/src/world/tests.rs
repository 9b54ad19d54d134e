//! Tests the bound on steps at one simulated time.

use super::*;
use crate::plan::{Profile, generate};

/// A run whose simulated time does not advance ends with `Stuck`. Only steps since the last advance
/// of time count.
#[test]
fn steps_at_one_instant_are_bounded() {
    let mut world = World::new(&generate(Profile::Default, 0), Planted::NONE, false);
    (0..2000).for_each(|_| assert!(world.step()));
    // Looks for a step that does not advance simulated time.
    while world.finished().is_none() {
        world.steps_now = STEPS_PER_INSTANT;
        world.step();
    }
    let verdict = world.finished().expect("the run is over");
    let Verdict::Stuck(violation) = verdict else {
        panic!("{verdict:?}")
    };
    assert_eq!(verdict.code(), Some(STUCK));
    let postmaster = violation
        .facts
        .iter()
        .find(|fact| fact.name.starts_with("postmaster"));
    assert!(
        postmaster.is_some_and(|fact| fact.value.to_string().contains(" in ")),
        "{violation:?}"
    );

    let mut world = World::new(&generate(Profile::Default, 0), Planted::NONE, false);
    while world.now() == Mono(0) {
        assert!(world.step());
    }
    assert_eq!(world.steps_now, 1);
}
