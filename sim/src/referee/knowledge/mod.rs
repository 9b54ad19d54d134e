//! What the referee has learned about a run without relying on what processes claim. This includes
//! the WAL of each timeline, the progress, slots and checkpoints of each node, and the acknowledged
//! commits. Each event updates this knowledge once, before any check sees the event. All checks
//! read it.

mod checkpoints;
mod commits;
pub(crate) mod control_file;
mod horizon;
mod ledger;
mod pages;
mod records;
mod slots;
mod streams;
mod wal;
pub(crate) mod wal_files;

pub use checkpoints::{CheckpointEnd, Saved, Window};
pub use commits::Committed;
pub use horizon::{Least, Limits, horizon};
pub use ledger::{Ledger, Placed};
pub use pages::{relation_of, relation_path};
pub use records::{BlockId, Logged, LoggedBlock};
pub use slots::{SlotChange, SlotEntry, SlotStep, slot_name_of, slot_on_disk};
pub use streams::{Received, Reported, Sent};
pub use wal::{Difference, Flushed, Replayed, WalFault};

#[cfg(test)]
pub(crate) use wal::Wal;
pub(crate) use wal::{Node as NodeWal, difference};

use super::{
    ClientAct, ClientEvent, DiskAct, DiskEvent, Exemption, FileClass, ForcedExemption, Gone,
    ServerAct, Step,
};
use crate::disk::Disk;
use crate::plan::Plan;
use checkpoints::Checkpoints;
use commits::Commits;
use pages::TornPages;
use records::Shown;
use slots::Slots;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use streams::Streams;
use walsim_core::base::{Geometry, Lsn, Mark, MarkSet, PgVersion, Pid, SegmentNo, TimelineId};
use walsim_core::call::{DiskError, Effect, FilePath, LogEvent, Message, Severity, Signal};
use walsim_core::node::PmState;
use walsim_core::shmem::{RecoveryState, Role};
use walsim_core::wal::names::parse_segment_name;
use walsim_core::wire::control_file::ControlFile;
use walsim_core::wire::sql::SlotStatement;

/// The first timeline of every cluster. The simulator models no other timeline.
pub const FIRST_TIMELINE: TimelineId = TimelineId(1);

/// The knowledge about a run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Knowledge {
    names: Vec<String>,
    version: PgVersion,
    geometry: Geometry,
    /// The reference copy of the WAL of each timeline. Empty before the first step.
    ledgers: BTreeMap<TimelineId, Ledger>,
    shown: Shown,
    nodes: Vec<Node>,
    marks: MarkSet,
    forced: Option<ForcedExemption>,
}

/// The knowledge about a node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Node {
    wal: NodeWal,
    /// The control file after a power loss that destroys all unsynced data.
    control: Option<ControlFile>,
    open: bool,
    recovery: RecoveryState,
    orders: Orders,
    /// The last process that logged a disk error and did not exit because of it.
    disk_failed: Option<Pid>,
    /// The last error that the checkpointer logged since the last completed checkpoint was a disk
    /// error.
    checkpoint_disk_failed: bool,
    streams: Streams,
    commits: Commits,
    slots: Slots,
    checkpoints: Checkpoints,
    torn: TornPages,
}

/// What was requested of a server since its start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Orders {
    /// A shutdown was requested, and the server has received the signal.
    pub shutdown: bool,
    /// A fault killed the server's startup process. The server then exits (`STARTUP_CRASHED`).
    pub startup_killed: bool,
}

/// What a step has changed.
#[derive(Clone, Default, Debug)]
pub(crate) struct Changes {
    pub(crate) flushed: Option<Flushed>,
    pub(crate) replayed: Option<Replayed>,
    pub(crate) sent: Option<Sent>,
    pub(crate) received: Option<(Received, Received)>,
    pub(crate) slots: Vec<SlotStep>,
    pub(crate) reported: Option<Reported>,
    pub(crate) checkpoint: Option<CheckpointEnd>,
    pub(crate) opened: Option<PmState>,
    pub(crate) records: Vec<Logged>,
}

