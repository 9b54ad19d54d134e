//! Plan files. Every plan is the same after it has been written to a file and read back. Every
//! misspelled word is refused, and the error says where in the file the word is.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use walsim::choice::KINDS;
use walsim::plan::{
    Counts, Expect, Origin, PassDone, Plan, PlanError, Profile, SCHEMA, Scenario, When, generate,
    show_us,
};
use walsim::world::{Excuse, Verdict, run_at_most};
use walsim_core::base::{Bug, Mark, Planted};
use walsim_core::call::Place;

/// How many cases are tried. The cases are drawn with a fixed seed unless `PROPTEST_RNG_SEED` is
/// set.
fn cases(cases: u32) -> Config {
    let mut config = Config::with_cases(cases);
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(0x5745_4C53);
    }
    config.failure_persistence = None;
    config
}

/// An origin of any content.
fn origin(seed: u64, changes: usize) -> Origin {
    let left = Counts {
        nodes: changes,
        workload: 0,
        faults: 7,
        actions: 2 * changes,
    };
    Origin {
        seed,
        replay: String::from("walsim replay 'my \"plan\".toml' --set seed=7"),
        audited: changes == 2,
        was: left,
        tries: 1 + (seed >> 2),
        passes: vec![PassDone {
            name: String::from("the end"),
            changes: 3,
            left,
        }],
    }
}

/// A generated plan with changes that a user or the shrinker could make.
fn edited() -> impl Strategy<Value = Scenario> {
    let profile = prop::sample::select(Profile::ALL.to_vec());
    let text = "[ -~äµ\\n\\t\"'\\\\]{0,40}";
    let kind = prop::sample::select(&KINDS[..]);
    let pin = (kind, "(/[a-z.>/0-9]{1,12})?").prop_map(|(kind, rest)| format!("{kind}{rest}"));
    let pins = prop::collection::btree_map(pin, any::<u64>(), 0..3);
    let numbers = any::<(u64, u64, i64, i32, bool)>();
    let expect = prop::option::of((prop::sample::select(Bug::ALL), 1..4usize));
    let marks = prop::collection::vec(prop::sample::select(Mark::ALL), 0..3);
    (profile, any::<u64>(), text, pins, numbers, expect, marks).prop_map(
        |(profile, seed, about, pins, (at, node, offset, drift, delays), expect, marks)| {
            let mut plan = generate(profile, seed);
            plan.about = about;
            plan.pins = pins;
            plan.step_delays = delays;
            plan.active_us = at >> 20;
            let count = u64::try_from(plan.nodes.len()).expect("a few");
            let node = usize::try_from(node % count).expect("a few");
            plan.nodes[node].clock_offset_us = offset >> 8;
            plan.nodes[node].clock_drift_ppm = drift;
            plan.nodes[node].disk_capacity = at >> 8;
            plan.nodes[node].settings.hot_standby = delays;
            plan.nodes[node].settings.wal_sender_timeout_ms = drift.unsigned_abs();
            plan.workload[0].when = When::At(at >> 10);
            let all = walsim::invariants::invariants();
            let (bug, codes) = expect.map_or((None, 0), |(bug, codes)| (Some(bug), codes));
            let invariants = all.iter().take(codes).map(|i| i.code).collect();
            Scenario {
                plan,
                expect: Expect {
                    bug,
                    invariants,
                    marks,
                    excuses: Excuse::ALL.into_iter().take(codes).collect(),
                },
                origin: (codes > 0).then(|| origin(at, codes)),
            }
        },
    )
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn what_is_written_reads_back(scenario in edited()) {
        let text = scenario.to_toml();
        let read = Scenario::parse(&text, "other");
        prop_assert_eq!(read, Ok(scenario), "{}", text);
    }

    /// If a letter is removed, doubled or changed, either the file is still valid, or the error
    /// points to a place inside the text.
    #[test]
    fn a_damaged_file_never_panics(seed in any::<u64>(), place in any::<u64>(), letter in "[ -~]?") {
        let mut text = Scenario::from(generate(Profile::Default, seed)).to_toml();
        let len = u64::try_from(text.len()).expect("a short text");
        let place = usize::try_from(place % len).expect("a short text");
        text.replace_range(place..=place, &letter);
        if let Err(error) = Scenario::parse(&text, "damaged") {
            prop_assert!(error.span.start <= error.span.end && error.span.end <= text.len());
        }
    }
}

