//! Applies the faults and operator actions of the plan.

use super::death::Doom;
use super::{Event, Violation, World};
use crate::choice::{Key, Subject};
use crate::disk::{DiskFault, DiskFaultKind};
use crate::net::LinkSpec;
use crate::plan::{Action, EventKind, Fault, ShutdownMode, When, setting_named};
use crate::referee::{Fact, MachineFault, ServerAct, Value};
use std::collections::BTreeMap;
use walsim_core::base::{Mono, Pid};
use walsim_core::call::{Input, Place, Signal};
use walsim_core::node::{Node, PmState, ProcessView};
use walsim_core::shmem::Role;

/// How long the operator waits for a smart shutdown before requesting a fast one.
const SMART_PATIENCE_US: u64 = 3_000_000;

/// A stall that has not begun yet. It begins when a process ends a step in the C function `at`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Stall {
    /// The index of the stall in the plan's list of faults.
    pub(super) row: usize,
    pub(super) at: Place,
    pub(super) for_us: u64,
}

impl World {
    /// Schedules the entries of the plan whose time is given.
    pub(super) fn schedule_rows(&mut self) {
        let plan = self.plan.clone();
        let workload = plan.workload.iter().map(|row| &row.when);
        let rows = workload
            .enumerate()
            .map(|(n, when)| (when, Event::Workload(n)));
        let faults = plan
            .faults
            .iter()
            .enumerate()
            .map(|(n, r)| (&r.when, Event::Fault(n)));
        let actions = plan
            .actions
            .iter()
            .enumerate()
            .map(|(n, r)| (&r.when, Event::Action(n)));
        for (when, event) in rows.chain(faults).chain(actions) {
            if let When::At(us) = when {
                self.at(Mono(*us), event);
            }
        }
    }

    /// Whether any entry of the plan waits for an event.
    pub(super) fn waits_for_events(&self) -> bool {
        let waits = |when: &When| matches!(when, When::Event { .. });
        self.plan.faults.iter().any(|row| waits(&row.when))
            || self.plan.actions.iter().any(|row| waits(&row.when))
            || self.plan.workload.iter().any(|row| waits(&row.when))
    }

    /// Schedules the faults, actions and workload that wait for this event. A fault that kills this
    /// node is not scheduled but returned. The caller can then kill the node before it executes the
    /// effect that caused the event.
    pub(super) fn fire(&mut self, host: usize, event: EventKind) -> Option<Doom> {
        let count = self.events.entry((host, event)).or_default();
        *count += 1;
        let now = When::Event {
            node: host,
            event,
            nth: *count,
        };
        let plan = self.plan.clone();
        for (n, _) in plan
            .workload
            .iter()
            .enumerate()
            .filter(|(_, row)| row.when == now)
        {
            self.at(self.now, Event::Workload(n));
        }
        for (n, _) in plan
            .actions
            .iter()
            .enumerate()
            .filter(|(_, row)| row.when == now)
        {
            self.at(self.now, Event::Action(n));
        }
        let mut doom = None;
        for (n, row) in plan
            .faults
            .iter()
            .enumerate()
            .filter(|(_, row)| row.when == now)
        {
            let death = match row.fault {
                Fault::PowerLoss { node, off_us } => Some((node, Doom::PowerLoss(off_us))),
                Fault::NodeCrash { node, off_us } => Some((node, Doom::Crash(off_us))),
                Fault::Partition { .. }
                | Fault::Reset { .. }
                | Fault::Delay { .. }
                | Fault::FsyncError { .. }
                | Fault::DiskFull { .. }
                | Fault::ClockJump { .. }
                | Fault::Shutdown { .. }
                | Fault::Kill { .. }
                | Fault::Pause { .. }
                | Fault::Stall { .. }
                | Fault::StopReading { .. } => None,
            };
            match death {
                Some((node, death)) if node == host => {
                    self.struck_rows.insert(n);
                    doom = Some(death);
                }
                Some(_) | None => self.at(self.now, Event::Fault(n)),
            }
        }
        doom
    }

    /// Reports the event `ready` if the server has begun to accept connections in the last step.
    pub(super) fn note_state(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        let Some(node) = &state.node else { return };
        if self.causes.is_restarting(host) {
            self.causes.reached(host, node.view().postmaster_state());
        }
        if !state.ready {
            let open = [Some(PmState::Run), Some(PmState::HotStandby)];
            state.ready = open.contains(&node.view().postmaster_state());
            if state.ready {
                self.emit(Some(host), "accepts connections");
                self.after_event(host, EventKind::Ready);
            }
        }
    }

    /// Schedules the faults, actions and workload that wait for this event. Called for events that
    /// no effect causes. If a fault kills the node, the node dies at once.
    pub(super) fn after_event(&mut self, host: usize, event: EventKind) {
        if self.waits_for_events()
            && let Some(doom) = self.fire(host, event)
        {
            self.die(host, doom);
        }
    }

