//! The world of a run: hosts, network, sessions, and a queue of future events. One step consists of
//! one `Machine::step` and all checks that follow.

mod clients;
mod death;
mod effects;
mod excuses;
mod faults;
mod host;
mod panics;
mod quiescence;
mod rebuild;
mod record;
mod session;
mod spans;
mod verdict;

pub use crate::referee::{Row, Violation};
pub use excuses::{Excuse, ExcuseCounts, Excuses, Forced, Part};
pub use record::RecordedRun;
pub(crate) use record::run_recorded;
pub use verdict::{Outcome, STUCK, Verdict};

use crate::checks::built_in;
use crate::choice::{Choices, collected};
use crate::disk::Disk;
use crate::net::{LinkSpec, Net};
use crate::plan::{EventKind, Plan};
use crate::referee::{Check, DiskAct, DiskEvent, Promise, Referee, ServerAct, Step};
use crate::trace::{ProcessName, Recorder, RunHash};
use clients::Clients;
use effects::is_segment;
use host::{Host, hosts};
use spans::Spans;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use walsim_core::base::{MarkSet, Mono, OpId, Pid, Planted, SegmentNo};
use walsim_core::call::{Effects, FilePath, Input, Machine};
use walsim_core::node::Node;
use walsim_core::shmem::Role;

/// The maximum number of steps at one simulated time. A run that exceeds this limit is stuck,
/// because its time does not advance. A server that clients keep busy does not reach the limit.
const STEPS_PER_INSTANT: u64 = 1_000_000;
/// The port that servers listen on.
pub(crate) const PORT: u16 = 5432;

/// A scheduled event.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Event {
    /// A disk operation completes.
    Disk(usize, OpId),
    /// A server is started.
    Boot(usize),
    /// An entry of the plan's workload begins.
    Workload(usize),
    Fault(usize),
    Action(usize),
    /// A fault ends.
    Heal(usize),
    /// A session wakes. The number identifies the wait, so that an outdated event is ignored.
    Session(usize, u64),
    /// A session has waited too long for an answer. An outdated event is ignored.
    Patience(usize, u64),
    /// The quiescent phase begins: faults and workload stop.
    Quiescence,
    /// Checks whether the cluster has converged.
    Look,
}

/// A run in progress.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    plan: Arc<Plan>,
    planted: Planted,
    audit: bool,
    choices: Choices,
    now: Mono,
    /// The number of steps since simulated time last advanced.
    steps_now: u64,
    queue: BTreeMap<(Mono, u64), Event>,
    queued: u64,
    hosts: Vec<Host>,
    net: Net,
    clients: Clients,
    referee: Referee,
    trace: RunHash,
    recorder: Recorder,
    spans: Spans,
    marks: MarkSet,
    faults: u64,
    /// The faults of the plan that took effect, by number.
    struck_rows: BTreeSet<usize>,
    commits: u64,
    /// How often each event has occurred on each node. Entries of the plan can wait for the nth
    /// occurrence.
    events: BTreeMap<(usize, EventKind), u32>,
    /// Slots that operators have dropped and not recreated.
    dropped_slots: BTreeSet<(usize, String)>,
    /// Legal events after which a standby may be unable to converge. Such an event is the cause of
    /// an excuse.
    causes: excuses::Causes,
    quiescence: Option<quiescence::Quiescence>,
    /// What the servers have logged about each standby since faults and workload stopped, or since
    /// the last repair or new record.
    witnesses: Vec<excuses::Witness>,
    rebuild: Option<rebuild::Rebuild>,
    /// For each server, how many times in a row the simulator has found the server stuck in a known
    /// hazard (docs/hazards).
    hung_looks: Vec<u32>,
    excuses: Excuses,
    forced: Option<Forced>,
    verdict: Option<Verdict>,
    /// The effects of the last step. They are kept only to reuse the memory.
    effects: Effects,
    /// The node that is making a step, and the process that runs.
    driven: Option<(usize, Option<(Pid, Role)>)>,
}

