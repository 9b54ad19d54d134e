//! Runs the plan again and keeps what the page shows. A run can have millions of events. Only the
//! last events, all faults, and the events near those that led to the violation are kept.

use super::Page;
use super::axis::Axis;
use super::positions::{Positions, is_end};
use crate::disk::Unsynced;
use crate::trace::{Act, Level, MessageFields, ProcessName, TraceEvent};
use crate::world::{World, run_recorded};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use walsim_core::base::{Pid, Planted};
use walsim_core::shmem::Role;

/// How many of the last events are kept.
const LAST: usize = 1500;
/// Events near an event that led to the violation are kept. Their numbers differ by at most this
/// many.
const NEAR: u64 = 30;
/// How many faults, starts and stops are kept, counted from the beginning of the run.
const WORLD: usize = 400;
/// How many lines of server logs are kept, counted from the beginning of the run.
const LOGS: usize = 200;
/// How many equal messages between two nodes, or disk operations of a process on a file, are
/// tracked until they arrive or complete.
const FLYING: usize = 200;

/// What the page shows of a run.
#[derive(Debug)]
pub(super) struct Record {
    /// The kept events by number.
    pub(super) events: BTreeMap<u64, TraceEvent>,
    /// The number of events at the level `events`.
    pub(super) total: u64,
    /// Maps the sending of a message to its receipt, and the issue of an fsync to its completion.
    /// Also maps each receipt to its sending, and each completion to its issue.
    pub(super) pairs: BTreeMap<u64, u64>,
    /// All processes, by node and id.
    pub(super) lives: BTreeMap<(String, Pid), Life>,
    pub(super) positions: Positions,
    /// The files with unsynced bytes at the end, by node.
    pub(super) unsynced: Vec<(String, Vec<Unsynced>)>,
    /// The numbers of the events that led to the violation, in the order in which they happened.
    pub(super) story: Vec<u64>,
}

/// The life of a process, in numbers of events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Life {
    pub(super) role: Role,
    /// The first event of the process.
    pub(super) from: u64,
    /// The event that ended the process or its server.
    pub(super) to: Option<u64>,
}

/// A message by its nodes and text, or a disk operation by its process and file.
type Key = (String, String, String);

struct Listener<'a> {
    record: Record,
    last: VecDeque<TraceEvent>,
    near: BTreeSet<u64>,
    flying: BTreeMap<Key, VecDeque<TraceEvent>>,
    worlds: usize,
    logs: usize,
    page: &'a Page<'a>,
}

impl Record {
    pub(super) fn of(page: &Page<'_>, planted: Planted) -> Self {
        let lines = &page.story.lines;
        let keys = lines.iter().map(|line| line.event.at.0);
        let axis = Axis::new(
            keys,
            page.outcome.sim_us,
            super::chart::LEFT,
            super::chart::WIDTH,
        );
        let mut story: Vec<u64> = lines.iter().map(|line| line.event.number).collect();
        story.dedup();
        let mut listener = Listener {
            record: Self {
                events: BTreeMap::new(),
                total: 0,
                pairs: BTreeMap::new(),
                lives: BTreeMap::new(),
                positions: Positions::new(page.plan, axis),
                unsynced: Vec::new(),
                story,
            },
            last: VecDeque::new(),
            near: near(page),
            flying: BTreeMap::new(),
            worlds: 0,
            logs: 0,
            page,
        };
        let is_last = |world: &World| match (page.until, world.next_at()) {
            (Some(until), Some(next)) => next > until,
            (_, next) => next.is_none() || world.finished().is_some(),
        };
        run_recorded(
            page.plan,
            planted,
            page.outcome,
            page.until,
            |world, events| {
                events.into_iter().for_each(|event| listener.hear(event));
                if is_last(world) {
                    listener.end(world);
                }
            },
        );
        let Listener {
            mut record, last, ..
        } = listener;
        record
            .events
            .extend(last.into_iter().map(|event| (event.number, event)));
        // The events that led to the violation may be of a level that the page does not show
        // otherwise.
        let told = page.story.lines.iter().map(|line| &line.event);
        record
            .events
            .extend(told.map(|event| (event.number, event.clone())));
        record
    }
}

