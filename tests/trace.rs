//! The trace of a run does not change the run, is complete, and matches its documentation.

use std::collections::{BTreeMap, BTreeSet};
use walsim::plan::{Profile, generate};
use walsim::trace::{Act, Difference, Filter, KINDS, Level, MessageFields, TraceEvent, state_hash};
use walsim::world::{RecordedRun, World};
use walsim_core::base::{Mono, Planted};
use walsim_core::shmem::Role;

/// A seed with a power loss, a crash and broken connections.
const SEED: u64 = 9;

/// Runs a seed up to this time, and returns the events.
fn recorded(seed: u64, until: Mono) -> (World, Vec<TraceEvent>) {
    let mut world = World::new(&generate(Profile::Default, seed), Planted::NONE, false);
    world.record();
    let mut events = Vec::new();
    while world.next_at().is_some_and(|at| at <= until) && world.step() {
        events.extend(world.take_events());
    }
    (world, events)
}

#[test]
fn a_recorded_run_takes_the_same_steps() {
    let until = Mono(4_000_000);
    let (recorded, events) = recorded(SEED, until);
    let mut plain = World::new(&generate(Profile::Default, SEED), Planted::NONE, false);
    while plain.next_at().is_some_and(|at| at <= until) && plain.step() {}
    assert_eq!(recorded.trace_digest(), plain.trace_digest());
    assert_eq!(state_hash(&recorded), state_hash(&plain));
    assert!(
        recorded == plain,
        "recorded events are not part of the state"
    );
    let numbers: Vec<u64> = events.iter().map(|event| event.number).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64));
}

/// The bytes in the events of disks and network add up to the counters of disks and links.
#[test]
fn no_byte_is_left_out() {
    let (world, events) = recorded(SEED, Mono(u64::MAX));
    let plan = generate(Profile::Default, SEED);
    let names: Vec<String> = plan.nodes.iter().map(|node| node.name.clone()).collect();
    let host = |name: &str| names.iter().position(|it| it == name);
    let (mut written, mut read) = (vec![0; names.len()], vec![0; names.len()]);
    let mut links: BTreeMap<(usize, usize), [u64; 2]> = BTreeMap::new();
    for event in &events {
        let Some(node) = host(&event.node) else {
            continue;
        };
        if let Act::Disk { act, .. } = &event.act
            && act.op.starts_with("write")
        {
            written[node] += act.len.expect("a write has a length");
        }
        if let Act::DiskDone { act, result } = &event.act
            && act.op == "read"
            && result == "ok"
        {
            read[node] += act.len.expect("a read has a length");
        }
        if let Act::Bytes { peer, sends, len } = &event.act
            && let Some(peer) = host(peer)
        {
            let (link, end) = match sends {
                true => ((node, peer), 0),
                false => ((peer, node), 1),
            };
            links.entry(link).or_default()[end] += len;
        }
    }
    for node in 0..names.len() {
        let counted = world.disk(node).traffic();
        assert_eq!(written[node], counted.written, "written by {}", names[node]);
        // If a process dies before its read completes, only the disk counts the read.
        assert!(
            read[node] <= counted.read && read[node] > 0,
            "read by {}",
            names[node]
        );
    }
    assert!(!links.is_empty());
    for ((from, to), [sent, received]) in links {
        let number = |host: usize| u16::try_from(host).expect("a plan has few nodes");
        let counted = world.traffic(number(from), number(to));
        let counted = [counted.sent, counted.received];
        assert_eq!(
            [sent, received],
            counted,
            "{} to {}",
            names[from],
            names[to]
        );
    }
}

#[test]
fn reports_have_their_positions_and_waits_their_reasons() {
    let (_, events) = recorded(SEED, Mono(u64::MAX));
    let reports = events.iter().filter(|event| {
        matches!(
            &event.act,
            Act::Send {
                message: MessageFields::StandbyStatusUpdate { .. },
                ..
            }
        )
    });
    assert!(reports.count() > 10);
    for event in &events {
        if let Act::Wait { waits_for, .. } = &event.act {
            assert!(!waits_for.is_empty(), "{event}");
        }
        if let Act::Choice { choice, .. } = &event.act {
            assert!(choice.contains('/'), "{event}");
        }
        let malformed = |message: &MessageFields| {
            matches!(
                message,
                MessageFields::Other {
                    name: "malformed",
                    ..
                }
            )
        };
        if let Act::Send { message, .. } | Act::Receive { message, .. } = &event.act {
            assert!(!malformed(message), "{event}");
        }
    }
}

