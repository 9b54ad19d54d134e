//! Exports of a trace contain the events of the run, in the formats that their readers accept.
//!
//! Without the Python package `perfetto`, the test that uses it is skipped, or fails if
//! `WALSIM_REQUIRE_PERFETTO` is set. `WALSIM_PYTHON` can name the interpreter, such as that of a
//! virtual environment.

mod command;

use command::{folder, last_line, stderr, stdout, walsim};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use walsim::export::{Flows, LINES, mermaid, perfetto};
use walsim::plan::{Profile, generate};
use walsim::trace::{Act, Filter, Level, TraceEvent};
use walsim::world::RecordedRun;
use walsim_core::base::{Mono, Planted};

/// A seed with a power loss, a crash and broken connections.
const SEED: u64 = 9;

fn events(until: Mono) -> Vec<TraceEvent> {
    let plan = generate(Profile::Default, SEED);
    let run = RecordedRun::new(&plan, Planted::NONE);
    run.take_while(|event| event.at <= until).collect()
}

/// What an export for Perfetto must contain.
#[derive(PartialEq, Eq, Default, Debug)]
struct Counts {
    slices: u64,
    slice_ns: u64,
    instants: u64,
    flows: u64,
    counters: u64,
    counter_sum: u64,
}

impl Counts {
    fn of_events(events: &[TraceEvent]) -> Self {
        let filter = Filter::level(Level::Events);
        let mut counts = Self {
            flows: Flows::of(events).len() as u64,
            ..Self::default()
        };
        for event in events.iter().filter(|event| filter.admits(event)) {
            if let Act::Disk {
                takes_us: Some(us), ..
            } = &event.act
            {
                counts.slices += 1;
                counts.slice_ns += us * 1000;
            } else if let Act::Position { to, .. } = &event.act {
                counts.counters += 1;
                counts.counter_sum += to.0;
            } else {
                counts.instants += u64::from(event.act.kind() != "disk-done");
            }
        }
        counts
    }

    /// Counts the events of an export. The reader of the wire format shares no code with the
    /// encoder.
    fn of_bytes(bytes: &[u8]) -> Self {
        let mut counts = Self::default();
        let mut ended = 0;
        for packet in fields(bytes) {
            assert_eq!(packet.number, 1);
            let packet = fields(packet.bytes);
            let at = packet.iter().find(|field| field.number == 8);
            let Some(event) = packet.iter().find(|field| field.number == 11) else {
                continue;
            };
            let at = at.expect("an event has a time").value;
            let event = fields(event.bytes);
            let value = |number| event.iter().find(|field| field.number == number);
            match value(9).expect("an event has a type").value {
                1 => counts.slice_ns = counts.slice_ns.wrapping_sub(at),
                2 => {
                    counts.slices += 1;
                    counts.slice_ns = counts.slice_ns.wrapping_add(at);
                }
                3 => counts.instants += 1,
                4 => {
                    counts.counters += 1;
                    counts.counter_sum += value(30).expect("a counter has a value").value;
                }
                other => panic!("unexpected type {other}"),
            }
            counts.flows += u64::from(value(47).is_some());
            ended += u64::from(value(48).is_some());
        }
        assert_eq!(counts.flows, ended, "each flow has both ends");
        counts
    }
}

/// A field of a protobuf message: a number, or bytes.
struct Field<'a> {
    number: u64,
    value: u64,
    bytes: &'a [u8],
}

fn fields(mut bytes: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let mut field = Field {
            number: tag >> 3,
            value: 0,
            bytes: &[],
        };
        match tag & 7 {
            0 => field.value = varint(&mut bytes),
            1 => {
                let (value, rest) = bytes.split_at(8);
                field.value = u64::from_le_bytes(value.try_into().expect("8 bytes"));
                bytes = rest;
            }
            2 => {
                let len = usize::try_from(varint(&mut bytes)).expect("a length");
                (field.bytes, bytes) = bytes.split_at(len);
            }
            other => panic!("unexpected wire type {other}"),
        }
        fields.push(field);
    }
    fields
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().expect("a varint ends");
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return value;
        }
    }
    panic!("a varint has at most 10 bytes");
}

