//! What checks see: steps, changes in shared memory, disk operations, what happens to servers and
//! clients, messages.
//!
//! Everything is borrowed from the world for the time of one call. Nothing here is computed for a
//! check that has not subscribed to it.

use super::Violation;
use crate::disk::Disk;
use bytes::Bytes;
use std::cell::OnceCell;
use std::fmt::{self, Display};
use std::ops::Range;
use walsim_core::base::{ConnId, Mono, Now, Pid};
use walsim_core::call::{DiskError, Effects, Exit, FilePath, LogEvent, Signal};
use walsim_core::node::{NodeView, PmState};
use walsim_core::shmem::Role;
use walsim_core::wire::frame::Frame;
use walsim_core::wire::sql::Statement;

/// Where and when something is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Site<'a> {
    /// The time of the world.
    pub now: Mono,
    /// Number of the node in the plan.
    pub host: usize,
    /// Its name.
    pub name: &'a str,
    /// The ordinal number of this start of its server, from 1. Nothing in shared memory outlives
    /// it.
    pub boot: u32,
}

impl Site<'_> {
    /// A promise is broken here. `facts` are what was compared: a word for it, and its value.
    #[must_use]
    pub fn violation(
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

/// A step of a node. Its effects were carried out; if a death cut them off, the step is not shown.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Where and when.
    pub site: Site<'a>,
    /// The node's own clocks.
    pub clock: Now,
    /// The node after the step.
    pub view: NodeView<'a>,
    /// Its disk after the effects of the step.
    pub disk: &'a Disk,
    /// The process that ran; `None` if something arrived instead.
    pub ran: Option<(Pid, Role)>,
    /// Some process gets no CPU, by a fault.
    pub held: bool,
    /// What it wanted.
    pub effects: &'a Effects,
}

/// What a step can have changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ChangeKind {
    /// How far WAL is flushed: `XLogCtl->LogwrtResult.Flush`, on a standby `WalRcv->flushedUpto`.
    Flushed,
    /// How far WAL is replayed: `XLogRecoveryCtl->lastReplayedEndRecPtr`.
    Replayed,
    /// How far a walsender has sent: `WalSnd->sentPtr`.
    Sent,
    /// What a walreceiver is asked for and has got: `WalRcv`.
    Received,
    /// Entries for slots: one came, went, moved, was acquired, released or invalidated.
    Slots,
    /// How far a standby has told its walsender that it is: `WalSnd->write`, `flush` and `apply`.
    Reported,
    /// Data pages in the buffer pool.
    Pages,
    /// A checkpoint or a restartpoint has ended well.
    Checkpoint,
    /// Records of the ledger have become whole: they were flushed, or crash recovery of a primary
    /// has found them.
    Records,
}

/// The operations on files that are shown, and when in their lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DiskKind {
    /// A write was issued: the page cache holds its bytes.
    Write,
    /// A name is about to go, by unlink, rmdir or rename.
    Remove,
    /// A file or directory was given this name by a rename.
    Rename,
    /// An fsync of a file has ended, well or not.
    Sync,
}

/// Kinds of files of a data directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FileClass {
    /// `pg_wal` and all in it: segments, segments in the making, history files, archive status.
    Wal,
    /// `global/pg_control`
    Control,
    /// `pg_replslot` and all in it.
    Slot,
    /// `pg_xact` and all in it.
    Xact,
    /// Files of relations, below `base`.
    Relation,
    /// Any other.
    Other,
}

impl FileClass {
    /// Which kind a path is.
    #[must_use]
    pub fn of(path: &FilePath) -> Self {
        let path = path.as_str();
        match path.split_once('/').map_or(path, |(first, _)| first) {
            "pg_wal" => Self::Wal,
            "base" => Self::Relation,
            "pg_xact" => Self::Xact,
            "pg_replslot" => Self::Slot,
            "global" if path == "global/pg_control" => Self::Control,
            _ => Self::Other,
        }
    }
}

/// A disk operation.
#[derive(Debug)]
pub struct DiskEvent<'a> {
    /// Where and when.
    pub site: Site<'a>,
    /// The node; `None` if its server is gone.
    pub view: Option<NodeView<'a>>,
    /// The disk.
    pub disk: &'a Disk,
    /// The process that asked for it; not known of an fsync that has ended.
    pub pid: Option<Pid>,
    /// The file.
    pub path: &'a FilePath,
    /// What is done.
    pub act: DiskAct<'a>,
}

/// What is done to a file.
#[derive(Debug)]
pub enum DiskAct<'a> {
    /// [`DiskKind::Write`]
    Write(Written),
    /// [`DiskKind::Remove`]; with the new name if it is a rename.
    Remove(Option<&'a FilePath>),
    /// [`DiskKind::Rename`]; with the old name.
    Rename(&'a FilePath),
    /// [`DiskKind::Sync`]; how it ended.
    Sync(Result<(), DiskError>),
}

/// A range of a file that was written.
#[derive(Debug)]
pub struct Written {
    /// Which bytes; a disk that ran full took fewer.
    pub range: Range<u64>,
    bytes: OnceCell<Vec<u8>>,
}

impl Written {
    pub(crate) const fn new(range: Range<u64>) -> Self {
        Self {
            range,
            bytes: OnceCell::new(),
        }
    }
}

impl DiskAct<'_> {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> DiskKind {
        match self {
            Self::Write(_) => DiskKind::Write,
            Self::Remove(_) => DiskKind::Remove,
            Self::Rename(_) => DiskKind::Rename,
            Self::Sync(_) => DiskKind::Sync,
        }
    }
}