const PLAY: &str = r#"# A standby that is cut off catches up.
schema = 2
about = "a cut"
seed = "0x7"
version = 15
geometry = "tiny"

[settings]
wal_receiver_timeout = "2s"

[[node]]
name = "primary"

[[node]]
name = "standby1"
upstream = "primary"
[node.settings]
shared_buffers = 8

[[workload]]
transactions = 20
bytes = "100B"

[[action]]
at = "2s"
sql = { node = "primary", run = "CHECKPOINT" }

[[fault]]
at = "1.5s"
partition = { from = "primary", to = "standby1", for = "700ms" }

[[fault]]
when = { node = "standby1", event = "wal-received", nth = 3 }
power_loss = { node = "standby1" }

[expect]
bug = "rename-not-durable"
invariant = "RECOVER"
marks = ["commit-acked"]
"#;

/// A file of schema 1 has sizes in bytes, and other names of units.
#[test]
fn a_file_of_schema_1_is_refused_with_the_lines_to_change() {
    let old = PLAY.replacen("schema = 2", "schema = 1", 1);
    let refused = Scenario::parse(&old, "old").expect_err("an old file");
    assert_eq!(&old[refused.span], "1");
    let help = refused.help.expect("what to write");
    assert!(help.contains("write `schema = 2`; nothing else"), "{help}");

    let sizes = "[settings]\nmax_wal_size = 65536\nmin_wal_size = \"32KiB\"\nwal_keep_size = 0\n";
    let old = old.replacen("[settings]\n", sizes, 1);
    let old = old.replacen(
        "sql = { node = \"primary\", run = \"CHECKPOINT\" }",
        "reload = { node = \"primary\", settings = { max_slot_wal_keep_size = \"1MiB\" } }",
        1,
    );
    let refused = Scenario::parse(&old, "old").expect_err("an old file");
    assert_eq!(&old[refused.span], "65536");
    let help = refused.help.expect("what to write");
    let expected = "settings now have PostgreSQL's units; write `schema = 2` in line 2, and\n\
                    line 9: max_wal_size = \"64kB\"\n\
                    line 10: min_wal_size = \"32kB\"\n\
                    line 29: max_slot_wal_keep_size = \"1MB\"";
    assert_eq!(help, expected);
}

#[test]
fn a_play_means_what_it_says() {
    let Scenario { plan, expect, .. } = Scenario::parse(PLAY, "play").expect("a good file");
    assert_eq!(
        (plan.seed, plan.name.as_str(), plan.about.as_str()),
        (7, "play", "a cut")
    );
    assert_eq!(plan.nodes[0].settings.wal_receiver_timeout_ms, 2000);
    assert_eq!(plan.nodes[1].settings.wal_receiver_timeout_ms, 2000);
    assert_eq!(plan.nodes[1].settings.shared_buffers, 8);
    assert_eq!(
        plan.nodes[1].settings.primary_conninfo,
        Some(("primary".into(), 5432))
    );
    assert_eq!(plan.nodes[1].settings.cluster_name, "standby1");
    assert_eq!(plan.workload[0].bytes, 100);
    assert_eq!(plan.faults[0].when, When::At(1_500_000));
    assert_eq!(plan.faults.len(), 2);
    assert_eq!(expect.bug, Some(Bug::RenameNotDurable));
    assert_eq!(expect.invariants, ["RECOVER"]);
}

/// Replaces one word of the scenario. Returns the error and the text at the error's place.
fn with(from: &str, to: &str) -> (PlanError, String) {
    let text = PLAY.replacen(from, to, 1);
    assert_ne!(text, PLAY, "{from} is not in the play");
    let error = Scenario::parse(&text, "play").expect_err(to);
    let word = text[error.span.clone()].to_owned();
    (error, word)
}

