//! A run as data: topology, settings, workload, faults and operator actions. Generated from a seed,
//! written by hand, or left over by shrinking: one type for all.

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
pub use scenario::{Expect, Scenario};
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

/// Everything that decides a run besides the code.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Plan {
    /// Seed of the run-time choices.
    pub seed: u64,
    /// What the run is called: the profile, or the scenario's name.
    pub name: String,
    /// What a scenario protects; empty for generated plans.
    pub about: String,
    /// The servers; the first is the primary.
    pub nodes: Vec<NodePlan>,
    /// How the network behaves when nothing is wrong.
    pub network: NetworkPlan,
    /// How the disks behave when nothing is wrong.
    pub disks: DiskPlan,
    /// What sessions do.
    pub workload: Vec<WorkloadRow>,
    /// What goes wrong.
    pub faults: Vec<FaultRow>,
    /// What the operator does.
    pub actions: Vec<ActionRow>,
    /// Length of the active part in microseconds; the quiescent phase follows.
    pub active_us: u64,
    /// Choices that are not left to the seed, by their names.
    pub pins: BTreeMap<String, u64>,
    /// Does every process step take a drawn while (`false`: none does)?
    pub step_delays: bool,
}

/// One server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NodePlan {
    /// Its name in reports, and its host name.
    pub name: String,
    /// Its configuration; `primary_conninfo` names the upstream of a standby.
    pub settings: Settings,
    /// Offset of its wall clock in microseconds.
    pub clock_offset_us: i64,
    /// Drift of its wall clock in parts per million.
    pub clock_drift_ppm: i32,
    /// Bytes that its disk holds.
    pub disk_capacity: u64,
    /// Physical slots that it has from the beginning, with all WAL reserved.
    pub slots: Vec<String>,
}

/// The network at its best.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NetworkPlan {
    /// Least one-way latency in microseconds.
    pub latency_us: u64,
    /// What is drawn on top of it, at most.
    pub jitter_us: u64,
    /// Bytes per millisecond and link.
    pub bytes_per_ms: u64,
    /// Cut streams at drawn places, and join what was sent apart.
    pub fragment: bool,
}

impl Default for NetworkPlan {
    /// A local network.
    fn default() -> Self {
        Self {
            latency_us: 100,
            jitter_us: 50,
            bytes_per_ms: 100_000,
            fragment: false,
        }
    }
}

/// The disks at their best.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DiskPlan {
    /// Least duration of any operation in microseconds.
    pub latency_us: u64,
    /// What is drawn on top of it, at most.
    pub jitter_us: u64,
    /// Duration of an fsync in microseconds, at least; the jitter is ten times that of others.
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

/// When a row takes effect.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum When {
    /// So many microseconds after the start.
    At(u64),
    /// When something happens for the n-th time (from 1); the row then takes effect before the
    /// effects of that step that follow the event.
    Event {
        /// On which node.
        node: usize,
        /// What.
        event: EventKind,
        /// Which occurrence, from 1.
        nth: u32,
    },
}

impl When {
    /// The time, if the row waits for no event.
    #[must_use]
    pub const fn at_us(&self) -> Option<u64> {
        match self {
            Self::At(us) => Some(*us),
            Self::Event { .. } => None,
        }
    }
}

/// What a row can wait for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EventKind {
    /// A process issues a write into pg_wal.
    WalWrite,
    /// A process issues an fsync of a WAL segment.
    WalFsync,
    /// The walreceiver issues a write into pg_wal.
    WalReceived,
    /// A WAL fsync has completed.
    WalFsynced,
    /// The walsender hands WAL to the network.
    WalSent,
    /// A backend has inserted a commit record.
    CommitAcked,
    /// A checkpoint has been completed.
    CheckpointDone,
    /// A slot's new state file is in place.
    SlotSaved,
    /// A segment of WAL is removed, or renamed for future use.
    SegmentRemoved,
    /// A walreceiver has ended.
    WalreceiverEnded,
    /// The node accepts connections.
    Ready,
}

impl EventKind {
    /// All of them.
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

    /// The name as plans write it.
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

    /// The one with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.name() == name)
    }
}