#[test]
fn perfetto_has_the_slices_flows_and_counters_of_the_run() {
    let events = events(Mono(u64::MAX));
    let bytes = perfetto(&events, &Filter::level(Level::Events));
    let mut expected = Counts::of_events(&events);
    let mut found = Counts::of_bytes(&bytes);
    assert!(expected.flows > 100 && expected.slices > 100 && expected.counters > 100);
    // An operation of a stopped machine may end earlier or later than announced.
    let (announced, drawn) = (expected.slice_ns, found.slice_ns);
    assert!(
        drawn.abs_diff(announced) < announced / 100,
        "{drawn} {announced}"
    );
    (expected.slice_ns, found.slice_ns) = (0, 0);
    assert_eq!(found, expected);
}

/// Each receipt of a message is connected to the event that sent the message, except for messages
/// of client sessions.
#[test]
fn flows_connect_the_ends_of_messages() {
    let events = events(Mono(u64::MAX));
    let flows = Flows::of(&events);
    let (mut received, mut found) = (0, 0);
    for event in &events {
        let Act::Receive { peer, message, .. } = &event.act else {
            continue;
        };
        // The trace does not contain what client sessions send.
        if peer.starts_with("session") || peer == "operator" {
            continue;
        }
        received += 1;
        let Some(send) = flows.send(event.number) else {
            continue;
        };
        found += 1;
        let at = events.binary_search_by_key(&send, |event| event.number);
        let sent = &events[at.expect("the event exists")];
        assert!(sent.at <= event.at && &sent.node == peer, "{sent}\n{event}");
        assert!(
            matches!(&sent.act, Act::Send { message: it, .. } if it == message),
            "{sent}\n{event}"
        );
        assert_eq!(flows.receipt(send), Some(event.number));
    }
    assert!(received > 100);
    assert_eq!(found, received, "each receipt has its send");
}

/// The Python package reads the same counts as we do.
#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "which tests run is no part of a simulated run"
)]
fn perfettos_own_classes_read_the_export() {
    let python = std::env::var_os("WALSIM_PYTHON").unwrap_or_else(|| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../ci/perfetto-counts");
    let there = Command::new(&python).arg(script).output();
    if there.is_ok_and(|output| output.status.success()) {
        let path = folder().join("run.pftrace");
        let path = path.to_str().expect("a path of ours");
        let made = walsim(&[
            "trace", "export", "9", "--format", "perfetto", "--out", path,
        ]);
        assert!(made.status.success(), "{}", stderr(&made));
        let output = Command::new(&python).args([script, path]).output();
        let output = output.expect("python starts");
        assert!(output.status.success(), "{}", stderr(&output));
        let counts: Value = serde_json::from_str(&stdout(&output)).expect("the counts");
        let ours = Counts::of_bytes(&std::fs::read(path).expect("the export"));
        for (name, value) in [
            ("slices", ours.slices),
            ("slice_ns", ours.slice_ns),
            ("instants", ours.instants),
            ("flows", ours.flows),
            ("counters", ours.counters),
            ("counter_sum", ours.counter_sum),
        ] {
            assert_eq!(counts[name], value, "{name}");
        }
        return;
    }
    assert!(
        std::env::var_os("WALSIM_REQUIRE_PERFETTO").is_none(),
        "the Python package perfetto is missing; pip install perfetto, or set WALSIM_PYTHON"
    );
    println!("skipped: the Python package perfetto is missing");
}

/// Checks a line against the grammar of Mermaid's sequence diagrams, as far as exports use it.
fn check_line(line: &str, participants: &mut BTreeSet<String>) {
    let line = line.trim_start();
    let checked = |text: &str| {
        assert!(!text.is_empty(), "{line}");
        for part in text.replace("<br/>", "").split('#').skip(1) {
            let code = part.split_once(';').map(|(code, _)| code.parse::<u32>());
            assert!(matches!(code, Some(Ok(_))), "not a character code: {line}");
        }
        let mut plain = text.replace("<br/>", "");
        while let Some((start, (_, end))) = plain
            .split_once('#')
            .map(|(a, b)| (a.to_owned(), b.split_once(';').expect("a code")))
        {
            plain = start + end;
        }
        assert!(!plain.contains([';', '#', '<', '>', '%', '&']), "{line}");
    };
    if line == "end" {
        return;
    }
    if let Some(name) = line.strip_prefix("box transparent ") {
        return checked(name);
    }
    if let Some((id, name)) = line
        .strip_prefix("participant ")
        .and_then(|it| it.split_once(" as "))
    {
        assert!(participants.insert(id.to_owned()), "{line}");
        return checked(name);
    }
    let (ends, text) = line
        .split_once(": ")
        .unwrap_or_else(|| panic!("no colon: {line}"));
    checked(text);
    let ids: Vec<&str> = match ends.strip_prefix("Note over ") {
        Some(ids) => ids.split(',').collect(),
        None => {
            let (from, to) = ends
                .split_once("->>")
                .or_else(|| ends.split_once("-x"))
                .expect(line);
            vec![from, to]
        }
    };
    assert!(ids.len() <= 2, "{line}");
    for id in ids {
        assert!(participants.contains(id), "unknown participant: {line}");
    }
}

fn check_diagram(text: &str) {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("sequenceDiagram"));
    assert!(text.lines().count() <= LINES, "{text}");
    let mut participants = BTreeSet::new();
    lines.for_each(|line| check_line(line, &mut participants));
}

