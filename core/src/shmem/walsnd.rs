//! One entry per walsender. Mirrors `WalSnd` of walsender_private.h.

use super::touched::Check;
use crate::base::{ConnId, Lsn, Pid, TimestampTz};
use alloc::vec::Vec;

/// `WalSndState`
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum WalSndState {
    /// Between commands.
    #[default]
    Startup,
    /// The walsender sends WAL to a standby that has not yet caught up.
    Catchup,
    /// The standby has caught up at least once.
    Streaming,
    /// The walsender was told to end after it has sent all WAL.
    Stopping,
}

/// The state that a walsender publishes. No other process writes it.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct WalSnd {
    /// The walsender. `None` if the entry is free.
    pub pid: Option<Pid>,
    /// The connection of the walsender. Only the simulator's checkers and reports use it.
    pub conn: Option<ConnId>,
    /// Its state.
    pub state: WalSndState,
    /// `sentPtr`: the end of the WAL that was sent on the connection.
    pub sent: Lsn,
    /// The write position that the standby last reported.
    pub write: Lsn,
    /// The standby's reported flush position.
    pub flush: Lsn,
    /// The standby's reported apply position.
    pub apply: Lsn,
    /// The time of the standby's clock in its last status update.
    pub reply_time: TimestampTz,
}

impl WalSnd {
    /// `InitWalSenderSlot` and `WalSndKill`: a free entry shows nothing of its last owner. What the
    /// standby reports is not checked, because the standby may report anything.
    fn check(&self) {
        assert_eq!(self.pid.is_some(), self.conn.is_some(), "{self:?}");
        let free = self.pid.is_none();
        assert!(!free || self.state == WalSndState::Startup, "{self:?}");
        assert!(!free || !self.sent.is_valid(), "{self:?}");
        assert!(!free || !self.flush.is_valid(), "{self:?}");
    }
}

impl Check for Vec<WalSnd> {
    fn check(&self) {
        for (at, entry) in self.iter().enumerate() {
            entry.check();
            let same = |other: &WalSnd| other.pid == entry.pid;
            let twice = entry.pid.is_some() && self[..at].iter().any(same);
            assert!(!twice, "{:?} has two entries", entry.pid);
        }
    }
}
