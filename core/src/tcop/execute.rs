//! Runs one statement inside a transaction. Mirrors the functions that PortalRun and ProcessUtility
//! call for a statement.

use super::session::own_xid;
use super::slot::{self, SlotRoutine};
use crate::access::checkpoint_request::RequestCheckpoint;
use crate::access::heap::{HeapGet, HeapInsert, Row, Snapshot};
use crate::access::xact::{AssignXid, logical_message};
use crate::access::xlog_insert::{Insertion, XLogInsert};
use crate::base::{Lsn, SessionSettings};
use crate::call::{LogEvent, Message, Poll, SqlState};
use crate::ready_ok;
use crate::shmem::CheckpointRequests;
use crate::sys::Cx;
use crate::wire::backend::{BackendMessage, Column};
use crate::wire::record::RmgrId;
use crate::wire::sql::Statement;
use crate::wire::xlog_records::XlogRecord;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt::Write;

/// The lowest file number of a user's relation (`FirstNormalObjectId`).
const FIRST_NORMAL_REL: u32 = 16384;

/// The result of a statement.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Outcome {
    /// Rows for the client.
    pub(super) messages: Vec<BackendMessage>,
    /// The tag of CommandComplete.
    pub(super) tag: String,
    /// The end of the last record that the statement has written.
    pub(super) wrote: Option<Lsn>,
}

/// A statement in progress.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Execute {
    routine: Routine,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Routine {
    /// A statement that was finished without waiting.
    Immediate {
        messages: Vec<BackendMessage>,
        tag: &'static str,
    },
    /// A write that must first get a transaction id.
    Assign(AssignXid, PendingWrite),
    Put(HeapInsert),
    Get(HeapGet),
    Checkpoint(RequestCheckpoint),
    Slot(SlotRoutine),
    Insert(XLogInsert),
}

/// A write that needs a transaction id.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum PendingWrite {
    Put { rel: u32, row: Row },
    Message { prefix: String, content: Bytes },
}

impl Execute {
    /// Starts a statement.
    ///
    /// # Errors
    /// The statement has an error that is found without waiting.
    pub(super) fn new(
        cx: &mut Cx<'_>,
        statement: Statement,
        settings: &mut SessionSettings,
    ) -> Result<Self, LogEvent> {
        let routine = match statement {
            Statement::Put { rel, key, value } => {
                forbid_in_recovery(cx, "PUT")?;
                check_relation(rel)?;
                with_xid(
                    cx,
                    PendingWrite::Put {
                        rel,
                        row: Row { key, value },
                    },
                )
            }
            Statement::Get { rel, key } => {
                check_relation(rel)?;
                let own = own_xid(cx);
                let snapshot = Snapshot::take(cx, own);
                Routine::Get(HeapGet::new(rel, key, snapshot))
            }
            Statement::Checkpoint => {
                let flags = CheckpointRequests {
                    force: true,
                    ..CheckpointRequests::default()
                };
                Routine::Checkpoint(RequestCheckpoint::new(flags))
            }
            Statement::SwitchWal => {
                if cx.shmem.recovery_in_progress() {
                    let state = SqlState::NOT_IN_STATE;
                    return Err(LogEvent::error(state, Message::RecoveryInProgress));
                }
                let xid = own_xid(cx);
                let record = XlogRecord::Switch.info();
                let record = Insertion::new(RmgrId::XLOG, record, xid, Vec::new());
                Routine::Insert(XLogInsert::new(record))
            }
            Statement::EmitMessage {
                transactional,
                prefix,
                content,
            } => {
                forbid_in_recovery(cx, "pg_logical_emit_message()")?;
                if transactional {
                    with_xid(cx, PendingWrite::Message { prefix, content })
                } else {
                    message(cx, false, &prefix, content)
                }
            }
            Statement::Slot(statement) => Routine::Slot(SlotRoutine::new(cx, statement)?),
            Statement::Show(name) => {
                let shown = show(cx, settings, &name);
                let (name, value) = shown.ok_or_else(|| unknown(&name))?;
                let mut messages = one_row(value);
                let columns = Vec::from([Column::text(name)]);
                messages.insert(0, BackendMessage::RowDescription(columns));
                let tag = "SHOW";
                Routine::Immediate { messages, tag }
            }
            Statement::Set { name, value } => {
                let set = settings.set(&cx.shmem.settings, &name, &value);
                set.map_err(LogEvent::setting)?;
                let messages = Vec::new();
                let tag = "SET";
                Routine::Immediate { messages, tag }
            }
            Statement::Empty | Statement::Begin | Statement::Commit | Statement::Rollback => {
                unreachable!("the session itself does what concerns the transaction")
            }
        };
        Ok(Self { routine })
    }

