//! Read-only access to a node for checkers and reports.

use super::{Next, Node, Proc};
use crate::base::{ConnId, Lsn, Pid, Xid};
use crate::call::Place;
use crate::proc::postmaster::PmState;
use crate::shmem::{Role, Shmem};

/// A read-only view of a node.
#[derive(Clone, Copy, Debug)]
pub struct NodeView<'a> {
    node: &'a Node,
}

/// One process in a view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProcessView {
    /// Its id.
    pub pid: Pid,
    /// Its role.
    pub role: Role,
    /// The C function in which it ended its last step.
    pub at: Place,
    /// Stopped by SIGSTOP.
    pub stopped: bool,
}

impl ProcessView {
    const fn new(pid: Pid, proc: &Proc) -> Self {
        let at = match &proc.next {
            Next::Run(place) => *place,
            Next::Wait(wait) => wait.why,
        };
        Self {
            pid,
            role: proc.role,
            at,
            stopped: proc.stopped,
        }
    }
}

impl<'a> NodeView<'a> {
    pub(super) const fn new(node: &'a Node) -> Self {
        Self { node }
    }

    /// Shared memory.
    #[must_use]
    pub const fn shmem(&self) -> &'a Shmem {
        &self.node.shmem
    }

    /// All processes.
    pub fn processes(&self) -> impl Iterator<Item = ProcessView> + use<'a> {
        let procs = self.node.procs.iter();
        procs.map(|(pid, proc)| ProcessView::new(*pid, proc))
    }

    /// One process.
    #[must_use]
    pub fn process(&self, pid: Pid) -> Option<ProcessView> {
        let proc = self.node.procs.get(&pid)?;
        Some(ProcessView::new(pid, proc))
    }

    /// The role of a process.
    #[must_use]
    pub fn role(&self, pid: Pid) -> Option<Role> {
        self.node.procs.get(&pid).map(|proc| proc.role)
    }

    /// The state of the postmaster; `None` once it has ended.
    #[must_use]
    pub fn postmaster_state(&self) -> Option<PmState> {
        let mut procs = self.node.procs.values();
        procs.find_map(|proc| Some(proc.state.as_postmaster()?.state()))
    }

    /// The last commit that the session on this connection completed: transaction id and end of the
    /// commit record.
    #[must_use]
    pub fn last_commit(&self, conn: ConnId) -> Option<(Xid, Lsn)> {
        let owner = self.node.owners.get(&conn)?;
        self.node
            .procs
            .get(owner)?
            .state
            .as_backend()?
            .last_commit()
    }
}
