//! The planted bugs: what each is, which invariants it may violate, and the hunt for it.

use crate::fuzz::Task;
use crate::plan::Plan;
use crate::world::{Outcome, Verdict, run, run_at_most};
use walsim_core::base::{Bug, Planted};

/// A bug can send a standby into a loop that takes hardly any simulated time: another seed shows it sooner. A hundred
/// times what a run takes.
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

/// Bugs that wait for the check that is to find them, by its code. Until it exists a hunt for all bugs only lists them.
const AWAITING: &[(Bug, &str)] = &[];

/// The code of the check that is to find the bug, and that does not exist yet.
#[must_use]
pub fn awaited_check(bug: Bug) -> Option<&'static str> {
    let waits = AWAITING.iter().find(|(waiting, _)| *waiting == bug);
    waits.map(|(_, code)| *code)
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
            &["RECOVER", "LOCAL", "SEND", "REPLAY", "PREFIX"],
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
            &["LOCAL", "PAGE", "RECOVER", "SEND", "REPLAY", "PREFIX"],
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
            &["MONO", "RETAIN", "SLOT"],
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
}

/// Looks for a bug, seed by seed from `base`, as long as `go_on` says. A seed counts if it violates one of the bug's
/// invariants, and passes without the bug.
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
        let Ok(outcome) = ran else { continue };
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
                let awaited = AWAITING.iter().any(|(_, awaited)| awaited == code);
                let known = invariant_named(code).is_some() || awaited;
                assert!(known, "{code} of {}", bug.name());
            }
        }
    }
}