/// Runs a plan to its end. A panic of the node or of the simulator ends the run with
/// [`Verdict::Panic`].
///
/// # Panics
/// Never, because every run ends.
#[must_use]
pub fn run(plan: &Plan, planted: Planted, audit: bool) -> Outcome {
    run_at_most(plan, planted, audit, u64::MAX).expect("the quiescent phase has a bound")
}

/// Like [`run`], but with these checks instead of the built-in ones.
///
/// # Panics
/// Never, because every run ends.
#[must_use]
pub fn run_with(
    plan: &Plan,
    planted: Planted,
    audit: bool,
    checks: Vec<Box<dyn Check>>,
) -> Outcome {
    let outcome = run_checked(plan, planted, audit, u64::MAX, checks);
    outcome.expect("the quiescent phase has a bound")
}

/// Like [`run`], but limits the number of steps.
///
/// # Errors
/// If the run needs more steps. The error contains the rare states (marks) that the run has
/// reached.
pub fn run_at_most(
    plan: &Plan,
    planted: Planted,
    audit: bool,
    most: u64,
) -> Result<Outcome, MarkSet> {
    run_checked(plan, planted, audit, most, built_in())
}

fn run_checked(
    plan: &Plan,
    planted: Planted,
    audit: bool,
    most: u64,
    checks: Vec<Box<dyn Check>>,
) -> Result<Outcome, MarkSet> {
    // After a panic the state of the world is unreliable. The outcome only uses where and when the
    // world stopped.
    let mut world = None;
    let run = std::panic::AssertUnwindSafe(|| {
        let world = world.insert(World::with_checks(plan, planted, audit, checks));
        while world.step() && world.steps() <= most {}
    });
    match (panics::caught(run), world) {
        (Ok(()), Some(world)) if world.finished().is_none() => Err(world.marks()),
        (Ok(()), Some(world)) => Ok(world.outcome()),
        (Ok(()), None) => unreachable!("a run has a world"),
        (Err(panic), world) => Ok(panic.outcome(world.as_ref())),
    }
}

impl World {
    /// A world at the start of a run. The clusters exist, and no server has been started.
    ///
    /// # Panics
    /// If the plan has no node, which cannot happen for a plan that was read or generated.
    #[must_use]
    pub fn new(plan: &Plan, planted: Planted, audit: bool) -> Self {
        Self::with_checks(plan, planted, audit, built_in())
    }

    /// Like [`World::new`], but with these checks instead of the built-in ones.
    ///
    /// # Panics
    /// If the plan has no node, or a check subscribes to the same event twice.
    #[must_use]
    pub fn with_checks(
        plan: &Plan,
        planted: Planted,
        audit: bool,
        checks: Vec<Box<dyn Check>>,
    ) -> Self {
        let sessions = plan
            .workload
            .iter()
            .map(|row| row.session + 1)
            .max()
            .unwrap_or(0);
        let mut names: Vec<String> = plan.nodes.iter().map(|n| n.name.clone()).collect();
        names.extend((0..sessions).map(|n| format!("session{n}")));
        names.push(String::from("operator"));
        let choices = Choices::with_pins(plan.seed, names.clone(), plan.pins.clone());
        let spec = LinkSpec {
            latency_us: plan.network.latency_us,
            jitter_us: plan.network.jitter_us,
            bytes_per_ms: plan.network.bytes_per_ms,
            fragments: if plan.network.fragment { 100 } else { 0 },
            keepalive_us: plan.network.keepalive_us,
        };
        let mut world = Self {
            plan: Arc::new(plan.clone()),
            planted,
            audit,
            choices,
            now: Mono::default(),
            steps_now: 0,
            queue: BTreeMap::new(),
            queued: 0,
            hosts: hosts(plan),
            net: Net::new(&names, spec),
            clients: Clients::new(plan.nodes.len(), sessions),
            referee: Referee::new(plan, audit, checks),
            trace: RunHash::default(),
            recorder: Recorder::default(),
            spans: Spans::new(plan),
            marks: MarkSet::default(),
            faults: 0,
            struck_rows: BTreeSet::new(),
            commits: 0,
            events: BTreeMap::new(),
            dropped_slots: BTreeSet::new(),
            causes: excuses::Causes::default(),
            quiescence: None,
            witnesses: vec![excuses::Witness::default(); plan.nodes.len()],
            rebuild: None,
            hung_looks: vec![0; plan.nodes.len()],
            excuses: Excuses::default(),
            forced: None,
            verdict: None,
            effects: Effects::default(),
            driven: None,
        };
        for host in 0..plan.nodes.len() {
            world.at(Mono(0), Event::Boot(host));
        }
        world.schedule_rows();
        world.at(Mono(plan.active_us), Event::Quiescence);
        world
    }

