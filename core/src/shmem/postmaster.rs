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
}

/// The flags that are set and not yet seen.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct PostmasterCtl {
    flags: [bool; 3],
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
