//! Tests each pass with an artificial predicate: what the pass must remove, and what it must keep.
//! No test here runs a simulation.

use super::*;
use crate::plan::{
    Action, DiskPlan, Fault, NetworkPlan, Profile, Scenario, TINY, When, WorkloadRow, generate,
};
use walsim_core::base::PgVersion;
use walsim_core::wire::sql::Statement;

/// The smallest plan for which `fails` is true. The search starts from the plan of this seed.
fn smallest(seed: u64, fails: impl Fn(&Plan) -> bool) -> Plan {
    let plan = generate(Profile::Default, seed);
    reduced(&plan, u64::MAX, fails).plan
}

fn reduced(plan: &Plan, tries: u64, fails: impl Fn(&Plan) -> bool) -> Reduced {
    assert!(fails(plan), "the predicate does not hold to begin with");
    let failed = |plan: &Plan| Failed {
        at_us: None,
        hash: state_hash(plan),
    };
    let mut judge = |plan: &Plan| fails(plan).then(|| failed(plan));
    let mut go_on = |progress: &Progress| progress.tries < tries;
    reduce(plan, failed(plan), &mut judge, &mut go_on)
}

fn seed_with(fits: impl Fn(&Plan) -> bool) -> u64 {
    let fits = |seed: &u64| fits(&generate(Profile::Default, *seed));
    (0..10_000).find(fits).expect("one of so many seeds")
}

fn loses_power(plan: &Plan, name: &str) -> bool {
    let is_it = |fault: &Fault| matches!(fault, Fault::PowerLoss { node, .. } if plan.nodes[*node].name == name);
    plan.faults.iter().any(|row| is_it(&row.fault))
}

/// The largest number of transactions that a workload entry runs on the primary.
fn most_transactions(plan: &Plan) -> u32 {
    let rows = plan.workload.iter().filter(|row| row.node == 0);
    rows.map(|row| row.transactions).max().unwrap_or(0)
}

#[test]
fn reaches_the_rows_that_matter_with_the_least_values() {
    let seed = seed_with(|plan| loses_power(plan, "standby2"));
    let plan = smallest(seed, |plan| {
        loses_power(plan, "standby2") && most_transactions(plan) >= 3
    });
    assert_eq!(
        Size::of(&plan),
        Size {
            steps: 2,
            faults: 1
        }
    );
    let names: Vec<_> = plan.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["primary", "standby2"]);
    let row = WorkloadRow {
        when: When::At(0),
        session: 0,
        node: 0,
        transactions: 3,
        rows: 1,
        bytes: 8,
        message: 0,
        rollback_every: 0,
        asynchronous: false,
        pause_us: 0,
        read_every: 0,
    };
    assert_eq!(plan.workload, [row]);
    assert!(matches!(
        plan.faults[0].fault,
        Fault::PowerLoss { node: 1, off_us: 0 }
    ));
    assert_eq!(
        (&plan.network, &plan.disks),
        (&NetworkPlan::default(), &DiskPlan::default())
    );
    assert_eq!((plan.active_us, plan.step_delays), (0, false));
    let settings = &plan.nodes[1].settings;
    let mut usual = walsim_core::base::Settings::new(PgVersion::V15, TINY);
    usual.cluster_name = "standby2".into();
    usual.primary_conninfo = Some(("primary".into(), crate::plan::PORT));
    assert_eq!(*settings, usual);
}

#[test]
fn keeps_what_the_failure_needs() {
    // The failure needs two entries of the plan of different kinds. Neither is the last one of its
    // kind.
    let needs = |plan: &Plan| {
        let switches = plan.actions.iter();
        let switches = switches.filter(|row| {
            matches!(
                &row.action,
                Action::Sql {
                    statement: Statement::SwitchWal,
                    ..
                }
            )
        });
        switches.count() >= 2 && plan.nodes.len() == 3 && plan.network.fragment
    };
    let plan = smallest(seed_with(needs), needs);
    assert!(needs(&plan));
    assert_eq!(
        Size::of(&plan),
        Size {
            steps: 2,
            faults: 0
        }
    );
    assert_eq!(
        plan.network,
        NetworkPlan {
            fragment: true,
            ..NetworkPlan::default()
        }
    );
}

#[test]
fn the_end_goes_with_what_would_have_struck_there() {
    let plan = generate(Profile::Default, seed_with(|plan| plan.faults.len() > 3));
    let failed = Failed {
        at_us: Some(4_200_000),
        hash: 0,
    };
    let mut candidates = Vec::new();
    let mut judge = |plan: &Plan| {
        candidates.push(plan.clone());
        None
    };
    reduce(&plan, failed, &mut judge, &mut |p| p.tries < 1);
    assert_eq!(candidates[0].active_us, 5_000_000);
    let faults = candidates[0].faults.iter().map(|row| &row.when);
    let actions = candidates[0].actions.iter().map(|row| &row.when);
    for when in faults.chain(actions) {
        assert!(!matches!(when, When::At(4_200_001..)), "{when:?}");
    }
}

#[test]
fn who_followed_a_node_that_goes_follows_its_upstream() {
    let mut plan = generate(Profile::Default, seed_with(|plan| plan.nodes.len() == 4));
    plan.nodes[2].settings.primary_conninfo = Some(("standby1".into(), crate::plan::PORT));
    let plan = reduced(&plan, u64::MAX, |plan| {
        plan.nodes.iter().any(|node| node.name == "standby2")
    });
    let upstreams: Vec<_> = plan.plan.nodes[1..]
        .iter()
        .map(|n| n.settings.primary_conninfo.clone().expect("a standby").0)
        .collect();
    assert_eq!(upstreams, ["primary"]);
}

