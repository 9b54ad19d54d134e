//! The checkpointer: performs checkpoints when asked, and when it is time. Mirrors checkpointer.c
//! (CheckpointerMain).
//!
//! During recovery these are restartpoints, but for the checkpoint that ends it. At a shutdown it
//! outlives every process that writes WAL.

mod shutdown;

use crate::access::checkpoint::{CheckpointKind, CreateCheckPoint};
use crate::access::restartpoint::CreateRestartPoint;
use crate::base::{PgVersion, TimestampTz};
use crate::call::{Exit, LogEvent, Place, Poll, Severity, Signal, Wait, Yield};
use crate::shmem::{CheckpointRequests, CondVarId, PmSignal};
use crate::sys::Cx;
use alloc::boxed::Box;
use shutdown::ShutdownXlog;

/// How long to wait before trying again to make a restartpoint when there was none to make: half of
/// the least checkpoint_timeout that PostgreSQL takes. Less is allowed here, and then it is half of
/// that.
const RETRY_MS: i64 = 15_000;

/// The process.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Checkpointer {
    /// When the last checkpoint began; unset until the first look at the clock.
    last_checkpoint: Option<TimestampTz>,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
enum Phase {
    #[default]
    Loop,
    /// The counters say that a checkpoint begins; what it is asked to be.
    Started(CheckpointRequests),
    Checkpoint(Box<CreateCheckPoint>),
    RestartPoint(Box<CreateRestartPoint>),
    /// A second without work after an error.
    Pause,
    /// The last checkpoint.
    Shutdown(ShutdownXlog),
    /// 18: the last checkpoint is written, or was not asked for; waits to be told that it may go.
    Leave,
}

impl Checkpointer {
    /// As forked.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets it run.
    pub fn step(&mut self, cx: &mut Cx<'_>) -> Yield {
        let why = Place::CheckpointerMain;
        loop {
            match &mut self.phase {
                Phase::Loop => {
                    cx.reset_latch();
                    if self.shutdown_asked(cx) {
                        continue;
                    }
                    match self.look(cx) {
                        Some(requests) => {
                            self.phase = Phase::Started(requests);
                            return Yield::Again(why);
                        }
                        None => return self.sleep(cx),
                    }
                }
                Phase::Started(requests) => {
                    let requests = *requests;
                    self.last_checkpoint = Some(cx.now.wall);
                    if cx.shmem.recovery_in_progress() && !requests.end_of_recovery {
                        let restartpoint = CreateRestartPoint::new(false);
                        self.phase = Phase::RestartPoint(Box::new(restartpoint));
                        continue;
                    }
                    let kind = if requests.end_of_recovery {
                        CheckpointKind::EndOfRecovery
                    } else {
                        CheckpointKind::Online {
                            force: requests.force,
                        }
                    };
                    self.phase = Phase::Checkpoint(Box::new(CreateCheckPoint::new(cx, kind)));
                }
                Phase::Checkpoint(checkpoint) => match checkpoint.poll(cx) {
                    Poll::Yield(how) => return how,
                    Poll::Ready(Ok(_)) => self.finish(cx),
                    Poll::Ready(Err(error)) => return self.failed(cx, error),
                },
                Phase::RestartPoint(restartpoint) => match restartpoint.poll(cx) {
                    Poll::Yield(how) => return how,
                    Poll::Ready(Ok(performed)) => {
                        if !performed {
                            let retry_ms = RETRY_MS.min(timeout_ms(cx) / 2);
                            let begun = cx.now.wall + (retry_ms - timeout_ms(cx)) * 1000;
                            self.last_checkpoint = Some(begun);
                        }
                        self.finish(cx);
                    }
                    Poll::Ready(Err(error)) => return self.failed(cx, error),
                },
                Phase::Pause => self.phase = Phase::Loop,
                Phase::Shutdown(shutdown) => match shutdown.poll(cx) {
                    Poll::Yield(how) => return how,
                    // There is no way back any more.
                    Poll::Ready(Err(error)) => {
                        return Yield::Exit(exit(error.in_auxiliary_process()));
                    }
                    Poll::Ready(Ok(())) => {
                        if cx.shmem.settings.pg_version < PgVersion::V18 {
                            return Yield::Exit(Exit::Normal);
                        }
                        cx.signal_postmaster(PmSignal::XlogIsShutdown);
                        self.phase = Phase::Leave;
                    }
                },
                Phase::Leave => {
                    cx.reset_latch();
                    if cx.take_signal(Signal::Usr2) {
                        return Yield::Exit(Exit::Normal);
                    }
                    return Yield::Wait(Wait::latch(None, why));
                }
            }
        }
    }