impl Knowledge {
    /// The knowledge at the start of a run.
    pub(crate) fn new(plan: &Plan) -> Self {
        let settings = &plan.nodes.first().expect("a plan has a node").settings;
        let geometry = settings.geometry;
        let node = Node::new(geometry.segment_start(SegmentNo(1)));
        Self {
            names: plan.nodes.iter().map(|node| node.name.clone()).collect(),
            version: settings.pg_version,
            geometry,
            ledgers: BTreeMap::new(),
            shown: Shown::default(),
            nodes: vec![node; plan.nodes.len()],
            marks: MarkSet::default(),
            forced: None,
        }
    }

    /// The version of all nodes.
    #[must_use]
    pub const fn version(&self) -> PgVersion {
        self.version
    }

    /// The sizes of pages and segments, which are the same on all nodes.
    #[must_use]
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Names of the nodes, in the order of the plan.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The WAL of a timeline, up to the flush position of the primary. `None` before the first
    /// step.
    #[must_use]
    pub fn ledger(&self, tli: TimelineId) -> Option<&Ledger> {
        self.ledgers.get(&tli)
    }

    /// The end of the WAL that the node has flushed or applied. WAL before this end was compared
    /// with the reference copy.
    #[must_use]
    pub fn wal_end_of(&self, host: usize) -> Lsn {
        self.nodes[host].wal.end
    }

    /// The start of the WAL that the node still has.
    #[must_use]
    pub fn kept_from(&self, host: usize) -> Lsn {
        self.nodes[host].wal.kept
    }

    /// The end of the last record that the server has applied since its start. If that record is a
    /// segment switch, this is the end of the record and not of the segment.
    #[must_use]
    pub fn applied(&self, host: usize) -> Lsn {
        self.nodes[host].wal.applied
    }

    /// The end of the node's WAL that no crash can destroy. The result is exact only if it is less
    /// than `wanted`. WAL that is durable once is durable forever, because a node rewrites it only
    /// with the same bytes.
    #[must_use]
    pub fn stable_until(&self, host: usize, disk: &Disk, wanted: Lsn) -> Lsn {
        self.nodes[host]
            .wal
            .stable_until(disk, &self.geometry, wanted)
    }

    /// Whether the WAL before this position has survived every crash recovery. The first `since`
    /// recoveries are ignored.
    #[must_use]
    pub fn is_history(&self, lsn: Lsn, since: usize) -> bool {
        self.ledgers
            .get(&FIRST_TIMELINE)
            .is_none_or(|ledger| ledger.is_history(lsn, since))
    }

    /// How many times crash recovery of a primary has found the end of its WAL. The primary
    /// discards WAL past this end.
    #[must_use]
    pub fn ends_found(&self) -> usize {
        self.ledgers
            .get(&FIRST_TIMELINE)
            .map_or(0, Ledger::ends_found)
    }

    /// The control file after a power loss that destroys all unsynced data.
    #[must_use]
    pub fn control(&self, host: usize) -> Option<&ControlFile> {
        self.nodes[host].control.as_ref()
    }

    /// Whether the node was in recovery after the last step.
    #[must_use]
    pub fn recovery(&self, host: usize) -> RecoveryState {
        self.nodes[host].recovery
    }

    /// What was requested of the server since its start.
    #[must_use]
    pub fn orders(&self, host: usize) -> Orders {
        self.nodes[host].orders
    }

    /// The last process of the node that logged a disk error and did not exit because of it.
    #[must_use]
    pub fn disk_failed(&self, host: usize) -> Option<Pid> {
        self.nodes[host].disk_failed
    }

    /// Whether the last error of a node's checkpointer since the last completed checkpoint was a
    /// disk error.
    #[must_use]
    pub fn checkpoint_disk_failed(&self, host: usize) -> bool {
        self.nodes[host].checkpoint_disk_failed
    }

    /// The sent position of a walsender.
    #[must_use]
    pub fn sent(&self, host: usize, pid: Pid) -> Lsn {
        self.nodes[host].streams.sent(pid)
    }

    /// The synchronous commits that this node has acknowledged.
    #[must_use]
    pub fn acknowledged(&self, host: usize) -> &[Committed] {
        self.nodes[host].commits.acknowledged()
    }

    /// Whether the last step changed, acquired or released a slot.
    #[must_use]
    pub fn slots_changed(&self, host: usize) -> bool {
        self.nodes[host].slots.changed()
    }

    /// The statements about a node's slots that the server has not answered yet.
    pub fn slots_asked(&self, host: usize) -> impl Iterator<Item = &SlotStatement> {
        self.nodes[host].slots.asked()
    }

