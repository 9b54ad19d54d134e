//! Shrinks a failing plan. The shrinker removes parts of the plan and resets values to their
//! defaults, as long as the run still fails in the same way.
//!
//! A pass changes the plan as data and does not run it. The caller provides a predicate that
//! decides whether a candidate fails. Every candidate that fails becomes the new best plan. The
//! passes are repeated until none of them succeeds.
//!
//! This module has no clock: the caller decides when to stop. After the same number of tries the
//! plan is always the same.

mod choices;
mod narrative;
mod nodes;
mod predicate;
mod rows;
mod simplify;
mod values;

#[cfg(test)]
mod tests;

pub use narrative::{Kept, Unfaithful};
pub use predicate::{Predicate, Shrunk, Symptom, shrink};

use crate::plan::{Counts, PassDone, Plan};
use crate::trace::state_hash;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The predicate's answer for a candidate that fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failed {
    /// The time of the failure in microseconds. This is `None` if it is unknown.
    pub at_us: Option<u64>,
    /// The trace hash. If the hashes of two plans are equal, their runs took the same steps.
    pub hash: u64,
}

/// The size of a plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size {
    /// The number of entries in workload, faults and actions.
    pub steps: usize,
    /// The number of faults.
    pub faults: usize,
}

impl Size {
    /// The size of this plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let faults = plan.faults.len();
        Self {
            steps: plan.workload.len() + faults + plan.actions.len(),
            faults,
        }
    }
}

/// The progress of the search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Number of candidates tried.
    pub tries: u64,
    /// The size of the smallest plan so far.
    pub size: Size,
    /// The current pass.
    pub pass: &'static str,
}

/// The result of a search.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reduced {
    /// The smallest plan that was found to fail.
    pub plan: Plan,
    /// Number of candidates tried.
    pub tries: u64,
    /// The passes that led to this plan, in their order. A pass that did not help is not listed.
    pub passes: Vec<PassDone>,
}

/// A pass, with its name for the progress line.
type Pass = (&'static str, fn(&mut Search<'_>));

/// The passes in their order. The pass that removes most comes first, because a smaller plan runs
/// faster.
const PASSES: [Pass; 9] = [
    ("the end", rows::cut_the_end),
    ("rows", rows::drop_rows),
    ("nodes", nodes::drop_nodes),
    ("simplify", simplify::simplify),
    ("sessions", rows::join_rows),
    ("values", values::simplify),
    ("settings", simplify::plain_settings),
    ("choices", choices::pin_kinds),
    ("events", values::wait_for_events),
];

/// A second order of the passes, which leads to other plans. This order removes entries of the plan
/// first, and resets values to their defaults last.
const OTHER_WAY: [Pass; 9] = [
    ("the end", rows::cut_the_end),
    ("nodes", nodes::drop_nodes),
    ("rows", rows::drop_rows),
    ("sessions", rows::join_rows),
    ("events", values::wait_for_events),
    ("values", values::simplify),
    ("choices", choices::pin_kinds),
    ("settings", simplify::plain_settings),
    ("simplify", simplify::simplify),
];

/// The second order of the passes is not tried if the first order has left at most this many
/// entries in the plan.
const FEW: usize = 2;

/// Shrinks a plan that fails as `failed` describes. `judge` runs a candidate. `go_on` is called
/// before each try, and stops the search by returning false.
pub fn reduce(
    plan: &Plan,
    failed: Failed,
    judge: &mut dyn FnMut(&Plan) -> Option<Failed>,
    go_on: &mut dyn FnMut(&Progress) -> bool,
) -> Reduced {
    let mut search = Search {
        best: plan.clone(),
        failed,
        tried: BTreeSet::from([state_hash(plan)]),
        judged: BTreeMap::new(),
        tries: 0,
        over: false,
        pass: "",
        passes: Vec::new(),
        judge,
        go_on,
    };
    search.descend(&PASSES);
    if Size::of(&search.best).steps > FEW && !search.over {
        let first = std::mem::replace(&mut search.best, plan.clone());
        let passes = std::mem::take(&mut search.passes);
        search.failed = failed;
        search.tried = BTreeSet::from([state_hash(plan)]);
        search.descend(&OTHER_WAY);
        if Size::of(&search.best) >= Size::of(&first) {
            search.best = first;
            search.passes = passes;
        }
    }
    Reduced {
        plan: search.best,
        tries: search.tries,
        passes: search.passes,
    }
}

