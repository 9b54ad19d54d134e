//! An event of a run, with all fields by which a trace can be filtered.

use super::message::MessageFields;
use serde::{Serialize, Serializer};
use std::fmt::{self, Display};
use std::ops::Range;
use walsim_core::base::{Lsn, Mono, Pid, Xid};
use walsim_core::call::Place;
use walsim_core::shmem::{LockId, Role};

/// The level of detail of a trace. Each level includes the levels before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// The server log, faults, actions of operators, and servers that start and stop.
    Story,
    /// The events of `Story`, and disk operations, messages, connections, signals, starts and exits
    /// of processes, statements of clients, and changes of WAL positions.
    Events,
    /// The events of `Events`, and each step of a process: what woke the process, which latches it
    /// set, which locks it acquired and released, and what it waits for.
    Steps,
}

/// An event of a run. docs/trace.md describes its JSON form.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct TraceEvent {
    /// The number of the event in the run. The first event has the number 1, and filters do not
    /// change numbers.
    #[serde(rename = "event")]
    pub number: u64,
    /// How many steps all machines had made before the event.
    pub step: u64,
    /// Simulated time in microseconds.
    #[serde(rename = "at_us", serialize_with = "microseconds")]
    pub at: Mono,
    /// The node or client session. Empty for events of the world.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The process that caused the event, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown_if")]
    pub process: Option<ProcessName>,
    /// What happened.
    #[serde(flatten)]
    pub act: Act,
}

/// A process, as named in a trace: `walsender 1.7`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProcessName {
    /// Its role.
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
    /// A fault, an action of an operator, a start or stop of a server, or the verdict.
    World {
        /// The description.
        text: String,
    },
    /// A line of the server log.
    Log {
        /// LOG, WARNING, ERROR, FATAL or PANIC.
        severity: String,
        /// The message.
        text: String,
    },
    /// A client session sent a statement or received an answer.
    Client {
        /// The index of the session. The operator's session has the highest index.
        session: usize,
        /// The description.
        text: String,
    },
    /// A disk operation was issued. If it is a write, the page cache contains its bytes from now
    /// on.
    Disk {
        /// The operation.
        #[serde(flatten)]
        act: DiskAct,
        /// The microseconds until the operation completes. A close does not complete.
        #[serde(skip_serializing_if = "Option::is_none")]
        takes_us: Option<u64>,
        /// The reason why the operation will fail, or will do less than was requested.
        #[serde(skip_serializing_if = "Option::is_none")]
        fails: Option<String>,
    },
    /// A disk operation has completed.
    DiskDone {
        /// The operation.
        #[serde(flatten)]
        act: DiskAct,
        /// The result: `ok`, or the error of the operating system.
        result: String,
    },
    /// A power loss hit a file with unsynced bytes or an unsynced name.
    Loss {
        /// The file, relative to the data directory.
        file: String,
        /// The bytes that were not durable.
        #[serde(serialize_with = "bytes")]
        unsynced: Vec<Range<u64>>,
        /// The bytes of `unsynced` that were lost.
        #[serde(serialize_with = "bytes")]
        lost: Vec<Range<u64>>,
        /// Whether the file's name was affected: the file has lost its name, or a removed file has
        /// its name again.
        name: bool,
        /// The WAL in the lost bytes.
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "range")]
        lsn: Option<Range<Lsn>>,
    },
    /// A machine has passed a message to the network.
    Send {
        /// The node or session that receives the message.
        peer: String,
        /// The length of the message, including the type byte and the length word.
        bytes: u64,
        /// The message.
        #[serde(flatten)]
        message: MessageFields,
    },
    /// The last byte of a message has arrived.
    Receive {
        /// The node or session that has sent the message.
        peer: String,
        /// The length of the message, including the type byte and the length word.
        bytes: u64,
        /// The message.
        #[serde(flatten)]
        message: MessageFields,
    },
    /// Bytes have passed one end of a connection. They need not be whole messages.
    Bytes {
        /// The other end of the connection.
        peer: String,
        /// Whether the node has sent the bytes.
        sends: bool,
        /// The number of bytes.
        len: u64,
    },
    /// A connection was opened, accepted, refused, closed or reset.
    Connection {
        /// The other end of the connection. This is empty if it is not known.
        peer: String,
        /// What happened to the connection.
        what: &'static str,
    },
    /// A signal became pending.
    Signal {
        /// The receiving process.
        #[serde(serialize_with = "shown")]
        to: ProcessName,
        /// The signal, such as SIGTERM.
        signal: &'static str,
    },
    /// A process was forked.
    Start {
        /// The new process.
        #[serde(serialize_with = "shown")]
        child: ProcessName,
    },
    /// The process exited.
    Exit {
        /// How it exited.
        how: String,
    },
    /// A WAL position changed.
    Position {
        /// Which position has changed. A node has the positions insert, write, flush, redo,
        /// received, flushed and replayed. A walsender has the sent position, and those that its
        /// standby reported. A slot has restart_lsn.
        what: &'static str,
        /// The slot or walsender to which the position belongs.
        #[serde(skip_serializing_if = "String::is_empty")]
        of: String,
        /// The old position.
        #[serde(serialize_with = "shown")]
        from: Lsn,
        /// The new position.
        #[serde(serialize_with = "shown")]
        to: Lsn,
    },
    /// `ReplicationSlotsComputeRequiredLSN` has computed the oldest LSN that slots require
    /// (`XLogCtl->replicationSlotMinLSN`). The result can be the same as before.
    SlotMinimum {
        /// The old minimum. 0/0 if no slot required WAL.
        #[serde(serialize_with = "shown")]
        from: Lsn,
        /// The new minimum.
        #[serde(serialize_with = "shown")]
        to: Lsn,
        /// The slots with this position, and for each whether the position is saved or was
        /// invalidated.
        held_by: Vec<String>,
    },
    /// A field of a replication slot changed in memory. The restart_lsn is a position.
    Slot {
        /// The name of the slot.
        slot: String,
        /// The field in `ReplicationSlot`.
        field: &'static str,
        /// The old value.
        from: String,
        /// The new value.
        to: String,
    },
    /// `KeepLogSeg` has computed the oldest WAL to keep. Older segments are then removed.
    Horizon {
        /// The start of the oldest segment to keep.
        #[serde(serialize_with = "shown")]
        keep: Lsn,
        /// What requires this segment: `redo point`, `slots`, `max_slot_wal_keep_size` (slots
        /// require older WAL, which exceeds this limit), `wal_keep_size`, or `end of WAL`.
        by: &'static str,
        /// The redo point.
        #[serde(serialize_with = "shown")]
        redo: Lsn,
        /// The slot minimum. 0/0 if no slot requires WAL.
        #[serde(serialize_with = "shown")]
        slots: Lsn,
        /// The end of WAL.
        #[serde(serialize_with = "shown")]
        wal_end: Lsn,
        /// How often this checkpoint or restartpoint has computed it.
        computed: u32,
    },
    /// A flag in memory was set or cleared.
    Flag {
        /// `DELAY_CHKPT_START`, `PMSIGNAL_START_WALRECEIVER` or `WalReceiverRequested`.
        flag: &'static str,
        /// The process to which the flag belongs.
        #[serde(skip_serializing_if = "String::is_empty")]
        of: String,
        /// Whether it was set.
        set: bool,
    },
    /// The startup process cannot read the next record.
    Record {
        /// The start of the record. If it is the start of a page, the record begins after the page
        /// header.
        #[serde(serialize_with = "shown")]
        start: Lsn,
    },
    /// A process has changed the status of a transaction in memory (`pg_xact`).
    Transaction {
        /// The transaction.
        #[serde(serialize_with = "shown")]
        xid: Xid,
        /// `committed` or `aborted`.
        status: &'static str,
    },
    /// A process has made a step, beginning in this C function.
    Run {
        /// The C function.
        #[serde(rename = "at", serialize_with = "shown")]
        place: Place,
        /// The reasons why the process woke. The list is empty if it did not wait.
        woken_by: Vec<String>,
    },
    /// The latch of a process was set.
    Latch {
        /// The owner of the latch.
        #[serde(serialize_with = "shown")]
        of: ProcessName,
    },
    /// A lock was acquired or released.
    Lock {
        /// The lock.
        #[serde(serialize_with = "shown")]
        lock: LockId,
        /// Whether it was acquired.
        taken: bool,
    },
    /// The process waits.
    Wait {
        /// The C function in which the process waits.
        #[serde(rename = "at", serialize_with = "shown")]
        place: Place,
        /// The conditions for which the process waits. The first that becomes true ends the wait.
        waits_for: Vec<String>,
    },
    /// A random choice was drawn in the step. A plan can fix (pin) its value.
    Choice {
        /// The key of the choice, as a plan's pins contain it.
        choice: String,
        /// The drawn value. 1 means true.
        value: u64,
    },
}

