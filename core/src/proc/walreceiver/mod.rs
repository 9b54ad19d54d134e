//! The walreceiver: receives WAL from the upstream, writes and flushes it, and reports its
//! progress. Mirrors walreceiver.c with libpqwalreceiver.c.
//!
//! The walreceiver never reports or publishes a flush position beyond the durable WAL. The startup
//! process decides where to start streaming, and whether to start a new walreceiver after an error.
//! The walreceiver does not fetch missing history files, because timelines never change in walsim.

mod flush;
mod start;
mod streaming;
mod write;

use crate::base::{Bug, Lsn, Mark, PgVersion, TimelineId};
use crate::call::{Exit, LogEvent, Message, Place, Poll, Signal, SqlState, Wait, Yield};
use crate::ready_ok;
use crate::replication::libpqrcv::{Answer, ConnInfo, Connect, Failure, Link, Query, terminated};
use crate::shmem::{CondVarId, Role, WalRcvState};
use crate::sys::Cx;
use flush::FlushWal;
use start::StartStream;
use streaming::{CopyEnd, Streaming};

/// The user name of the connection.
const USER: &str = "postgres";

/// The walreceiver.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WalReceiver {
    link: Link,
    /// The requested start, a segment boundary.
    start: Lsn,
    /// Whether this process has already started streaming once (`first_stream`).
    streamed: bool,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Entry,
    Connect(Connect),
    StartStream(StartStream),
    Streaming(Streaming),
    /// CopyDone was sent. The walreceiver waits for the end of the upstream's answer.
    EndStream(Query),
    /// The timeline has ended on the upstream.
    CloseSegment(FlushWal),
    AwaitStartPoint,
    /// Runs `WalRcvDie`. Then the process ends with `exit`.
    Dying {
        exit: Exit,
        flush: FlushWal,
    },
    /// The walreceiver has marked itself stopped in shared memory. The postmaster has not reaped
    /// the process yet.
    Gone(Exit),
}

impl Default for WalReceiver {
    fn default() -> Self {
        Self::new()
    }
}

impl WalReceiver {
    /// A newly started walreceiver.
    #[must_use]
    pub fn new() -> Self {
        Self {
            link: Link::default(),
            start: Lsn::INVALID,
            streamed: false,
            phase: Phase::Entry,
        }
    }

    /// Runs until the process would block or another process may run.
    pub fn step(&mut self, cx: &mut Cx<'_>) -> Yield {
        if self.phase == Phase::Entry {
            return self.enter(cx);
        }
        if let Phase::Gone(exit) = &self.phase {
            return Yield::Exit(exit.clone());
        }
        if !matches!(self.phase, Phase::Dying { .. }) {
            let exit = match self.run(cx) {
                Poll::Yield(how) => return how,
                Poll::Ready(Ok(())) => Exit::Normal,
                Poll::Ready(Err(event)) => exit_of(event),
            };
            if matches!(exit, Exit::Panic(_)) {
                return Yield::Exit(exit);
            }
            cx.release_everything();
            let flush = FlushWal::dying();
            self.phase = Phase::Dying { exit, flush };
        }
        self.die(cx)
    }

    /// The start of `WalReceiverMain`: ends at once if no walreceiver is requested any more.
    fn enter(&mut self, cx: &mut Cx<'_>) -> Yield {
        let now = cx.now.wall;
        let walrcv = &mut cx.shmem.walrcv;
        match walrcv.state {
            WalRcvState::Starting => {}
            // The startup process has given up its request. The walreceiver exits with status 1 and
            // no message. The postmaster treats this status like 0.
            WalRcvState::Stopping | WalRcvState::Stopped => {
                walrcv.state = WalRcvState::Stopped;
                cx.shmem.condvars.broadcast(CondVarId::WalRcvStopped);
                return Yield::Exit(Exit::Normal);
            }
            WalRcvState::Connecting
            | WalRcvState::Streaming
            | WalRcvState::Waiting
            | WalRcvState::Restarting => {
                let message = Message::ReceiverStillRunning;
                return Yield::Exit(Exit::Panic(LogEvent::panic(SqlState::INTERNAL, message)));
            }
        }
        assert_eq!(
            walrcv.pid, None,
            "a walreceiver that is starting is the only one"
        );
        assert_eq!(self.link.conn, None, "it is not connected yet");
        walrcv.pid = Some(cx.me);
        walrcv.state = connecting(cx.shmem.settings.pg_version);
        walrcv.last_send_time = now;
        walrcv.last_receipt_time = now;
        walrcv.latest_wal_end_time = now;
        walrcv.written_upto = Lsn::INVALID;
        walrcv.starts += 1;
        let again = walrcv.starts > 1;
        self.start = walrcv.receive_start;
        self.link
            .begin(walrcv.receive_start_tli, cx.shmem.settings.pg_version);
        self.link.slot_name.clone_from(&walrcv.slot_name);
        self.phase = Phase::Connect(Connect::new(conninfo(cx)));
        if again {
            cx.mark(Mark::WalreceiverRestarted);
        }
        Yield::Again(Place::WalReceiverMain)
    }

