//! Read-only access to a node, for the simulator's checkers and reports.

use super::{Next, Node, Proc};
use crate::access::wal_release::WalHorizon;
use crate::base::{ConnId, Lsn, Now, Pid, Xid};
use crate::call::{Place, Signal, Wait, Woken};
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
    /// The C function in which the process ended its last step.
    pub at: Place,
    /// Whether the process was stopped by SIGSTOP.
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
        procs.map(|(pid, proc)| ProcessView::new(pid, proc))
    }

    /// One process.
    #[must_use]
    pub fn process(&self, pid: Pid) -> Option<ProcessView> {
        let proc = self.node.procs.get(pid)?;
        Some(ProcessView::new(pid, proc))
    }

    /// The events that a process waits for. `None` if the process does not wait.
    #[must_use]
    pub fn wait(&self, pid: Pid) -> Option<&'a Wait> {
        match &self.node.procs.get(pid)?.next {
            Next::Run(_) => None,
            Next::Wait(wait) => Some(wait),
        }
    }

    /// Of the events that a process waits for, returns those that have happened: latch,
    /// connections, timeout.
    #[must_use]
    pub fn woken(&self, now: Now, pid: Pid) -> Woken {
        let Some(proc) = self.node.procs.get(pid) else {
            return Woken::default();
        };
        match &proc.next {
            Next::Run(_) => Woken::default(),
            Next::Wait(wait) => self.node.woken(now, pid, proc, wait),
        }
    }

    /// The signals that are pending for a process.
    pub fn pending(&self, pid: Pid) -> impl Iterator<Item = Signal> + use<'a> {
        let proc = self.node.procs.get(pid);
        let pending = move |signal: &Signal| proc.is_some_and(|p| p.sys.has_signal(*signal));
        Signal::PENDING.into_iter().filter(pending)
    }

    /// The events that a process sleeps for. `None` if the process can run now, or is stopped by
    /// SIGSTOP.
    #[must_use]
    pub fn sleeps(&self, now: Now, pid: Pid) -> Option<&'a Wait> {
        let proc = self.node.procs.get(pid)?;
        match &proc.next {
            Next::Wait(wait) if !proc.stopped && !self.node.can_run_at(now, pid) => Some(wait),
            Next::Wait(_) | Next::Run(_) => None,
        }
    }

    /// The role of a process.
    #[must_use]
    pub fn role(&self, pid: Pid) -> Option<Role> {
        self.node.procs.get(pid).map(|proc| proc.role)
    }

    /// `MyReplicationSlot`: the number of the slot that a process has acquired.
    #[must_use]
    pub fn slot_of(&self, pid: Pid) -> Option<usize> {
        self.node.procs.get(pid)?.sys.my_slot
    }

    /// The state of the postmaster. `None` after the postmaster has ended.
    #[must_use]
    pub fn postmaster_state(&self) -> Option<PmState> {
        let mut procs = self.node.procs.values();
        procs.find_map(|proc| Some(proc.state.as_postmaster()?.state()))
    }

    /// `WalReceiverRequested`: whether the postmaster will start a walreceiver. `None` after the
    /// postmaster has ended.
    #[must_use]
    pub fn walreceiver_requested(&self) -> Option<bool> {
        let mut procs = self.node.procs.values();
        procs.find_map(|proc| Some(proc.state.as_postmaster()?.walreceiver_requested()))
    }

    /// The last result of `KeepLogSeg` in a checkpoint or restartpoint that is removing old WAL.
    #[must_use]
    pub fn wal_horizon(&self) -> Option<WalHorizon> {
        let mut procs = self.node.procs.values();
        procs.find_map(|proc| proc.state.as_checkpointer()?.horizon())
    }

    /// The position at which the startup process expects the next record. `None` if there is no
    /// startup process, or it has not begun to read WAL.
    #[must_use]
    pub fn reading(&self) -> Option<Lsn> {
        let mut procs = self.node.procs.values();
        let at = procs.find_map(|proc| Some(proc.state.as_startup()?.reading()))?;
        at.is_valid().then_some(at)
    }

    /// The last commit that the session on this connection has completed: the transaction id and
    /// the end of the commit record.
    #[must_use]
    pub fn last_commit(&self, conn: ConnId) -> Option<(Xid, Lsn)> {
        let owner = self.node.owners.get(&conn)?;
        self.node
            .procs
            .get(*owner)?
            .state
            .as_backend()?
            .last_commit()
    }
}