    /// The time of the next step. Returns `None` if the run has ended.
    #[must_use]
    pub fn next_at(&self) -> Option<Mono> {
        let turns = self.hosts.iter().filter_map(|host| Some(host.turn?.at));
        let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
        let due = turns.chain(queued).chain(self.net.next_time()).min()?;
        self.verdict.is_none().then_some(due.max(self.now))
    }

    /// Executes one step of a machine or one event of the world. Returns false if the run has
    /// ended.
    pub fn step(&mut self) -> bool {
        let records = self.recorder.is_on();
        let (goes_on, drawn) = collected(records, || self.advance());
        self.record_choices(&drawn);
        goes_on
    }

    fn advance(&mut self) -> bool {
        if self.verdict.is_some() {
            return false;
        }
        let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
        let net = self.net.next_time();
        let turn = (0..self.hosts.len())
            .filter_map(|host| self.hosts[host].turn.map(|turn| (turn, host)))
            .min();
        let times = [queued, net, turn.map(|(turn, _)| turn.at)];
        let Some(next) = times.into_iter().flatten().min() else {
            unreachable!("the end of the run is always in the queue");
        };
        if next > self.now {
            self.now = next;
            self.steps_now = 0;
        }
        self.steps_now += 1;
        if self.steps_now > STEPS_PER_INSTANT {
            self.stuck(turn.map(|(_, host)| host));
        } else if queued == Some(next) {
            let (_, event) = self.queue.pop_first().expect("the queue is not empty");
            self.happen(event);
        } else if net == Some(next) {
            if let Some(delivery) = self.net.pop(self.now, &self.choices) {
                self.deliver(delivery);
            }
        } else if let Some((turn, host)) = turn {
            match turn.pid {
                Some(pid) => self.drive(host, Input::Run(pid)),
                None => self.hosts[host].reschedule(self.now, &self.choices),
            }
        }
        self.verdict.is_none()
    }

    /// Ends a run whose simulated time does not advance because a process never sleeps.
    fn stuck(&mut self, host: Option<usize>) {
        let host = host.map(|host| &self.hosts[host]);
        let facts = host.map(|host| host.standing(self.now));
        let violation = Violation {
            code: STUCK,
            node: host.map_or_else(String::new, |host| host.plan.name.clone()),
            process: None,
            at: self.now,
            message: format!(
                "simulated time does not advance: {STEPS_PER_INSTANT} steps at one instant"
            ),
            facts: facts.unwrap_or_default(),
        };
        self.emit(None, violation.message.clone());
        self.verdict.get_or_insert(Verdict::Stuck(violation));
    }

    /// The current time.
    #[must_use]
    pub const fn now(&self) -> Mono {
        self.now
    }

