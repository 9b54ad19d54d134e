//! The walsender: serves a replication connection. It executes commands, then streams WAL. Mirrors
//! walsender.c and the command loop of PostgresMain.
//!
//! The walsender never sends WAL that its own server could lose. A primary sends WAL up to its
//! flush position. A standby sends WAL up to its flush position or its replay position, whichever
//! is later. Historic timelines are not sent, because timelines never change in walsim.

mod commands;
mod history;
mod replies;
mod send;
mod slot;
mod sql;
mod stream;
mod timers;
mod wal_read;

use crate::base::{ConnId, Lsn, SessionSettings, TimelineId};
use crate::call::{Exit, LogEvent, Message, Place, Poll, Severity, Signal, SqlState, Wait, Yield};
use crate::replication::slot::acquire::{ReplicationSlotAcquire, release};
use crate::replication::slot::drop::ReplicationSlotCleanup;
use crate::shmem::{PmSignal, WalSnd, WalSndState};
use crate::sys::{Become, Cx, OpenSegment};
use crate::tcop::session::Session;
use crate::wire::backend::BackendMessage;
use crate::wire::frame::FrameReader;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use history::SendTimelineHistory;
use slot::SlotCommand;
use stream::Stream;

/// A walsender process.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WalSender {
    conn: ConnId,
    frames: FrameReader,
    /// The settings from the startup packet.
    settings: SessionSettings,
    /// The database and SQL session. `None` in a physical walsender.
    attached: Option<Attached>,
    /// `MyWalSnd`: the index of the walsender's entry in shared memory.
    index: Option<usize>,
    /// `xlogreader->seg`: the segment that is open for reading.
    segment: Option<OpenSegment>,
    /// `ignore_till_sync`: whether messages are skipped up to the next Sync. True after an error in
    /// the extended protocol.
    ignore_till_sync: bool,
    /// `got_STOPPING`: whether the server is shutting down. If so, the walsender only sends WAL.
    got_stopping: bool,
    /// `got_SIGUSR2`: whether SIGUSR2 was received. The postmaster sends it when no more WAL will
    /// be written.
    got_last_cycle: bool,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Init,
    /// Waiting for a command.
    Command,
    /// Acquires the slot of START_REPLICATION.
    Acquiring {
        acquire: ReplicationSlotAcquire,
        start: Lsn,
        timeline: Option<TimelineId>,
    },
    /// CopyBothResponse was sent. `flush` is the flush position before that message.
    Starting {
        start: Lsn,
        tli: TimelineId,
        flush: Lsn,
    },
    Streaming(Stream),
    /// An SQL command is running.
    Query,
    /// Aborts the transaction after an error or before the process ends.
    Abort(Then),
    /// A command about a slot is running.
    Slot(SlotCommand),
    /// A history file is being read.
    History(SendTimelineHistory),
    /// Runs `ReplicationSlotCleanup` after an error or before the process ends.
    CleanUp(ReplicationSlotCleanup, Then),
}

/// The database and SQL session of a walsender that also executes SQL (`am_db_walsender`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Attached {
    database: String,
    session: Session,
}

/// The step that follows an abort or the cleanup of slots.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Then {
    /// The next command.
    Command,
    /// `proc_exit`
    Exit(Exit),
}

impl WalSender {
    /// A walsender for an accepted connection.
    #[must_use]
    pub fn new(becomes: Become) -> Self {
        let database = becomes.database;
        let attached = (!database.is_empty()).then(|| Attached {
            database,
            session: Session::new(becomes.settings.clone()),
        });
        Self {
            conn: becomes.conn,
            frames: becomes.frames,
            settings: becomes.settings,
            attached,
            index: None,
            segment: None,
            ignore_till_sync: false,
            got_stopping: false,
            got_last_cycle: false,
            phase: Phase::Init,
        }
    }

    /// Runs until the process would block or another process may run.
    pub fn step(&mut self, cx: &mut Cx<'_>) -> Yield {
        self.handle_signals(cx);
        match &self.phase {
            Phase::Init => self.init(cx),
            Phase::Command => self.command(cx),
            Phase::Acquiring { .. } => self.acquire_slot(cx),
            Phase::Starting { start, tli, flush } => {
                let (start, tli, flush) = (*start, *tli, *flush);
                self.begin_streaming(cx, start, tli, flush)
            }
            Phase::Streaming(_) => self.stream(cx),
            Phase::Query => self.sql(cx),
            Phase::Abort(_) => self.abort(cx),
            Phase::Slot(_) => self.slot_command(cx),
            Phase::History(_) => self.timeline_history(cx),
            Phase::CleanUp(..) => self.clean_up(cx),
        }
    }