/// A disk operation.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct DiskAct {
    /// The name of the operation, such as `write`, `fsync` or `rename`.
    pub op: &'static str,
    /// The path of the file, relative to the data directory.
    pub file: String,
    /// The new name in a rename.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The offset of the first byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The number of bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub len: Option<u64>,
    /// The range of WAL in these bytes, or in the whole segment if there is no byte range.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "range")]
    pub lsn: Option<Range<Lsn>>,
}

impl Act {
    /// The kind of the event, which is one of [`KINDS`](super::KINDS).
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.row().name
    }

    /// The lowest level that shows the event. The level `Events` does not show operations that only
    /// look at files, and shows completions only of fsyncs and of failed operations.
    #[must_use]
    pub fn level(&self) -> Level {
        if let Self::Disk { act, .. } = self
            && matches!(act.op, "open" | "close" | "stat" | "list")
        {
            return Level::Steps;
        }
        if let Self::DiskDone { act, result } = self
            && result == "ok"
            && !act.op.starts_with("fsync")
        {
            return Level::Steps;
        }
        self.row().level
    }

    /// Whether the event is the verdict of a run that failed.
    #[must_use]
    pub fn is_verdict(&self) -> bool {
        matches!(self, Self::World { text } if text.contains(" violated: ")
            || text.starts_with("simulated time does not advance")
            || text.starts_with("panic at "))
    }

    const fn disk(&self) -> Option<&DiskAct> {
        if let Self::Disk { act, .. } | Self::DiskDone { act, .. } = self {
            return Some(act);
        }
        None
    }

    /// The file that the event is about.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        if let Self::Loss { file, .. } = self {
            return Some(file);
        }
        self.disk().map(|act| act.file.as_str())
    }

    /// The WAL that the event is about.
    #[must_use]
    pub fn lsn(&self) -> Option<Range<Lsn>> {
        if let Self::Send { message, .. } | Self::Receive { message, .. } = self {
            return message.lsn();
        }
        if let Self::Position { from, to, .. } = self {
            return Some(*from.min(to)..*from.max(to));
        }
        if let Self::Loss { lsn, .. } = self {
            return lsn.clone();
        }
        if let Self::SlotMinimum { to: at, .. }
        | Self::Horizon { keep: at, .. }
        | Self::Record { start: at } = self
        {
            return Some(*at..*at);
        }
        self.disk()?.lsn.clone()
    }
}

fn bytes<S: Serializer>(ranges: &[Range<u64>], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(ranges.iter().map(|range| [range.start, range.end]))
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
