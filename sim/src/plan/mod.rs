//! A run as data: topology, settings, workload, faults and operator actions. A plan is generated
//! from a seed, written by hand, or made by shrinking another plan.

mod errors;
mod fields;
mod generate;
mod overrides;
mod read;
mod rows;
mod scenario;
mod schema;
mod settings;
mod tables;
mod units;
mod validate;
mod write;

pub use errors::{PlanError, known_names};
pub use generate::{Fixed, Profile, generate, generate_with};
pub use overrides::{OverrideError, Overrides};
pub use scenario::{Counts, Expect, Origin, PassDone, Scenario};
pub use schema::SCHEMA;
pub(crate) use settings::shown;
pub use settings::{TINY, longest_row};
pub use units::{seed, show_seed, signed_us};
pub use validate::Flaw;
pub use walsim_core::base::{
    Setting, UnitError, did_you_mean, duration_us, kept_settings, setting_named, show_size,
    show_us, size,
};

use std::collections::BTreeMap;
use walsim_core::base::Settings;
use walsim_core::call::Place;
use walsim_core::shmem::Role;
use walsim_core::wire::sql::Statement;

/// The port that servers listen on.
pub const PORT: u16 = 5432;

/// The complete input of a run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Plan {
    /// The seed of the choices that are made during the run.
    pub seed: u64,
    /// The name of the run: the profile, or the scenario's name.
    pub name: String,
    /// What a scenario protects. Empty for a generated plan.
    pub about: String,
    /// The servers. The first server is the primary.
    pub nodes: Vec<NodePlan>,
    /// The network without faults.
    pub network: NetworkPlan,
    /// The disks without faults.
    pub disks: DiskPlan,
    /// The transactions of the client sessions.
    pub workload: Vec<WorkloadRow>,
    /// The faults.
    pub faults: Vec<FaultRow>,
    /// The actions of the operator.
    pub actions: Vec<ActionRow>,
    /// The length of the active part in microseconds. After this time faults and workload stop (the
    /// quiescent phase).
    pub active_us: u64,
    /// Choices whose values the plan fixes, by name. The seed determines all other choices.
    pub pins: BTreeMap<String, u64>,
    /// Whether a delay is drawn after every step of a process. If not, steps take no time.
    pub step_delays: bool,
}

/// One server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NodePlan {
    /// The name of the node in reports, which is also its host name.
    pub name: String,
    /// The settings of the server. `primary_conninfo` names the upstream of a standby.
    pub settings: Settings,
    /// The offset of the node's wall clock in microseconds.
    pub clock_offset_us: i64,
    /// The drift of the node's wall clock in parts per million.
    pub clock_drift_ppm: i32,
    /// The capacity of the node's disk in bytes.
    pub disk_capacity: u64,
    /// Physical slots that exist from the beginning and reserve all WAL.
    pub slots: Vec<String>,
}

/// The network without faults.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NetworkPlan {
    /// Minimum one-way latency in microseconds.
    pub latency_us: u64,
    /// Maximum random extra latency.
    pub jitter_us: u64,
    /// Bytes per millisecond on each link.
    pub bytes_per_ms: u64,
    /// Whether the network cuts and joins streams at random bytes.
    pub fragment: bool,
    /// How long TCP keepalive takes to detect that the peer of an idle connection lost power. The
    /// time begins when the peer has power again.
    pub keepalive_us: u64,
}

impl Default for NetworkPlan {
    /// A local network.
    fn default() -> Self {
        Self {
            latency_us: 100,
            jitter_us: 50,
            bytes_per_ms: 100_000,
            fragment: false,
            keepalive_us: crate::net::KEEPALIVE_MS * 1000,
        }
    }
}

/// The disks without faults.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DiskPlan {
    /// Minimum duration of any operation in microseconds.
    pub latency_us: u64,
    /// Maximum random extra duration.
    pub jitter_us: u64,
    /// Minimum duration of an fsync in microseconds. A random part of up to ten times `jitter_us`
    /// is added.
    pub fsync_us: u64,
}