    /// The persistent slots that must exist after the next start of the node. These are the slots
    /// that exist now and that no client has asked to drop.
    #[must_use]
    pub fn slots_kept(&self, host: usize) -> &BTreeSet<String> {
        self.nodes[host].slots.kept()
    }

    /// For each slot, the lowest position that its state file may have contained since the node's
    /// last checkpoint. If a slot went back after its state file was saved, a restart may restore
    /// the lower position.
    #[must_use]
    pub fn saved(&self, host: usize) -> &Saved {
        self.nodes[host].checkpoints.saved()
    }

    /// The end of the durable WAL on a standby's disk, at most `wanted`. WAL before `from` is not
    /// checked. The bytes are compared with the reference copy, because a segment's file can be
    /// durable long before the standby has received its WAL.
    #[must_use]
    pub fn durable_until(&self, host: usize, disk: &Disk, from: Lsn, wanted: Lsn) -> Lsn {
        let wal = &self.nodes[host].wal;
        let from = wal.kept.max(from);
        let stable = if wanted <= wal.stable.max(from) {
            wanted
        } else {
            let range = wal.stable.max(from)..wanted;
            wal_files::stable_until(disk, &self.geometry, FIRST_TIMELINE, range)
        };
        let compared = wal.end.max(from);
        if stable <= compared {
            return stable;
        }
        self.same_until(disk, compared..stable, Ledger::difference_on_a_standby)
    }

    /// The first position, not before `from`, at which the node's WAL ends or differs from the
    /// reference copy. A reader of WAL also needs the beginning of a record that was never
    /// completed, so these bytes are compared too.
    #[must_use]
    pub fn first_unreadable(&self, disk: &Disk, from: Lsn) -> Lsn {
        self.same_until(disk, from..self.wal_end(), Ledger::difference)
    }

    fn same_until(
        &self,
        disk: &Disk,
        range: Range<Lsn>,
        difference: impl Fn(&Ledger, Lsn, &[u8]) -> Option<Lsn>,
    ) -> Lsn {
        let geometry = &self.geometry;
        let Some(ledger) = self.ledgers.get(&FIRST_TIMELINE) else {
            return range.start;
        };
        let upto = ledger.end().min(range.end);
        let mut at = range.start;
        while at < upto {
            let next = geometry.segment_start(SegmentNo(geometry.segment_of(at).0 + 1));
            let end = next.min(upto);
            let bytes = wal_files::read(disk, geometry, FIRST_TIMELINE, at..end);
            if let Some(differs) = difference(ledger, at, &bytes) {
                return differs;
            }
            at += bytes.len() as u64;
            if at < end {
                break;
            }
        }
        at
    }

    /// Whether a disk contains the complete record that follows `from`.
    #[must_use]
    pub fn holds_next_record(&self, disk: &Disk, from: Lsn) -> bool {
        let ledger = self.ledgers.get(&FIRST_TIMELINE);
        let Some((ledger, record)) = ledger.and_then(|it| Some((it, it.record_after(from)?)))
        else {
            return false;
        };
        let range = from..record.end;
        let bytes = wal_files::read(disk, &self.geometry, FIRST_TIMELINE, range);
        bytes.len() as u64 == record.end - from && ledger.difference(from, &bytes).is_none()
    }

    /// Whether WAL that the slot requires from `restart_lsn` on may legally have been removed. This
    /// is so in three cases: the slot went back, a report set its first position, or the published
    /// minimum does not include the slot (docs/hazards/required-position-goes-back.md).
    #[must_use]
    pub fn is_given_up(&self, host: usize, slot: usize, restart_lsn: Lsn) -> bool {
        let node = &self.nodes[host];
        node.slots.given_up(slot) > restart_lsn
            || node
                .checkpoints
                .published()
                .0
                .is_none_or(|least| least > restart_lsn)
    }

    /// Called when the operator has replaced a standby's disk by a cold copy of another node's
    /// disk, without the slots.
    pub(crate) fn rebuilt(&mut self, host: usize, from: usize) {
        let source = self.nodes[from].wal;
        let node = &mut self.nodes[host];
        node.wal.copied(&source);
        node.slots = Slots::default();
        node.checkpoints = Checkpoints::default();
        node.torn = TornPages::default();
    }

