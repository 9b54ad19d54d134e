//! What the operating system knows of a node and of each of its processes.

use super::{Conn, ConnEnd};
use crate::base::{ConnId, Fd, Lsn, OpId, Pid, SegmentNo, SessionSettings, Settings, TimelineId};
use crate::call::{DiskDone, DiskError, FilePath, LogEvent, Signal, Woken};
use crate::shmem::Role;
use crate::wire::frame::FrameReader;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

/// The kernel of a node: counters, and what its processes asked for in the present step.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Kernel {
    /// Which boot of the node this is; part of every id.
    pub incarnation: u32,
    /// The only randomness that there is: cancel keys come from it.
    pub seed: u64,
    next_pid: u32,
    next_op: u32,
    next_conn: u32,
    /// Children to be started after the step.
    pub forks: Vec<(Pid, Fork)>,
    /// Signals to be delivered after the step.
    pub signals: Vec<(Pid, Signal)>,
    /// What the running process turns into after the step.
    pub becomes: Option<Become>,
    /// What the configuration files hold, if they were changed since the start.
    pub config: Option<Settings>,
    /// The host has locked the data directory against other servers of its machine. Otherwise the
    /// postmaster writes a lock file: a simulated machine runs one server at a time.
    pub locked: bool,
    /// Nothing runs but walsenders, which serve the WAL of a cluster that was shut down.
    pub walsenders_only: bool,
}

impl Kernel {
    /// A fresh boot; the postmaster has number 1.
    #[must_use]
    pub const fn new(incarnation: u32, seed: u64) -> Self {
        Self {
            incarnation,
            seed,
            next_pid: 2,
            next_op: 1,
            next_conn: 1,
            forks: Vec::new(),
            signals: Vec::new(),
            becomes: None,
            config: None,
            locked: false,
            walsenders_only: false,
        }
    }

    /// A process id that was never used.
    pub fn pid(&mut self) -> Pid {
        self.next_pid += 1;
        Pid {
            incarnation: self.incarnation,
            n: self.next_pid - 1,
        }
    }

    /// An operation id that was never used.
    pub fn op(&mut self) -> OpId {
        self.next_op += 1;
        OpId {
            incarnation: self.incarnation,
            n: self.next_op - 1,
        }
    }

    /// A connection id that was never used.
    pub fn conn(&mut self) -> ConnId {
        self.next_conn += 1;
        ConnId {
            incarnation: self.incarnation,
            n: self.next_conn - 1,
        }
    }
}

/// A child that the postmaster starts.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Fork {
    /// The startup process.
    Startup,
    /// The checkpointer.
    Checkpointer,
    /// The WAL writer.
    WalWriter,
    /// The walreceiver.
    WalReceiver,
    /// A connection; refused with this error once its start-up packet has been read, if there is
    /// one.
    Backend(ConnId, Option<LogEvent>),
}

/// What a connection's process turns into once its start-up packet is read.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Become {
    /// [`Role::Backend`] or [`Role::WalSender`].
    pub role: Role,
    /// Its connection.
    pub conn: ConnId,
    /// What has arrived after the start-up packet.
    pub frames: FrameReader,
    /// What the start-up packet sets.
    pub settings: SessionSettings,
    /// The database that it is attached to; empty for a physical walsender.
    pub database: String,
}

/// How a child ended, as `waitpid` tells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ExitKind {
    /// Status 0.
    Normal,
    /// Status 1: `FATAL`.
    Fatal,
    /// Status 2: a SIGQUIT was obeyed.
    Quit,
    /// SIGABRT: a PANIC.
    Aborted,
    /// SIGKILL.
    Killed,
}

impl ExitKind {
    /// Nothing was cleaned up: shared memory may be damaged.
    #[must_use]
    pub const fn is_crash(self) -> bool {
        match self {
            Self::Normal | Self::Fatal => false,
            Self::Quit | Self::Aborted | Self::Killed => true,
        }
    }
}

/// A child ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ChildExit {
    /// Which.
    pub pid: Pid,
    /// What it was.
    pub role: Role,
    /// How.
    pub kind: ExitKind,
}

/// What the kernel keeps for one process.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct ProcSys {
    pending: u16,
    /// The operation under way.
    pub op: Option<OpId>,
    /// Its outcome.
    pub done: Option<Result<DiskDone, DiskError>>,
    /// Connections that the process owns.
    pub conns: BTreeMap<ConnId, Conn>,
    /// Why it runs.
    pub woken: Woken,
    /// Children of the postmaster that have ended.
    pub exits: VecDeque<ChildExit>,
    /// Connections that the postmaster has not yet accepted.
    pub accepted: VecDeque<ConnId>,
    /// `openLogFile`: the segment that the process has open for writing.
    pub wal_file: Option<OpenSegment>,
    /// `LocalMinRecoveryPoint`: what the control file had when the process last held its lock.
    pub min_recovery_point: Lsn,
    /// Relation files that the process has open.
    pub rel_files: BTreeMap<FilePath, Fd>,
    /// `MyReplicationSlot`: the number of the slot that the process has acquired.
    pub my_slot: Option<usize>,
}

/// A WAL segment that is open.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OpenSegment {
    /// Which segment.
    pub segment: SegmentNo,
    /// On which timeline.
    pub tli: TimelineId,
    /// Its descriptor.
    pub fd: Fd,
}

impl ProcSys {
    /// Has a connection something to read, or an end to tell? One that is gone has.
    #[must_use]
    pub fn is_readable(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_none_or(Conn::readable)
    }

    /// Does a connection take output, or will it never again?
    #[must_use]
    pub fn is_writable(&self, conn: ConnId) -> bool {
        let takes = |c: &Conn| c.connected() && !c.send_pending() || c.end().is_some();
        self.conns.get(&conn).is_none_or(takes)
    }

    /// Makes a signal pending.
    pub fn signal(&mut self, signal: Signal) {
        self.pending |= 1 << signal as u16;
    }

    /// Takes a pending signal.
    pub fn take_signal(&mut self, signal: Signal) -> bool {
        let bit = 1 << signal as u16;
        let was = self.pending & bit != 0;
        self.pending &= !bit;
        was
    }

    /// Is the signal pending?
    #[must_use]
    pub const fn has_signal(&self, signal: Signal) -> bool {
        self.pending & 1 << signal as u16 != 0
    }

    /// The end of a connection; one that the process does not own has ended.
    #[must_use]
    pub fn conn_end(&self, conn: ConnId) -> Option<ConnEnd> {
        self.conns
            .get(&conn)
            .map_or(Some(ConnEnd::Reset), Conn::end)
    }
}
