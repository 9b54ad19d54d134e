//! The children: who runs, who is missing, what a death means. Mirrors reaper (process_pm_child_exit),
//! HandleChildCrash and MaybeStartWalReceiver.

use super::{Ending, PmState, Postmaster};
use crate::base::Pid;
use crate::call::{LogEvent, Message, Signal};
use crate::shmem::Role;
use crate::sys::{ChildExit, Cx, ExitKind, Fork};
use alloc::collections::BTreeSet;

/// Who runs.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Children {
    startup: Option<Pid>,
    checkpointer: Option<Pid>,
    walwriter: Option<Pid>,
    walreceiver: Option<Pid>,
    backends: BTreeSet<Pid>,
}

impl Children {
    pub(super) fn add_backend(&mut self, pid: Pid) {
        self.backends.insert(pid);
    }

    pub(super) fn backends(&self) -> usize {
        self.backends.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    fn all(&self) -> impl Iterator<Item = Pid> {
        let few = [
            self.startup,
            self.checkpointer,
            self.walwriter,
            self.walreceiver,
        ];
        few.into_iter()
            .flatten()
            .chain(self.backends.iter().copied())
    }

    fn remove(&mut self, pid: Pid) {
        for child in [
            &mut self.startup,
            &mut self.checkpointer,
            &mut self.walwriter,
            &mut self.walreceiver,
        ] {
            if *child == Some(pid) {
                *child = None;
            }
        }
        self.backends.remove(&pid);
    }
}

impl Postmaster {
    /// What runs from the beginning.
    pub(super) fn start_children(&mut self, cx: &mut Cx<'_>) {
        self.state = PmState::Startup;
        self.children.checkpointer = Some(cx.fork(Fork::Checkpointer));
        self.children.startup = Some(cx.fork(Fork::Startup));
    }

    /// `LaunchMissingBackgroundProcesses`
    pub(super) fn launch_missing(&mut self, cx: &mut Cx<'_>) {
        if self.ending.is_some() {
            return;
        }
        if self.state == PmState::Run && self.children.walwriter.is_none() {
            self.children.walwriter = Some(cx.fork(Fork::WalWriter));
        }
        let recovering = matches!(
            self.state,
            PmState::Startup | PmState::Recovery | PmState::HotStandby
        );
        // A request that comes before the last walreceiver was reaped is kept: dropped, it would never be repeated.
        if self.walreceiver_requested && recovering && self.children.walreceiver.is_none() {
            self.children.walreceiver = Some(cx.fork(Fork::WalReceiver));
            self.walreceiver_requested = false;
        }
    }

    /// A child has ended.
    pub(super) fn reap(&mut self, cx: &mut Cx<'_>, exit: ChildExit) {
        self.children.remove(exit.pid);
        if self.ending.is_some() {
            return;
        }
        match (exit.role, exit.kind) {
            (Role::Startup, ExitKind::Normal) => {
                self.state = PmState::Run;
                self.fatal_error = false;
                cx.log(LogEvent::log(Message::ReadyForConnections));
            }
            (Role::Startup, ExitKind::Fatal | ExitKind::Crash) => {
                self.report(cx, exit);
                self.end_all(cx, Ending::StartupFailed);
            }
            (
                Role::WalReceiver | Role::Backend | Role::WalSender,
                ExitKind::Normal | ExitKind::Fatal,
            )
            | (Role::WalWriter, ExitKind::Normal) => {}
            (Role::Checkpointer, ExitKind::Normal | ExitKind::Fatal)
            | (Role::WalWriter, ExitKind::Fatal)
            | (_, ExitKind::Crash)
            | (Role::Postmaster, _) => {
                self.report(cx, exit);
                self.end_all(cx, Ending::Reinitialize);
            }
        }
    }

    fn report(&self, cx: &mut Cx<'_>, exit: ChildExit) {
        let how = match exit.kind {
            ExitKind::Normal => "exited with exit code 0",
            ExitKind::Fatal => "exited with exit code 1",
            ExitKind::Crash => "was terminated",
        };
        let role = exit.role.name();
        cx.log(LogEvent::log(Message::ChildDied {
            role,
            pid: exit.pid.n,
            how,
        }));
    }

    /// `HandleChildCrash`, and immediate shutdown: everybody dies at once, nobody cleans up.
    pub(super) fn end_all(&mut self, cx: &mut Cx<'_>, ending: Ending) {
        if self.ending.is_none() && ending != Ending::Shutdown {
            cx.log(LogEvent::log(Message::TerminatingOthers));
        }
        let restart = ending != Ending::Reinitialize || cx.shmem.settings.restart_after_crash;
        let ending = if restart { ending } else { Ending::Shutdown };
        // A more severe reason replaces a milder one.
        let kept = self.ending.filter(|old| *old != Ending::Reinitialize);
        self.ending = Some(kept.unwrap_or(ending));
        self.state = PmState::WaitDeadEnd;
        for child in self.children.all() {
            cx.kill(child, Signal::Quit);
        }
    }
}
