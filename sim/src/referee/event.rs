//! Events for checks: steps, changes in shared memory, disk operations, events of servers and
//! clients, messages.
//!
//! An event borrows from the world while a check is called. Events are computed only if a check has
//! subscribed to them.

use super::Violation;
use super::fact::{Evidence, Fact};
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

/// The place and time of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Site<'a> {
    /// The time of the world.
    pub now: Mono,
    /// The index of the node in the plan.
    pub host: usize,
    /// The name of the node.
    pub name: &'a str,
    /// How many times the server has been started, including this start. Shared memory does not
    /// survive a restart.
    pub boot: u32,
}

impl Site<'_> {
    /// A violation at this place and time. `facts` are the compared values, each with a name.
    #[must_use]
    pub fn violation(
        self,
        code: &'static str,
        message: &str,
        facts: &[(&str, &dyn Evidence)],
    ) -> Violation {
        Violation {
            code,
            node: self.name.to_owned(),
            process: None,
            at: self.now,
            message: message.to_owned(),
            facts: facts
                .iter()
                .map(|(name, value)| Fact::new(*name, *value))
                .collect(),
        }
    }
}

/// A step of a node, after its effects have been executed. If the node died during the step, checks
/// do not see the step.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The place and time.
    pub site: Site<'a>,
    /// The node's own clocks.
    pub clock: Now,
    /// The node after the step.
    pub view: NodeView<'a>,
    /// The node's disk after the effects of the step.
    pub disk: &'a Disk,
    /// The process that ran. This is `None` if the step only delivered data or a signal.
    pub ran: Option<(Pid, Role)>,
    /// A fault currently delays a process of the node.
    pub held: bool,
    /// The effects of the step.
    pub effects: &'a Effects,
}

/// The parts of shared memory whose changes are reported.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ChangeKind {
    /// The flush position: `XLogCtl->LogwrtResult.Flush`, or `WalRcv->flushedUpto` on a standby.
    Flushed,
    /// The replay position: `XLogRecoveryCtl->lastReplayedEndRecPtr`.
    Replayed,
    /// The sent position of a walsender: `WalSnd->sentPtr`.
    Sent,
    /// The request to the walreceiver and its progress: `WalRcv`.
    Received,
    /// A slot was created, dropped, moved, acquired, released or invalidated.
    Slots,
    /// The positions that a standby reported: `WalSnd->write`, `flush` and `apply`.
    Reported,
    /// Data pages in the buffer pool.
    Pages,
    /// A checkpoint or restartpoint was completed.
    Checkpoint,
    /// A record is complete: its end was flushed, or crash recovery of a primary has read it.
    Records,
}

/// The disk operations that are reported, and when.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DiskKind {
    /// A process has issued a write, and the page cache contains the bytes.
    Write,
    /// unlink, rmdir or rename is about to remove a name.
    Remove,
    /// A rename has given a file or directory this name.
    Rename,
    /// An fsync of a file has completed, successfully or not.
    Sync,
}

/// Classes of files in a data directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FileClass {
    /// Everything in `pg_wal`: segments, temporary segments, history files, archive status.
    Wal,
    /// `global/pg_control`
    Control,
    /// Everything in `pg_replslot`.
    Slot,
    /// Everything in `pg_xact`.
    Xact,
    /// Files of relations, below `base`.
    Relation,
    /// All other files.
    Other,
}

impl FileClass {
    /// The class of a path.
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
    /// The place and time.
    pub site: Site<'a>,
    /// The node. This is `None` while its server does not run.
    pub view: Option<NodeView<'a>>,
    /// The disk.
    pub disk: &'a Disk,
    /// The process that issued the operation. This is `None` for an fsync that has completed.
    pub pid: Option<Pid>,
    /// The file.
    pub path: &'a FilePath,
    /// The operation.
    pub act: DiskAct<'a>,
}

