//! Removes entries of the plan (workload, faults and actions) that come after the failure or that
//! the failure does not need. Merges other entries.

use super::Search;
use crate::plan::{Plan, When, WorkloadRow};
use std::ops::Range;

const SECOND: u64 = 1_000_000;

/// Removes the faults, actions and workload that begin after the failure, because they cannot cause
/// it.
pub(super) fn cut_the_end(search: &mut Search<'_>) {
    let Some(at_us) = search.failed.at_us else {
        return;
    };
    // The active phase of the new plan ends at the first full second after the failure. If the
    // failure is later than the active phase, the active phase keeps its length.
    let end_us = at_us.min(search.best.active_us);
    let in_time = |when: &When| match when {
        When::At(us) => *us <= end_us,
        When::Event { .. } => true,
    };
    search.attempt_with(|plan| {
        plan.workload.retain(|row| in_time(&row.when));
        plan.faults.retain(|row| in_time(&row.when));
        plan.actions.retain(|row| in_time(&row.when));
        let rounded_us = (end_us / SECOND + 1) * SECOND;
        plan.active_us = plan.active_us.min(rounded_us);
    });
}

/// Removes workload rows, faults and actions. All of them are treated as one list.
pub(super) fn drop_rows(search: &mut Search<'_>) {
    search.leave_out(|plan| super::Size::of(plan).steps, without);
}

pub(super) fn without(plan: &Plan, rows: Range<usize>) -> Plan {
    let mut plan = plan.clone();
    let mut number = 0;
    let mut kept = || {
        number += 1;
        !rows.contains(&(number - 1))
    };
    plan.workload.retain(|_| kept());
    plan.faults.retain(|_| kept());
    plan.actions.retain(|_| kept());
    plan
}

/// Merges pairs of workload rows. If two rows cannot be merged, tries to run both in one session.
/// At the end the sessions are renumbered from 0.
pub(super) fn join_rows(search: &mut Search<'_>) {
    let mut second = search.best.workload.len();
    while second > 1 {
        second -= 1;
        for first in 0..second {
            let (a, b) = (
                search.best.workload[first].clone(),
                search.best.workload[second].clone(),
            );
            let joined = joined(&a, &b).into_iter().any(|row| {
                search.attempt_with(|plan| {
                    plan.workload[first] = row;
                    plan.workload.remove(second);
                })
            });
            if joined {
                break;
            }
            search.attempt_with(|plan| plan.workload[second].session = a.session);
        }
    }
    search.attempt_with(number_sessions);
}

/// The workload rows that could replace two rows. Each has the transactions of both rows. The other
/// values are taken from the first row, from the second row, or from the row that causes more work.
fn joined(a: &WorkloadRow, b: &WorkloadRow) -> [WorkloadRow; 3] {
    let transactions = a.transactions.saturating_add(b.transactions);
    let most = WorkloadRow {
        rows: a.rows.max(b.rows),
        bytes: a.bytes.max(b.bytes),
        message: a.message.max(b.message),
        pause_us: a.pause_us.min(b.pause_us),
        asynchronous: a.asynchronous || b.asynchronous,
        ..a.clone()
    };
    [a.clone(), b.clone(), most].map(|row| WorkloadRow {
        transactions,
        when: a.when.clone(),
        ..row
    })
}

fn number_sessions(plan: &mut Plan) {
    let mut known = Vec::new();
    for row in &mut plan.workload {
        let place = known.iter().position(|session| *session == row.session);
        let place = place.unwrap_or_else(|| {
            known.push(row.session);
            known.len() - 1
        });
        row.session = u32::try_from(place).expect("no more sessions than before");
    }
}