    /// The highest position that any node has flushed.
    #[must_use]
    pub fn wal_end(&self) -> Lsn {
        self.ledgers
            .get(&FIRST_TIMELINE)
            .map_or(Lsn::INVALID, Ledger::end)
    }

    /// The rare states (marks) that the referee has seen in this run.
    pub(crate) const fn marks(&self) -> MarkSet {
        self.marks
    }

    /// The answer that a test has forced for this exemption. Returns `None` if no test has forced
    /// one.
    #[must_use]
    pub fn forced(&self, exemption: Exemption) -> Option<bool> {
        let forced = self.forced.filter(|forced| forced.exemption == exemption);
        forced.map(|forced| forced.holds)
    }

    pub(crate) const fn force(&mut self, forced: ForcedExemption) {
        self.forced = Some(forced);
    }

    pub(crate) fn step(&mut self, step: &Step<'_>) -> Changes {
        let shmem = step.view.shmem();
        let (version, geometry) = (self.version, &self.geometry);
        let ledger = self
            .ledgers
            .entry(FIRST_TIMELINE)
            .or_insert_with(|| wal::first_wal(step.disk, version, geometry));
        let node = &mut self.nodes[step.site.host];
        node.recovery = shmem.recovery.state;
        let (flushed, replayed) = node.wal.step(step, ledger);
        let records = if flushed.is_some() || replayed.is_some() {
            self.shown.new_records(ledger)
        } else {
            Vec::new()
        };
        let (slot_change, slots) = node.slots.step(step);
        let mut changes = Changes {
            flushed,
            replayed,
            slots,
            records,
            ..Changes::default()
        };
        if node.wal.applied.is_valid()
            && node.wal.applied + u64::from(geometry.segment) < ledger.end()
            && shmem.settings.primary_conninfo.is_some()
        {
            self.marks.insert(Mark::StandbyLagOverOneSegment);
        }
        match step.ran {
            Some((pid, Role::WalSender)) => {
                (changes.sent, changes.reported) = node.streams.follow_sender(step, pid);
            }
            Some((_, Role::Backend)) => node.commits.step(step),
            Some((_, Role::Postmaster)) => changes.opened = node.follow_postmaster(step),
            Some((_, Role::Startup | Role::WalReceiver)) => {
                changes.received = node.streams.follow_receiver(step)
            }
            Some((_, Role::WalWriter | Role::Checkpointer)) | None => {}
        }
        changes.checkpoint = node.checkpoints.step(step, slot_change);
        if !shmem.buffers.changes.is_empty() && node.torn.step(step) {
            self.marks.insert(Mark::FpiRepairedTornPage);
        }
        for (pid, effect) in &step.effects.0 {
            if let Effect::Log(event) = effect {
                node.heard(*pid, event);
                if matches!(step.ran, Some((ran, Role::Checkpointer)) if ran == *pid) {
                    node.checkpointer_said(event);
                }
            }
        }
        changes
    }

    /// Updates the knowledge after a disk operation.
    pub(crate) fn disk(&mut self, event: &DiskEvent<'_>) {
        let node = &mut self.nodes[event.site.host];
        match event.act {
            DiskAct::Sync(_) if FileClass::of(event.path) == FileClass::Control => {
                node.control = control_file::on_platter(event.disk, self.version);
            }
            DiskAct::Remove(_) => {
                if let Some((FIRST_TIMELINE, segment)) = segment_of(&self.geometry, event.path) {
                    let next = self.geometry.segment_start(SegmentNo(segment.0 + 1));
                    node.wal.kept = node.wal.kept.max(next);
                }
            }
            DiskAct::Rename(_) => node.checkpoints.renamed(event.path),
            DiskAct::Sync(_) | DiskAct::Write(_) => {}
        }
    }

    /// Updates the knowledge after an event of a server.
    pub(crate) fn server(&mut self, host: usize, disk: &Disk, act: &ServerAct<'_>) {
        let node = &mut self.nodes[host];
        match act {
            ServerAct::Booted => {
                node.control = control_file::on_platter(disk, self.version);
                node.wal.booted();
                node.recovery = RecoveryState::default();
                node.orders = Orders::default();
                node.checkpoint_disk_failed = false;
            }
            ServerAct::Gone(Gone::PowerLoss | Gone::Crash | Gone::Halt) => node.gone(),
            ServerAct::Signaled { role, signal, .. } => {
                node.orders.startup_killed |=
                    *role == Some(Role::Startup) && *signal == Signal::Kill;
            }
            ServerAct::Opened(_)
            | ServerAct::Logged { .. }
            | ServerAct::Exited { .. }
            | ServerAct::Halted
            | ServerAct::Fault(_) => {}
        }
    }

