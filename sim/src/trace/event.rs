//! One thing that happened in a run, with all that a reader may filter by.

use super::message::MessageFields;
use serde::{Serialize, Serializer};
use std::fmt::{self, Display};
use std::ops::Range;
use walsim_core::base::{Lsn, Mono, Pid};
use walsim_core::call::Place;
use walsim_core::shmem::{LockId, Role};

/// How much a reader wants to see; each level includes the ones before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// The server log, faults, operators, servers that start and stop.
    Story,
    /// Also disk operations, messages, connections, signals, processes that start and end,
    /// statements of clients, and WAL positions that move.
    Events,
    /// Also each step of a process: what woke it, which latches it set, which locks it took, and
    /// what it waits for.
    Steps,
}

/// The kinds of events, as filters and JSON name them.
pub const KINDS: [&str; 17] = [
    "world",
    "log",
    "client",
    "disk",
    "disk-done",
    "send",
    "receive",
    "bytes",
    "connection",
    "signal",
    "start",
    "exit",
    "position",
    "run",
    "latch",
    "lock",
    "wait",
];

/// An event of a run. As JSON it is one object; see docs/trace.md.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct TraceEvent {
    /// Its number in the run, from 1. The numbers are the same whatever is filtered out.
    #[serde(rename = "event")]
    pub number: u64,
    /// How many steps the machines had made when it happened.
    pub step: u64,
    /// Simulated time in microseconds.
    #[serde(rename = "at_us", serialize_with = "microseconds")]
    pub at: Mono,
    /// The node or client session; empty for the world's own events.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The process, if one did it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown_if")]
    pub process: Option<ProcessName>,
    /// What happened.
    #[serde(flatten)]
    pub act: Act,
}

/// A process as a trace names it, such as `walsender 1.7`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProcessName {
    /// What it is.
    pub role: Role,
    /// Its id.
    pub pid: Pid,
}

impl Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role.name(), self.pid)
    }
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Act {
    /// A fault, an operator's act, a server that starts or stops, the verdict.
    World {
        /// In words.
        text: String,
    },
    /// A line of the server log.
    Log {
        /// LOG, WARNING, ERROR, FATAL or PANIC.
        severity: String,
        /// The message.
        text: String,
    },
    /// A client session has sent a statement or got an answer.
    Client {
        /// Number of the session; the last is the operator's.
        session: usize,
        /// In words.
        text: String,
    },
    /// A disk operation was issued. A write is in the page cache from now on.
    Disk {
        /// Which.
        #[serde(flatten)]
        act: DiskAct,
        /// Microseconds until it completes; a close is not answered.
        #[serde(skip_serializing_if = "Option::is_none")]
        takes_us: Option<u64>,
        /// How it will end, if it does nothing or less than was asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        fails: Option<String>,
    },
    /// A disk operation has completed.
    DiskDone {
        /// Which.
        #[serde(flatten)]
        act: DiskAct,
        /// `ok`, or the error in the system's words.
        result: String,
    },
    /// A message was handed to the network.
    Send {
        /// To which node or session.
        peer: String,
        /// Its length with type byte and length word.
        bytes: u64,
        /// The message.
        #[serde(flatten)]
        message: MessageFields,
    },
    /// The last byte of a message has arrived.
    Receive {
        /// From which node or session.
        peer: String,
        /// Its length with type byte and length word.
        bytes: u64,
        /// The message.
        #[serde(flatten)]
        message: MessageFields,
    },
    /// Bytes were handed to the network, or came from it: messages whole and in part.
    Bytes {
        /// The other end.
        peer: String,
        /// True if the node sends them.
        sends: bool,
        /// How many.
        len: u64,
    },
    /// A connection was opened, accepted, refused, closed or reset.
    Connection {
        /// The other end; empty if it is not known.
        peer: String,
        /// What happened to it.
        what: &'static str,
    },
    /// A signal has become pending.
    Signal {
        /// For which process.
        #[serde(serialize_with = "shown")]
        to: ProcessName,
        /// Such as SIGTERM.
        signal: &'static str,
    },
    /// A process was forked.
    Start {
        /// Which.
        #[serde(serialize_with = "shown")]
        child: ProcessName,
    },
    /// The process has ended.
    Exit {
        /// How.
        how: String,
    },
    /// A position in WAL has moved.
    Position {
        /// Which: insert, write, flush, redo, received, flushed, replayed; sent, and what the
        /// standby has reported, of a walsender; restart_lsn of a slot.
        what: &'static str,
        /// The slot, or the walsender's process.
        #[serde(skip_serializing_if = "String::is_empty")]
        of: String,
        /// Where it was.
        #[serde(serialize_with = "shown")]
        from: Lsn,
        /// Where it is.
        #[serde(serialize_with = "shown")]
        to: Lsn,
    },
    /// The process has run, from here.
    Run {
        /// The C function in which it stood.
        #[serde(rename = "at", serialize_with = "shown")]
        place: Place,
        /// Which of the things that it waited for came true; none if it did not wait.
        woken_by: Vec<String>,
    },
    /// The latch of a process was set.
    Latch {
        /// Whose.
        #[serde(serialize_with = "shown")]
        of: ProcessName,
    },
    /// A lock was taken or released.
    Lock {
        /// Which.
        #[serde(serialize_with = "shown")]
        lock: LockId,
        /// True if it was taken.
        taken: bool,
    },
    /// The process waits.
    Wait {
        /// The C function that waits.
        #[serde(rename = "at", serialize_with = "shown")]
        place: Place,
        /// For what: the first that comes true ends the wait.
        waits_for: Vec<String>,
    },
}

