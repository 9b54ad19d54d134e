//! The checks: one invariant per file. They judge against the disk's truth, keep what they know from step to step, and
//! look only at what a step has changed.

mod audit;
pub(crate) mod control_file;
pub(crate) mod durable;
mod handover;
mod ledger;
mod local;
mod mono;
mod page;
mod prefix;
mod recover;
mod replay;
mod retain;
mod send;
mod slot;
mod slot_changes;
#[cfg(test)]
mod testing;
mod wal_files;

use crate::disk::Disk;
use crate::plan::Plan;
use crate::world::{Row, Violation};
use durable::Leaving;
use handover::Handover;
use ledger::Ledger;
use local::Local;
use page::Page;
use prefix::{Prefix, Wal};
use recover::Recover;
use replay::{PageWrite, Replay};
use retain::Retain;
use send::Send;
use slot::{Holder, Slot};
use slot_changes::SlotChanges;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use walsim_core::base::{
    ConnId, Geometry, Lsn, Mark, MarkSet, Mono, PgVersion, Pid, SegmentNo, TimelineId,
};
use walsim_core::call::{Effects, FilePath};
use walsim_core::node::NodeView;
use walsim_core::shmem::{BufTag, RecoveryState, Role, Shmem};
use walsim_core::wal::names::parse_segment_name;
use walsim_core::wire::data_page::DataPage;

/// The timeline that every cluster begins with, and as yet the only one.
const FIRST_TIMELINE: TimelineId = TimelineId(1);

/// What the checks see of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene<'a> {
    /// The time.
    pub(crate) now: Mono,
    /// Number of the node in the plan.
    pub(crate) host: usize,
    /// Its name.
    pub(crate) name: &'a str,
    /// Its sizes.
    pub(crate) geometry: Geometry,
    /// The node after the step.
    pub(crate) view: NodeView<'a>,
    /// Its disk after the effects of the step.
    pub(crate) disk: &'a Disk,
    /// Some process gets no CPU.
    pub(crate) held: bool,
    /// The process that ran, if one did.
    pub(crate) ran: Option<(Pid, Role)>,
    /// What it wanted.
    pub(crate) effects: &'a Effects,
}

/// Where and when something is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Site<'a> {
    now: Mono,
    name: &'a str,
}

/// A commit that a client was told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Commit {
    /// By which node.
    pub(crate) host: usize,
    /// Over which connection, as the server names it.
    pub(crate) conn: ConnId,
    /// `synchronous_commit` was on.
    pub(crate) synchronous: bool,
}

/// A walsender that leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WalSenderExit<'a> {
    /// The time.
    pub(crate) now: Mono,
    /// Its node.
    pub(crate) host: usize,
    /// That node's name.
    pub(crate) name: &'a str,
    /// The process.
    pub(crate) pid: Pid,
    /// The node's disk.
    pub(crate) disk: &'a Disk,
    /// Who receives from it, and the disk there.
    pub(crate) peer: (usize, &'a Disk),
}

/// A node that is looked at as a whole.
#[derive(Clone, Copy, Debug)]
struct Judged<'a> {
    site: Site<'a>,
    shmem: &'a Shmem,
    disk: &'a Disk,
    /// End of the WAL that the node has.
    end: Lsn,
}

/// What is known of a node's WAL whatever becomes of its processes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Known {
    /// End of the WAL that the node has had flushed, or has applied, and that was compared with the ledger.
    wal: Lsn,
    /// Up to here no crash can take its WAL away. It stays so: equal bytes may be written again, others may not.
    stable: Lsn,
    /// WAL before this the node has let go of: what was known of it ends with its file.
    kept: Lsn,
    /// End of the last record that this server run has applied; without what a switch skips.
    applied: Lsn,
    /// As of the last step.
    recovery: RecoveryState,
}

/// All checks of a run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Checks {
    audit: bool,
    names: Vec<String>,
    steps: u64,
    marks: MarkSet,
    version: PgVersion,
    geometry: Geometry,
    /// By timeline; empty before the first step.
    ledgers: BTreeMap<TimelineId, Ledger>,
    nodes: Vec<Known>,
    prefix: Prefix,
    send: Send,
    replay: Replay,
    local: Local,
    page: Page,
    recover: Recover,
    handover: Handover,
    slot: Slot,
    retain: Retain,
    mono: mono::Mono,
    slot_changes: SlotChanges,
}

