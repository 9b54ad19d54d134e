//! The planted bugs: what each is, which invariants it may violate, and the hunt for it.

use crate::fuzz::Task;
use crate::plan::Plan;
use crate::world::{Outcome, STUCK, Verdict, run, run_at_most};
use walsim_core::base::{Bug, Planted};

/// A bug can send a standby into a loop that takes hardly any simulated time: another seed shows it
/// sooner. A hundred times what a run takes.
const MOST_STEPS: u64 = 2_500_000;

/// What is known of a planted bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BugInfo {
    /// Which.
    pub bug: Bug,
    /// The invariants that it may violate; nothing else counts as having found it.
    pub codes: &'static [&'static str],
    /// What goes wrong, in one sentence.
    pub about: &'static str,
}

/// Bugs that wait for the check that is to find them. Until it exists a hunt for all bugs only
/// lists them.
const AWAITING: &[(Bug, &str)] = &[
    (Bug::WalsendersNotWoken, "PROMPT"),
    (Bug::LatchResetTooLate, "PROMPT"),
];

/// Bugs that too few seeds reach for a hunt, and the plan that shows each.
const PLAYED: &[(Bug, &str)] = &[
    (
        Bug::InvalidSlotStreamed,
        "slot-is-acquired-before-it-is-looked-at",
    ),
    (
        Bug::FailedCheckpointReportedDone,
        "failed-checkpoint-is-an-error",
    ),
    (
        Bug::StaleTailInLastPage,
        "last-page-is-cleared-after-a-crash",
    ),
    (
        Bug::SwitchBreaksChain,
        "segment-is-left-by-a-switch-that-fills-it",
    ),
    (
        Bug::StartAheadOfFlushAccepted,
        "start-ahead-of-flush-is-refused",
    ),
    (Bug::RecycledSegmentSent, "recycled-segment-is-not-sent"),
];

/// Codes of checks that are awaited.
#[cfg(test)]
const AWAITED_CODES: [&str; 1] = ["PROMPT"];

/// The check that is to find the bug, and that does not exist yet.
#[must_use]
pub fn awaited_check(bug: Bug) -> Option<&'static str> {
    let waits = AWAITING.iter().find(|(waiting, _)| *waiting == bug);
    waits.map(|(_, check)| *check)
}

/// The scenario that shows the bug, if too few seeds reach it: a hunt for all bugs does not look
/// for it.
#[must_use]
pub fn play_of(bug: Bug) -> Option<&'static str> {
    let played = PLAYED.iter().find(|(played, _)| *played == bug);
    played.map(|(_, scenario)| *scenario)
}

