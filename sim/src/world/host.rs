//! One machine: a disk, a clock, and at most one running server.

use crate::choice::{Choices, Key, Subject};
use crate::clock::Clock;
use crate::disk::{Content, Disk, DiskSpec, Ticket};
use crate::plan::{NodePlan, Plan};
use crate::referee::{Fact, NodeAtEnd, ServerAct, ServerEvent, Site};
use std::collections::BTreeMap;
use walsim_core::base::{ConnId, Mono, OpId, Pid, Planted, SegmentNo};
use walsim_core::call::{Machine, RunSet};
use walsim_core::node::{Node, ProcessView, STANDBY_SIGNAL, initdb};
use walsim_core::shmem::{Role, Slot};

/// The earliest time at which a process may make its next step, and how many steps it has made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
struct Pace {
    not_before: Mono,
    steps: u64,
}

/// The next event that a host causes by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Turn {
    pub(super) at: Mono,
    /// Orders processes that can run at the same time.
    tie: u64,
    /// The process that makes the next step. This is `None` if a sleeping process will wake. The
    /// host determines at that time which process wakes.
    pub(super) pid: Option<Pid>,
}

/// One machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Host {
    pub(super) plan: NodePlan,
    pub(super) index: u16,
    pub(super) node: Option<Node>,
    pub(super) disk: Disk,
    pub(super) clock: Clock,
    /// Number of boots.
    pub(super) incarnation: u32,
    /// Operations in flight.
    pub(super) ops: BTreeMap<OpId, Ticket>,
    /// The owner of each connection.
    pub(super) conns: BTreeMap<ConnId, Pid>,
    paces: BTreeMap<Pid, Pace>,
    pub(super) turn: Option<Turn>,
    /// The processes that can run. Each [`Self::reschedule`] computes this set again. The set is
    /// kept only to reuse the memory.
    runnable: RunSet,
    /// A power loss or crash that will take effect between two effects of the next step.
    pub(super) doomed: Option<super::death::Doom>,
    /// Stalls that have not begun, because no process has ended a step in their C function yet.
    pub(super) stalls: Vec<super::faults::Stall>,
    /// The end of the current stall.
    held: Mono,
    /// The time at which the server will be started again. This is `None` if no start is scheduled.
    pub(super) boots_at: Option<Mono>,
    /// Whether the event `ready` has been reported since the last start of the server.
    pub(super) ready: bool,
    /// The operator has already found once that a smart shutdown waits although no session is
    /// connected.
    pub(super) alone: bool,
}

impl Host {
    pub(super) fn new(index: u16, plan: NodePlan, disk: Disk) -> Self {
        let clock = Clock::new(plan.clock_offset_us, plan.clock_drift_ppm);
        Self {
            plan,
            index,
            node: None,
            disk,
            clock,
            incarnation: 0,
            ops: BTreeMap::new(),
            conns: BTreeMap::new(),
            paces: BTreeMap::new(),
            turn: None,
            runnable: RunSet::default(),
            doomed: None,
            stalls: Vec::new(),
            held: Mono(0),
            boots_at: None,
            ready: false,
            alone: false,
        }
    }

    /// Starts the server.
    pub(super) fn boot(&mut self, now: Mono, seed: u64, planted: Planted, choices: &Choices) {
        self.incarnation += 1;
        self.boots_at = None;
        self.ready = false;
        self.alone = false;
        let settings = self.plan.settings.clone();
        self.node = Some(Node::boot(settings, seed, self.incarnation, planted));
        self.reschedule(now, choices);
    }

