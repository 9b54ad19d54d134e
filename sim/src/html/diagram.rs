//! The space-time diagram: time goes down, processes are columns, messages are arrows.

use super::Page;
use super::lanes::{Column, Group, Lanes};
use super::positions::is_end;
use super::record::Record;
use super::rows::{Row, choose};
use super::text::{lines, seconds};
use crate::trace::{Act, DiskAct, MessageFields, TraceEvent};
use std::collections::BTreeMap;

/// The x coordinate of the numbers of the events that led to the violation.
const BADGE: i64 = 102;
const LANES: i64 = 158;
/// The x coordinate of events that concern no node.
pub(super) const WORLD: i64 = 130;
/// The height of the names of nodes and processes.
pub(super) const HEAD: i64 = 98;
const ROW: i64 = 21;
const LINE: i64 = 15;
/// The height of the sign for a pause.
const BREAK: i64 = 17;
/// A pause longer than this is marked.
const PAUSE_US: u64 = 100_000;
/// The width of the column with node and process.
const WHO: i64 = 176;
/// The number of characters in a line of a label, and their width.
const LABEL: usize = 80;
const CHAR: i64 = 7;

/// The picture, ready for its template.
#[derive(Debug)]
pub(super) struct Diagram {
    pub(super) width: i64,
    pub(super) height: i64,
    pub(super) groups: Vec<Group>,
    pub(super) lives: Vec<Bar>,
    pub(super) downs: Vec<Down>,
    pub(super) breaks: Vec<Break>,
    pub(super) arrows: Vec<Arrow>,
    pub(super) marks: Vec<Mark>,
    pub(super) who: i64,
    pub(super) label: i64,
}

/// The life of a process.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) x: i64,
    pub(super) y: (i64, i64),
    pub(super) name: String,
    /// The process ends within the picture.
    pub(super) ends: bool,
}

/// The time in which a server is down.
#[derive(Debug)]
pub(super) struct Down {
    pub(super) x: i64,
    pub(super) y: i64,
    pub(super) width: i64,
    pub(super) height: i64,
}

/// A pause between two events of the diagram.
#[derive(Debug)]
pub(super) struct Break {
    pub(super) y: i64,
    pub(super) text: String,
}

/// A message, or an fsync from its beginning to its completion.
#[derive(Debug)]
pub(super) struct Arrow {
    pub(super) from: (i64, i64),
    pub(super) to: (i64, i64),
    pub(super) class: &'static str,
    /// The numbers of both events.
    pub(super) events: (u64, u64),
}

/// An event.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) number: u64,
    /// The number of the event among the events that led to the violation, from 1.
    pub(super) line: Option<usize>,
    pub(super) x: i64,
    pub(super) y: i64,
    pub(super) top: i64,
    pub(super) height: i64,
    pub(super) time: String,
    pub(super) shape: &'static str,
    pub(super) class: &'static str,
    pub(super) who: String,
    pub(super) text: Vec<(i64, String)>,
    pub(super) title: String,
}

impl Mark {
    pub(super) fn badge(&self) -> i64 {
        BADGE
    }
}

/// Draws the diagram.
pub(super) fn draw(page: &Page<'_>, record: &Record) -> Diagram {
    let rows = choose(page, record);
    let lanes = Lanes::new(page.plan, record, &rows, LANES);
    let (marks, breaks, bottom) = place(&rows, &lanes);
    let at: BTreeMap<u64, (i64, i64)> = (marks.iter())
        .map(|mark| (mark.number, (mark.x, mark.y)))
        .collect();
    let arrows = arrows(&rows, record, &at, &lanes);
    let y_of = |number: u64| at.range(number..).next().map(|(_, (_, y))| *y);
    let columns = lanes.groups.iter().flat_map(|group| &group.columns);
    let lives = columns
        .flat_map(|column| bars(column, &y_of, bottom))
        .collect();
    let downs = (lanes.groups.iter())
        .flat_map(|group| downs(group, record, &y_of, bottom))
        .collect();
    let (who, label) = (lanes.end + 16, lanes.end + 16 + WHO);
    let longest = marks.iter().flat_map(|mark| &mark.text);
    let longest = longest
        .map(|(_, line)| line.chars().count())
        .max()
        .unwrap_or(0);
    Diagram {
        width: label + i64::try_from(longest).unwrap_or(0) * CHAR + 16,
        height: bottom + 10,
        groups: lanes.groups,
        lives,
        downs,
        breaks,
        arrows,
        marks,
        who,
        label,
    }
}

/// Puts the rows below each other.
fn place(rows: &[Row<'_>], lanes: &Lanes) -> (Vec<Mark>, Vec<Break>, i64) {
    let (mut marks, mut breaks) = (Vec::new(), Vec::new());
    let mut y = HEAD;
    let mut before = None;
    for row in rows {
        let at = row.event.at.0;
        let pause = before.map_or(0, |before: u64| at.saturating_sub(before));
        if pause > PAUSE_US {
            breaks.push(Break {
                y: y + BREAK / 2,
                text: format!("{} later", super::text::seconds_short(pause / 1000 * 1000)),
            });
            y += BREAK;
        }
        let text = lines(&row.text, LABEL);
        let height = ROW + LINE * (i64::try_from(text.len()).unwrap_or(1) - 1);
        let (shape, class) = looks(row.event);
        let base = y + ROW / 2;
        let text = (0..).zip(text).map(|(n, line)| (base + 4 + n * LINE, line));
        let process = row.event.process.map(|process| process.to_string());
        let who = [row.event.node.clone(), process.unwrap_or_default()];
        let is_same_time = before == Some(at);
        marks.push(Mark {
            number: row.event.number,
            line: row.line,
            x: lanes
                .place(&row.event.node, row.event.process.map(|it| it.pid))
                .unwrap_or(WORLD),
            y: base,
            top: y,
            height,
            time: if is_same_time {
                String::new()
            } else {
                seconds(at)
            },
            shape,
            class,
            who: who.join(" ").trim().to_owned(),
            text: text.collect(),
            title: row
                .event
                .to_string()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" "),
        });
        y += height;
        before = Some(at);
    }
    (marks, breaks, y)
}

