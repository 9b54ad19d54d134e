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
    /// Requested, not yet there.
    Starting,
    /// Streaming, or trying to.
    Streaming,
    /// Stopped streaming, waits for orders.
    Waiting,
    /// Asked to stream again.
    Restarting,
    /// Asked to end.
    Stopping,
}

/// One per server; all fields are guarded by one lock that is never held across a wait.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct WalRcv {
    /// The walreceiver, once it runs.
    pub pid: Option<Pid>,
    /// Where the handshake stands.
    pub state: WalRcvState,
    /// When it was requested, in whole Unix seconds.
    pub start_time: i64,
    /// First byte that was requested: the start of a segment.
    pub receive_start: Lsn,
    /// On which timeline.
    pub receive_start_tli: TimelineId,
    /// `flushedUpto`: received and fsynced up to here.
    pub flushed_upto: Lsn,
    /// `receivedTLI`
    pub received_tli: TimelineId,
    /// Where the chunk began that was flushed last.
    pub latest_chunk_start: Lsn,
    /// `writtenUpto`: received and written up to here.
    pub written_upto: Lsn,
    /// Last time stamp of the sender.
    pub last_send_time: TimestampTz,
    /// When its message arrived.
    pub last_receipt_time: TimestampTz,
    /// Last `walEnd` received.
    pub latest_wal_end: Lsn,
    /// Time stamp of the message that raised it.
    pub latest_wal_end_time: TimestampTz,
    /// Where to connect.
    pub conninfo: Option<(String, u16)>,
    /// `slotname`: the slot of the upstream to stream from; empty if none.
    pub slot_name: String,
    /// The startup process wants a status message to be sent.
    pub force_reply: bool,
    /// Walreceivers that this server has started; for marks and reports alone.
    pub starts: u32,
}

impl WalRcv {
    /// `WALRCV_STARTUP_TIMEOUT`: a launch that takes longer counts as lost, in whole seconds.
    pub const STARTUP_TIMEOUT_S: i64 = 10;

    /// `WalRcvStreaming`; the caller first applies [`WalRcv::expire_launch`].
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        matches!(
            self.state,
            WalRcvState::Streaming | WalRcvState::Starting | WalRcvState::Restarting
        )
    }

    /// Gives a launch up that was requested more than ten seconds ago; true if it did.
    pub fn expire_launch(&mut self, now: TimestampTz) -> bool {
        let late = now.unix_seconds() - self.start_time > Self::STARTUP_TIMEOUT_S;
        let lost = self.state == WalRcvState::Starting && late;
        if lost {
            self.state = WalRcvState::Stopped;
        }
        lost
    }
}
