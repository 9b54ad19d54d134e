//! Signals from children to the postmaster (`PMSignalState` of pmsignal.c). Each reason is a flag.
//! Several signals with the same reason can therefore become one.

/// The reason of a PMSignal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PmSignal {
    /// `PMSIGNAL_RECOVERY_STARTED`
    RecoveryStarted,
    /// `PMSIGNAL_BEGIN_HOT_STANDBY`
    BeginHotStandby,
    /// `PMSIGNAL_START_WALRECEIVER`
    StartWalReceiver,
    /// `PMSIGNAL_ADVANCE_STATE_MACHINE`: a backend has become a walsender. A smart shutdown does
    /// not wait for walsenders, so the postmaster must check its state.
    AdvanceStateMachine,
    /// `PMSIGNAL_RECOVERY_CONSISTENT`, since 18.
    RecoveryConsistent,
    /// `PMSIGNAL_XLOG_IS_SHUTDOWN`, since 18: the shutdown checkpoint is durable.
    XlogIsShutdown,
}

/// The flags that are set.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct PostmasterCtl {
    flags: [bool; 6],
}

impl PostmasterCtl {
    /// `SendPostmasterSignal`: only sets the flag. The caller, `Cx::signal_postmaster`, also sets
    /// the postmaster's latch.
    pub fn send(&mut self, signal: PmSignal) {
        self.flags[signal as usize] = true;
    }

    /// Whether the flag is set.
    #[must_use]
    pub const fn is_set(&self, signal: PmSignal) -> bool {
        self.flags[signal as usize]
    }

    /// `CheckPostmasterSignal`: returns and clears the flag.
    pub fn take(&mut self, signal: PmSignal) -> bool {
        core::mem::take(&mut self.flags[signal as usize])
    }
}