#[test]
fn a_diagram_is_short_and_says_what_is_left_out() {
    let events = events(Mono(u64::MAX));
    for level in [Level::Story, Level::Events, Level::Steps] {
        let text = mermaid(&events, &Filter::level(level), &BTreeSet::new());
        check_diagram(&text);
        assert!(text.contains("not shown: "), "{text}");
    }
    let nothing = Filter {
        nodes: vec![String::from("absent")],
        ..Filter::level(Level::Events)
    };
    check_diagram(&mermaid(&events, &nothing, &BTreeSet::new()));
}

/// A diagram of a failing plan shows its messages, fault and violation.
#[test]
fn a_diagram_of_a_failure_fits_into_an_issue() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let plan = root.join("scenarios/flushed-is-what-was-fsynced.toml");
    let plan = plan.to_str().expect("a path of ours");
    let text = std::fs::read_to_string(plan).expect("the scenario exists");
    let bug = text.lines().find_map(|line| line.strip_prefix("bug = "));
    let bug = bug.expect("it catches a bug").trim_matches('"');
    let output = walsim(&["trace", "export", plan, "--bug", bug, "--format", "mermaid"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    check_diagram(&text);
    for part in [
        " violated: ",
        "XLogData",
        "fsync pg_wal/",
        "box transparent primary",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

/// `jsonl` has the same events as `replay`, without the result of the run.
#[test]
fn jsonl_has_the_events_of_replay() {
    let filter = ["--until", "2s", "--node", "standby1", "--kind", "disk"];
    let export = ["trace", "export", "9", "--format", "jsonl"];
    let exported = stdout(&walsim(&[&export[..], &filter].concat()));
    let replay = ["replay", "9", "--format", "json", "--trace=events"];
    let replayed = walsim(&[&replay[..], &filter].concat());
    assert_eq!(last_line(&replayed)["kind"], "run");
    let replayed = stdout(&replayed);
    assert!(exported.lines().count() > 10);
    let events = replayed
        .lines()
        .filter(|line| line.starts_with("{\"event\":"));
    assert!(exported.lines().eq(events), "{exported}\n{replayed}");
}

/// docs/trace.md describes the formats that the command has.
#[test]
fn every_format_is_described() {
    let help = stdout(&walsim(&["trace", "export", "--help"]));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/trace.md");
    let text = std::fs::read_to_string(path).expect("the page exists");
    let formats = help
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- "));
    let formats: Vec<&str> = formats
        .filter_map(|it| Some(it.split_once(':')?.0))
        .collect();
    assert!(formats.contains(&"mermaid"), "{help}");
    // The values of `--trace` have no descriptions in the help.
    for format in formats {
        assert!(text.contains(&format!("\n| `{format}` | ")), "{format}");
    }
    assert!(text.contains(&format!("at most {LINES} lines")));
}