    /// Is the server to be shut down? Before 18 one signal means the checkpoint and the exit, then
    /// each has its own.
    fn shutdown_asked(&mut self, cx: &mut Cx<'_>) -> bool {
        // New settings are seen at the next look, which the signal has brought about.
        cx.take_signal(Signal::Hup);
        let order = if cx.shmem.settings.pg_version < PgVersion::V18 {
            Signal::Usr2
        } else {
            Signal::Int
        };
        if cx.take_signal(order) {
            self.phase = Phase::Shutdown(ShutdownXlog::default());
        } else if cx.sys.has_signal(Signal::Usr2) {
            self.phase = Phase::Leave;
        } else {
            return false;
        }
        true
    }

    /// Is there anything to do? If so it counts as begun.
    fn look(&mut self, cx: &mut Cx<'_>) -> Option<CheckpointRequests> {
        let elapsed_us = cx.now.wall - *self.last_checkpoint.get_or_insert(cx.now.wall);
        let due = elapsed_us >= timeout_ms(cx) * 1000;
        let checkpointer = &mut cx.shmem.checkpointer;
        if !checkpointer.requests.requested && !due {
            return None;
        }
        checkpointer.started += 1;
        let requests = core::mem::take(&mut checkpointer.requests);
        cx.shmem.condvars.broadcast(CondVarId::CheckpointDone);
        Some(requests)
    }

    /// Wakes the waiting processes: the checkpoint is over.
    fn finish(&mut self, cx: &mut Cx<'_>) {
        let checkpointer = &mut cx.shmem.checkpointer;
        checkpointer.done = checkpointer.started;
        cx.shmem.condvars.broadcast(CondVarId::CheckpointDone);
        self.phase = Phase::Loop;
    }

    /// An ERROR ends the checkpoint, anything worse the process.
    fn failed(&mut self, cx: &mut Cx<'_>, error: LogEvent) -> Yield {
        if error.severity > Severity::Error {
            return Yield::Exit(exit(error));
        }
        cx.log(error);
        cx.release_everything();
        cx.shmem.checkpointer.failed += 1;
        self.finish(cx);
        self.phase = Phase::Pause;
        // So that an error that comes every time does not fill the log.
        let until = Some(cx.now.mono.after_ms(1000));
        Yield::Wait(Wait {
            until,
            ..Wait::at(Place::CheckpointerMain)
        })
    }

    fn sleep(&self, cx: &Cx<'_>) -> Yield {
        let last = self.last_checkpoint.unwrap_or(cx.now.wall);
        let until = cx.until(last + timeout_ms(cx) * 1000);
        Yield::Wait(Wait::latch(Some(until), Place::CheckpointerMain))
    }
}

fn timeout_ms(cx: &Cx<'_>) -> i64 {
    i64::from(cx.shmem.settings.checkpoint_timeout_ms)
}