impl Checks {
    /// Nothing seen yet. With `audit` the naive full checks run as well.
    pub(crate) fn new(plan: &Plan, audit: bool) -> Self {
        let nodes = plan.nodes.len();
        let settings = &plan.nodes.first().expect("a plan has a node").settings;
        let geometry = settings.geometry;
        let start = geometry.segment_start(SegmentNo(1));
        Self {
            audit,
            names: plan.nodes.iter().map(|node| node.name.clone()).collect(),
            steps: 0,
            marks: MarkSet::default(),
            version: settings.pg_version,
            geometry,
            ledgers: BTreeMap::new(),
            nodes: vec![Known::new(start); nodes],
            prefix: Prefix::new(nodes),
            send: Send::default(),
            replay: Replay::new(nodes),
            local: Local::new(nodes),
            page: Page::default(),
            recover: Recover::new(nodes),
            handover: Handover::new(nodes),
            slot: Slot::new(nodes, settings.pg_version, geometry),
            retain: Retain::new(nodes),
            mono: mono::Mono::new(nodes),
            slot_changes: SlotChanges::new(nodes),
        }
    }

    /// Looks at what a step has changed.
    pub(crate) fn after_step(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        let ledger = match self.ledgers.entry(FIRST_TIMELINE) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(first_wal(scene.disk, self.version, &self.geometry))
            }
        };
        let known = &mut self.nodes[scene.host];
        let shmem = scene.view.shmem();
        known.recovery = shmem.recovery.state;
        self.recover.after_step(scene)?;
        self.handover.after_step(scene)?;
        let mut wal = Wal {
            site: scene.site(),
            disk: scene.disk,
            geometry: scene.geometry,
            tli: FIRST_TIMELINE,
            ledger,
            known,
            extends: shmem.settings.primary_conninfo.is_none(),
        };
        if let Some(end) = self.prefix.after_step(scene, &mut wal)? {
            self.page.recovered(end);
        }
        self.send.after_step(scene, ledger, known)?;
        self.replay.after_step(scene, known)?;
        self.local.after_step(scene, ledger, known)?;
        let change = self.slot_changes.after_step(scene);
        self.slot.after_step(scene, change, known.wal)?;
        let lags = known.applied + u64::from(scene.geometry.segment) < ledger.end();
        if known.applied.is_valid() && lags && shmem.settings.primary_conninfo.is_some() {
            self.marks.insert(Mark::StandbyLagOverOneSegment);
        }
        self.mono.after_step(scene, change)?;
        if let Some(saved) = self.retain.after_step(scene, change)? {
            self.mono.saved(scene.host, saved);
        }
        if !shmem.buffers.changes.is_empty() {
            let who = (scene.host, scene.ran.map(|(_, role)| role));
            let changes = &shmem.buffers.changes;
            self.page
                .changed(scene.site(), who, shmem, changes, &mut self.marks)?;
        }
        self.steps += 1;
        if self.audit && self.steps.is_multiple_of(audit::EVERY) {
            let node = Judged {
                site: scene.site(),
                shmem,
                disk: scene.disk,
                end: known.wal,
            };
            audit::audit(node, (FIRST_TIMELINE, ledger), known, &mut self.page)?;
            self.slot.all(Holder {
                site: scene.site(),
                host: scene.host,
                disk: scene.disk,
                end: known.wal,
            })?;
        }
        Ok(())
    }

    /// A write was issued: the page cache holds its bytes already.
    pub(crate) fn written(
        &mut self,
        now: Mono,
        host: usize,
        name: &str,
        disk: &Disk,
        path: &FilePath,
        range: Range<u64>,
    ) -> Result<(), Violation> {
        let site = Site { now, name };
        if let Some(segment) = path.as_str().strip_prefix("pg_wal/") {
            let Some((tli, segment)) = parse_segment_name(&self.geometry, segment) else {
                return Ok(());
            };
            let Some(ledger) = self.ledgers.get_mut(&tli) else {
                return Ok(());
            };
            let at = self.geometry.segment_start(segment) + range.start;
            let known = &mut self.nodes[host];
            if at >= known.wal {
                return Ok(());
            }
            let bytes = disk.read_cached(path.as_str(), range.start, range.end - range.start);
            let geometry = self.geometry;
            let wal = Wal {
                site,
                disk,
                geometry,
                tli,
                ledger,
                known,
                extends: false,
            };
            return wal.written(at, &bytes.unwrap_or_default());
        }
        match page::relation(path) {
            Some(rel) => self.pages_written(site, host, disk, (path, rel), range),
            None => Ok(()),
        }
    }

    /// The control file may have changed on the platter.
    pub(crate) fn control_synced(
        &mut self,
        now: Mono,
        host: usize,
        name: &str,
        disk: &Disk,
    ) -> Result<(), Violation> {
        self.mono
            .control(Site { now, name }, host, disk, self.version)
    }

    /// A name of a file is about to go. `slots` are those in the node's shared memory.
    pub(crate) fn removed(
        &mut self,
        now: Mono,
        host: usize,
        name: &str,
        (disk, slots): (&Disk, &[walsim_core::shmem::Slot]),
        path: &FilePath,
    ) -> Result<(), Violation> {
        let site = Site { now, name };
        let end = self.nodes[host].wal;
        let holder = Holder {
            site,
            host,
            disk,
            end,
        };
        self.slot.removed(holder, path.as_str());
        let segment = path.as_str().strip_prefix("pg_wal/");
        let segment = segment.and_then(|name| parse_segment_name(&self.geometry, name));
        let Some((FIRST_TIMELINE, segment)) = segment else {
            return Ok(());
        };
        let known = &mut self.nodes[host];
        let next = self.geometry.segment_start(SegmentNo(segment.0 + 1));
        known.kept = known.kept.max(next);
        recover::removed(site, disk, self.version, next)?;
        self.slot.segment_removed(holder, segment, slots)
    }

    fn pages_written(
        &mut self,
        site: Site<'_>,
        host: usize,
        disk: &Disk,
        (path, rel): (&FilePath, u32),
        range: Range<u64>,
    ) -> Result<(), Violation> {
        let size = u64::from(self.geometry.data_page);
        for number in range.start / size..range.end.div_ceil(size) {
            let page = disk
                .read_cached(path.as_str(), number * size, size)
                .unwrap_or_default();
            // A disk that ran full took a part, which the file's length does not count as a page.
            if (page.len() as u64) < size {
                continue;
            }
            let block = u32::try_from(number).expect("a relation has at most 2^32 blocks");
            self.page.seen(site, BufTag { rel, block }, &page)?;
            let (geometry, version) = (self.geometry, self.version);
            let lsn = DataPage::new(&page).lsn();
            let page = PageWrite {
                site,
                disk,
                geometry,
                version,
                lsn,
            };
            self.replay
                .page_written(host, page, &mut self.nodes[host])?;
        }
        Ok(())
    }

    /// A server was started.
    pub(crate) fn booted(&mut self, host: usize) {
        self.prefix.forget(host);
        self.replay.forget(host);
        self.recover.booted(host);
        self.nodes[host].recovery = RecoveryState::default();
        self.nodes[host].applied = Lsn::INVALID;
    }

    /// Somebody kills one of a server's processes.
    pub(crate) fn killed(&mut self, host: usize, role: Role) {
        self.recover.killed(host, role);
    }

    /// A server is gone with all its shared memory.
    pub(crate) fn server_gone(&mut self, host: usize) {
        self.send.forget(host);
        self.slot.forget(host);
        self.retain.forget(host);
        self.mono.forget(host);
        self.local.forget(host);
        self.handover.forget(host);
    }

    /// A loss of power tore these data pages.
    pub(crate) fn torn(&mut self, host: usize, pages: &[(FilePath, u64)]) {
        self.page.tear(host, pages);
    }

    /// A walsender says the last word that a shutdown in good order allows it. Judged where its peer is one of our nodes.
    pub(crate) fn walsender_exited(&mut self, word: &WalSenderExit<'_>) -> Result<(), Violation> {
        let site = Site {
            now: word.now,
            name: word.name,
        };
        let geometry = self.geometry;
        let recovering = self.nodes[word.host].recovery != RecoveryState::Done;
        let checkpoint = if recovering {
            None
        } else {
            let sizes = (self.version, &geometry);
            Some(durable::shutdown_checkpoint(site, word.disk, sizes)?)
        };
        let (peer, disk) = word.peer;
        let sent = self.send.sent(word.host, word.pid);
        // The file of a segment can be durable long before the WAL that belongs there arrives.
        let known = &self.nodes[peer];
        let arrived = self.first_missing(disk, known.wal.max(known.kept));
        let known = &mut self.nodes[peer];
        let stable = known.stable_until(disk, &geometry, sent).min(arrived);
        let leaving = Leaving {
            sent,
            checkpoint,
            peer: &self.names[peer],
            stable,
        };
        leaving.judge(site)
    }

    /// A client was told that its commit succeeded.
    pub(crate) fn acked(&mut self, commit: Commit) {
        self.local
            .acked(commit.host, commit.conn, commit.synchronous);
    }

    /// A client did not get a row back that it had been told was committed.
    pub(crate) fn missing_row(&mut self, now: Mono, node: &str, row: &Row) -> Violation {
        let key = format!("{:#x}", row.key);
        let message = "a row of an acknowledged transaction cannot be read";
        let facts: [(&str, &dyn Display); 2] = [("relation", &row.rel), ("key", &key)];
        Site { now, name: node }.violation("LOCAL", message, &facts)
    }

    /// Everything has converged: the last look.
    pub(crate) fn at_end<'a>(
        &mut self,
        now: Mono,
        nodes: &[(&'a str, NodeView<'a>, &'a Disk)],
    ) -> Result<(), Violation> {
        let judge = |(name, view, disk): &(&'a str, NodeView<'a>, &'a Disk)| {
            let (site, shmem) = (Site { now, name }, view.shmem());
            let end = shmem.xlog.flush.max(shmem.recovery.last_replayed_end);
            Judged {
                site,
                shmem,
                disk,
                end,
            }
        };
        let judged: Vec<Judged<'_>> = nodes.iter().map(judge).collect();
        self.local.at_end(&judged)?;
        self.page.at_end(&judged)?;
        for node in judged.iter().filter(|_| self.audit) {
            let ledger = self.ledgers.get(&FIRST_TIMELINE);
            let mut known = self.names.iter().zip(&self.nodes);
            let known = known.find(|(name, _)| *name == node.site.name);
            if let (Some(ledger), Some((_, known))) = (ledger, known) {
                audit::audit(*node, (FIRST_TIMELINE, ledger), known, &mut self.page)?;
            }
        }
        Ok(())
    }

    /// Where a standby's own WAL, from `from` on, ends or ceases to be that of the timeline.
    pub(crate) fn first_missing(&self, disk: &Disk, from: Lsn) -> Lsn {
        let geometry = &self.geometry;
        let Some(ledger) = self.ledgers.get(&FIRST_TIMELINE) else {
            return from;
        };
        let mut at = from;
        while at < ledger.end() {
            let next = geometry.segment_start(SegmentNo(geometry.segment_of(at).0 + 1));
            let end = next.min(ledger.end());
            let bytes = wal_files::read(disk, geometry, FIRST_TIMELINE, at..end);
            if let Some(differs) = ledger.difference_on_a_standby(at, &bytes) {
                return differs;
            }
            at += bytes.len() as u64;
            if at < end {
                break;
            }
        }
        at
    }

    /// End of the WAL that is known to be durable anywhere.
    pub(crate) fn wal_end(&self) -> Lsn {
        self.ledgers
            .get(&FIRST_TIMELINE)
            .map_or(Lsn::INVALID, Ledger::end)
    }

    /// Rare states that only a checker recognises.
    pub(crate) fn marks(&self) -> MarkSet {
        self.marks
    }
}

