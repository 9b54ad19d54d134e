//! Handles requests of operators and children. Mirrors pmdie (process_pm_shutdown_request since 16)
//! and sigusr1_handler (process_pm_pmsignal).

use super::children::Kind;
use super::{PmState, Postmaster, Shutdown};
use crate::base::{Bug, PgVersion};
use crate::call::{LogEvent, Message, Signal};
use crate::shmem::PmSignal;
use crate::sys::Cx;

impl Postmaster {
    /// `pmdie`: of several pending shutdown requests, the most severe one counts.
    pub(super) fn process_shutdown_request(&mut self, cx: &mut Cx<'_>) {
        let asked = [
            (Signal::Quit, Shutdown::Immediate, "immediate"),
            (Signal::Int, Shutdown::Fast, "fast"),
            (Signal::Term, Shutdown::Smart, "smart"),
        ];
        for (signal, shutdown, name) in asked {
            if cx.take_signal(signal) && self.shutdown < shutdown {
                self.shutdown = shutdown;
                cx.log(LogEvent::log(Message::ShutdownRequest(name)));
                self.begin_shutdown(cx);
                self.state_machine(cx);
            }
        }
    }

    fn begin_shutdown(&mut self, cx: &mut Cx<'_>) {
        let open = matches!(self.state, PmState::Run | PmState::HotStandby);
        let closed = matches!(self.state, PmState::Startup | PmState::Recovery);
        match self.shutdown {
            Shutdown::No => unreachable!("only called when there is a request"),
            // Existing sessions may continue until their clients disconnect.
            Shutdown::Smart if open => self.conns_allowed = false,
            Shutdown::Smart | Shutdown::Fast if closed => self.state = PmState::StopBackends,
            Shutdown::Fast if open => {
                cx.log(LogEvent::log(Message::AbortingTransactions));
                self.state = PmState::StopBackends;
            }
            Shutdown::Smart | Shutdown::Fast => {}
            Shutdown::Immediate => {
                self.terminate_children(cx, Signal::Quit);
                self.state = PmState::WaitBackends;
                self.abort_start = Some(cx.now.wall);
            }
        }
    }

    /// `process_pm_pmsignal`: ignores a signal that the current state does not expect. Only the
    /// request to start a walreceiver is kept.
    pub(super) fn process_pm_signals(&mut self, cx: &mut Cx<'_>) {
        let running = self.shutdown == Shutdown::No;
        let mut take = |signal| cx.shmem.postmaster.take(signal);
        let started = take(PmSignal::RecoveryStarted);
        let consistent = take(PmSignal::RecoveryConsistent);
        let open = take(PmSignal::BeginHotStandby);
        let receiver = take(PmSignal::StartWalReceiver);
        let advance = take(PmSignal::AdvanceStateMachine);
        let shut_down = take(PmSignal::XlogIsShutdown);
        if started && running && self.state == PmState::Startup {
            let leaves = self.leave.is_some();
            assert!(leaves || self.children.has(Kind::Startup), "it was reaped");
            self.state = PmState::Recovery;
            self.fatal_error = false;
            self.abort_start = None;
            self.consistent = false;
        }
        if consistent && running && self.state == PmState::Recovery {
            let version = cx.shmem.settings.pg_version;
            assert!(version >= PgVersion::V18, "{version:?}");
            self.consistent = true;
        }
        if open && running && self.state == PmState::Recovery {
            assert!(cx.shmem.settings.hot_standby, "hot standby is off");
            self.state = PmState::HotStandby;
            self.conns_allowed = true;
            cx.log(LogEvent::log(Message::ReadyForReadOnly));
        }
        if receiver {
            // Up to 9.6 a request was dropped while the previous walreceiver was dead but not yet
            // reaped. The startup process repeated the request only after WALRCV_STARTUP_TIMEOUT.
            let dropped = self.children.has(Kind::WalReceiver)
                && cx.planted(Bug::LostWalreceiverStartRequest);
            self.walreceiver_requested |= !dropped;
        }
        if shut_down {
            self.checkpointer_reports(cx);
        }
        if advance || shut_down {
            self.state_machine(cx);
        }
    }

    /// Since 18: called when the shutdown checkpoint was written.
    fn checkpointer_reports(&mut self, cx: &mut Cx<'_>) {
        assert!(
            cx.shmem.settings.pg_version >= PgVersion::V18,
            "before 18 the exit of the checkpointer is the signal"
        );
        if self.state == PmState::WaitXlogShutdown {
            self.xlog_is_shut_down(cx);
        } else if !self.fatal_error && self.shutdown != Shutdown::Immediate {
            cx.log(LogEvent::log(Message::UnexpectedXlogShutdown));
            self.handle_fatal_error(cx);
        }
    }
}