    pub(super) fn strike_row(&mut self, row: usize) {
        if self.quiescence.is_some() {
            return;
        }
        let fault = self.plan.faults[row].fault.clone();
        self.trace.note(&[row as u64]);
        match fault {
            Fault::PowerLoss { node, off_us } => self.doom(row, node, Doom::PowerLoss(off_us)),
            Fault::NodeCrash { node, off_us } => self.doom(row, node, Doom::Crash(off_us)),
            Fault::Partition {
                a,
                b,
                one_way,
                for_us,
            } => {
                self.partition(row, [a, b], one_way);
                self.at(self.now.after_us(for_us), Event::Heal(row));
            }
            Fault::Reset { a, b } => self.reset(row, [a, b]),
            Fault::Delay {
                a,
                b,
                by_us,
                for_us,
            } => {
                self.delay(row, [a, b], by_us);
                self.at(self.now.after_us(for_us), Event::Heal(row));
            }
            Fault::FsyncError {
                node,
                path,
                drop_pages,
            } => self.fail_fsync(row, node, path, drop_pages),
            Fault::DiskFull { node, for_us } => {
                self.hosts[node].disk.inject(DiskFault {
                    kind: DiskFaultKind::Full,
                    prefix: String::new(),
                    left: u32::MAX,
                });
                self.struck(row, Some(node), "disk full");
                self.at(self.now.after_us(for_us), Event::Heal(row));
            }
            Fault::ClockJump { node, by_us } => {
                self.hosts[node].clock.jump(self.now, by_us);
                self.machine_fault(node, MachineFault::ClockJump(by_us));
                self.struck(row, Some(node), format!("wall clock jumps by {by_us} us"));
                self.hosts[node].reschedule(self.now, &self.choices);
            }
            Fault::Shutdown { node, mode, off_us } => self.shutdown(row, node, mode, off_us),
            Fault::Kill { node, process } => self.kill_one(row, node, process),
            Fault::Pause {
                node,
                process,
                for_us,
            } => self.pause(row, node, process, for_us),
            Fault::Stall { node, at, for_us } => {
                self.hosts[node].stalls.push(Stall { row, at, for_us });
            }
            Fault::StopReading { node, for_us } => {
                self.net.stop_reading(self.hosts[node].index);
                self.struck(row, Some(node), "stops reading from its peers");
                self.at(self.now.after_us(for_us), Event::Heal(row));
            }
        }
    }

    fn partition(&mut self, row: usize, [a, b]: [usize; 2], one_way: bool) {
        let (from, to) = (self.hosts[a].index, self.hosts[b].index);
        self.net.block(from, to);
        if !one_way {
            self.net.block(to, from);
        }
        let line = format!("partition between {} and {}", self.name(a), self.name(b));
        self.struck(row, None, line);
    }

    fn reset(&mut self, row: usize, [a, b]: [usize; 2]) {
        let (from, to) = (self.hosts[a].index, self.hosts[b].index);
        if self.net.reset_between(self.now, from, to) > 0 {
            let (a, b) = (self.name(a), self.name(b));
            let line = format!("connections between {a} and {b} reset");
            self.struck(row, None, line);
        }
    }

    fn delay(&mut self, row: usize, [a, b]: [usize; 2], by_us: u64) {
        let (from, to) = (self.hosts[a].index, self.hosts[b].index);
        let spec = self.net.link_spec(from, to);
        let slow = LinkSpec {
            latency_us: spec.latency_us.saturating_add(by_us),
            ..spec
        };
        self.net.set_link(from, to, slow);
        let line = format!("{} reaches {} {by_us} us later", self.name(a), self.name(b));
        self.struck(row, None, line);
    }

    fn fail_fsync(&mut self, row: usize, node: usize, path: String, drop_pages: bool) {
        let line = format!("the next fsync below {path} will fail");
        let kind = if drop_pages {
            DiskFaultKind::FsyncDrops
        } else {
            DiskFaultKind::FsyncKeeps
        };
        self.hosts[node].disk.inject(DiskFault {
            kind,
            prefix: path,
            left: 1,
        });
        self.struck(row, Some(node), line);
    }

    /// Requests a shutdown for the operator, and schedules the next start of the server.
    fn shutdown(&mut self, row: usize, node: usize, mode: ShutdownMode, off_us: u64) {
        if self.hosts[node].node.is_some() {
            self.hosts[node].boots_at = Some(self.now.after_us(off_us));
            self.count_fault(row);
            self.shut_down(node, mode);
            if mode == ShutdownMode::Smart {
                self.at(self.now.after_us(SMART_PATIENCE_US), Event::Heal(row));
            }
        }
    }

