//! Reports of failed runs: their layout, and what they tell about planted bugs.

use walsim::invariants::invariant_named;
use walsim::plan::{Plan, Profile, Scenario, generate};
use walsim::referee::Fact;
use walsim::report::{Look, Report};
use walsim::story::{LINES, Line, Relevance, Repeats, Story, story};
use walsim::trace::{Act, TraceEvent};
use walsim::world::{Excuses, Outcome, Verdict, Violation, run};
use walsim_core::base::{Bug, Lsn, MarkSet, Mono, Planted};

/// The report of a failing run contains four things: the invariant, the compared facts, the events
/// that led to the violation, and the command that replays the run.
#[test]
fn a_failure_report_tells_what_to_do_next() {
    let line = |number: u64, ms: u64, node: &str, text: &str| Line {
        event: TraceEvent {
            number,
            step: number,
            at: Mono(ms * 1000),
            node: node.into(),
            process: None,
            act: Act::World { text: text.into() },
        },
        text: text.into(),
        relevance: Relevance::Fault,
        score: 50,
        repeats: None,
    };
    let fact = |what: &str, lsn: u64| Fact::new(what, &Lsn(lsn));
    let outcome = Outcome {
        verdict: Verdict::Violation(Violation {
            code: "SEND",
            node: "primary".into(),
            process: None,
            at: Mono(12_403_000),
            message: "a walsender shipped bytes that a loss of power would take".into(),
            facts: vec![
                fact("shipped up to", 0x500_0148),
                fact("stable up to", 0x500_0000),
            ],
        }),
        audited: false,
        steps: 8412,
        sim_us: 12_403_000,
        hash: 1,
        marks: MarkSet::default(),
        excuses: Excuses::default(),
        commits: 41,
        wal_bytes: 0x5148,
        segments: 4,
        faults: 1,
        idle_faults: Vec::new(),
    };
    let mut story = Story {
        lines: vec![
            line(
                1,
                11_000,
                "standby1",
                "walreceiver started streaming at 0/5000000",
            ),
            line(2, 12_000, "", "partition between node 0 and node 2"),
            line(
                3,
                12_403,
                "primary",
                "SEND violated: a walsender shipped bytes",
            ),
        ],
        ..Story::default()
    };
    story.lines[0].relevance = Relevance::Log;
    story.lines[2].relevance = Relevance::Verdict;
    story.lines[1].repeats = Some(Repeats {
        more: 63,
        last_event: 2,
        until: Mono(12_300_000),
    });
    let mut report = Report {
        page: None,
        seed: 0x1f3a,
        outcome: &outcome,
        story: &story,
        replay: "walsim replay 0x1f3a".into(),
        test: Some("WALSIM_SEED=0x1f3a cargo test -p walsim-tests --test simulation".into()),
        file: Some("target/walsim/0x1f3a.toml".into()),
    };
    insta::assert_snapshot!("report_violation", report.to_string());
    let narrow = Look {
        width: 60,
        color: false,
    };
    let text = report.text(narrow);
    insta::assert_snapshot!("report_narrow", text);
    let laid_out = text.split("\n  replay").next().unwrap_or_default();
    assert!(laid_out.lines().all(|line| line.chars().count() <= 60));
    let color = Look {
        color: true,
        ..Look::PLAIN
    };
    assert!(report.text(color).contains("\u{1b}[31m"));
    assert!(!report.text(Look::PLAIN).contains('\u{1b}'));

    let panicked = Outcome {
        verdict: Verdict::Panic {
            label: "ASSERT:core/src/shmem/slots.rs:40".into(),
            message: "the slots are full: 10 of 10".into(),
            node: "n1".into(),
            at: Mono(1_500_000),
            step: 4711,
        },
        ..outcome.clone()
    };
    let nothing = Story::default();
    (report.outcome, report.story) = (&panicked, &nothing);
    (report.test, report.file) = (None, None);
    insta::assert_snapshot!("report_panic", report.to_string());
}

/// The scenarios that show a planted bug.
fn plays() -> Vec<(Plan, Bug)> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios");
    let mut folders = vec![std::path::PathBuf::from(root)];
    let mut plays = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).expect("a folder of scenarios");
        let mut paths: Vec<_> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "toml") {
                let text = std::fs::read_to_string(&path).expect("a scenario");
                let scenario = Scenario::parse(&text, "play").expect("a valid scenario");
                let bug = scenario.expect.bug;
                plays.extend(bug.map(|bug| (scenario.plan, bug)));
            }
        }
    }
    plays
}

