//! Tests that an excuse needs a witness (log messages about the standby) and a cause (an earlier
//! event). A scenario in scenarios/legal that passes because of an excuse must fail if either part
//! is missing. Each scenario in scenarios/legal/neighbors differs in one detail from such a
//! scenario. One part of the excuse is missing there, so its run must fail.

use std::path::Path;
use walsim::plan::{Plan, Profile, Scenario, generate, seed};
use walsim::world::{Excuse, Forced, Outcome, Part, World};
use walsim_core::base::Planted;

/// Scenarios and seeds, each with the excuse because of which it passes.
const PLAYS: [(&str, Excuse); 10] = [
    ("standby-waits-for-its-dropped-slot", Excuse::SlotDropped),
    ("slot-is-invalidated-for-its-limit", Excuse::SlotInvalidated),
    ("slot-is-invalidated-for-its-limit", Excuse::WalRemoved),
    ("removed-wal-ends-a-standby", Excuse::WalRemoved),
    // This excuse is tested with a seed and not with its scenario. In the scenario, the standby
    // also catches up in time without the excuse, after the next checkpoint.
    ("0x1a451", Excuse::AheadOfFlush),
    ("0x4b57560", Excuse::WalRemoved),
    (
        "shutdown-is-asked-for-in-a-crash-restart",
        Excuse::ShutdownInCrashRestart,
    ),
    ("crash-is-passed-over", Excuse::CrashPassedOver),
    ("slot-stays-with-the-checkpointer", Excuse::SlotKept),
    ("standby-reads-a-stale-record-again", Excuse::StaleWal),
];

/// Scenarios that pass because of an exemption: a check does not report a violation that PostgreSQL
/// has too. Without the exemption, the checks named here report the violation.
const EXEMPT: [(&str, Excuse, &[&str]); 5] = [
    (
        "../../docs/hazards/slot-file-behind-memory",
        Excuse::SlotFileBehindMemory,
        &["SLOT"],
    ),
    (
        "crash-recovery-goes-on-after-a-failed-fsync",
        Excuse::FsyncInCrashRecovery,
        &["REPLAY"],
    ),
    (
        "renamed-segment-is-not-fsynced",
        Excuse::SegmentRenamedNotSynced,
        &["PREFIX"],
    ),
    (
        "segment-is-used-before-its-name-is-durable",
        Excuse::SegmentNameNotDurable,
        &["PREFIX"],
    ),
    (
        "server-is-killed-in-its-shutdown-checkpoint",
        Excuse::SegmentNameNotDurable,
        &["PREFIX"],
    ),
];

/// Scenarios that differ from those of `EXEMPT` in one detail, so that the exemption does not
/// apply. Most of them need a planted bug, because a correct server does not violate the invariant
/// there. A scenario without an expected invariant passes.
const NOT_EXEMPT: [(&str, Excuse); 5] = [
    ("slot-file-is-behind-in-18", Excuse::SlotFileBehindMemory),
    ("fsync-fails-before-the-crash", Excuse::FsyncInCrashRecovery),
    (
        "renamed-segment-is-not-fsynced-later",
        Excuse::SegmentRenamedNotSynced,
    ),
    (
        "segment-is-not-fsynced-before-its-rename",
        Excuse::SegmentRenamedNotSynced,
    ),
    (
        "segment-is-used-and-its-directory-is-never-fsynced",
        Excuse::SegmentNameNotDurable,
    ),
];

/// Scenarios in scenarios/legal/neighbors. In each of them one part of an excuse is missing, either
/// the cause or the witness. For four excuses there is no scenario without the cause:
///
/// - `SlotInvalidated`, `WalRemoved`: the standby is refused only if the server has invalidated the
///   slot or removed the segment. If the server did so illegally, another check has already ended
///   the run.
/// - `AheadOfFlush`: a standby requests a segment past its upstream's end of WAL only in the state
///   that is this excuse's cause.
/// - `StaleWal`: the startup process reaches the same end of WAL again only while it reads streamed
///   WAL. If a walreceiver had written wrong bytes there, the check PREFIX would have ended the
///   run. So the bytes are old, and that is the cause.
const NEIGHBORS: [(&str, Excuse, Part); 14] = [
    (
        "slot-that-was-never-there",
        Excuse::SlotDropped,
        Part::Cause,
    ),
    (
        "standby-does-not-ask-for-its-slot",
        Excuse::SlotDropped,
        Part::Witness,
    ),
    (
        "standby-does-not-ask-for-its-invalid-slot",
        Excuse::SlotInvalidated,
        Part::Witness,
    ),
    (
        "standby-does-not-ask-for-its-wal",
        Excuse::WalRemoved,
        Part::Witness,
    ),
    (
        "standby-does-not-ask-for-more",
        Excuse::AheadOfFlush,
        Part::Witness,
    ),
    (
        "standby-does-not-ask-for-its-kept-slot",
        Excuse::SlotKept,
        Part::Witness,
    ),
    (
        "slot-is-used-by-another-standby",
        Excuse::SlotKept,
        Part::Cause,
    ),
    (
        "standby-was-refused-for-an-absent-slot",
        Excuse::SlotDropped,
        Part::Witness,
    ),
    (
        "standby-was-refused-for-a-used-slot",
        Excuse::SlotKept,
        Part::Witness,
    ),
    (
        "standby-does-not-read-its-stale-record",
        Excuse::StaleWal,
        Part::Witness,
    ),
    (
        "shutdown-waits-for-startup",
        Excuse::ShutdownInCrashRestart,
        Part::Witness,
    ),
    (
        "shutdown-without-a-crash-hangs",
        Excuse::ShutdownInCrashRestart,
        Part::Cause,
    ),
    (
        "lock-is-held-by-a-running-process",
        Excuse::CrashPassedOver,
        Part::Witness,
    ),
    ("crash-is-not-reaped", Excuse::CrashPassedOver, Part::Cause),
];

