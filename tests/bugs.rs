//! The harness must find each planted bug, with an invariant that the bug may violate. The same
//! seed must pass without the bug.
#![cfg(feature = "planted-bugs")]

use walsim::bugs::{Found, bug_info, hunt};
use walsim::fuzz::Task;
use walsim::plan::{Expect, Overrides, Profile, Scenario};
use walsim::shrink::{Kept, Size, shrink};
use walsim::world::{Verdict, run};
use walsim_core::base::{Bug, Planted};

/// The number of seeds that are tried, which is several times what the rarest bug needs.
const SEEDS: u32 = 600;

/// Searches upward from `base` for a seed that shows the bug.
fn found(bug: Bug, base: u64) -> Found {
    let task = Task {
        profile: Profile::Default,
        overrides: Overrides::default(),
        planted: Planted::NONE,
        twice_percent: 0,
    };
    let mut left = SEEDS;
    let go_on = || {
        left -= 1;
        left > 0
    };
    let hunted = hunt(bug, &task, base, go_on);
    if let Some(found) = &hunted.found {
        assert!(
            found.outcome.marks.reached(bug),
            "reached where it is found"
        );
    }
    hunted
        .found
        .unwrap_or_else(|| panic!("{} hides from {SEEDS} seeds", bug.name()))
}

/// Hunts for a bug and stores the plan that shows it. The stored plan must fail in the same way
/// with the bug, and must pass without it.
fn is_found(bug: Bug) {
    let found = found(bug, 0);
    let file = Scenario {
        plan: found.plan,
        expect: Expect::default(),
        origin: None,
    }
    .to_toml();
    let Scenario { plan, .. } = Scenario::parse(&file, "kept").expect("what was written");
    let again = run(&plan, Planted::NONE.with(bug), false);
    assert_eq!(again, found.outcome);
    assert!(
        bug_info(bug)
            .codes
            .contains(&again.verdict.code().expect("it failed"))
    );
    assert_eq!(run(&plan, Planted::NONE, false).verdict, Verdict::Pass);
}

#[test]
fn walsender_sends_unflushed() {
    is_found(Bug::WalsenderSendsUnflushed);
}

#[test]
fn walreceiver_exit_without_flush() {
    is_found(Bug::WalreceiverExitWithoutFlush);
}

#[test]
fn rename_not_durable() {
    is_found(Bug::RenameNotDurable);
}

#[test]
fn commit_crosses_redo_point() {
    is_found(Bug::CommitCrossesRedoPoint);
}

#[test]
fn lost_walreceiver_start_request() {
    is_found(Bug::LostWalreceiverStartRequest);
}

#[test]
fn fsync_retry() {
    is_found(Bug::FsyncRetry);
}

#[test]
fn contrecord_divergence() {
    is_found(Bug::ContrecordDivergence);
}

#[test]
fn shutdown_drops_unconfirmed_tail() {
    is_found(Bug::ShutdownDropsUnconfirmedTail);
}

/// The complete sequence for one bug: it is found, its plan is shrunk, and the shrunk plan is
/// written to a file. The plan in the file must fail with the bug and pass without it.
#[test]
fn a_found_bug_becomes_a_small_file() {
    let bug = Bug::WalsenderSendsUnflushed;
    let found = found(bug, 0);
    let planted = Planted::NONE.with(bug);
    let small = shrink(&found.plan, planted, |progress| progress.tries < 400);
    let small = small.expect("it fails");
    assert_eq!(small.outcome.verdict.code(), found.outcome.verdict.code());
    assert!(small.passes_without);
    let size = Size::of(&small.plan);
    assert!(size.steps <= 6 && size < Size::of(&found.plan), "{size:?}");

    let kept = Kept {
        plan: &found.plan,
        replay: "walsim replay 0",
        bug: Some(bug),
        file: "kept.toml",
    };
    let text = small.to_file(kept).expect("it fails again");
    let head: Vec<&str> = text.lines().take_while(|l| l.starts_with('#')).collect();
    let head = head.join("\n");
    for word in [
        "# SEND is violated: A walsender sends only WAL",
        "durable on its disk",
        "# what led to it:",
        "walsim replay kept.toml --bug walsender-sends-unflushed",
    ] {
        assert!(head.contains(word), "{word} is not in\n{head}");
    }
    let Scenario { plan, expect, .. } = Scenario::parse(&text, "kept").expect("what was written");
    assert_eq!((expect.bug, expect.invariants), (Some(bug), vec!["SEND"]));
    assert_eq!(run(&plan, planted, true).verdict, small.outcome.verdict);
    assert_eq!(run(&plan, Planted::NONE, true).verdict, Verdict::Pass);
}

/// If simulated time does not advance, the run is reported with the processes of the node and their
/// C functions.
#[test]
fn a_run_that_is_stuck_is_found() {
    let seed = 0x4d;
    let verdict = found(Bug::ReceiverNeverGivesUp, seed).outcome.verdict;
    let Verdict::Stuck(violation) = &verdict else {
        panic!("{verdict:?}")
    };
    let mut facts = violation.facts.iter();
    let busy = facts.find(|fact| fact.name.starts_with("walreceiver"));
    let at = busy.map(|fact| fact.value.to_string());
    assert_eq!(at.as_deref(), Some("can run in WalReceiverMain"));
}