    /// `HandleWalSndInitStopping` and `WalSndLastCycleHandler`.
    fn handle_signals(&mut self, cx: &mut Cx<'_>) {
        if cx.take_signal(Signal::Usr1) {
            // A walsender that is not streaming (`replication_active` is false) has no WAL to send,
            // but its next command could write WAL. It is therefore told to end.
            if matches!(self.phase, Phase::Streaming(_)) {
                self.got_stopping = true;
            } else {
                cx.sys.signal(Signal::Term);
            }
        }
        self.got_last_cycle |= cx.take_signal(Signal::Usr2);
        // Each iteration of the loop reads the timeout again. A SIGHUP therefore needs no further
        // action.
        cx.take_signal(Signal::Hup);
    }

    /// `InitWalSenderSlot`: takes the lowest free entry.
    fn init(&mut self, cx: &mut Cx<'_>) -> Yield {
        let Some(index) = cx.shmem.walsnd.iter().position(|e| e.pid.is_none()) else {
            let settings = &cx.shmem.settings;
            let (max, version) = (settings.max_wal_senders, settings.pg_version);
            let message = Message::TooManySenders { max, version };
            let event = LogEvent::fatal(SqlState::TOO_MANY_CONNECTIONS, message);
            return self.fatal(cx, event);
        };
        // `Assert(MyWalSnd == NULL)`
        assert_eq!(self.index, None, "{} has two entries", cx.me);
        cx.shmem.walsnd[index] = WalSnd {
            pid: Some(cx.me),
            conn: Some(self.conn),
            ..WalSnd::default()
        };
        self.index = Some(index);
        self.phase = Phase::Command;
        // The new walsender was counted as a session until now. A smart shutdown does not wait for
        // walsenders, so the postmaster must check its state again.
        cx.signal_postmaster(PmSignal::AdvanceStateMachine);
        Yield::Again(Place::InitWalSender)
    }

    /// The walsender's entry in shared memory.
    fn entry<'a>(&self, cx: &'a mut Cx<'_>) -> &'a mut WalSnd {
        let index = self.index.expect("taken before the first command");
        let entry = &mut cx.shmem.walsnd[index];
        assert_eq!(entry.pid, Some(cx.me), "only the owner writes its entry");
        entry
    }

    fn send(&self, cx: &mut Cx<'_>, messages: &[BackendMessage]) {
        let mut out = Vec::new();
        for message in messages {
            message.encode(&mut out);
        }
        cx.send(self.conn, [Bytes::from(out), Bytes::new()]);
    }

    /// Outside of the streaming loop, a send blocks while the peer does not read. If output is
    /// pending, returns a yield that waits for the peer.
    fn blocked(&self, cx: &Cx<'_>, why: Place) -> Option<Yield> {
        cx.send_pending(self.conn).then(|| {
            Yield::Wait(Wait {
                latch: true,
                writable: Some(self.conn),
                ..Wait::at(why)
            })
        })
    }

    /// SIGTERM: `die`.
    fn interrupted(&mut self, cx: &mut Cx<'_>) -> Option<Yield> {
        cx.take_signal(Signal::Term).then(|| {
            let event = LogEvent::fatal(SqlState::ADMIN_SHUTDOWN, Message::AdminShutdown);
            self.fatal(cx, event)
        })
    }

    /// `ereport` for an error in a command.
    fn fail(&mut self, cx: &mut Cx<'_>, event: LogEvent) -> Yield {
        match event.severity {
            Severity::Panic => Yield::Exit(Exit::Panic(event)),
            Severity::Fatal => self.fatal(cx, event),
            Severity::Error | Severity::Warning | Severity::Log => self.error(cx, event),
        }
    }

