//! Shutdown of the server. Mirrors PostmasterStateMachine, and the part of ServerLoop that kills
//! children after a timeout.

use super::children::Kind;
use super::leave::Leave;
use super::{PmState, Postmaster, SIGKILL_CHILDREN_AFTER_S, Shutdown, StartupStatus};
use crate::base::{Bug, Mark, Mono, PgVersion};
use crate::call::{LogEvent, Message, Signal};
use crate::sys::{Cx, Fork};

/// The longest sleep of an idle postmaster.
const IDLE_MS: u64 = 60_000;

impl Postmaster {
    /// `PostmasterStateMachine`: advances the state as far as possible, depending on which children
    /// have exited.
    pub(super) fn state_machine(&mut self, cx: &mut Cx<'_>) {
        let open = matches!(self.state, PmState::Run | PmState::HotStandby);
        let sessions = |kind| kind == Kind::Backend;
        if open
            && !self.conns_allowed
            && self.children.count(cx, sessions) == 0
            && !cx.planted(Bug::SmartShutdownHangs)
        {
            self.state = PmState::StopBackends;
        }
        if self.state == PmState::StopBackends {
            // Walsenders continue. They must send the WAL of the processes that end now, and the
            // shutdown checkpoint.
            self.children.signal(cx, Signal::Term, writes_wal);
            self.state = PmState::WaitBackends;
        }
        if self.state == PmState::WaitBackends {
            self.wait_backends(cx);
        }
        if self.state == PmState::WaitXlogArchival {
            self.wait_xlog_archival(cx);
        }
        if self.state == PmState::WaitIoWorkers {
            self.state = PmState::WaitCheckpointer;
            self.children
                .signal(cx, Signal::Usr2, |kind| kind == Kind::Checkpointer);
        }
        if self.state == PmState::WaitCheckpointer
            && self.children.count(cx, |kind| kind != Kind::DeadEnd) == 0
        {
            self.state = PmState::WaitDeadEnd;
            self.children.signal(cx, Signal::Term, |_| true);
        }
        if self.state == PmState::WaitDeadEnd && self.children.count(cx, |_| true) == 0 {
            self.state = PmState::NoChildren;
        }
    }

    fn wait_backends(&mut self, cx: &mut Cx<'_>) {
        let version = cx.shmem.settings.pg_version;
        let at_once = self.fatal_error || self.shutdown >= Shutdown::Immediate;
        let awaited = |kind| match kind {
            Kind::Checkpointer => at_once,
            // Before 18 the postmaster waits for walsenders in a later state.
            Kind::WalSender => at_once && version >= PgVersion::V18,
            Kind::Startup | Kind::WalWriter | Kind::WalReceiver | Kind::Backend | Kind::DeadEnd => {
                writes_wal(kind)
            }
        };
        if self.children.count(cx, awaited) > 0 {
            return;
        }
        if at_once {
            self.state = PmState::WaitDeadEnd;
            // Since 18 the postmaster also signals the children that only refuse a connection.
            if version >= PgVersion::V18 {
                self.children
                    .signal(cx, Signal::Quit, |kind| kind == Kind::DeadEnd);
            }
            return;
        }
        // No process that could write WAL is left. The postmaster must signal the checkpointer now.
        // With the planted bug it does not, and waits forever.
        if self.shutdown == Shutdown::Fast && cx.planted(Bug::FastShutdownHangs) {
            return;
        }
        // Without a request, only a crash stops the children, and then all of them.
        assert!(self.shutdown > Shutdown::No, "{:?}", self.state);
        if cx.kernel.walsenders_only {
            // This server has no checkpointer and will write no WAL. The postmaster itself sends
            // walsenders the signal that a checkpointer sends before the shutdown checkpoint.
            self.children
                .signal(cx, Signal::Usr1, |kind| kind == Kind::WalSender);
            self.xlog_is_shut_down(cx);
            return;
        }
        if !self.children.has(Kind::Checkpointer) {
            self.fork(cx, Fork::Checkpointer, Kind::Checkpointer);
        }
        let order = if version < PgVersion::V18 {
            Signal::Usr2
        } else {
            Signal::Int
        };
        self.children
            .signal(cx, order, |kind| kind == Kind::Checkpointer);
        self.state = PmState::WaitXlogShutdown;
    }