impl DiskEvent<'_> {
    /// The first byte that was written.
    #[must_use]
    pub const fn start_of_write(&self) -> u64 {
        match &self.act {
            DiskAct::Write(written) => written.range.start,
            DiskAct::Remove(_) | DiskAct::Rename(_) | DiskAct::Sync(_) => 0,
        }
    }

    /// The bytes of the range that was written as the page cache has them: fewer if the disk ran
    /// full. Read once for all checks that ask; none for other operations.
    #[must_use]
    pub fn written(&self) -> (u64, &[u8]) {
        let DiskAct::Write(Written { range, bytes }) = &self.act else {
            return (0, &[]);
        };
        let read = || {
            let bytes =
                self.disk
                    .read_cached(self.path.as_str(), range.start, range.end - range.start);
            bytes.unwrap_or_default()
        };
        (range.start, bytes.get_or_init(read))
    }
}

/// Kinds of what happens to a server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ServerKind {
    /// It was started.
    Boot,
    /// It has come up: it takes connections.
    Open,
    /// It is gone with all its shared memory.
    Gone,
    /// A signal from outside is about to reach a process: an operator's or a fault's.
    Signal,
    /// A line was logged.
    Log,
    /// A process has ended.
    Exit,
    /// The postmaster has ended, and with it the server.
    Halt,
    /// Something else was done to the machine.
    Fault,
}

/// What happened to a server.
#[derive(Clone, Debug)]
pub struct ServerEvent<'a> {
    /// Where and when.
    pub site: Site<'a>,
    /// The node; `None` before it is booted and once it is gone.
    pub view: Option<NodeView<'a>>,
    /// Its disk.
    pub disk: &'a Disk,
    /// What happened.
    pub act: ServerAct<'a>,
}

/// What happened to a server.
#[derive(Clone, Copy, Debug)]
pub enum ServerAct<'a> {
    /// [`ServerKind::Boot`]
    Booted,
    /// [`ServerKind::Open`], in this state: `PM_RUN` or `PM_HOT_STANDBY`.
    Opened(PmState),
    /// [`ServerKind::Gone`]
    Gone(Gone),
    /// [`ServerKind::Signal`]
    Signalled {
        /// The process.
        pid: Pid,
        /// What it is, if it still runs.
        role: Option<Role>,
        /// The signal.
        signal: Signal,
    },
    /// [`ServerKind::Log`]
    Logged {
        /// By which process.
        pid: Pid,
        /// What it is, if it ran in this step.
        role: Option<Role>,
        /// What.
        event: &'a LogEvent,
    },
    /// [`ServerKind::Exit`]
    Exited {
        /// The process.
        pid: Pid,
        /// What it was, if it ran in this step or is the postmaster.
        role: Option<Role>,
        /// Why.
        exit: &'a Exit,
    },
    /// [`ServerKind::Halt`]
    Halted,
    /// [`ServerKind::Fault`]
    Fault(MachineFault),
}

impl ServerAct<'_> {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ServerKind {
        match self {
            Self::Booted => ServerKind::Boot,
            Self::Opened(_) => ServerKind::Open,
            Self::Gone(_) => ServerKind::Gone,
            Self::Signalled { .. } => ServerKind::Signal,
            Self::Logged { .. } => ServerKind::Log,
            Self::Exited { .. } => ServerKind::Exit,
            Self::Halted => ServerKind::Halt,
            Self::Fault(_) => ServerKind::Fault,
        }
    }
}

/// How a server came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Gone {
    /// Its machine has lost power.
    PowerLoss,
    /// All its processes were killed at once.
    Crash,
    /// It has ended by itself.
    Halt,
}

/// What is done to a machine, and is no signal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MachineFault {
    /// A process gets no CPU before that time.
    Stall(Pid, Mono),
    /// The wall clock jumps by so many microseconds.
    ClockJump(i64),
    /// The configuration was edited; SIGHUP follows.
    Reload,
}

/// Kinds of what clients say and hear.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ClientKind {
    /// A statement was sent.
    Statement,
    /// The answer to a statement was delivered: CommandComplete or ErrorResponse.
    Answer,
    /// A commit was acknowledged.
    Commit,
    /// A row that was acknowledged cannot be read.
    RowMissing,
}

/// What a client said or heard.
#[derive(Clone, Copy, Debug)]
pub struct ClientEvent<'a> {
    /// The node that it is connected to, and when.
    pub site: Site<'a>,
    /// The node; `None` if its server is gone.
    pub view: Option<NodeView<'a>>,
    /// That node's disk.
    pub disk: &'a Disk,
    /// Number of the session; the last is the operator's.
    pub session: usize,
    /// The connection as the server names it, once that is known.
    pub conn: Option<ConnId>,
    /// What was said or heard.
    pub act: ClientAct<'a>,
}