/// A scenario that converges without the operator. The standby is configured to use a second slot,
/// and is not refused for it. A second refusal would be the missing part of the excuse, the
/// witness.
const NOT_NEEDED: [(&str, Excuse, Part); 1] = [(
    "standby-was-refused-for-an-invalid-slot",
    Excuse::SlotInvalidated,
    Part::Witness,
)];

fn read(name: &str) -> Plan {
    match seed(name) {
        Ok(seed) => generate(Profile::Default, seed),
        Err(_) => scenario(name).plan,
    }
}

fn scenario(name: &str) -> Scenario {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/legal");
    let path = root.join(name).with_extension("toml");
    let text = std::fs::read_to_string(&path).expect("the play is there");
    Scenario::parse(&text, name).expect("it is a plan")
}

fn run(plan: &Plan, forced: Option<Forced>) -> Outcome {
    run_with(plan, Planted::NONE, forced)
}

/// The bug that must be planted so that the scenario's run fails.
fn planted(scenario: &Scenario) -> Planted {
    let bug = scenario.expect.bug;
    bug.map_or(Planted::NONE, |bug| Planted::NONE.with(bug))
}

fn run_with(plan: &Plan, planted: Planted, forced: Option<Forced>) -> Outcome {
    let mut world = World::new(plan, planted, false);
    if let Some(forced) = forced {
        world.force(forced);
    }
    while world.step() {}
    world.outcome()
}

#[test]
fn without_its_witness_or_its_cause_no_play_passes() {
    for (name, excuse) in PLAYS {
        let plan = read(name);
        let outcome = run(&plan, None);
        let given = outcome.excuses.of(excuse) > 0;
        assert_eq!((outcome.verdict.code(), given), (None, true), "{name}");
        for part in [Part::Witness, Part::Cause] {
            let holds = false;
            let outcome = run(
                &plan,
                Some(Forced {
                    excuse,
                    part,
                    holds,
                }),
            );
            let code = outcome.verdict.code();
            assert_eq!(code, Some("LIVE"), "{name} without {part:?}");
        }
    }
}

/// If one part of an excuse is missing, the standby is not excused. If a test forces this part, the
/// standby is excused, and the operator repairs the standby. The run may still fail after the
/// repair, because a process may still be stalled.
#[test]
fn a_neighbor_has_no_excuse_for_want_of_one_part() {
    let neighbors = NEIGHBORS.map(|it| (it, Some("LIVE")));
    let not_needed = NOT_NEEDED.map(|it| (it, None));
    for ((name, excuse, part), code) in neighbors.into_iter().chain(not_needed) {
        let scenario = scenario(&format!("neighbors/{name}"));
        let (plan, planted) = (&scenario.plan, planted(&scenario));
        let outcome = run_with(plan, planted, None);
        let given = outcome.excuses.of(excuse) > 0;
        let end = (outcome.verdict.code(), given);
        assert_eq!(end, (code, false), "{name}");
        let holds = true;
        let outcome = run_with(
            plan,
            planted,
            Some(Forced {
                excuse,
                part,
                holds,
            }),
        );
        assert!(outcome.excuses.of(excuse) > 0, "{name} with {part:?}");
    }
}

#[test]
fn without_its_exemption_no_play_passes() {
    for (name, excuse, codes) in EXEMPT {
        let plan = read(name);
        let outcome = run(&plan, None);
        let used = outcome.excuses.of(excuse) > 0;
        assert_eq!((outcome.verdict.code(), used), (None, true), "{name}");
        let outcome = run(&plan, Some(cause(excuse, false)));
        let code = outcome.verdict.code().unwrap_or_default();
        assert!(codes.contains(&code), "{name}: {code:?}");
    }
}

#[test]
fn a_neighbor_is_not_exempt() {
    for (name, excuse) in NOT_EXEMPT {
        let scenario = scenario(&format!("neighbors/{name}"));
        let (plan, planted) = (&scenario.plan, planted(&scenario));
        let outcome = run_with(plan, planted, None);
        let code = outcome.verdict.code();
        let expected = &scenario.expect.invariants;
        let is_met = code.map_or(expected.is_empty(), |code| expected.contains(&code));
        assert!(is_met, "{name}: {code:?}");
        assert_eq!(outcome.excuses.of(excuse), 0, "{name}");
        let outcome = run_with(plan, planted, Some(cause(excuse, true)));
        assert!(outcome.excuses.of(excuse) > 0, "{name}");
    }
}

const fn cause(excuse: Excuse, holds: bool) -> Forced {
    let part = Part::Cause;
    Forced {
        excuse,
        part,
        holds,
    }
}
