//! Handshake between the startup process and the walreceiver. Mirrors `WalRcvData` of
//! walreceiver.h.

use crate::base::{Lsn, Pid, TimelineId, TimestampTz};
use alloc::string::String;

/// `WalRcvState`
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum WalRcvState {
    /// Not running.
    #[default]
    Stopped,
    /// Requested, but not yet running.
    Starting,
    /// Connecting to the upstream. Since 19; before, this is part of `Streaming`.
    Connecting,
    /// Streaming, or before 19 also connecting.
    Streaming,
    /// Has stopped streaming and waits for instructions.
    Waiting,
    /// Was told to start streaming again.
    Restarting,
    /// Was told to stop.
    Stopping,
}

/// The state of the walreceiver. PostgreSQL guards it with a spinlock that is never held across a
/// wait.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct WalRcv {
    /// The walreceiver, while it runs.
    pub pid: Option<Pid>,
    /// The state of the handshake.
    pub state: WalRcvState,
    /// When streaming was requested, in Unix seconds.
    pub start_time: i64,
    /// The requested start, a segment boundary.
    pub receive_start: Lsn,
    /// The requested timeline.
    pub receive_start_tli: TimelineId,
    /// `flushedUpto`: WAL is received and flushed up to here.
    pub flushed_upto: Lsn,
    /// `receivedTLI`
    pub received_tli: TimelineId,
    /// Start of the last chunk that was flushed.
    pub latest_chunk_start: Lsn,
    /// `writtenUpto`: WAL is received and written up to here.
    pub written_upto: Lsn,
    /// Send time in the upstream's last message.
    pub last_send_time: TimestampTz,
    /// Receipt time of the upstream's last message.
    pub last_receipt_time: TimestampTz,
    /// Last `walEnd` in a message of the upstream.
    pub latest_wal_end: Lsn,
    /// Send time of the message that last advanced `latest_wal_end`.
    pub latest_wal_end_time: TimestampTz,
    /// Host and port of the upstream.
    pub conninfo: Option<(String, u16)>,
    /// `slotname`: the slot on the upstream; empty if none is used.
    pub slot_name: String,
    /// The startup process has requested a status update.
    pub force_reply: bool,
    /// Number of walreceivers that this server has started. For marks and reports only.
    pub starts: u32,
}

impl WalRcv {
    /// `WALRCV_STARTUP_TIMEOUT` in seconds: a walreceiver that takes longer to start is given up.
    pub const STARTUP_TIMEOUT_S: i64 = 10;

    /// `WalRcvStreaming`. The caller must call [`WalRcv::expire_launch`] first.
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

    /// Gives up a walreceiver that was requested more than ten seconds ago and has not started.
    /// Returns whether it did.
    pub fn expire_launch(&mut self, now: TimestampTz) -> bool {
        let late = now.unix_seconds() - self.start_time > Self::STARTUP_TIMEOUT_S;
        let lost = self.state == WalRcvState::Starting && late;
        if lost {
            self.state = WalRcvState::Stopped;
        }
        lost
    }
}