/// An operation on a file.
#[derive(Debug)]
pub enum DiskAct<'a> {
    /// [`DiskKind::Write`]
    Write(Written),
    /// [`DiskKind::Remove`], with the new name if this is a rename.
    Remove(Option<&'a FilePath>),
    /// [`DiskKind::Rename`], with the old name.
    Rename(&'a FilePath),
    /// [`DiskKind::Sync`], with the result of the fsync.
    Sync(Result<(), DiskError>),
}

/// The range of a write.
#[derive(Debug)]
pub struct Written {
    /// The range of the bytes that were written. It is shorter than requested if the disk became
    /// full.
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
    /// The kind of the operation.
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
    /// The offset of the write.
    #[must_use]
    pub const fn start_of_write(&self) -> u64 {
        match &self.act {
            DiskAct::Write(written) => written.range.start,
            DiskAct::Remove(_) | DiskAct::Rename(_) | DiskAct::Sync(_) => 0,
        }
    }

    /// The offset of the write, and the written bytes as read from the page cache. If the disk
    /// became full, there are fewer bytes than requested. For other operations the offset is 0 and
    /// there are no bytes.
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

/// Kinds of events of a server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ServerKind {
    /// The server was started.
    Boot,
    /// The server accepts connections.
    Open,
    /// The server has stopped, and its shared memory is lost.
    Gone,
    /// An operator or a fault is about to send a signal to a process.
    Signal,
    /// A process logged a message.
    Log,
    /// A process exited.
    Exit,
    /// The postmaster exited, which ends the server.
    Halt,
    /// A fault of the machine that is not a signal.
    Fault,
}

/// An event of a server.
#[derive(Clone, Debug)]
pub struct ServerEvent<'a> {
    /// The place and time.
    pub site: Site<'a>,
    /// The node. This is `None` while the server is not running.
    pub view: Option<NodeView<'a>>,
    /// The disk of the node.
    pub disk: &'a Disk,
    /// The event.
    pub act: ServerAct<'a>,
}

/// An event of a server.
#[derive(Clone, Copy, Debug)]
pub enum ServerAct<'a> {
    /// [`ServerKind::Boot`]
    Booted,
    /// [`ServerKind::Open`], with the state `PM_RUN` or `PM_HOT_STANDBY`.
    Opened(PmState),
    /// [`ServerKind::Gone`]
    Gone(Gone),
    /// [`ServerKind::Signal`]
    Signaled {
        /// The process.
        pid: Pid,
        /// The role of the process, if it still runs.
        role: Option<Role>,
        /// The signal.
        signal: Signal,
    },
    /// [`ServerKind::Log`]
    Logged {
        /// The process that logged the message.
        pid: Pid,
        /// The role of the process, if it ran in this step.
        role: Option<Role>,
        /// The message.
        event: &'a LogEvent,
    },
    /// [`ServerKind::Exit`]
    Exited {
        /// The process.
        pid: Pid,
        /// The role of the process. This is `None` if the process did not run in this step and is
        /// not the postmaster.
        role: Option<Role>,
        /// How the process exited.
        exit: &'a Exit,
    },
    /// [`ServerKind::Halt`]
    Halted,
    /// [`ServerKind::Fault`]
    Fault(MachineFault),
}

impl ServerAct<'_> {
    /// The kind of the event.
    #[must_use]
    pub const fn kind(&self) -> ServerKind {
        match self {
            Self::Booted => ServerKind::Boot,
            Self::Opened(_) => ServerKind::Open,
            Self::Gone(_) => ServerKind::Gone,
            Self::Signaled { .. } => ServerKind::Signal,
            Self::Logged { .. } => ServerKind::Log,
            Self::Exited { .. } => ServerKind::Exit,
            Self::Halted => ServerKind::Halt,
            Self::Fault(_) => ServerKind::Fault,
        }
    }
}

/// How a server ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Gone {
    /// The machine of the server lost power.
    PowerLoss,
    /// All processes of the server were killed at once.
    Crash,
    /// The server exited by itself.
    Halt,
}

