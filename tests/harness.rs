//! Drives one machine on a simulated disk. The test decides which process runs and which disk
//! operation completes. The test also decides what the peers of the machine's connections do.

use std::collections::{BTreeMap, VecDeque};
use std::ops::DerefMut;
use walsim::choice::Choices;
use walsim::disk::{Disk, DiskSpec, Ticket};
use walsim_core::base::{ConnId, Mono, Now, OpId, Pid, Settings, TimestampTz};
use walsim_core::call::{DiskOp, Effect, Effects, Input, Machine, RunSet};
use walsim_core::node::initdb;

/// The largest number of steps without an advance of time. A machine that takes more steps would
/// never become idle.
const STEPS: u32 = 1_000_000;

/// A machine, its disk and its clocks.
#[derive(Clone)]
pub struct Harness<M> {
    /// The machine.
    pub machine: M,
    /// The disk of the machine.
    pub disk: Disk,
    /// Determines the choices of the disk, such as which writes survive a power loss.
    pub choices: Choices,
    /// The monotonic clock.
    pub now: Mono,
    /// The difference between the wall clock and the monotonic clock.
    pub wall_offset_us: i64,
    /// Inputs that wait until the effects of the current step have been executed.
    pub inputs: VecDeque<Input>,
    /// How many more effects are executed. All effects after these are dropped.
    pub effects_left: usize,
    /// The number of effects of all steps so far.
    pub effects_seen: usize,
    operations: BTreeMap<OpId, Ticket>,
}

impl<M: Machine> Harness<M> {
    /// A machine before its first step.
    pub fn new(machine: M, disk: Disk) -> Self {
        Self {
            machine,
            disk,
            choices: Choices::new(1),
            now: Mono(0),
            wall_offset_us: 0,
            inputs: VecDeque::new(),
            effects_left: usize::MAX,
            effects_seen: 0,
            operations: BTreeMap::new(),
        }
    }

    /// Both clocks.
    pub fn clock(&self) -> Now {
        let wall = i64::try_from(self.now.0).unwrap_or(i64::MAX);
        Now {
            mono: self.now,
            wall: TimestampTz(wall.saturating_add(self.wall_offset_us)),
        }
    }

    /// The processes that can run now.
    pub fn runnable(&self) -> Vec<Pid> {
        let mut set = RunSet::default();
        self.machine.runnable(self.clock(), &mut set);
        set.0
    }

    /// Whether a disk operation is in progress.
    pub fn has_operation(&self) -> bool {
        !self.operations.is_empty()
    }

    /// The completion of the operation that was issued first, as an input.
    fn completion(&mut self) -> Option<Input> {
        let (op, ticket) = self.operations.pop_first()?;
        Some(Input::Disk(op, self.disk.complete(ticket, &self.choices)))
    }

    /// Replaces the machine, as after a crash. The disk stays. With `finish`, operations in
    /// progress are executed first, and their results are dropped.
    pub fn replace(&mut self, machine: M, finish: bool) {
        for ticket in std::mem::take(&mut self.operations).into_values() {
            if finish {
                let _ = self.disk.complete(ticket, &self.choices);
            }
        }
        self.machine = machine;
        self.effects_left = usize::MAX;
    }

    /// Sets the clocks to the next wake-up of the machine. Returns false if the machine has no
    /// wake-up.
    pub fn sleep(&mut self) -> bool {
        let wake = self.machine.next_wakeup();
        self.now = self.now.max(wake.unwrap_or(self.now));
        wake.is_some()
    }

    /// Issues a disk operation. If a process exits, closes its files.
    fn carry_out(&mut self, pid: Pid, effect: &Effect) {
        if let Effect::Disk(_, call @ DiskOp::Close(_)) = effect {
            let _ = self.disk.call(pid, call, &self.choices);
        } else if let Effect::Disk(op, call) = effect {
            let (ticket, _) = self.disk.issue(pid, call, &self.choices);
            self.operations.insert(*op, ticket);
        } else if let Effect::Exit(_) = effect {
            self.disk.close_all(pid);
        }
    }
}

/// A harness, and how a test handles the effects of its machine.
pub trait Drive<M: Machine>: DerefMut<Target = Harness<M>> {
    /// Called for each effect. The harness itself has already issued disk operations.
    fn effect(&mut self, pid: Pid, effect: Effect);

    /// Called after each step, before its effects.
    fn stepped(&mut self) {}

    /// Passes an input to the machine, and executes its effects.
    fn input(&mut self, input: Input) {
        self.inputs.push_back(input);
        while let Some(input) = self.inputs.pop_front() {
            let mut fx = Effects::default();
            let now = self.clock();
            self.machine.step(now, input, &mut fx);
            self.stepped();
            for (pid, effect) in fx.0 {
                self.effects_seen += 1;
                if self.effects_left > 0 {
                    self.effects_left -= 1;
                    self.carry_out(pid, &effect);
                    self.effect(pid, effect);
                }
            }
        }
    }

    /// Lets a process run.
    fn run(&mut self, pid: Pid) {
        self.input(Input::Run(pid));
    }

    /// Completes the operation that was issued first. Returns false if no operation is in progress.
    fn complete_one(&mut self) -> bool {
        let completion = self.completion();
        completion.map(|input| self.input(input)).is_some()
    }

    /// Runs a process. If no process can run, completes an operation. Returns false if no operation
    /// is in progress either.
    fn advance(&mut self) -> bool {
        match self.runnable().first() {
            Some(pid) => {
                self.run(*pid);
                true
            }
            None => self.complete_one(),
        }
    }

    /// Runs the machine until it is idle at the current time.
    fn settle(&mut self) {
        for _ in 0..STEPS {
            if !self.advance() {
                return;
            }
        }
        panic!("the machine never becomes idle");
    }

    /// Runs the machine and lets time pass until the condition is true.
    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool)
    where
        Self: Sized,
    {
        for _ in 0..STEPS {
            if done(self) {
                return;
            }
            if !self.advance() {
                assert!(self.sleep(), "never: {what}");
            }
        }
        panic!("never: {what}");
    }

    /// Lets time pass.
    fn pass_ms(&mut self, ms: u64) {
        self.now = self.now.after_ms(ms);
        self.settle();
    }

    /// Lets time pass until the next wake-up of the machine, and then runs the machine. Returns
    /// false if the machine has no wake-up.
    fn pass(&mut self) -> bool {
        let woken = self.sleep();
        self.settle();
        woken
    }
}

/// The disk of a new cluster.
pub fn new_cluster(settings: &Settings) -> Disk {
    let geometry = &settings.geometry;
    let mut disk = Disk::new(0, DiskSpec::default(), geometry.sector, 1 << 30);
    for file in initdb(settings.pg_version, geometry, 7) {
        disk.set_up(&file);
    }
    disk
}

/// The connection number of the n-th client.
pub const fn client(n: u32) -> ConnId {
    ConnId { incarnation: 0, n }
}
