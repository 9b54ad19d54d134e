//! Collects the events of a run.
//!
//! A recorder is not a part of a world's state. Two worlds with different recorders can therefore
//! be equal.

use super::event::{Act, DiskAct, ProcessName, TraceEvent};
use super::memory::Memory;
use super::positions::{Name, positions};
use super::status::{Pages, changes, pages};
use crate::referee::Stream;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use walsim_core::base::{ConnId, Lsn, Mono, Now, OpId, Pid};
use walsim_core::call::{Place, Signal, Wait, Woken};
use walsim_core::node::NodeView;
use walsim_core::shmem::LockId;

/// Records events if recording is enabled.
#[derive(Clone, Default, Debug)]
pub(crate) struct Recorder(pub(super) Option<Box<Recording>>);

impl PartialEq for Recorder {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Recorder {}

impl Hash for Recorder {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[derive(Clone, Default, Debug)]
pub(super) struct Recording {
    pub(super) events: Vec<TraceEvent>,
    pub(super) numbered: u64,
    /// The names of nodes and sessions, in the order of the network's machines.
    pub(super) names: Vec<String>,
    /// Disk operations in flight.
    pub(super) operations: BTreeMap<(usize, OpId), Operation>,
    /// Incomplete messages at the ends of connections. The key is true for bytes that the node
    /// sends.
    pub(super) streams: BTreeMap<(usize, ConnId, bool), Stream>,
    /// The name of each connection's other end. It is kept because that end may close before all
    /// its bytes have arrived.
    pub(super) peers: BTreeMap<(usize, ConnId), String>,
    /// The position at which the startup process of each node expects the next record.
    reading: BTreeMap<usize, Lsn>,
}

/// A disk operation in flight.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) act: DiskAct,
    pub(super) process: Option<ProcessName>,
}

/// The place and time of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    pub(crate) step: u64,
    pub(crate) at: Mono,
    /// The index of the machine. This is `None` for an event of the world.
    pub(crate) host: Option<usize>,
    pub(crate) process: Option<ProcessName>,
}

/// A node before a step.
#[derive(Debug)]
pub(crate) struct Before {
    ran: Option<(ProcessName, Place, Vec<String>)>,
    processes: BTreeMap<Pid, Process>,
    held: Vec<LockId>,
    positions: BTreeMap<Name, Lsn>,
    clog: Pages,
    memory: Memory,
}

#[derive(Debug)]
struct Process {
    latch: bool,
    pending: Vec<Signal>,
}

impl Recorder {
    pub(crate) fn start(&mut self, names: Vec<String>) {
        self.0.get_or_insert_with(|| {
            Box::new(Recording {
                names,
                ..Recording::default()
            })
        });
    }

    pub(crate) const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The events that were recorded since the last call.
    pub(crate) fn take(&mut self) -> Vec<TraceEvent> {
        match &mut self.0 {
            Some(recording) => std::mem::take(&mut recording.events),
            None => Vec::new(),
        }
    }

    /// Records an event.
    pub(crate) fn add(&mut self, spot: Spot, act: impl FnOnce() -> Act) {
        if let Some(recording) = &mut self.0 {
            recording.add(spot, act());
        }
    }

    /// Called before a step of a node. `pid` is the process that will make the step.
    pub(crate) fn before(
        &self,
        host: usize,
        view: NodeView<'_>,
        now: Now,
        pid: Option<Pid>,
    ) -> Option<Before> {
        let recording = self.0.as_ref()?;
        let ran = pid.and_then(|pid| {
            let process = view.process(pid)?;
            let name = ProcessName {
                role: process.role,
                pid,
            };
            Some((name, process.at, recording.woken_by(host, view, now, pid)))
        });
        let processes = view.processes().map(|process| {
            let pid = process.pid;
            let state = Process {
                latch: view.shmem().procs.latch(pid),
                pending: view.pending(pid).collect(),
            };
            (pid, state)
        });
        Some(Before {
            ran,
            processes: processes.collect(),
            held: pid.map_or_else(Vec::new, |pid| view.shmem().locks.held_by(pid).collect()),
            positions: positions(&view),
            clog: pages(&view.shmem().clog),
            memory: Memory::of(&view),
        })
    }

