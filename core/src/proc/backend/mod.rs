//! A session: reads commands, runs them in transactions, answers. Mirrors PostgresMain and exec_simple_query of
//! postgres.c and the transaction block states of xact.c.
//!
//! A commit is reported only after [`CommitTransaction`] is done. While output is pending no further command is read.

mod execute;
mod settings;
mod slot;

use crate::access::xact::{AbortTransaction, CommitTransaction};
use crate::base::{ConnId, Lsn, Mark, Xid};
use crate::call::{Exit, LogEvent, Message, Place, Poll, Severity, Signal, SqlState, Wait, Yield};
use crate::replication::slot::acquire::release;
use crate::replication::slot::drop::ReplicationSlotCleanup;
use crate::sys::{Become, Cx};
use crate::wire::backend::{BackendMessage, TxStatus};
use crate::wire::frame::{FrameError, FrameReader};
use crate::wire::frontend::{FrontendMessage, command_limit};
use crate::wire::sql::Statement;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;
use execute::{Execute, Outcome};
use settings::SynchronousCommit;

/// The transaction block (`TBlockState`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Block {
    /// None: each statement is a transaction of its own.
    Idle,
    /// Between BEGIN and its end.
    Open,
    /// The same, after an error: the transaction is aborted already.
    Failed,
}

/// A session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Backend {
    conn: ConnId,
    frames: FrameReader,
    phase: Phase,
    block: Block,
    /// The end of the last record of the transaction (`XactLastRecEnd`).
    wrote: Option<Lsn>,
    synchronous_commit: SynchronousCommit,
    /// Its value when the transaction began, to which an abort takes it back.
    saved: SynchronousCommit,
    /// Output of the present command.
    out: Vec<u8>,
    /// Transaction id and end of record of the last commit that was reported as done and durable. Commits under
    /// `synchronous_commit = off` are left out: nothing was promised about them.
    pub last_commit: Option<(Xid, Lsn)>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// Waits for a command.
    Read,
    Execute(Execute),
    /// Commits, then reports the command with this tag.
    Commit {
        xid: Xid,
        commit: CommitTransaction,
        tag: String,
    },
    /// Aborts, then reports the command with this tag; after an error there is nothing more to report.
    Abort {
        abort: AbortTransaction,
        tag: Option<String>,
    },
    /// Aborts, then ends.
    Leave {
        abort: AbortTransaction,
        exit: Exit,
    },
    /// `ReplicationSlotCleanup`, after an error or, if there is an exit, before it.
    CleanUp(ReplicationSlotCleanup, Option<Exit>),
}

impl Backend {
    /// The session of a connection that has been greeted.
    #[must_use]
    pub fn new(becomes: Become) -> Self {
        Self {
            conn: becomes.conn,
            frames: becomes.frames,
            phase: Phase::Read,
            block: Block::Idle,
            wrote: None,
            synchronous_commit: SynchronousCommit::On,
            saved: SynchronousCommit::On,
            out: Vec::new(),
            last_commit: None,
        }
    }

    /// Its connection.
    #[must_use]
    pub const fn conn(&self) -> ConnId {
        self.conn
    }

    /// See [`Backend::last_commit`].
    #[must_use]
    pub const fn last_commit(&self) -> Option<(Xid, Lsn)> {
        self.last_commit
    }

