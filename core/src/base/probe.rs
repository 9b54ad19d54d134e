//! What a run reports about itself besides its effects: marks of rare states, and the switch of planted bugs.

/// A list of unit variants with their kebab-case names.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name as commands and reports print it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// The one with that name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.name() == name)
            }
        }
    };
}

named! {
    /// A rare state that was reached. A campaign that never sees a mandatory one proves little.
    Mark {
        /// A client was told that its commit succeeded.
        CommitAcked = "commit-acked",
        /// A record continues on a second page.
        RecordCrossesPage = "record-crosses-page",
        /// A record continues in a second segment.
        RecordCrossesSegment = "record-crosses-segment",
        /// A server recovered after a crash.
        CrashRecovery = "crash-recovery",
        /// An incomplete record at the end of WAL was overwritten.
        OverwriteContrecord = "overwrite-contrecord",
        /// A loss of power took bytes that had been written.
        PowerLossLostBytes = "power-loss-lost-bytes",
        /// A walreceiver was started again on a node.
        WalreceiverRestarted = "walreceiver-restarted",
        /// A full-page image replaced a torn page in recovery.
        FpiRepairedTornPage = "fpi-repaired-torn-page",
        /// A walsender had output that its peer did not take.
        BackpressureBlockedSend = "backpressure-blocked-send",
        /// A failed fsync of WAL ended in a PANIC.
        FsyncPanic = "fsync-panic",
        /// Two reservations in the WAL were open at once.
        TwoReservationsOpen = "two-reservations-open",
        /// A backend's commit was flushed by another's fsync.
        FlushFollower = "flush-follower",
        /// A process waited for a lock.
        LockWaited = "lock-waited",
        /// A smart shutdown came to its end.
        ShutdownSmart = "shutdown-smart",
        /// A fast shutdown came to its end.
        ShutdownFast = "shutdown-fast",
        /// An immediate shutdown came to its end.
        ShutdownImmediate = "shutdown-immediate",
        /// A process was killed, and its server has noticed.
        ProcessKilled = "process-killed",
        /// A slot was not dropped because somebody had acquired it.
        SlotDropRefusedActive = "slot-drop-refused-active",
        /// A checkpoint gave up the WAL of a slot.
        SlotInvalidated = "slot-invalidated",
        /// A primary renamed an old WAL segment for future use.
        SegmentRecycled = "segment-recycled",
        /// A standby did.
        StandbyRecycledSegment = "standby-recycled-segment",
        /// A walsender was asked for WAL that is gone.
        WalRemovedRefusal = "wal-removed-refusal",
        /// A slot was made again under the name of one that had been dropped.
        SlotRecreated = "slot-recreated",
        /// A standby came back and found that its slot had been dropped.
        SlotDroppedUnderStandby = "slot-dropped-under-standby",
        /// A standby had applied a segment less than there was.
        StandbyLagOverOneSegment = "standby-lag-over-one-segment",
    }
}

named! {
    /// A historical bug that can be planted. The branch stands where PostgreSQL or a system like it went wrong.
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
        /// The WAL reader believes a length before it has looked at the page on which the record goes on.
        TrustUnvalidatedLength = "trust-unvalidated-length",
        /// The WAL reader does not look at a length in the last bytes of a page.
        ShortLengthAtPageEnd = "short-length-at-page-end",
        /// The source of pages takes a segment without a look at its first page.
        RecycledFirstPage = "recycled-first-page",
        /// A failed save of a slot leaves its temporary file, which is in the way of all later saves.
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
    }
}

/// A set of [`Mark`]s.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct MarkSet(u64);

impl MarkSet {
    /// Adds one.
    pub const fn insert(&mut self, mark: Mark) {
        self.0 |= 1 << mark as u64;
    }

    /// Is it in?
    #[must_use]
    pub const fn contains(self, mark: Mark) -> bool {
        self.0 & (1 << mark as u64) != 0
    }

    /// Adds all of another set.
    pub const fn extend(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Which bugs are planted. Zero-sized, and always "none", without the feature `planted-bugs`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Planted {
    #[cfg(feature = "planted-bugs")]
    bits: u64,
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
            bits: self.bits | 1 << bug as u64,
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
        return self.bits & (1 << bug as u64) != 0;
        #[cfg(not(feature = "planted-bugs"))]
        false
    }
}

/// Travels with a step as a value: what was planted, what was reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Probe {
    planted: Planted,
    marks: MarkSet,
}

impl Probe {
    /// Nothing reached yet.
    #[must_use]
    pub const fn new(planted: Planted) -> Self {
        Self {
            planted,
            marks: MarkSet(0),
        }
    }

    /// A rare state was reached.
    pub const fn mark(&mut self, mark: Mark) {
        self.marks.insert(mark);
    }

    /// Is the bug planted?
    #[must_use]
    pub const fn planted(&self, bug: Bug) -> bool {
        self.planted.has(bug)
    }

    /// What was reached so far.
    #[must_use]
    pub const fn marks(&self) -> MarkSet {
        self.marks
    }
}