    /// Called after the step.
    pub(crate) fn after(&mut self, spot: Spot, view: NodeView<'_>, before: &Before) {
        let Some(recording) = &mut self.0 else { return };
        if let (Some(host), Some(at)) = (spot.host, view.reading()) {
            recording.reading.insert(host, at);
        }
        let mut add = |act: Act| recording.add(spot, act);
        if let Some((_, place, woken_by)) = &before.ran {
            let (place, woken_by) = (*place, woken_by.clone());
            add(Act::Run { place, woken_by });
        }
        for process in view.processes() {
            let name = ProcessName {
                role: process.role,
                pid: process.pid,
            };
            let Some(was) = before.processes.get(&process.pid) else {
                add(Act::Start { child: name });
                continue;
            };
            if !was.latch && view.shmem().procs.latch(process.pid) {
                add(Act::Latch { of: name });
            }
            let new = view.pending(process.pid);
            for signal in new.filter(|signal| !was.pending.contains(signal)) {
                let signal = signal.name();
                add(Act::Signal { to: name, signal });
            }
        }
        if let Some((name, ..)) = &before.ran {
            let held: BTreeSet<_> = view.shmem().locks.held_by(name.pid).collect();
            let had: BTreeSet<_> = before.held.iter().copied().collect();
            let locks = held.symmetric_difference(&had);
            locks.for_each(|lock| {
                add(Act::Lock {
                    lock: *lock,
                    taken: held.contains(lock),
                });
            });
        }
        for (xid, status) in changes(&before.clog, &view.shmem().clog) {
            add(Act::Transaction { xid, status });
        }
        for ((what, of), to) in positions(&view) {
            let key = (what, of);
            let from = before.positions.get(&key).copied().unwrap_or_default();
            if from != to {
                let of = key.1;
                add(Act::Position { what, of, from, to });
            }
        }
        let place = before.ran.as_ref().map(|(_, place, _)| *place);
        before
            .memory
            .changes(&view, place)
            .into_iter()
            .for_each(add);
    }

    /// Records for what the process waits after its step.
    pub(crate) fn waits(&mut self, host: usize, spot: Spot, view: NodeView<'_>, now: Now) {
        let Some(recording) = &mut self.0 else { return };
        let Some(pid) = spot.process.map(|process| process.pid) else {
            return;
        };
        if let Some(wait) = view.wait(pid) {
            let waits_for = recording.reasons(host, view, now, pid, wait, None);
            let place = wait.why;
            recording.add(spot, Act::Wait { place, waits_for });
        }
    }

    /// Called when the startup process cannot read the next record.
    pub(crate) fn end_of_wal(&mut self, host: usize, spot: Spot) {
        let Some(recording) = &mut self.0 else { return };
        if let Some(start) = recording.reading.get(&host).copied() {
            recording.add(spot, Act::Record { start });
        }
    }

    /// Called when a server has stopped. Forgets its operations in flight.
    pub(crate) fn forget_server(&mut self, host: usize) {
        if let Some(recording) = &mut self.0 {
            recording.operations.retain(|(at, _), _| *at != host);
            recording.streams.retain(|(at, _, _), _| *at != host);
            recording.peers.retain(|(at, _), _| *at != host);
            recording.reading.remove(&host);
        }
    }
}

impl Recording {
    pub(super) fn add(&mut self, spot: Spot, act: Act) {
        self.numbered += 1;
        let node = spot.host.and_then(|host| self.names.get(host));
        self.events.push(TraceEvent {
            number: self.numbered,
            step: spot.step,
            at: spot.at,
            node: node.cloned().unwrap_or_default(),
            process: spot.process,
            act,
        });
    }

    fn woken_by(&self, host: usize, view: NodeView<'_>, now: Now, pid: Pid) -> Vec<String> {
        let Some(wait) = view.wait(pid) else {
            return Vec::new();
        };
        let woken = view.woken(now, pid);
        self.reasons(host, view, now, pid, wait, Some(woken))
    }

    /// The conditions for which a process waits. With `woken`, returns only the conditions that are
    /// true.
    fn reasons(
        &self,
        host: usize,
        view: NodeView<'_>,
        now: Now,
        pid: Pid,
        wait: &Wait,
        woken: Option<Woken>,
    ) -> Vec<String> {
        let shows = |told: bool, has: fn(&Woken) -> bool| told && woken.as_ref().is_none_or(has);
        let mut reasons = Vec::new();
        if shows(wait.latch, |woken| woken.latch) {
            reasons.push(String::from("latch"));
        }
        if shows(wait.readable.is_some(), |woken| woken.readable) {
            reasons.push(String::from("input"));
        }
        if shows(wait.writable.is_some(), |woken| woken.writable) {
            reasons.push(String::from("room for output"));
        }
        if let Some(op) = wait.op {
            let act = self.operations.get(&(host, op));
            reasons.push(act.map_or_else(
                || String::from("disk"),
                |of| format!("{} of {}", of.act.op, of.act.file),
            ));
        }
        if wait.lock {
            let lock = view.shmem().locks.awaited(pid);
            reasons.push(lock.map_or_else(|| String::from("lock"), |lock| format!("lock {lock}")));
        }
        if wait.condvar {
            reasons.push(String::from("condition variable"));
        }
        if shows(wait.until.is_some(), |woken| woken.timeout)
            && let Some(until) = wait.until
        {
            let left = until.0.saturating_sub(now.mono.0);
            reasons.push(match woken {
                Some(_) => String::from("time-out"),
                None => format!("time-out after {} ms", left.div_ceil(1000)),
            });
        }
        reasons
    }
}
