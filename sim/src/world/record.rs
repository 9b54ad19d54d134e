//! Passes events from the world to its recorder. Recording does not change a run.

use super::panics::Panicked;
use super::{Outcome, World};
use crate::choice::{Key, collected_before_panic};
use crate::disk::{Disk, Ticket};
use crate::net::Traffic;
use crate::plan::Plan;
use crate::referee::{Answer, ClientAct};
use crate::trace::{Act, Before, ProcessName, Spot, TraceEvent};
use bytes::Bytes;
use std::collections::VecDeque;
use walsim_core::base::{ConnId, Mono, Now, OpId, Pid, Planted, Settings};
use walsim_core::call::{
    DiskDone, DiskError, DiskOp, Effect, Exit, LogEvent, Message, NetEvent, NetOp,
};
use walsim_core::shmem::Role;
use walsim_core::wire::sql::Statement;

/// Runs a plan again and records its events, up to the end of the run or to a time. After each step
/// `see` is called with the events of the step. If a step panics, its events end with the panic.
/// The run is audited if the first run was.
pub(crate) fn run_recorded(
    plan: &Plan,
    planted: Planted,
    first: &Outcome,
    until: Option<Mono>,
    see: impl FnMut(&World, Vec<TraceEvent>),
) {
    run_made(|| World::new(plan, planted, first.audited), until, see);
}

fn run_made(
    make: impl FnOnce() -> World,
    until: Option<Mono>,
    mut see: impl FnMut(&World, Vec<TraceEvent>),
) {
    let mut world = None;
    let run = std::panic::AssertUnwindSafe(|| {
        let world = world.insert(make());
        world.record();
        let goes_on = |next: Mono| until.is_none_or(|until| next <= until);
        while world.next_at().is_some_and(goes_on) && world.step() {
            let events = world.take_events();
            see(world, events);
        }
    });
    let result = super::panics::caught(run);
    let Some(world) = &mut world else { return };
    if let Err(panic) = result {
        world.record_panic(&panic);
    }
    let events = world.take_events();
    see(world, events);
}

/// A run that records its events, and returns them as an iterator.
#[derive(Debug)]
pub struct RecordedRun {
    world: World,
    events: VecDeque<TraceEvent>,
    ended: bool,
}

impl RecordedRun {
    /// Begins a run of a plan.
    ///
    /// # Panics
    /// If the plan has no node, which cannot happen for a plan that was read or generated.
    #[must_use]
    pub fn new(plan: &Plan, planted: Planted) -> Self {
        let mut world = World::new(plan, planted, false);
        world.record();
        Self {
            world,
            events: VecDeque::new(),
            ended: false,
        }
    }
}

impl Iterator for RecordedRun {
    type Item = TraceEvent;

    fn next(&mut self) -> Option<TraceEvent> {
        while self.events.is_empty() && !self.ended {
            self.ended = self.world.step_caught() != Some(true);
            self.events.extend(self.world.take_events());
        }
        self.events.pop_front()
    }
}

impl World {
    /// The settings of the nodes, in the order of the plan.
    pub(crate) fn settings(&self) -> impl Iterator<Item = &Settings> {
        self.hosts.iter().map(|host| &host.plan.settings)
    }

    /// Starts to record all events. [`World::take_events`] returns them.
    pub fn record(&mut self) {
        let nodes = self.plan.nodes.iter().map(|node| node.name.clone());
        let names = nodes.chain(self.clients.names()).collect();
        self.recorder.start(names);
    }

    /// Runs one step like [`World::step`]. Returns `None` if the step panicked. The recorded
    /// events of such a step end with the panic, and the world must not run any further.
    pub fn step_caught(&mut self) -> Option<bool> {
        let mut more = false;
        let step = std::panic::AssertUnwindSafe(|| more = self.step());
        match super::panics::caught(step) {
            Ok(()) => Some(more),
            Err(panic) => {
                self.record_panic(&panic);
                None
            }
        }
    }

    /// The events recorded since the last call.
    pub fn take_events(&mut self) -> Vec<TraceEvent> {
        self.recorder.take()
    }

    /// The number of bytes that one machine has sent to another. The first indexes are those of the
    /// nodes in the plan, and the following ones are those of the client sessions.
    ///
    /// # Panics
    /// If there is no such machine.
    #[must_use]
    pub fn traffic(&self, from: u16, to: u16) -> Traffic {
        self.net.traffic(from, to)
    }

    /// Records the choices of a step.
    pub(super) fn record_choices(&mut self, drawn: &[(Key, u64)]) {
        let spot = self.spot(None, None);
        for (key, value) in drawn {
            let (choice, value) = (self.choices.text(*key), *value);
            self.recorder.add(spot, || Act::Choice { choice, value });
        }
    }