    /// `ereport(ERROR)`: the command fails, or the COPY ends. The connection stays open
    /// (`WalSndErrorCleanup`). The session's temporary slots are dropped.
    fn error(&mut self, cx: &mut Cx<'_>, event: LogEvent) -> Yield {
        assert!(event.severity <= Severity::Error, "{event:?}");
        let answer = event.to_client();
        cx.log(event);
        cx.release_everything();
        self.close_segment(cx);
        release(cx);
        assert_eq!(cx.sys.my_slot, None);
        self.entry(cx).state = WalSndState::Startup;
        self.send(cx, &[answer]);
        self.abort_transaction(cx, Then::Command)
    }

    /// Runs `AbortCurrentTransaction`, then `ReplicationSlotCleanup`.
    fn abort_transaction(&mut self, cx: &mut Cx<'_>, then: Then) -> Yield {
        assert_eq!(cx.sys.my_slot, None, "the slot is released");
        assert_eq!(self.segment, None, "the segment is closed");
        if let Some(attached) = &mut self.attached {
            attached.session.abort(cx);
            self.phase = Phase::Abort(then);
            return Yield::Again(Place::AbortCurrentTransaction);
        }
        self.phase = Phase::CleanUp(ReplicationSlotCleanup::new(), then);
        self.clean_up(cx)
    }

    fn clean_up(&mut self, cx: &mut Cx<'_>) -> Yield {
        let Phase::CleanUp(cleanup, then) = &mut self.phase else {
            unreachable!("only called while cleaning up")
        };
        match cleanup.poll(cx) {
            Poll::Yield(how) => return how,
            Poll::Ready(Err(event)) => return Yield::Exit(Exit::Panic(event)),
            Poll::Ready(Ok(())) => {}
        }
        assert!(cx.may_interrupt(), "{} holds a lock or a pin", cx.me);
        match then.clone() {
            Then::Exit(exit) => self.shut(cx, exit),
            // After a shutdown was requested, the walsender reads no further command.
            Then::Command if self.got_stopping || self.got_last_cycle => {
                self.exit(cx, Exit::Normal)
            }
            Then::Command => {
                if !self.ignore_till_sync {
                    self.send_ready(cx);
                }
                self.phase = Phase::Command;
                Yield::Again(Place::WalSndErrorCleanup)
            }
        }
    }

    /// `ereport(FATAL)`
    fn fatal(&mut self, cx: &mut Cx<'_>, event: LogEvent) -> Yield {
        assert_eq!(event.severity, Severity::Fatal, "{event:?}");
        self.send(cx, &[event.to_client()]);
        self.exit(cx, Exit::Fatal(event))
    }

    /// `ereport(COMMERROR)`, then `proc_exit(0)`: the walsender sends nothing to the peer.
    fn hang_up(&mut self, cx: &mut Cx<'_>, sqlstate: SqlState, message: Message) -> Yield {
        cx.log(LogEvent {
            sqlstate,
            ..LogEvent::log(message)
        });
        self.exit(cx, Exit::Normal)
    }

    /// An orderly exit. First releases the slots of the process, as `ReplicationSlotShmemExit`
    /// does.
    fn exit(&mut self, cx: &mut Cx<'_>, exit: Exit) -> Yield {
        let exits = matches!(
            self.phase,
            Phase::Abort(Then::Exit(_)) | Phase::CleanUp(_, Then::Exit(_))
        );
        assert!(!exits, "{} exits twice", cx.me);
        self.close_segment(cx);
        cx.release_everything();
        release(cx);
        self.abort_transaction(cx, Then::Exit(exit))
    }

    /// `WalSndKill`: frees the entry.
    fn shut(&mut self, cx: &mut Cx<'_>, exit: Exit) -> Yield {
        assert_eq!(cx.sys.my_slot, None, "the slot is released");
        assert_eq!(self.segment, None, "the segment is closed");
        if let Some(index) = self.index.take() {
            assert_eq!(cx.shmem.walsnd[index].pid, Some(cx.me));
            cx.shmem.walsnd[index] = WalSnd::default();
        }
        cx.disconnect(self.conn);
        Yield::Exit(exit)
    }

    fn close_segment(&mut self, cx: &mut Cx<'_>) {
        if let Some(open) = self.segment.take() {
            assert_eq!(cx.sys.op, None, "{:?} is being read", open.segment);
            cx.close(open.fd);
        }
    }
}

#[cfg(test)]
mod tests;
