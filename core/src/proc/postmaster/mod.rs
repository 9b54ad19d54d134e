//! The parent of all processes: starts them, hears of their deaths, and begins anew after a crash. Mirrors
//! postmaster.c. It touches shared memory only to replace it and to read the flags that children set.

mod boot;
mod children;

use crate::call::{Exit, LogEvent, Message, Poll, Signal, SqlState, Wait, Yield};
use crate::shmem::{PmSignal, Shmem};
use crate::sys::{Cx, Fork};
use boot::Boot;
use children::Children;

/// `PMState`
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
    /// Everybody was told to die at once.
    WaitDeadEnd,
}

/// What the postmaster is up to once all children are gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Ending {
    /// Start again with fresh shared memory.
    Reinitialize,
    /// Immediate shutdown.
    Shutdown,
    /// The startup process failed by itself: starting again would fail again.
    StartupFailed,
}

/// The postmaster.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Postmaster {
    state: PmState,
    boot: Option<Boot>,
    children: Children,
    ending: Option<Ending>,
    /// `FatalError`: recovering from a crash of a child.
    fatal_error: bool,
    /// `WalReceiverRequested`: kept until a walreceiver was really started.
    walreceiver_requested: bool,
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
            ending: None,
            fatal_error: false,
            walreceiver_requested: false,
        }
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> PmState {
        self.state
    }

    /// One turn of `ServerLoop`, or a part of the start.
    pub fn step(&mut self, cx: &mut Cx<'_>) -> Yield {
        if let Some(boot) = &mut self.boot {
            match boot.poll(cx) {
                Poll::Yield(how) => return how,
                Poll::Ready(Err(e)) => return Yield::Exit(Exit::Fatal(e.in_auxiliary_process())),
                Poll::Ready(Ok(control)) => {
                    *cx.shmem = Shmem::new(cx.shmem.settings.clone(), control);
                    cx.shmem.procs.attach(cx.me, crate::shmem::Role::Postmaster);
                    self.boot = None;
                    self.start_children(cx);
                    return Yield::Again("PostmasterMain");
                }
            }
        }
        cx.reset_latch();
        if cx.take_signal(Signal::Quit) {
            cx.log(LogEvent::log(Message::ShutdownRequest("immediate")));
            self.end_all(cx, Ending::Shutdown);
        }
        while let Some(exit) = cx.take_child_exit() {
            self.reap(cx, exit);
        }
        self.process_pm_signals(cx);
        while let Some(conn) = cx.accept() {
            let refusal = self.refusal(cx);
            let child = cx.fork(Fork::Backend(conn, refusal));
            self.children.add_backend(child);
        }
        if let Some(ending) = self.ending.filter(|_| self.children.is_empty()) {
            return self.all_gone(cx, ending);
        }
        self.launch_missing(cx);
        Yield::Wait(Wait::latch(
            Some(cx.now.mono.after_ms(60_000)),
            "ServerLoop",
        ))
    }

    /// `PM_NO_CHILDREN`
    fn all_gone(&mut self, cx: &mut Cx<'_>, ending: Ending) -> Yield {
        match ending {
            Ending::Reinitialize => {
                cx.log(LogEvent::log(Message::Reinitializing));
                *self = Self {
                    fatal_error: true,
                    ..Self::new()
                };
                Yield::Again("PostmasterStateMachine")
            }
            Ending::Shutdown => {
                cx.log(LogEvent::log(Message::ShutDown));
                Yield::Exit(Exit::Normal)
            }
            Ending::StartupFailed => {
                let event = LogEvent::fatal(SqlState::INTERNAL, Message::StartupFailed);
                Yield::Exit(Exit::Fatal(event))
            }
        }
    }

    /// `canAcceptConnections`: why a connection is refused now, if it is.
    fn refusal(&self, cx: &Cx<'_>) -> Option<LogEvent> {
        let message = match self.state {
            PmState::Run | PmState::HotStandby => {
                let settings = &cx.shmem.settings;
                let room = 2 * (settings.max_connections + settings.max_wal_senders) as usize;
                if self.children.backends() < room {
                    return None;
                }
                return Some(LogEvent::fatal(
                    SqlState::TOO_MANY_CONNECTIONS,
                    Message::TooManyClients,
                ));
            }
            PmState::WaitDeadEnd if self.ending == Some(Ending::Shutdown) => Message::ShuttingDown,
            _ if self.fatal_error => Message::InRecoveryMode,
            PmState::Recovery => Message::NotYetAccepting,
            PmState::Init | PmState::Startup | PmState::WaitDeadEnd => Message::StartingUp,
        };
        Some(LogEvent::fatal(SqlState::CANNOT_CONNECT_NOW, message))
    }

    /// `process_pm_pmsignal`. A signal that comes in another state is lost, but for the walreceiver's.
    fn process_pm_signals(&mut self, cx: &mut Cx<'_>) {
        let ctl = &mut cx.shmem.postmaster;
        if ctl.take(PmSignal::RecoveryStarted) && self.state == PmState::Startup {
            self.state = PmState::Recovery;
            self.fatal_error = false;
        }
        if ctl.take(PmSignal::BeginHotStandby) && self.state == PmState::Recovery {
            self.state = PmState::HotStandby;
            cx.log(LogEvent::log(Message::ReadyForReadOnly));
        }
        if cx.shmem.postmaster.take(PmSignal::StartWalReceiver) {
            self.walreceiver_requested = true;
        }
    }
}
