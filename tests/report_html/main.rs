//! The report as one HTML file: its structure, its contents, and how it works in a browser.

mod browser;
#[path = "../command.rs"]
mod command;
mod document;
mod webdriver;

use command::{folder, last_line, stderr, stdout, walsim};
use document::Document;
use std::collections::BTreeSet;

/// A scenario with a power loss, and the bug that it shows.
const PLAY: &str = "scenarios/power-loss-between-write-and-fsync.toml";
const BUG: &str = "walsender-sends-unflushed";
/// A seed with a power loss, a crash and broken connections. It passes.
const SEED: &str = "9";
const MOST: usize = 2_000_000;

fn play() -> String {
    format!("{}/../{PLAY}", env!("CARGO_MANIFEST_DIR"))
}

/// Makes a report, and returns its text with the JSON line of the run.
fn report(name: &str, args: &[&str]) -> (String, serde_json::Value) {
    let mut all = vec!["replay", "--report", name, "--format", "json"];
    all.extend(args);
    let output = walsim(&all);
    let line = last_line(&output);
    let path = folder().join(name);
    let text = std::fs::read_to_string(&path);
    (
        text.unwrap_or_else(|e| panic!("{e}: {}", stderr(&output))),
        line,
    )
}

fn failing(name: &str) -> (String, serde_json::Value) {
    report(name, &[&play(), "--bug", BUG])
}

/// The numbers of the events that led to the violation, from the JSON line.
fn story(line: &serde_json::Value) -> Vec<u64> {
    let lines = line["story"].as_array().expect("a story");
    let numbers = lines.iter().map(|line| line["event"].as_u64());
    numbers.map(|number| number.expect("a number")).collect()
}

#[test]
fn a_report_is_well_formed_and_loads_nothing() {
    let reports = [
        failing("formed.html").0,
        report("formed-pass.html", &[SEED]).0,
    ];
    for html in reports {
        assert!(html.len() < MOST, "{} bytes", html.len());
        let document = Document::parse(&html);
        for id in ["verdict", "diagram", "positions", "disks", "plan", "events"] {
            assert!(document.ids.contains(id), "no section {id}");
        }
        for (tag, name, value) in &document.attributes {
            let loads = matches!(
                name.as_str(),
                "src" | "srcset" | "data" | "action" | "poster"
            );
            assert!(!loads, "{tag} loads {value}");
            if name == "href" || name == "xlink:href" {
                let local = value.strip_prefix('#');
                let is_known = local.is_some_and(|id| document.ids.contains(id));
                assert!(is_known || value == "data:,", "{tag} points to {value}");
            }
            assert!(!name.starts_with("on"), "{tag} has a handler {name}");
        }
        assert!(!html.contains("http://") && !html.contains("https://"));
        assert!(!html.contains("@import") && !html.contains("url(\""));
    }
}

#[test]
fn the_story_is_in_the_diagram_and_in_the_table() {
    let (html, line) = failing("story.html");
    assert_eq!(line["verdict"], "violation", "{line}");
    let document = Document::parse(&html);
    let story = story(&line);
    assert!(!story.is_empty());
    for number in story {
        for id in [format!("d{number}"), format!("e{number}")] {
            assert!(document.ids.contains(&id), "no {id}");
        }
    }
    // Each event of the diagram has a row in the table.
    let numbers = |first: char| -> BTreeSet<u64> {
        let ids = document.ids.iter().filter_map(|id| id.strip_prefix(first));
        ids.filter_map(|number| number.parse().ok()).collect()
    };
    assert!(numbers('e').is_superset(&numbers('d')));
    for fact in line["facts"].as_array().expect("facts") {
        let name = fact["name"].as_str().expect("a name");
        assert!(document.text.contains(name), "no fact {name}");
    }
    let message = line["message"].as_str().expect("a message");
    assert!(document.text.contains(message));
    assert!(html.contains(&format!("--bug {BUG}")), "how to replay");
}

#[test]
fn a_report_is_the_same_twice() {
    let (one, other) = (failing("twice.html").0, failing("twice.html").0);
    assert!(one == other);
}

/// The report escapes the texts of a plan, so that they cannot add HTML.
#[test]
fn texts_are_escaped() {
    let plan = std::fs::read_to_string(play()).expect("the play exists");
    let evil = r#"</script><img src=x onerror=alert(1)> & "quoted" 'too'"#;
    let about = toml_string(evil);
    let lines = plan.lines().map(|line| match line.starts_with("about = ") {
        true => format!("about = {about}\n"),
        false => format!("{line}\n"),
    });
    let plan: String = lines.collect();
    assert!(plan.contains("onerror"), "the play has an `about` line");
    std::fs::write(folder().join("evil.toml"), plan).expect("our own folder");
    let (html, _) = report("evil.html", &["evil.toml", "--bug", BUG]);
    assert!(html.contains("onerror"), "the page shows the text");
    let document = Document::parse(&html);
    assert!(!document.tags.contains("img"));
    assert!(document.text.contains(evil), "it is shown as it is");
}