/// Two runs of a plan are equal. A pinned choice shows up as the first difference.
#[test]
fn the_first_differing_step_is_found() {
    let plan = generate(Profile::Default, SEED);
    let run = |plan| RecordedRun::new(plan, Planted::NONE).take(20_000);
    assert_eq!(Difference::first(run(&plan), run(&plan)), None);
    let drawn = run(&plan).find_map(|event| {
        let Act::Choice { choice, value } = event.act else {
            return None;
        };
        (value > 0).then_some((event.step, choice))
    });
    let (step, choice) = drawn.expect("not all choices are boring");
    let mut other = plan.clone();
    other.pins.insert(choice, 0);
    let found = Difference::first(run(&plan), run(&other)).expect("they differ");
    assert!(found.step <= step + 1, "{found}");
    assert!(
        !found.before.is_empty() && found.to_string().contains("\n+ "),
        "{found}"
    );
}

#[test]
fn filters_choose() {
    let (_, events) = recorded(SEED, Mono(u64::MAX));
    let chosen = |filter: &Filter| -> Vec<&TraceEvent> {
        events.iter().filter(|event| filter.admits(event)).collect()
    };
    let all = Filter::level(Level::Steps);
    assert_eq!(chosen(&all).len(), events.len());
    let story = chosen(&Filter::level(Level::Story));
    let some = chosen(&Filter::level(Level::Events));
    assert!(!story.is_empty() && story.len() < some.len() && some.len() < events.len());

    let fsyncs = chosen(&Filter {
        nodes: vec![String::from("standby1")],
        processes: vec![String::from("walreceiver")],
        kinds: vec![String::from("disk")],
        files: vec![String::from("pg_wal/")],
        ..all.clone()
    });
    assert!(!fsyncs.is_empty());
    for event in &fsyncs {
        let process = event.process.as_ref().expect("a process writes");
        assert_eq!(
            (event.node.as_str(), process.role.name()),
            ("standby1", "walreceiver")
        );
        assert!(event.to_string().contains("pg_wal/"), "{event}");
    }

    let about = fsyncs[0].number;
    let near = chosen(&Filter {
        around: Some((about, 3)),
        ..all.clone()
    });
    let numbers: Vec<u64> = near.iter().map(|event| event.number).collect();
    assert!(numbers.iter().copied().eq(about - 3..=about + 3));

    let wal = events.iter().find_map(|event| {
        if let Act::Send { message, .. } = &event.act
            && let MessageFields::XLogData { start, end, .. } = message
        {
            return Some(*start..*end);
        }
        None
    });
    let wal = wal.expect("WAL is sent");
    let about = chosen(&Filter {
        lsn: Some(wal.clone()),
        ..all
    });
    let kinds: BTreeSet<&str> = about.iter().map(|event| event.act.kind()).collect();
    assert!(
        kinds.is_superset(&["disk", "send", "receive", "position"].into()),
        "{kinds:?}"
    );
}

/// Each decision has its numbers, and the name of its kind is the one in JSON.
#[test]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "events of other kinds are no decisions"
)]
fn decisions_are_events() {
    let (_, events) = recorded(SEED, Mono(u64::MAX));
    let mut delaying = BTreeSet::new();
    let (mut cleared, mut failed) = (0, 0);
    for event in &events {
        let json = serde_json::to_value(event).expect("an event is JSON");
        assert_eq!(json["kind"], event.act.kind(), "{event}");
        match &event.act {
            Act::Horizon { keep, redo, .. } => {
                assert!(keep <= redo && keep.is_valid(), "{event}");
            }
            Act::SlotMinimum { to, held_by, .. } => {
                assert!(to.is_valid() || held_by.is_empty(), "{event}");
            }
            Act::Slot { from, to, .. } => assert_ne!(from, to, "{event}"),
            Act::Flag { flag, of, set } if *flag == "DELAY_CHKPT_START" => {
                let key = (event.node.clone(), of.clone());
                if *set {
                    assert!(delaying.insert(key), "set twice: {event}");
                } else {
                    cleared += u64::from(delaying.remove(&key));
                }
            }
            Act::Transaction { .. } if event.process.is_some_and(|it| it.role == Role::Backend) => {
                let pid = event.process.map(|process| process.pid.to_string());
                let key = (event.node.clone(), pid.unwrap_or_default());
                let aborts = event.act.to_string().ends_with("aborted");
                assert!(aborts || delaying.contains(&key), "{event}");
            }
            Act::Record { start } => {
                failed += 1;
                assert!(start.is_valid(), "{event}");
            }
            _ => {}
        }
    }
    assert!(cleared > 10 && failed > 0, "{cleared} {failed}");
}

/// docs/trace.md must have a row for every kind of event, and a run must contain each kind.
#[test]
fn every_kind_is_described_and_occurs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/trace.md");
    let text = std::fs::read_to_string(path).expect("the page exists");
    let (_, events) = recorded(SEED, Mono(u64::MAX));
    let occur: BTreeSet<&str> = events.iter().map(|event| event.act.kind()).collect();
    for kind in KINDS {
        assert!(
            text.contains(&format!("\n| `{kind}` | ")),
            "{kind} is not described"
        );
        assert!(occur.contains(kind), "{kind} does not occur");
    }
    assert_eq!(occur.len(), KINDS.len());
}
