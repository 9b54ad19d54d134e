//! For each subscription of the built-in checks, a planted bug that only this subscription finds.
//! tests/checks_bite.rs shows that a check without the subscription does not report the bug. A new
//! subscription needs an entry here.

use crate::referee::{
    ChangeKind, ClientKind, DiskKind, FileClass, ServerKind, Subscription, WireEnd,
};
use walsim_core::base::Bug;
use walsim_core::shmem::Role;

/// A subscription, and a planted bug that only this subscription finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bite {
    /// The code of the check.
    pub code: &'static str,
    /// A subscription of the check.
    pub subscription: Subscription,
    /// The planted bug that only this subscription finds.
    pub planted: Plant,
}

/// A planted bug and how to find it: either a scenario that shows the bug, or a seed of profile
/// `default` from which a search soon finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plant {
    /// The bug.
    pub bug: Bug,
    /// The seed at which the search begins.
    pub from: u64,
    /// The scenario that shows the bug, if too few seeds show it.
    pub play: Option<&'static str>,
}

/// A bug that a search over seeds finds.
const fn bite(code: &'static str, subscription: Subscription, bug: Bug, from: u64) -> Bite {
    let planted = Plant {
        bug,
        from,
        play: None,
    };
    Bite {
        code,
        subscription,
        planted,
    }
}

/// A bug that a scenario shows.
const fn played(
    code: &'static str,
    subscription: Subscription,
    bug: Bug,
    play: &'static str,
) -> Bite {
    let planted = Plant {
        bug,
        from: 0,
        play: Some(play),
    };
    Bite {
        code,
        subscription,
        planted,
    }
}

const LAST_PAGE: &str = "last-page-is-cleared-after-a-crash";
const SLOT_AFTER_CRASH: &str = "slot-is-there-after-a-crash";
const ACQUIRED_FIRST: &str = "slot-is-acquired-before-it-is-looked-at";
const FAILED_CHECKPOINT: &str = "failed-checkpoint-is-an-error";
const TORN_RECORD: &str = "torn-record-is-not-replayed";
const AHEAD_OF_FLUSH: &str = "start-ahead-of-flush-is-refused";
const RECEIVED: &str = "received-position-does-not-go-back";
const RECYCLED_SEGMENT: &str = "recycled-segment-is-not-sent";

