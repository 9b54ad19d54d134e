//! The postmaster: starts all other processes, handles their exits, stops them, and restarts them
//! after a crash. Mirrors postmaster.c. The postmaster uses shared memory only to reset it, to read
//! PMSignal flags, and to apply new settings.

mod boot;
mod children;
mod connections;
mod exits;
mod leave;
mod machine;
mod reload;
mod requests;

use crate::base::{PgVersion, TimestampTz};
use crate::call::{Exit, Place, Poll, Wait, Yield};
use crate::shmem::{Role, Shmem};
use crate::sys::{Cx, Fork};
use boot::Boot;
use children::{Children, Kind};
use leave::Leave;
use machine::writes_wal;

/// The number of seconds between SIGQUIT and SIGKILL for children that have not exited
/// (`SIGKILL_CHILDREN_AFTER_SECS`).
const SIGKILL_CHILDREN_AFTER_S: i64 = 5;

/// `PMState`, with the order and names of version 18. Earlier versions have fewer states.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PmState {
    /// No child is running yet.
    Init,
    /// The startup process runs, and has not yet started replay.
    Startup,
    /// Replaying WAL.
    Recovery,
    /// Replaying WAL, while sessions can read.
    HotStandby,
    /// Normal operation.
    Run,
    /// The postmaster is about to terminate the processes that can write WAL.
    StopBackends,
    /// Waiting until the processes that can write WAL have ended.
    WaitBackends,
    /// The checkpointer writes the shutdown checkpoint. `PM_SHUTDOWN` in 15.
    WaitXlogShutdown,
    /// Waiting until walsenders have sent the shutdown checkpoint. `PM_SHUTDOWN_2` in 15.
    WaitXlogArchival,
    /// Since 18: waiting for I/O workers. walsim has none.
    WaitIoWorkers,
    /// Since 18: waiting for the checkpointer.
    WaitCheckpointer,
    /// Waiting for the remaining children. No connection is accepted.
    WaitDeadEnd,
    /// All children have exited.
    NoChildren,
}

impl PmState {
    /// The name of the state in postmaster.c.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "PM_INIT",
            Self::Startup => "PM_STARTUP",
            Self::Recovery => "PM_RECOVERY",
            Self::HotStandby => "PM_HOT_STANDBY",
            Self::Run => "PM_RUN",
            Self::StopBackends => "PM_STOP_BACKENDS",
            Self::WaitBackends => "PM_WAIT_BACKENDS",
            Self::WaitXlogShutdown => "PM_WAIT_XLOG_SHUTDOWN",
            Self::WaitXlogArchival => "PM_WAIT_XLOG_ARCHIVAL",
            Self::WaitIoWorkers => "PM_WAIT_IO_WORKERS",
            Self::WaitCheckpointer => "PM_WAIT_CHECKPOINTER",
            Self::WaitDeadEnd => "PM_WAIT_DEAD_END",
            Self::NoChildren => "PM_NO_CHILDREN",
        }
    }
}

/// The requested shutdown mode. A more severe mode replaces a milder one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Shutdown {
    No,
    Smart,
    Fast,
    Immediate,
}

/// `StartupStatusEnum`
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum StartupStatus {
    NotRunning,
    Running,
    /// The postmaster signaled the startup process because another process crashed. The exit of the
    /// startup process is then not a failure.
    Signaled,
    /// The startup process failed by itself. It would fail again after a restart.
    Crashed,
}

/// The postmaster.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Postmaster {
    state: PmState,
    boot: Option<Boot>,
    children: Children,
    shutdown: Shutdown,
    startup: StartupStatus,
    /// `connsAllowed`: false during a smart shutdown.
    conns_allowed: bool,
    /// `FatalError`: whether the server is recovering from the crash of a child.
    fatal_error: bool,
    /// `AbortStartTime`: when the children were sent SIGQUIT.
    abort_start: Option<TimestampTz>,
    /// `reachedConsistency`: whether recovery is consistent. Used only to choose the error for new
    /// connections.
    consistent: bool,
    /// `WalReceiverRequested`: whether a walreceiver is requested. Stays true until a walreceiver
    /// is started.
    walreceiver_requested: bool,
    leave: Option<Leave>,
}

impl Default for Postmaster {
    fn default() -> Self {
        Self::new()
    }
}