struct Search<'a> {
    best: Plan,
    failed: Failed,
    /// The hashes of the candidates that were tried with this order of the passes. Passes often
    /// propose a candidate that was tried before.
    tried: BTreeSet<u64>,
    /// The results of all candidates that were run.
    judged: BTreeMap<u64, Option<Failed>>,
    tries: u64,
    over: bool,
    pass: &'static str,
    passes: Vec<PassDone>,
    judge: &'a mut dyn FnMut(&Plan) -> Option<Failed>,
    go_on: &'a mut dyn FnMut(&Progress) -> bool,
}

impl Search<'_> {
    /// Repeats all passes until no pass succeeds. Then tries other seeds, and starts again if one
    /// of them helps.
    fn descend(&mut self, passes: &[Pass]) {
        loop {
            self.until_nothing_helps(passes);
            self.pass = "other seeds";
            if !choices::other_seed(self) {
                return;
            }
        }
    }

    fn until_nothing_helps(&mut self, passes: &[Pass]) {
        loop {
            let before = state_hash(&self.best);
            for (name, pass) in passes {
                self.pass = name;
                pass(self);
            }
            if self.over || state_hash(&self.best) == before {
                return;
            }
        }
    }

    /// Runs a candidate unless it was run before. A candidate that fails becomes the best plan.
    fn attempt(&mut self, candidate: Plan) -> bool {
        let judged = self.judge(&candidate);
        if let Some(failed) = judged {
            self.accept(candidate, failed);
        }
        judged.is_some()
    }

    fn judge(&mut self, candidate: &Plan) -> Option<Failed> {
        let progress = Progress {
            tries: self.tries,
            size: Size::of(&self.best),
            pass: self.pass,
        };
        self.over = self.over || !(self.go_on)(&progress);
        let hash = state_hash(candidate);
        if self.over || candidate.flaw().is_some() || !self.tried.insert(hash) {
            return None;
        }
        if let Some(known) = self.judged.get(&hash) {
            return *known;
        }
        self.tries += 1;
        let judged = (self.judge)(candidate);
        self.judged.insert(hash, judged);
        judged
    }

    fn accept(&mut self, candidate: Plan, failed: Failed) {
        let left = Counts::of(&candidate);
        match self.passes.last_mut() {
            Some(last) if last.name == self.pass => {
                last.changes += 1;
                last.left = left;
            }
            Some(_) | None => self.passes.push(PassDone {
                name: self.pass.to_owned(),
                changes: 1,
                left,
            }),
        }
        self.best = candidate;
        self.failed = failed;
    }

    /// Applies a change to the best plan, and keeps the change if the plan still fails.
    fn attempt_with(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        self.attempt(candidate)
    }

    /// Removes as many entries of a list as possible. Tries to remove all entries, then each half,
    /// and so on down to single entries. Later entries are tried first. `without` returns the plan
    /// without a range of the list.
    fn leave_out(
        &mut self,
        count: impl Fn(&Plan) -> usize,
        without: impl Fn(&Plan, Range<usize>) -> Plan,
    ) {
        let mut size = count(&self.best);
        while size > 0 {
            let mut end = count(&self.best);
            while end > 0 && !self.over {
                let from = end.saturating_sub(size);
                let candidate = without(&self.best, from..end);
                self.attempt(candidate);
                end = from;
            }
            size /= 2;
        }
    }
}