/// The planted bugs of all subscriptions, in the order of the checks.
pub const BITES: [Bite; 51] = [
    bite(
        "RECOVER",
        Subscription::Server(ServerKind::Exit),
        Bug::ShortLengthAtPageEnd,
        74,
    ),
    bite(
        "RECOVER",
        Subscription::Server(ServerKind::Halt),
        Bug::CrashEndsServer,
        2,
    ),
    bite(
        "RECOVER",
        Subscription::Disk(DiskKind::Remove, FileClass::Wal),
        Bug::WalKeptFromCheckpointRecord,
        29,
    ),
    bite(
        "LIVE",
        Subscription::EveryStep,
        Bug::LostWalreceiverStartRequest,
        7,
    ),
    bite(
        "CHAIN",
        Subscription::Change(ChangeKind::Records),
        Bug::WalAfterShutdownCheckpoint,
        4,
    ),
    played(
        "CHAIN",
        Subscription::Change(ChangeKind::Flushed),
        Bug::StaleTailInLastPage,
        LAST_PAGE,
    ),
    played(
        "CHAIN",
        Subscription::Disk(DiskKind::Write, FileClass::Wal),
        Bug::StaleTailInLastPage,
        LAST_PAGE,
    ),
    bite(
        "PREFIX",
        Subscription::Change(ChangeKind::Flushed),
        Bug::ContrecordDivergence,
        9,
    ),
    played(
        "PREFIX",
        Subscription::Change(ChangeKind::Replayed),
        Bug::RecordChecksumIgnored,
        TORN_RECORD,
    ),
    bite(
        "PREFIX",
        Subscription::Disk(DiskKind::Write, FileClass::Wal),
        Bug::FsyncRetry,
        30,
    ),
    played(
        "SEND",
        Subscription::Change(ChangeKind::Sent),
        Bug::StartAheadOfFlushAccepted,
        AHEAD_OF_FLUSH,
    ),
    played(
        "SEND",
        Subscription::Message(WireEnd::ServerSends, Some(b'd')),
        Bug::RecycledSegmentSent,
        RECYCLED_SEGMENT,
    ),
    bite(
        "REPLAY",
        Subscription::Change(ChangeKind::Replayed),
        Bug::WalreceiverExitWithoutFlush,
        11,
    ),
    bite(
        "REPLAY",
        Subscription::Disk(DiskKind::Write, FileClass::Relation),
        Bug::RenameNotDurable,
        3,
    ),
    bite(
        "REPORT",
        Subscription::Message(WireEnd::ClientSends, Some(b'd')),
        Bug::ApplyReportedBeforeReplay,
        0,
    ),
    bite(
        "HEALTHY",
        Subscription::Step(&[Role::WalSender, Role::WalReceiver]),
        Bug::TimeoutEndsHealthyStandby,
        0,
    ),
    bite(
        "HEALTHY",
        Subscription::Message(WireEnd::ServerReceives, Some(b'd')),
        Bug::TimeoutEndsHealthyStandby,
        0,
    ),
    bite(
        "PROMPT",
        Subscription::Disk(DiskKind::Sync, FileClass::Wal),
        Bug::WalsendersNotWoken,
        0,
    ),
    bite(
        "PROMPT",
        Subscription::Change(ChangeKind::Flushed),
        Bug::WalsendersNotWoken,
        0,
    ),
    bite(
        "PROMPT",
        Subscription::Step(&[Role::WalSender, Role::Startup]),
        Bug::LatchResetTooLate,
        0,
    ),
    bite(
        "WIRE",
        Subscription::Message(WireEnd::ServerSends, None),
        Bug::CopyDataBeforeCopyBoth,
        0,
    ),
    bite(
        "EFFORT",
        Subscription::Step(&[Role::WalReceiver]),
        Bug::RetryWithoutPause,
        0,
    ),
    bite(
        "XID",
        Subscription::Step(&[Role::Backend]),
        Bug::XidEndsBeforeStatus,
        0,
    ),
    bite(
        "CLOG",
        Subscription::Change(ChangeKind::Records),
        Bug::ClogBeforeWal,
        1,
    ),
    bite(
        "CLOG",
        Subscription::Disk(DiskKind::Write, FileClass::Xact),
        Bug::ClogBeforeWal,
        1,
    ),
    bite(
        "LOCAL",
        Subscription::Server(ServerKind::Open),
        Bug::CommitCrossesRedoPoint,
        45,
    ),
    bite(
        "LOCAL",
        Subscription::Client(ClientKind::RowMissing),
        Bug::SnapshotExcludesNewest,
        0,
    ),
    bite("LOCAL", Subscription::End, Bug::RestartpointSkipsClog, 2),
    bite(
        "DURABLE",
        Subscription::Message(WireEnd::ServerSends, Some(b'C')),
        Bug::ShutdownDropsUnconfirmedTail,
        4,
    ),
    bite(
        "DROP",
        Subscription::Change(ChangeKind::Slots),
        Bug::CheckpointDropsAbsentSlots,
        0,
    ),
    played(
        "DROP",
        Subscription::Server(ServerKind::Open),
        Bug::CheckpointDropsAbsentSlots,
        SLOT_AFTER_CRASH,
    ),
    played(
        "INVALID",
        Subscription::Change(ChangeKind::Sent),
        Bug::InvalidSlotStreamed,
        ACQUIRED_FIRST,
    ),
    bite(
        "MOVES",
        Subscription::Change(ChangeKind::Slots),
        Bug::StartReplicationMovesSlot,
        3,
    ),
    bite(
        "MOVES",
        Subscription::Change(ChangeKind::Reported),
        Bug::SlotNeverMoved,
        0,
    ),
    bite(
        "OWNER",
        Subscription::Change(ChangeKind::Slots),
        Bug::DroppedSlotWritten,
        2,
    ),
    bite(
        "SLOT",
        Subscription::Step(&[
            Role::Backend,
            Role::WalSender,
            Role::Checkpointer,
            Role::Startup,
        ]),
        Bug::SlotTempFileLeft,
        66,
    ),
    bite(
        "SLOT",
        Subscription::Disk(DiskKind::Remove, FileClass::Wal),
        Bug::SlotAdvanceDuringCheckpoint,
        1,
    ),
    played(
        "MONO",
        Subscription::Change(ChangeKind::Received),
        Bug::ReceiverTakesFlushBack,
        RECEIVED,
    ),
    bite(
        "MONO",
        Subscription::Disk(DiskKind::Sync, FileClass::Control),
        Bug::MinRecoveryPointLowered,
        0,
    ),
    bite(
        "RETAIN",
        Subscription::Change(ChangeKind::Checkpoint),
        Bug::SlotAdvanceNotDirtied,
        7,
    ),
    bite(
        "FILES",
        Subscription::Change(ChangeKind::Checkpoint),
        Bug::RecyclingWithoutLimit,
        0,
    ),
    bite(
        "KEEP",
        Subscription::Step(&[Role::Checkpointer]),
        Bug::WalKeepSizeIgnored,
        0,
    ),
    bite(
        "KEEP",
        Subscription::Disk(DiskKind::Remove, FileClass::Wal),
        Bug::WalKeepSizeIgnored,
        0,
    ),
    played(
        "CHECKPOINT",
        Subscription::Client(ClientKind::Statement),
        Bug::FailedCheckpointReportedDone,
        FAILED_CHECKPOINT,
    ),
    played(
        "CHECKPOINT",
        Subscription::Client(ClientKind::Answer),
        Bug::FailedCheckpointReportedDone,
        FAILED_CHECKPOINT,
    ),
    bite(
        "FPI",
        Subscription::Change(ChangeKind::Records),
        Bug::RedoPointerNotRechecked,
        6,
    ),
    bite(
        "FPI",
        Subscription::Change(ChangeKind::Pages),
        Bug::PageChangedWithoutRegisteredBlock,
        0,
    ),
    bite(
        "FPI",
        Subscription::Disk(DiskKind::Sync, FileClass::Control),
        Bug::ImageDecisionOffByOne,
        1,
    ),
    bite(
        "PAGE",
        Subscription::Change(ChangeKind::Pages),
        Bug::PageWrittenWithoutLock,
        10,
    ),
    bite(
        "PAGE",
        Subscription::Disk(DiskKind::Write, FileClass::Relation),
        Bug::PageWrittenWithoutLock,
        6,
    ),
    bite("PAGE", Subscription::End, Bug::RedoForgetsDirty, 0),
];