impl Postmaster {
    /// A postmaster before its first step.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: PmState::Init,
            boot: Some(Boot::new()),
            children: Children::default(),
            shutdown: Shutdown::No,
            startup: StartupStatus::NotRunning,
            conns_allowed: true,
            fatal_error: false,
            abort_start: None,
            consistent: false,
            walreceiver_requested: false,
            leave: None,
        }
    }

    /// `WalReceiverRequested`
    #[must_use]
    pub const fn walreceiver_requested(&self) -> bool {
        self.walreceiver_requested
    }

    /// Its state.
    #[must_use]
    pub const fn state(&self) -> PmState {
        self.state
    }

    /// One iteration of `ServerLoop`, or a part of startup or exit.
    pub fn step(&mut self, cx: &mut Cx<'_>) -> Yield {
        if let Some(leave) = &mut self.leave {
            return leave.poll(cx);
        }
        if let Some(boot) = &mut self.boot {
            match boot.poll(cx) {
                Poll::Yield(how) => return how,
                Poll::Ready(Err(e)) => {
                    let event = e.in_auxiliary_process();
                    cx.log(event.clone());
                    return Yield::Exit(Exit::Fatal(event));
                }
                Poll::Ready(Ok(control)) => {
                    *cx.shmem = Shmem::new(cx.shmem.settings.clone(), control);
                    cx.shmem.procs.attach(cx.me, Role::Postmaster);
                    self.boot = None;
                    self.start_children(cx);
                    return Yield::Again(Place::PostmasterMain);
                }
            }
        }
        self.server_loop(cx)
    }

    /// One iteration of `ServerLoop`. Before 16 signal handlers do this work. Linux delivers
    /// pending signals in the order of their numbers, so SIGUSR1 is handled before SIGCHLD.
    fn server_loop(&mut self, cx: &mut Cx<'_>) -> Yield {
        cx.reset_latch();
        self.process_shutdown_request(cx);
        self.process_reload_request(cx);
        if cx.shmem.settings.pg_version < PgVersion::V16 {
            self.process_pm_signals(cx);
            self.process_child_exits(cx);
        } else {
            self.process_child_exits(cx);
            self.process_pm_signals(cx);
        }
        self.accept(cx);
        if let Some(leave) = &mut self.leave {
            return leave.poll(cx);
        }
        if self.state == PmState::NoChildren {
            return self.no_children(cx);
        }
        self.launch_missing(cx);
        self.kill_the_recalcitrant(cx);
        self.check(cx);
        Yield::Wait(Wait::latch(Some(self.wake_at(cx)), Place::ServerLoop))
    }

    /// Starts the children that a server starts first.
    fn start_children(&mut self, cx: &mut Cx<'_>) {
        assert!(self.children.is_empty(), "{:?}", self.children);
        assert_eq!(self.startup, StartupStatus::NotRunning);
        self.state = PmState::Startup;
        if !cx.kernel.walsenders_only {
            self.fork(cx, Fork::Checkpointer, Kind::Checkpointer);
        }
        self.fork(cx, Fork::Startup, Kind::Startup);
        self.startup = StartupStatus::Running;
        // `PostmasterMain`: `Assert(StartupPID != 0)`
        assert!(self.children.has(Kind::Startup), "{:?}", self.children);
        // The startup process runs and all old processes have exited, so no child is left to kill.
        self.abort_start = None;
    }

    /// `LaunchMissingBackgroundProcesses`
    fn launch_missing(&mut self, cx: &mut Cx<'_>) {
        if cx.kernel.walsenders_only {
            return;
        }
        let recovering = matches!(
            self.state,
            PmState::Startup | PmState::Recovery | PmState::HotStandby
        );
        let running = self.state == PmState::Run;
        if (recovering || running) && !self.children.has(Kind::Checkpointer) {
            self.fork(cx, Fork::Checkpointer, Kind::Checkpointer);
        }
        if running && !self.children.has(Kind::WalWriter) {
            self.fork(cx, Fork::WalWriter, Kind::WalWriter);
        }
        let wanted = self.walreceiver_requested && self.shutdown <= Shutdown::Smart;
        // A request for a walreceiver can arrive before the previous walreceiver is reaped. The
        // request then stays pending. If it were dropped, the startup process would repeat it only
        // after a long wait.
        if wanted && recovering && !self.children.has(Kind::WalReceiver) {
            self.fork(cx, Fork::WalReceiver, Kind::WalReceiver);
            self.walreceiver_requested = false;
        }
    }

    fn fork(&mut self, cx: &mut Cx<'_>, fork: Fork, kind: Kind) {
        let role = cx.shmem.procs.get(cx.me).map(|proc| proc.role);
        assert_eq!(role, Some(Role::Postmaster), "{kind:?}");
        assert!(self.state < PmState::WaitDeadEnd, "{:?}", self.state);
        let pid = cx.fork(fork);
        self.children.add(pid, kind);
    }

    /// What is true of the state and the children before each sleep.
    fn check(&mut self, cx: &Cx<'_>) {
        let state = self.state;
        let started = matches!(
            self.startup,
            StartupStatus::Running | StartupStatus::Signaled
        );
        let (startup, walwriter) = (Kind::Startup, Kind::WalWriter);
        assert_eq!(self.children.has(startup), started, "{:?}", self.startup);
        assert_ne!(state, PmState::Init, "the children are started");
        // PostmasterStateMachine passes this state at once.
        assert_ne!(state, PmState::StopBackends);
        assert!(
            state >= PmState::Run || started,
            "{state:?} without {startup:?}"
        );
        assert!(
            state != PmState::Run || !started,
            "{startup:?} in {state:?}"
        );
        assert!(state >= PmState::Run || !self.children.has(walwriter));
        let stops = (PmState::WaitXlogShutdown..PmState::WaitDeadEnd).contains(&state);
        assert!(!stops || self.shutdown > Shutdown::No, "{state:?}");
        assert!(
            !stops || self.children.count(cx, writes_wal) == 0,
            "{state:?}"
        );
        assert!(self.conns_allowed || self.shutdown > Shutdown::No);
        let aborts = self.fatal_error || self.shutdown >= Shutdown::Immediate;
        assert!(self.abort_start.is_none() || aborts, "{state:?}");
    }

    /// `PM_NO_CHILDREN`: exits, or restarts all processes after a crash.
    fn no_children(&mut self, cx: &mut Cx<'_>) -> Yield {
        assert!(self.children.is_empty(), "{:?}", self.children);
        assert!(self.fatal_error || self.shutdown > Shutdown::No, "no cause");
        match self.verdict(cx) {
            Some(leave) => self.leave.insert(leave).poll(cx),
            None => {
                *self = Self {
                    boot: Some(Boot::again()),
                    fatal_error: true,
                    ..Self::new()
                };
                Yield::Again(Place::PostmasterStateMachine)
            }
        }
    }
}

#[cfg(test)]
mod tests;