/// Faults of a machine other than signals.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MachineFault {
    /// A process gets no CPU before this time.
    Stall(Pid, Mono),
    /// The wall clock jumps by this many microseconds.
    ClockJump(i64),
    /// The configuration file was changed. SIGHUP follows.
    Reload,
}

/// Kinds of events of a client session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ClientKind {
    /// The client sent a statement.
    Statement,
    /// The network has delivered an answer: CommandComplete or ErrorResponse.
    Answer,
    /// A commit was acknowledged.
    Commit,
    /// The client could not read a row of an acknowledged commit.
    RowMissing,
}

/// An event of a client session.
#[derive(Clone, Copy, Debug)]
pub struct ClientEvent<'a> {
    /// The node to which the session is connected, and the time.
    pub site: Site<'a>,
    /// The node. This is `None` while its server does not run.
    pub view: Option<NodeView<'a>>,
    /// The disk of that node.
    pub disk: &'a Disk,
    /// The index of the session. The operator's session has the highest index.
    pub session: usize,
    /// The server's id of the connection, once the server has accepted it.
    pub conn: Option<ConnId>,
    /// The event.
    pub act: ClientAct<'a>,
}

/// An event of a client session.
#[derive(Clone, Copy, Debug)]
pub enum ClientAct<'a> {
    /// [`ClientKind::Statement`]
    Statement(&'a Statement),
    /// [`ClientKind::Answer`]
    Answer(&'a Statement, &'a Answer),
    /// [`ClientKind::Commit`]. The value is true if `synchronous_commit` is on and no warning
    /// arrived.
    Commit(bool),
    /// [`ClientKind::RowMissing`]
    RowMissing(&'a Row),
}

impl ClientAct<'_> {
    /// The kind of the event.
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
    /// The relation of the row.
    pub rel: u32,
    /// The key of the row.
    pub key: u64,
    /// The value of the row, which identifies the transaction.
    pub value: Vec<u8>,
}

/// The answer to a statement.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// A CommandComplete with this tag.
    Complete {
        /// The tag.
        tag: String,
        /// A NoticeResponse came before the answer.
        warned: bool,
    },
    /// ErrorResponse.
    Error,
}

/// The end of a connection at which a message is seen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WireEnd {
    /// Sent by a server: backend messages.
    ServerSends,
    /// Sent by a node that opened the connection: frontend messages.
    ClientSends,
    /// Completely received by a server: frontend messages.
    ServerReceives,
    /// Completely received by a node that opened the connection: backend messages.
    ClientReceives,
}

/// A complete message other than a startup packet, seen at a node. For messages seen at a client
/// session use [`ClientEvent`].
#[derive(Clone, Debug)]
pub struct WireMessage<'a> {
    /// The node at this end, and the time.
    pub site: Site<'a>,
    /// The node. A sent message is shown after the step of the sender and before the later effects
    /// of that step.
    pub view: NodeView<'a>,
    /// The disk of the node.
    pub disk: &'a Disk,
    /// The end.
    pub end: WireEnd,
    /// This end's id of the connection.
    pub conn: ConnId,
    /// The process that owns the connection.
    pub pid: Pid,
    /// The other end of the connection. This is `None` if the connection is closed or leads to a
    /// client.
    pub peer: Option<Peer<'a>>,
    /// The type byte.
    pub tag: u8,
    /// The body of the message. It consists of a header and a payload, as the sender passed them.
    pub parts: &'a [Bytes; 2],
}

impl WireMessage<'_> {
    /// The whole body, for the decoders in `wire::backend`, `wire::frontend` and
    /// `wire::replication`.
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
    /// The node.
    pub site: Site<'a>,
    /// The disk of the node.
    pub disk: &'a Disk,
}

/// A whole node.
#[derive(Clone, Copy, Debug)]
pub struct NodeAtEnd<'a> {
    /// The node, and the time.
    pub site: Site<'a>,
    /// The node.
    pub view: NodeView<'a>,
    /// The disk of the node.
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
            Self::Records => "newly complete WAL records",
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
