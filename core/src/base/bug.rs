//! The bugs that can be planted, and the switch that plants them.

use super::named::named;

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

/// A set of bugs: those that are planted. Zero-sized, and always empty, without the feature `planted-bugs`.
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
