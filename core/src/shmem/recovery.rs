//! Progress of recovery. Mirrors `XLogRecoveryCtlData` of xlogrecovery.c.

use super::BufTag;
use super::touched::Check;
use crate::base::{Lsn, Pid, TimelineId};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// `RecoveryState`
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum RecoveryState {
    /// Crash recovery.
    #[default]
    Crash,
    /// The server replays WAL from an archive or from an upstream.
    Archive,
    /// Recovery has ended. The server can write WAL.
    Done,
}

/// State that the startup process publishes.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct RecoveryCtl {
    /// `SharedRecoveryState`
    pub state: RecoveryState,
    /// `replayEndRecPtr`: the end of the record that is being replayed.
    pub replay_end: Lsn,
    /// `replayEndTLI`
    pub replay_end_tli: TimelineId,
    /// `lastReplayedReadRecPtr`: the start of the last replayed record.
    pub last_replayed_read: Lsn,
    /// `lastReplayedEndRecPtr`: the end of the last replayed record.
    pub last_replayed_end: Lsn,
    /// `lastReplayedTLI`
    pub last_replayed_tli: TimelineId,
    /// `SharedHotStandbyActive`
    pub hot_standby_active: bool,
    /// Whether recovery has reached the consistent point (`reachedConsistency`).
    pub consistent: bool,
    /// `invalid_page_tab`: pages that replayed records refer to, but that do not exist. If the
    /// table is not empty at the consistent point, recovery ends with a PANIC.
    pub invalid_pages: BTreeSet<BufTag>,
    /// `InstallXLogFileSegmentActive`
    pub install_segment_active: bool,
    /// `LocalSetXLogInsertAllowed`: the processes that may write WAL before recovery has ended.
    pub insert_allowed: Vec<Pid>,
}

impl Check for RecoveryCtl {
    fn check(&self) {
        // `ApplyWalRecord` publishes the end of a record before and after its redo.
        assert!(
            self.last_replayed_read <= self.last_replayed_end,
            "{self:?}"
        );
        assert!(self.last_replayed_end <= self.replay_end, "{self:?}");
        // `CheckRecoveryConsistency`: crash recovery is consistent only at its end.
        let crash = self.state == RecoveryState::Crash;
        assert!(!self.consistent || !crash, "{self:?}");
        assert!(!self.hot_standby_active || self.consistent, "{self:?}");
        assert!(
            !self.consistent || self.invalid_pages.is_empty(),
            "{self:?}"
        );
        // Nothing is said about `insert_allowed`: the entry of a killed checkpointer stays if the
        // postmaster passes over the crash.
    }
}