#[test]
fn a_misspelt_word_gets_a_caret_and_a_guess() {
    for (from, to, word, help) in [
        (
            "upstream =",
            "upstraem =",
            "upstraem",
            "did you mean `upstream`?",
        ),
        (
            "transactions =",
            "transaction =",
            "transaction",
            "did you mean `transactions`?",
        ),
        (
            "partition =",
            "partitoin =",
            "partitoin",
            "did you mean `partition`?",
        ),
        ("from = ", "form = ", "form", "did you mean `from`?"),
        (
            "to = \"standby1\"",
            "to = \"stanby1\"",
            "\"stanby1\"",
            "did you mean `standby1`?",
        ),
        (
            "\"1.5s\"",
            "\"1.5sec\"",
            "\"1.5sec\"",
            "did you mean the unit `s`?",
        ),
        ("\"700ms\"", "700", "700", "write \"3.2s\""),
        (
            "\"100B\"",
            "\"100KB\"",
            "\"100KB\"",
            "did you mean the unit `kB`?",
        ),
        (
            "rename-not-durable",
            "rename-not-durabel",
            "\"rename-not-durabel\"",
            "`rename-not-durable`?",
        ),
        (
            "\"RECOVER\"",
            "\"RECOVR\"",
            "\"RECOVR\"",
            "did you mean `RECOVER`?",
        ),
        (
            "\"commit-acked\"",
            "\"commit-acket\"",
            "\"commit-acket\"",
            "did you mean `commit-acked`?",
        ),
        (
            "\"wal-received\"",
            "\"wal-recieved\"",
            "\"wal-recieved\"",
            "did you mean `wal-received`?",
        ),
        (
            "shared_buffers",
            "shared_bufers",
            "shared_bufers",
            "did you mean `shared_buffers`?",
        ),
        ("\"tiny\"", "\"tini\"", "\"tini\"", "did you mean `tiny`?"),
        ("version = 15", "version = 14", "14", "from 15 to 19"),
        ("schema = 2", "schema = 3", "3", "newer walsim"),
        ("schema = 2", "", "", "write `schema = 2`"),
        (
            "shared_buffers = 8",
            "shared_buffers = 2",
            "2",
            "takes 4 to 1048576 data pages",
        ),
        ("\"100B\"", "\"2KiB\"", "\"2KiB\"", "bytes fit"),
        (
            "power_loss = {",
            "kill = { process = \"walreciever\",",
            "\"walreciever\"",
            "did you mean `walreceiver`?",
        ),
        (
            "power_loss = {",
            "stall = { at = \"issue_xlog_fysnc\", for = \"1s\",",
            "\"issue_xlog_fysnc\"",
            "did you mean `issue_xlog_fsync`?",
        ),
        (
            "power_loss = {",
            "stall = { at = \"somewhere\", for = \"1s\",",
            "\"somewhere\"",
            "known: RelationGetBufferForTuple, ",
        ),
        ("\"CHECKPOINT\"", "\"CHECKPINT\"", "\"CHECKPINT\"", ""),
        (
            "\"CHECKPOINT\"",
            "\"COMMIT\"",
            "\"COMMIT\"",
            "`[[workload]]`",
        ),
        (
            "power_loss = {",
            "kill = { process = \"postmaster\",",
            "\"postmaster\"",
            "`node_crash` kills all",
        ),
    ] {
        let (error, found) = with(from, to);
        assert_eq!(found, word, "{error}");
        let hint = error.help.clone().unwrap_or_default();
        assert!(hint.contains(help), "{error}: {hint}");
    }
}

#[test]
fn a_row_has_one_time_and_one_kind() {
    for (from, to, message) in [
        ("at = \"1.5s\"\n", "", "neither `at` nor `when`"),
        (
            "sql = { node = \"primary\", run = \"CHECKPOINT\" }",
            "",
            "the action has no kind",
        ),
        (
            "sql =",
            "reload = { settings = {} }\nsql =",
            "two kinds of action",
        ),
        (
            "nth = 3 }",
            "nth = 3 }\nat = \"1s\"",
            "either `at` or `when`",
        ),
        (
            "sql = { node = \"primary\", run = \"CHECKPOINT\" }",
            "reload = { settings = { max_connections = 7 } }",
            "takes effect only at server start",
        ),
        (
            "sql = { node = \"primary\", run = \"CHECKPOINT\" }",
            "reload = { settings = { wal_keep_size = \"much\" } }",
            "much",
        ),
        ("invariant = \"RECOVER\"", "", "`bug` requires"),
        (
            "to = \"standby1\"",
            "to = \"primary\"",
            "two different nodes",
        ),
        ("name = \"standby1\"", "name = \"primary\"", "two nodes"),
        ("transactions = 20\n", "", "`transactions` is missing"),
    ] {
        let (error, _) = with(from, to);
        assert!(error.message.contains(message), "{error}");
    }
}

