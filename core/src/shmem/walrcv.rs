//! State that the startup process and the walreceiver share. Mirrors `WalRcvData` of walreceiver.h.

use super::touched::Check;
use crate::base::{Lsn, Pid, TimelineId, TimestampTz};
use alloc::string::String;

/// `WalRcvState`
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum WalRcvState {
    /// Not running.
    #[default]
    Stopped,
    /// The startup process has requested a walreceiver that does not run yet.
    Starting,
    /// Since 19: the walreceiver is connecting to the upstream. Before 19 the state is `Streaming`
    /// while it connects.
    Connecting,
    /// The walreceiver is streaming. Before 19 it may still be connecting.
    Streaming,
    /// The walreceiver has stopped streaming. It waits for instructions.
    Waiting,
    /// The walreceiver was told to start streaming again.
    Restarting,
    /// The walreceiver was told to stop.
    Stopping,
}

impl WalRcvState {
    /// The name of the state in `pg_stat_wal_receiver`: `WalRcvGetStateString`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::Waiting => "waiting",
            Self::Restarting => "restarting",
            Self::Stopping => "stopping",
        }
    }
}

/// The state of the walreceiver. In PostgreSQL a spinlock guards this state. No process waits while
/// it holds the spinlock.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct WalRcv {
    /// The walreceiver. `None` while there is none.
    pub pid: Option<Pid>,
    /// The state of the walreceiver (`walRcvState`).
    pub state: WalRcvState,
    /// When streaming was requested, in Unix seconds.
    pub start_time: i64,
    /// The requested start of streaming, which is a segment boundary.
    pub receive_start: Lsn,
    /// The requested timeline.
    pub receive_start_tli: TimelineId,
    /// `flushedUpto`: the walreceiver has received and flushed WAL up to this position.
    pub flushed_upto: Lsn,
    /// `receivedTLI`
    pub received_tli: TimelineId,
    /// The start of the last chunk of WAL that was flushed.
    pub latest_chunk_start: Lsn,
    /// `writtenUpto`: the walreceiver has received and written WAL up to this position.
    pub written_upto: Lsn,
    /// The send time in the last message of the upstream.
    pub last_send_time: TimestampTz,
    /// The time at which the last message of the upstream arrived.
    pub last_receipt_time: TimestampTz,
    /// The last `walEnd` that the upstream has sent.
    pub latest_wal_end: Lsn,
    /// The send time of the message that last advanced `latest_wal_end`.
    pub latest_wal_end_time: TimestampTz,
    /// Host and port of the upstream.
    pub conninfo: Option<(String, u16)>,
    /// `slotname`: the slot on the upstream. Empty if the walreceiver uses no slot.
    pub slot_name: String,
    /// Whether the startup process has requested a status update.
    pub force_reply: bool,
    /// The number of walreceivers that this server has started. Only the simulator uses this
    /// number.
    pub starts: u32,
}

impl Check for WalRcv {
    fn check(&self) {
        // `WalReceiverMain` and `WalRcvDie` change the state and the process together.
        let stopped = matches!(self.state, WalRcvState::Stopped | WalRcvState::Starting);
        assert_eq!(self.pid.is_none(), stopped, "{:?}", self.state);
        assert!(self.pid.is_none() || self.starts > 0, "{:?}", self.pid);
        // `RequestXLogStreaming` writes down the upstream with the request.
        let named = self.conninfo.is_some();
        assert!(named || !self.is_streaming(), "{:?}", self.state);
        assert!(named || self.slot_name.is_empty(), "{:?}", self.slot_name);
    }
}

impl WalRcv {
    /// `WALRCV_STARTUP_TIMEOUT` in seconds. If a walreceiver takes longer to start, the request is
    /// given up.
    pub const STARTUP_TIMEOUT_S: i64 = 10;

    /// `WalRcvStreaming`. The caller must first call [`WalRcv::expire_launch`].
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        matches!(
            self.state,
            WalRcvState::Connecting
                | WalRcvState::Streaming
                | WalRcvState::Starting
                | WalRcvState::Restarting
        )
    }

    /// Gives up the request if a walreceiver was requested more than ten seconds ago and has not
    /// started. Returns whether the request was given up.
    pub fn expire_launch(&mut self, now: TimestampTz) -> bool {
        let late = now.unix_seconds() - self.start_time > Self::STARTUP_TIMEOUT_S;
        let lost = self.state == WalRcvState::Starting && late;
        if lost {
            assert_eq!(self.pid, None, "a walreceiver has started");
            self.state = WalRcvState::Stopped;
        }
        lost
    }
}