impl Default for DiskPlan {
    /// Solid-state disks.
    fn default() -> Self {
        Self {
            latency_us: 5,
            jitter_us: 15,
            fsync_us: 250,
        }
    }
}

/// When an entry of the plan (workload, fault or action) takes effect.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum When {
    /// This many microseconds after the start.
    At(u64),
    /// At the nth occurrence of an event, counted from 1. A fault that kills the node takes effect
    /// before the effect of the event, for example before the write of `wal-write`. Any other fault
    /// or action takes effect after the step that causes the event.
    Event {
        /// The node.
        node: usize,
        /// The event.
        event: EventKind,
        /// The occurrence, from 1.
        nth: u32,
    },
}

impl When {
    /// The time, if the entry of the plan does not wait for an event.
    #[must_use]
    pub const fn at_us(&self) -> Option<u64> {
        match self {
            Self::At(us) => Some(*us),
            Self::Event { .. } => None,
        }
    }
}

/// Events for which an entry of the plan can wait. docs/plans.md lists their names in plan files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EventKind {
    /// A process is about to write to a WAL segment.
    WalWrite,
    /// A process is about to fsync a WAL segment.
    WalFsync,
    /// The walreceiver is about to write to a WAL segment.
    WalReceived,
    /// A WAL fsync has completed.
    WalFsynced,
    /// A walsender is about to send WAL.
    WalSent,
    /// The client has received the answer to COMMIT.
    CommitAcked,
    /// A checkpoint is complete.
    CheckpointDone,
    /// A process is about to rename the new state file of a slot into place.
    SlotSaved,
    /// A process is about to remove or recycle a WAL segment.
    SegmentRemoved,
    /// A walreceiver exits.
    WalreceiverEnded,
    /// The node accepts connections.
    Ready,
}

impl EventKind {
    /// All kinds of events.
    pub const ALL: [Self; 11] = [
        Self::WalWrite,
        Self::WalFsync,
        Self::WalReceived,
        Self::WalFsynced,
        Self::WalSent,
        Self::CommitAcked,
        Self::CheckpointDone,
        Self::SlotSaved,
        Self::SegmentRemoved,
        Self::WalreceiverEnded,
        Self::Ready,
    ];

    /// The name in plans.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WalWrite => "wal-write",
            Self::WalFsync => "wal-fsync",
            Self::WalReceived => "wal-received",
            Self::WalFsynced => "wal-fsynced",
            Self::WalSent => "wal-sent",
            Self::CommitAcked => "commit-acked",
            Self::CheckpointDone => "checkpoint-done",
            Self::SlotSaved => "slot-saved",
            Self::SegmentRemoved => "segment-removed",
            Self::WalreceiverEnded => "walreceiver-ended",
            Self::Ready => "ready",
        }
    }

    /// The event with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.name() == name)
    }
}

/// A series of transactions of one session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WorkloadRow {
    /// When the series begins.
    pub when: When,
    /// The session, numbered from 0. The workload rows of one session run one after the other.
    pub session: u32,
    /// The node.
    pub node: usize,
    /// Number of transactions.
    pub transactions: u32,
    /// Rows in each transaction.
    pub rows: u32,
    /// Size of the value in each row, in bytes.
    pub bytes: u32,
    /// Size of the logical message in each transaction, in bytes. 0 means no message.
    pub message: u32,
    /// Every n-th transaction is rolled back. 0 means none.
    pub rollback_every: u32,
    /// Whether these transactions use `synchronous_commit = off`.
    pub asynchronous: bool,
    /// Microseconds between two transactions.
    pub pause_us: u64,
    /// Committed rows are read after every n-th transaction. 0 means never.
    pub read_every: u32,
}

/// One fault.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FaultRow {
    /// When the fault takes effect.
    pub when: When,
    /// The fault.
    pub fault: Fault,
}