    /// Records a panic, and the choices of the step that panicked. The state of the world is
    /// unreliable, so that only the numbers of the node and its process are used.
    fn record_panic(&mut self, panic: &Panicked) {
        self.record_choices(&collected_before_panic());
        let (host, ran) = self.driven.unzip();
        let process = ran.flatten();
        let spot = Spot {
            process: process.map(|(pid, role)| ProcessName { role, pid }),
            ..self.spot(host, None)
        };
        let text = panic.to_string();
        self.recorder.add(spot, || Act::World { text });
    }

    fn spot(&self, host: Option<usize>, pid: Option<(Pid, Option<Role>)>) -> Spot {
        let node = host.and_then(|host| self.hosts.get(host)?.node.as_ref());
        let process = pid.and_then(|(pid, role)| {
            let is_postmaster = pid == Pid::postmaster(pid.incarnation);
            let role = role
                .or_else(|| node?.view().role(pid))
                .or(is_postmaster.then_some(Role::Postmaster))?;
            Some(ProcessName { role, pid })
        });
        Spot {
            step: self.trace.steps(),
            at: self.now,
            host,
            process,
        }
    }

    pub(super) fn record_world(&mut self, host: Option<usize>, text: &str) {
        if self.recorder.is_on() {
            let spot = self.spot(host, None);
            let text = text.to_owned();
            self.recorder.add(spot, || Act::World { text });
        }
    }

    pub(super) fn record_losses(&mut self, host: usize, before: &Disk) {
        let spot = self.spot(Some(host), None);
        let state = &self.hosts[host];
        let losses = state.disk.losses_since(before);
        let geometry = &state.plan.settings.geometry;
        self.recorder.loses(spot, geometry, losses);
    }

    /// Records a step of a node, before the effects of the step are executed.
    pub(super) fn record_step(&mut self, host: usize, ran: Option<(Pid, Role)>, before: &Before) {
        let spot = self.spot(Some(host), ran.map(|(pid, role)| (pid, Some(role))));
        if let Some(node) = &self.hosts[host].node {
            self.recorder.after(spot, node.view(), before);
        }
    }

    pub(super) fn record_wait(&mut self, host: usize, ran: Option<(Pid, Role)>, now: Now) {
        if self.recorder.is_on()
            && let Some((pid, role)) = ran
            && let Some(node) = &self.hosts[host].node
        {
            let spot = self.spot(Some(host), Some((pid, Some(role))));
            self.recorder.waits(host, spot, node.view(), now);
        }
    }

    pub(super) fn record_effect(
        &mut self,
        host: usize,
        ran: Option<(Pid, Role)>,
        pid: Pid,
        effect: &Effect,
    ) {
        if let Effect::Log(event) = effect {
            self.spans.log(host, self.now, pid, event);
        }
        if !self.recorder.is_on() {
            return;
        }
        let role = ran.filter(|(ran, _)| *ran == pid).map(|(_, role)| role);
        let spot = self.spot(Some(host), Some((pid, role)));
        match effect {
            Effect::Log(event) => {
                self.record_end_of_wal(host, spot, event);
                let (severity, text) = (event.severity.to_string(), event.message.to_string());
                self.recorder.add(spot, || Act::Log { severity, text });
            }
            Effect::Exit(exit) => {
                let how = exit_in_words(exit);
                self.recorder.add(spot, || Act::Exit { how });
            }
            Effect::Net(conn, call) => self.record_call(host, spot, *conn, call),
            Effect::Disk(..) | Effect::Halt => {}
        }
    }

    /// If the log line says why the startup process cannot read the next record, records which
    /// record this is.
    fn record_end_of_wal(&mut self, host: usize, spot: Spot, event: &LogEvent) {
        if matches!(event.message, Message::WalEnd(_)) {
            self.recorder.end_of_wal(host, spot);
        }
    }

    fn record_call(&mut self, host: usize, spot: Spot, conn: ConnId, call: &NetOp) {
        match call {
            NetOp::Connect { host: peer, .. } => {
                let (peer, what) = (peer.clone(), "requested");
                self.recorder.add(spot, || Act::Connection { peer, what });
            }
            NetOp::Send(pieces) => {
                let peer = self.peer_of(host, conn);
                self.recorder.bytes(spot, conn, true, peer, pieces);
            }
            NetOp::Close => {
                let (peer, what) = (self.peer_of(host, conn), "closed");
                self.recorder.add(spot, || Act::Connection { peer, what });
                self.recorder.closed(host, conn);
            }
            NetOp::Read { .. } | NetOp::HandOver(_) => {}
        }
    }