    /// All steps between start and exit. When the result is ready, the process ends.
    fn run(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        loop {
            let link = &mut self.link;
            match &mut self.phase {
                Phase::Connect(connect) => {
                    ready_ok!(connect.poll(cx, link).map(|done| done.map_err(unconnected)));
                    assert!(link.conn.is_some(), "{} is connected", cx.me);
                    self.phase = Phase::StartStream(StartStream::new(self.start));
                }
                Phase::StartStream(start) => match ready_ok!(start.poll(cx, link)) {
                    Answer::CopyBoth => {
                        let again = core::mem::replace(&mut self.streamed, true);
                        accepted(cx, self.start, link.tli, again);
                        self.phase = Phase::Streaming(Streaming::begin(cx, link));
                    }
                    Answer::Done(_) => {
                        cx.log(LogEvent::log(Message::NoMoreWal(link.tli)));
                        self.phase = Phase::CloseSegment(FlushWal::new());
                    }
                },
                Phase::Streaming(streaming) => match ready_ok!(streaming.poll(cx, link)) {
                    CopyEnd::CopyDone => {
                        self.phase = Phase::EndStream(Query::end_streaming(cx, link))
                    }
                    CopyEnd::CommandComplete => {
                        // The upstream has shut down and has already ended the COPY.
                        let what = "could not send end-of-streaming message to primary";
                        let why = "no COPY in progress".into();
                        let message = Message::Upstream { what, why };
                        return Poll::Ready(Err(LogEvent::error(
                            SqlState::CONNECTION_FAILURE,
                            message,
                        )));
                    }
                },
                Phase::EndStream(query) => {
                    let what = "error reading result of streaming command";
                    ready_ok!(query.poll(cx, link).map(|done| done.map_err(failing(what))));
                    self.phase = Phase::CloseSegment(FlushWal::new());
                }
                Phase::CloseSegment(flush) => {
                    ready_ok!(flush.poll(cx, link));
                    assert!(link.write <= link.flush, "{} {}", link.write, link.flush);
                    if let Some(open) = cx.sys.wal_file.take() {
                        cx.close(open.fd);
                    }
                    if cx.shmem.walrcv.state == WalRcvState::Stopping {
                        return Poll::Ready(Ok(()));
                    }
                    let walrcv = &mut cx.shmem.walrcv;
                    assert!(walrcv.is_streaming(), "{:?}", walrcv.state);
                    walrcv.state = WalRcvState::Waiting;
                    walrcv.receive_start = Lsn::INVALID;
                    walrcv.receive_start_tli = TimelineId(0);
                    cx.shmem.procs.set_latch_of(Role::Startup);
                    self.phase = Phase::AwaitStartPoint;
                    return Poll::Yield(Yield::Again(Place::WalRcvWaitForStartPosition));
                }
                Phase::AwaitStartPoint => {
                    let goes_on = ready_ok!(self.await_start_point(cx));
                    if !goes_on {
                        return Poll::Ready(Ok(()));
                    }
                    self.phase = Phase::StartStream(StartStream::new(self.start));
                }
                Phase::Entry | Phase::Dying { .. } | Phase::Gone(_) => {
                    unreachable!("not run in these phases")
                }
            }
        }
    }

    /// `WalRcvWaitForStartPosition`: returns false if the walreceiver is told to stop.
    fn await_start_point(&mut self, cx: &mut Cx<'_>) -> Poll<Result<bool, LogEvent>> {
        cx.reset_latch();
        if let Err(event) = check_interrupts(cx) {
            return Poll::Ready(Err(event));
        }
        let walrcv = &mut cx.shmem.walrcv;
        assert_eq!(walrcv.pid, Some(cx.me), "it is the only walreceiver");
        assert_ne!(walrcv.state, WalRcvState::Streaming, "it waits");
        match walrcv.state {
            WalRcvState::Restarting => {
                walrcv.state = connecting(cx.shmem.settings.pg_version);
                self.start = walrcv.receive_start;
                self.link.tli = walrcv.receive_start_tli;
                assert_eq!(cx.sys.wal_file, None, "the segment is closed");
                Poll::Ready(Ok(true))
            }
            WalRcvState::Stopping => Poll::Ready(Ok(false)),
            WalRcvState::Waiting
            | WalRcvState::Stopped
            | WalRcvState::Starting
            | WalRcvState::Connecting
            | WalRcvState::Streaming => {
                let wait = Wait::latch(None, Place::WalRcvWaitForStartPosition);
                Poll::Yield(Yield::Wait(wait))
            }
        }
    }

