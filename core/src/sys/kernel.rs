//! The state of the operating system for a node and for each process of the node.

use super::{Conn, ConnEnd};
use crate::base::{ConnId, Fd, Lsn, OpId, Pid, SegmentNo, SessionSettings, Settings, TimelineId};
use crate::call::{DiskDone, DiskError, FilePath, LogEvent, Signal, Woken};
use crate::shmem::Role;
use crate::wire::frame::FrameReader;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

/// The kernel of a node: counters, and the requests that processes have made in the current step.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Kernel {
    /// The ordinal number of the node's boot. It is a part of every id.
    pub incarnation: u32,
    /// The only source of randomness. Cancel keys are computed from it.
    pub seed: u64,
    next_pid: u32,
    next_op: u32,
    next_conn: u32,
    /// Children to start after the step.
    pub forks: Vec<(Pid, Fork)>,
    /// Signals to deliver after the step.
    pub signals: Vec<(Pid, Signal)>,
    /// The role that the running process will have after this step.
    pub becomes: Option<Become>,
    /// New contents of the configuration files, which SIGHUP applies. `None` if the files have not
    /// changed since the server started.
    pub config: Option<Settings>,
    /// Whether the driver has locked the data directory against other servers. If not, the
    /// postmaster writes a lock file.
    pub locked: bool,
    /// Whether only walsenders run. They serve the WAL of a cluster that was shut down.
    pub walsenders_only: bool,
}

impl Kernel {
    /// The kernel of a new boot. The postmaster is process 1.
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

    /// A new process id.
    pub fn pid(&mut self) -> Pid {
        self.next_pid += 1;
        Pid {
            incarnation: self.incarnation,
            n: self.next_pid - 1,
        }
    }

    /// A new operation id.
    pub fn op(&mut self) -> OpId {
        self.next_op += 1;
        OpId {
            incarnation: self.incarnation,
            n: self.next_op - 1,
        }
    }

    /// A new connection id.
    pub fn conn(&mut self) -> ConnId {
        self.next_conn += 1;
        ConnId {
            incarnation: self.incarnation,
            n: self.next_conn - 1,
        }
    }
}

/// A child to start.
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
    /// A process for a connection. If the second field is set, the process reads the startup packet
    /// and then refuses the connection with this error.
    Backend(ConnId, Option<LogEvent>),
}

/// The role that the process of a connection gets after the startup packet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Become {
    /// [`Role::Backend`] or [`Role::WalSender`].
    pub role: Role,
    /// Its connection.
    pub conn: ConnId,
    /// Bytes received after the startup packet.
    pub frames: FrameReader,
    /// Settings from the startup packet.
    pub settings: SessionSettings,
    /// The database. Empty for a physical walsender.
    pub database: String,
}

/// How a child ended, as `waitpid` reports it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ExitKind {
    /// Status 0.
    Normal,
    /// Status 1: `FATAL`.
    Fatal,
    /// Status 2: ended by SIGQUIT.
    Quit,
    /// SIGABRT: a PANIC.
    Aborted,
    /// SIGKILL.
    Killed,
}

impl ExitKind {
    /// Did the process end without cleanup? Shared memory can then be damaged.
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
    /// The child.
    pub pid: Pid,
    /// Its role.
    pub role: Role,
    /// How the child ended.
    pub kind: ExitKind,
}

/// The kernel's state for one process.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct ProcSys {
    pending: u16,
    /// The disk operation in progress.
    pub op: Option<OpId>,
    /// The result of the disk operation.
    pub done: Option<Result<DiskDone, DiskError>>,
    /// Connections that the process owns.
    pub conns: BTreeMap<ConnId, Conn>,
    /// The events that ended the last wait of the process.
    pub woken: Woken,
    /// The children of the postmaster that have ended and are not yet reaped.
    pub exits: VecDeque<ChildExit>,
    /// Connections that the postmaster has not yet accepted.
    pub accepted: VecDeque<ConnId>,
    /// `openLogFile`: the segment that the process has open for writing.
    pub wal_file: Option<OpenSegment>,
    /// `LocalMinRecoveryPoint`: the process's copy of the value in the control file.
    pub min_recovery_point: Lsn,
    /// The relation files that the process has opened.
    pub rel_files: BTreeMap<FilePath, Fd>,
    /// `MyReplicationSlot`: the index of the slot that the process has acquired.
    pub my_slot: Option<usize>,
}

/// An open WAL segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OpenSegment {
    /// The segment.
    pub segment: SegmentNo,
    /// Its timeline.
    pub tli: TimelineId,
    /// Its descriptor.
    pub fd: Fd,
}

impl ProcSys {
    /// Does the connection have input, or has it ended? A connection that the process has closed
    /// counts as ended.
    #[must_use]
    pub fn is_readable(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_none_or(Conn::readable)
    }

    /// Can the connection take more output, or has it ended?
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

    /// How a connection ended. If the process does not own the connection, the connection counts as
    /// ended.
    #[must_use]
    pub fn conn_end(&self, conn: ConnId) -> Option<ConnEnd> {
        self.conns
            .get(&conn)
            .map_or(Some(ConnEnd::Reset), Conn::end)
    }
}
