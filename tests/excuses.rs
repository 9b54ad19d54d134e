//! Excuses need a witness and a cause: each play under scenarios/legal that passes by an excuse
//! fails without either, and each of its neighbours, one detail different, is reported since it
//! lacks one part.

use std::path::Path;
use walsim::plan::{Plan, Profile, Scenario, generate, seed};
use walsim::world::{Excuse, Forced, Outcome, Part, World};
use walsim_core::base::Planted;

/// The plays, or seeds, and what they pass by. The play of stale WAL is not among them: with
/// segments as small as its own a standby mends that by luck within the bound.
const PLAYS: [(&str, Excuse); 8] = [
    ("standby-waits-for-its-dropped-slot", Excuse::SlotDropped),
    ("slot-is-invalidated-for-its-limit", Excuse::SlotInvalidated),
    ("slot-is-invalidated-for-its-limit", Excuse::WalRemoved),
    ("removed-wal-ends-a-standby", Excuse::WalRemoved),
    // In the play of that state the next checkpoint would end it within the bound.
    ("0x1a451", Excuse::AheadOfFlush),
    ("0x4b57560", Excuse::WalRemoved),
    (
        "shutdown-is-asked-for-in-a-crash-restart",
        Excuse::ShutdownInCrashRestart,
    ),
    ("crash-is-passed-over", Excuse::CrashPassedOver),
];

/// The neighbours, and the parts that they lack.
const NEIGHBOURS: [(&str, Excuse, Part); 5] = [
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
];

fn read(name: &str) -> Plan {
    if let Ok(seed) = seed(name) {
        return generate(Profile::Default, seed);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/legal");
    let path = root.join(name).with_extension("toml");
    let text = std::fs::read_to_string(&path).expect("the play is there");
    Scenario::parse(&text, name).expect("it is a plan").plan
}

fn run(plan: &Plan, forced: Option<Forced>) -> Outcome {
    let mut world = World::new(plan, Planted::NONE, false);
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

/// What a help that comes of it leads to is another matter: a startup process that got no CPU may
/// still get none.
#[test]
fn a_neighbour_has_no_excuse_for_want_of_one_part() {
    for (name, excuse, part) in NEIGHBOURS {
        let plan = read(&format!("neighbours/{name}"));
        let outcome = run(&plan, None);
        let given = outcome.excuses.of(excuse) > 0;
        let end = (outcome.verdict.code(), given);
        assert_eq!(end, (Some("LIVE"), false), "{name}");
        let holds = true;
        let outcome = run(
            &plan,
            Some(Forced {
                excuse,
                part,
                holds,
            }),
        );
        assert!(outcome.excuses.of(excuse) > 0, "{name} with {part:?}");
    }
}
