//! Reports of failed runs: their layout, and what they tell about planted bugs.

use walsim::referee::Fact;
use walsim::report::{Look, Report};
use walsim::story::{Line, Relevance, Repeats, Story};
use walsim::trace::{Act, TraceEvent};
use walsim::world::{Excuses, Outcome, Verdict, Violation};
use walsim_core::base::{Lsn, MarkSet, Mono};

/// The report of a failing run contains the invariant, the compared facts, the story, and the
/// command that replays the run.
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
        story: Vec::new(),
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
