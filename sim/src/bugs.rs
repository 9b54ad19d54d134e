//! The planted bugs. Describes each bug, lists the invariants that it may violate, and hunts for
//! it.

use crate::fuzz::Task;
use crate::plan::Plan;
use crate::world::{Outcome, STUCK, Verdict, run, run_at_most};
use std::fmt;
use walsim_core::base::{Bug, PgVersion, Planted};

/// The maximum number of steps of a run, which is a hundred times the usual number. With a planted
/// bug, a standby may loop while simulated time hardly advances. Such a run is abandoned, because
/// another seed shows the bug sooner.
const MOST_STEPS: u64 = 2_500_000;

/// The description of a planted bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BugInfo {
    /// The bug.
    pub bug: Bug,
    /// The invariants that the bug may violate. The bug counts as found only if a run violates one
    /// of these.
    pub codes: &'static [&'static str],
    /// The effect of the bug, in one sentence.
    pub about: &'static str,
}

/// Bugs whose check does not exist yet. A hunt for all bugs lists these bugs and does not search
/// for them.
const AWAITING: &[(Bug, &str)] = &[];

/// Bugs that a hunt would rarely find, because too few seeds reach them. For each bug there is a
/// scenario that shows it.
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

/// Bugs that can be planted only in some versions, because the others do not have the code. All
/// other bugs can be planted in every version.
const VERSIONS: &[(Bug, Versions)] = &[
    // Before 18 no process judges a slot when it acquires the slot (ReplicationSlotAcquire).
    (Bug::InvalidSlotStreamed, Versions::since(PgVersion::V18)),
];

/// A range of versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Versions {
    first: PgVersion,
    /// This is `None` if the newest version is included.
    last: Option<PgVersion>,
}

impl Versions {
    const ALL: Self = Self::since(PgVersion::ALL[0]);

    const fn since(first: PgVersion) -> Self {
        Self { first, last: None }
    }

    /// Is this version in the range?
    #[must_use]
    pub fn contains(self, version: PgVersion) -> bool {
        self.first <= version && self.last.is_none_or(|last| version <= last)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.first.major();
        match self.last {
            None => write!(f, "{first} and later"),
            Some(last) if last == self.first => write!(f, "{first}"),
            Some(last) => write!(f, "{first} to {}", last.major()),
        }
    }
}

/// Why a hunt for all bugs skips a bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Skipped {
    /// The servers have a version in which the bug cannot be planted.
    OtherVersions(Versions),
    /// The check that will find the bug does not exist yet.
    AwaitsCheck(&'static str),
    /// Too few seeds reach the bug. The scenario with this name shows the bug.
    Played(&'static str),
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherVersions(versions) => write!(f, "exists only in version {versions}"),
            Self::AwaitsCheck(check) => write!(f, "its check does not exist yet: {check}"),
            Self::Played(scenario) => write!(f, "shown by scenarios/{scenario}.toml"),
        }
    }
}

/// The reason for which a hunt for all bugs skips this bug, if there is one. `version` is the
/// version of all servers. `None` means that each seed draws a version.
#[must_use]
pub fn skipped(bug: Bug, version: Option<PgVersion>) -> Option<Skipped> {
    let versions = versions_of(bug);
    if version.is_some_and(|version| !versions.contains(version)) {
        return Some(Skipped::OtherVersions(versions));
    }
    let awaited = awaited_check(bug).map(Skipped::AwaitsCheck);
    let played = PLAYED.iter().find(|(played, _)| *played == bug);
    awaited.or(played.map(|(_, scenario)| Skipped::Played(scenario)))
}

/// The versions in which the bug can be planted.
#[must_use]
pub fn versions_of(bug: Bug) -> Versions {
    let limited = VERSIONS.iter().find(|(limited, _)| *limited == bug);
    limited.map_or(Versions::ALL, |(_, versions)| *versions)
}

/// The name of the check that will find this bug. Returns `None` if the check already exists.
#[must_use]
pub fn awaited_check(bug: Bug) -> Option<&'static str> {
    let waits = AWAITING.iter().find(|(waiting, _)| *waiting == bug);
    waits.map(|(_, check)| *check)
}

