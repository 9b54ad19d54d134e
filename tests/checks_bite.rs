//! Tests that the checks find violations. A check looks only at what a step has changed, while the
//! audit looks at everything. Both must come to the same verdict on runs with and without
//! violations.
#![cfg(feature = "planted-bugs")]

use walsim::checks::{BITES, Bite, Plant, built_in, without};
use walsim::plan::{Plan, Profile, Scenario, generate};
use walsim::referee::{
    About, Check, ClientAct, ClientEvent, ClientKind, Evidence, Fact, Knowledge, Promise, Ruling,
    Subscription,
};
use walsim::world::{Outcome, Verdict, Violation, run, run_with};
use walsim_core::base::{Bug, Planted};

/// The number of seeds that are tried, which is several times what the rarest bug needs.
const SEEDS: u64 = 400;

/// Runs the seeds from `base` upward until one shows the bug. This run must report one of the
/// expected codes with and without audits. These codes name the cause of the failure and not its
/// later effects.
fn bites_as(bug: Bug, expected: &[&str], base: u64) {
    let planted = Planted::NONE.with(bug);
    let shown = (base..base + SEEDS).find_map(|seed| {
        let plan = generate(Profile::Default, seed);
        let plain = run(&plan, planted, false);
        let Verdict::Violation(violation) = &plain.verdict else {
            return None;
        };
        assert!(
            !violation.facts.is_empty(),
            "a report tells what was compared"
        );
        assert_eq!(audited(&plan, planted), plain, "seed {seed}");
        Some(violation.code)
    });
    let code = shown.unwrap_or_else(|| panic!("{} hides from {SEEDS} seeds", bug.name()));
    assert!(expected.contains(&code), "{code}");
}

/// The outcome of an audited run, without the mark that it was audited.
fn audited(plan: &Plan, planted: Planted) -> Outcome {
    let outcome = run(plan, planted, true);
    assert!(outcome.audited, "{outcome:?}");
    Outcome {
        audited: false,
        ..outcome
    }
}

#[test]
fn wal_that_is_sent_too_early_is_seen_at_the_sender() {
    bites_as(Bug::WalsenderSendsUnflushed, &["SEND"], 0);
}

#[test]
fn wal_that_is_applied_too_early_is_seen_at_the_standby() {
    bites_as(Bug::WalreceiverExitWithoutFlush, &["REPLAY"], 0);
}

#[test]
fn a_name_that_may_vanish_is_seen_by_whoever_relies_on_it() {
    bites_as(Bug::RenameNotDurable, &["SEND", "REPLAY", "REPORT"], 0);
}

#[test]
fn a_commit_without_its_status_is_seen_after_recovery() {
    bites_as(Bug::CommitCrossesRedoPoint, &["LOCAL"], 0);
}

#[test]
fn a_record_that_is_written_over_is_seen_when_recovery_ends() {
    bites_as(Bug::ContrecordDivergence, &["PREFIX"], 100);
}

#[test]
fn a_walsender_that_leaves_too_early_is_seen_at_its_last_word() {
    bites_as(Bug::ShutdownDropsUnconfirmedTail, &["DURABLE"], 0);
}

#[test]
fn wal_that_a_file_asks_for_is_seen_when_it_goes() {
    bites_as(Bug::SlotAdvanceDuringCheckpoint, &["SLOT"], 0);
}

#[test]
fn a_slot_that_moves_without_a_reason_is_seen_at_once() {
    for bug in [
        Bug::SlotSaveTakesMemoryBack,
        Bug::StartReplicationMovesSlot,
        Bug::SlotMovedPastFlush,
        Bug::SlotMovedToWrite,
        Bug::SlotNeverMoved,
    ] {
        bites_as(bug, &["MOVES"], 0);
    }
}

#[test]
fn a_slot_that_ends_or_is_written_to_without_a_right_is_seen_at_once() {
    bites_as(Bug::CheckpointDropsAbsentSlots, &["DROP"], 0);
    bites_as(Bug::DroppedSlotWritten, &["OWNER"], 0);
}

#[test]
fn a_slot_that_is_not_saved_is_seen_at_the_end_of_a_checkpoint() {
    bites_as(Bug::SlotAdvanceNotDirtied, &["RETAIN"], 0);
    bites_as(Bug::SlotTempFileLeft, &["RETAIN", "SLOT"], 0);
}

#[test]
fn wal_that_nobody_needs_is_seen_at_the_end_of_a_checkpoint() {
    bites_as(Bug::HorizonNotRecomputed, &["RETAIN"], 0);
    bites_as(Bug::InvalidSlotStillPins, &["RETAIN"], 0);
}

#[test]
fn wal_that_a_setting_keeps_is_seen_when_it_goes() {
    bites_as(Bug::WalKeepSizeIgnored, &["KEEP"], 0);
}

#[test]
fn a_page_without_an_image_is_seen_in_the_wal() {
    for bug in [
        Bug::ImageDecisionOffByOne,
        Bug::RedoPointerNotRechecked,
        Bug::RedoPointerPublishedLate,
        Bug::PageChangedWithoutRegisteredBlock,
    ] {
        bites_as(bug, &["FPI"], 0);
    }
}

