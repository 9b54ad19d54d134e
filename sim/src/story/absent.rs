//! Finds what did not happen before the violation, such as an fsync, the save of a slot, or the
//! start of a process.

use super::subjects::Subjects;
use super::waits::Waiting;
use crate::trace::{Act, DiskAct, ProcessName, TraceEvent};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use walsim_core::base::{Lsn, Mono};
use walsim_core::call::Place;
use walsim_core::shmem::Role;
use walsim_core::wal::names::parse_segment_name;

/// Something that did not happen after an event.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Absence {
    /// The node.
    pub node: String,
    /// The number of the event after which something is missing.
    pub after_event: u64,
    /// What did not happen.
    pub text: String,
}

/// An event that should be followed by another one.
#[derive(Clone, Debug)]
struct Since {
    event: u64,
    at: Mono,
    process: Option<ProcessName>,
    what: String,
}

impl Since {
    fn of(event: &TraceEvent, what: impl Into<String>) -> Self {
        Self {
            event: event.number,
            at: event.at,
            process: event.process,
            what: what.into(),
        }
    }
}

/// A file that contains WAL that the violation is about.
#[derive(Clone, Default, Debug)]
struct FileState {
    /// The first write that no fsync has covered.
    unsynced: Option<Since>,
    /// The WAL that the first unsynced write and all later writes contain.
    wrote: Option<Range<Lsn>>,
    /// The rename that gave the file its name, until the directory is synced.
    renamed: Option<Since>,
    /// A failed fsync, until the file is written again.
    failed: Option<Since>,
    /// The fsync that succeeded after the failed one, without a write in between.
    retried: Option<(Since, Since)>,
    /// The event numbers of fsyncs in flight, by process.
    syncing: BTreeMap<(u32, u32), u64>,
}

/// Follows the events of a run, and remembers which expected events are missing.
#[derive(Default, Debug)]
pub(super) struct Absences {
    files: BTreeMap<(String, String), FileState>,
    /// The last move of each slot, until the slot is saved.
    moved: BTreeMap<(String, String), Since>,
    /// The slots that are marked dirty.
    dirty: BTreeSet<(String, String)>,
    /// The last change of a slot's position on each node, until the slot minimum is computed.
    uncomputed: BTreeMap<String, Since>,
    /// The last invalidation of a slot on each node, until the oldest WAL to keep is computed.
    invalidated: BTreeMap<String, Since>,
    /// The last request for a walreceiver that a postmaster took and did not note, by node.
    dropped: BTreeMap<String, Since>,
    /// Transactions that are committed in memory, until the status file is written.
    committed: BTreeMap<(String, u32), Since>,
    /// The last request for a walreceiver on each node, until a walreceiver is started.
    requested: BTreeMap<String, Since>,
    /// The last request to shut down each node.
    stopping: BTreeMap<String, Since>,
    /// The processes that got a signal since that request.
    signaled: BTreeSet<(String, u32, u32)>,
    /// The last write of each block that the violation is about, by node and file.
    block: BTreeMap<(String, String), u64>,
    /// The replay of the record that the violation is about, by node.
    replayed: BTreeMap<String, Since>,
    /// What was missing at power losses.
    lost: Vec<Absence>,
    /// The fsyncs of pg_wal in flight.
    directory: BTreeMap<String, u64>,
}