/// What is known of a bug.
#[must_use]
pub const fn bug_info(bug: Bug) -> BugInfo {
    let (codes, about): (&'static [&'static str], _) = match bug {
        Bug::WalsenderSendsUnflushed => (
            &["SEND", "PREFIX"],
            "the primary ships WAL that it has written but not fsynced",
        ),
        Bug::WalreceiverExitWithoutFlush => (
            &["REPLAY", "RECOVER", "PREFIX"],
            "the receiver dies with written but unsynced WAL, which startup then replays",
        ),
        Bug::RenameNotDurable => (
            &["RECOVER", "LOCAL", "SEND", "REPLAY", "REPORT", "PREFIX"],
            "a file is renamed into place without an fsync of its directory",
        ),
        Bug::CommitCrossesRedoPoint => (
            &["LOCAL", "PAGE"],
            "a checkpoint begins behind a commit record whose status is not yet in what it writes",
        ),
        Bug::ContrecordDivergence => (
            &["PREFIX", "LIVE"],
            "crash recovery writes over the first half of a record that has already been shipped",
        ),
        Bug::LostWalreceiverStartRequest => (
            &["LIVE"],
            "the postmaster forgets a request for a walreceiver while a dead one is not yet reaped",
        ),
        Bug::ShutdownDropsUnconfirmedTail => (
            &["DURABLE"],
            "a clean shutdown ends before the standby has confirmed the last WAL",
        ),
        Bug::FsyncRetry => (
            &[
                "LOCAL", "PAGE", "RECOVER", "SEND", "REPLAY", "REPORT", "PREFIX",
            ],
            "a failed fsync of WAL is tried again, and then taken for good",
        ),
        Bug::TrustUnvalidatedLength => (
            &["RECOVER"],
            "recovery ends by an allocation of a size that recycled bytes tell",
        ),
        Bug::ShortLengthAtPageEnd => (
            &["RECOVER"],
            "recovery computes a checksum over a length that is smaller than a header",
        ),
        Bug::RecycledFirstPage => (
            &["LIVE"],
            "a standby takes a recycled segment for the next one, again and again",
        ),
        Bug::SlotTempFileLeft => (
            &["RETAIN", "SLOT", "LIVE"],
            "a slot that could not be saved once is never saved again, and its WAL stays",
        ),
        Bug::SlotAdvanceNotDirtied => (
            &["RETAIN", "SLOT"],
            "a slot that was advanced by hand is back at its old position after a clean restart",
        ),
        Bug::SlotReserveVsCheckpoint => (
            &["SLOT"],
            "a checkpoint removes the WAL that a new slot is about to reserve",
        ),
        Bug::SlotAdvanceDuringCheckpoint => (
            &["SLOT"],
            "a checkpoint removes WAL that the slot's file still asks for",
        ),
        Bug::InvalidSlotStillPins => (&["RETAIN"], "WAL is kept for a slot that was given up"),
        Bug::HorizonNotRecomputed => (
            &["RETAIN"],
            "a checkpoint that gives slots up goes on with the horizon that they made",
        ),
        Bug::StartupFreezes => (&["LIVE", "PROMPT"], "a standby stops replaying for ever"),
        Bug::SmartShutdownHangs => (&["LIVE"], "a smart shutdown never ends"),
        Bug::FastShutdownHangs => (&["LIVE"], "a fast shutdown never ends"),
        Bug::SlotSaveTakesMemoryBack => (
            &["MOVES"],
            "the save of a slot undoes a move that was made while it ran",
        ),
        Bug::StartReplicationMovesSlot => (
            &["MOVES"],
            "START_REPLICATION moves the slot to its start position",
        ),
        Bug::SlotMovedPastFlush => (
            &["MOVES"],
            "a slot is a segment ahead of what its standby has flushed",
        ),
        Bug::SlotMovedToWrite => (
            &["MOVES"],
            "a slot is at what its standby has written and may lose",
        ),
        Bug::SlotNeverMoved => (
            &["MOVES", "RETAIN"],
            "a slot stays where it was although its standby reports progress",
        ),
        Bug::CheckpointDropsAbsentSlots => {
            (&["DROP"], "the slots of standbys that are away are dropped")
        }
        Bug::InvalidSlotStreamed => (
            &["INVALID"],
            "a walsender streams from a slot that was invalidated while it acquired it",
        ),
        Bug::DroppedSlotWritten => (
            &["OWNER", "MOVES"],
            "a process clears the entry of the slot that it has dropped, whoever has it now",
        ),
        Bug::WalKeepSizeIgnored => (&["KEEP"], "WAL that wal_keep_size asks for is removed"),
        Bug::ApplyReportedBeforeReplay => (
            &["REPORT"],
            "a standby says that it has applied what it has only received",
        ),
        Bug::FlushReportedBeforeFsync => (
            &["REPORT", "DURABLE"],
            "a standby says that it has flushed what it has only written",
        ),
        Bug::AckServerEndOfWal => (
            &["REPORT", "DURABLE", "SLOT"],
            "a standby acknowledges the position that the upstream told, not what it has",
        ),
        Bug::WalsendersNotWoken => (
            &["PROMPT"],
            "walsenders send what was flushed only when something else wakes them",
        ),
        Bug::LatchResetTooLate => (
            &["PROMPT"],
            "a walsender loses the wake-ups that came while it sent",
        ),
        Bug::TimeoutEndsHealthyStandby => {
            (&["HEALTHY"], "a walsender gives up a standby that answers")
        }
        Bug::ReceiverNeverGivesUp => (
            &[STUCK, "LIVE"],
            "a walreceiver stays with a silent upstream, awake all the time",
        ),
        Bug::ClogBeforeWal => (
            &["CLOG", "LOCAL"],
            "a commit status is durable before its commit record",
        ),
        Bug::XidEndsBeforeStatus => (
            &["XID", "LOCAL"],
            "a transaction that has committed looks aborted for a moment",
        ),
        Bug::RedoPointerNotRechecked => (
            &["FPI", "PAGE"],
            "a page's first change after a redo point has no image",
        ),
        Bug::ImageDecisionOffByOne => (
            &["FPI", "PAGE"],
            "a page that was last changed by the last record before a redo point gets no image",
        ),
        Bug::RedoPointerPublishedLate => (
            &["FPI", "PAGE"],
            "records behind a redo point are made as if it were not there yet",
        ),
        Bug::WalAfterShutdownCheckpoint => (
            &["CHAIN", "PREFIX"],
            "WAL behind the shutdown checkpoint is written over by the next start",
        ),
        Bug::FailedCheckpointReportedDone => (
            &["CHECKPOINT"],
            "a failed checkpoint is answered with success",
        ),
        Bug::StaleTailInLastPage => (
            &["CHAIN", "PREFIX"],
            "the page at the end of recovery keeps what was after the end of WAL",
        ),
        Bug::SwitchBreaksChain => (
            &["CHAIN", "LIVE", "LOCAL", "PREFIX", "RECOVER", "REPLAY"],
            "the record after a switch that fills its segment has a wrong back link",
        ),
        Bug::PageChangedWithoutRegisteredBlock => (
            &["PAGE", "FPI"],
            "a page that a record changes without a reference to it gets no image, and a torn write of it stays",
        ),
        Bug::RedoForgetsDirty => (
            &["PAGE"],
            "replay changes a page that eviction then forgets",
        ),
        Bug::StartAheadOfFlushAccepted => (
            &["SEND"],
            "a walsender begins with WAL that the primary does not have yet",
        ),
        Bug::RecycledSegmentSent => (
            &["SEND", "PREFIX"],
            "a walsender ships newer WAL from a segment that was recycled while it was read",
        ),
        Bug::CrashEndsServer => (
            &["RECOVER"],
            "a server ends after the crash of a process instead of starting anew",
        ),
        Bug::WalKeptFromCheckpointRecord => (
            &["RECOVER", "SLOT"],
            "a checkpoint removes WAL between its redo point and its record",
        ),
        Bug::RecordChecksumIgnored => (
            &["PREFIX", "REPLAY", "RECOVER", "CHAIN"],
            "recovery replays a record of which only a part reached the disk",
        ),
        Bug::RestartpointSkipsClog => (
            &["LOCAL"],
            "a standby that is restarted has forgotten commits from before its restartpoint",
        ),
        Bug::ReceiverTakesFlushBack => (
            &["MONO"],
            "a standby counts less WAL as received than before while a segment is streamed again",
        ),
        Bug::MinRecoveryPointLowered => (
            &["MONO"],
            "the control file of a standby allows reads before its pages are consistent",
        ),
        Bug::PageWrittenWithoutLock => {
            (&["PAGE"], "a checkpoint writes a page that is half changed")
        }
        Bug::SnapshotExcludesNewest => (
            &["LOCAL"],
            "a session does not see the row that it has just committed",
        ),
        Bug::SlotRestoredAtSegmentStart => (
            &["MOVES"],
            "a slot comes back from a restart before the position that was saved",
        ),
    };
    BugInfo { bug, codes, about }
}

