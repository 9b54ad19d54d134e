//! Collects the events of a run, collapses repeated events, and chooses the lines of the story.

use super::records::End;
use super::relevance::judge;
use super::subjects::Subjects;
use super::waits::Waits;
use super::words;
use super::{LINES, Line, Relevance, Repeats, Story};
use crate::trace::TraceEvent;
use std::collections::BTreeMap;

/// How many events are kept from the beginning of a group, and how many from its end.
const KEPT: usize = 3;

/// Events that differ only in their numbers.
#[derive(Debug)]
struct Group {
    relevance: Relevance,
    score: u32,
    first: Vec<TraceEvent>,
    last: Vec<TraceEvent>,
    count: u64,
}

/// Listens to the events of a run.
#[derive(Debug)]
pub(super) struct Telling {
    subjects: Subjects,
    groups: BTreeMap<String, Group>,
    waits: Waits,
}

impl Telling {
    pub(super) fn new(subjects: Subjects) -> Self {
        Self {
            subjects,
            groups: BTreeMap::new(),
            waits: Waits::default(),
        }
    }

    pub(super) fn hear(&mut self, event: TraceEvent) {
        self.waits.hear(&event);
        let Some((relevance, score)) = judge(&event, &self.subjects) else {
            return;
        };
        let role = event.process.map_or("", |process| process.role.name());
        let shape = words::shape(&event);
        let key = format!("{}|{role}|{score}|{shape}", event.node);
        let group = self.groups.entry(key).or_insert_with(|| Group {
            relevance,
            score,
            first: Vec::new(),
            last: Vec::new(),
            count: 0,
        });
        group.count += 1;
        if group.first.len() < KEPT {
            group.first.push(event);
            return;
        }
        if group.last.len() == KEPT {
            group.last.remove(0);
        }
        group.last.push(event);
    }

    pub(super) fn tell(self, end: &End) -> Story {
        let mut lines: Vec<Line> = self.groups.into_values().flat_map(lines).collect();
        // The line with the highest score comes first. Of lines with equal scores, the latest comes
        // first, because it is nearest to the verdict.
        lines.sort_by_key(|line| (u32::MAX - line.score, u64::MAX - line.event.number));
        let told: u64 = lines.iter().map(events_of).sum();
        lines.truncate(LINES);
        let shown: u64 = lines.iter().map(events_of).sum();
        lines.sort_by_key(|line| line.event.number);
        for line in &mut lines {
            line.text = words::text(&line.event, end);
        }
        let waits = if self.subjects.hangs {
            self.waits.of(&self.subjects)
        } else {
            Vec::new()
        };
        Story {
            lines,
            waits,
            left_out: told - shown,
        }
    }
}

/// The number of events that a line stands for.
fn events_of(line: &Line) -> u64 {
    1 + line.repeats.map_or(0, |repeats| repeats.more)
}

/// The lines of a group. The first line is the first event with the number of its repetitions,
/// however long ago it was. If the group is small, its last events get lines, too.
fn lines(group: Group) -> Vec<Line> {
    let Group {
        relevance,
        score,
        mut first,
        last,
        count,
    } = group;
    let line = |event: TraceEvent, score: u32, repeats: Option<Repeats>| Line {
        event,
        text: String::new(),
        relevance,
        score,
        repeats,
    };
    // An event that happens rarely tells more than an event that happens all the time.
    let rare = match count {
        1 => 6,
        2..=4 => 3,
        5..=20 => 0,
        _ => -8,
    };
    let score = score.saturating_add_signed(rare);
    if count <= 2 {
        return first
            .into_iter()
            .map(|event| line(event, score, None))
            .collect();
    }
    let begin = first.remove(0);
    let end = last.last().or(first.last()).cloned();
    let Some(end) = end else {
        return vec![line(begin, score, None)];
    };
    let repeats = Repeats {
        more: count - 1,
        last_event: end.number,
        until: end.at,
    };
    vec![line(begin, score, Some(repeats))]
}
