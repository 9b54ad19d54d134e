//! Errors of the receiver: their texts, and whether a retry can help.

use crate::call::{DiskError, LogEvent, Message, ReceiveMessage, Refusal, RowCounts, SqlState};
use crate::replication::libpqrcv::{ConnInfo, Failure, Rows, authentication_text, error_text};
use crate::wire::backend::ErrorFields;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The longest path of a Unix socket (`UNIXSOCK_PATH_BUFLEN` minus one).
const MAX_SOCKET_PATH: usize = 107;

/// The hint if the requested WAL is not in the server's history.
pub(super) const NOT_IN_HISTORY: &str = "The directory holds WAL that is not in the server's history. Connect to a server \
    that has it, or take a new base backup and receive into an empty directory.";
const REMOVED: &str = "Take a new base backup and receive into an empty directory. A replication slot or a larger \
    wal_keep_size makes the server keep WAL that has not been received.";
const NO_SLOT: &str = "Create the slot with --create-slot, or name another one.";

/// Why streaming ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum StreamError {
    /// The receiver was told to stop before streaming.
    Stopped,
    /// A new connection may succeed.
    Lost(LogEvent),
    /// A new connection would fail as well.
    Fatal(LogEvent),
}

impl StreamError {
    pub(super) const fn lost(message: ReceiveMessage) -> Self {
        Self::Lost(error(message))
    }

    pub(super) const fn fatal(message: ReceiveMessage) -> Self {
        Self::Fatal(error(message))
    }

    /// The error for a command that failed.
    pub(super) fn command(command: impl Into<String>, failure: Failure) -> Self {
        Self::told(command.into(), failure, None)
    }

    /// The error for a failed TIMELINE_HISTORY command. If the history file is missing, the server
    /// never had the timeline.
    pub(super) fn history(failure: Failure) -> Self {
        let is_missing = failure.error().is_some_and(is_missing_file);
        let hint = is_missing.then_some(NOT_IN_HISTORY);
        Self::told("TIMELINE_HISTORY".into(), failure, hint)
    }

    /// The error for a START_REPLICATION that failed.
    pub(super) fn start(failure: Failure, is_standby: bool) -> Self {
        let refused = |fields| refused_for_good(fields, is_standby);
        let hint = failure.error().and_then(refused);
        Self::told("START_REPLICATION".into(), failure, hint)
    }

    /// The error for a failed command. The error has a hint if a retry cannot help.
    fn told(command: String, failure: Failure, hint: Option<&'static str>) -> Self {
        let Some(why) = said(failure) else {
            return Self::Stopped;
        };
        let message = ReceiveMessage::Command { command, why, hint };
        match hint {
            Some(_) => Self::fatal(message),
            None => Self::lost(message),
        }
    }

    /// The error for a COPY that the server ended with an error. A retry does not help if the
    /// segment was removed. Some errors of START_REPLICATION also arrive here: the server starts
    /// the COPY before it compares the requested start with its flush position.
    pub(super) fn copy_ended(fields: &ErrorFields, is_standby: bool) -> Self {
        let hint = refused_for_good(fields, is_standby);
        let why = whole_error(fields);
        let message = ReceiveMessage::Terminated { why, hint };
        match hint {
            Some(_) => Self::fatal(message),
            None => Self::lost(message),
        }
    }

    /// The error for a failed disk operation. A retry can help if the disk was full, but not if
    /// permissions are missing.
    pub(super) fn disk(event: LogEvent, error: DiskError) -> Self {
        match error {
            DiskError::Access
            | DiskError::NotPermitted
            | DiskError::ReadOnly
            | DiskError::NotDir
            | DiskError::IsDir
            | DiskError::NotFound => Self::Fatal(event),
            DiskError::NoSpace
            | DiskError::Quota
            | DiskError::TooManyFiles
            | DiskError::Io
            | DiskError::Exists
            | DiskError::NotEmpty
            | DiskError::BadFd
            | DiskError::Other(_) => Self::Lost(event),
        }
    }

    /// Makes an error fatal, because no connection has succeeded yet.
    pub(super) fn in_vain(self) -> Self {
        match self {
            Self::Lost(event) => Self::Fatal(event),
            other @ (Self::Stopped | Self::Fatal(_)) => other,
        }
    }

    /// The error for a failed `GetConnection`, with libpq's text.
    pub(super) fn unconnected(to: &ConnInfo, failure: Failure) -> Self {
        let text = match failure {
            Failure::Terminated => return Self::Stopped,
            Failure::Refused(why) => refused(to, why),
            Failure::Authentication { .. } => {
                let text = format!("{} failed: {}", place(to, None), told(failure));
                return Self::fatal(ReceiveMessage::Unconnected(text));
            }
            Failure::Broken(_) | Failure::Error(_) => {
                format!("{} failed: {}", place(to, None), told(failure))
            }
        };
        Self::lost(ReceiveMessage::Unconnected(text))
    }
}