    /// Runs until it would block, at most to the end of one command.
    pub fn step(&mut self, cx: &mut Cx<'_>) -> Yield {
        if matches!(self.phase, Phase::Execute(_))
            && cx.may_interrupt()
            && cx.take_signal(Signal::Term)
        {
            return self.terminate(cx);
        }
        let outcome = match &mut self.phase {
            Phase::Read => return self.read(cx),
            Phase::Execute(execute) => match execute.poll(cx) {
                Poll::Yield(how) => return how,
                Poll::Ready(Ok(outcome)) => {
                    self.executed(cx, outcome);
                    Ok(())
                }
                Poll::Ready(Err(e)) => Err(e),
            },
            Phase::Commit { xid, commit, tag } => match commit.poll(cx) {
                Poll::Yield(how) => return how,
                Poll::Ready(Ok(end)) => {
                    let (xid, tag) = (*xid, core::mem::take(tag));
                    self.committed(cx, xid, end, tag);
                    Ok(())
                }
                Poll::Ready(Err(e)) => Err(e),
            },
            Phase::Abort { abort, tag } => match abort.poll(cx) {
                Poll::Yield(how) => return how,
                Poll::Ready(Ok(())) => {
                    let Some(tag) = tag.take() else {
                        return self.clean_up_slots(cx, None);
                    };
                    self.aborted(cx, Some(tag));
                    Ok(())
                }
                Poll::Ready(Err(e)) => Err(e),
            },
            Phase::Leave { abort, exit } => {
                let exit = exit.clone();
                return match abort.poll(cx) {
                    Poll::Yield(how) => how,
                    Poll::Ready(Ok(())) => self.clean_up_slots(cx, Some(exit)),
                    Poll::Ready(Err(e)) => self.end(cx, Exit::Panic(e)),
                };
            }
            Phase::CleanUp(..) => return self.clean_up(cx),
        };
        match outcome {
            Ok(()) => Yield::Again(Place::PostgresMain),
            Err(e) => self.fail(cx, e),
        }
    }

    /// What the session has of slots ends with an error, or with the session.
    fn clean_up_slots(&mut self, cx: &mut Cx<'_>, exit: Option<Exit>) -> Yield {
        release(cx);
        self.phase = Phase::CleanUp(ReplicationSlotCleanup::new(), exit);
        self.clean_up(cx)
    }

    fn clean_up(&mut self, cx: &mut Cx<'_>) -> Yield {
        let Phase::CleanUp(cleanup, exit) = &mut self.phase else {
            unreachable!("only called while cleaning up")
        };
        match (cleanup.poll(cx), exit.take()) {
            (Poll::Yield(how), taken) => {
                *exit = taken;
                how
            }
            (Poll::Ready(Err(e)), _) => self.end(cx, Exit::Panic(e)),
            (Poll::Ready(Ok(())), Some(exit)) => self.end(cx, exit),
            (Poll::Ready(Ok(())), None) => {
                self.aborted(cx, None);
                Yield::Again(Place::PostgresMain)
            }
        }
    }

    fn end(&self, cx: &mut Cx<'_>, exit: Exit) -> Yield {
        cx.disconnect(self.conn);
        Yield::Exit(exit)
    }

    /// `ReadCommand`
    fn read(&mut self, cx: &mut Cx<'_>) -> Yield {
        cx.reset_latch();
        cx.take_signal(Signal::Hup);
        if cx.take_signal(Signal::Term) {
            return self.terminate(cx);
        }
        let conn = Some(self.conn);
        if cx.send_pending(self.conn) {
            let why = Place::SecureWrite;
            return Yield::Wait(Wait {
                latch: true,
                writable: conn,
                ..Wait::at(why)
            });
        }
        let frame = loop {
            match self.frames.next(command_limit) {
                Ok(Some(frame)) => break frame,
                Ok(None) => {}
                Err(e @ FrameError::FrontendType(_)) => {
                    let message = Message::Protocol(e.to_string());
                    let event = LogEvent::fatal(SqlState(e.sqlstate()), message);
                    return self.fail(cx, event);
                }
                Err(e) => {
                    // COMMERROR: for the server log only; then as if the client had gone.
                    let message = Message::Protocol(e.to_string());
                    cx.log(LogEvent {
                        sqlstate: SqlState(e.sqlstate()),
                        ..LogEvent::log(message)
                    });
                    return self.leave(cx, Exit::Normal);
                }
            }
            // No more than one message is waited for: what a client sends beyond it stays with the kernel.
            match cx.receive(self.conn) {
                Some(bytes) => self.frames.push(bytes),
                None if cx.conn_end(self.conn).is_some() => return self.leave(cx, Exit::Normal),
                None => {
                    let why = Place::SecureRead;
                    return Yield::Wait(Wait {
                        latch: true,
                        readable: conn,
                        ..Wait::at(why)
                    });
                }
            }
        };
        let message = match FrontendMessage::decode(frame) {
            Ok(message) => message,
            Err(e) => {
                let message = Message::Protocol(e.to_string());
                return self.fail(cx, LogEvent::error(SqlState(e.sqlstate()), message));
            }
        };
        self.dispatch(cx, message)
    }

