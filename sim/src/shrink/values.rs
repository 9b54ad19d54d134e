//! Simplifies values: fewer transactions and bytes, shorter and rounder times, booleans at their
//! defaults.

use super::{Search, nodes};
use crate::plan::{Action, EventKind, Fault, Plan, When};

/// A value of a plan that can be simplified.
enum Knob<'a> {
    /// A count. Lower values are simpler, down to the given minimum.
    Count(&'a mut u32, u32),
    /// A number whose default is 0. All other values are equally simple.
    Off(&'a mut u32),
    /// A time in microseconds. Short and round values are simpler.
    Time(&'a mut u64),
    /// Microseconds in either direction.
    Jump(&'a mut i64),
    /// A boolean whose default is false.
    Switch(&'a mut bool),
}

/// All values in the plan's workload, faults and actions. The order of the values depends only on
/// the kinds of these entries.
fn knobs(plan: &mut Plan) -> Vec<Knob<'_>> {
    let mut knobs = Vec::new();
    for row in &mut plan.workload {
        knobs.extend([
            Knob::Count(&mut row.transactions, 1),
            Knob::Count(&mut row.rows, 1),
            Knob::Count(&mut row.message, 0),
            Knob::Count(&mut row.bytes, 8),
            Knob::Off(&mut row.rollback_every),
            Knob::Off(&mut row.read_every),
            Knob::Switch(&mut row.asynchronous),
            Knob::Time(&mut row.pause_us),
            of_when(&mut row.when),
        ]);
    }
    for row in &mut plan.faults {
        knobs.push(of_when(&mut row.when));
        of_fault(&mut row.fault, &mut knobs);
    }
    for row in &mut plan.actions {
        knobs.push(of_when(&mut row.when));
        match &mut row.action {
            Action::Sql { .. } | Action::Reload { .. } | Action::GrowDisk { .. } => {}
        }
    }
    for node in &mut plan.nodes {
        knobs.push(Knob::Jump(&mut node.clock_offset_us));
    }
    knobs.push(Knob::Time(&mut plan.active_us));
    knobs
}

fn of_when(when: &mut When) -> Knob<'_> {
    match when {
        When::At(us) => Knob::Time(us),
        When::Event { nth, .. } => Knob::Count(nth, 1),
    }
}

fn of_fault<'a>(fault: &'a mut Fault, knobs: &mut Vec<Knob<'a>>) {
    match fault {
        Fault::PowerLoss { off_us, .. }
        | Fault::NodeCrash { off_us, .. }
        | Fault::Shutdown { off_us, .. } => knobs.push(Knob::Time(off_us)),
        Fault::Partition {
            one_way, for_us, ..
        } => knobs.extend([Knob::Switch(one_way), Knob::Time(for_us)]),
        Fault::Delay { by_us, for_us, .. } => {
            knobs.extend([Knob::Time(by_us), Knob::Time(for_us)]);
        }
        Fault::FsyncError { drop_pages, .. } => knobs.push(Knob::Switch(drop_pages)),
        Fault::DiskFull { for_us, .. }
        | Fault::Pause { for_us, .. }
        | Fault::Stall { for_us, .. }
        | Fault::StopReading { for_us, .. } => {
            knobs.push(Knob::Time(for_us));
        }
        Fault::ClockJump { by_us, .. } => knobs.push(Knob::Jump(by_us)),
        Fault::Reset { .. } | Fault::Kill { .. } => {}
    }
}

pub(super) fn simplify(search: &mut Search<'_>) {
    while [8, 4, 2].into_iter().any(|part| scale_down(search, part)) {}
    let count = knobs(&mut search.best.clone()).len();
    for n in 0..count {
        match &mut knobs(&mut search.best.clone())[n] {
            Knob::Count(_, least) => fewer(search, n, u64::from(*least)),
            Knob::Off(_) | Knob::Switch(_) => {
                set(search, n, 0);
            }
            Knob::Time(_) | Knob::Jump(_) => shorter(search, n),
        }
    }
}

/// The absolute value of the nth knob. A knob is a number or a switch in the plan.
fn get(plan: &Plan, n: usize) -> u64 {
    match &mut knobs(&mut plan.clone())[n] {
        Knob::Count(value, _) | Knob::Off(value) => u64::from(**value),
        Knob::Time(us) => **us,
        Knob::Jump(us) => us.unsigned_abs(),
        Knob::Switch(on) => u64::from(**on),
    }
}

/// Tries a smaller value.
fn set(search: &mut Search<'_>, n: usize, new: u64) -> bool {
    search.attempt_with(|plan| match &mut knobs(plan)[n] {
        Knob::Count(value, _) | Knob::Off(value) => {
            **value = u32::try_from(new).expect("smaller than the old value");
        }
        Knob::Time(us) => **us = new,
        Knob::Jump(us) => {
            let size = i64::try_from(new).expect("smaller than the old value");
            **us = us.signum() * size;
        }
        Knob::Switch(on) => **on = new != 0,
    })
}

/// Searches the smallest failing value by bisection.
fn fewer(search: &mut Search<'_>, n: usize, least: u64) {
    let mut most = get(&search.best, n);
    let mut passes = least;
    if most <= least || set(search, n, least) {
        return;
    }
    while passes + 1 < most && !search.over {
        let middle = passes + (most - passes) / 2;
        if set(search, n, middle) {
            most = middle;
        } else {
            passes = middle;
        }
    }
}

/// Divides all numbers of transactions and all event numbers (`nth`) by `part`. A fault or action
/// may wait for the nth event, and that event may need many transactions. Therefore both numbers
/// must shrink together.
fn scale_down(search: &mut Search<'_>, part: u32) -> bool {
    let rows = search.best.faults.iter().map(|row| &row.when);
    let rows = rows.chain(search.best.actions.iter().map(|row| &row.when));
    let some_wait = rows
        .into_iter()
        .any(|when| matches!(when, When::Event { nth: 2.., .. }));
    some_wait
        && search.attempt_with(|plan| {
            let whens = plan.faults.iter_mut().map(|row| &mut row.when);
            for when in whens.chain(plan.actions.iter_mut().map(|row| &mut row.when)) {
                match when {
                    When::Event { nth, .. } => *nth = nth.div_ceil(part),
                    When::At(_) => {}
                }
            }
            for row in &mut plan.workload {
                row.transactions = row.transactions.div_ceil(part);
            }
        })
}

/// Replaces a time by shorter and rounder times, as long as the plan with the new time fails.
fn shorter(search: &mut Search<'_>, n: usize) {
    loop {
        let us = get(&search.best, n);
        let found = plainer_times(us)
            .into_iter()
            .find(|time| set(search, n, *time));
        if found.is_none() {
            return;
        }
    }
}

/// Times that are simpler than this one, the best first.
fn plainer_times(us: u64) -> Vec<u64> {
    let whole = |us: u64, unit: u64| us / unit * unit;
    let halves = [us / 8, us / 4, us / 2].map(|us| whole(us, magnitude(us)));
    let rounded = [1_000_000, 100_000, 10_000, 1_000].map(|unit| whole(us, unit));
    let mut times = vec![0];
    for time in halves.into_iter().chain(rounded) {
        if time < us && !times.contains(&time) {
            times.push(time);
        }
    }
    times.retain(|time| *time < us);
    times
}

/// The largest power of ten that is not above the number.
fn magnitude(number: u64) -> u64 {
    10u64.pow(number.checked_ilog10().unwrap_or(0))
}

/// Replaces the time of a fault by an occurrence of an event. After a change of the code, events
/// happen at other times, and the plan still hits the same event.
pub(super) fn wait_for_events(search: &mut Search<'_>) {
    for row in 0..search.best.faults.len() {
        let fault = &mut search.best.faults[row].fault.clone();
        let When::At(1..) = search.best.faults[row].when else {
            continue;
        };
        let node = nodes::of_fault(fault).first().map_or(0, |node| **node);
        let events = EventKind::ALL
            .into_iter()
            .flat_map(|event| [1, 2].map(|nth| When::Event { node, event, nth }));
        for when in events {
            if search.attempt_with(|plan| plan.faults[row].when = when) {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_round() {
        assert_eq!(
            plainer_times(3_217_000),
            [
                0, 400_000, 800_000, 1_000_000, 3_000_000, 3_200_000, 3_210_000
            ]
        );
        assert_eq!(plainer_times(1), [0]);
        assert_eq!(plainer_times(0), [0; 0]);
    }
}
