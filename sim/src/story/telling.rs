//! Collects the events of a run, collapses repeated events, and chooses the lines of the story.

use super::absent::Absences;
use super::commits::Commits;
use super::reads::Reads;
use super::records::End;
use super::relevance::judge;
use super::subjects::Subjects;
use super::waits::Waits;
use super::words;
use super::{LEAST, LINES, Line, Relevance, Repeats, Story};
use crate::trace::{Act, TraceEvent};
use std::collections::{BTreeMap, BTreeSet};
use walsim_core::base::Mono;

/// How many events are kept from the end of a group.
const KEPT: usize = 2;
/// A group with more events is a loop. Its last events tell nothing new.
const LOOP: u64 = 20;

/// The score of the log line that says why a record cannot be read.
const REASON: u32 = 66;

/// Events that differ only in their numbers.
#[derive(Debug)]
struct Group {
    relevance: Relevance,
    score: u32,
    first: TraceEvent,
    last: Vec<TraceEvent>,
    /// The number and time of the last event that is not kept.
    dropped: Option<(u64, Mono)>,
    count: u64,
}

/// Listens to the events of a run.
#[derive(Debug)]
pub(super) struct Telling {
    subjects: Subjects,
    groups: BTreeMap<String, Group>,
    waits: Waits,
    absences: Absences,
    reads: Reads,
    commits: Commits,
    /// The node and step of the last record that recovery could not read. The log line of this step
    /// says why.
    unread: Option<(String, u64)>,
}

impl Telling {
    pub(super) fn new(subjects: Subjects) -> Self {
        Self {
            subjects,
            groups: BTreeMap::new(),
            waits: Waits::default(),
            absences: Absences::default(),
            reads: Reads::default(),
            commits: Commits::default(),
            unread: None,
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the scores of other events do not depend on earlier events"
    )]
    pub(super) fn hear(&mut self, event: TraceEvent) {
        self.waits.hear(&event);
        self.absences.hear(&event, &self.subjects);
        self.reads.hear(&event, &self.subjects);
        self.commits.hear(&event, &self.subjects);
        let Some((relevance, score)) = judge(&event, &self.subjects) else {
            return;
        };
        let step = Some((event.node.clone(), event.step));
        let score = match &event.act {
            Act::Log { .. } if self.unread == step => score.max(REASON),
            Act::Record { .. } => {
                self.unread = step;
                score
            }
            _ => score,
        };
        let role = event.process.map_or("", |process| process.role.name());
        let shape = words::shape(&event);
        let key = format!("{}|{role}|{score}|{shape}", event.node);
        if let Some(group) = self.groups.get_mut(&key) {
            group.count += 1;
            if group.last.len() == KEPT {
                let event = group.last.remove(0);
                group.dropped = Some((event.number, event.at));
            }
            group.last.push(event);
            return;
        }
        let group = Group {
            relevance,
            score,
            first: event,
            last: Vec::new(),
            dropped: None,
            count: 1,
        };
        self.groups.insert(key, group);
    }

    pub(super) fn tell(self, end: &End) -> Story {
        let groups = self.groups.into_values();
        let mut lines: Vec<Line> = groups
            .flat_map(|group| lines(group, &self.subjects))
            .collect();
        let (reads, recycled) = self.reads.tell(&self.subjects);
        lines.extend(reads);
        let (commits, early) = self.commits.tell();
        lines.extend(commits);
        lines.retain(|line| line.score >= LEAST);
        // The line with the highest score comes first. Of lines with equal scores, the latest comes
        // first, because it is nearest to the verdict.
        lines.sort_by_key(|line| (u32::MAX - line.score, u64::MAX - line.event.number));
        let mut told = BTreeSet::new();
        lines.retain(|line| told.insert(line.event.number));
        let all: u64 = lines.iter().map(events_of).sum();
        lines.truncate(LINES);
        let shown: u64 = lines.iter().map(events_of).sum();
        lines.sort_by_key(|line| line.event.number);
        for line in &mut lines {
            line.text = words::text(&line.event, end);
        }
        let processes = self.waits.of(&self.subjects);
        let mut absent = self.absences.of(&self.subjects, &processes);
        absent.extend(recycled);
        absent.extend(early);
        let waits = if self.subjects.hangs {
            processes
        } else {
            Vec::new()
        };
        Story {
            lines,
            waits,
            absent,
            left_out: all - shown,
        }
    }
}

/// The number of events that a line stands for.
fn events_of(line: &Line) -> u64 {
    1 + line.repeats.map_or(0, |repeats| repeats.more)
}

/// The lines for a group of equal events. The first event always gets a line, which counts the
/// events that follow. If the group is not longer than [`LOOP`], its last events get lines too.
fn lines(group: Group, subjects: &Subjects) -> Vec<Line> {
    let Group {
        relevance,
        score,
        first,
        mut last,
        dropped,
        count,
    } = group;
    let is_error = relevance == Relevance::Log && score >= ERROR;
    // A rare event tells more than a frequent one. Errors are an exception if the cluster retries
    // an operation forever.
    let rare: i32 = match count {
        1 => 6,
        2..=4 => 3,
        _ if subjects.hangs && is_error && count > LOOP => 14,
        5..=LOOP => 0,
        _ => -8,
    };
    let line = |event: TraceEvent, score: u32, repeats: Option<Repeats>| Line {
        event,
        text: String::new(),
        relevance,
        score,
        repeats,
    };
    let score = score.saturating_add_signed(rare);
    if relevance == Relevance::Verdict {
        return vec![line(first, score, None)];
    }
    if count > LOOP {
        let end = last.pop();
        let repeats = end.map(|end| repeats(count - 1, &end));
        return vec![line(first, score, repeats)];
    }
    // The first and the last events of a small group may each get a line. The events between them
    // are only counted.
    let between = count - 1 - last.len() as u64;
    let collapsed = dropped.map(|(last_event, until)| Repeats {
        more: between,
        last_event,
        until,
    });
    let mut lines = vec![line(
        first,
        score.saturating_sub(between.min(4) as u32),
        collapsed,
    )];
    lines.extend(last.into_iter().map(|event| line(event, score, None)));
    lines
}

/// The lowest score of an error in a server log.
const ERROR: u32 = 45;

fn repeats(more: u64, last: &TraceEvent) -> Repeats {
    Repeats {
        more,
        last_event: last.number,
        until: last.at,
    }
}
