//! One entry per walsender. Mirrors `WalSnd` of walsender_private.h.

use crate::base::{ConnId, Lsn, Pid, TimestampTz};

/// `WalSndState`
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum WalSndState {
    /// Between commands.
    #[default]
    Startup,
    /// Sending WAL to a standby that is behind.
    Catchup,
    /// The standby has once caught up.
    Streaming,
    /// Was told to end after sending all WAL.
    Stopping,
}

/// The state that a walsender publishes. Only this walsender writes it.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct WalSnd {
    /// The walsender; `None` if the entry is free.
    pub pid: Option<Pid>,
    /// Its connection. For checkers and reports only.
    pub conn: Option<ConnId>,
    /// Its state.
    pub state: WalSndState,
    /// `sentPtr`: end of the WAL that was sent on the connection.
    pub sent: Lsn,
    /// The standby's reported write position.
    pub write: Lsn,
    /// The standby's reported flush position.
    pub flush: Lsn,
    /// The standby's reported apply position.
    pub apply: Lsn,
    /// The standby's clock in its last status update.
    pub reply_time: TimestampTz,
}