/// A disk operation.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct DiskAct {
    /// Such as `write`, `fsync`, `rename`.
    pub op: &'static str,
    /// The file, relative to the data directory.
    pub file: String,
    /// Its new name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The first byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// How many bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub len: Option<u64>,
    /// The WAL that the bytes hold, or that the segment holds if no bytes are named.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "range")]
    pub lsn: Option<Range<Lsn>>,
}

impl Act {
    /// Its kind, one of [`KINDS`].
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::World { .. } => "world",
            Self::Log { .. } => "log",
            Self::Client { .. } => "client",
            Self::Disk { .. } => "disk",
            Self::DiskDone { .. } => "disk-done",
            Self::Send { .. } => "send",
            Self::Receive { .. } => "receive",
            Self::Bytes { .. } => "bytes",
            Self::Connection { .. } => "connection",
            Self::Signal { .. } => "signal",
            Self::Start { .. } => "start",
            Self::Exit { .. } => "exit",
            Self::Position { .. } => "position",
            Self::Run { .. } => "run",
            Self::Latch { .. } => "latch",
            Self::Lock { .. } => "lock",
            Self::Wait { .. } => "wait",
        }
    }

    /// The level at which it is first shown.
    #[must_use]
    pub fn level(&self) -> Level {
        let is_look = |act: &DiskAct| matches!(act.op, "open" | "close" | "stat" | "list");
        match self {
            Self::World { .. } | Self::Log { .. } => Level::Story,
            Self::Disk { act, .. } if is_look(act) => Level::Steps,
            Self::DiskDone { act, result } if result == "ok" && !act.op.starts_with("fsync") => {
                Level::Steps
            }
            Self::Client { .. }
            | Self::Disk { .. }
            | Self::DiskDone { .. }
            | Self::Send { .. }
            | Self::Receive { .. }
            | Self::Connection { .. }
            | Self::Signal { .. }
            | Self::Start { .. }
            | Self::Exit { .. }
            | Self::Position { .. } => Level::Events,
            Self::Bytes { .. }
            | Self::Run { .. }
            | Self::Latch { .. }
            | Self::Lock { .. }
            | Self::Wait { .. } => Level::Steps,
        }
    }

    const fn disk(&self) -> Option<&DiskAct> {
        if let Self::Disk { act, .. } | Self::DiskDone { act, .. } = self {
            return Some(act);
        }
        None
    }

    /// The file that it is about.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.disk().map(|act| act.file.as_str())
    }

    /// The WAL that it is about.
    #[must_use]
    pub fn lsn(&self) -> Option<Range<Lsn>> {
        if let Self::Send { message, .. } | Self::Receive { message, .. } = self {
            return message.lsn();
        }
        if let Self::Position { from, to, .. } = self {
            return Some(*from.min(to)..*from.max(to));
        }
        self.disk()?.lsn.clone()
    }
}

pub(super) fn shown<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn shown_if<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}

fn microseconds<S: Serializer>(at: &Mono, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(at.0)
}

fn range<S: Serializer>(range: &Option<Range<Lsn>>, to: S) -> Result<S::Ok, S::Error> {
    match range {
        Some(range) => to.collect_seq([range.start.to_string(), range.end.to_string()]),
        None => to.serialize_none(),
    }
}