/// The numbers of the events that are kept because they are near an event that led to the
/// violation.
fn near(page: &Page<'_>) -> BTreeSet<u64> {
    let mut near = BTreeSet::new();
    for line in &page.story.lines {
        let number = line.event.number;
        near.extend(number.saturating_sub(NEAR)..=number + NEAR);
        near.extend(line.repeats.map(|repeats| repeats.last_event));
    }
    near
}

impl Listener<'_> {
    fn hear(&mut self, event: TraceEvent) {
        self.record.positions.hear(&event);
        if event.act.level() > Level::Events {
            return;
        }
        self.record.total += 1;
        self.live(&event);
        self.pair(&event);
        let is_early = match event.act.row().class {
            "fault" if matches!(event.act, Act::Loss { .. }) => true,
            "fault" => take(&mut self.worlds, WORLD),
            "log" => take(&mut self.logs, LOGS),
            _ => false,
        };
        if is_early || self.near.contains(&event.number) {
            self.record.events.insert(event.number, event);
            return;
        }
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(event);
    }

    /// Follows the lives of processes.
    fn live(&mut self, event: &TraceEvent) {
        let lives = &mut self.record.lives;
        if let Some(ProcessName { role, pid }) = event.process {
            let life = lives.entry((event.node.clone(), pid)).or_insert(Life {
                role,
                from: event.number,
                to: None,
            });
            // A backend becomes a walsender.
            life.role = role;
            if matches!(event.act, Act::Exit { .. }) {
                life.to = Some(event.number);
            }
        }
        if let Act::World { text } = &event.act
            && is_end(text)
        {
            let node = lives
                .iter_mut()
                .filter(|((node, _), _)| *node == event.node);
            for (_, life) in node {
                life.to.get_or_insert(event.number);
            }
        }
    }

    /// Finds the receipt of a message and the completion of an fsync.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "events of other kinds have no other end"
    )]
    fn pair(&mut self, event: &TraceEvent) {
        match &event.act {
            Act::Send { peer, message, .. } => {
                self.begin(message_key(&event.node, peer, message), event);
            }
            Act::Receive { peer, message, .. } => {
                self.end_of(&message_key(peer, &event.node, message), event);
            }
            Act::Disk { act, .. } if act.op.starts_with("fsync") => {
                self.begin(disk_key(event, act.op, &act.file), event);
            }
            Act::DiskDone { act, .. } if act.op.starts_with("fsync") => {
                self.end_of(&disk_key(event, act.op, &act.file), event);
            }
            Act::Connection { peer, what } if *what == "requested" => {
                // Messages that the old connection has not delivered yet are lost.
                let ends = [&event.node, peer];
                self.flying
                    .retain(|(from, to, _), _| !(ends.contains(&from) && ends.contains(&to)));
            }
            _ => {}
        }
    }

    fn begin(&mut self, key: Key, event: &TraceEvent) {
        let queue = self.flying.entry(key).or_default();
        if queue.len() < FLYING {
            queue.push_back(event.clone());
        }
    }

    fn end_of(&mut self, key: &Key, event: &TraceEvent) {
        let Some(begin) = self.flying.get_mut(key).and_then(VecDeque::pop_front) else {
            return;
        };
        if self.flying.get(key).is_some_and(VecDeque::is_empty) {
            self.flying.remove(key);
        }
        self.record.pairs.insert(begin.number, event.number);
        self.record.pairs.insert(event.number, begin.number);
        let is_told = |number| self.record.story.contains(&number);
        if is_told(event.number) {
            self.record.events.insert(begin.number, begin);
        } else if is_told(begin.number) {
            self.near.insert(event.number);
        }
    }

    fn end(&mut self, world: &World) {
        let nodes = self.page.plan.nodes.iter().enumerate();
        let unsynced = nodes.map(|(host, node)| (node.name.clone(), world.disk(host).unsynced()));
        self.record.unsynced = unsynced.collect();
    }
}

/// Counts up to a limit.
fn take(count: &mut usize, most: usize) -> bool {
    *count += 1;
    *count <= most
}

fn message_key(from: &str, to: &str, message: &MessageFields) -> Key {
    (from.to_owned(), to.to_owned(), message.to_string())
}

fn disk_key(event: &TraceEvent, op: &str, file: &str) -> Key {
    let process = event.process.map(|process| process.to_string());
    (
        event.node.clone(),
        process.unwrap_or_default(),
        format!("{op} {file}"),
    )
}
