//! The server log as typed events. `Display` turns an event into PostgreSQL's text.

use super::DiskError;
use super::FilePath;
use super::slot_message::quoted;
use crate::base::{Lsn, LsnText, PgVersion, SettingError, TimelineId, UnixTime, Xid};
use alloc::string::String;
use core::fmt;

/// `elevel`
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// Information for the administrator.
    Log,
    /// A possible problem.
    Warning,
    /// The command failed.
    Error,
    /// The process ends.
    Fatal,
    /// All processes end.
    Panic,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "LOG",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Panic => "PANIC",
        })
    }
}

/// An SQLSTATE: five characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub [u8; 5]);

impl SqlState {
    /// successful_completion: the default in messages below WARNING
    pub const OK: Self = Self(*b"00000");
    /// warning: the default in a WARNING
    pub const WARNING: Self = Self(*b"01000");
    /// protocol_violation
    pub const PROTOCOL_VIOLATION: Self = Self(*b"08P01");
    /// feature_not_supported
    pub const FEATURE_NOT_SUPPORTED: Self = Self(*b"0A000");
    /// invalid_parameter_value
    pub const INVALID_PARAMETER_VALUE: Self = Self(*b"22023");
    /// active_sql_transaction
    pub const ACTIVE_TRANSACTION: Self = Self(*b"25001");
    /// no_active_sql_transaction
    pub const NO_ACTIVE_TRANSACTION: Self = Self(*b"25P01");
    /// in_failed_sql_transaction
    pub const IN_FAILED_TRANSACTION: Self = Self(*b"25P02");
    /// invalid_authorization_specification
    pub const INVALID_AUTHORIZATION: Self = Self(*b"28000");
    /// syntax_error
    pub const SYNTAX_ERROR: Self = Self(*b"42601");
    /// name_too_long
    pub const NAME_TOO_LONG: Self = Self(*b"42622");
    /// duplicate_object
    pub const DUPLICATE_OBJECT: Self = Self(*b"42710");
    /// undefined_object
    pub const UNDEFINED_OBJECT: Self = Self(*b"42704");
    /// invalid_catalog_name
    pub const UNDEFINED_DATABASE: Self = Self(*b"3D000");
    /// undefined_table
    pub const UNDEFINED_TABLE: Self = Self(*b"42P01");
    /// too_many_connections
    pub const TOO_MANY_CONNECTIONS: Self = Self(*b"53300");
    /// configuration_limit_exceeded
    pub const CONFIGURATION_LIMIT_EXCEEDED: Self = Self(*b"53400");
    /// program_limit_exceeded
    pub const PROGRAM_LIMIT_EXCEEDED: Self = Self(*b"54000");
    /// object_not_in_prerequisite_state
    pub const NOT_IN_STATE: Self = Self(*b"55000");
    /// object_in_use
    pub const OBJECT_IN_USE: Self = Self(*b"55006");
    /// admin_shutdown
    pub const ADMIN_SHUTDOWN: Self = Self(*b"57P01");
    /// cannot_connect_now
    pub const CANNOT_CONNECT_NOW: Self = Self(*b"57P03");
    /// undefined_file
    pub const UNDEFINED_FILE: Self = Self(*b"58P01");
    /// io_error
    pub const IO_ERROR: Self = Self(*b"58030");
    /// disk_full
    pub const DISK_FULL: Self = Self(*b"53100");
    /// internal_error
    pub const INTERNAL: Self = Self(*b"XX000");
    /// data_corrupted
    pub const DATA_CORRUPTED: Self = Self(*b"XX001");
    /// connection_failure
    pub const CONNECTION_FAILURE: Self = Self(*b"08006");
    /// read_only_sql_transaction
    pub const READ_ONLY_TRANSACTION: Self = Self(*b"25006");