fn arrows(
    rows: &[Row<'_>],
    record: &Record,
    at: &BTreeMap<u64, (i64, i64)>,
    lanes: &Lanes,
) -> Vec<Arrow> {
    let arrow = |row: &Row<'_>| {
        let number = row.event.number;
        let (x, y) = at.get(&number)?;
        let from = (*x, *y);
        let other = record.pairs.get(&number);
        let end = other.and_then(|other| at.get(other));
        let to = match (&row.event.act, end) {
            (Act::Send { .. } | Act::Disk { .. }, Some((x, y))) => (*x, *y),
            // The receipt is not shown, or the message did not arrive.
            (Act::Send { peer, .. }, _) => {
                let x = lanes.place(peer, None)?;
                (from.0 + (x - from.0) / 3, from.1 + ROW / 2)
            }
            _ => return None,
        };
        let class = match (&row.event.act, end) {
            (Act::Disk { .. }, _) => "fsync",
            (Act::Send { .. }, None) if other.is_none() => "lost",
            (Act::Send { message, .. }, _) => class_of(message),
            _ => return None,
        };
        Some(Arrow {
            from,
            to,
            class,
            events: (number, other.copied().unwrap_or(number)),
        })
    };
    rows.iter().filter_map(arrow).collect()
}

const fn class_of(message: &MessageFields) -> &'static str {
    match message {
        MessageFields::XLogData { .. } => "wal",
        MessageFields::StandbyStatusUpdate { .. } | MessageFields::HotStandbyFeedback { .. } => {
            "reply"
        }
        MessageFields::Keepalive { .. } | MessageFields::Other { .. } => "other",
    }
}

fn bars(column: &Column, y_of: &dyn Fn(u64) -> Option<i64>, bottom: i64) -> Vec<Bar> {
    let bar = |(pid, life): &(walsim_core::base::Pid, super::record::Life)| {
        let from = y_of(life.from)?;
        let to = life.to.and_then(y_of);
        Some(Bar {
            x: column.x,
            y: (from, to.unwrap_or(bottom)),
            name: format!("{} {pid}", life.role.name()),
            ends: to.is_some(),
        })
    };
    column.lives.iter().filter_map(bar).collect()
}

/// The times in which the server of a node is down.
fn downs(
    group: &Group,
    record: &Record,
    y_of: &dyn Fn(u64) -> Option<i64>,
    bottom: i64,
) -> Vec<Down> {
    let mut downs = Vec::new();
    let mut since = None;
    let mut add = |from: u64, to: Option<u64>| {
        let (Some(y), to) = (y_of(from), to.and_then(y_of).unwrap_or(bottom)) else {
            return;
        };
        if y < to {
            downs.push(Down {
                x: group.x.0 - 13,
                y,
                width: group.x.1 - group.x.0 + 26,
                height: to - y,
            });
        }
    };
    for event in record
        .events
        .values()
        .filter(|event| event.node == group.node)
    {
        if let Act::World { text } = &event.act {
            if is_end(text) {
                since = since.or(Some(event.number));
            } else if text == "server started"
                && let Some(from) = since.take()
            {
                add(from, Some(event.number));
            }
        }
    }
    if let Some(from) = since {
        add(from, None);
    }
    downs
}

/// The symbol and the class of an event.
pub(super) fn looks(event: &TraceEvent) -> (&'static str, &'static str) {
    if event.act.is_verdict() {
        return ("stop", "verdict");
    }
    if let Act::World { text } = &event.act {
        return match text.as_str() {
            text if is_end(text) => ("cross", "fault"),
            "server started" | "accepts connections" | "faults and workload stop" => {
                ("ring", "life")
            }
            text if text.starts_with("operator: ") => ("ring", "client"),
            _ => ("triangle", "fault"),
        };
    }
    if let Act::Disk { act, fails, .. } = &event.act {
        return match fails {
            Some(_) => ("cross", "error"),
            None => disk(act),
        };
    }
    if matches!(&event.act, Act::DiskDone { result, .. } if result != "ok") {
        return ("cross", "error");
    }
    if matches!(&event.act, Act::Log { severity, .. } if severity != "LOG") {
        return ("note", "error");
    }
    let row = event.act.row();
    (row.symbol, row.class)
}

fn disk(act: &DiskAct) -> (&'static str, &'static str) {
    match act.op {
        "write" | "write-zeros" | "fsync" | "fsync-directory" => ("square", "disk"),
        "rename" | "unlink" | "truncate" | "mkdir" | "rmdir" => ("diamond", "disk"),
        _ => ("dot", "disk"),
    }
}