impl Absences {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "events of other kinds neither require nor complete anything"
    )]
    pub(super) fn hear(&mut self, event: &TraceEvent, subjects: &Subjects) {
        let node = || event.node.clone();
        match &event.act {
            Act::Disk { act, fails, .. } if fails.is_none() => self.issued(event, act, subjects),
            Act::DiskDone { act, result } => self.completed(event, act, result),
            Act::Position {
                what: "restart_lsn",
                of,
                to,
                ..
            } => self.slot_moves(event, of, &to.to_string(), subjects),
            Act::Slot {
                slot, field, to, ..
            } => self.slot_changes(event, slot, field, to),
            Act::SlotMinimum { .. } => {
                self.uncomputed.remove(&event.node);
            }
            Act::Horizon { .. } => {
                self.invalidated.remove(&event.node);
            }
            Act::Flag { flag, set, .. } => self.flag(event, flag, *set),
            Act::Position { what, to, .. }
                if *what == "replayed" && subjects.points.contains(to) =>
            {
                let since = Since::of(event, to.to_string());
                self.replayed.insert(node(), since);
            }
            Act::Signal { to, .. } => {
                let pid = to.pid;
                self.signaled.insert((node(), pid.incarnation, pid.n));
            }
            Act::World { text } if text.ends_with(" shutdown requested") => {
                self.signaled.retain(|(node, ..)| *node != event.node);
                self.stopping
                    .insert(node(), Since::of(event, text.as_str()));
            }
            Act::Transaction { xid, status } if subjects.xids.contains(xid) => {
                let since = Since::of(event, *status);
                self.committed.insert((node(), xid.0), since);
            }
            Act::Run { place, .. } if *place == Place::RequestXLogStreaming => {
                self.requested.insert(node(), Since::of(event, ""));
            }
            Act::Start { child } if child.role == Role::WalReceiver => {
                self.requested.remove(&event.node);
                self.dropped.insert(node(), Since::of(event, "started"));
            }
            Act::World { text } if text.starts_with("power loss") => self.power_loss(event),
            Act::World { text } if text == "all processes killed" || text == "server stopped" => {
                self.stopping.remove(&event.node);
                self.forget_memory(&event.node);
            }
            _ => {}
        }
    }

    fn slot_moves(&mut self, event: &TraceEvent, slot: &str, to: &str, subjects: &Subjects) {
        let node = event.node.clone();
        let what = format!("the restart_lsn of slot {slot} was set to {to}");
        self.uncomputed.insert(node.clone(), Since::of(event, what));
        if subjects.slots.contains(slot) {
            self.moved
                .insert((node, slot.to_owned()), Since::of(event, to));
        }
    }

    fn slot_changes(&mut self, event: &TraceEvent, slot: &str, field: &str, to: &str) {
        let key = (event.node.clone(), slot.to_owned());
        match (field, to) {
            ("dirty", "true") => drop(self.dirty.insert(key)),
            ("dirty", _) => drop(self.dirty.remove(&key)),
            // The startup process restores slots that were invalidated earlier.
            ("invalidated", cause)
                if event
                    .process
                    .is_some_and(|it| it.role == Role::Checkpointer) =>
            {
                let what = format!("slot {slot} was invalidated ({cause})");
                let since = Since::of(event, what);
                self.uncomputed.insert(event.node.clone(), since.clone());
                self.invalidated.insert(event.node.clone(), since);
            }
            _ => {}
        }
    }

    /// The postmaster takes the signal and notes the request, or starts a walreceiver at once. The
    /// process then starts in the same step.
    fn flag(&mut self, event: &TraceEvent, flag: &str, set: bool) {
        let node = event.node.clone();
        match (flag, set) {
            ("WalReceiverRequested", true) => drop(self.dropped.remove(&node)),
            ("PMSIGNAL_START_WALRECEIVER", false) => {
                let started = self.dropped.remove(&node);
                if !started.is_some_and(|it| it.what == "started" && it.at == event.at) {
                    self.dropped.insert(node, Since::of(event, flag));
                }
            }
            _ => {}
        }
    }

    fn issued(&mut self, event: &TraceEvent, act: &DiskAct, subjects: &Subjects) {
        let key = |file: &str| (event.node.clone(), String::from(file));
        let pid = event.process.map(|it| (it.pid.incarnation, it.pid.n));
        match act.op {
            "write" => {
                let bytes = act.offset.zip(act.len);
                let covers = |(file, block): &(String, Range<u64>)| {
                    let (start, len) = bytes.unwrap_or_default();
                    *file == act.file
                        && start <= block.start
                        && block.start < start.saturating_add(len)
                };
                if subjects.blocks.iter().any(covers) {
                    self.block.insert(key(&act.file), event.number);
                }
                if act.file.starts_with("pg_xact/") {
                    self.committed.retain(|(node, _), _| *node != event.node);
                }
                let range = act.lsn.as_ref();
                if let Some(range) = range.filter(|range| subjects.has_wal(range)) {
                    let state = self.files.entry(key(&act.file)).or_default();
                    state.failed = None;
                    // The write that violates the invariant cannot be synced yet.
                    if event.at == subjects.at && is_party(event, subjects) {
                        return;
                    }
                    let wrote = state.wrote.get_or_insert_with(|| range.clone());
                    *wrote = wrote.start.min(range.start)..wrote.end.max(range.end);
                    state.unsynced.get_or_insert(Since::of(event, ""));
                }
            }
            "fsync" => {
                if let (Some(state), Some(pid)) = (self.files.get_mut(&key(&act.file)), pid) {
                    state.syncing.insert(pid, event.number);
                }
            }
            "fsync-directory" if act.file == "pg_wal" => {
                self.directory.insert(event.node.clone(), event.number);
            }
            "rename" => {
                let to = act.to.as_deref().unwrap_or_default();
                if is_subject(to, subjects) {
                    let state = self.files.entry(key(to)).or_default();
                    state.renamed = Some(Since::of(event, ""));
                }
                let slot = to.strip_prefix("pg_replslot/").map(|rest| rest.split('/'));
                if let Some(mut parts) = slot
                    && let (Some(name), Some("state")) = (parts.next(), parts.next())
                {
                    self.moved.remove(&key(name));
                }
            }
            _ => {}
        }
    }

    fn completed(&mut self, event: &TraceEvent, act: &DiskAct, result: &str) {
        if act.op == "fsync-directory" && act.file == "pg_wal" && result == "ok" {
            let issued = self.directory.get(&event.node).copied().unwrap_or(0);
            for ((node, _), state) in &mut self.files {
                if *node == event.node {
                    state.renamed.take_if(|since| since.event < issued);
                }
            }
        }
        let pid = event.process.map(|it| (it.pid.incarnation, it.pid.n));
        let key = (event.node.clone(), act.file.clone());
        let Some(state) = self.files.get_mut(&key).filter(|_| act.op == "fsync") else {
            return;
        };
        let issued = pid.and_then(|pid| state.syncing.remove(&pid)).unwrap_or(0);
        if result != "ok" {
            state.failed = Some(Since::of(event, result));
            return;
        }
        if state
            .unsynced
            .take_if(|since| since.event < issued)
            .is_some()
        {
            state.wrote = None;
        }
        if let Some(failed) = state.failed.take() {
            state.retried = Some((failed, Since::of(event, "")));
        }
    }

    fn power_loss(&mut self, event: &TraceEvent) {
        let files = std::mem::take(&mut self.files);
        for ((node, file), state) in files {
            if node != event.node {
                self.files.insert((node, file), state);
                continue;
            }
            let before = format!("before the power loss at {}", seconds(event.at));
            self.lost.extend(of_file(&node, &file, &state, &before));
        }
        let status = self.committed.iter();
        let status = status.filter(|((node, _), _)| *node == event.node);
        let before = format!("before the power loss at {}", seconds(event.at));
        self.lost
            .extend(status.map(|(key, since)| of_status(key, since, &before)));
        self.forget_memory(&event.node);
    }

    /// The memory of a server is gone.
    fn forget_memory(&mut self, node: &str) {
        self.committed.retain(|(of, _), _| of != node);
        self.moved.retain(|(of, _), _| of != node);
        self.dirty.retain(|(of, _)| of != node);
        self.uncomputed.remove(node);
        self.invalidated.remove(node);
        self.requested.remove(node);
        self.dropped.remove(node);
    }

    /// What is missing at the end of the run, and what was missing at a power loss. `processes` are
    /// the processes at the end of the run.
    pub(super) fn of(self, subjects: &Subjects, processes: &[Waiting]) -> Vec<Absence> {
        let (shutdowns, blocks) = (self.of_shutdowns(processes), self.of_blocks(subjects));
        let retention = self.of_retention();
        let mut all = self.lost;
        if subjects.hangs {
            all.clear();
            let nodes = self.requested.iter();
            let nodes = nodes.filter(|(node, _)| subjects.nodes.contains(*node));
            all.extend(nodes.map(|(node, since)| Absence {
                node: node.clone(),
                after_event: since.event,
                text: format!(
                    "no walreceiver was started after the startup process requested one at {}",
                    seconds(since.at)
                ),
            }));
            all.extend(shutdowns);
            let dropped = self.dropped.iter().filter(|(_, it)| it.what != "started");
            let dropped = dropped.filter(|(node, _)| subjects.nodes.contains(*node));
            all.extend(dropped.map(|(node, since)| Absence {
                node: node.clone(),
                after_event: since.event,
                text: format!(
                    "the postmaster did not set WalReceiverRequested when it took {} at {}",
                    since.what,
                    seconds(since.at)
                ),
            }));
            return all;
        }
        all.extend(blocks);
        for ((node, file), state) in &self.files {
            all.extend(of_file(node, file, state, "before the violation"));
        }
        let status = self.committed.iter();
        all.extend(status.map(|(key, since)| of_status(key, since, "before the violation")));
        if subjects.retention {
            all.extend(retention);
        }
        for ((node, slot), since) in &self.moved {
            let (lsn, at) = (&since.what, seconds(since.at));
            let by = since
                .process
                .map_or_else(String::new, |it| format!(" by {it}"));
            let is_dirty = self.dirty.contains(&(node.clone(), slot.clone()));
            let missing = if is_dirty {
                "not saved"
            } else {
                "neither marked dirty nor saved"
            };
            all.push(Absence {
                node: node.clone(),
                after_event: since.event,
                text: format!(
                    "slot {slot} was {missing} after its restart_lsn was set to {lsn} at {at}{by}"
                ),
            });
        }
        all.retain(|absence| subjects.nodes.contains(&absence.node));
        all
    }
}