fn exit(error: LogEvent) -> Exit {
    if error.severity == Severity::Panic {
        Exit::Panic(error)
    } else {
        Exit::Fatal(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Pid, Planted};
    use crate::call::DiskError;
    use crate::shmem::{RecoveryState, Role};
    use crate::sys::testing::bench::{Bench, TINY};

    fn server() -> (Bench, Pid, Checkpointer) {
        let mut bench = Bench::new(PgVersion::V15, TINY, Planted::NONE);
        let wal = bench.wal();
        bench.in_production(&wal);
        bench.shmem.settings.checkpoint_timeout_ms = 1000;
        let pid = bench.attach(Role::Checkpointer);
        (bench, pid, Checkpointer::new())
    }

    /// Until it has nothing to do; how long it means to sleep, in milliseconds.
    fn run(bench: &mut Bench, pid: Pid, checkpointer: &mut Checkpointer) -> u64 {
        let waits = bench.drive(pid, |cx| match checkpointer.step(cx) {
            Yield::Exit(exit) => Poll::Ready(exit),
            how @ (Yield::Again(_) | Yield::Wait(_)) => Poll::Yield(how),
        });
        let wait = waits.expect_err("the checkpointer does not end");
        (wait.until.expect("never sleeps for ever") - bench.now.mono) / 1000
    }

    #[test]
    fn it_wakes_when_it_is_time() {
        let (mut bench, pid, mut checkpointer) = server();
        assert_eq!(run(&mut bench, pid, &mut checkpointer), 1000);
        bench.pass_ms(600);
        assert_eq!(run(&mut bench, pid, &mut checkpointer), 400);
        let before = bench.shmem.control.checkpoint;
        bench.pass_ms(400);
        assert_eq!(run(&mut bench, pid, &mut checkpointer), 1000);
        assert!(bench.shmem.control.checkpoint > before);
    }

    #[test]
    fn a_request_is_served_at_once_and_counted() {
        let (mut bench, pid, mut checkpointer) = server();
        bench.shmem.checkpointer.requests = CheckpointRequests {
            requested: true,
            force: true,
            end_of_recovery: false,
        };
        run(&mut bench, pid, &mut checkpointer);
        let ctl = &bench.shmem.checkpointer;
        assert_eq!((ctl.started, ctl.done, ctl.failed), (1, 1, 0));
        assert_eq!(ctl.requests, CheckpointRequests::default());
    }

    /// A standby writes no WAL. If it has not replayed a checkpoint either, it looks again a little
    /// later.
    #[test]
    fn during_recovery_only_its_end_is_a_checkpoint() {
        let (mut bench, pid, mut checkpointer) = server();
        bench.shmem.recovery.state = RecoveryState::Archive;
        bench.shmem.checkpointer.requests.requested = true;
        let before = bench.shmem.control.clone();
        assert_eq!(run(&mut bench, pid, &mut checkpointer), 500);
        assert_eq!(bench.shmem.control, before);
        assert_eq!(bench.shmem.checkpointer.done, 1);
        bench.shmem.checkpointer.requests.requested = true;
        bench.shmem.checkpointer.requests.end_of_recovery = true;
        run(&mut bench, pid, &mut checkpointer);
        assert!(bench.shmem.control.checkpoint > before.checkpoint);
    }

    /// Waiting processes are told; the next checkpoint, a second later, may succeed.
    #[test]
    fn an_error_fails_the_checkpoint_alone() {
        let (mut bench, pid, mut checkpointer) = server();
        bench.shmem.clog.zero(0, TINY.data_page);
        bench
            .failing
            .insert("write pg_xact/0000".into(), DiskError::NoSpace);
        bench.shmem.checkpointer.requests.requested = true;
        bench.shmem.checkpointer.requests.force = true;
        assert_eq!(run(&mut bench, pid, &mut checkpointer), 1000);
        let ctl = &bench.shmem.checkpointer;
        assert_eq!((ctl.started, ctl.done, ctl.failed), (1, 1, 1));
        bench.failing.clear();
        bench.shmem.checkpointer.requests.requested = true;
        bench.shmem.checkpointer.requests.force = true;
        run(&mut bench, pid, &mut checkpointer);
        let ctl = &bench.shmem.checkpointer;
        assert_eq!((ctl.done, ctl.failed), (2, 1));
        assert!(bench.shmem.clog.pages.values().all(|page| !page.dirty));
    }

    /// A control file that cannot be made durable takes the server down: it is unknown which
    /// version a crash would find.
    #[test]
    fn a_control_file_that_is_lost_is_a_panic() {
        let (mut bench, pid, mut checkpointer) = server();
        bench
            .failing
            .insert("fsync global/pg_control".into(), DiskError::Io);
        bench.shmem.checkpointer.requests.requested = true;
        bench.shmem.checkpointer.requests.force = true;
        let exit = bench.drive(pid, |cx| match checkpointer.step(cx) {
            Yield::Exit(exit) => Poll::Ready(exit),
            how @ (Yield::Again(_) | Yield::Wait(_)) => Poll::Yield(how),
        });
        assert!(matches!(exit, Ok(Exit::Panic(_))));
    }
}
