//! The PGPROC entries: latches, running transactions, and the flag that delays a checkpoint.
//! Mirrors proc.h and procarray.c.

use super::touched::Check;
use crate::base::{Pid, Xid};
use alloc::vec::Vec;

/// The role of a process (`BackendType`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// The parent of all other processes.
    Postmaster,
    /// A session, or a connection that has not yet sent its startup packet.
    Backend,
    /// Streams WAL to one standby.
    WalSender,
    /// Flushes WAL in the background.
    WalWriter,
    /// Performs checkpoints.
    Checkpointer,
    /// The startup process: recovers after a crash, or replays WAL continuously on a standby.
    Startup,
    /// Receives WAL on a standby.
    WalReceiver,
}

impl Role {
    /// The name of the role in process titles and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postmaster => "postmaster",
            Self::Backend => "backend",
            Self::WalSender => "walsender",
            Self::WalWriter => "walwriter",
            Self::Checkpointer => "checkpointer",
            Self::Startup => "startup",
            Self::WalReceiver => "walreceiver",
        }
    }
}

/// One attached process.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PgProc {
    /// The process.
    pub pid: Pid,
    /// Its role.
    pub role: Role,
    /// `procLatch`: level-triggered.
    pub latch: bool,
    /// The id of the transaction that the process is running, or 0.
    pub xid: Xid,
    /// Whether the process occupies one of the `max_connections` or `max_wal_senders` entries
    /// (`InitProcess`). A connection that has not yet sent its startup packet occupies none.
    pub in_session: bool,
    /// `DELAY_CHKPT_START`: whether the process is inside a commit critical section.
    pub delay_checkpoint: bool,
}

/// All attached processes, in the order of their ids.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct ProcArray {
    procs: Vec<PgProc>,
}

impl PgProc {
    fn check(&self) {
        let session = matches!(self.role, Role::Backend | Role::WalSender);
        assert!(session || !self.in_session, "{self:?}");
        assert!(session || !self.xid.is_valid(), "{self:?}");
        assert!(session || !self.delay_checkpoint, "{self:?}");
    }
}

impl Check for ProcArray {
    fn check(&self) {
        // A role is not checked to be there only once. The postmaster may pass over a crash while
        // the startup process runs. It then starts a second checkpointer beside the entry of the
        // first.
        let mut last: Option<&PgProc> = None;
        for proc in &self.procs {
            proc.check();
            assert!(last.is_none_or(|last| last.pid < proc.pid), "{proc:?}");
            last = Some(proc);
        }
    }
}

impl ProcArray {
    /// `InitProcess`: attaches a process. Its latch is initially set, so that the process misses no
    /// event.
    pub fn attach(&mut self, pid: Pid, role: Role) {
        let proc = PgProc {
            pid,
            role,
            latch: true,
            xid: Xid::INVALID,
            in_session: false,
            delay_checkpoint: false,
        };
        let at = self.procs.partition_point(|p| p.pid < pid);
        let next = self.procs.get(at);
        assert!(next.is_none_or(|next| next.pid != pid), "{pid} is attached");
        self.procs.insert(at, proc);
    }

    /// `ProcKill`
    pub fn detach(&mut self, pid: Pid) {
        self.procs.retain(|p| p.pid != pid);
    }

    /// The entry of a process. `None` after the process has detached.
    #[must_use]
    pub fn get(&self, pid: Pid) -> Option<&PgProc> {
        self.procs
            .binary_search_by_key(&pid, |p| p.pid)
            .ok()
            .map(|at| &self.procs[at])
    }

    /// The entry of a process, for modification.
    pub fn get_mut(&mut self, pid: Pid) -> Option<&mut PgProc> {
        self.procs
            .binary_search_by_key(&pid, |p| p.pid)
            .ok()
            .map(|at| &mut self.procs[at])
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &PgProc> {
        self.procs.iter()
    }

    /// `SetLatch`. Does nothing if the process has ended.
    pub fn set_latch(&mut self, pid: Pid) {
        if let Some(proc) = self.get_mut(pid) {
            proc.latch = true;
        }
    }

    /// `SetLatch` for the first process of a role, if there is one.
    pub fn set_latch_of(&mut self, role: Role) {
        if let Some(proc) = self.procs.iter_mut().find(|p| p.role == role) {
            proc.latch = true;
        }
    }

    /// Whether the latch is set. `at` is where the entry of the process probably is.
    #[must_use]
    pub(crate) fn latch_near(&self, at: usize, pid: Pid) -> bool {
        match self.procs.get(at) {
            Some(proc) if proc.pid == pid => proc.latch,
            Some(_) | None => self.latch(pid),
        }
    }

    /// Is the latch set?
    #[must_use]
    pub fn latch(&self, pid: Pid) -> bool {
        self.get(pid).is_some_and(|p| p.latch)
    }

    /// The ids of the running transactions, in ascending order (`GetRunningTransactionData`).
    #[must_use]
    pub fn running_xids(&self) -> Vec<Xid> {
        let mut xids: Vec<Xid> = self
            .procs
            .iter()
            .map(|p| p.xid)
            .filter(|x| x.is_valid())
            .collect();
        xids.sort_unstable();
        assert!(xids.is_sorted_by(|a, b| a < b), "an id was assigned twice");
        xids
    }

    /// The processes inside a commit critical section (`GetVirtualXIDsDelayingChkpt`).
    #[must_use]
    pub fn delaying_checkpoint(&self) -> Vec<Pid> {
        self.procs
            .iter()
            .filter(|p| p.delay_checkpoint)
            .map(|p| p.pid)
            .collect()
    }
}