/// A burst of transactions of one session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WorkloadRow {
    /// When it begins.
    pub when: When,
    /// Which session, from 0; rows of one session run one after the other.
    pub session: u32,
    /// On which node.
    pub node: usize,
    /// How many transactions.
    pub transactions: u32,
    /// Rows of each.
    pub rows: u32,
    /// Bytes of a row's value.
    pub bytes: u32,
    /// Bytes of a logical message that each transaction emits besides; 0 for none.
    pub message: u32,
    /// Roll back every n-th transaction; 0 for none.
    pub rollback_every: u32,
    /// `SET synchronous_commit = off` for these.
    pub asynchronous: bool,
    /// Microseconds between two transactions.
    pub pause_us: u64,
    /// Read back what was committed after every n-th transaction; 0 for never.
    pub read_every: u32,
}

/// One fault.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FaultRow {
    /// When it strikes.
    pub when: When,
    /// What.
    pub fault: Fault,
}

/// What can go wrong. Durations are in microseconds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// The machine loses power and boots again.
    PowerLoss {
        /// Which.
        node: usize,
        /// How long it stays off.
        off_us: u64,
    },
    /// All processes of a server die at once; the operating system lives on.
    NodeCrash {
        /// Which.
        node: usize,
        /// How long until it is started again.
        off_us: u64,
    },
    /// Nothing gets through between two nodes.
    Partition {
        /// One side.
        a: usize,
        /// The other.
        b: usize,
        /// Only from `a` to `b`.
        one_way: bool,
        /// How long.
        for_us: u64,
    },
    /// All connections between two nodes break.
    Reset {
        /// One side.
        a: usize,
        /// The other.
        b: usize,
    },
    /// Everything from one node to another takes longer.
    Delay {
        /// From.
        a: usize,
        /// To.
        b: usize,
        /// By how much.
        by_us: u64,
        /// How long.
        for_us: u64,
    },
    /// The next fsync of a file under a directory fails.
    FsyncError {
        /// On which node.
        node: usize,
        /// Files below it, such as `pg_wal`.
        path: String,
        /// The kernel forgets the unwritten pages (else it keeps them dirty).
        drop_pages: bool,
    },
    /// The disk is full.
    DiskFull {
        /// On which node.
        node: usize,
        /// How long.
        for_us: u64,
    },
    /// The wall clock jumps.
    ClockJump {
        /// On which node.
        node: usize,
        /// By how many microseconds; negative is back.
        by_us: i64,
    },
    /// The operator shuts the server down, and starts it again.
    Shutdown {
        /// Which.
        node: usize,
        /// How.
        mode: ShutdownMode,
        /// How long after the request it is started again, if it has ended by then; else as soon as
        /// it has.
        off_us: u64,
    },
    /// One process is killed with SIGKILL; nothing happens if none of the kind runs.
    Kill {
        /// Of which server.
        node: usize,
        /// What it is; not the postmaster.
        process: Role,
    },
    /// Processes are stopped with SIGSTOP, and go on later.
    Pause {
        /// Of which server.
        node: usize,
        /// Of which kind; `None` stops them all.
        process: Option<Role>,
        /// How long.
        for_us: u64,
    },
    /// The next process that comes to a place where others may act gets no CPU for a while.
    Stall {
        /// Of which server.
        node: usize,
        /// The C function in which the place is.
        at: Place,
        /// How long.
        for_us: u64,
    },
    /// Clients of a session stop reading what the server sends, or a standby's kernel does.
    StopReading {
        /// Whose end of its connections stops taking bytes.
        node: usize,
        /// How long.
        for_us: u64,
    },
}

/// How a server is told to end: the modes of `pg_ctl stop`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ShutdownMode {
    /// SIGTERM: once all clients have left. An operator that waits in vain continues with `Fast`.
    Smart,
    /// SIGINT: clients are sent away.
    Fast,
    /// SIGQUIT: recovery follows.
    Immediate,
}

impl ShutdownMode {
    /// As `pg_ctl stop -m` calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Smart => "smart",
            Self::Fast => "fast",
            Self::Immediate => "immediate",
        }
    }
}

/// The kinds of processes that a row can name.
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
    /// When.
    pub when: When,
    /// What.
    pub action: Action,
}

/// What an operator does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Sends a statement over a session of their own. It is not repeated if it fails.
    Sql {
        /// Where.
        node: usize,
        /// Anything but reading and writing rows, which is what a workload does.
        statement: Statement,
    },
    /// Edits the configuration and reloads it (`pg_ctl reload`).
    Reload {
        /// Where.
        node: usize,
        /// New values by the names of the settings.
        settings: BTreeMap<String, String>,
    },
    /// Gives a disk more room, which a server whose disk is full may need to start at all.
    GrowDisk {
        /// Whose.
        node: usize,
        /// By how many bytes.
        by: u64,
    },
}