    /// The five characters as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<DiskError> for SqlState {
    /// `errcode_for_file_access`
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::NotFound => Self::UNDEFINED_FILE,
            DiskError::NoSpace => Self::DISK_FULL,
            DiskError::Access | DiskError::NotPermitted | DiskError::ReadOnly => Self(*b"42501"),
            DiskError::TooManyFiles => Self(*b"53000"),
            DiskError::Exists => Self(*b"58P02"),
            DiskError::NotDir | DiskError::IsDir => Self(*b"42809"),
            DiskError::Io => Self::IO_ERROR,
            DiskError::BadFd | DiskError::NotEmpty | DiskError::Quota | DiskError::Other(_) => {
                Self::INTERNAL
            }
        }
    }
}

/// One line of the server log, or one error to a client.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LogEvent {
    /// The severity.
    pub severity: Severity,
    /// The SQLSTATE.
    pub sqlstate: SqlState,
    /// The message.
    pub message: Message,
}

impl LogEvent {
    /// A LOG line.
    #[must_use]
    pub const fn log(message: Message) -> Self {
        Self {
            severity: Severity::Log,
            sqlstate: SqlState::OK,
            message,
        }
    }

    /// `ereport(ERROR)`
    #[must_use]
    pub const fn error(sqlstate: SqlState, message: Message) -> Self {
        Self {
            severity: Severity::Error,
            sqlstate,
            message,
        }
    }

    /// `ereport(FATAL)`
    #[must_use]
    pub const fn fatal(sqlstate: SqlState, message: Message) -> Self {
        Self {
            severity: Severity::Fatal,
            sqlstate,
            message,
        }
    }

    /// `ereport(PANIC)`
    #[must_use]
    pub const fn panic(sqlstate: SqlState, message: Message) -> Self {
        Self {
            severity: Severity::Panic,
            sqlstate,
            message,
        }
    }
}

impl fmt::Display for LogEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:  {}", self.severity, self.message)
    }
}