/// The description of a bug.
#[must_use]
pub const fn bug_info(bug: Bug) -> BugInfo {
    let (codes, about): (&'static [&'static str], _) = match bug {
        Bug::WalsenderSendsUnflushed => (
            &["SEND", "PREFIX"],
            "a walsender sends WAL that is written but not flushed",
        ),
        Bug::WalreceiverExitWithoutFlush => (
            &["REPLAY", "RECOVER", "PREFIX"],
            "a walreceiver exits without flushing WAL that it has written; the startup process replays this WAL",
        ),
        Bug::RenameNotDurable => (
            &["RECOVER", "LOCAL", "SEND", "REPLAY", "REPORT", "PREFIX"],
            "a file is renamed into place without an fsync of its directory",
        ),
        Bug::CommitCrossesRedoPoint => (
            &["LOCAL", "PAGE"],
            "a checkpoint does not wait for a commit whose record is before the redo point and whose status is not set yet",
        ),
        Bug::ContrecordDivergence => (
            &["PREFIX", "LIVE"],
            "crash recovery overwrites the first half of a record that has already been sent to a standby",
        ),
        Bug::LostWalreceiverStartRequest => (
            &["LIVE"],
            "the postmaster drops a request for a walreceiver if the previous one has not been reaped yet",
        ),
        Bug::ShutdownDropsUnconfirmedTail => (
            &["DURABLE"],
            "a clean shutdown ends before the standby has confirmed the last WAL",
        ),
        Bug::FsyncRetry => (
            &[
                "LOCAL", "PAGE", "RECOVER", "SEND", "REPLAY", "REPORT", "PREFIX",
            ],
            "a failed fsync of WAL is retried, and the success of the retry is trusted",
        ),
        Bug::TrustUnvalidatedLength => (
            &["RECOVER"],
            "recovery allocates memory for a record length that it read from bytes of a recycled segment",
        ),
        Bug::ShortLengthAtPageEnd => (
            &["RECOVER"],
            "recovery computes a checksum with a record length that is smaller than a record header",
        ),
        Bug::RecycledFirstPage => (
            &["LIVE"],
            "a standby reads a recycled segment as the next one, and repeats this without end",
        ),
        Bug::SlotTempFileLeft => (
            &["RETAIN", "SLOT", "LIVE"],
            "after one failed save a slot can never be saved again, and retains its WAL",
        ),
        Bug::SlotAdvanceNotDirtied => (
            &["RETAIN", "SLOT"],
            "a slot that was advanced by hand is at its old position after a clean restart",
        ),
        Bug::SlotReserveVsCheckpoint => (
            &["SLOT"],
            "a checkpoint removes the WAL that a new slot is about to reserve",
        ),
        Bug::SlotAdvanceDuringCheckpoint => (
            &["SLOT"],
            "a checkpoint removes WAL that the state file of a slot still requires",
        ),
        Bug::InvalidSlotStillPins => (&["RETAIN"], "an invalidated slot still retains WAL"),
        Bug::HorizonNotRecomputed => (
            &["RETAIN"],
            "a checkpoint that invalidates slots does not compute the horizon again, and keeps their WAL",
        ),
        Bug::StartupFreezes => (
            &["LIVE", "PROMPT"],
            "the startup process of a standby stops replaying forever",
        ),
        Bug::SmartShutdownHangs => (&["LIVE"], "a smart shutdown never ends"),
        Bug::FastShutdownHangs => (&["LIVE"], "a fast shutdown never ends"),
        Bug::SlotSaveTakesMemoryBack => (
            &["MOVES"],
            "saving a slot resets a position that was advanced during the save",
        ),
        Bug::StartReplicationMovesSlot => (
            &["MOVES"],
            "START_REPLICATION moves the slot to the requested start position",
        ),
        Bug::SlotMovedPastFlush => (
            &["MOVES"],
            "a slot is a segment ahead of what its standby has flushed",
        ),
        Bug::SlotMovedToWrite => (
            &["MOVES"],
            "a slot follows the write position of its standby instead of the flush position",
        ),
        Bug::SlotNeverMoved => (
            &["MOVES", "RETAIN"],
            "a slot does not advance although its standby reports progress",
        ),
        Bug::CheckpointDropsAbsentSlots => (
            &["DROP"],
            "a checkpoint drops the slots of disconnected standbys",
        ),
        Bug::InvalidSlotStreamed => (
            &["INVALID"],
            "a walsender streams from a slot that was invalidated while the walsender acquired it",
        ),
        Bug::DroppedSlotWritten => (
            &["OWNER", "MOVES"],
            "a process clears the entry of a slot that it has dropped, although another slot may use the entry",
        ),
        Bug::WalKeepSizeIgnored => (&["KEEP"], "WAL that wal_keep_size retains is removed"),
        Bug::ApplyReportedBeforeReplay => (
            &["REPORT"],
            "a standby reports WAL as applied that it has only received",
        ),
        Bug::FlushReportedBeforeFsync => (
            &["REPORT", "DURABLE"],
            "a standby reports WAL as flushed that it has only written",
        ),
        Bug::AckServerEndOfWal => (
            &["REPORT", "DURABLE", "SLOT"],
            "a standby reports the end of its upstream's WAL as its own flush position",
        ),
        Bug::WalsendersNotWoken => (
            &["PROMPT"],
            "a flush does not wake the walsenders, which then send the WAL late",
        ),
        Bug::StartupNotWoken => (
            &["PROMPT", "LIVE"],
            "a flush of the walreceiver does not wake the startup process, which then replays the WAL late",
        ),
        Bug::LatchResetTooLate => (
            &["PROMPT"],
            "a walsender loses wake-ups that arrive while it sends",
        ),
        Bug::TimeoutEndsHealthyStandby => (
            &["HEALTHY"],
            "a walsender disconnects a standby that replies",
        ),
        Bug::ReceiverNeverGivesUp => (
            &[STUCK, "LIVE"],
            "a walreceiver does not disconnect from a silent upstream, and uses the CPU all the time",
        ),
        Bug::ClogBeforeWal => (
            &["CLOG", "LOCAL"],
            "a commit status is durable before its commit record",
        ),
        Bug::XidEndsBeforeStatus => (
            &["XID", "LOCAL"],
            "a committed transaction appears aborted for a moment",
        ),
        Bug::RedoPointerNotRechecked => (
            &["FPI", "PAGE"],
            "a page's first change after a redo point has no full-page image",
        ),
        Bug::ImageDecisionOffByOne => (
            &["FPI", "PAGE"],
            "a page gets no full-page image if the last record before the redo point changed it",
        ),
        Bug::RedoPointerPublishedLate => (
            &["FPI", "PAGE"],
            "records after a redo point are assembled with the old redo pointer",
        ),
        Bug::WalAfterShutdownCheckpoint => (
            &["CHAIN", "PREFIX"],
            "WAL is written after the shutdown checkpoint, and the next start overwrites it",
        ),
        Bug::FailedCheckpointReportedDone => (
            &["CHECKPOINT"],
            "CHECKPOINT succeeds although the checkpoint failed",
        ),
        Bug::StaleTailInLastPage => (
            &["CHAIN", "PREFIX"],
            "the page in which recovery ends keeps old bytes after the end of WAL",
        ),
        Bug::SwitchBreaksChain => (
            &["CHAIN", "LIVE", "LOCAL", "PREFIX", "RECOVER", "REPLAY"],
            "the record after a switch that fills its segment has a wrong xl_prev",
        ),
        Bug::PageChangedWithoutRegisteredBlock => (
            &["PAGE", "FPI"],
            "a record changes a page without registering it, so the page gets no image and a torn write of it is not repaired",
        ),
        Bug::RecyclingWithoutLimit => (&["FILES"], "pg_wal never shrinks"),
        Bug::RetryWithoutPause => (
            &["EFFORT", STUCK],
            "a standby whose upstream is down connects again and again without a pause",
        ),
        Bug::CopyDataBeforeCopyBoth => (
            &["WIRE"],
            "a walsender sends a keepalive before CopyBothResponse",
        ),
        Bug::RedoForgetsDirty => (
            &["PAGE"],
            "redo leaves a changed buffer clean, so its eviction loses the change",
        ),
        Bug::StartAheadOfFlushAccepted => (
            &["SEND"],
            "a walsender accepts a start position past the flush position of the primary",
        ),
        Bug::RecycledSegmentSent => (
            &["SEND", "PREFIX"],
            "a walsender sends newer WAL from a segment that was recycled while the walsender read it",
        ),
        Bug::CrashEndsServer => (
            &["RECOVER"],
            "a server shuts down after the crash of a process instead of restarting its processes",
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
            "a restarted standby has lost the status of commits from before its restartpoint",
        ),
        Bug::ReceiverTakesFlushBack => (
            &["MONO"],
            "a walreceiver sets the flush position back when it streams a segment again",
        ),
        Bug::MinRecoveryPointLowered => (
            &["MONO"],
            "the minimum recovery point of a standby goes back, so it accepts readers before its pages are consistent",
        ),
        Bug::PageWrittenWithoutLock => (
            &["PAGE"],
            "a checkpoint writes a page while another process changes it",
        ),
        Bug::SnapshotExcludesNewest => (
            &["LOCAL"],
            "a session does not see the row that it has just committed",
        ),
        Bug::SlotRestoredAtSegmentStart => (
            &["MOVES"],
            "after a restart a slot is at the start of its segment, not at the saved position",
        ),
    };
    BugInfo { bug, codes, about }
}

