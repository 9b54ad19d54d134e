//! Tests of the command line: help, errors, exit statuses, and the fields of its JSON output.

mod command;

use command::{folder, last_line, stderr, stdout, walsim};
use std::process::Output;

macro_rules! assert_help {
    ($name:literal, $($arg:literal),*) => {{
        let output = walsim(&[$($arg,)* "--help"]);
        assert_eq!(output.status.code(), Some(0));
        insta::assert_snapshot!($name, stdout(&output));
    }};
}

#[test]
fn help_says_what_there_is() {
    assert_help!("help",);
    assert_help!("help_fuzz", "fuzz");
    assert_help!("help_replay", "replay");
    assert_help!("help_trace_diff", "trace", "diff");
    assert_help!("help_trace_export", "trace", "export");
    assert_help!("help_shrink", "shrink");
    assert_help!("help_scenarios", "scenarios");
    assert_help!("help_bugs_hunt", "bugs", "hunt");
    assert_help!("help_bench", "bench");
    assert_help!("help_doctor", "doctor");
}

#[test]
fn lists() {
    insta::assert_snapshot!("bugs_list", stdout(&walsim(&["bugs", "list"])));
    insta::assert_snapshot!("invariants_list", stdout(&walsim(&["invariants", "list"])));
    insta::assert_snapshot!(
        "invariants_show",
        stdout(&walsim(&["invariants", "show", "prefix"]))
    );
}

const PLAY: &str = r#"# A play for the tests of refusals.
schema = 2
about = "A standby that is cut off catches up."

[[node]]
name = "primary"

[[node]]
name = "standby1"
upstream = "primary"

[[workload]]
transactions = 3

[[fault]]
at = "1.5s"
partition = { from = "primary", to = "standby1", for = "700ms" }

[expect]
bug = "rename-not-durable"
invariant = "RECOVER"
"#;

/// The error for the scenario if one word of it is replaced.
fn refusal(name: &str, from: &str, to: &str) -> String {
    let path = format!("{name}.toml");
    let text = PLAY.replacen(from, to, 1);
    assert_ne!(text, PLAY, "{from} is not in the play");
    std::fs::write(folder().join(&path), text).expect("our own folder");
    let output = walsim(&["replay", &path]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    stderr(&output)
}

#[test]
fn a_misspelt_word_is_refused_with_a_caret() {
    insta::assert_snapshot!("refused_key", refusal("key", "transactions", "transaction"));
    insta::assert_snapshot!(
        "refused_node",
        refusal("node", "\"standby1\", for", "\"stanby1\", for")
    );
    insta::assert_snapshot!("refused_unit", refusal("unit", "1.5s", "1.5sec"));
    insta::assert_snapshot!("refused_bug", refusal("bug", "-durable", "-durabel"));
    insta::assert_snapshot!("refused_check", refusal("check", "RECOVER", "RECOVR"));
    insta::assert_snapshot!(
        "refused_schema",
        refusal("schema", "schema = 2", "schema = 7")
    );
}

#[test]
fn wrong_usage_is_status_2_with_a_guess() {
    for (args, expected) in [
        (&["fuzz", "--frobnicate"][..], "--frobnicate"),
        (&["fuzz", "--seeds", "5..5"], "the range is empty"),
        (
            &["fuzz", "--seeds", "0..3", "--count", "2"],
            "cannot be used with",
        ),
        (&["fuzz", "--profile", "defualt"], "did you mean `default`?"),
        (&["fuzz", "--budget", "60"], "write \"3.2s\""),
        (&["fuzz", "--budget", "0s"], "must be longer than 0"),
        (&["fuzz", "--count", "0"], "must be at least 1"),
        (&["bugs", "hunt", "--budget", "0s"], "must be longer than 0"),
        (
            &["fuzz", "--set", "max_wal_senders=0"],
            "primary runs at most 0 walsenders",
        ),
        (&["fuzz", "--set", "geometry=tny"], "did you mean `tiny`?"),
        (
            &["fuzz", "--set", "wal_bufers=8"],
            "did you mean `wal_buffers`?",
        ),
        (
            &["fuzz", "--bug", "rename-not-durabel"],
            "did you mean `rename-not-durable`?",
        ),
        (
            &["replay", "no-such-file.toml"],
            "cannot read no-such-file.toml",
        ),
        (
            &["scenarios", "run", "no-such-play"],
            "there is no scenario `no-such-play`",
        ),
        (&["invariants", "show", "SENT"], "did you mean `SEND`?"),
        (&["bugs", "hunt", "nothing"], "rename-not-durable"),
        (
            &["bugs", "hunt", "--set", "pg_version"],
            "write KEY=VALUE, such as geometry=stock",
        ),
        (
            &["bugs", "hunt", "--set", "pg_version=14"],
            "version 14 is not modeled",
        ),
        (
            &["bugs", "hunt", "--set", "max_wal_senders=0"],
            "primary runs at most 0 walsenders",
        ),
    ] {
        let output = walsim(args);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?}: {}",
            stderr(&output)
        );
        let text = stderr(&output).replace("\n  │ ", " ");
        assert!(text.contains(expected), "{args:?}: {text}");
    }
}