    fn wait_xlog_archival(&mut self, cx: &mut Cx<'_>) {
        let version = cx.shmem.settings.pg_version;
        let awaited = |kind| match kind {
            Kind::Checkpointer => version < PgVersion::V18,
            Kind::DeadEnd => false,
            Kind::Startup
            | Kind::WalWriter
            | Kind::WalReceiver
            | Kind::Backend
            | Kind::WalSender => true,
        };
        if self.children.count(cx, awaited) == 0 {
            self.state = if version < PgVersion::V18 {
                PmState::WaitDeadEnd
            } else {
                PmState::WaitIoWorkers
            };
        }
    }

    /// Called when the shutdown checkpoint is durable. Walsenders send the remaining WAL, and end.
    pub(super) fn xlog_is_shut_down(&mut self, cx: &mut Cx<'_>) {
        assert!(self.shutdown > Shutdown::No, "{:?}", self.state);
        assert!(!self.children.has(Kind::WalWriter), "WAL may follow");
        self.children
            .signal(cx, Signal::Usr2, |kind| kind == Kind::WalSender);
        self.state = PmState::WaitXlogArchival;
    }

    /// Called when all children have exited. Returns how the postmaster ends, or `None` if it
    /// starts the children again.
    pub(super) fn verdict(&mut self, cx: &mut Cx<'_>) -> Option<Leave> {
        let failed = |message| Some(Leave::new(Some(message)));
        if self.shutdown > Shutdown::No {
            if self.fatal_error {
                cx.log(LogEvent::log(Message::AbnormalShutdown));
                return failed(Message::AbnormalShutdown);
            }
            cx.mark(match self.shutdown {
                Shutdown::No | Shutdown::Smart => Mark::ShutdownSmart,
                Shutdown::Fast => Mark::ShutdownFast,
                Shutdown::Immediate => Mark::ShutdownImmediate,
            });
            return Some(Leave::new(None));
        }
        let message = if self.startup == StartupStatus::Crashed {
            Message::StartupFailed
        } else if cx.shmem.settings.restart_after_crash {
            if cx.planted(Bug::CrashEndsServer) {
                return Some(Leave::new(None));
            }
            cx.log(LogEvent::log(Message::Reinitializing));
            return None;
        } else {
            let quoted = cx.shmem.settings.pg_version >= PgVersion::V17;
            Message::RestartOff(if quoted { "\"" } else { "" })
        };
        cx.log(LogEvent::log(message.clone()));
        failed(message)
    }

    /// Kills children that have not exited five seconds after SIGQUIT.
    pub(super) fn kill_the_recalcitrant(&mut self, cx: &mut Cx<'_>) {
        let at_once = self.fatal_error || self.shutdown >= Shutdown::Immediate;
        let Some(since) = self.abort_start.filter(|_| at_once) else {
            return;
        };
        if seconds_since(cx, since) >= SIGKILL_CHILDREN_AFTER_S {
            cx.log(LogEvent::log(Message::KillingChildren));
            self.terminate_children(cx, Signal::Kill);
            self.abort_start = None;
        }
    }

    /// `DetermineSleepTime`
    pub(super) fn wake_at(&self, cx: &Cx<'_>) -> Mono {
        let Some(since) = self.abort_start else {
            return cx.now.mono.after_ms(IDLE_MS);
        };
        let left_s = SIGKILL_CHILDREN_AFTER_S - seconds_since(cx, since);
        let left_s = u64::try_from(left_s).unwrap_or(0);
        cx.now.mono.after_ms((left_s * 1000).clamp(1, IDLE_MS))
    }
}

/// Elapsed wall time in whole seconds, as `time` returns them.
fn seconds_since(cx: &Cx<'_>, since: crate::base::TimestampTz) -> i64 {
    cx.now.wall.unix_seconds() - since.unix_seconds()
}

/// Can a process of this kind write WAL? Such processes must end before the shutdown checkpoint.
pub(super) const fn writes_wal(kind: Kind) -> bool {
    match kind {
        Kind::Startup | Kind::WalWriter | Kind::WalReceiver | Kind::Backend => true,
        Kind::Checkpointer | Kind::WalSender | Kind::DeadEnd => false,
    }
}