    /// The place and time of an event on this machine, as the referee reports them.
    pub(super) fn site(&self, now: Mono) -> Site<'_> {
        Site {
            now,
            host: self.index.into(),
            name: &self.plan.name,
            boot: self.incarnation,
        }
    }

    /// The node with its disk, as the referee sees it. Returns `None` if no server runs.
    pub(super) fn at_end(&self, now: Mono) -> Option<NodeAtEnd<'_>> {
        Some(NodeAtEnd {
            site: self.site(now),
            view: self.node.as_ref()?.view(),
            disk: &self.disk,
        })
    }

    /// An event of the host's server, as the referee sees it.
    pub(super) fn event<'a>(&'a self, now: Mono, act: ServerAct<'a>) -> ServerEvent<'a> {
        ServerEvent {
            site: self.site(now),
            view: self.node.as_ref().map(Node::view),
            disk: &self.disk,
            act,
        }
    }

    /// All processes of the server.
    pub(super) fn pids(&self) -> Vec<Pid> {
        let node = self.node.iter();
        node.flat_map(|node| node.view().processes())
            .map(|process| process.pid)
            .collect()
    }

    /// Forgets a server that has ended, and its processes.
    pub(super) fn forget_server(&mut self) {
        self.node = None;
        self.turn = None;
        self.ops.clear();
        self.paces.clear();
        self.doomed = None;
    }

    /// Called when a process has made a step. Draws when the process may make its next step.
    pub(super) fn pace(
        &mut self,
        now: Mono,
        pid: Pid,
        role: Role,
        delays: bool,
        choices: &Choices,
    ) {
        let pace = self.paces.entry(pid).or_default();
        pace.steps += 1;
        let delay_us = if delays {
            step_delay(self.index, role, pace.steps, choices)
        } else {
            0
        };
        pace.not_before = now.after_us(delay_us);
    }

    /// Stalls the process until this time.
    pub(super) fn hold(&mut self, pid: Pid, until: Mono) {
        let pace = self.paces.entry(pid).or_default();
        pace.not_before = pace.not_before.max(until);
        self.held = self.held.max(until);
    }

    /// Whether a stall currently holds any process.
    pub(super) fn holds_any(&self, now: Mono) -> bool {
        now <= self.held
    }

    /// Forgets a process that has ended.
    pub(super) fn forget(&mut self, pid: Pid) {
        self.paces.remove(&pid);
        self.disk.close_all(pid);
    }

    /// The kind of each process of the server, and the C function in which the process runs or
    /// waits.
    pub(super) fn standing(&self, now: Mono) -> Vec<Fact> {
        let Some(node) = &self.node else {
            return Vec::new();
        };
        let mut runnable = RunSet::default();
        node.runnable(self.clock.now(now), &mut runnable);
        let fact = |process: ProcessView| {
            let what = format!("{} {}", process.role.name(), process.pid);
            let state = match process.stopped {
                true => "is stopped",
                false if runnable.0.contains(&process.pid) => "can run",
                false => "waits",
            };
            Fact::new(what, &format!("{state} in {}", process.at))
        };
        node.view().processes().map(fact).collect()
    }

    /// Determines the process that runs next, and the time at which it runs.
    pub(super) fn reschedule(&mut self, now: Mono, choices: &Choices) {
        self.turn = None;
        let Some(node) = &self.node else { return };
        node.runnable(self.clock.now(now), &mut self.runnable);
        let pace = |pid: &Pid| self.paces.get(pid).copied().unwrap_or_default();
        let due = |pid: &Pid| pace(pid).not_before.max(now);
        // The earliest due time, the first process that is due at this time, and whether it is the
        // only such process.
        let mut first: Option<(Mono, Pid, bool)> = None;
        for pid in &self.runnable.0 {
            let at = due(pid);
            first = match first {
                Some((best, earlier, _)) if best == at => Some((best, earlier, false)),
                Some((best, ..)) if best < at => first,
                Some(_) | None => Some((at, *pid, true)),
            };
        }
        if let Some((at, pid, lone)) = first {
            let tie = |pid: &Pid| {
                let number = u64::from(pid.incarnation) << 32 | u64::from(pid.n);
                let what = [number, pace(pid).steps];
                choices.bits(Key::new("step.order", Subject::Node(self.index), what))
            };
            // Processes on different machines do not share memory. The order is therefore drawn
            // only among processes of one machine.
            let (tie, pid) = if lone {
                (0, pid)
            } else {
                let all = self.runnable.0.iter().filter(|pid| due(pid) == at);
                let drawn = all.map(|pid| (tie(pid), *pid)).min();
                drawn.unwrap_or((0, pid))
            };
            let pid = Some(pid);
            self.turn = Some(Turn { at, tie, pid });
            // A sleeping process wakes only after the current time, so this process runs first.
            if at <= now {
                return;
            }
        }
        if let Some(at) = node.next_wakeup().filter(|at| *at > now) {
            let turn = Turn {
                at,
                tie: 0,
                pid: None,
            };
            self.turn = Some(self.turn.map_or(turn, |best| best.min(turn)));
        }
    }
}

/// The delay between two steps of a process. Usually there is none, sometimes some microseconds,
/// and rarely some milliseconds.
fn step_delay(node: u16, role: Role, steps: u64, choices: &Choices) -> u64 {
    let key = |kind| Key::new(kind, Subject::Process(node, role.name()), [steps, 0]);
    match choices.below(key("step.delay"), 1000) {
        0..700 => 0,
        700..998 => 1 + choices.below(key("step.delay.us"), 50),
        _ => 1000 + choices.below(key("step.delay.long"), 99_000),
    }
}

/// The hosts with their disks. One new cluster is created, and its disk is copied for every
/// standby.
pub(super) fn hosts(plan: &Plan) -> Vec<Host> {
    let first = plan.nodes.first().expect("a plan has a node");
    let settings = &first.settings;
    let geometry = settings.geometry;
    // The upper half of a real server's system identifier is a timestamp. The simulator only needs
    // an identifier that is unique to the run.
    let sysid = Choices::new(plan.seed).bits(Key::new("cluster.sysid", Subject::World, [0, 0]));
    let spec = DiskSpec {
        latency_us: plan.disks.latency_us,
        jitter_us: plan.disks.jitter_us,
        fsync_us: plan.disks.fsync_us,
    };
    let mut cluster = Disk::new(0, spec, geometry.sector, first.disk_capacity);
    for file in initdb(settings.pg_version, &geometry, sysid) {
        cluster.set_up(&file);
    }
    let copies = plan.nodes.iter().zip(0u16..).map(|(node, index)| {
        let mut disk = cluster.copy_for(index, node.disk_capacity);
        for name in &node.slots {
            let slot = Slot {
                name: name.clone(),
                restart_lsn: geometry.segment_start(SegmentNo(1)),
                ..Slot::default()
            };
            let state = slot.to_file().encode(settings.pg_version);
            disk.set_up_file(&format!("pg_replslot/{name}/state"), Content::new(&state));
        }
        if node.settings.primary_conninfo.is_some() {
            disk.set_up_file(STANDBY_SIGNAL, Content::new(&[]));
        }
        Host::new(index, node.clone(), disk)
    });
    copies.collect()
}
