//! The checks: one invariant per file. They judge against the disk's truth, keep what they know from step to step, and
//! look only at what a step has changed.

use crate::disk::Disk;
use crate::plan::Plan;
use crate::world::{Row, Violation};
use std::ops::Range;
use walsim_core::base::{ConnId, Geometry, Lsn, MarkSet, Mono, Pid};
use walsim_core::call::{Effects, FilePath};
use walsim_core::node::NodeView;
use walsim_core::shmem::Role;

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
    /// The process that ran, if one did.
    pub(crate) ran: Option<(Pid, Role)>,
    /// What it wanted.
    pub(crate) effects: &'a Effects,
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

/// All checks of a run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Checks {
    audit: bool,
    marks: MarkSet,
}

impl Checks {
    /// Nothing seen yet. With `audit` the naive full checks run after each step as well.
    pub(crate) fn new(_plan: &Plan, audit: bool) -> Self {
        Self {
            audit,
            marks: MarkSet::default(),
        }
    }

    /// Looks at what a step has changed.
    pub(crate) fn after_step(&mut self, _scene: &Scene<'_>) -> Result<(), Violation> {
        Ok(())
    }

    /// A write was issued: the page cache holds its bytes already.
    pub(crate) fn written(
        &mut self,
        _now: Mono,
        _host: usize,
        _name: &str,
        _disk: &Disk,
        _path: &FilePath,
        _range: Range<u64>,
    ) -> Result<(), Violation> {
        Ok(())
    }

    /// A server was started.
    pub(crate) fn booted(&mut self, _host: usize) {}

    /// A server is gone with all its shared memory.
    pub(crate) fn server_gone(&mut self, _host: usize) {}

    /// A loss of power tore these data pages.
    pub(crate) fn torn(&mut self, _host: usize, _pages: &[(FilePath, u64)]) {}

    /// A client was told that its commit succeeded.
    pub(crate) fn acked(&mut self, _commit: Commit) {}

    /// A client did not get a row back that it had been told was committed.
    pub(crate) fn missing_row(&mut self, now: Mono, node: &str, row: &Row) -> Violation {
        Violation {
            code: "LOCAL",
            node: String::from(node),
            at: now,
            message: String::from("a row of an acknowledged transaction cannot be read"),
            facts: vec![
                (String::from("relation"), row.rel.to_string()),
                (String::from("key"), format!("{:#x}", row.key)),
            ],
        }
    }

    /// Everything has converged: the last look.
    pub(crate) fn at_end(
        &mut self,
        _now: Mono,
        _nodes: &[(&str, NodeView<'_>, &Disk)],
    ) -> Result<(), Violation> {
        Ok(())
    }

    /// End of the WAL that is known to be durable anywhere.
    pub(crate) fn wal_end(&self) -> Lsn {
        Lsn(0)
    }

    /// Rare states that only a checker recognises.
    pub(crate) fn marks(&self) -> MarkSet {
        self.marks
    }
}
