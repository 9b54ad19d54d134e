//! Handles the exits of children. Mirrors reaper (process_pm_child_exit since 16), CleanupBackend,
//! and HandleChildCrash with HandleFatalError.

use super::children::Kind;
use super::leave::Leave;
use super::{PmState, Postmaster, Shutdown, StartupStatus};
use crate::base::{Mark, PgVersion};
use crate::call::{LogEvent, Message, Signal};
use crate::sys::{ChildExit, Cx, ExitKind};

impl Postmaster {
    /// `reaper`
    pub(super) fn process_child_exits(&mut self, cx: &mut Cx<'_>) {
        let mut any = false;
        while let Some(exit) = cx.take_child_exit() {
            any = true;
            if exit.kind == ExitKind::Killed {
                cx.mark(Mark::ProcessKilled);
            }
            if let Some(kind) = self.children.remove(exit.pid) {
                self.reap(cx, kind, exit);
            }
        }
        if any {
            self.state_machine(cx);
        }
    }

    fn reap(&mut self, cx: &mut Cx<'_>, kind: Kind, exit: ChildExit) {
        let orderly = !exit.kind.is_crash();
        match kind {
            Kind::Startup => self.startup_exited(cx, exit),
            Kind::Checkpointer => self.checkpointer_exited(cx, exit),
            Kind::WalWriter if exit.kind == ExitKind::Normal => {}
            Kind::WalReceiver | Kind::Backend | Kind::WalSender | Kind::DeadEnd if orderly => {}
            Kind::WalWriter
            | Kind::WalReceiver
            | Kind::Backend
            | Kind::WalSender
            | Kind::DeadEnd => self.child_crashed(cx, kind, exit),
        }
    }

    fn startup_exited(&mut self, cx: &mut Cx<'_>, exit: ChildExit) {
        let started = [StartupStatus::Running, StartupStatus::Signaled];
        assert!(started.contains(&self.startup), "{:?}", self.startup);
        if self.shutdown > Shutdown::No && !exit.kind.is_crash() {
            // The startup process was terminated by SIGTERM, or recovery ended during the shutdown.
            // This postmaster then goes to PM_STOP_BACKENDS, in which it signals all processes.
            // PostgreSQL goes to PM_WAIT_BACKENDS and signals no process. If a standby is promoted
            // while a smart shutdown waits for sessions, PostgreSQL therefore waits forever.
            self.startup = StartupStatus::NotRunning;
            if self.state < PmState::StopBackends {
                self.state = PmState::StopBackends;
            }
            return;
        }
        if exit.kind == ExitKind::Normal {
            self.startup = StartupStatus::NotRunning;
            self.fatal_error = false;
            self.abort_start = None;
            self.state = PmState::Run;
            self.conns_allowed = true;
            cx.log(LogEvent::log(Message::ReadyForConnections));
            return;
        }
        let signaled = self.startup == StartupStatus::Signaled;
        if self.state == PmState::Startup && !signaled {
            // No other child is running yet.
            Self::report(cx, Kind::Startup, exit);
            cx.log(LogEvent::log(Message::AbortingStartup));
            self.leave = Some(Leave::new(Some(Message::AbortingStartup)));
            return;
        }
        if signaled {
            self.startup = StartupStatus::NotRunning;
            if self.state == PmState::Startup {
                self.state = PmState::WaitBackends;
            }
        } else {
            self.startup = StartupStatus::Crashed;
        }
        self.child_crashed(cx, Kind::Startup, exit);
    }

