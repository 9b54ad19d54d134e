//! What children tell the postmaster (`PMSignalState` of pmsignal.c): flags that coalesce.

/// The reason of a PMSignal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PmSignal {
    /// `PMSIGNAL_RECOVERY_STARTED`
    RecoveryStarted,
    /// `PMSIGNAL_BEGIN_HOT_STANDBY`
    BeginHotStandby,
    /// `PMSIGNAL_START_WALRECEIVER`
    StartWalReceiver,
    /// `PMSIGNAL_ADVANCE_STATE_MACHINE`: a backend has become a walsender, for which a smart
    /// shutdown does not wait.
    AdvanceStateMachine,
    /// `PMSIGNAL_RECOVERY_CONSISTENT`, since 18.
    RecoveryConsistent,
    /// `PMSIGNAL_XLOG_IS_SHUTDOWN`, since 18: the shutdown checkpoint is durable.
    XlogIsShutdown,
}

/// The flags that are set and not yet seen.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct PostmasterCtl {
    flags: [bool; 6],
}

impl PostmasterCtl {
    /// `SendPostmasterSignal`; `Cx::signal_postmaster` also sets the postmaster's latch.
    pub fn send(&mut self, signal: PmSignal) {
        self.flags[signal as usize] = true;
    }

    /// `CheckPostmasterSignal`: true once per sending, or per several that came together.
    pub fn take(&mut self, signal: PmSignal) -> bool {
        core::mem::take(&mut self.flags[signal as usize])
    }
}
