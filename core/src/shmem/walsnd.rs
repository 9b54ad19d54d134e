//! One entry per walsender. Mirrors `WalSnd` of walsender_private.h.

use crate::base::{ConnId, Lsn, Pid, TimestampTz};

/// `WalSndState`
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum WalSndState {
    /// Between commands.
    #[default]
    Startup,
    /// Sending what the standby lacks.
    Catchup,
    /// Has once sent everything.
    Streaming,
    /// Told to end after everything was sent.
    Stopping,
}

/// What a walsender publishes. Only its owner writes.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct WalSnd {
    /// The owner; `None` while the entry is free.
    pub pid: Option<Pid>,
    /// Its connection; for checkers and reports alone.
    pub conn: Option<ConnId>,
    /// Where it stands.
    pub state: WalSndState,
    /// `sentPtr`: end of what was handed to the connection.
    pub sent: Lsn,
    /// Written by the standby, as it reported.
    pub write: Lsn,
    /// Fsynced by the standby, as it reported.
    pub flush: Lsn,
    /// Applied by the standby, as it reported.
    pub apply: Lsn,
    /// The standby's clock in its last report.
    pub reply_time: TimestampTz,
}
