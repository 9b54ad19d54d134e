//! The parent of all processes: starts them, hears of their deaths, stops them, and begins anew
//! after a crash. Mirrors postmaster.c. It touches shared memory only to replace it, to read the
//! flags that children set, and to let new settings take effect.

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

/// After so many seconds children that do not obey a SIGQUIT are killed
/// (`SIGKILL_CHILDREN_AFTER_SECS`).
const SIGKILL_CHILDREN_AFTER_S: i64 = 5;

/// `PMState`, in the order and with the names of 18; 15 has fewer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PmState {
    /// Nothing runs yet.
    Init,
    /// The startup process runs, and has not begun to replay.
    Startup,
    /// It replays.
    Recovery,
    /// It replays, and readers are let in.
    HotStandby,
    /// Normal operation.
    Run,
    /// Those that may write WAL are about to be told to end.
    StopBackends,
    /// Until they are gone.
    WaitBackends,
    /// The checkpointer writes the shutdown checkpoint. `PM_SHUTDOWN` in 15.
    WaitXlogShutdown,
    /// Until the walsenders have sent it. `PM_SHUTDOWN_2` in 15.
    WaitXlogArchival,
    /// 18: until the I/O workers are gone, of which there are none.
    WaitIoWorkers,
    /// 18: until the checkpointer is gone.
    WaitCheckpointer,
    /// Until every process is gone; no connection is taken any more.
    WaitDeadEnd,
    /// No process is left.
    NoChildren,
}

/// What was asked of the server. A more severe request replaces a milder one.
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
    /// It was told to die because another process crashed: its end tells nothing about itself.
    Signaled,
    /// It died by itself: starting again would fail again.
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
    /// `FatalError`: recovering from a crash of a child.
    fatal_error: bool,
    /// `AbortStartTime`: when children were told to die at once.
    abort_start: Option<TimestampTz>,
    /// `reachedConsistency`, which only words a refusal.
    consistent: bool,
    /// `WalReceiverRequested`: kept until a walreceiver was really started.
    walreceiver_requested: bool,
    leave: Option<Leave>,
}

impl Default for Postmaster {
    fn default() -> Self {
        Self::new()
    }
}

impl Postmaster {
    /// A postmaster that has read nothing yet.
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

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> PmState {
        self.state
    }

    /// One turn of `ServerLoop`, or a part of the start or of the end.
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

    /// One turn of `ServerLoop`. Before 16 handlers do the work: of signals that wait together
    /// Linux delivers the lower number first, and SIGUSR1 is lower than SIGCHLD.
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
        Yield::Wait(Wait::latch(Some(self.wake_at(cx)), Place::ServerLoop))
    }

    /// What runs from the beginning.
    fn start_children(&mut self, cx: &mut Cx<'_>) {
        self.state = PmState::Startup;
        if !cx.kernel.walsenders_only {
            self.fork(cx, Fork::Checkpointer, Kind::Checkpointer);
        }
        self.fork(cx, Fork::Startup, Kind::Startup);
        self.startup = StartupStatus::Running;
        // Crash recovery has begun: no process is waited for any more.
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
        // A request that comes before the last walreceiver was reaped is kept: dropped, it would
        // not be repeated soon.
        if wanted && recovering && !self.children.has(Kind::WalReceiver) {
            self.fork(cx, Fork::WalReceiver, Kind::WalReceiver);
            self.walreceiver_requested = false;
        }
    }

    fn fork(&mut self, cx: &mut Cx<'_>, fork: Fork, kind: Kind) {
        let pid = cx.fork(fork);
        self.children.add(pid, kind);
    }

    /// `PM_NO_CHILDREN`: the end, or a new beginning.
    fn no_children(&mut self, cx: &mut Cx<'_>) -> Yield {
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
