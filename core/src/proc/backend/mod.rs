//! An ordinary session: reads commands and sends answers. Mirrors PostgresMain of postgres.c.
//!
//! The session reports a commit only after the commit is complete. While output is pending, the
//! session reads no further command.

use crate::base::{ConnId, Lsn, Xid};
use crate::call::{Exit, LogEvent, Message, Place, Poll, Severity, Signal, SqlState, Wait, Yield};
use crate::replication::slot::acquire::release;
use crate::replication::slot::drop::ReplicationSlotCleanup;
use crate::sys::{Become, Cx};
use crate::tcop::session::Session;
use crate::wire::frame::{FrameError, FrameReader};
use crate::wire::frontend::{FrontendMessage, command_limit};
use alloc::string::ToString;
use bytes::Bytes;

/// A session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Backend {
    conn: ConnId,
    frames: FrameReader,
    session: Session,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// Waiting for a command.
    Read,
    /// A command is running.
    Query,
    /// Aborting the transaction after an error.
    Abort,
    /// Aborting the transaction before the process ends.
    Leave(Exit),
    /// Runs `ReplicationSlotCleanup` after an error or before the process ends.
    CleanUp(ReplicationSlotCleanup, Option<Exit>),
}

impl Backend {
    /// The session of an accepted connection.
    #[must_use]
    pub fn new(becomes: Become) -> Self {
        Self {
            conn: becomes.conn,
            frames: becomes.frames,
            session: Session::new(becomes.settings),
            phase: Phase::Read,
        }
    }

    /// Its connection.
    #[must_use]
    pub const fn conn(&self) -> ConnId {
        self.conn
    }

    /// See [`Session::last_commit`].
    #[must_use]
    pub const fn last_commit(&self) -> Option<(Xid, Lsn)> {
        self.session.last_commit
    }

    /// Runs until the process would block, but not beyond the end of one command.
    pub fn step(&mut self, cx: &mut Cx<'_>) -> Yield {
        let executing = self.phase == Phase::Query && self.session.is_executing();
        if executing && cx.may_interrupt() && cx.take_signal(Signal::Term) {
            return self.terminate(cx);
        }
        match &self.phase {
            Phase::Read => self.read(cx),
            Phase::CleanUp(..) => self.clean_up(cx),
            Phase::Query | Phase::Abort | Phase::Leave(_) => match self.session.poll(cx) {
                Poll::Yield(how) => how,
                Poll::Ready(outcome) => self.done(cx, outcome),
            },
        }
    }

    /// Handles the end of a command.
    fn done(&mut self, cx: &mut Cx<'_>, outcome: Result<(), LogEvent>) -> Yield {
        let began = !matches!(self.phase, Phase::Read | Phase::CleanUp(..));
        assert!(began, "no command has begun");
        match (&self.phase, outcome) {
            (Phase::Leave(_), Err(e)) => self.end(cx, Exit::Panic(e)),
            (Phase::Leave(exit), Ok(())) => {
                let exit = exit.clone();
                self.clean_up_slots(cx, Some(exit))
            }
            (_, Err(e)) => self.fail(cx, e),
            (Phase::Abort, Ok(())) => self.clean_up_slots(cx, None),
            (Phase::Read | Phase::Query | Phase::CleanUp(..), Ok(())) => {
                self.ready(cx);
                Yield::Again(Place::PostgresMain)
            }
        }
    }

    /// Releases the session's slots after an error, or before the process ends.
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
                self.ready(cx);
                Yield::Again(Place::PostgresMain)
            }
        }
    }

    fn end(&self, cx: &mut Cx<'_>, exit: Exit) -> Yield {
        // `ProcKill`, and what `ShutdownPostgres` has done before. A PANIC leaves all as it is.
        let panics = matches!(exit, Exit::Panic(_));
        let xid = cx.shmem.procs.get(cx.me).map_or(Xid::INVALID, |it| it.xid);
        assert!(panics || cx.may_interrupt(), "{} holds a lock", cx.me);
        assert!(panics || !xid.is_valid(), "{xid} is not aborted");
        assert!(panics || cx.sys.my_slot.is_none(), "the slot is released");
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
                    // `COMMERROR`: the server only logs the error. The session then ends as if the
                    // client had disconnected.
                    let message = Message::Protocol(e.to_string());
                    cx.log(LogEvent {
                        sqlstate: SqlState(e.sqlstate()),
                        ..LogEvent::log(message)
                    });
                    return self.leave(cx, Exit::Normal);
                }
            }
            // The session takes more bytes from the kernel only while the next message is
            // incomplete.
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
            FrontendMessage::Query(text) => return self.query(cx, &text),
            FrontendMessage::Terminate => return self.leave(cx, Exit::Normal),
            FrontendMessage::Sync => {
                self.ready(cx);
                Ok(())
            }
            // Messages that are left over from a COPY are ignored.
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

    fn query(&mut self, cx: &mut Cx<'_>, text: &str) -> Yield {
        assert!(self.session.is_idle(), "a command is running");
        match self.session.start(cx, text) {
            Err(e) => self.fail(cx, e),
            Ok(()) if self.session.is_idle() => {
                self.ready(cx);
                Yield::Again(Place::PostgresMain)
            }
            Ok(()) => {
                self.phase = Phase::Query;
                Yield::Again(Place::PostgresMain)
            }
        }
    }

    /// Reports an error. Then aborts the transaction or ends the process, depending on the
    /// severity.
    fn fail(&mut self, cx: &mut Cx<'_>, event: LogEvent) -> Yield {
        event.to_client().encode(&mut self.session.out);
        self.flush(cx);
        match event.severity {
            Severity::Panic => return Yield::Exit(Exit::Panic(event)),
            Severity::Fatal => return self.leave(cx, Exit::Fatal(event)),
            Severity::Log | Severity::Warning | Severity::Error => {}
        }
        cx.log(event);
        self.session.abort(cx);
        self.phase = Phase::Abort;
        Yield::Again(Place::AbortCurrentTransaction)
    }

    /// `ProcessInterrupts` after SIGTERM. The client gets no message if it has not yet read the
    /// earlier output.
    fn terminate(&mut self, cx: &mut Cx<'_>) -> Yield {
        let event = LogEvent::fatal(SqlState::ADMIN_SHUTDOWN, Message::AdminShutdown);
        if cx.send_pending(self.conn) {
            return self.leave(cx, Exit::Fatal(event));
        }
        self.fail(cx, event)
    }

    /// `proc_exit` with `ShutdownPostgres`: aborts an open transaction first.
    fn leave(&mut self, cx: &mut Cx<'_>, exit: Exit) -> Yield {
        let leaves = matches!(self.phase, Phase::Leave(_) | Phase::CleanUp(_, Some(_)));
        assert!(!leaves, "{} exits twice", cx.me);
        self.session.abort(cx);
        self.phase = Phase::Leave(exit);
        Yield::Again(Place::ShutdownPostgres)
    }

    /// Sends the command's output and ReadyForQuery.
    fn ready(&mut self, cx: &mut Cx<'_>) {
        assert_eq!(cx.sys.my_slot, None, "the command has ended");
        assert_eq!(cx.sys.op, None, "a disk operation is under way");
        self.session.ready(cx);
        self.flush(cx);
        self.phase = Phase::Read;
    }

    fn flush(&mut self, cx: &mut Cx<'_>) {
        let out = core::mem::take(&mut self.session.out);
        cx.send(self.conn, [Bytes::from(out), Bytes::new()]);
    }
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
