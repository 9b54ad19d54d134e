//! The bugs that can be planted, and the switch that plants them.

use super::named::named;

named! {
    /// A bug that can be planted. The branch stands where PostgreSQL or a system like it went
    /// wrong, or where it does right what can easily be done wrong.
    Bug {
        /// The walsender ships what is written but not yet fsynced.
        WalsenderSendsUnflushed = "walsender-sends-unflushed",
        /// The walreceiver dies without flushing what it wrote.
        WalreceiverExitWithoutFlush = "walreceiver-exit-without-flush",
        /// A durable rename does not fsync the directory.
        RenameNotDurable = "rename-not-durable",
        /// A checkpoint does not wait for commits whose status is not yet set.
        CommitCrossesRedoPoint = "commit-crosses-redo-point",
        /// Crash recovery writes over the first half of an incomplete record.
        ContrecordDivergence = "contrecord-divergence",
        /// The postmaster forgets a request for a walreceiver while it knows of an old one.
        LostWalreceiverStartRequest = "lost-walreceiver-start-request",
        /// At a shutdown a walsender leaves when everything is sent, whether or not it has arrived.
        ShutdownDropsUnconfirmedTail = "shutdown-drops-unconfirmed-tail",
        /// A failed fsync of WAL is tried again.
        FsyncRetry = "fsync-retry",
        /// The WAL reader believes a length before it has looked at the page on which the record
        /// goes on.
        TrustUnvalidatedLength = "trust-unvalidated-length",
        /// The WAL reader does not look at a length in the last bytes of a page.
        ShortLengthAtPageEnd = "short-length-at-page-end",
        /// The source of pages takes a segment without a look at its first page.
        RecycledFirstPage = "recycled-first-page",
        /// A failed save of a slot leaves its temporary file, which is in the way of all later
        /// saves.
        SlotTempFileLeft = "slot-temp-file-left",
        /// Advancing a slot by hand does not mark it dirty.
        SlotAdvanceNotDirtied = "slot-advance-not-dirtied",
        /// A slot reserves WAL without the lock that a checkpoint saves the slots under.
        SlotReserveVsCheckpoint = "slot-reserve-vs-checkpoint",
        /// What slots hold is computed from positions that no file has yet.
        SlotAdvanceDuringCheckpoint = "slot-advance-during-checkpoint",
        /// What an invalidated slot held goes on to count.
        InvalidSlotStillPins = "invalid-slot-still-pins",
        /// A checkpoint that has invalidated slots keeps the WAL that they held.
        HorizonNotRecomputed = "horizon-not-recomputed",
        /// The startup process waits for a restartpoint that nothing wakes it from. Replay passes a
        /// checkpoint record without waiting (RecoveryRestartPoint).
        StartupFreezes = "startup-freezes",
        /// The postmaster does not see that the last session has ended. A smart shutdown goes on
        /// when none is left (PostmasterStateMachine).
        SmartShutdownHangs = "smart-shutdown-hangs",
        /// The postmaster does not ask for the shutdown checkpoint. A fast shutdown does so when no
        /// process is left that may write WAL (PostmasterStateMachine).
        FastShutdownHangs = "fast-shutdown-hangs",
        /// A saved slot gets the position that was written. What moved it meanwhile stays in memory
        /// (SaveSlotToPath).
        SlotSaveTakesMemoryBack = "slot-save-takes-memory-back",
        /// START_REPLICATION sets the position of the slot to the start that was asked for. Only
        /// reports move it (StartReplication).
        StartReplicationMovesSlot = "start-replication-moves-slot",
        /// A report moves the slot a segment beyond the reported flush position
        /// (PhysicalConfirmReceivedLocation).
        SlotMovedPastFlush = "slot-moved-past-flush",
        /// A report moves the slot to the written position. The flushed one counts
        /// (ProcessStandbyReplyMessage).
        SlotMovedToWrite = "slot-moved-to-write",
        /// A report does not move the slot (PhysicalConfirmReceivedLocation).
        SlotNeverMoved = "slot-never-moved",
        /// A checkpoint drops the slots that have no owner. It only saves them
        /// (CheckPointReplicationSlots).
        CheckpointDropsAbsentSlots = "checkpoint-drops-absent-slots",
        /// Whether a slot is invalidated is looked at before it is acquired; since 18 after it
        /// (ReplicationSlotAcquire).
        InvalidSlotStreamed = "invalid-slot-streamed",
        /// The entry of a dropped slot is written to after it was freed, when another slot may have
        /// it (ReplicationSlotDropPtr).
        DroppedSlotWritten = "dropped-slot-written",
        /// wal_keep_size does not hold back the removal of WAL (KeepLogSeg).
        WalKeepSizeIgnored = "wal-keep-size-ignored",
        /// A status update tells of flushed WAL as applied. The applied position is where replay
        /// stands (XLogWalRcvSendReply).
        ApplyReportedBeforeReplay = "apply-reported-before-replay",
        /// A status update tells of written WAL as flushed. It is flushed after the fsync
        /// (XLogWalRcvSendReply).
        FlushReportedBeforeFsync = "flush-reported-before-fsync",
        /// A status update tells of the end of the upstream's WAL as flushed, as a logical
        /// replication client once did. It is what was fsynced here (XLogWalRcvSendReply).
        AckServerEndOfWal = "ack-server-end-of-wal",
        /// A commit that was flushed wakes no walsender (XLogFlush, WalSndWakeupProcessRequests).
        WalsendersNotWoken = "walsenders-not-woken",
        /// A walsender resets its latch before it sleeps. It is reset before the look at what it
        /// stands for (WalSndLoop).
        LatchResetTooLate = "latch-reset-too-late",
        /// What a standby says does not count as a sign of life. Each message does
        /// (ProcessRepliesIfAny, WalSndCheckTimeOut).
        TimeoutEndsHealthyStandby = "timeout-ends-healthy-standby",
        /// A walreceiver does not end when its upstream is silent for wal_receiver_timeout
        /// (WalReceiverMain). Since 16 its next wake-up then lies in the past
        /// (WalRcvComputeNextWakeup).
        ReceiverNeverGivesUp = "receiver-never-gives-up",
        /// A page of commit statuses is written before WAL is flushed up to the last asynchronous
        /// commit in it (SlruPhysicalWritePage).
        ClogBeforeWal = "clog-before-wal",
        /// A transaction leaves the running ones before its status is set. It leaves after that
        /// (CommitTransaction, ProcArrayEndTransaction).
        XidEndsBeforeStatus = "xid-ends-before-status",
        /// A record is inserted although a checkpoint has begun since its images were decided. The
        /// redo pointer is compared again under the insertion lock (XLogInsertRecord).
        RedoPointerNotRechecked = "redo-pointer-not-rechecked",
        /// A page whose LSN equals the redo pointer gets no image. It was changed before the redo
        /// point, too (XLogRecordAssemble).
        ImageDecisionOffByOne = "image-decision-off-by-one",
        /// The redo pointer is published after the insertion locks were released. It is published
        /// under them (CreateCheckPoint).
        RedoPointerPublishedLate = "redo-pointer-published-late",
        /// A record follows the shutdown checkpoint. That is the last one before the server ends
        /// (ShutdownXLOG).
        WalAfterShutdownCheckpoint = "wal-after-shutdown-checkpoint",
        /// CHECKPOINT succeeds although the checkpoint has failed (RequestCheckpoint).
        FailedCheckpointReportedDone = "failed-checkpoint-reported-done",
        /// The bytes after the end of WAL stay in the page that WAL goes on in. They are cleared
        /// (StartupXLOG).
        StaleTailInLastPage = "stale-tail-in-last-page",
        /// After a switch record that ends with its segment the next record points back to the one
        /// before it (ReserveXLogSwitch).
        SwitchBreaksChain = "switch-breaks-chain",
        /// Redo of a page delta leaves the buffer clean; before 15.18 and 18.4 one kind of redo did
        /// (MarkBufferDirty).
        RedoForgetsDirty = "redo-forgets-dirty",
        /// A record changes two pages and registers the first alone; before 17.11 and 18.6 some did
        /// with the visibility map (XLogRegisterBuffer).
        PageChangedWithoutRegisteredBlock = "page-changed-without-registered-block",
    }
}