/// All messages of a server.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "the text of each variant is its documentation, its fields are what the text names"
)]
pub enum Message {
    #[error("could not {what} file \"{path}\": {error}")]
    File {
        what: &'static str,
        path: FilePath,
        error: DiskError,
    },
    #[error("could not read file \"{path}\": read {got} of {wanted}")]
    ShortRead {
        path: FilePath,
        got: u32,
        wanted: u32,
    },
    #[error("could not create directory \"{path}\": {error}")]
    CreateDir { path: FilePath, error: DiskError },
    #[error("could not open directory \"{path}\": {error}")]
    OpenDir { path: FilePath, error: DiskError },
    #[error("could not rename file \"{from}\" to \"{to}\": {error}")]
    Rename {
        from: FilePath,
        to: FilePath,
        error: DiskError,
    },
    #[error("could not remove directory \"{0}\"")]
    RemoveDir(FilePath),
    #[error("starting PostgreSQL {0}")]
    Starting(u32),
    #[error("database system is ready to accept connections")]
    ReadyForConnections,
    #[error("database system is ready to accept read-only connections")]
    ReadyForReadOnly,
    #[error("database system was shut down at {} UTC", UnixTime(*.0))]
    WasShutDown(i64),
    #[error("database system was interrupted; last known up at {} UTC", UnixTime(*.0))]
    WasInterrupted(i64),
    #[error("database system was shut down in recovery at {} UTC", UnixTime(*.0))]
    WasShutDownInRecovery(i64),
    #[error("database system shutdown was interrupted; last known up at {} UTC", UnixTime(*.0))]
    ShutdownWasInterrupted(i64),
    #[error("database system was interrupted while in recovery at {} UTC", UnixTime(*.0))]
    WasInterruptedInRecovery(i64),
    #[error("database system was interrupted while in recovery at log time {} UTC", UnixTime(*.0))]
    WasInterruptedInArchiveRecovery(i64),
    #[error("database cluster state is \"{0}\", not \"shut down\"")]
    NotShutDown(crate::wire::control_file::DbState),
    #[error(
        "this server only sends the WAL of a stopped cluster: it takes physical replication connections alone"
    )]
    WalSendersOnly,
    #[error(
        "replication slots cannot be used on a server that only sends the WAL of a stopped cluster"
    )]
    NoSlotsHere,
    #[error("control file contains invalid database cluster state")]
    InvalidClusterState,
    #[error("invalid redo {redo} in checkpoint record at {checkpoint}")]
    InvalidRedo { redo: LsnText, checkpoint: LsnText },
    #[error("unexpected timeline ID {found} (should be {expected}) in checkpoint record")]
    UnexpectedCheckpointTimeline {
        found: TimelineId,
        expected: TimelineId,
    },
    #[error("could not read the last page of WAL before {0} again")]
    LostLastPage(Lsn),
    #[error("database system was not properly shut down; automatic recovery in progress")]
    AutomaticRecovery,
    #[error("entering standby mode")]
    EnteringStandbyMode,
    #[error("redo starts at {0}")]
    RedoStarts(LsnText),
    #[error("redo done at {0}")]
    RedoDone(LsnText),
    #[error("redo is not required")]
    RedoNotRequired,
    #[error("consistent recovery state reached at {0}")]
    Consistent(LsnText),
    #[error("{0}")]
    WalEnd(crate::wal::WalError),
    #[error("successfully skipped missing contrecord at {0}")]
    SkippedMissingContrecord(LsnText),
    #[error("mismatching overwritten LSN {found} -> {expected}")]
    OverwrittenLsnMismatch { found: LsnText, expected: LsnText },
    #[error("invalid checkpoint record")]
    InvalidCheckpointRecord,
    #[error("could not locate a valid checkpoint record at {0}")]
    NoCheckpoint(LsnText),
    #[error("could not find redo location {0} referenced by checkpoint record at {1}")]
    NoRedo(LsnText, LsnText),
    #[error("unexpected record type found at redo point {0}")]
    UnexpectedRedoRecord(LsnText),
    #[error("control file contains invalid checkpoint location")]
    InvalidCheckpointLocation,
    #[error("incorrect checksum in control file")]
    ControlChecksum,
    #[error("database files are incompatible with server")]
    IncompatibleControl,
    #[error("WAL ends before consistent recovery point")]
    EndsBeforeConsistency,
    #[error("waiting for WAL to become available at {0}")]
    WaitingForWal(Lsn),
    #[error("invalid page in block {block} of relation {relation}")]
    InvalidPage { relation: u32, block: u32 },
    #[error("WAL contains references to invalid pages")]
    InvalidPages,
    #[error("could not restore image at {lsn}, block {block}: {error}")]
    BadImage {
        lsn: Lsn,
        block: u8,
        error: crate::wire::record::ImageError,
    },
    #[error("cannot replay record of resource manager {rmid}, info {info:#04x}, at {lsn}")]
    UnknownRecord {
        rmid: crate::wire::record::RmgrId,
        info: u8,
        lsn: Lsn,
    },
    #[error("no unpinned buffers available")]
    NoUnpinnedBuffers,
    #[error("could not access status of transaction {0}")]
    NoTransactionStatus(Xid),
    #[error("{error}")]
    Sql {
        error: crate::wire::sql::SqlError,
        position: Option<u32>,
    },
    #[error("relation {0} does not exist")]
    NoRelation(u32),
    #[error("there is already a transaction in progress")]
    AlreadyInTransaction,
    #[error("there is no transaction in progress")]
    NoTransaction,
    #[error("recovery is in progress")]
    RecoveryInProgress,
    #[error("checkpoint request failed")]
    CheckpointFailed,
    #[error("invalid Generic record at {0}")]
    BadGeneric(Lsn),
    #[error("started streaming WAL from primary at {0} on timeline {1}")]
    StartedStreaming(LsnText, TimelineId),
    #[error("restarted WAL streaming at {0} on timeline {1}")]
    RestartedStreaming(LsnText, TimelineId),
    #[error("primary server contains no more WAL on requested timeline {0}")]
    NoMoreWal(TimelineId),
    #[error("start {start} of WAL streaming is ahead of what the upstream has flushed, {flush}")]
    UpstreamBehind { start: Lsn, flush: Lsn },
    #[error("{what}: {why}")]
    Upstream { what: &'static str, why: String },
    #[error("cannot continue WAL streaming, recovery has already ended")]
    RecoveryEnded,
    #[error("replication terminated by primary server")]
    ReplicationTerminated,
    #[error("could not connect to the primary server: connection refused")]
    ConnectRefused,
    #[error("could not receive data from WAL stream: {0}")]
    StreamBroken(String),
    #[error("database system identifier differs between the primary and standby")]
    SystemIdDiffers,
    #[error("highest timeline {primary} of the primary is behind recovery timeline {ours}")]
    TimelineBehind {
        primary: TimelineId,
        ours: TimelineId,
    },
    #[error("terminating walreceiver due to timeout")]
    ReceiverTimeout,
    #[error("terminating walreceiver process due to administrator command")]
    ReceiverTerminated,
    #[error("walreceiver still running according to shared memory state")]
    ReceiverStillRunning,
    #[error("terminating walsender process due to replication timeout")]
    SenderTimeout,
    #[error("terminating walsender process due to replication shutdown timeout")]
    SenderShutdownTimeout,
    #[error("terminating connection due to administrator command")]
    AdminShutdown,
    #[error("unexpected EOF on standby connection")]
    StandbyEof,
    #[error(
        "requested starting point {start} is ahead of the WAL flush position of this server {flush}"
    )]
    AheadOfFlush { start: LsnText, flush: LsnText },
    #[error("requested timeline {0} is not in this server's history")]
    TimelineNotInHistory(TimelineId),
    #[error("requested WAL segment {0} has already been removed")]
    SegmentRemoved(String),
    #[error("could not read from WAL segment {name}, offset {offset}: read {got} of {wanted}")]
    SegmentShort {
        name: String,
        offset: u32,
        got: u32,
        wanted: u32,
    },
    #[error("the database system is starting up")]
    StartingUp,
    #[error("the database system is not yet accepting connections")]
    NotYetAccepting,
    #[error("the database system is not yet accepting connections")]
    NoSnapshotYet,
    #[error("the database system is not accepting connections")]
    NotAccepting,
    #[error("the database system is in recovery mode")]
    InRecoveryMode,
    #[error("the database system is shutting down")]
    ShuttingDown,
    #[error("sorry, too many clients already")]
    TooManyClients,
    #[error(
        "number of requested standby connections exceeds {} (currently {max})",
        quoted(*version, "max_wal_senders")
    )]
    TooManySenders { max: u32, version: PgVersion },
    #[error("syntax error")]
    SyntaxError,
    #[error("{0} cannot run inside a transaction block")]
    InTransactionBlock(&'static str),
    #[error("{0}")]
    Setting(SettingError),
    #[error("{0} requires a value")]
    OptionValue(String),
    #[error("invalid command-line argument for server process: {0}")]
    CommandLine(String),
    #[error("database \"{0}\" does not exist")]
    NoDatabase(String),
    #[error("{command} is not supported by walsim")]
    NotSupported {
        command: &'static str,
        hint: &'static str,
    },
    #[error("out of memory")]
    OutOfMemory,
    #[error("cannot execute SQL commands in WAL sender for physical replication")]
    SqlOnWalSender,
    #[error("{0}")]
    Protocol(String),
    #[error("cannot execute {0} in a read-only transaction")]
    ReadOnly(&'static str),
    #[error("current transaction is aborted, commands ignored until end of transaction block")]
    TransactionAborted,
    #[error("row is too big: size {size}, maximum size {max}")]
    RowTooBig { size: u32, max: u32 },
    #[error("unrecognized configuration parameter \"{0}\"")]
    UnknownParameter(String),
    #[error("invalid value for parameter \"{name}\": \"{value}\"")]
    InvalidParameterValue { name: String, value: String },
    #[error("{role} (PID {pid}) {how}")]
    ChildDied {
        role: &'static str,
        pid: u32,
        how: &'static str,
    },
    #[error("terminating any other active server processes")]
    TerminatingOthers,
    #[error("all server processes terminated; reinitializing")]
    Reinitializing,
    #[error("aborting startup due to startup process failure")]
    AbortingStartup,
    #[error("shutting down due to startup process failure")]
    StartupFailed,
    #[error("shutting down because {0}restart_after_crash{0} is off")]
    RestartOff(&'static str),
    #[error("abnormal database system shutdown")]
    AbnormalShutdown,
    #[error("aborting any active transactions")]
    AbortingTransactions,
    #[error("issuing SIGKILL to recalcitrant children")]
    KillingChildren,
    #[error("WAL was shut down unexpectedly")]
    UnexpectedXlogShutdown,
    #[error("received SIGHUP, reloading configuration files")]
    Reloading,
    #[error("parameter \"{0}\" cannot be changed without restarting the server")]
    NeedsRestart(&'static str),
    #[error("WAL receiver process shutdown requested")]
    ReceiverShutdownRequested,
    #[error("shutting down")]
    ShuttingDownXlog,
    #[error("concurrent write-ahead log activity while database system is shutting down")]
    ConcurrentWal,
    #[error("cannot execute new commands while WAL sender is in stopping mode")]
    SenderStopping,
    #[error("received {0} shutdown request")]
    ShutdownRequest(&'static str),
    #[error("database system is shut down")]
    ShutDown,
    #[error("{0}")]
    Slot(super::SlotMessage),
    #[error("{0}")]
    Receive(super::ReceiveMessage),
    #[error("checkpoint {0}")]
    Checkpoint(&'static str),
    #[error("recovery restart point at {0}")]
    RestartPoint(LsnText),
}

impl LogEvent {
    /// The event for an error inside a critical section. Its severity becomes PANIC.
    #[must_use]
    pub fn in_critical_section(mut self) -> Self {
        self.severity = Severity::Panic;
        self
    }

    /// The event for an error in a process that cannot recover from an ERROR. An ERROR becomes
    /// FATAL.
    #[must_use]
    pub fn in_auxiliary_process(mut self) -> Self {
        self.severity = self.severity.max(Severity::Fatal);
        self
    }

    /// An ERROR about a setting.
    #[must_use]
    pub const fn setting(error: SettingError) -> Self {
        Self::error(SqlState(error.sqlstate()), Message::Setting(error))
    }

    /// A WARNING.
    #[must_use]
    pub const fn warning(sqlstate: SqlState, message: Message) -> Self {
        Self {
            severity: Severity::Warning,
            sqlstate,
            message,
        }
    }

    /// An ERROR about a slot.
    #[must_use]
    pub const fn slot(sqlstate: SqlState, message: super::SlotMessage) -> Self {
        Self::error(sqlstate, Message::Slot(message))
    }

    /// A LOG message of the standalone receiver, which then continues.
    #[must_use]
    pub const fn receive(message: super::ReceiveMessage) -> Self {
        Self::log(Message::Receive(message))
    }

    /// Lowers the severity to LOG. Used for an error after which the caller continues.
    #[must_use]
    pub fn only_logged(mut self) -> Self {
        self.severity = Severity::Log;
        self
    }

    /// An ERROR about a file.
    #[must_use]
    pub fn file(what: &'static str, path: FilePath, error: DiskError) -> Self {
        Self::error(error.into(), Message::File { what, path, error })
    }
}