/// The names of JSON fields must not change, because other programs rely on them.
#[test]
fn json_has_its_names() {
    let output = walsim(&[
        "fuzz",
        "--count",
        "2",
        "--format",
        "json",
        "--check-determinism",
        "100",
    ]);
    let text = stdout(&output);
    let last = text.lines().last().unwrap_or_default();
    assert_names(
        last,
        &[
            "kind",
            "seeds",
            "seed_range",
            "failures",
            "steps",
            "sim_s",
            "cpu_s",
            "steps_per_cpu_s",
            "seeds_per_cpu_s",
            "commits",
            "double_checked",
            "nondeterministic",
            "marks",
            "missed_marks",
            "excuses",
            "excessive_excuses",
            "hash",
        ],
    );
    let output = walsim(&["replay", "3", "--until", "2s", "--format", "json"]);
    let names = [
        "kind",
        "seed",
        "verdict",
        "invariant",
        "steps",
        "sim_s",
        "hash",
        "faults",
        "faults_struck",
        "idle_pins",
        "marks",
    ];
    assert_names(stdout(&output).trim_end(), &names);
}

fn assert_names(line: &str, names: &[&str]) {
    let value: serde_json::Value = serde_json::from_str(line).expect(line);
    let object = value.as_object().expect("an object");
    let mut found: Vec<_> = object.keys().map(String::as_str).collect();
    let mut names = names.to_vec();
    found.sort_unstable();
    names.sort_unstable();
    assert_eq!(found, names);
}

/// The hash covers all seeds in their order, and does not depend on the number of workers.
#[test]
fn workers_do_not_matter() {
    let hash = |jobs| {
        let output = walsim(&["fuzz", "--count", "12", "--jobs", jobs, "--format", "json"]);
        let text = stdout(&output);
        let last = text.lines().last().unwrap_or_default();
        let summary: serde_json::Value = serde_json::from_str(last).expect("a summary");
        summary["hash"].as_str().expect("a hash").to_owned()
    };
    assert_eq!(hash("1"), hash("2"));
}

/// A dump contains a data directory and a list of records for every node. It does not overwrite an
/// earlier dump.
#[test]
fn a_dump_is_a_data_directory_per_node() {
    let dump = folder().join("dump");
    let _ = std::fs::remove_dir_all(&dump);
    let args = [
        "replay", "5", "--until", "3s", "--dump", "dump", "--format", "json",
    ];
    let output = walsim(&args);
    let line: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("a line of JSON");
    let nodes = line["nodes"].as_array().expect("a list of nodes");
    assert!(nodes.len() >= 2, "{line}");
    for node in nodes {
        let dir = folder().join(node["dir"].as_str().expect("a path"));
        for file in ["PG_VERSION", "global/pg_control", "records.txt"] {
            assert!(dir.join(file).is_file(), "{file} of {node}");
        }
        let records = std::fs::read_to_string(dir.join("records.txt")).expect("just seen");
        let first = records.lines().next().expect("a record");
        let lsn = node["first_record"].as_str().expect("an LSN");
        assert!(
            first.starts_with(lsn) && first.split(' ').count() == 6,
            "{first}"
        );
    }
    let again = walsim(&args);
    assert_eq!(again.status.code(), Some(2));
    assert!(
        stderr(&again).contains("exists already"),
        "{}",
        stderr(&again)
    );
}

/// A seed takes the same steps in different processes, and with and without a trace.
#[test]
fn a_trace_changes_nothing() {
    let hash = |output: &Output| {
        let text = stdout(output);
        text.lines()
            .find_map(|line| line.trim().strip_prefix("hash").map(String::from))
    };
    let plain = walsim(&["replay", "0x9", "--until", "4s"]);
    let traced = walsim(&["replay", "9", "--until", "4s", "--trace"]);
    assert!(hash(&plain).is_some(), "{}", stdout(&plain));
    assert_eq!(hash(&plain), hash(&traced));
    assert!(
        stdout(&traced).contains("  primary                       server started\n"),
        "{}",
        stdout(&traced)
    );
}