/// What a client said or heard.
#[derive(Clone, Copy, Debug)]
pub enum ClientAct<'a> {
    /// [`ClientKind::Statement`]
    Statement(&'a Statement),
    /// [`ClientKind::Answer`]
    Answer(&'a Statement, &'a Answer),
    /// [`ClientKind::Commit`]; true with `synchronous_commit` on and without a warning.
    Commit(bool),
    /// [`ClientKind::RowMissing`]
    RowMissing(&'a Row),
}

impl ClientAct<'_> {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ClientKind {
        match self {
            Self::Statement(_) => ClientKind::Statement,
            Self::Answer(..) => ClientKind::Answer,
            Self::Commit(_) => ClientKind::Commit,
            Self::RowMissing(_) => ClientKind::RowMissing,
        }
    }
}

/// A row that a session wrote.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Row {
    /// Its relation.
    pub rel: u32,
    /// Its key.
    pub key: u64,
    /// Its value, which names the transaction.
    pub value: Vec<u8>,
}

/// The answer to a statement.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// CommandComplete with this tag.
    Complete {
        /// The tag.
        tag: String,
        /// A NoticeResponse came before it.
        warned: bool,
    },
    /// ErrorResponse.
    Error,
}

/// At which end of a connection a message is seen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WireEnd {
    /// Where it is sent, by a server: backend messages.
    ServerSends,
    /// Where it is sent, by a node that opened the connection: frontend messages.
    ClientSends,
    /// Where all of it has arrived, at a server: frontend messages.
    ServerReceives,
    /// Where all of it has arrived, at a node that opened the connection: backend messages.
    ClientReceives,
}

/// A complete message, start-up packets excepted. Only ends at nodes are shown: those of client
/// sessions are [`ClientEvent`]s.
#[derive(Clone, Debug)]
pub struct WireMessage<'a> {
    /// The node at this end, and when.
    pub site: Site<'a>,
    /// That node. What a step sends is seen after the step, before its effects that follow.
    pub view: NodeView<'a>,
    /// Its disk.
    pub disk: &'a Disk,
    /// At which end.
    pub end: WireEnd,
    /// The connection, as this end names it.
    pub conn: ConnId,
    /// The process that owns it.
    pub pid: Pid,
    /// The other end while it is open, if that is a node.
    pub peer: Option<Peer<'a>>,
    /// The type byte.
    pub tag: u8,
    /// The body, as the sender had it: a header and its payload are not copied together before
    /// someone asks.
    pub parts: &'a [Bytes; 2],
}

impl WireMessage<'_> {
    /// The message, for `wire::backend`, `wire::frontend` and `wire::replication` to decode.
    #[must_use]
    pub fn frame(&self) -> Frame {
        let [head, rest] = self.parts;
        let body = if rest.is_empty() {
            head.clone()
        } else {
            [&head[..], &rest[..]].concat().into()
        };
        Frame {
            tag: self.tag,
            body,
        }
    }
}

/// The node at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// Which.
    pub site: Site<'a>,
    /// Its disk.
    pub disk: &'a Disk,
}

/// A node that is looked at as a whole.
#[derive(Clone, Copy, Debug)]
pub struct NodeAtEnd<'a> {
    /// Which, and when.
    pub site: Site<'a>,
    /// The node.
    pub view: NodeView<'a>,
    /// Its disk.
    pub disk: &'a Disk,
}

impl Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flushed => "flushed position",
            Self::Replayed => "replayed position",
            Self::Sent => "sent position of a walsender",
            Self::Received => "state of the walreceiver",
            Self::Slots => "replication slots",
            Self::Reported => "positions that a standby reports",
            Self::Pages => "data pages",
            Self::Checkpoint => "completed checkpoint",
            Self::Records => "WAL records flushed first",
        })
    }
}

impl Display for DiskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "write",
            Self::Remove => "removal",
            Self::Rename => "renaming",
            Self::Sync => "completed fsync",
        })
    }
}

impl Display for FileClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wal => "pg_wal",
            Self::Control => "pg_control",
            Self::Slot => "pg_replslot",
            Self::Xact => "pg_xact",
            Self::Relation => "relation files",
            Self::Other => "other files",
        })
    }
}

impl Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boot => "boot",
            Self::Open => "open for connections",
            Self::Gone => "gone",
            Self::Signal => "signal from outside",
            Self::Log => "log line",
            Self::Exit => "exit of a process",
            Self::Halt => "halt",
            Self::Fault => "fault of the machine",
        })
    }
}

impl Display for ClientKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Statement => "statement sent",
            Self::Answer => "answer delivered",
            Self::Commit => "commit acknowledged",
            Self::RowMissing => "acknowledged row missing",
        })
    }
}

impl Display for WireEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServerSends => "sent by a server",
            Self::ClientSends => "sent by a standby",
            Self::ServerReceives => "received by a server",
            Self::ClientReceives => "received by a standby",
        })
    }
}