#[test]
fn rows_of_one_session_can_do_the_work_of_two() {
    let all = |plan: &Plan| {
        plan.workload
            .iter()
            .map(|row| row.transactions)
            .sum::<u32>()
    };
    let plan = smallest(0, |plan| all(plan) >= 150);
    assert_eq!((plan.workload.len(), all(&plan)), (1, 150));
}

#[test]
fn events_and_transactions_shrink_together() {
    let mut plan = generate(Profile::Faultless, 0);
    plan.faults.push(crate::plan::FaultRow {
        when: When::Event {
            node: 0,
            event: crate::plan::EventKind::CommitAcked,
            nth: 40,
        },
        fault: Fault::Reset { a: 0, b: 1 },
    });
    // A failure that depends on the exact number of transactions.
    let fails = |plan: &Plan| {
        let nth = match plan.faults.first().map(|row| &row.when) {
            Some(When::Event { nth, .. }) => *nth,
            Some(When::At(_)) | None => return false,
        };
        let all: u32 = plan.workload.iter().map(|row| row.transactions).sum();
        all / nth >= 5
    };
    let plan = reduced(&plan, u64::MAX, fails).plan;
    assert_eq!(
        plan.faults[0].when,
        When::Event {
            node: 0,
            event: crate::plan::EventKind::CommitAcked,
            nth: 1
        }
    );
    assert_eq!(plan.workload[0].transactions, 5);
}

#[test]
fn another_seed_may_need_less() {
    let plan = generate(Profile::Default, seed_with(|plan| plan.faults.len() > 2));
    let plan = reduced(&plan, u64::MAX, |plan| {
        plan.faults.len() >= if plan.seed == 5 { 1 } else { 3 }
    });
    assert_eq!((Size::of(&plan.plan).steps, plan.plan.seed), (1, 5));
}

/// The first order of the passes resets values to defaults before it removes workload rows. With
/// default values this failure needs three rows, so the search ends with three rows. The second
/// order finds the plan with one row.
#[test]
fn another_way_down_may_reach_more() {
    let fits = |plan: &Plan| plan.step_delays && plan.nodes.len() > 2 && plan.workload.len() > 2;
    let plan = generate(Profile::Default, seed_with(fits));
    let plan = reduced(&plan, u64::MAX, |plan| {
        let (rows, nodes) = (plan.workload.len(), plan.nodes.len());
        nodes >= 2 && (rows >= 3 || rows >= 1 && plan.step_delays && nodes == 2)
    });
    assert_eq!(Size::of(&plan.plan).steps, 1);
}

#[test]
fn a_pin_that_decides_nothing_is_no_line_of_the_file() {
    let plan = generate(Profile::Default, 1);
    // Two plans count as equal if their runs have the same hash. In this test the hash of a run
    // depends only on the pin of `disk.loss`.
    let failed = |plan: &Plan| Failed {
        at_us: None,
        hash: plan.pins.get("disk.loss").copied().unwrap_or(9),
    };
    let mut judge = |plan: &Plan| Some(failed(plan));
    let small = reduce(&plan, failed(&plan), &mut judge, &mut |_| true).plan;
    let pins: Vec<_> = small.pins.into_iter().collect();
    assert_eq!(pins, [(String::from("disk.loss"), 1)]);
}

#[test]
fn the_same_number_of_tries_ends_at_the_same_plan() {
    let plan = generate(Profile::Default, seed_with(|plan| Size::of(plan).steps > 9));
    let fails = |plan: &Plan| Size::of(plan).steps >= 4 && plan.nodes.len() >= 2;
    let plans = [0, 1, 10, 60, 61].map(|tries| {
        let first = reduced(&plan, tries, fails);
        assert_eq!(first, reduced(&plan, tries, fails));
        assert_eq!(first.tries, tries);
        first.plan
    });
    assert_eq!(plans[0], plan);
    assert_ne!(plans[2], plans[3]);
}

#[test]
fn no_candidate_is_tried_twice() {
    let others = |plan: &Plan| plan.faults.len() + plan.actions.len();
    let plan = generate(Profile::Default, seed_with(|plan| others(plan) > 5));
    let mut seen = BTreeSet::new();
    let mut judge = |plan: &Plan| {
        assert!(seen.insert(state_hash(plan)), "again");
        (others(plan) > 3).then_some(Failed {
            at_us: None,
            hash: 0,
        })
    };
    let failed = Failed {
        at_us: None,
        hash: 0,
    };
    let small = reduce(&plan, failed, &mut judge, &mut |_| true);
    assert_eq!(Size::of(&small.plan).steps, 4);
}

/// Every candidate must be a valid plan that can be written to a file.
#[test]
fn every_candidate_is_a_plan() {
    for n in 0..60 {
        let seed = state_hash(&n);
        let luck = 2 + n % 7;
        let plan = generate(Profile::Default, seed);
        let mut judge = |plan: &Plan| {
            let text = Scenario::from(plan.clone()).to_toml();
            let read = Scenario::parse(&text, "candidate").expect(&text);
            assert_eq!(read.plan, *plan, "{text}");
            let hash = state_hash(plan);
            hash.is_multiple_of(luck).then_some(Failed {
                at_us: Some(hash >> 40),
                hash,
            })
        };
        let failed = Failed {
            at_us: Some(plan.active_us / 2),
            hash: 0,
        };
        let mut go_on = |progress: &Progress| progress.tries < 300;
        reduce(&plan, failed, &mut judge, &mut go_on);
    }
}
