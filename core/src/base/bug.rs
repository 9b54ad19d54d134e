//! The bugs that can be planted, and the switch that plants them.

use super::named::named;

named! {
    /// A bug that can be planted. PostgreSQL or a similar system had the bug, or could easily have
    /// it. The code has a branch with the wrong behavior at the place of the bug.
    Bug {
        /// The walsender sends WAL that is written but not yet flushed.
        WalsenderSendsUnflushed = "walsender-sends-unflushed",
        /// The walreceiver exits without flushing the WAL that it has written.
        WalreceiverExitWithoutFlush = "walreceiver-exit-without-flush",
        /// A durable rename does not fsync the directory.
        RenameNotDurable = "rename-not-durable",
        /// A checkpoint does not wait for transactions that have written their commit record but
        /// have not yet set their status.
        CommitCrossesRedoPoint = "commit-crosses-redo-point",
        /// Crash recovery overwrites the first half of an incomplete record.
        ContrecordDivergence = "contrecord-divergence",
        /// The postmaster drops a request to start a walreceiver while the previous walreceiver is
        /// still in its list of children.
        LostWalreceiverStartRequest = "lost-walreceiver-start-request",
        /// During a shutdown a walsender exits when it has sent all WAL. It does not wait for the
        /// standby's confirmation.
        ShutdownDropsUnconfirmedTail = "shutdown-drops-unconfirmed-tail",
        /// A failed fsync of WAL is retried.
        FsyncRetry = "fsync-retry",
        /// The WAL reader trusts the length of a record before it has validated the page on which
        /// the record continues.
        TrustUnvalidatedLength = "trust-unvalidated-length",
        /// The WAL reader does not check the length of a record if the length is in the last bytes
        /// of a page.
        ShortLengthAtPageEnd = "short-length-at-page-end",
        /// The standby's page source does not validate the first page of a segment.
        RecycledFirstPage = "recycled-first-page",
        /// A failed save of a slot leaves its temporary file. All later saves of the slot then
        /// fail.
        SlotTempFileLeft = "slot-temp-file-left",
        /// pg_replication_slot_advance does not mark the slot dirty.
        SlotAdvanceNotDirtied = "slot-advance-not-dirtied",
        /// A slot reserves WAL without holding the lock under which a checkpoint saves slots.
        SlotReserveVsCheckpoint = "slot-reserve-vs-checkpoint",
        /// The oldest LSN required by slots is computed from positions that are not yet saved to
        /// disk.
        SlotAdvanceDuringCheckpoint = "slot-advance-during-checkpoint",
        /// An invalidated slot still holds back the removal of WAL.
        InvalidSlotStillPins = "invalid-slot-still-pins",
        /// A checkpoint that has invalidated slots still keeps the WAL that these slots required.
        HorizonNotRecomputed = "horizon-not-recomputed",
        /// When the startup process replays a checkpoint record, it waits for the restartpoint in
        /// progress, and nothing ends the wait. PostgreSQL does not wait (RecoveryRestartPoint).
        StartupFreezes = "startup-freezes",
        /// The postmaster does not notice that the last session has ended. A smart shutdown then
        /// never continues (PostmasterStateMachine).
        SmartShutdownHangs = "smart-shutdown-hangs",
        /// In a fast shutdown the postmaster does not request the shutdown checkpoint when the last
        /// process that can write WAL has ended (PostmasterStateMachine).
        FastShutdownHangs = "fast-shutdown-hangs",
        /// If a slot advances while it is being saved, the save sets the slot's position in memory
        /// back to the saved position (SaveSlotToPath).
        SlotSaveTakesMemoryBack = "slot-save-takes-memory-back",
        /// START_REPLICATION sets the slot's restart_lsn to the requested start. In PostgreSQL only
        /// status updates move the slot (StartReplication).
        StartReplicationMovesSlot = "start-replication-moves-slot",
        /// A status update moves the slot one segment beyond the reported flush position
        /// (PhysicalConfirmReceivedLocation).
        SlotMovedPastFlush = "slot-moved-past-flush",
        /// A status update moves the slot to the reported write position instead of the flush
        /// position (ProcessStandbyReplyMessage).
        SlotMovedToWrite = "slot-moved-to-write",
        /// A status update does not move the slot (PhysicalConfirmReceivedLocation).
        SlotNeverMoved = "slot-never-moved",
        /// A checkpoint drops the slots that no process has acquired, instead of saving them
        /// (CheckPointReplicationSlots).
        CheckpointDropsAbsentSlots = "checkpoint-drops-absent-slots",
        /// A walsender checks for invalidation before it acquires the slot. If the slot is
        /// invalidated after the check, WAL is streamed for an invalidated slot. Since 18,
        /// PostgreSQL acquires the slot first (ReplicationSlotAcquire).
        InvalidSlotStreamed = "invalid-slot-streamed",
        /// The drop of a slot writes to the slot's entry after freeing the entry. By then the entry
        /// may belong to another slot (ReplicationSlotDropPtr).
        DroppedSlotWritten = "dropped-slot-written",
        /// wal_keep_size does not hold back the removal of WAL (KeepLogSeg).
        WalKeepSizeIgnored = "wal-keep-size-ignored",
        /// A status update reports the flush position as the apply position. PostgreSQL reports the
        /// replay position (XLogWalRcvSendReply).
        ApplyReportedBeforeReplay = "apply-reported-before-replay",
        /// A status update reports the write position as the flush position. PostgreSQL reports WAL
        /// as flushed only after the fsync (XLogWalRcvSendReply).
        FlushReportedBeforeFsync = "flush-reported-before-fsync",
        /// A status update reports the upstream's end of WAL as the flush position. A logical
        /// replication client once had this bug. PostgreSQL reports the local flush position
        /// (XLogWalRcvSendReply).
        AckServerEndOfWal = "ack-server-end-of-wal",
        /// The flush of a commit does not wake the walsenders (XLogFlush,
        /// WalSndWakeupProcessRequests).
        WalsendersNotWoken = "walsenders-not-woken",
        /// A walreceiver that has flushed WAL does not wake the startup process (XLogWalRcvFlush,
        /// WakeupRecovery).
        StartupNotWoken = "startup-not-woken",
        /// A walsender resets its latch just before it sleeps, and so loses a wakeup. PostgreSQL
        /// resets the latch before it checks for work (WalSndLoop).
        LatchResetTooLate = "latch-reset-too-late",
        /// Messages from a standby do not reset the walsender's timeout. In PostgreSQL every
        /// message does (ProcessRepliesIfAny, WalSndCheckTimeOut).
        TimeoutEndsHealthyStandby = "timeout-ends-healthy-standby",
        /// A walreceiver does not exit although its upstream has been silent for
        /// wal_receiver_timeout (WalReceiverMain).
        ReceiverNeverGivesUp = "receiver-never-gives-up",
        /// A clog page is written before WAL is flushed up to the last asynchronous commit on the
        /// page (SlruPhysicalWritePage).
        ClogBeforeWal = "clog-before-wal",
        /// A transaction is removed from the running transactions before its status is set.
        /// PostgreSQL sets the status first (CommitTransaction, ProcArrayEndTransaction).
        XidEndsBeforeStatus = "xid-ends-before-status",
        /// A record is inserted without the full-page images that it needs, because a checkpoint
        /// began while the record was assembled. PostgreSQL compares the redo pointer again under
        /// the insertion lock, and then assembles the record again (XLogInsertRecord).
        RedoPointerNotRechecked = "redo-pointer-not-rechecked",
        /// A page whose LSN equals the redo pointer gets no full-page image. PostgreSQL logs an
        /// image, because the page was last changed before the redo point (XLogRecordAssemble).
        ImageDecisionOffByOne = "image-decision-off-by-one",
        /// The redo pointer is published after the insertion locks are released. PostgreSQL
        /// publishes the redo pointer while it holds the locks (CreateCheckPoint).
        RedoPointerPublishedLate = "redo-pointer-published-late",
        /// A record is written after the shutdown checkpoint. In PostgreSQL the shutdown checkpoint
        /// is the last record (ShutdownXLOG).
        WalAfterShutdownCheckpoint = "wal-after-shutdown-checkpoint",
        /// The CHECKPOINT command succeeds although the checkpoint has failed (RequestCheckpoint).
        FailedCheckpointReportedDone = "failed-checkpoint-reported-done",
        /// Bytes after the end of WAL are not cleared from the page to which new WAL is written
        /// (StartupXLOG).
        StaleTailInLastPage = "stale-tail-in-last-page",
        /// If a switch record ends exactly at the end of its segment, the next record does not
        /// point back to the switch record. The xl_prev of the next record points to the record
        /// before the switch (ReserveXLogSwitch).
        SwitchBreaksChain = "switch-breaks-chain",
        /// Redo of a page delta does not mark the buffer dirty. Before 15.18 and 18.4, one redo
        /// routine had this bug (MarkBufferDirty).
        RedoForgetsDirty = "redo-forgets-dirty",
        /// A record that changes two pages registers only the first page. Before 17.11 and 18.6,
        /// some records did not register the visibility map (XLogRegisterBuffer).
        PageChangedWithoutRegisteredBlock = "page-changed-without-registered-block",
        /// START_REPLICATION accepts a start position beyond the flush position (StartReplication).
        StartAheadOfFlushAccepted = "start-ahead-of-flush-accepted",
        /// A walsender does not check, after it has read a segment, whether the segment was
        /// recycled during the read (WALRead, CheckXLogRemoved).
        RecycledSegmentSent = "recycled-segment-sent",
        /// After the crash of a child the server shuts down. PostgreSQL restarts all processes
        /// (PostmasterStateMachine, restart_after_crash).
        CrashEndsServer = "crash-ends-server",
        /// A checkpoint keeps WAL only from its checkpoint record on. PostgreSQL keeps WAL from the
        /// redo point on (CreateCheckPoint, RemoveOldXlogFiles).
        WalKeptFromCheckpointRecord = "wal-kept-from-checkpoint-record",
        /// The checksum of a record is not verified (ValidXLogRecord).
        RecordChecksumIgnored = "record-checksum-ignored",
        /// A restartpoint does not write the clog. In PostgreSQL a restartpoint writes everything
        /// that a checkpoint writes (CheckPointGuts).
        RestartpointSkipsClog = "restartpoint-skips-clog",
        /// A walreceiver that receives a segment again sets the published flush position back.
        /// PostgreSQL only advances this position (XLogWalRcvFlush).
        ReceiverTakesFlushBack = "receiver-takes-flush-back",
        /// The minimum recovery point is set to the LSN of the page that is written, even if that
        /// LSN is lower. PostgreSQL never moves the minimum recovery point back
        /// (UpdateMinRecoveryPoint).
        MinRecoveryPointLowered = "min-recovery-point-lowered",
        /// A checkpoint writes a page without taking the page's content lock, while another process
        /// changes the page (SyncOneBuffer).
        PageWrittenWithoutLock = "page-written-without-lock",
        /// The xmax of a snapshot is the newest transaction id. In PostgreSQL xmax is the id after
        /// the newest. With the bug, the snapshot does not see a commit of the newest transaction
        /// (GetSnapshotData).
        SnapshotExcludesNewest = "snapshot-excludes-newest",
        /// At server start, the restart_lsn of a slot is set to the start of its segment.
        /// PostgreSQL restores the position in the slot's file (RestoreSlotFromDisk).
        SlotRestoredAtSegmentStart = "slot-restored-at-segment-start",
        /// Old segments are recycled although enough future segments exist. In this case PostgreSQL
        /// removes old segments (RemoveXlogFile, XLOGfileslop).
        RecyclingWithoutLimit = "recycling-without-limit",
        /// A walsender sends a keepalive before the CopyBothResponse. PostgreSQL sends the
        /// CopyBothResponse first (StartReplication, WalSndKeepalive).
        CopyDataBeforeCopyBoth = "copy-data-before-copy-both",
        /// A standby whose WAL sources have all failed tries again at once. PostgreSQL first waits
        /// for wal_retrieve_retry_interval (WaitForWALToBecomeAvailable).
        RetryWithoutPause = "retry-without-pause",
    }
}

/// The set of planted bugs. Without the feature `planted-bugs` the set is zero-sized and always
/// empty.
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

    /// Can this build plant bugs?
    pub const AVAILABLE: bool = cfg!(feature = "planted-bugs");

    /// Adds one bug. Without the feature `planted-bugs` nothing is added.
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

    /// The union of both sets.
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