    fn dispatch(&mut self, cx: &mut Cx<'_>, message: FrontendMessage) -> Yield {
        let unsupported = |what: &str| {
            let message = Message::Protocol(what.to_string());
            LogEvent::error(SqlState::PROTOCOL_VIOLATION, message)
        };
        let outcome = match message {
            FrontendMessage::Query(text) => self.start(cx, &text),
            FrontendMessage::Terminate => return self.leave(cx, Exit::Normal),
            FrontendMessage::Sync => {
                self.ready(cx);
                Ok(())
            }
            // Leftovers of a COPY are ignored.
            FrontendMessage::Flush
            | FrontendMessage::CopyData(_)
            | FrontendMessage::CopyDone
            | FrontendMessage::CopyFail(_)
            | FrontendMessage::Password(_) => Ok(()),
            FrontendMessage::Extended { .. } => {
                Err(unsupported("extended query protocol not supported"))
            }
            FrontendMessage::FunctionCall(_) => {
                Err(unsupported("fastpath function calls not supported"))
            }
        };
        match outcome {
            Ok(()) => Yield::Again(Place::PostgresMain),
            Err(e) => self.fail(cx, e),
        }
    }

    /// `exec_simple_query`
    fn start(&mut self, cx: &mut Cx<'_>, text: &str) -> Result<(), LogEvent> {
        let statement = Statement::parse(text)
            .map_err(|e| LogEvent::error(SqlState(e.sqlstate()), Message::Sql(e)))?;
        let ends = matches!(statement, Statement::Commit | Statement::Rollback);
        if self.block == Block::Failed && !ends && statement != Statement::Empty {
            let state = SqlState::IN_FAILED_TRANSACTION;
            return Err(LogEvent::error(state, Message::TransactionAborted));
        }
        match statement {
            Statement::Empty => {
                BackendMessage::EmptyQueryResponse.encode(&mut self.out);
                self.ready(cx);
            }
            Statement::Begin => {
                if self.block == Block::Open {
                    let state = SqlState::ACTIVE_TRANSACTION;
                    self.warn(cx, state, Message::AlreadyInTransaction);
                } else {
                    self.saved = self.synchronous_commit;
                }
                self.block = Block::Open;
                self.complete(cx, "BEGIN");
            }
            Statement::Commit => match self.block {
                Block::Idle => {
                    self.warn(cx, SqlState::NO_ACTIVE_TRANSACTION, Message::NoTransaction);
                    self.complete(cx, "COMMIT");
                }
                Block::Open => self.commit(cx, String::from("COMMIT")),
                Block::Failed => {
                    self.block = Block::Idle;
                    self.complete(cx, "ROLLBACK");
                }
            },
            Statement::Rollback => match self.block {
                Block::Idle => {
                    self.warn(cx, SqlState::NO_ACTIVE_TRANSACTION, Message::NoTransaction);
                    self.complete(cx, "ROLLBACK");
                }
                Block::Open => {
                    self.block = Block::Idle;
                    let abort = AbortTransaction::new(own_xid(cx));
                    self.phase = Phase::Abort {
                        abort,
                        tag: Some(String::from("ROLLBACK")),
                    };
                }
                Block::Failed => {
                    self.block = Block::Idle;
                    self.complete(cx, "ROLLBACK");
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
                    self.saved = self.synchronous_commit;
                }
                let execute = Execute::new(cx, statement, self.synchronous_commit)?;
                self.phase = Phase::Execute(execute);
            }
        }
        Ok(())
    }