impl Absences {
    /// Results that were not computed again after a slot has changed.
    fn of_retention(&self) -> Vec<Absence> {
        let absent = |function: &str, (node, since): (&String, &Since)| Absence {
            node: node.clone(),
            after_event: since.event,
            text: format!("{function} after {} at {}", since.what, seconds(since.at)),
        };
        let minimum = "no ReplicationSlotsComputeRequiredLSN";
        let minimum = self.uncomputed.iter().map(|it| absent(minimum, it));
        let keep = "no second KeepLogSeg";
        let keep = self.invalidated.iter().map(|it| absent(keep, it));
        minimum.chain(keep).collect()
    }

    /// Processes that should exit, and got no signal.
    fn of_shutdowns(&self, processes: &[Waiting]) -> Vec<Absence> {
        let unsignaled = processes.iter().filter_map(|waiting| {
            let since = self.stopping.get(&waiting.node)?;
            let pid = waiting.process.pid;
            let key = (waiting.node.clone(), pid.incarnation, pid.n);
            if self.signaled.contains(&key) || waiting.process.role == Role::Postmaster {
                return None;
            }
            let (process, request, at) = (waiting.process, &since.what, seconds(since.at));
            Some(Absence {
                node: waiting.node.clone(),
                after_event: since.event,
                text: format!("{process} got no signal after the {request} at {at}")
                    .replace(" requested at", " was requested at"),
            })
        });
        unsignaled.collect()
    }

