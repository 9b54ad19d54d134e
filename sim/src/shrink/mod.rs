//! Makes a failing plan small: whatever can go goes, whatever can be plain becomes plain, as long
//! as the run still fails in the same way.
//!
//! The passes work on the plan as data and know nothing of runs: a judge, given by the caller, says
//! whether a candidate fails, and every candidate that does is the new best. They are repeated
//! until none of them helps. There is no clock here: the caller says when it has waited long
//! enough, and the same number of tries always ends at the same plan.

mod choices;
mod narrative;
mod nodes;
mod predicate;
mod rows;
mod simplify;
mod values;

#[cfg(test)]
mod tests;

pub use narrative::{Origin, Unfaithful};
pub use predicate::{Predicate, Shrunk, Symptom, shrink};

use crate::plan::Plan;
use crate::trace::state_hash;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What a judge says of a candidate that fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failed {
    /// When, in microseconds; `None` if unknown.
    pub at_us: Option<u64>,
    /// The trace hash: two plans of the same hash took the same steps.
    pub hash: u64,
}

/// How much there is in a plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size {
    /// Rows of the workload, of the faults and of the actions.
    pub steps: usize,
    /// The faults among them.
    pub faults: usize,
}

impl Size {
    /// That of a plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let faults = plan.faults.len();
        Self {
            steps: plan.workload.len() + faults + plan.actions.len(),
            faults,
        }
    }
}

/// How far the search is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Candidates that were judged.
    pub tries: u64,
    /// The smallest plan so far.
    pub size: Size,
    /// What is being tried.
    pub pass: &'static str,
}

/// What a search came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reduced {
    /// The smallest plan that fails.
    pub plan: Plan,
    /// Candidates that were judged.
    pub tries: u64,
}

/// One kind of simplification, with the name that progress shows.
type Pass = (&'static str, fn(&mut Search<'_>));

/// In the order that pays: what removes most comes first, since every later try then costs less.
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

/// Another way down, which meets other plans: chance is left in until fewer rows do not help any
/// more.
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

/// A plan of so few rows is not worth another way.
const FEW: usize = 2;

/// Makes a plan small that fails in the way `failed` tells. `judge` decides on candidates; `go_on`
/// is asked before each.
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
        judge,
        go_on,
    };
    search.descend(&PASSES);
    if Size::of(&search.best).steps > FEW && !search.over {
        let first = std::mem::replace(&mut search.best, plan.clone());
        search.failed = failed;
        search.tried = BTreeSet::from([state_hash(plan)]);
        search.descend(&OTHER_WAY);
        if Size::of(&search.best) >= Size::of(&first) {
            search.best = first;
        }
    }
    Reduced {
        plan: search.best,
        tries: search.tries,
    }
}

struct Search<'a> {
    best: Plan,
    failed: Failed,
    /// Hashes of all candidates on this way down: passes propose the same ones again and again.
    tried: BTreeSet<u64>,
    /// What came of candidates on any way.
    judged: BTreeMap<u64, Option<Failed>>,
    tries: u64,
    over: bool,
    pass: &'static str,
    judge: &'a mut dyn FnMut(&Plan) -> Option<Failed>,
    go_on: &'a mut dyn FnMut(&Progress) -> bool,
}

impl Search<'_> {
    /// All passes until none of them helps, nor another seed.
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

    /// Judges a candidate that has not been judged yet; one that fails is the new best.
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
        self.best = candidate;
        self.failed = failed;
    }

    /// Changes the best plan, and keeps the change if it still fails.
    fn attempt_with(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        self.attempt(candidate)
    }

    /// Leaves out what can be left out of a list: all of it, then halves, down to single entries,
    /// the last ones first. `without` gives the plan without a range of the list.
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
