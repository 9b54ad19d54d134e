//! The list of children. Mirrors the lists and counts of postmaster.c, and PMChildFlags of
//! pmsignal.c.

use crate::base::{PgVersion, Pid};
use crate::call::Signal;
use crate::shmem::Role;
use crate::sys::Cx;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// The kind of a child process, as far as the postmaster can tell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Kind {
    Startup,
    Checkpointer,
    WalWriter,
    WalReceiver,
    /// A session, or a connection that has not yet sent its startup packet.
    Backend,
    WalSender,
    /// A process that only refuses a connection.
    DeadEnd,
}

impl Kind {
    /// The name of the child in log messages about its exit.
    pub(super) const fn name(self, version: PgVersion) -> &'static str {
        match (self, version) {
            (Self::Startup, _) => "startup process",
            (Self::Checkpointer, _) => "checkpointer process",
            (Self::WalWriter, _) => "WAL writer process",
            (Self::WalReceiver, _) => "WAL receiver process",
            (Self::Backend, PgVersion::V18 | PgVersion::V19) => "client backend",
            (Self::WalSender, PgVersion::V18 | PgVersion::V19) => "walsender",
            (Self::DeadEnd, PgVersion::V18 | PgVersion::V19) => "dead-end client backend",
            (Self::Backend | Self::WalSender | Self::DeadEnd, _) => "server process",
        }
    }
}

impl Kind {
    /// The role of the process, as the process itself shows it.
    const fn role(self) -> Role {
        match self {
            Self::Startup => Role::Startup,
            Self::Checkpointer => Role::Checkpointer,
            Self::WalWriter => Role::WalWriter,
            Self::WalReceiver => Role::WalReceiver,
            Self::Backend | Self::DeadEnd => Role::Backend,
            Self::WalSender => Role::WalSender,
        }
    }
}

/// All children that are not yet reaped.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Children {
    known: BTreeMap<Pid, Kind>,
}

impl Children {
    pub(super) fn add(&mut self, pid: Pid, kind: Kind) {
        let many = matches!(kind, Kind::Backend | Kind::WalSender | Kind::DeadEnd);
        assert!(many || !self.has(kind), "a second {kind:?}");
        let other = self.known.insert(pid, kind);
        assert_eq!(other, None, "{pid} is known");
    }

    pub(super) fn remove(&mut self, pid: Pid) -> Option<Kind> {
        self.known.remove(&pid)
    }

    /// The child of a kind that has at most one child.
    pub(super) fn find(&self, kind: Kind) -> Option<Pid> {
        self.known
            .iter()
            .find(|(_, k)| **k == kind)
            .map(|(pid, _)| *pid)
    }

    /// The kind of a child.
    #[cfg(test)]
    pub(super) fn kind(&self, pid: Pid) -> Option<Kind> {
        self.known.get(&pid).copied()
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.find(kind).is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// `CountChildren`
    pub(super) fn count(&mut self, cx: &Cx<'_>, of: impl Fn(Kind) -> bool) -> usize {
        self.look_for_walsenders(cx);
        self.known.values().filter(|kind| of(**kind)).count()
    }

    /// `SignalChildren`
    pub(super) fn signal(&mut self, cx: &mut Cx<'_>, signal: Signal, of: impl Fn(Kind) -> bool) {
        self.look_for_walsenders(cx);
        let those: Vec<Pid> = self
            .known
            .iter()
            .filter(|(_, k)| of(**k))
            .map(|(p, _)| *p)
            .collect();
        for pid in those {
            cx.kill(pid, signal);
        }
    }

    /// `IsPostmasterChildWalSender`: finds out which backends have become walsenders. The result is
    /// kept, because a walsender never becomes an ordinary backend again.
    fn look_for_walsenders(&mut self, cx: &Cx<'_>) {
        for (pid, kind) in &mut self.known {
            let role = cx.shmem.procs.get(*pid).map(|proc| proc.role);
            if *kind == Kind::Backend && role == Some(Role::WalSender) {
                *kind = Kind::WalSender;
            }
            assert!(
                role.is_none_or(|role| role == kind.role()),
                "{pid} is {role:?}"
            );
        }
    }
}