    fn peer_of(&mut self, host: usize, conn: ConnId) -> String {
        let peer = self.net.peer(self.hosts[host].index, conn);
        let machine = peer.map(|(machine, _)| machine);
        self.recorder.peer(host, conn, machine)
    }

    /// Called before a network event is delivered to a node.
    pub(super) fn record_delivery(&mut self, host: usize, conn: ConnId, event: &NetEvent) {
        if !self.recorder.is_on() {
            return;
        }
        let owner = self.hosts[host].conns.get(&conn).copied();
        let spot = self.spot(Some(host), owner.map(|pid| (pid, None)));
        let peer = self.peer_of(host, conn);
        let what = match event {
            NetEvent::Data(bytes) => {
                let pieces = [bytes.clone(), Bytes::new()];
                self.recorder.bytes(spot, conn, false, peer, &pieces);
                return;
            }
            NetEvent::Sent(_) => return,
            NetEvent::Accepted => "accepted",
            NetEvent::Connected => "open",
            NetEvent::Refused(_) => "refused",
            NetEvent::Closed => "closed by the peer",
            NetEvent::Reset => "reset",
        };
        self.recorder.add(spot, || Act::Connection { peer, what });
    }

    pub(super) fn record_issue(&mut self, host: usize, op: OpId, call: &DiskOp) {
        if self.recorder.is_on() {
            let state = &self.hosts[host];
            let geometry = &state.plan.settings.geometry;
            let path_of = |fd| state.disk.path_of(fd).cloned();
            self.recorder.issues(host, op, call, geometry, path_of);
        }
    }

    pub(super) fn record_issued(
        &mut self,
        (host, pid, op): (usize, Pid, OpId),
        call: &DiskOp,
        ticket: &Ticket,
        takes_us: u64,
    ) {
        if self.recorder.is_on() {
            let spot = self.spot(Some(host), Some((pid, None)));
            let takes_us = (!matches!(call, DiskOp::Close(_))).then_some(takes_us);
            self.recorder
                .issued(host, spot, op, takes_us, ticket.answer());
        }
    }

    pub(super) fn record_completion(
        &mut self,
        host: usize,
        op: OpId,
        outcome: &Result<DiskDone, DiskError>,
    ) {
        if self.recorder.is_on() {
            let spot = self.spot(Some(host), None);
            self.recorder.completed(host, spot, op, outcome);
        }
    }

    pub(super) fn record_client(&mut self, host: usize, session: usize, act: ClientAct<'_>) {
        if !self.recorder.is_on() {
            return;
        }
        let cut = |statement: &Statement| {
            let mut text = statement.to_string();
            if let Some((end, _)) = text.char_indices().nth(100) {
                text.truncate(end);
                text.push('…');
            }
            text
        };
        let text = match act {
            // The trace already contains the answer to the commit.
            ClientAct::Commit(_) => return,
            ClientAct::Statement(statement) => cut(statement),
            ClientAct::Answer(_, Answer::Complete { tag, warned }) => {
                let warning = if *warned { " after a warning" } else { "" };
                format!("answered {tag}{warning}")
            }
            ClientAct::Answer(statement, Answer::Error) => {
                format!("got an error for {}", cut(statement))
            }
            ClientAct::RowMissing(row) => {
                format!("does not find its committed row {} {}", row.rel, row.key)
            }
        };
        let spot = self.spot(Some(host), None);
        self.recorder.add(spot, || Act::Client { session, text });
    }
}

/// How a process exited, as text.
fn exit_in_words(exit: &Exit) -> String {
    match exit {
        Exit::Normal => String::from("exit status 0"),
        Exit::Silent => String::from("exit status 1"),
        Exit::Fatal(event) => format!("exit status 1 after {event}"),
        Exit::Panic(event) => format!("aborted after {event}"),
        Exit::Quit => String::from("exit status 2 after SIGQUIT"),
        Exit::Killed => String::from("killed by SIGKILL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Profile, generate};
    use crate::world::Event;
    use walsim_core::base::Mono;

    /// The last events of a run that panics are those of the step that panicked, and the panic.
    #[test]
    fn the_events_before_a_panic_are_kept() {
        let plan = generate(Profile::Default, 9);
        let make = || {
            let mut world = World::new(&plan, Planted::NONE, false);
            // There is no such node.
            world.at(Mono(500_000), Event::Boot(usize::MAX));
            world
        };
        let mut events = Vec::new();
        run_made(make, None, |_, new| events.extend(new));
        let last = events.last().expect("the run has events");
        assert!(events.len() > 100 && last.at == Mono(500_000), "{last}");
        assert!(last.act.is_verdict(), "{last}");
        assert!(
            last.to_string().contains("panic at sim/src/world/"),
            "{last}"
        );
    }
}