    /// A statement is done; outside of a block its transaction ends with it.
    fn executed(&mut self, cx: &mut Cx<'_>, outcome: Outcome) {
        for message in outcome.messages {
            message.encode(&mut self.out);
        }
        self.wrote = outcome.wrote.or(self.wrote);
        self.synchronous_commit = outcome.synchronous_commit;
        match self.block {
            Block::Open => self.complete(cx, &outcome.tag),
            Block::Idle | Block::Failed => self.commit(cx, outcome.tag),
        }
    }

    fn commit(&mut self, cx: &mut Cx<'_>, tag: String) {
        let xid = own_xid(cx);
        let synchronous = self.synchronous_commit.waits();
        let commit = CommitTransaction::new(xid, synchronous, self.wrote.take());
        self.phase = Phase::Commit { xid, commit, tag };
    }

    fn committed(&mut self, cx: &mut Cx<'_>, xid: Xid, end: Option<Lsn>, tag: String) {
        self.block = Block::Idle;
        if let Some(end) = end {
            cx.mark(Mark::CommitAcked);
            if self.synchronous_commit.waits() {
                self.last_commit = Some((xid, end));
            }
        }
        self.complete(cx, &tag);
    }

    fn aborted(&mut self, cx: &mut Cx<'_>, tag: Option<String>) {
        self.synchronous_commit = self.saved;
        self.wrote = None;
        match tag {
            Some(tag) => self.complete(cx, &tag),
            None => self.ready(cx),
        }
    }

    /// An error: it is reported at once; then the transaction is aborted, or the process ends.
    fn fail(&mut self, cx: &mut Cx<'_>, event: LogEvent) -> Yield {
        event.to_client().encode(&mut self.out);
        self.flush(cx);
        match event.severity {
            Severity::Panic => return Yield::Exit(Exit::Panic(event)),
            Severity::Fatal => return self.leave(cx, Exit::Fatal(event)),
            Severity::Log | Severity::Warning | Severity::Error => {}
        }
        cx.log(event);
        cx.release_everything();
        if self.block == Block::Open {
            self.block = Block::Failed;
        }
        let abort = AbortTransaction::new(own_xid(cx));
        self.phase = Phase::Abort { abort, tag: None };
        Yield::Again(Place::AbortCurrentTransaction)
    }

    /// `ProcessInterrupts`: SIGTERM came. A client that does not take what it was sent before is not told.
    fn terminate(&mut self, cx: &mut Cx<'_>) -> Yield {
        let event = LogEvent::fatal(SqlState::ADMIN_SHUTDOWN, Message::AdminShutdown);
        if cx.send_pending(self.conn) {
            return self.leave(cx, Exit::Fatal(event));
        }
        self.fail(cx, event)
    }

    /// `proc_exit`, with `ShutdownPostgres`: an open transaction is aborted first.
    fn leave(&mut self, cx: &mut Cx<'_>, exit: Exit) -> Yield {
        cx.release_everything();
        let abort = AbortTransaction::new(own_xid(cx));
        self.phase = Phase::Leave { abort, exit };
        Yield::Again(Place::ShutdownPostgres)
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

    /// CommandComplete, then ReadyForQuery.
    fn complete(&mut self, cx: &mut Cx<'_>, tag: &str) {
        BackendMessage::CommandComplete(tag.to_string()).encode(&mut self.out);
        self.ready(cx);
    }

    fn ready(&mut self, cx: &mut Cx<'_>) {
        let status = match self.block {
            Block::Idle => TxStatus::Idle,
            Block::Open => TxStatus::InTransaction,
            Block::Failed => TxStatus::Failed,
        };
        BackendMessage::ReadyForQuery(status).encode(&mut self.out);
        self.flush(cx);
        self.phase = Phase::Read;
    }

    fn flush(&mut self, cx: &mut Cx<'_>) {
        let out = core::mem::take(&mut self.out);
        cx.send(self.conn, [Bytes::from(out), Bytes::new()]);
    }
}

/// The id of the process's transaction, invalid if it has none.
fn own_xid(cx: &Cx<'_>) -> Xid {
    cx.shmem
        .procs
        .get(cx.me)
        .map_or(Xid::INVALID, |proc| proc.xid)
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