/// A bug that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The seed whose run shows the bug.
    pub seed: u64,
    /// The plan of the seed.
    pub plan: Plan,
    /// The outcome of the run that shows the bug.
    pub outcome: Outcome,
}

/// The result of a hunt for a bug.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Hunted {
    /// The first seed that shows the bug. This is `None` if no seed did.
    pub found: Option<Found>,
    /// Number of seeds run.
    pub seeds: u64,
    /// The number of seeds whose run reached the code in which the bug is planted.
    pub reached: u64,
    /// The number of seeds in which an assertion failed. A failed assertion does not count as
    /// finding the bug, because a check should have reported a violation before.
    pub assertions: u64,
    /// The number of seeds whose run was abandoned after a hundred times the usual number of steps.
    pub long_runs: u64,
}

/// Hunts for a bug, seed by seed from `base`, as long as `go_on` returns true. A seed shows the bug
/// if the run with the bug violates one of the bug's invariants, and the run without the bug
/// passes.
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
                let known = *code == STUCK || invariant_named(code).is_some();
                assert!(known, "{code} of {}", bug.name());
            }
        }
    }

    /// If the user gives a version, bugs that this version cannot have are skipped. Otherwise each
    /// seed draws a version, and no bug is skipped.
    #[test]
    fn a_bug_is_skipped_in_versions_that_do_not_have_it() {
        let bug = Bug::InvalidSlotStreamed;
        let played = "slot-is-acquired-before-it-is-looked-at";
        for version in PgVersion::ALL {
            let expected = if version < PgVersion::V18 {
                "exists only in version 18 and later".into()
            } else {
                format!("shown by scenarios/{played}.toml")
            };
            let skipped = skipped(bug, Some(version)).map(|why| why.to_string());
            assert_eq!(skipped, Some(expected), "{version:?}");
        }
        assert_eq!(skipped(bug, None), Some(Skipped::Played(played)));
        assert_eq!(skipped(Bug::SlotTempFileLeft, Some(PgVersion::V19)), None);
    }

    #[test]
    fn a_range_of_versions_is_shown_with_its_ends() {
        let until = |last| Versions {
            last: Some(last),
            ..Versions::since(PgVersion::V16)
        };
        let (one, some) = (until(PgVersion::V16), until(PgVersion::V17));
        let texts = [one, some, Versions::since(PgVersion::V16)].map(|range| range.to_string());
        assert_eq!(texts, ["16", "16 to 17", "16 and later"]);
        let within = PgVersion::ALL.map(|version| some.contains(version));
        assert_eq!(within, [false, true, true, false, false]);
        assert!(
            PgVersion::ALL
                .iter()
                .all(|version| Versions::ALL.contains(*version))
        );
    }
}
