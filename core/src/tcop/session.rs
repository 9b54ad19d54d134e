//! The SQL part of a session: statements, and the transaction block around them. Mirrors
//! exec_simple_query of postgres.c and the transaction block states of xact.c.
//!
//! The process that owns the session reads the client's messages. When a command is complete, the
//! process sends `out` and ReadyForQuery.

use super::execute::{Execute, Outcome, result_column, show};
use crate::access::xact::{AbortTransaction, CommitTransaction};
use crate::base::{Lsn, Mark, SessionSettings, Xid};
use crate::call::{LogEvent, Message, Place, Poll, Severity, SqlState, Yield};
use crate::sys::Cx;
use crate::wire::backend::{BackendMessage, TxStatus};
use crate::wire::sql::Statement;
use crate::wire::startup::reported;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The state of the transaction block (`TBlockState`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Block {
    /// Outside of a block. Each statement is a transaction of its own.
    Idle,
    /// In a block.
    Open,
    /// In a block after an error. The transaction is already aborted.
    Failed,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// No command is in progress.
    Idle,
    Execute(Execute),
    /// Commits, and then sends CommandComplete with this tag.
    Commit {
        xid: Xid,
        commit: CommitTransaction,
        tag: String,
    },
    /// Aborts, and then sends CommandComplete with this tag. If the abort is due to an error, there
    /// is no tag.
    Abort {
        abort: AbortTransaction,
        tag: Option<String>,
    },
}

/// The SQL part of a session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Session {
    phase: Phase,
    block: Block,
    /// The end of the last record of the transaction (`XactLastRecEnd`).
    wrote: Option<Lsn>,
    settings: SessionSettings,
    /// The settings at the start of the transaction. An abort restores them.
    saved: SessionSettings,
    /// The settings as they were last reported to the client.
    reported: SessionSettings,
    /// Output of the current command.
    pub out: Vec<u8>,
    /// The last commit that was reported as durable: the transaction id and the end of the commit
    /// record. A commit under `synchronous_commit = off` does not count.
    pub last_commit: Option<(Xid, Lsn)>,
}

impl Session {
    /// A session whose client already knows the values of these settings.
    #[must_use]
    pub fn new(settings: SessionSettings) -> Self {
        Self {
            phase: Phase::Idle,
            block: Block::Idle,
            wrote: None,
            saved: settings.clone(),
            reported: settings.clone(),
            settings,
            out: Vec::new(),
            last_commit: None,
        }
    }

    /// The settings that the session has changed.
    #[must_use]
    pub const fn settings(&self) -> &SessionSettings {
        &self.settings
    }

    /// The canonical name of a setting, and the value that SHOW prints.
    #[must_use]
    pub fn show(&self, cx: &Cx<'_>, name: &str) -> Option<(&'static str, String)> {
        show(cx, &self.settings, name)
    }

    /// Appends ReadyForQuery. Before ReadyForQuery, appends ParameterStatus for each reported
    /// setting that has changed (`ReportChangedGUCOptions`).
    pub fn ready(&mut self, cx: &Cx<'_>) {
        if self.settings != self.reported {
            for name in reported(cx.shmem.settings.pg_version) {
                let value = show(cx, &self.settings, name);
                if let Some((name, value)) = value
                    && Some((name, value.clone())) != show(cx, &self.reported, name)
                {
                    let name = name.to_string();
                    BackendMessage::ParameterStatus { name, value }.encode(&mut self.out);
                }
            }
            self.reported = self.settings.clone();
        }
        BackendMessage::ReadyForQuery(self.tx_status()).encode(&mut self.out);
    }

    /// The transaction status in ReadyForQuery.
    #[must_use]
    pub const fn tx_status(&self) -> TxStatus {
        match self.block {
            Block::Idle => TxStatus::Idle,
            Block::Open => TxStatus::InTransaction,
            Block::Failed => TxStatus::Failed,
        }
    }

    /// Is no command in progress?
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Is a statement running? If so, an interrupt can end it.
    #[must_use]
    pub const fn is_executing(&self) -> bool {
        matches!(self.phase, Phase::Execute(_))
    }