/// A trace as JSON has one object per line. The last object describes the run.
#[test]
fn a_trace_is_json_too() {
    let traced = walsim(&[
        "replay",
        "9",
        "--until",
        "1s",
        "--trace=events",
        "--node",
        "standby1",
        "--kind",
        "disk",
        "--format",
        "json",
    ]);
    let text = stdout(&traced);
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    let (run, events) = lines.split_last().expect("there is a last line");
    assert_eq!(run["kind"], "run");
    let is_fsync = |event: &&serde_json::Value| event["op"] == "fsync";
    assert!(events.iter().filter(is_fsync).count() > 0, "{text}");
    for event in events {
        assert_eq!(
            (&event["kind"], &event["node"]),
            (&"disk".into(), &"standby1".into())
        );
        assert!(
            event["file"].is_string() && event["at_us"].is_u64(),
            "{event}"
        );
    }
}

/// `WALSIM_LOG` prints events on stderr and changes nothing else.
#[test]
fn events_are_logged_on_request() {
    let run = |filter: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_walsim"))
            .args(["replay", "9", "--until", "4s"])
            .env("WALSIM_LOG", filter)
            .current_dir(folder())
            .output()
            .expect("the command starts")
    };
    let (plain, logged) = (
        walsim(&["replay", "9", "--until", "4s"]),
        run("walsim=info"),
    );
    assert_eq!(stdout(&plain), stdout(&logged));
    let text = stderr(&logged);
    let started = text.lines().find(|line| {
        line.contains("starting PostgreSQL") || line.contains("database system is ready")
    });
    let started = started.unwrap_or_else(|| panic!("no log line in {text}"));
    for part in [
        "run{seed=0x9}",
        "server{node=",
        "start=1",
        "walsim::log: ",
        "at_us=",
    ] {
        assert!(started.contains(part), "{part} is not in {started}");
    }
    assert!(text.contains(" walsim::world: "), "{text}");
    assert_eq!(text, stderr(&run("walsim=info")), "the same text each time");
    assert!(!stderr(&run("walsim::world=info")).contains("walsim::log"));
    let refused = run("walsim=loud");
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("WALSIM_LOG"),
        "{}",
        stderr(&refused)
    );
}

