//! Kills or stops single processes at each of their steps.

use crate::rig::{Drive, Rig};
use walsim_core::base::{ConnId, Mark, PgVersion, Pid};
use walsim_core::call::{Input, Machine, Signal};
use walsim_core::node::PmState;
use walsim_core::shmem::Role;

/// A server with one acknowledged row. A commit and a checkpoint are in progress.
fn busy(version: PgVersion) -> (Rig, ConnId, ConnId) {
    let mut rig = Rig::of(version, false);
    rig.until("the node runs", |rig| rig.state() == Some(PmState::Run));
    rig.settle();
    let (a, _) = rig.session();
    rig.ask(a, "PUT 16384 1 'c0ffee01'");
    rig.ask(a, "BEGIN");
    rig.ask(a, "PUT 16384 2 'c0ffee02'");
    let (b, _) = rig.session();
    rig.say(a, "COMMIT");
    rig.say(b, "CHECKPOINT");
    (rig, a, b)
}

fn next_step(rig: &mut Rig) {
    if let Some(pid) = rig.runnable().last().copied() {
        rig.run(pid);
    } else if !rig.complete_one() {
        rig.now = rig
            .machine
            .next_wakeup()
            .expect("a process waits with a time-out");
    }
}

fn killed(mut rig: Rig, victim: Pid, committed: ConnId) {
    let acked = rig.has_answer(committed, "COMMIT");
    let place = rig.place(victim);
    rig.kill(victim);
    rig.until("the crash is seen", |rig| rig.state() != Some(PmState::Run));
    rig.until("the node runs again", |rig| {
        rig.state() == Some(PmState::Run)
    });
    assert!(rig.machine.probe().marks().contains(Mark::ProcessKilled));
    rig.settle();
    let (session, _) = rig.session();
    let rows = rig.ask(session, "GET 16384 1");
    assert!(
        rows.iter().any(|row| row == "\\xc0ffee01"),
        "{place:?}: {rows:?}"
    );
    let rows = rig.ask(session, "GET 16384 2");
    let found = rows.iter().any(|row| row == "\\xc0ffee02");
    assert!(found || !acked, "{place:?}: an acknowledged row is gone");
}

/// After a kill of any process at any step, all other processes end and the server restarts. The
/// locks and waits of the killed process do not matter.
#[test]
fn each_process_can_be_killed_at_each_step() {
    for version in PgVersion::ALL {
        let (mut rig, commit, checkpoint) = busy(version);
        let mut steps = 0;
        while !rig.has_answer(checkpoint, "CHECKPOINT") {
            for role in [Role::Backend, Role::Checkpointer, Role::WalWriter] {
                killed(rig.clone(), rig.newest(role), commit);
            }
            steps += 1;
            next_step(&mut rig);
        }
        assert!(steps > 50, "a commit and a checkpoint are {steps} steps");
    }
}

/// If the startup process of a standby is killed, the server ends. If the walreceiver is killed,
/// the server restarts.
#[test]
fn the_processes_of_a_standby_can_be_killed() {
    for version in PgVersion::ALL {
        let mut rig = Rig::of(version, true);
        rig.until("it has a walreceiver", |rig| {
            rig.machine.view().shmem().walrcv.pid.is_some()
        });
        rig.until("the standby opens", |rig| {
            rig.state() == Some(PmState::HotStandby)
        });
        let mut other = rig.clone();
        rig.signal(Role::WalReceiver, Signal::Kill);
        rig.until("the crash is seen", |rig| {
            rig.state() == Some(PmState::WaitBackends)
        });
        rig.until("the standby opens again", |rig| {
            rig.state() == Some(PmState::HotStandby)
        });
        other.signal(Role::Startup, Signal::Kill);
        other.until("the server is gone", |rig| rig.machine.is_halted());
        let reason = "LOG:  shutting down due to startup process failure";
        assert!(
            other.log.iter().any(|line| line == reason),
            "{:#?}",
            other.log
        );
    }
}

/// A stopped process does not react to SIGQUIT. The postmaster kills it after five seconds.
#[test]
fn a_stopped_process_is_killed_after_five_seconds() {
    let mut rig = Rig::running();
    rig.signal(Role::Checkpointer, Signal::Stop);
    rig.signal(Role::Postmaster, Signal::Quit);
    let begun = rig.now;
    rig.until("the server is gone", |rig| rig.machine.is_halted());
    let took = rig.now - begun;
    assert!((4_000_000..=6_000_000).contains(&took), "{took} us");
    let line = "LOG:  issuing SIGKILL to recalcitrant children";
    assert!(rig.log.iter().any(|said| said == line));
    assert!(
        rig.machine
            .probe()
            .marks()
            .contains(Mark::ShutdownImmediate)
    );
}

/// A stopped postmaster accepts no connections. Connections that wait for it are not lost.
#[test]
fn a_stopped_postmaster_continues_later() {
    let mut rig = Rig::running();
    let postmaster = rig.newest(Role::Postmaster);
    rig.input(Input::Signal(postmaster, Signal::Stop));
    let conn = rig.connect(&[("user", "postgres"), ("database", "postgres")]);
    assert_eq!(rig.answers.get(&conn), None);
    rig.input(Input::Signal(postmaster, Signal::Cont));
    rig.settle();
    assert!(rig.has_answer(conn, "ready"));
}