fn failure(plan: &Plan, bug: Bug) -> (Outcome, Story) {
    let planted = Planted::NONE.with(bug);
    let outcome = run(plan, planted, false);
    let story = story(plan, planted, &outcome);
    (outcome, story)
}

/// The report of each planted bug fits into 25 lines and 60 columns, ends with the violation, and
/// contains no text of Rust's `Debug`.
#[cfg(feature = "planted-bugs")]
#[test]
fn reports_of_all_bugs_are_readable() {
    let rusty = [
        "Some(", "None", "Ok(", "Err(", "::", "{ ", " }", "Lsn(", "\\\"",
    ];
    for (plan, bug) in plays() {
        let (outcome, story) = failure(&plan, bug);
        let code = outcome.verdict.code().expect("the scenario shows the bug");
        let report = Report {
            page: None,
            seed: plan.seed,
            outcome: &outcome,
            story: &story,
            replay: String::new(),
            test: None,
            file: None,
        };
        let narrow = Look {
            width: Look::NARROWEST,
            color: false,
        };
        let text = report.text(narrow);
        let name = bug.name();
        for line in text.lines() {
            assert!(line.chars().count() <= 60, "{name}: {line}");
            let found = rusty.iter().find(|rust| line.contains(**rust));
            assert_eq!(found, None, "{name}: {line}");
        }
        assert!((1..=LINES).contains(&story.lines.len()), "{name}: {text}");
        let verdicts = story
            .lines
            .iter()
            .filter(|line| line.relevance == Relevance::Verdict);
        assert_eq!(verdicts.count(), 1, "{name}: {text}");
        assert!(
            invariant_named(code).is_none() || text.contains("rule: "),
            "{text}"
        );
        let hangs = matches!(
            outcome.verdict,
            Verdict::NoConvergence(_) | Verdict::Stuck(_)
        );
        assert_eq!(hangs, !story.waits.is_empty(), "{name}: {text}");
    }
}

/// For these bugs, the report must name the decisive event, or say that it is missing.
#[cfg(feature = "planted-bugs")]
#[test]
fn the_deciding_event_is_told() {
    let plays = plays();
    let tells = |bug: Bug, texts: &[&str]| {
        let (plan, _) = plays.iter().find(|(_, of)| *of == bug).expect("a play");
        let (_, story) = failure(plan, bug);
        let lines = story.lines.iter().map(|line| line.text.as_str());
        let absent = story.absent.iter().map(|absence| absence.text.as_str());
        let all: Vec<&str> = lines.chain(absent).collect();
        for text in texts {
            let told = all.iter().any(|line| line.contains(text));
            assert!(told, "{} does not tell {text:?}: {all:#?}", bug.name());
        }
    };
    let retried = "was not written again between the fsync that failed";
    tells(
        Bug::FsyncRetry,
        &[retried, "the next fsync below pg_wal will fail"],
    );
    let lost = "pg_xact was not written after transaction";
    tells(
        Bug::CommitCrossesRedoPoint,
        &[lost, "redo point", "COMMIT of transaction"],
    );
    tells(
        Bug::LostWalreceiverStartRequest,
        &["no walreceiver was started after the startup process requested one"],
    );
    tells(Bug::RecycledFirstPage, &["after it was recycled from"]);
    tells(
        Bug::RenameNotDurable,
        &["no fsync of the directory pg_wal after the rename"],
    );
    tells(
        Bug::RedoForgetsDirty,
        &["was not written after the record that ends at"],
    );
    tells(
        Bug::FastShutdownHangs,
        &["got no signal after the fast shutdown was requested"],
    );
    tells(Bug::SlotTempFileLeft, &["state.tmp failed: File exists"]);
}

/// Each report of a run tells the same events.
#[cfg(feature = "planted-bugs")]
#[test]
fn a_story_is_deterministic() {
    let plan = generate(Profile::Default, 0);
    let (outcome, told) = failure(&plan, Bug::WalsenderSendsUnflushed);
    assert_eq!(
        failure(&plan, Bug::WalsenderSendsUnflushed),
        (outcome, told)
    );
}