#[test]
fn a_record_after_the_last_one_is_seen_in_the_wal() {
    bites_as(Bug::WalAfterShutdownCheckpoint, &["CHAIN"], 0);
}

#[test]
fn a_status_that_comes_too_early_or_too_late_is_seen() {
    bites_as(Bug::ClogBeforeWal, &["CLOG"], 0);
    bites_as(Bug::XidEndsBeforeStatus, &["XID"], 0);
}

#[test]
fn the_audit_changes_nothing_where_nothing_is_wrong() {
    for seed in 0..6 {
        let plan = generate(Profile::Default, seed);
        let plain = run(&plan, Planted::NONE, false);
        assert_eq!(plain.verdict, Verdict::Pass);
        assert_eq!(audited(&plan, Planted::NONE), plain, "seed {seed}");
    }
}

/// A check that reports a violation at the third commit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct TwoCommits {
    about: About,
    commits: u32,
}

impl Check for TwoCommits {
    fn about(&self) -> &About {
        &self.about
    }

    fn subscriptions(&self) -> &[Subscription] {
        &[Subscription::Client(ClientKind::Commit)]
    }

    fn on_client(&mut self, event: &ClientEvent<'_>, _: &Knowledge) -> Ruling {
        assert!(
            matches!(event.act, ClientAct::Commit(_)),
            "nothing else was asked for"
        );
        self.commits += 1;
        if self.commits <= 2 {
            return Ok(());
        }
        let facts: [(&str, &dyn Evidence); 1] = [("commits", &self.commits)];
        Err(event
            .site
            .violation("TWO", "a third commit was acknowledged", &facts))
    }
}

/// A user's own check works like a built-in check.
#[test]
fn a_check_of_ones_own_is_asked_and_heard() {
    let plan = generate(Profile::Faultless, 1);
    for promise in [Promise::Safety, Promise::Liveness] {
        let mut checks = built_in();
        let about = About {
            code: "TWO",
            promise,
            statement: "No more than two commits are acknowledged.",
            details: "The check runs when a commit is acknowledged.",
            notes: &[],
            source: "none",
        };
        checks.push(Box::new(TwoCommits { about, commits: 0 }));
        let outcome = run_with(&plan, Planted::NONE, false, checks);
        let violation = match (promise, outcome.verdict) {
            (Promise::Safety, Verdict::Violation(violation))
            | (Promise::Liveness, Verdict::NoConvergence(violation)) => violation,
            (_, other) => panic!("{other:?}"),
        };
        let fact = Fact::new("commits", &3_u64);
        assert_eq!((violation.code, &violation.facts[..]), ("TWO", &[fact][..]));
    }
}

#[test]
fn every_subscription_has_a_row() {
    let checks = built_in();
    let subscriptions: Vec<_> = checks
        .iter()
        .flat_map(|check| {
            check
                .subscriptions()
                .iter()
                .map(|it| (check.about().code, *it))
        })
        .collect();
    let rows: Vec<_> = BITES
        .iter()
        .map(|row| (row.code, row.subscription))
        .collect();
    assert_eq!(
        rows, subscriptions,
        "a row in sim/src/checks/bites.rs for each, in this order"
    );
}

/// The violation that a run reports.
fn reported(outcome: &Outcome) -> Option<&Violation> {
    match &outcome.verdict {
        Verdict::Violation(violation) | Verdict::NoConvergence(violation) => Some(violation),
        Verdict::Pass | Verdict::Stuck(_) | Verdict::Panic { .. } => None,
    }
}

/// All built-in checks, but one of them lacks a subscription. `row` names this check and this
/// subscription.
fn all_but(row: &Bite) -> Vec<Box<dyn Check>> {
    let without = |check: Box<dyn Check>| match check.about().code == row.code {
        true => without(check, row.subscription),
        false => check,
    };
    built_in().into_iter().map(without).collect()
}

/// The plan of a scenario.
fn scenario(name: &str) -> Plan {
    let path = format!("{}/../scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the scenario exists");
    Scenario::parse(&text, name).expect("a good plan").plan
}

/// A check with the subscription reports the violation. Without the subscription, the check reports
/// no violation at that point.
#[test]
fn a_subscription_that_is_switched_off_is_missed() {
    for row in &BITES {
        let Plant { bug, from, play } = row.planted;
        let planted = Planted::NONE.with(bug);
        let seeds = if play.is_some() { 1 } else { SEEDS };
        let bites = (from..from + seeds).any(|seed| {
            let plan = play.map_or_else(|| generate(Profile::Default, seed), scenario);
            let whole = run(&plan, planted, false);
            let Some(violation) = reported(&whole).filter(|violation| violation.code == row.code)
            else {
                return false;
            };
            let less = run_with(&plan, planted, false, all_but(row));
            reported(&less) != Some(violation)
        });
        assert!(
            bites,
            "{} without {}: {} hides",
            row.code,
            row.subscription,
            bug.name()
        );
    }
}