/// A bug that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The seed that shows it.
    pub seed: u64,
    /// Its plan.
    pub plan: Plan,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a hunt for a bug came to.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Hunted {
    /// The seed that shows it, if one does.
    pub found: Option<Found>,
    /// Seeds that were run.
    pub seeds: u64,
    /// Those of them that reached the spot at which the bug makes a difference.
    pub reached: u64,
    /// Seeds in which an assertion failed. That is no detection: the referee should have objected
    /// before.
    pub assertions: u64,
    /// Seeds that were given up, since they took a hundred times the steps of a usual run.
    pub long_runs: u64,
}

/// Looks for a bug, seed by seed from `base`, as long as `go_on` says. A seed counts if it violates
/// one of the bug's invariants, and passes without the bug.
#[must_use]
pub fn hunt(bug: Bug, task: &Task, base: u64, mut go_on: impl FnMut() -> bool) -> Hunted {
    let planted = Planted::NONE.with(bug);
    let codes = bug_info(bug).codes;
    let mut hunted = Hunted::default();
    while go_on() {
        let seed = base.wrapping_add(hunted.seeds);
        hunted.seeds += 1;
        let plan = task.plan(seed);
        let ran = run_at_most(&plan, planted, false, MOST_STEPS);
        let marks = ran.as_ref().map_or_else(|marks| *marks, |it| it.marks);
        hunted.reached += u64::from(marks.reached(bug));
        let Ok(outcome) = ran else {
            hunted.long_runs += 1;
            continue;
        };
        hunted.assertions += u64::from(matches!(outcome.verdict, Verdict::Panic { .. }));
        let code = outcome.verdict.code();
        let counts = code.is_some_and(|code| codes.contains(&code));
        if counts && run(&plan, Planted::NONE, false).verdict == Verdict::Pass {
            hunted.found = Some(Found {
                seed,
                plan,
                outcome,
            });
            return hunted;
        }
    }
    hunted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::invariant_named;

    #[test]
    fn every_bug_names_invariants_that_exist() {
        for bug in Bug::ALL {
            let info = bug_info(*bug);
            assert!(!info.codes.is_empty() && !info.about.is_empty());
            for code in info.codes {
                let known = *code == STUCK
                    || invariant_named(code).is_some()
                    || AWAITED_CODES.contains(code);
                assert!(known, "{code} of {}", bug.name());
            }
        }
    }
}