    /// Called when a power loss has torn these data pages.
    pub(crate) fn torn(&mut self, host: usize, pages: &[(FilePath, u64)]) {
        self.nodes[host].torn.tear(pages);
    }

    /// Updates the knowledge after an event of a client session.
    pub(crate) fn client(&mut self, event: &ClientEvent<'_>) {
        let node = &mut self.nodes[event.site.host];
        // An acknowledgment belongs to the oldest unacknowledged commit of its connection.
        if let (ClientAct::Commit(synchronous), Some(conn)) = (event.act, event.conn) {
            node.commits.acked(conn, synchronous);
        }
        node.slots.client(event.session, event.act);
    }
}

impl Node {
    fn new(start: Lsn) -> Self {
        Self {
            wal: NodeWal::new(start),
            control: None,
            open: false,
            recovery: RecoveryState::Crash,
            orders: Orders::default(),
            disk_failed: None,
            checkpoint_disk_failed: false,
            streams: Streams::default(),
            commits: Commits::default(),
            slots: Slots::default(),
            checkpoints: Checkpoints::default(),
            torn: TornPages::default(),
        }
    }

    /// Called when the server has stopped. Its shared memory is lost.
    fn gone(&mut self) {
        self.open = false;
        self.streams = Streams::default();
        self.slots.gone();
        self.commits.gone();
        self.checkpoints.gone();
    }

    /// `PM_RUN` or `PM_HOT_STANDBY` if the server has entered this state in this step, else `None`.
    fn follow_postmaster(&mut self, step: &Step<'_>) -> Option<PmState> {
        let state = step.view.postmaster_state();
        let open = state.filter(|state| matches!(state, PmState::Run | PmState::HotStandby));
        let was_open = std::mem::replace(&mut self.open, open.is_some());
        open.filter(|_| !was_open)
    }

    fn checkpointer_said(&mut self, event: &LogEvent) {
        if event.severity >= Severity::Error {
            self.checkpoint_disk_failed = is_disk_failure(event);
        } else if event.message == Message::Checkpoint("complete") {
            self.checkpoint_disk_failed = false;
        }
    }

    fn heard(&mut self, pid: Pid, event: &LogEvent) {
        self.orders.shutdown |= matches!(event.message, Message::ShutdownRequest(_));
        if is_disk_failure(event) {
            self.disk_failed = Some(pid);
        }
    }
}

/// Whether the message reports a disk error or the termination of a process on request. Both are
/// legal reasons for a process to exit, because only a fault or an operator causes them.
#[must_use]
pub fn is_disk_failure(event: &LogEvent) -> bool {
    if let Message::File { error, .. } = &event.message {
        return matches!(error, DiskError::Io | DiskError::NoSpace);
    }
    event.message == Message::AdminShutdown
}

/// The segment of a WAL file.
#[must_use]
pub fn segment_of(geometry: &Geometry, path: &FilePath) -> Option<(TimelineId, SegmentNo)> {
    parse_segment_name(geometry, path.as_str().strip_prefix("pg_wal/")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use walsim_core::call::SqlState;

    /// Only a disk error sets `checkpoint_disk_failed`, and a completed checkpoint resets it.
    #[test]
    fn a_checkpoint_fails_for_its_disk() {
        let file = |error| {
            let event = LogEvent::file("write to", FilePath::from("pg_wal/1"), error);
            LogEvent::error(SqlState::from(error), event.message)
        };
        let after = |said: &[LogEvent]| {
            let mut node = Node::new(Lsn(1024));
            said.iter().for_each(|event| node.checkpointer_said(event));
            node.checkpoint_disk_failed
        };
        let complete = LogEvent::log(Message::Checkpoint("complete"));
        assert!(after(&[file(DiskError::NoSpace)]) && after(&[file(DiskError::Io)]));
        assert!(!after(&[]) && !after(&[file(DiskError::NotFound)]));
        assert!(!after(&[file(DiskError::NoSpace), complete]));
    }
}