/// The plan file of a seed, as an example. People must be able to read such a file.
#[test]
fn a_generated_plan_is_readable() {
    let plan: Plan = generate(Profile::Default, 1);
    let text = Scenario::from(plan.clone()).to_toml();
    assert!(text.starts_with("# default\nschema = 2\n"), "{text}");
    assert!(
        text.contains(&format!("active = \"{}\"", show_us(plan.active_us))),
        "{text}"
    );
    assert!(
        text.contains("[[node]]\nname = \"standby1\"\nupstream = \"primary\"\n"),
        "{text}"
    );
}

/// Every place at which a plan can stall a process must occur in the code. A stall at any other
/// place would have no effect.
#[test]
fn some_process_stands_at_each_place() {
    let mut sources = String::new();
    let mut dirs = vec![PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../core/src"
    ))];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if !path.ends_with("call/place.rs") {
                sources += &fs::read_to_string(path).expect("a source file");
            }
        }
    }
    let words: BTreeSet<&str> = sources
        .split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
        .collect();
    for place in Place::ALL {
        let used = format!("Place::{place:?}");
        assert!(words.contains(used.as_str()), "{used} is not used");
    }
}

/// The example in the documentation of the format can be read.
#[test]
fn the_documented_plan_is_a_plan() {
    let page = include_str!("../docs/plans.md");
    let (_, from) = page.split_once("```toml\n").expect("an example");
    let (example, _) = from.split_once("```").expect("its end");
    let Scenario { plan, expect, .. } =
        Scenario::parse(example, "documented").expect("a good file");
    assert_eq!(
        (plan.nodes.len(), plan.faults.len(), plan.pins.len()),
        (2, 1, 1)
    );
    assert_eq!(expect.marks, [Mark::PowerLossLostBytes]);
}

/// docs/coverage.md names only scenarios and tests that exist.
#[test]
fn covered_tests_exist() {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let page = include_str!("../docs/coverage.md");
    let mut named = 0;
    for word in page.split('`').skip(1).step_by(2) {
        if let Some((file, function)) = word.split_once("::") {
            let source =
                fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert!(
                source.contains(&format!("fn {function}(")),
                "{word} does not exist"
            );
            named += 1;
        } else if word.starts_with("scenarios/") {
            assert!(root.join(word).is_file(), "{word} does not exist");
            named += 1;
        }
    }
    assert!(named > 50, "only {named} names were found");
}

/// Very large times in a plan must not cause a panic, although the run may be useless.
#[test]
fn times_without_measure_stop_no_run() {
    let most = "18446744073709551615us";
    let back = "-9223372036854775807us";
    let head = format!("schema = {SCHEMA}\nactive = \"{most}\"\n");
    let slow = |table: &str, names: &[&str]| {
        let rows = names.iter().map(|name| format!("{name} = \"{most}\"\n"));
        format!("[{table}]\n{}", rows.collect::<String>())
    };
    let clock = format!("clock_offset = \"{back}\"\nclock_drift_ppm = -2147483648\n");
    let nodes = format!("[[node]]\nname = \"a\"\n{clock}[[node]]\nname = \"b\"\n");
    let fault = |text: &str| format!("[[fault]]\nat = \"1ms\"\n{text}\n");
    let faults = [
        fault(&format!("clock_jump = {{ node = \"a\", by = \"{back}\" }}")),
        fault(&format!(
            "delay = {{ from = \"a\", to = \"b\", by = \"{most}\", for = \"{most}\" }}"
        )),
        fault(&format!("pause = {{ node = \"b\", for = \"{most}\" }}")),
    ]
    .concat();
    let off = fault(&format!(
        "power_loss = {{ node = \"b\", off = \"{most}\" }}"
    ));
    let disks = slow("disks", &["latency", "jitter", "fsync"]);
    let network = slow("network", &["latency", "jitter"]);
    let quick = "active = \"2s\"\n";
    let fixed = head.replace(&format!("active = \"{most}\"\n"), quick);
    for text in [
        [&head, &network, &disks, &nodes, &faults, &off]
            .map(String::as_str)
            .concat(),
        [&fixed, &nodes, &faults].map(String::as_str).concat(),
        [&fixed, &network, &nodes].map(String::as_str).concat(),
        [&fixed, &disks, &nodes].map(String::as_str).concat(),
    ] {
        let plan = Scenario::parse(&text, "test").expect("it is a plan").plan;
        let outcome = run_at_most(&plan, Planted::NONE, false, 20_000);
        let verdict = outcome.map(|outcome| outcome.verdict);
        assert!(
            !matches!(verdict, Ok(Verdict::Panic { .. })),
            "{verdict:?}\n{text}"
        );
    }
}