    /// Kills one process of this kind.
    fn kill_one(&mut self, row: usize, node: usize, process: Role) {
        let those = self.processes(node, Some(process));
        let what = [row as u64, 0];
        let key = Key::new("kill.which", Subject::Node(self.hosts[node].index), what);
        let which = self.choices.below(key, those.len().max(1) as u64);
        if let Some(pid) = those.get(usize::try_from(which).expect("below a length")) {
            self.struck(row, Some(node), format!("{} {pid} killed", process.name()));
            self.signal(node, *pid, Signal::Kill);
        }
    }

    /// Stops all processes of a node, or only those of one kind, for some time.
    fn pause(&mut self, row: usize, node: usize, process: Option<Role>, for_us: u64) {
        let those = self.processes(node, process);
        if !those.is_empty() {
            let what = process.map_or("server", Role::name);
            self.struck(row, Some(node), format!("{what} paused"));
            self.at(self.now.after_us(for_us), Event::Heal(row));
        }
        for pid in those {
            self.signal(node, pid, Signal::Stop);
        }
    }

    pub(super) fn heal_row(&mut self, row: usize) {
        match self.plan.faults[row].fault.clone() {
            Fault::Partition { a, b, .. } => {
                let (from, to) = (self.hosts[a].index, self.hosts[b].index);
                self.net.heal(self.now, from, to, &self.choices);
                self.net.heal(self.now, to, from, &self.choices);
                self.emit(None, "partition healed");
            }
            Fault::Delay { a, b, by_us, .. } => {
                let (from, to) = (self.hosts[a].index, self.hosts[b].index);
                let spec = self.net.link_spec(from, to);
                let latency_us = spec.latency_us.saturating_sub(by_us);
                self.net.set_link(from, to, LinkSpec { latency_us, ..spec });
            }
            Fault::DiskFull { node, .. } => {
                self.hosts[node].disk.heal();
                self.emit(Some(node), "disk has free space again");
            }
            Fault::StopReading { node, .. } => {
                self.net.resume_reading(self.now, self.hosts[node].index);
            }
            Fault::PowerLoss { .. }
            | Fault::NodeCrash { .. }
            | Fault::Reset { .. }
            | Fault::FsyncError { .. }
            | Fault::ClockJump { .. }
            | Fault::Kill { .. }
            | Fault::Stall { .. } => {}
            Fault::Shutdown { node, mode, .. } => {
                let host = &self.hosts[node];
                if mode == ShutdownMode::Smart && host.node.is_some() && host.boots_at.is_some() {
                    self.lose_patience_with(row, node);
                }
            }
            Fault::Pause { node, .. } => self.resume(node),
        }
    }

    /// Called when a smart shutdown has taken too long. If sessions are still connected, the
    /// operator requests a fast shutdown. If no session is connected, the server has one more
    /// second to begin to stop its other processes. After this second the run fails.
    fn lose_patience_with(&mut self, row: usize, host: usize) {
        let waits = self.waits_for_no_session(host);
        if !waits {
            self.shut_down(host, ShutdownMode::Fast);
        } else if std::mem::replace(&mut self.hosts[host].alone, true) {
            self.violated(Violation {
                code: "LIVE",
                node: self.hosts[host].plan.name.clone(),
                process: None,
                at: self.now,
                message: String::from(
                    "a smart shutdown does not end although no session is connected",
                ),
                facts: vec![Fact::new("waited", &Value::Duration(1_000_000))],
            });
        } else {
            self.at(self.now.after_ms(1000), Event::Heal(row));
        }
    }

    fn waits_for_no_session(&self, host: usize) -> bool {
        let state = &self.hosts[host];
        let Some(node) = state.node.as_ref().filter(|_| !state.holds_any(self.now)) else {
            return false;
        };
        let view = node.view();
        let excuses = |process: ProcessView| {
            process.role == Role::Postmaster && process.stopped || process.role == Role::Backend
        };
        let open = [Some(PmState::Run), Some(PmState::HotStandby)];
        open.contains(&view.postmaster_state()) && !view.processes().any(excuses)
    }

    /// Edits the configuration file and reloads the configuration, as an operator does with `pg_ctl
    /// reload`.
    fn reload(&mut self, host: usize, values: &BTreeMap<String, String>) {
        let limit = self.hosts[host].plan.settings.max_slot_wal_keep_size;
        self.causes.limit_changes(host, limit);
        let state = &mut self.hosts[host];
        for (name, value) in values {
            let setting = setting_named(name).expect("a plan contains only known settings");
            let set = setting.set_exactly(&mut state.plan.settings, value);
            set.expect("a plan contains only valid values");
        }
        let edited: Vec<String> = values.iter().map(|(n, v)| format!("{n} = {v}")).collect();
        if let Some(node) = &mut state.node {
            node.reload(state.plan.settings.clone());
        }
        let postmaster = Pid::postmaster(state.incarnation);
        self.emit(
            Some(host),
            format!("operator: reload with {}", edited.join(", ")),
        );
        self.machine_fault(host, MachineFault::Reload);
        self.signal(host, postmaster, Signal::Hup);
    }