    /// The checkpointer exits without an error only after the shutdown checkpoint. Any other exit
    /// is a crash.
    fn checkpointer_exited(&mut self, cx: &mut Cx<'_>, exit: ChildExit) {
        let ours = exit.kind == ExitKind::Normal;
        match (cx.shmem.settings.pg_version, self.state) {
            (PgVersion::V18 | PgVersion::V19, PmState::WaitCheckpointer) if ours => {
                let others = self.children.count(cx, |kind| kind != Kind::DeadEnd);
                assert_eq!(others, 0, "the checkpointer is the last");
                self.state = PmState::WaitDeadEnd;
                self.children.signal(cx, Signal::Term, |_| true);
            }
            (PgVersion::V15 | PgVersion::V16 | PgVersion::V17, PmState::WaitXlogShutdown)
                if ours =>
            {
                self.xlog_is_shut_down(cx);
            }
            _ => self.child_crashed(cx, Kind::Checkpointer, exit),
        }
    }

    /// `HandleChildCrash`: at the first crash the postmaster terminates all processes. During this
    /// termination, and during an immediate shutdown, further crashes are not reported.
    fn child_crashed(&mut self, cx: &mut Cx<'_>, kind: Kind, exit: ChildExit) {
        let act = !self.fatal_error && self.shutdown != Shutdown::Immediate;
        if act {
            Self::report(cx, kind, exit);
            cx.log(LogEvent::log(Message::TerminatingOthers));
            self.handle_fatal_error(cx);
        } else if cx.shmem.settings.pg_version < PgVersion::V18 {
            // Before 18 HandleChildCrash changes the state even at a crash that it does not report.
            self.await_death(cx);
        }
    }

    /// `HandleFatalError`
    pub(super) fn handle_fatal_error(&mut self, cx: &mut Cx<'_>) {
        assert!(!self.fatal_error, "the first crash stops all processes");
        assert_ne!(self.shutdown, Shutdown::Immediate, "they are stopped");
        self.terminate_children(cx, Signal::Quit);
        self.await_death(cx);
    }

    fn await_death(&mut self, cx: &mut Cx<'_>) {
        if self.shutdown != Shutdown::Immediate {
            self.fatal_error = true;
        }
        let version = cx.shmem.settings.pg_version;
        self.state = match (version, self.state) {
            (_, PmState::Recovery | PmState::HotStandby | PmState::Run | PmState::StopBackends)
            | (PgVersion::V15 | PgVersion::V16 | PgVersion::V17, PmState::WaitXlogShutdown) => {
                PmState::WaitBackends
            }
            (
                PgVersion::V18 | PgVersion::V19,
                PmState::WaitXlogShutdown
                | PmState::WaitXlogArchival
                | PmState::WaitIoWorkers
                | PmState::WaitCheckpointer,
            ) => PmState::WaitDeadEnd,
            // In PM_STARTUP the state does not change yet. It changes when the startup process
            // exits.
            (
                _,
                state @ (PmState::Init
                | PmState::Startup
                | PmState::WaitBackends
                | PmState::WaitXlogArchival
                | PmState::WaitIoWorkers
                | PmState::WaitCheckpointer
                | PmState::WaitDeadEnd
                | PmState::NoChildren),
            ) => state,
        };
        self.abort_start.get_or_insert(cx.now.wall);
    }

    /// `TerminateChildren`: signals all children, even those that only refuse a connection.
    pub(super) fn terminate_children(&mut self, cx: &mut Cx<'_>, signal: Signal) {
        if self.children.has(Kind::Startup) {
            self.startup = StartupStatus::Signaled;
        }
        self.children.signal(cx, signal, |_| true);
    }

    /// `LogChildExit`
    fn report(cx: &mut Cx<'_>, kind: Kind, exit: ChildExit) {
        let how = match exit.kind {
            ExitKind::Normal => "exited with exit code 0",
            ExitKind::Fatal => "exited with exit code 1",
            ExitKind::Quit => "exited with exit code 2",
            ExitKind::Aborted => "was terminated by signal 6: Aborted",
            ExitKind::Killed => "was terminated by signal 9: Killed",
        };
        cx.log(LogEvent::log(Message::ChildDied {
            role: kind.name(cx.shmem.settings.pg_version),
            pid: exit.pid.n,
            how,
        }));
    }
}