/// The hint for permanent errors of START_REPLICATION. The error for a start that is not in the
/// server's history has no SQLSTATE of its own. The fields Routine and DETAIL identify that error
/// in every message language.
fn refused_for_good(fields: &ErrorFields, is_standby: bool) -> Option<&'static str> {
    match &fields.sqlstate {
        // undefined_object: the slot
        b"42704" => Some(NO_SLOT),
        // object_not_in_prerequisite_state
        b"55000" => Some("Use another replication slot."),
        _ if is_removed(fields) => Some(REMOVED),
        _ if in_routine(fields, "tliSwitchPoint") => Some(NOT_IN_HISTORY),
        // An error without DETAIL means that the start is beyond the server's flush position. On a
        // standby a retry can help, because the standby may receive this WAL later. On a primary a
        // retry does not help, because the primary will write different WAL at this position.
        b"XX000" if in_routine(fields, "StartReplication") => {
            (fields.detail.is_some() || !is_standby).then_some(NOT_IN_HISTORY)
        }
        _ => None,
    }
}

/// Has the segment been removed? A missing file has the SQLSTATE undefined_file. If the segment was
/// removed while the server was reading it, the SQLSTATE is not specific, but the field Routine
/// identifies the error.
fn is_removed(fields: &ErrorFields) -> bool {
    is_missing_file(fields) || in_routine(fields, "CheckXLogRemoved")
}

fn is_missing_file(fields: &ErrorFields) -> bool {
    fields.sqlstate == *b"58P01"
}

fn in_routine(fields: &ErrorFields, name: &str) -> bool {
    let mut others = fields.others.iter();
    others.any(|(code, routine)| *code == b'R' && routine == name)
}

/// `pg_log_error`
pub(super) const fn error(message: ReceiveMessage) -> LogEvent {
    LogEvent::error(SqlState::INTERNAL, Message::Receive(message))
}

/// The number of rows and fields received, and the expected number of fields.
pub(super) const fn counts(rows: &Rows, expected: usize) -> RowCounts {
    RowCounts {
        rows: rows.count,
        fields: rows.fields,
        expected,
    }
}

/// The failure in libpq's words. `None` if the receiver was told to stop.
fn said(failure: Failure) -> Option<String> {
    match failure {
        Failure::Terminated => None,
        other @ (Failure::Refused(_)
        | Failure::Broken(_)
        | Failure::Authentication { .. }
        | Failure::Error(_)) => Some(told(other)),
    }
}

fn told(failure: Failure) -> String {
    match failure {
        Failure::Terminated | Failure::Refused(_) => "Connection refused".into(),
        Failure::Broken(why) => why,
        Failure::Authentication {
            method,
            has_password,
        } => authentication_text(method, has_password),
        Failure::Error(fields) => whole_error(&fields),
    }
}

/// `PQresultErrorMessage`: the error, its DETAIL and its HINT, one line each.
fn whole_error(fields: &ErrorFields) -> String {
    let mut text = error_text(fields);
    for (label, more) in [("DETAIL", &fields.detail), ("HINT", &fields.hint)] {
        if let Some(more) = more {
            text.push('\n');
            text.push_str(label);
            text.push_str(":  ");
            text.push_str(more);
        }
    }
    text
}

/// `emitHostIdentityInfo`
fn place(to: &ConnInfo, address: Option<&str>) -> String {
    let (host, port) = (&to.host, to.port);
    match address {
        _ if is_socket(to) => format!("connection to server on socket \"{}\"", socket_path(to)),
        Some(address) if address != host => {
            format!("connection to server at \"{host}\" ({address}), port {port}")
        }
        Some(_) | None => format!("connection to server at \"{host}\", port {port}"),
    }
}

fn is_socket(to: &ConnInfo) -> bool {
    to.host.starts_with('/')
}

fn socket_path(to: &ConnInfo) -> String {
    format!("{}/.s.PGSQL.{}", to.host, to.port)
}

/// `connectFailureMessage`: one message for each address, or one reason for all addresses.
fn refused(to: &ConnInfo, why: Refusal) -> String {
    let question = if is_socket(to) {
        "Is the server running locally and accepting connections on that socket?"
    } else {
        "Is the server running on that host and accepting TCP/IP connections?"
    };
    let attempt = |address: Option<&str>, why: &str| {
        let place = place(to, address);
        format!("{place} failed: {why}\n\t{question}")
    };
    match why {
        Refusal::Refused => attempt(None, "Connection refused"),
        Refusal::Unresolved(why) => {
            format!(
                "could not translate host name \"{}\" to address: {why}",
                to.host
            )
        }
        Refusal::PathTooLong => {
            let path = socket_path(to);
            format!(
                "Unix-domain socket path \"{path}\" is too long (maximum {MAX_SOCKET_PATH} bytes)"
            )
        }
        Refusal::Tried(tried) => {
            let each = tried.iter();
            let each = each.map(|(address, why)| attempt(address.as_deref(), why));
            each.collect::<Vec<_>>().join("\n")
        }
    }
}