    /// `WalRcvDie`: runs at every exit except a crash.
    fn die(&mut self, cx: &mut Cx<'_>) -> Yield {
        let Phase::Dying { exit, flush } = &mut self.phase else {
            unreachable!("only called while dying")
        };
        // Before 9.0.3 the walreceiver exited without a flush. Recovery then replayed the unflushed
        // bytes from pg_wal, and the next walreceiver assumed that all replayed WAL was flushed.
        let unflushed = self.link.flush < self.link.write;
        if !(unflushed && cx.planted(Bug::WalreceiverExitWithoutFlush)) {
            match flush.poll(cx, &mut self.link) {
                Poll::Yield(how) => return how,
                Poll::Ready(Err(event)) => return Yield::Exit(exit_of(event)),
                Poll::Ready(Ok(())) => {}
            }
        }
        assert_eq!(
            cx.shmem.walrcv.pid,
            Some(cx.me),
            "it is the only walreceiver"
        );
        assert_ne!(cx.shmem.walrcv.state, WalRcvState::Stopped, "it ends once");
        assert_ne!(
            cx.shmem.walrcv.state,
            WalRcvState::Starting,
            "it has started"
        );
        cx.shmem.walrcv.state = WalRcvState::Stopped;
        cx.shmem.walrcv.pid = None;
        cx.shmem.condvars.broadcast(CondVarId::WalRcvStopped);
        if let Some(conn) = self.link.conn.take() {
            cx.disconnect(conn);
        }
        cx.shmem.procs.set_latch_of(Role::Startup);
        self.phase = Phase::Gone(exit.clone());
        Yield::Again(Place::ProcExit)
    }
}

/// The connection parameters that the startup process has stored in shared memory.
fn conninfo(cx: &Cx<'_>) -> Option<ConnInfo> {
    let (host, port) = cx.shmem.walrcv.conninfo.clone()?;
    let application_name = match cx.shmem.settings.cluster_name.as_str() {
        "" => "walreceiver",
        name => name,
    };
    Some(ConnInfo {
        host,
        port,
        user: USER.into(),
        application_name: application_name.into(),
        connect_timeout_ms: 0,
        has_password: false,
    })
}

fn unconnected(failure: Failure) -> LogEvent {
    let what = "could not connect to the primary server";
    failure.event(SqlState::CONNECTION_FAILURE, what)
}

/// Turns the failure of a command into a log event.
fn failing(what: &'static str) -> impl Fn(Failure) -> LogEvent {
    move |failure| failure.event(SqlState::PROTOCOL_VIOLATION, what)
}

/// `ProcessWalRcvInterrupts`
fn check_interrupts(cx: &mut Cx<'_>) -> Result<(), LogEvent> {
    if cx.take_signal(Signal::Term) {
        return Err(terminated());
    }
    Ok(())
}

/// The exit for an error. An ERROR ends the process. A PANIC stays a PANIC.
fn exit_of(event: LogEvent) -> Exit {
    let event = event.in_auxiliary_process();
    if event.severity == crate::call::Severity::Panic {
        Exit::Panic(event)
    } else {
        Exit::Fatal(event)
    }
}

/// Called when the upstream has accepted START_REPLICATION.
fn accepted(cx: &mut Cx<'_>, start: Lsn, tli: TimelineId, again: bool) {
    let started = if again {
        Message::RestartedStreaming(cx.text(start), tli)
    } else {
        Message::StartedStreaming(cx.text(start), tli)
    };
    cx.log(LogEvent::log(started));
    // `Assert(walrcv->pid == MyProcPid)`
    assert_eq!(cx.shmem.walrcv.pid, Some(cx.me));
    let state = &mut cx.shmem.walrcv.state;
    assert!(
        matches!(
            state,
            WalRcvState::Connecting | WalRcvState::Streaming | WalRcvState::Stopping
        ),
        "{state:?}"
    );
    if *state == WalRcvState::Connecting {
        *state = WalRcvState::Streaming;
    }
}

/// The state of a walreceiver before START_REPLICATION is answered. Since 19 this state has its own
/// name.
const fn connecting(version: PgVersion) -> WalRcvState {
    if version.major() < 19 {
        WalRcvState::Streaming
    } else {
        WalRcvState::Connecting
    }
}

#[cfg(test)]
mod tests;
