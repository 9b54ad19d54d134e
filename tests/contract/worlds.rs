//! Promises of the contract that only a test with a whole world can check.

use std::collections::BTreeMap;
use walsim::plan::{DiskPlan, Fault, FaultRow, NetworkPlan, NodePlan, Plan, When, WorkloadRow};
use walsim::trace::state_hash;
use walsim::world::{Verdict, World, run};
use walsim_core::base::{Geometry, Mark, Mono, PgVersion, Planted, Settings};
use walsim_core::shmem::WalSndState;

fn plan(standbys: usize) -> Plan {
    let mut settings = Settings::new(PgVersion::V15, Geometry::TINY);
    settings.wal_sender_timeout_ms = 30_000;
    settings.wal_receiver_timeout_ms = 30_000;
    settings.wal_receiver_status_interval_ms = 1000;
    settings.wal_retrieve_retry_interval_ms = 500;
    let node = |name: String, upstream: Option<&str>| NodePlan {
        name,
        settings: Settings {
            primary_conninfo: upstream.map(|host| (String::from(host), 5432)),
            ..settings.clone()
        },
        clock_offset_us: 0,
        clock_drift_ppm: 0,
        disk_capacity: 1 << 30,
        slots: Vec::new(),
    };
    let mut nodes = vec![node(String::from("primary"), None)];
    nodes.extend((1..=standbys).map(|n| node(format!("standby{n}"), Some("primary"))));
    Plan {
        seed: 11,
        name: String::from("contract"),
        about: String::new(),
        nodes,
        network: NetworkPlan {
            latency_us: 100,
            jitter_us: 100,
            bytes_per_ms: 100_000,
            fragment: true,
            ..NetworkPlan::default()
        },
        disks: DiskPlan {
            latency_us: 20,
            jitter_us: 50,
            fsync_us: 500,
        },
        workload: vec![WorkloadRow {
            when: When::At(500_000),
            session: 0,
            node: 0,
            transactions: 40,
            rows: 2,
            bytes: 60,
            message: 0,
            rollback_every: 7,
            asynchronous: false,
            pause_us: 10_000,
            read_every: 5,
        }],
        faults: Vec::new(),
        actions: Vec::new(),
        active_us: 4_000_000,
        pins: BTreeMap::new(),
        step_delays: true,
    }
}

/// A copy of a world takes the same steps as the original. Exhaustive search and shrinking depend
/// on this.
#[test]
fn a_copied_world_runs_the_same_way() {
    let mut original = World::new(&plan(2), Planted::NONE, false);
    while original.now() < Mono(1_500_000) && original.step() {}
    let mut fork = original.clone();
    assert_eq!(state_hash(&fork), state_hash(&original));
    while original.step() {}
    while fork.step() {}
    assert_eq!(original.finished(), Some(&Verdict::Pass));
    assert_eq!(fork.outcome(), original.outcome());
    assert_eq!(state_hash(&fork), state_hash(&original));
}

/// If a standby stops reading, only its own walsender is blocked. Commits and the other standby
/// continue.
#[test]
fn a_peer_that_stops_reading_blocks_only_its_walsender() {
    let mut plan = plan(2);
    plan.workload[0].message = 3000;
    plan.workload[0].transactions = 200;
    plan.workload[0].pause_us = 2000;
    plan.faults.push(FaultRow {
        when: When::At(700_000),
        fault: Fault::StopReading {
            node: 1,
            for_us: 3_000_000,
        },
    });
    let mut world = World::new(&plan, Planted::NONE, true);
    while world.now() < Mono(3_500_000) && world.step() {}
    let shmem = world.node(0).expect("the primary runs").view().shmem();
    let sent: Vec<_> = shmem
        .walsnd
        .iter()
        .filter(|sender| sender.state != WalSndState::Startup)
        .map(|sender| sender.sent)
        .collect();
    assert_eq!(sent.len(), 2);
    let (least, most) = (sent[0].min(sent[1]), sent[0].max(sent[1]));
    assert!(most - least > 100_000, "one is far behind: {sent:?}");
    let other = world
        .node(2)
        .expect("it runs")
        .view()
        .shmem()
        .recovery
        .last_replayed_end;
    assert!(other > least, "the other standby replays on");
    while world.step() {}
    assert_eq!(world.finished(), Some(&Verdict::Pass));
    assert!(
        world
            .outcome()
            .marks
            .contains(Mark::BackpressureBlockedSend)
    );
}

/// Two runs of a plan are identical.
#[test]
fn two_runs_of_a_plan_are_identical() {
    let plan = plan(1);
    let (one, two) = (
        run(&plan, Planted::NONE, false),
        run(&plan, Planted::NONE, true),
    );
    assert_eq!(one.verdict, Verdict::Pass);
    assert_eq!((one.hash, one.steps), (two.hash, two.steps));
    assert!(one.commits > 30);
}
