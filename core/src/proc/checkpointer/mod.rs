//! The checkpointer: performs checkpoints on request and at intervals. Mirrors checkpointer.c
//! (CheckpointerMain).
//!
//! During recovery the checkpointer performs restartpoints instead, except for the end-of-recovery
//! checkpoint. At shutdown it exits after all processes that write WAL.

mod shutdown;

use crate::access::checkpoint::{CheckpointKind, CreateCheckPoint};
use crate::access::restartpoint::CreateRestartPoint;
use crate::access::wal_release::WalHorizon;
use crate::base::{PgVersion, TimestampTz};
use crate::call::{Exit, LogEvent, Place, Poll, Severity, Signal, Wait, Yield};
use crate::shmem::{CheckpointRequests, CondVarId, PmSignal};
use crate::sys::Cx;
use alloc::boxed::Box;
use shutdown::ShutdownXlog;

/// The time after which a skipped restartpoint is tried again. PostgreSQL uses 15 s, or half of
/// checkpoint_timeout if that is shorter.
const RETRY_MS: i64 = 15_000;

/// The checkpointer process.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Checkpointer {
    /// When the last checkpoint began. `None` before the first step.
    last_checkpoint: Option<TimestampTz>,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
enum Phase {
    #[default]
    Loop,
    /// A checkpoint with these flags was requested or is due, and is already counted in shared
    /// memory.
    Started(CheckpointRequests),
    Checkpoint(Box<CreateCheckPoint>),
    RestartPoint(Box<CreateRestartPoint>),
    /// Waits a second after an error.
    Pause,
    /// The shutdown checkpoint.
    Shutdown(ShutdownXlog),
    /// Since 18: waits for SIGUSR2, the postmaster's signal to exit.
    Leave,
}

impl Checkpointer {
    /// A newly forked process.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The last result of `KeepLogSeg` in the current checkpoint or restartpoint.
    #[must_use]
    pub const fn horizon(&self) -> Option<WalHorizon> {
        match &self.phase {
            Phase::Checkpoint(checkpoint) => checkpoint.horizon(),
            Phase::RestartPoint(restartpoint) => restartpoint.horizon(),
            Phase::Shutdown(shutdown) => shutdown.horizon(),
            Phase::Loop | Phase::Started(_) | Phase::Pause | Phase::Leave => None,
        }
    }

    /// Runs until it would block.
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
                    let counts = &cx.shmem.checkpointer;
                    assert!(counts.done < counts.started, "{counts:?}");
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
                    // If the shutdown checkpoint fails, the process ends.
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