fn toml_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[test]
fn a_power_loss_is_in_the_disk_panel() {
    let (html, _) = report("loss.html", &[SEED]);
    let text = Document::parse(&html).text;
    assert!(text.contains("loses power at"), "the panel of a power loss");
    assert!(text.contains("at the end of the run"));
}

/// The report does not show all events of a long run, and says so.
#[test]
fn what_is_left_out_is_said() {
    let (html, _) = report("long.html", &[SEED]);
    let text = Document::parse(&html).text;
    assert!(
        text.contains(" events of the level"),
        "how many events are shown"
    );
    assert!(
        text.contains("walsim replay 9 --trace=events"),
        "how to see all"
    );
}

#[test]
fn a_report_lies_beside_each_kept_failure() {
    let dir = folder().join("kept");
    let _ = std::fs::remove_dir_all(&dir);
    let dir = dir.to_str().expect("a path in UTF-8");
    let fuzz = [
        "fuzz",
        "--count",
        "2",
        "--bug",
        BUG,
        "--no-shrink",
        "--out",
        dir,
    ];
    let output = walsim(&fuzz);
    assert!(
        stdout(&output).contains("\n  report"),
        "{}",
        stdout(&output)
    );
    let shrunk = format!("{dir}/small.toml");
    walsim(&["shrink", "0", "--bug", BUG, "--budget", "1s", "-o", &shrunk]);
    let hunted = ["--shrink-budget", "0s", "--out", dir];
    walsim(&[&["bugs", "hunt", BUG][..], &hunted[..]].concat());
    let files = std::fs::read_dir(dir).expect("the folder exists");
    let paths = files.map(|file| file.expect("readable").path());
    let (plans, reports): (Vec<_>, Vec<_>) =
        paths.partition(|path| path.extension().is_some_and(|it| it == "toml"));
    assert!(plans.len() >= 3, "{plans:?}");
    for plan in &plans {
        assert!(
            reports.contains(&plan.with_extension("html")),
            "no report for {plan:?}"
        );
    }
    let small = std::fs::read_to_string(format!("{dir}/small.html")).expect("the report exists");
    let text = Document::parse(&small).text;
    let (again, _) = report("small-again.html", &[&shrunk, "--bug", BUG]);
    for text in [text, Document::parse(&again).text] {
        assert!(
            text.contains("of workload, faults and actions became"),
            "how it was shrunk"
        );
        assert!(text.contains("original plan"), "the sizes after each pass");
        assert!(
            text.contains(&format!("walsim replay 0 --bug {BUG}")),
            "the command for the original"
        );
        assert!(text.contains("seed of the original plan"));
    }
}

/// A campaign also keeps a report beside the plan that it shrinks later.
#[test]
fn a_report_lies_beside_a_plan_that_is_shrunk() {
    let dir = folder().join("kept-and-shrunk");
    let _ = std::fs::remove_dir_all(&dir);
    let out = dir.to_str().expect("a path in UTF-8");
    let fuzz = ["fuzz", "--count", "2", "--bug", BUG, "--out", out];
    walsim(&[&fuzz[..], &["--shrink-budget", "1s"]].concat());
    let files = std::fs::read_dir(&dir).expect("the folder exists");
    let paths: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    let plans = || {
        paths
            .iter()
            .filter(|path| path.extension().is_some_and(|it| it == "toml"))
    };
    assert!(plans().count() >= 3, "{paths:?}");
    for plan in plans() {
        assert!(paths.contains(&plan.with_extension("html")), "{plan:?}");
    }
}

#[test]
fn a_run_that_is_stopped_has_a_report_up_to_there() {
    let (html, line) = report("stopped.html", &[SEED, "--until", "2s"]);
    assert_eq!(line["verdict"], "unfinished", "{line}");
    let document = Document::parse(&html);
    assert!(document.text.contains("The run was stopped at 2.000000 s"));
    assert!(document.text.contains("■ stopped") && !document.text.contains("✓ pass"));
    let last = html.split("<tr id=\"e").last().expect("a table of events");
    let time = last
        .split("<td>")
        .nth(2)
        .and_then(|cell| cell.split('.').next());
    assert!(time.is_some_and(|s| s == "1" || s == "2"), "{last}");
    // The run fails before the time, so the report is that of the failure.
    let (html, line) = report(
        "failed-before.html",
        &[&play(), "--bug", BUG, "--until", "100s"],
    );
    assert_eq!(line["verdict"], "violation", "{line}");
    assert!(!html.contains("■ stopped"));
}

#[test]
fn the_violation_is_one_event() {
    let (html, _) = failing("once.html");
    let rows = html.matches("<tr id=\"e").count();
    assert!(rows > 10);
    let violations = html
        .split("<tr id=\"e")
        .filter(|row| row.contains(" violated: "));
    // The part before the first row has the story, which shows the violation too.
    assert_eq!(violations.count(), 2, "the story and one row");
}
