//! Tests of plan files on the command line: what is written, what a run must do, and what had no
//! effect.

mod command;

use command::{folder, last_line, stderr, stdout, walsim};
use std::path::Path;

#[cfg(feature = "planted-bugs")]
const BUG: &str = "walsender-sends-unflushed";

/// The command checks that a run meets the expectation in its plan file. Any plan file can be run
/// as a scenario. If an output path cannot be written, the command refuses to start the run.
#[cfg(feature = "planted-bugs")]
#[test]
fn a_file_says_what_its_run_must_come_to() {
    let args = [
        "shrink",
        "0",
        "--bug",
        BUG,
        "-o",
        "kept.toml",
        "--budget",
        "1s",
    ];
    assert_eq!(walsim(&args).status.code(), Some(1));
    let kept = std::fs::read_to_string(folder().join("kept.toml")).expect("was written");
    assert!(kept.contains("# Made by walsim "), "{kept}");
    let met = walsim(&["replay", "kept.toml"]);
    assert_eq!(met.status.code(), Some(0));
    assert!(stdout(&met).contains("  expect  met; SEND violated with"));
    let run = walsim(&["scenarios", "run", "kept.toml"]);
    assert_eq!(run.status.code(), Some(0));
    assert!(stdout(&run).starts_with("PASS  kept.toml"));

    let other = kept.replace("invariant = [\"SEND\"]", "invariant = [\"PAGE\"]");
    assert_ne!(other, kept);
    std::fs::write(folder().join("other.toml"), other).expect("our own folder");
    let unmet = walsim(&["replay", "other.toml"]);
    assert_eq!(unmet.status.code(), Some(1));
    assert!(stdout(&unmet).contains("  expect  NOT MET"));

    for args in [
        &["fuzz", "--count", "1", "--out", "kept.toml"][..],
        &["shrink", "0", "-o", "kept.toml/x.toml"],
        &["replay", "0", "--write-plan", "kept.toml/x.toml"],
        &["bugs", "hunt", BUG, "--markdown", "kept.toml/x.md"],
    ] {
        let output = walsim(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

/// The command reports a fault that had no effect, and a pin that changed nothing.
#[test]
fn says_what_did_not_happen() {
    let text = stdout(&walsim(&["replay", "5", "--write-plan", "idle.toml"]));
    assert!(!text.contains("changed nothing"), "{text}");
    let path = Path::new("idle.toml");
    let plan = std::fs::read_to_string(folder().join(path)).expect("was written");
    let rows = plan.matches("[[fault]]").count();
    // The second fault has no effect, because a standby has no slots and therefore fsyncs no file
    // in pg_replslot.
    let idle = "\n[[fault]]\nat = \"900s\"\nclock_jump = { node = \"primary\", by = \"1s\" }\n\
                \n[[fault]]\nat = \"1s\"\nfsync_error = { node = \"standby1\", path = \"pg_replslot\" }\n\
                \n[pins]\n\"disk.loss/primary/77.77\" = 1\n";
    std::fs::write(folder().join(path), plan + idle).expect("can be written");
    let text = stdout(&walsim(&["replay", "idle.toml"]));
    let (first, second) = (rows + 1, rows + 2);
    assert!(
        text.contains(&format!("{first}, {second} did not")),
        "{text}"
    );
    assert!(
        text.contains("1 of 1 changed nothing: disk.loss/primary/77.77"),
        "{text}"
    );
}

/// The written plan equals the plan that ran. With `--until` a run stops before later events.
#[test]
fn writes_the_plan_and_stops_where_it_is_told() {
    let hash = |args: &[&str]| {
        let output = walsim(&[&["replay"], args, &["--format", "json"]].concat());
        let line = last_line(&output);
        (
            line["hash"].clone(),
            line["sim_s"].as_f64().expect("a number"),
        )
    };
    let written = hash(&["5", "--write-plan", "written.toml"]);
    assert_eq!(hash(&["written.toml"]), written);
    let (_, stopped) = hash(&["5", "--until", "1500ms"]);
    assert!(stopped <= 1.5, "{stopped}");
}

/// `--set` changes every plan of a hunt. The printed commands, the stored plan and the table all
/// contain the setting.
#[cfg(feature = "planted-bugs")]
#[test]
fn a_hunt_runs_the_version_that_is_set() {
    let set = ["--set", "pg_version=19", "--shrink-budget", "0s"];
    let args = ["bugs", "hunt", BUG, "--markdown", "hunt-19.md"];
    let output = walsim(&[&args[..], &set].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains(&format!("found      {BUG}: SEND")), "{text}");
    let replay = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("walsim "));
    let replay: Vec<&str> = replay.expect("a command").split(' ').collect();
    assert_eq!(replay[2..], ["--set", "pg_version=19", "--bug", BUG]);
    assert_eq!(walsim(&replay).status.code(), Some(1), "{replay:?}");
    let name = format!("target/walsim/{BUG}-{}.toml", replay[1]);
    let plan = std::fs::read_to_string(folder().join(name)).expect("it was stored");
    assert!(plan.contains("\nversion = 19\n"), "{plan}");
    let table = std::fs::read_to_string(folder().join("hunt-19.md")).expect("just written");
    assert!(table.contains("--repeat 1 --set pg_version=19`"), "{table}");
}

/// A hunt for all bugs says which of them it skips and why. A named bug that the version does not
/// have is refused.
#[cfg(feature = "planted-bugs")]
#[test]
fn a_hunt_skips_the_bugs_of_other_versions() {
    let bug = "invalid-slot-streamed";
    // Short runs find almost no bugs. Even so, at least one seed is run for each bug.
    let args = ["--set", "pg_version=15", "--set", "active=1s"];
    let short = ["--budget", "1ms", "--shrink-budget", "0s"];
    let text = stdout(&walsim(&[&["bugs", "hunt"][..], &args, &short].concat()));
    let skipped = format!("skipped    {bug}: exists only in version 18 and later\n");
    assert!(text.contains(&skipped), "{text}");
    let played = "skipped    recycled-segment-sent: shown by scenarios/";
    assert!(text.contains(played), "{text}");

    let version = ["--set", "pg_version=17"];
    let named = walsim(&[&["bugs", "hunt", BUG, bug][..], &version].concat());
    assert_eq!(named.status.code(), Some(2));
    let message = stderr(&named);
    let refused = format!("{bug} exists only in version 18 and later, not in 17");
    assert!(message.contains(&refused), "{message}");
    assert_eq!(stdout(&named), "", "no bug was hunted");
}