    /// Was a shutdown requested? Before 18 one signal requests both the shutdown checkpoint and the
    /// exit. Since 18 each has its own signal.
    fn shutdown_asked(&mut self, cx: &mut Cx<'_>) -> bool {
        // The process reads the settings anew in every iteration. A SIGHUP therefore needs no
        // further action.
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

    /// Starts a checkpoint if one is requested or due.
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

    /// Called when a checkpoint has ended. Wakes the processes that wait for the checkpoint.
    fn finish(&mut self, cx: &mut Cx<'_>) {
        assert!(cx.may_interrupt(), "{} holds a lock or a pin", cx.me);
        let checkpointer = &mut cx.shmem.checkpointer;
        assert!(checkpointer.done < checkpointer.started, "{checkpointer:?}");
        checkpointer.done = checkpointer.started;
        cx.shmem.condvars.broadcast(CondVarId::CheckpointDone);
        self.phase = Phase::Loop;
    }

    /// Handles an error of a checkpoint. After an ERROR the process continues. A more severe error
    /// ends the process.
    fn failed(&mut self, cx: &mut Cx<'_>, error: LogEvent) -> Yield {
        if error.severity > Severity::Error {
            return Yield::Exit(exit(error));
        }
        cx.log(error);
        cx.release_everything();
        cx.shmem.checkpointer.failed += 1;
        self.finish(cx);
        self.phase = Phase::Pause;
        // The process sleeps, so that a persistent error does not fill the log.
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
    use crate::base::{Geometry, Pid, Planted};
    use crate::call::DiskError;
    use crate::shmem::{RecoveryState, Role};
    use crate::sys::testing::Fixture;

    fn server() -> (Fixture, Pid, Checkpointer) {
        let mut fixture = Fixture::new(PgVersion::V15, Planted::NONE);
        let wal = fixture.wal();
        fixture.in_production(&wal);
        fixture.shmem.settings.checkpoint_timeout_ms = 1000;
        let pid = fixture.spawn(Role::Checkpointer);
        (fixture, pid, Checkpointer::new())
    }

    /// Runs the checkpointer until it sleeps. Returns how long it will sleep, in milliseconds.
    fn run(fixture: &mut Fixture, pid: Pid, checkpointer: &mut Checkpointer) -> u64 {
        let waits = fixture.drive(pid, |cx| match checkpointer.step(cx) {
            Yield::Exit(exit) => Poll::Ready(exit),
            how @ (Yield::Again(_) | Yield::Wait(_)) => Poll::Yield(how),
        });
        let wait = waits.expect_err("the checkpointer does not end");
        (wait.until.expect("never sleeps for ever") - fixture.now.mono) / 1000
    }

    #[test]
    fn it_wakes_when_it_is_time() {
        let (mut fixture, pid, mut checkpointer) = server();
        assert_eq!(run(&mut fixture, pid, &mut checkpointer), 1000);
        fixture.pass_ms(600);
        assert_eq!(run(&mut fixture, pid, &mut checkpointer), 400);
        let before = fixture.shmem.control.checkpoint;
        fixture.pass_ms(400);
        assert_eq!(run(&mut fixture, pid, &mut checkpointer), 1000);
        assert!(fixture.shmem.control.checkpoint > before);
    }

    #[test]
    fn a_request_is_served_at_once_and_counted() {
        let (mut fixture, pid, mut checkpointer) = server();
        fixture.shmem.checkpointer.requests = CheckpointRequests {
            requested: true,
            force: true,
            end_of_recovery: false,
        };
        run(&mut fixture, pid, &mut checkpointer);
        let ctl = &fixture.shmem.checkpointer;
        assert_eq!((ctl.started, ctl.done, ctl.failed), (1, 1, 0));
        assert_eq!(ctl.requests, CheckpointRequests::default());
    }

    /// During recovery only the end-of-recovery request starts a checkpoint. All other requests
    /// start a restartpoint. A skipped restartpoint is soon tried again.
    #[test]
    fn during_recovery_only_the_end_of_recovery_is_a_checkpoint() {
        let (mut fixture, pid, mut checkpointer) = server();
        fixture.shmem.recovery.state = RecoveryState::Archive;
        fixture.shmem.checkpointer.requests.requested = true;
        let before = fixture.shmem.control.clone();
        assert_eq!(run(&mut fixture, pid, &mut checkpointer), 500);
        assert_eq!(fixture.shmem.control, before);
        assert_eq!(fixture.shmem.checkpointer.done, 1);
        fixture.shmem.checkpointer.requests.requested = true;
        fixture.shmem.checkpointer.requests.end_of_recovery = true;
        run(&mut fixture, pid, &mut checkpointer);
        assert!(fixture.shmem.control.checkpoint > before.checkpoint);
    }

    /// The processes that wait for the checkpoint get the error. The next checkpoint, a second
    /// later, can succeed.
    #[test]
    fn an_error_fails_only_the_checkpoint() {
        let (mut fixture, pid, mut checkpointer) = server();
        fixture.shmem.clog.zero(0, Geometry::SMALLEST.data_page);
        fixture
            .failing
            .insert("write pg_xact/0000".into(), DiskError::NoSpace);
        fixture.shmem.checkpointer.requests.requested = true;
        fixture.shmem.checkpointer.requests.force = true;
        assert_eq!(run(&mut fixture, pid, &mut checkpointer), 1000);
        let ctl = &fixture.shmem.checkpointer;
        assert_eq!((ctl.started, ctl.done, ctl.failed), (1, 1, 1));
        fixture.failing.clear();
        fixture.shmem.checkpointer.requests.requested = true;
        fixture.shmem.checkpointer.requests.force = true;
        run(&mut fixture, pid, &mut checkpointer);
        let ctl = &fixture.shmem.checkpointer;
        assert_eq!((ctl.done, ctl.failed), (2, 1));
        assert!(fixture.shmem.clog.pages.values().all(|page| !page.dirty));
    }

    /// A failed fsync of the control file is a PANIC, because after a crash either version of the
    /// file could be on disk.
    #[test]
    fn a_failed_fsync_of_the_control_file_is_a_panic() {
        let (mut fixture, pid, mut checkpointer) = server();
        fixture
            .failing
            .insert("fsync global/pg_control".into(), DiskError::Io);
        fixture.shmem.checkpointer.requests.requested = true;
        fixture.shmem.checkpointer.requests.force = true;
        let exit = fixture.drive(pid, |cx| match checkpointer.step(cx) {
            Yield::Exit(exit) => Poll::Ready(exit),
            how @ (Yield::Again(_) | Yield::Wait(_)) => Poll::Yield(how),
        });
        assert!(matches!(exit, Ok(Exit::Panic(_))));
    }
}