impl Scene<'_> {
    fn site(&self) -> Site<'_> {
        Site {
            now: self.now,
            name: self.name,
        }
    }
}

impl Site<'_> {
    fn violation(
        self,
        code: &'static str,
        message: &str,
        facts: &[(&str, &dyn Display)],
    ) -> Violation {
        Violation {
            code,
            node: self.name.to_owned(),
            at: self.now,
            message: message.to_owned(),
            facts: facts
                .iter()
                .map(|(what, it)| ((*what).to_owned(), it.to_string()))
                .collect(),
        }
    }
}

impl Known {
    const fn new(start: Lsn) -> Self {
        let recovery = RecoveryState::Crash;
        Self {
            wal: start,
            stable: start,
            kept: start,
            applied: Lsn::INVALID,
            recovery,
        }
    }

    /// How far the node's WAL is safe from a crash, if that is known to be less than `wanted`.
    fn stable_until(&mut self, disk: &Disk, geometry: &Geometry, wanted: Lsn) -> Lsn {
        if wanted > self.stable {
            let range = self.stable.max(self.kept)..wanted.max(self.wal);
            self.stable = wal_files::stable_until(disk, geometry, FIRST_TIMELINE, range);
        }
        self.stable
    }
}

/// The WAL of a new cluster, which all nodes begin with: up to the end of its only checkpoint.
fn first_wal(disk: &Disk, version: PgVersion, geometry: &Geometry) -> Ledger {
    let start = geometry.segment_start(SegmentNo(1));
    let mut ledger = Ledger::new(*geometry, start);
    if let Some(control) = control_file::cached(disk, version) {
        let end = control_file::checkpoint_end(disk, geometry, control.checkpoint);
        ledger.append(&wal_files::read(disk, geometry, FIRST_TIMELINE, start..end));
    }
    ledger
}
