//! The referee shows every event to the checks that have subscribed to it. It also maintains the
//! knowledge that all checks share.
//!
//! The world reports events to the referee and does not know the checks. A check knows neither the
//! world nor other checks. [`Check`] explains how to write a check.

mod check;
mod event;
mod exemption;
mod fact;
mod index;
mod knowledge;
#[cfg(test)]
pub(crate) mod testing;
mod violation;
mod wire;

pub use check::{About, Check, Memory, PerNode, Promise, Ruling, Subscription};
pub use event::{
    Answer, ChangeKind, ClientAct, ClientEvent, ClientKind, DiskAct, DiskEvent, DiskKind,
    FileClass, Gone, MachineFault, NodeAtEnd, Peer, Row, ServerAct, ServerEvent, ServerKind, Site,
    Step, WireEnd, WireMessage, Written,
};
pub use exemption::Exemption;
pub use fact::{Evidence, Fact, Value};
pub use knowledge::{
    BlockId, CheckpointEnd, Committed, Difference, FIRST_TIMELINE, Flushed, Knowledge, Least,
    Ledger, Limits, Logged, LoggedBlock, Orders, Placed, Received, Replayed, Reported, Saved, Sent,
    SlotChange, SlotEntry, SlotStep, WalFault, Window, horizon, is_disk_failure, relation_of,
    relation_path, segment_of, slot_name_of, slot_on_disk,
};
pub use violation::Violation;

pub(crate) use exemption::ForcedExemption;
pub(crate) use knowledge::{control_file, difference, wal_files};
pub(crate) use wire::{End, Stream};

use crate::plan::Plan;
use index::Index;
use knowledge::Changes;
use std::sync::Arc;
use walsim_core::base::{ConnId, Lsn, MarkSet, Pid};
use walsim_core::call::{Effect, FilePath};
use walsim_core::shmem::{PageChange, Role};
use wire::Wire;

/// The number of steps between two audits. An audit compares all WAL of a node again, so an audit
/// after every step would make a run take minutes. Every node is also audited at the end of an
/// audited run.
const AUDIT_EVERY: u64 = 64;