    /// # Errors
    /// The statement failed.
    pub(super) fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Outcome, LogEvent>> {
        let outcome = |messages, tag, wrote| {
            Poll::Ready(Ok(Outcome {
                messages,
                tag,
                wrote,
            }))
        };
        loop {
            match &mut self.routine {
                Routine::Immediate { messages, tag } => {
                    return outcome(core::mem::take(messages), tag.to_string(), None);
                }
                Routine::Assign(assign, write) => {
                    ready_ok!(assign.poll(cx));
                    self.routine = begin(cx, write.clone());
                }
                Routine::Put(insert) => {
                    let end = ready_ok!(insert.poll(cx));
                    return outcome(Vec::new(), String::from("PUT 1"), Some(end));
                }
                Routine::Get(get) => {
                    let found = ready_ok!(get.poll(cx));
                    let tag = format!("GET {}", u8::from(found.is_some()));
                    return outcome(rows(found.as_deref()), tag, None);
                }
                Routine::Checkpoint(request) => {
                    ready_ok!(request.poll(cx));
                    return outcome(Vec::new(), String::from("CHECKPOINT"), None);
                }
                Routine::Slot(slot) => {
                    let (messages, rows) = ready_ok!(slot.poll(cx));
                    return outcome(messages, format!("SELECT {rows}"), None);
                }
                Routine::Insert(insert) => {
                    let end = ready_ok!(insert.poll(cx)).end;
                    let messages = one_row(end.to_string());
                    return outcome(messages, String::from("SELECT 1"), Some(end));
                }
            }
        }
    }
}

/// The value that SHOW prints. It is the session's value, or else the server's.
pub(super) fn show(
    cx: &Cx<'_>,
    settings: &SessionSettings,
    name: &str,
) -> Option<(&'static str, String)> {
    let own = settings.show(&cx.shmem.settings, name);
    own.or_else(|| cx.shmem.show(name))
}

fn unknown(name: &str) -> LogEvent {
    let message = Message::UnknownParameter(name.to_string());
    LogEvent::error(SqlState::UNDEFINED_OBJECT, message)
}

/// Starts a write. First assigns a transaction id if the transaction has none.
fn with_xid(cx: &Cx<'_>, write: PendingWrite) -> Routine {
    if own_xid(cx).is_valid() {
        begin(cx, write)
    } else {
        Routine::Assign(AssignXid::new(), write)
    }
}

fn begin(cx: &Cx<'_>, write: PendingWrite) -> Routine {
    match write {
        PendingWrite::Put { rel, row } => Routine::Put(HeapInsert::new(rel, row, own_xid(cx))),
        PendingWrite::Message { prefix, content } => message(cx, true, &prefix, content),
    }
}

fn message(cx: &Cx<'_>, transactional: bool, prefix: &str, content: Bytes) -> Routine {
    let insert = logical_message(own_xid(cx), transactional, prefix, content);
    Routine::Insert(insert)
}

/// `PreventCommandIfReadOnly`
fn forbid_in_recovery(cx: &Cx<'_>, what: &'static str) -> Result<(), LogEvent> {
    if cx.shmem.recovery_in_progress() {
        let message = Message::ReadOnly(what);
        return Err(LogEvent::error(SqlState::READ_ONLY_TRANSACTION, message));
    }
    Ok(())
}

fn check_relation(rel: u32) -> Result<(), LogEvent> {
    if rel >= FIRST_NORMAL_REL {
        return Ok(());
    }
    Err(LogEvent::error(
        SqlState::UNDEFINED_TABLE,
        Message::NoRelation(rel),
    ))
}

/// The result column of a statement that calls a function. The server sends the column before it
/// calls the function.
pub(super) fn result_column(statement: &Statement) -> Option<Column> {
    match statement {
        Statement::SwitchWal => Some(Column::pg_lsn("pg_switch_wal")),
        Statement::EmitMessage { .. } => Some(Column::pg_lsn("pg_logical_emit_message")),
        Statement::Slot(statement) => slot::result_column(statement),
        Statement::Empty
        | Statement::Begin
        | Statement::Commit
        | Statement::Rollback
        | Statement::Put { .. }
        | Statement::Get { .. }
        | Statement::Checkpoint
        | Statement::Show(_)
        | Statement::Set { .. } => None,
    }
}

pub(super) fn one_row(value: String) -> Vec<BackendMessage> {
    Vec::from([BackendMessage::row([Some(value)])])
}

/// The rows of a SELECT. The value is in the text format of `bytea`.
fn rows(value: Option<&[u8]>) -> Vec<BackendMessage> {
    let mut messages = Vec::from([BackendMessage::RowDescription(Vec::from([Column::bytea(
        "value",
    )]))]);
    if let Some(bytes) = value {
        let mut text = String::from("\\x");
        for byte in bytes {
            write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        }
        messages.push(BackendMessage::row([Some(text)]));
    }
    messages
}