/// A filter with an invalid value is an error, and the error lists the valid values.
#[test]
fn a_filter_that_makes_no_sense_is_refused() {
    for (args, expected) in [
        (["--trace", "--kind", "dsk"], "disk"),
        (["--trace", "--lsn", "0/2..0/1"], "is empty"),
        (["--trace=everything", "--node", "primary"], "steps"),
    ] {
        let output = walsim(&[&["replay", "9"][..], &args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
    let alone = walsim(&["replay", "9", "--node", "primary"]);
    assert_eq!(alone.status.code(), Some(2));
    assert!(stderr(&alone).contains("--trace"), "{}", stderr(&alone));
}

#[cfg(feature = "planted-bugs")]
const BUG: &str = "walsender-sends-unflushed";

/// A hunt that does not find a bug reports whether any run reached the code of the bug. A replay
/// reports whether its run reached the code.
#[cfg(feature = "planted-bugs")]
#[test]
fn a_bug_that_was_not_found_may_not_have_been_reached() {
    let rare = ["bugs", "hunt", "recycled-first-page", "--budget", "1ms"];
    let nothing = walsim(&rare);
    assert_eq!(nothing.status.code(), Some(1));
    let text = stdout(&nothing);
    assert!(text.contains("reached in "), "{text}");

    let until = |time| stdout(&walsim(&["replay", "0", "--bug", BUG, "--until", time]));
    let (early, late) = (until("0s"), until("9s"));
    assert!(early.contains(&format!("{BUG} was not reached")), "{early}");
    assert!(late.contains(&format!("{BUG} was reached")), "{late}");
    assert!(late.contains("  marks   commit-acked, "), "{late}");
}

/// Shrinking a failing seed writes a small file, and the plan in the file fails again. The command
/// ends with the status of the failure.
#[cfg(feature = "planted-bugs")]
#[test]
fn shrinks_a_failing_seed_to_a_file_that_replays() {
    let args = ["shrink", "0", "--bug", BUG, "-o", "small.toml"];
    let output = walsim(&[&args[..], &["--format", "json"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let line = last_line(&output);
    let names = [
        "kind",
        "seed",
        "invariant",
        "tries",
        "cpu_s",
        "steps_before",
        "steps_after",
        "faults_after",
        "file",
    ];
    assert_names(stdout(&output).trim_end(), &names);
    assert_eq!(line["invariant"], "SEND");
    assert!(line["steps_after"].as_u64() < line["steps_before"].as_u64());

    let replayed = walsim(&["replay", "small.toml", "--bug", BUG]);
    assert_eq!(replayed.status.code(), Some(1));
    assert!(stdout(&replayed).starts_with("FAIL  SEND"));
    assert_eq!(walsim(&["replay", "small.toml"]).status.code(), Some(0));

    let again = walsim(&["shrink", "small.toml", "--bug", BUG, "--budget", "1ms"]);
    assert_eq!(again.status.code(), Some(1));
    let text = stdout(&again);
    assert!(text.contains("small-shrunk.toml"), "{text}");
}

#[test]
fn what_does_not_fail_is_not_shrunk() {
    let output = walsim(&["shrink", "1"]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert!(text.contains("0x1 does not fail"), "{text}");
    let output = walsim(&["shrink", "1", "--format", "json"]);
    let line = last_line(&output);
    assert!(
        line["invariant"].is_null() && line["file"].is_null(),
        "{line}"
    );
}

/// A plan whose standbys use a slot that does not exist does not converge. The shrunk plan must
/// also fail to converge, and for the same reason.
#[test]
fn a_cluster_that_hangs_is_shrunk_to_what_it_hangs_at() {
    let hangs = [
        "--set",
        "primary_slot_name=absent",
        "-o",
        "hangs.toml",
        "--format",
        "json",
    ];
    let output = walsim(&[&["shrink", "1"][..], &hangs].concat());
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let line = last_line(&output);
    assert_eq!(
        (&line["invariant"], &line["steps_after"]),
        (&"LIVE".into(), &0.into())
    );
    let file = std::fs::read_to_string(folder().join("hangs.toml")).expect("just written");
    assert!(file.contains("primary_slot_name = \"absent\""), "{file}");
    assert!(
        !file.contains("[expect]"),
        "a play of it must pass one day: {file}"
    );
    assert_eq!(walsim(&["replay", "hangs.toml"]).status.code(), Some(3));
}

/// A campaign shrinks the first failure of each kind. The plans of all other failures are stored as
/// they are.
#[cfg(feature = "planted-bugs")]
#[test]
fn a_campaign_shrinks_what_it_finds() {
    let args = ["fuzz", "--count", "2", "--bug", BUG, "--format", "json"];
    let files = |more: &[&str]| {
        let output = walsim(&[&args[..], more].concat());
        assert_eq!(output.status.code(), Some(1));
        let text = stdout(&output);
        let lines = text
            .lines()
            .map(|line| serde_json::from_str(line).expect(line));
        let lines: Vec<serde_json::Value> = lines.collect();
        let failures = lines.iter().filter(|line| line["kind"] == "failure");
        for failure in failures.clone() {
            assert_ne!(failure["node"], "", "{failure}");
            assert!(failure["at_s"].is_number(), "{failure}");
            let facts = failure["facts"].as_array().expect("facts");
            let lsn = |fact: &serde_json::Value| fact["type"] == "lsn";
            assert!(facts.iter().any(lsn), "{failure}");
            let names = ["name", "type", "value"];
            assert!(
                facts
                    .iter()
                    .all(|fact| names.iter().all(|it| !fact[it].is_null()))
            );
        }
        let files = failures.map(|line| line["file"].as_str().expect("a path").to_owned());
        files.collect::<Vec<_>>()
    };
    let shrunk = |files: &[String]| files.iter().filter(|f| f.ends_with("-shrunk.toml")).count();
    let found = files(&["--shrink-budget", "1s"]);
    assert!(!found.is_empty() && shrunk(&found) >= 1, "{found:?}");
    for file in &found {
        let replayed = walsim(&["replay", file, "--bug", BUG]);
        assert_eq!(replayed.status.code(), Some(1), "{file}");
    }
    assert_eq!(shrunk(&files(&["--no-shrink"])), 0);
}

#[cfg(feature = "planted-bugs")]
#[test]
fn a_hunt_ends_as_small_files_and_a_table() {
    let args = [
        "bugs",
        "hunt",
        BUG,
        "--repeat",
        "2",
        "--markdown",
        "hunt.md",
        "--format",
        "json",
    ];
    let output = walsim(&args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let first = text.lines().next().expect("a bug");
    let bug: serde_json::Value = serde_json::from_str(first).expect(first);
    assert_eq!(
        (&bug["found"], &bug["invariant"]),
        (&true.into(), &"SEND".into())
    );
    let steps = bug["shrunk_steps"].as_u64().expect("a number");
    assert!(
        steps <= 6 && bug["shrunk_faults"].as_u64() <= Some(steps),
        "{bug}"
    );
    assert_eq!(
        last_line(&output)["median_shrunk_steps"],
        bug["shrunk_steps"]
    );
    let file = bug["file"].as_str().expect("a path");
    assert_eq!(
        walsim(&["replay", file, "--bug", BUG]).status.code(),
        Some(1)
    );
    assert_eq!(walsim(&["replay", file]).status.code(), Some(0));
    let table = std::fs::read_to_string(folder().join("hunt.md")).expect("just written");
    assert!(
        table.contains("first of 2 hunts") && table.contains("| `walsender-sends-unflushed` |"),
        "{table}"
    );
}