    /// Number of steps.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.trace.steps()
    }

    /// The hash over all steps so far.
    #[must_use]
    pub const fn trace_digest(&self) -> u64 {
        self.trace.digest()
    }

    /// The verdict, if the run has ended.
    #[must_use]
    pub const fn finished(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// A node, if it runs.
    #[must_use]
    pub fn node(&self, host: usize) -> Option<&Node> {
        self.hosts.get(host)?.node.as_ref()
    }

    /// A node's disk.
    ///
    /// # Panics
    /// If the plan has no such node.
    #[must_use]
    pub fn disk(&self, host: usize) -> &Disk {
        &self.hosts[host].disk
    }

    /// Rare states that the run has reached.
    #[must_use]
    pub const fn marks(&self) -> MarkSet {
        self.marks
    }

    /// The outcome of the run.
    ///
    /// # Panics
    /// If the run has not ended.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome_as(self.verdict.clone().expect("the run has ended"))
    }

    /// The outcome of a run that was stopped before its end. Its verdict is [`Verdict::Pass`],
    /// because nothing was violated so far.
    #[must_use]
    pub fn outcome_so_far(&self) -> Outcome {
        self.outcome_as(self.verdict.clone().unwrap_or(Verdict::Pass))
    }

    fn outcome_as(&self, verdict: Verdict) -> Outcome {
        let geometry = &self.hosts[0].plan.settings.geometry;
        let start = geometry.segment_start(SegmentNo(1));
        let wal_bytes = self.referee.wal_end().0.saturating_sub(start.0);
        Outcome {
            verdict,
            audited: self.audit,
            steps: self.trace.steps(),
            sim_us: self.now.0,
            hash: self.trace.digest(),
            marks: self.marks,
            commits: self.commits,
            wal_bytes,
            segments: wal_bytes / u64::from(geometry.segment),
            faults: self.faults,
            excuses: self.used_excuses(),
            idle_faults: (0..self.plan.faults.len())
                .filter(|row| !self.struck_rows.contains(row))
                .collect(),
        }
    }

    fn at(&mut self, at: Mono, event: Event) {
        self.queued += 1;
        self.queue.insert((at, self.queued), event);
    }

    fn violated(&mut self, mut violation: Violation) {
        // A step can violate several invariants. The first one is the verdict.
        if self.verdict.is_some() {
            return;
        }
        if let Some((host, Some((pid, role)))) = self.driven
            && self.hosts[host].plan.name == violation.node
        {
            violation.process = Some(ProcessName { role, pid });
        }
        let text = format!("{} violated: {}", violation.code, violation.message);
        self.record_world(None, &text);
        self.spans.violation(&violation);
        self.verdict = Some(match self.referee.promise_of(violation.code) {
            Promise::Liveness => Verdict::NoConvergence(violation),
            Promise::Safety => Verdict::Violation(violation),
        });
    }

    fn judge(&mut self, ruling: Result<(), Violation>) {
        if let Err(violation) = ruling {
            self.violated(violation);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Disk(host, op) => {
                if let Some(ticket) = self.hosts[host].ops.remove(&op) {
                    let synced = self.hosts[host].disk.syncs(&ticket).cloned();
                    let outcome = self.hosts[host].disk.complete(ticket, &self.choices);
                    self.record_completion(host, op, &outcome);
                    if let Some(path) = synced {
                        if is_segment(&path) && outcome.is_ok() {
                            self.after_event(host, EventKind::WalFsynced);
                        }
                        let ended = outcome
                            .as_ref()
                            .map_or_else(|error| Err(*error), |_| Ok(()));
                        self.disk_event(host, None, &path, DiskAct::Sync(ended));
                    }
                    self.drive(host, Input::Disk(op, outcome));
                }
            }
            Event::Boot(host) => self.boot(host),
            Event::Workload(row) => self.start_row(row),
            Event::Fault(row) => self.strike_row(row),
            Event::Action(row) => self.act_row(row),
            Event::Heal(row) => self.heal_row(row),
            Event::Session(session, ticket) => self.wake_session(session, ticket),
            Event::Patience(session, ticket) => self.check_patience(session, ticket),
            Event::Quiescence => self.begin_quiescence(),
            Event::Look => self.look(),
        }
    }

    fn boot(&mut self, host: usize) {
        let host_state = &mut self.hosts[host];
        if host_state.node.is_some() || host_state.boots_at.is_some_and(|at| at > self.now) {
            return;
        }
        let seed = self.choices.bits(crate::choice::Key::new(
            "node.seed",
            crate::choice::Subject::Node(host_state.index),
            [u64::from(host_state.incarnation), 0],
        ));
        host_state.boot(self.now, seed, self.planted, &self.choices);
        let index = host_state.index;
        let name = &host_state.plan.name;
        self.spans.starts(host, name, host_state.incarnation);
        self.net.power_on(self.now, index, &self.choices);
        self.net.listen(index, Some(PORT));
        self.server_event(host, ServerAct::Booted);
        self.emit(Some(host), "server started");
    }

    /// Passes an input to a node, executes its effects, and runs the checks.
    fn drive(&mut self, host: usize, input: Input) {
        let state = &mut self.hosts[host];
        let Some(node) = &mut state.node else { return };
        let now = state.clock.now(self.now);
        let mut effects = std::mem::take(&mut self.effects);
        effects.clear();
        let run = match &input {
            Input::Run(pid) => node.view().role(*pid).map(|role| (*pid, role)),
            Input::Net(..) | Input::Disk(..) | Input::Signal(..) => None,
        };
        self.trace.begin(state.index, now, &input);
        self.driven = Some((host, run));
        let before = self
            .recorder
            .before(host, node.view(), now, run.map(|(pid, _)| pid));
        node.step(now, input, &mut effects);
        self.trace.end(&effects);
        if let Some(before) = &before {
            self.record_step(host, run, before);
        }
        let state = &mut self.hosts[host];
        let Some(node) = &mut state.node else { return };
        self.marks.extend(node.probe().marks());
        if let Some((pid, role)) = run {
            state.pace(self.now, pid, role, self.plan.step_delays, &self.choices);
            self.stall(host, pid);
        }
        let crashed = self.carry_out(host, run, &mut effects);
        if !crashed {
            self.record_wait(host, run, now);
            self.check(host, run, &effects);
        }
        self.effects = effects;
        self.driven = None;
        self.hosts[host].reschedule(self.now, &self.choices);
    }

    /// Passes an event of a server to the referee.
    fn server_event(&mut self, host: usize, act: ServerAct<'_>) {
        let event = self.hosts[host].event(self.now, act);
        let ruling = self.referee.server(&event);
        if matches!(act, ServerAct::Gone(_)) {
            self.recorder.forget_server(host);
            self.spans.stops(host);
        }
        self.judge(ruling);
    }

    /// Passes a disk operation to the referee. Returns false if a check reports a violation.
    fn disk_event(
        &mut self,
        host: usize,
        pid: Option<Pid>,
        path: &FilePath,
        act: DiskAct<'_>,
    ) -> bool {
        let state = &self.hosts[host];
        let event = DiskEvent {
            site: state.site(self.now),
            view: state.node.as_ref().map(Node::view),
            disk: &state.disk,
            pid,
            path,
            act,
        };
        let ruling = self.referee.disk(&event);
        let holds = ruling.is_ok();
        self.judge(ruling);
        holds
    }

    fn check(&mut self, host: usize, ran: Option<(Pid, Role)>, effects: &Effects) {
        let state = &self.hosts[host];
        let Some(node) = &state.node else { return };
        let step = Step {
            site: state.site(self.now),
            clock: state.clock.now(self.now),
            view: node.view(),
            disk: &state.disk,
            ran,
            held: state.holds_any(self.now),
            effects,
        };
        let ruling = self.referee.step(&step);
        self.marks.extend(self.referee.marks());
        self.note_invalidations(host);
        self.judge(ruling);
    }
}

#[cfg(test)]
mod tests;