/// A set of bugs: those that are planted. Zero-sized, and always empty, without the feature
/// `planted-bugs`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Planted {
    #[cfg(feature = "planted-bugs")]
    bits: u128,
}

impl Planted {
    /// No bug.
    pub const NONE: Self = Self {
        #[cfg(feature = "planted-bugs")]
        bits: 0,
    };

    /// Can this build plant bugs at all?
    pub const AVAILABLE: bool = cfg!(feature = "planted-bugs");

    /// One bug more; without the feature nothing changes.
    #[must_use]
    #[cfg_attr(
        not(feature = "planted-bugs"),
        expect(unused_variables, reason = "the switch is compiled out")
    )]
    pub const fn with(self, bug: Bug) -> Self {
        #[cfg(feature = "planted-bugs")]
        return Self {
            bits: self.bits | 1 << bug as u128,
        };
        #[cfg(not(feature = "planted-bugs"))]
        self
    }

    /// The bugs of both sets.
    #[must_use]
    #[cfg_attr(
        not(feature = "planted-bugs"),
        expect(unused_variables, reason = "the switch is compiled out")
    )]
    pub const fn and(self, other: Self) -> Self {
        #[cfg(feature = "planted-bugs")]
        return Self {
            bits: self.bits | other.bits,
        };
        #[cfg(not(feature = "planted-bugs"))]
        self
    }

    /// Is the bug planted?
    #[must_use]
    #[cfg_attr(
        not(feature = "planted-bugs"),
        expect(unused_variables, reason = "the switch is compiled out")
    )]
    pub const fn has(self, bug: Bug) -> bool {
        #[cfg(feature = "planted-bugs")]
        return self.bits & (1 << bug as u128) != 0;
        #[cfg(not(feature = "planted-bugs"))]
        false
    }
}