    /// Blocks that were not written after a node had replayed the last change of them.
    fn of_blocks(&self, subjects: &Subjects) -> Vec<Absence> {
        let mut absent = Vec::new();
        for (file, block) in &subjects.blocks {
            for (node, since) in &self.replayed {
                let key = (node.clone(), file.clone());
                if *node != subjects.node || self.block.get(&key).is_some_and(|n| *n > since.event)
                {
                    continue;
                }
                let (lsn, at, from) = (&since.what, seconds(since.at), block.start);
                absent.push(Absence {
                    node: node.clone(),
                    after_event: since.event,
                    text: format!(
                        "the page at byte {from} of {file} was not written after the record that ends at {lsn} was replayed at {at}"
                    ),
                });
            }
        }
        absent
    }
}

fn of_file(node: &str, file: &str, state: &FileState, before: &str) -> Vec<Absence> {
    let absence = |since: &Since, text: String| Absence {
        node: node.to_owned(),
        after_event: since.event,
        text,
    };
    let unsynced = state.unsynced.iter().map(|since| {
        let by = since
            .process
            .map_or_else(String::new, |it| format!("{it} "));
        let wal = state.wrote.clone().unwrap_or_default();
        let (from, to, at) = (wal.start, wal.end, seconds(since.at));
        let text =
            format!("no fsync of {file} completed after {by}wrote {from}..{to} at {at}, {before}");
        absence(since, text)
    });
    let renamed = state.renamed.iter().map(|since| {
        let at = seconds(since.at);
        let text = format!("no fsync of the directory pg_wal after the rename to {file} at {at}");
        absence(since, text)
    });
    let retried = state.retried.iter().map(|(failed, ok)| {
        let (from, to) = (seconds(failed.at), seconds(ok.at));
        let text = format!(
            "{file} was not written again between the fsync that failed at {from} and the fsync that succeeded at {to}"
        );
        absence(failed, text)
    });
    unsynced.chain(renamed).chain(retried).collect()
}

fn of_status((node, xid): &(String, u32), since: &Since, before: &str) -> Absence {
    let (status, at) = (&since.what, seconds(since.at));
    Absence {
        node: node.clone(),
        after_event: since.event,
        text: format!(
            "pg_xact was not written after transaction {xid} was marked {status} at {at}, {before}"
        ),
    }
}

fn is_party(event: &TraceEvent, subjects: &Subjects) -> bool {
    let process = event.process;
    process.is_some_and(|process| subjects.processes.contains(&process.pid))
}

fn is_subject(path: &str, subjects: &Subjects) -> bool {
    let geometry = &subjects.geometry;
    let name = path.strip_prefix("pg_wal/");
    let Some((_, segment)) = name.and_then(|name| parse_segment_name(geometry, name)) else {
        return false;
    };
    let start = geometry.segment_start(segment);
    subjects.has_wal(&(start..Lsn(start.0.saturating_add(geometry.segment.into()))))
}

/// Seconds with microseconds, as in the lines of the story.
pub(super) fn seconds(at: Mono) -> String {
    format!("{}.{:06}", at.0 / 1_000_000, at.0 % 1_000_000)
}