/// A change in shared memory.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// [`ChangeKind::Flushed`]
    Flushed(&'a Flushed),
    /// [`ChangeKind::Replayed`]
    Replayed(&'a Replayed),
    /// [`ChangeKind::Sent`]
    Sent(Sent),
    /// [`ChangeKind::Received`], before and after.
    Received(Received, Received),
    /// [`ChangeKind::Slots`]
    Slots(&'a [SlotStep]),
    /// [`ChangeKind::Reported`]
    Reported(Reported),
    /// [`ChangeKind::Pages`]
    Pages(&'a [PageChange]),
    /// [`ChangeKind::Checkpoint`]
    Checkpoint(&'a CheckpointEnd),
    /// [`ChangeKind::Records`]
    Records(&'a [Logged]),
}

/// All checks of a run, and their shared knowledge.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Referee {
    audit: bool,
    steps: u64,
    known: Knowledge,
    checks: Vec<Box<dyn Check>>,
    index: Arc<Index>,
    wire: Wire,
}

/// The first violation of a step. If several checks report a violation, the check that is first in
/// the list wins.
#[derive(Default)]
struct First(Option<(usize, Violation)>);

impl First {
    fn note(&mut self, check: usize, ruling: Ruling) {
        if let Err(violation) = ruling
            && self.0.as_ref().is_none_or(|(first, _)| check < *first)
        {
            self.0 = Some((check, violation));
        }
    }

    fn ruling(self) -> Ruling {
        self.0.map_or(Ok(()), |(_, violation)| Err(violation))
    }
}

/// Calls the subscribers in the order of the list, until a subscriber reports a violation.
fn ask(
    checks: &mut [Box<dyn Check>],
    who: &[usize],
    mut ask: impl FnMut(&mut dyn Check) -> Ruling,
) -> Ruling {
    who.iter().try_for_each(|check| ask(&mut *checks[*check]))
}

impl Referee {
    /// A referee at the start of a run. With `audit`, the referee also calls [`Check::audit`].
    pub(crate) fn new(plan: &Plan, audit: bool, checks: Vec<Box<dyn Check>>) -> Self {
        Self {
            audit,
            steps: 0,
            known: Knowledge::new(plan),
            index: Arc::new(Index::new(&checks)),
            checks,
            wire: Wire::default(),
        }
    }

    /// The kind of the invariant with this code.
    pub(crate) fn promise_of(&self, code: &str) -> Promise {
        let mut abouts = self.checks.iter().map(|check| check.about());
        abouts
            .find(|about| about.code == code)
            .map_or(Promise::Safety, |about| about.promise)
    }

    /// Passes a step to the checks that have subscribed to it. The effects of the step have already
    /// been executed.
    pub(crate) fn step(&mut self, step: &Step<'_>) -> Ruling {
        let changes = self.known.step(step);
        let mut first = First::default();
        self.effects(step, &changes, &mut first);
        self.changes(step, &changes, &mut first);
        let Self {
            checks,
            known,
            index,
            ..
        } = self;
        for check in index.steps(step.ran.map(|(_, role)| role)) {
            first.note(*check, checks[*check].after_step(step, known));
        }
        first.ruling()?;
        self.steps += 1;
        if self.audit && self.steps.is_multiple_of(AUDIT_EVERY) {
            let node = NodeAtEnd {
                site: step.site,
                view: step.view,
                disk: step.disk,
            };
            self.audit(&node)?;
        }
        Ok(())
    }

    fn audit(&mut self, node: &NodeAtEnd<'_>) -> Ruling {
        let known = &self.known;
        self.checks
            .iter_mut()
            .try_for_each(|check| check.audit(node, known))
    }

    /// Passes three kinds of events of this step to the checks: log messages, exits of processes,
    /// and that the server has come up.
    fn effects(&mut self, step: &Step<'_>, changes: &Changes, first: &mut First) {
        let Self {
            checks,
            known,
            index,
            ..
        } = self;
        let mut notify = |kind: ServerKind, act: ServerAct<'_>| {
            for check in index.server(kind) {
                let (site, view, disk) = (step.site, Some(step.view), step.disk);
                let event = ServerEvent {
                    site,
                    view,
                    disk,
                    act,
                };
                first.note(*check, checks[*check].on_server(&event, known));
            }
        };
        let role = |pid: Pid| {
            step.ran
                .filter(|(ran, _)| *ran == pid)
                .map(|(_, role)| role)
        };
        for (pid, effect) in &step.effects.0 {
            let pid = *pid;
            match effect {
                Effect::Log(event) => notify(
                    ServerKind::Log,
                    ServerAct::Logged {
                        pid,
                        role: role(pid),
                        event,
                    },
                ),
                Effect::Exit(exit) => {
                    let is_postmaster = pid == Pid::postmaster(pid.incarnation);
                    let role = role(pid).or(is_postmaster.then_some(Role::Postmaster));
                    notify(ServerKind::Exit, ServerAct::Exited { pid, role, exit });
                }
                Effect::Halt => notify(ServerKind::Halt, ServerAct::Halted),
                Effect::Disk(..) | Effect::Net(..) => {}
            }
        }
        if let Some(state) = changes.opened {
            notify(ServerKind::Open, ServerAct::Opened(state));
        }
    }

    fn changes(&mut self, step: &Step<'_>, changes: &Changes, first: &mut First) {
        let Self {
            checks,
            known,
            index,
            ..
        } = self;
        let mut notify = |kind: ChangeKind, change: Change<'_>| {
            for check in index.change(kind) {
                first.note(*check, checks[*check].after_change(change, step, known));
            }
        };
        if let Some(flushed) = &changes.flushed {
            notify(ChangeKind::Flushed, Change::Flushed(flushed));
        }
        if let Some(replayed) = &changes.replayed {
            notify(ChangeKind::Replayed, Change::Replayed(replayed));
        }
        if let Some(sent) = changes.sent {
            notify(ChangeKind::Sent, Change::Sent(sent));
        }
        if let Some((before, now)) = changes.received {
            notify(ChangeKind::Received, Change::Received(before, now));
        }
        if !changes.slots.is_empty() {
            notify(ChangeKind::Slots, Change::Slots(&changes.slots));
        }
        if let Some(reported) = changes.reported {
            notify(ChangeKind::Reported, Change::Reported(reported));
        }
        let pages = &step.view.shmem().buffers.changes;
        if !pages.is_empty() {
            notify(ChangeKind::Pages, Change::Pages(pages));
        }
        if let Some(end) = &changes.checkpoint {
            notify(ChangeKind::Checkpoint, Change::Checkpoint(end));
        }
        if !changes.records.is_empty() {
            notify(ChangeKind::Records, Change::Records(&changes.records));
        }
    }

    /// Passes a disk operation to the checks.
    pub(crate) fn disk(&mut self, event: &DiskEvent<'_>) -> Ruling {
        self.known.disk(event);
        let Self {
            checks,
            known,
            index,
            ..
        } = self;
        let who = index.disk(event.act.kind(), FileClass::of(event.path));
        ask(checks, who, |check| check.on_disk(event, known))
    }

    /// Passes an event of a server to the checks. The event happened outside of the server's steps.
    pub(crate) fn server(&mut self, event: &ServerEvent<'_>) -> Ruling {
        let host = event.site.host;
        self.known.server(host, event.disk, &event.act);
        if matches!(event.act, ServerAct::Gone(_)) {
            self.wire.forget_node(host);
        }
        let Self {
            checks,
            known,
            index,
            ..
        } = self;
        ask(checks, index.server(event.act.kind()), |check| {
            check.on_server(event, known)
        })
    }

    /// Called when a power loss has torn these data pages.
    pub(crate) fn torn(&mut self, host: usize, pages: &[(FilePath, u64)]) {
        self.known.torn(host, pages);
    }

    /// Passes an event of a client session to the checks.
    pub(crate) fn client(&mut self, event: &ClientEvent<'_>) -> Ruling {
        self.known.client(event);
        let Self {
            checks,
            known,
            index,
            ..
        } = self;
        ask(checks, index.client(event.act.kind()), |check| {
            check.on_client(event, known)
        })
    }

    /// Called when bytes pass a node's end of a connection. Passes each message that these bytes
    /// complete to the checks.
    pub(crate) fn bytes(&mut self, end: &End<'_>) -> Ruling {
        let Self {
            checks,
            known,
            index,
            wire,
            ..
        } = self;
        wire.bytes(end, index, |message| {
            let mut who = index.messages(message.end, message.tag);
            who.try_for_each(|check| checks[check].on_message(message, known))
        })
    }

    /// Whether any check has subscribed to messages.
    pub(crate) fn listens(&self) -> bool {
        self.index.listens()
    }

    /// Called when one end of a connection was closed.
    pub(crate) fn closed(&mut self, host: usize, conn: ConnId) {
        self.wire.forget(host, conn);
    }

    /// Tells the checks that faults and workload have stopped.
    pub(crate) fn at_quiescence(&mut self, nodes: &[NodeAtEnd<'_>]) -> Ruling {
        let Self {
            checks,
            known,
            index,
            ..
        } = self;
        ask(checks, index.quiescence(), |check| {
            check.at_quiescence(nodes, known)
        })
    }

    /// Lets the checks judge a cluster that has converged.
    pub(crate) fn at_end(&mut self, nodes: &[NodeAtEnd<'_>]) -> Ruling {
        let Self {
            checks,
            known,
            index,
            ..
        } = self;
        ask(checks, index.end(), |check| check.at_end(nodes, known))?;
        if self.audit {
            nodes.iter().try_for_each(|node| self.audit(node))?;
        }
        Ok(())
    }

    /// The knowledge that all checks share.
    pub(crate) const fn known(&self) -> &Knowledge {
        &self.known
    }

    /// Called when the operator has replaced a standby's disk by a cold copy of another node's
    /// disk, without the slots.
    pub(crate) fn rebuilt(&mut self, host: usize, from: usize) {
        self.known.rebuilt(host, from);
    }

    /// The highest position that any node has flushed.
    pub(crate) fn wal_end(&self) -> Lsn {
        self.known.wal_end()
    }

    /// How often the checks used this exemption.
    pub(crate) fn exempted(&self, exemption: Exemption) -> u32 {
        let checks = self.checks.iter();
        checks.map(|check| check.exempted(exemption)).sum()
    }

    /// For tests: forces the decision about an exemption from now on.
    pub(crate) const fn force(&mut self, forced: ForcedExemption) {
        self.known.force(forced);
    }

    /// The rare states (marks) that the referee has seen in this run.
    pub(crate) const fn marks(&self) -> MarkSet {
        self.known.marks()
    }
}