    /// `exec_simple_query`, up to its first wait. If the command is not complete by then,
    /// [`Session::poll`] continues the command.
    ///
    /// # Errors
    /// The command failed. The caller must abort the transaction.
    pub fn start(&mut self, cx: &mut Cx<'_>, text: &str) -> Result<(), LogEvent> {
        let statement = Statement::parse_located(text).map_err(|(error, position)| {
            let sqlstate = SqlState(error.sqlstate());
            LogEvent::error(sqlstate, Message::Sql { error, position })
        })?;
        let ends = matches!(statement, Statement::Commit | Statement::Rollback);
        if self.block == Block::Failed && !ends && statement != Statement::Empty {
            let state = SqlState::IN_FAILED_TRANSACTION;
            return Err(LogEvent::error(state, Message::TransactionAborted));
        }
        match statement {
            Statement::Empty => BackendMessage::EmptyQueryResponse.encode(&mut self.out),
            Statement::Begin => {
                if self.block == Block::Open {
                    let state = SqlState::ACTIVE_TRANSACTION;
                    self.warn(cx, state, Message::AlreadyInTransaction);
                } else {
                    self.saved.clone_from(&self.settings);
                }
                self.block = Block::Open;
                self.complete("BEGIN");
            }
            Statement::Commit => match self.block {
                Block::Idle => {
                    self.warn(cx, SqlState::NO_ACTIVE_TRANSACTION, Message::NoTransaction);
                    self.complete("COMMIT");
                }
                Block::Open => self.commit(cx, String::from("COMMIT")),
                Block::Failed => {
                    self.block = Block::Idle;
                    self.complete("ROLLBACK");
                }
            },
            Statement::Rollback => match self.block {
                Block::Idle => {
                    self.warn(cx, SqlState::NO_ACTIVE_TRANSACTION, Message::NoTransaction);
                    self.complete("ROLLBACK");
                }
                Block::Open => {
                    self.block = Block::Idle;
                    let abort = AbortTransaction::new(own_xid(cx));
                    let tag = Some(String::from("ROLLBACK"));
                    self.phase = Phase::Abort { abort, tag };
                }
                Block::Failed => {
                    self.block = Block::Idle;
                    self.complete("ROLLBACK");
                }
            },
            statement @ (Statement::Put { .. }
            | Statement::Get { .. }
            | Statement::Checkpoint
            | Statement::SwitchWal
            | Statement::EmitMessage { .. }
            | Statement::Slot(_)
            | Statement::Show(_)
            | Statement::Set { .. }) => {
                if self.block == Block::Idle {
                    self.saved.clone_from(&self.settings);
                }
                // As in printtup_startup, the columns are sent before the function is called.
                if let Some(column) = result_column(&statement) {
                    BackendMessage::RowDescription(Vec::from([column])).encode(&mut self.out);
                }
                let execute = Execute::new(cx, statement, &mut self.settings)?;
                self.phase = Phase::Execute(execute);
            }
        }
        Ok(())
    }

    /// Continues the command. When the command is complete, only ReadyForQuery remains to be sent.
    ///
    /// # Errors
    /// The command failed. The caller must abort the transaction.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        match &mut self.phase {
            Phase::Idle => {}
            Phase::Execute(execute) => match execute.poll(cx) {
                Poll::Yield(how) => return Poll::Yield(how),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Ready(Ok(outcome)) => self.executed(cx, outcome),
            },
            Phase::Commit { xid, commit, tag } => match commit.poll(cx) {
                Poll::Yield(how) => return Poll::Yield(how),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Ready(Ok(end)) => {
                    let (xid, tag) = (*xid, core::mem::take(tag));
                    self.committed(cx, xid, end, &tag);
                }
            },
            Phase::Abort { abort, tag } => match abort.poll(cx) {
                Poll::Yield(how) => return Poll::Yield(how),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Ready(Ok(())) => {
                    let tag = tag.take();
                    self.aborted(tag);
                }
            },
        }
        if self.is_idle() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Yield(Yield::Again(Place::PostgresMain))
        }
    }

    /// `AbortCurrentTransaction`: begins the abort after an error or at the end of the process.
    /// [`Session::poll`] continues the abort.
    pub fn abort(&mut self, cx: &mut Cx<'_>) {
        cx.release_everything();
        if self.block == Block::Open {
            self.block = Block::Failed;
        }
        let abort = AbortTransaction::new(own_xid(cx));
        self.phase = Phase::Abort { abort, tag: None };
    }

    /// Handles the result of a statement. Outside of a transaction block, ends the statement's
    /// transaction.
    fn executed(&mut self, cx: &mut Cx<'_>, outcome: Outcome) {
        for message in outcome.messages {
            message.encode(&mut self.out);
        }
        self.wrote = outcome.wrote.or(self.wrote);
        match self.block {
            Block::Open => self.complete(&outcome.tag),
            Block::Idle | Block::Failed => self.commit(cx, outcome.tag),
        }
    }

    fn commit(&mut self, cx: &Cx<'_>, tag: String) {
        let xid = own_xid(cx);
        let synchronous = self.settings.waits_for_commits(&cx.shmem.settings);
        let commit = CommitTransaction::new(xid, synchronous, self.wrote.take());
        self.phase = Phase::Commit { xid, commit, tag };
    }

    fn committed(&mut self, cx: &mut Cx<'_>, xid: Xid, end: Option<Lsn>, tag: &str) {
        self.block = Block::Idle;
        if let Some(end) = end {
            cx.mark(Mark::CommitAcked);
            if self.settings.waits_for_commits(&cx.shmem.settings) {
                self.last_commit = Some((xid, end));
            }
        }
        self.complete(tag);
    }

    fn aborted(&mut self, tag: Option<String>) {
        self.settings.clone_from(&self.saved);
        self.wrote = None;
        self.phase = Phase::Idle;
        if let Some(tag) = tag {
            self.complete(&tag);
        }
    }

    fn warn(&mut self, cx: &mut Cx<'_>, sqlstate: SqlState, message: Message) {
        let event = LogEvent {
            severity: Severity::Warning,
            sqlstate,
            message,
        };
        event.to_client().encode(&mut self.out);
        cx.log(event);
    }

    fn complete(&mut self, tag: &str) {
        BackendMessage::CommandComplete(tag.to_string()).encode(&mut self.out);
        self.phase = Phase::Idle;
    }
}

/// The transaction id of this process, or invalid.
pub(super) fn own_xid(cx: &Cx<'_>) -> Xid {
    cx.shmem
        .procs
        .get(cx.me)
        .map_or(Xid::INVALID, |proc| proc.xid)
}