    /// Stops the server, as an operator does with `pg_ctl stop`.
    pub(super) fn shut_down(&mut self, node: usize, mode: ShutdownMode) {
        let postmaster = Pid::postmaster(self.hosts[node].incarnation);
        let signal = match mode {
            ShutdownMode::Smart => Signal::Term,
            ShutdownMode::Fast => Signal::Int,
            ShutdownMode::Immediate => Signal::Quit,
        };
        self.emit(Some(node), format!("{} shutdown requested", mode.name()));
        self.signal(node, postmaster, signal);
    }

    /// Sends a signal from outside the server.
    fn signal(&mut self, host: usize, pid: Pid, signal: Signal) {
        let node = self.hosts[host].node.as_ref();
        let role = node.and_then(|node| node.view().role(pid));
        self.server_event(host, ServerAct::Signaled { pid, role, signal });
        self.drive(host, Input::Signal(pid, signal));
    }

    fn machine_fault(&mut self, host: usize, fault: MachineFault) {
        self.server_event(host, ServerAct::Fault(fault));
    }

    /// The running processes of a kind. With `None`, all processes.
    fn processes(&self, host: usize, role: Option<Role>) -> Vec<Pid> {
        let node = self.hosts[host].node.iter();
        node.flat_map(|node| node.view().processes())
            .filter(|process| role.is_none_or(|role| process.role == role))
            .map(|process| process.pid)
            .collect()
    }

    /// Continues all paused processes.
    pub(super) fn resume(&mut self, host: usize) {
        for pid in self.paused(host) {
            self.signal(host, pid, Signal::Cont);
        }
    }

    fn paused(&self, host: usize) -> Vec<Pid> {
        let node = self.hosts[host].node.iter();
        node.flat_map(|node| node.view().processes())
            .filter(|process| process.stopped)
            .map(|process| process.pid)
            .collect()
    }

    pub(super) fn act_row(&mut self, row: usize) {
        let plan = self.plan.clone();
        match &plan.actions[row].action {
            Action::Sql { node, statement } => self.operate(*node, statement.clone()),
            Action::Reload { node, settings } => {
                // After faults and workload have stopped, a reload happens only if the plan gives
                // its time. A reload that waits for an event could otherwise happen at any time.
                let has_time = plan.actions[row].when.at_us().is_some();
                if has_time || self.quiescence.is_none() {
                    self.reload(*node, settings);
                }
            }
            Action::GrowDisk { node, by } => {
                self.hosts[*node].disk.grow(*by);
                self.emit(
                    Some(*node),
                    format!("operator: disk enlarged by {by} bytes"),
                );
            }
        }
    }

    /// Stalls the process that has just ended a step, if the plan stalls the C function in which
    /// the process now waits.
    pub(super) fn stall(&mut self, host: usize, pid: Pid) {
        let state = &mut self.hosts[host];
        if state.stalls.is_empty() {
            return;
        }
        let view = state.node.as_ref().map(Node::view);
        let Some(at) = view.and_then(|view| view.process(pid)).map(|p| p.at) else {
            return;
        };
        if let Some(found) = state.stalls.iter().position(|stall| stall.at == at) {
            let Stall { row, at, for_us } = state.stalls.remove(found);
            let until = self.now.after_us(for_us);
            state.hold(pid, until);
            self.struck_rows.insert(row);
            self.machine_fault(host, MachineFault::Stall(pid, until));
            let ms = for_us / 1000;
            self.emit(
                Some(host),
                format!("process {pid} stalls at {at} for {ms} ms"),
            );
        }
    }

    fn name(&self, host: usize) -> &str {
        &self.hosts[host].plan.name
    }

    fn struck(&mut self, row: usize, host: Option<usize>, text: impl Into<String>) {
        self.count_fault(row);
        self.emit(host, text);
    }

    /// An fsync error has no effect if no fsync follows. Removes such errors from the list of
    /// faults that took effect.
    pub(super) fn forget_unmet_fsync_errors(&mut self) {
        for (row, fault) in self.plan.faults.iter().enumerate() {
            let Fault::FsyncError { node, path, .. } = &fault.fault else {
                continue;
            };
            let waiting = self.hosts[*node].disk.faults();
            if waiting
                .iter()
                .any(|fault| fault.prefix == *path && fault.left > 0)
            {
                self.struck_rows.remove(&row);
            }
        }
    }

    fn count_fault(&mut self, row: usize) {
        self.faults += 1;
        self.struck_rows.insert(row);
    }
}
