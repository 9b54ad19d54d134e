//! The harness must find the bugs that are planted, each by an invariant that it may violate, and find nothing where the
//! same seed runs without the bug.
#![cfg(feature = "planted-bugs")]

use walsim::bugs::{bug_info, hunt};
use walsim::fuzz::Task;
use walsim::plan::{Expect, Overrides, Profile, Scenario};
use walsim::world::{Verdict, run};
use walsim_core::base::{Bug, Planted};

/// Several times what the rarest takes.
const SEEDS: u32 = 600;

/// Hunts, and sees the bug again in the file that a person would keep: with it the same end, without it none.
fn is_found(bug: Bug) {
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
    let (found, _) = hunt(bug, &task, 0, go_on);
    let found = found.unwrap_or_else(|| panic!("{} hides from {SEEDS} seeds", bug.name()));

    let file = Scenario {
        plan: found.plan,
        expect: Expect::default(),
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
fn contrecord_divergence() {
    is_found(Bug::ContrecordDivergence);
}