/// The kinds of faults. Durations are in microseconds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// The machine loses power and boots again.
    PowerLoss {
        /// The node.
        node: usize,
        /// How long the machine is off.
        off_us: u64,
    },
    /// All processes of a server die at once. The operating system keeps running.
    NodeCrash {
        /// The node.
        node: usize,
        /// The time until the server is started again.
        off_us: u64,
    },
    /// No data passes between two nodes.
    Partition {
        /// One node.
        a: usize,
        /// The other node.
        b: usize,
        /// Whether only the direction from `a` to `b` is blocked.
        one_way: bool,
        /// The duration.
        for_us: u64,
    },
    /// All connections between two nodes break.
    Reset {
        /// One node.
        a: usize,
        /// The other node.
        b: usize,
    },
    /// The latency from one node to another increases.
    Delay {
        /// The sending node.
        a: usize,
        /// The receiving node.
        b: usize,
        /// The extra latency.
        by_us: u64,
        /// The duration.
        for_us: u64,
    },
    /// The next fsync of a file under a directory fails.
    FsyncError {
        /// The node.
        node: usize,
        /// The directory, such as `pg_wal`.
        path: String,
        /// Whether the kernel drops the dirty pages that it could not write. If not, they stay
        /// dirty.
        drop_pages: bool,
    },
    /// The disk is full.
    DiskFull {
        /// The node.
        node: usize,
        /// The duration.
        for_us: u64,
    },
    /// The wall clock jumps.
    ClockJump {
        /// The node.
        node: usize,
        /// The jump in microseconds. A negative value sets the clock back.
        by_us: i64,
    },
    /// The operator shuts the server down, and later starts it again.
    Shutdown {
        /// The node.
        node: usize,
        /// The shutdown mode.
        mode: ShutdownMode,
        /// The time from the request until the server is started again. If the server still runs at
        /// that time, it is started as soon as it has stopped.
        off_us: u64,
    },
    /// One process of this kind is killed with SIGKILL. The fault has no effect if no such process
    /// runs.
    Kill {
        /// The node.
        node: usize,
        /// The kind of process. It must not be the postmaster.
        process: Role,
    },
    /// The fault stops processes with SIGSTOP, and later continues them with SIGCONT.
    Pause {
        /// The node.
        node: usize,
        /// The kind of the processes to stop. `None` stops all processes.
        process: Option<Role>,
        /// The duration.
        for_us: u64,
    },
    /// The next process that ends a step in this C function gets no CPU for a while.
    Stall {
        /// The node.
        node: usize,
        /// The C function.
        at: Place,
        /// The duration.
        for_us: u64,
    },
    /// The processes of a node stop reading. The kernel's buffers then fill, and the kernel accepts
    /// no more bytes.
    StopReading {
        /// The node.
        node: usize,
        /// The duration.
        for_us: u64,
    },
}

/// The shutdown modes of `pg_ctl stop`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ShutdownMode {
    /// SIGTERM. The server waits until all clients have disconnected. If this takes too long, the
    /// operator requests a fast shutdown.
    Smart,
    /// SIGINT. The server disconnects the clients.
    Fast,
    /// SIGQUIT. The server exits at once, and its next start needs crash recovery.
    Immediate,
}

impl ShutdownMode {
    /// The name as in `pg_ctl stop -m`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Smart => "smart",
            Self::Fast => "fast",
            Self::Immediate => "immediate",
        }
    }
}

/// The kinds of processes that a fault can name.
pub const PROCESSES: [Role; 7] = [
    Role::Postmaster,
    Role::Backend,
    Role::WalSender,
    Role::WalWriter,
    Role::Checkpointer,
    Role::Startup,
    Role::WalReceiver,
];

/// One operator action.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ActionRow {
    /// When the operator acts.
    pub when: When,
    /// The action.
    pub action: Action,
}

/// The kinds of operator actions.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Sends a statement over the operator's session. The operator does not retry a failed
    /// statement.
    Sql {
        /// The node.
        node: usize,
        /// The statement. It must not read or write rows, because only the workload does this.
        statement: Statement,
    },
    /// Edits the configuration and reloads it (`pg_ctl reload`).
    Reload {
        /// The node.
        node: usize,
        /// The new values by setting name.
        settings: BTreeMap<String, String>,
    },
    /// Enlarges a disk. A server whose disk is full may need the additional space to start.
    GrowDisk {
        /// The node.
        node: usize,
        /// The number of additional bytes.
        by: u64,
    },
}
