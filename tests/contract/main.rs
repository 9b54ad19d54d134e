//! The contract between a node and the world that runs it. Processes start, wait, are killed and
//! shut down as in a real server. A copy of a world runs like the original.

mod processes;
mod rig;
mod shutdown;
mod worlds;

use rig::{Drive, Rig};
use walsim::choice::Choices;
use walsim::disk::Content;
use walsim_core::base::{ConnId, Mark};
use walsim_core::call::{Input, Machine, Place, Signal};
use walsim_core::node::PmState;
use walsim_core::shmem::{LockId, Role};

const COMMITTED: &str = "COMMIT";

/// A session with a transaction that is ready to commit.
fn about_to_commit(rig: &mut Rig, key: u32) -> (ConnId, walsim_core::base::Pid) {
    let (conn, pid) = rig.session();
    rig.ask(conn, "BEGIN");
    let put = format!("PUT 16384 {key} 'c0ffee{key:02x}'");
    assert!(rig.ask(conn, &put).iter().any(|answer| answer == "PUT 1"));
    (conn, pid)
}

/// A flush does not write past WAL that was reserved but not copied yet, whichever process flushes.
#[test]
fn a_flush_waits_for_reservations_that_are_not_copied() {
    let mut rig = Rig::running();
    let (a, a_pid) = about_to_commit(&mut rig, 1);
    let (b, b_pid) = about_to_commit(&mut rig, 2);
    let (c, c_pid) = about_to_commit(&mut rig, 3);
    for (conn, pid) in [(a, a_pid), (b, b_pid)] {
        rig.say(conn, "COMMIT");
        rig.step_until_at(pid, Place::CopyXLogRecordToWAL);
    }
    assert!(
        rig.machine
            .probe()
            .marks()
            .contains(Mark::TwoReservationsOpen)
    );
    let flush = rig.machine.view().shmem().xlog.flush;
    rig.say(c, "COMMIT");
    for _ in 0..50 {
        if rig.runnable().contains(&c_pid) {
            rig.run(c_pid);
        }
    }
    assert_eq!(rig.place(c_pid), Some(Place::LWLockAcquire));
    assert_eq!(rig.machine.view().shmem().xlog.flush, flush);
    rig.settle();
    for conn in [a, b, c] {
        assert!(rig.has_answer(conn, COMMITTED));
    }
}

/// One fsync commits several transactions. The sessions that waited for this fsync do no fsync of
/// their own.
#[test]
fn followers_of_a_group_flush_are_woken_by_its_leader() {
    let mut rig = Rig::running();
    let sessions: Vec<_> = (1..=4).map(|key| about_to_commit(&mut rig, key)).collect();
    let before = rig.fsyncs;
    for (conn, _) in &sessions {
        rig.say(*conn, "COMMIT");
    }
    // The sessions run in turn, so that all of them have inserted their records before the first
    // one writes.
    while !rig.runnable().is_empty() {
        for pid in rig.runnable() {
            rig.run(pid);
        }
    }
    rig.settle();
    for (conn, _) in &sessions {
        assert!(rig.has_answer(*conn, COMMITTED));
    }
    assert!(rig.machine.probe().marks().contains(Mark::FlushFollower));
    assert!(
        rig.fsyncs - before < 4,
        "{} fsyncs for 4 commits",
        rig.fsyncs - before
    );
}

/// A killed process keeps its locks. The crash restart that follows replaces all locks by new ones.
#[test]
fn a_process_killed_with_a_lock_leads_to_a_crash_restart() {
    let mut rig = Rig::running();
    let (conn, pid) = about_to_commit(&mut rig, 1);
    rig.say(conn, "COMMIT");
    rig.settle_without_disk();
    assert!(
        rig.machine
            .view()
            .shmem()
            .locks
            .holds(pid, LockId::WalWrite)
    );
    rig.kill(pid);
    assert!(
        rig.machine
            .view()
            .shmem()
            .locks
            .holds(pid, LockId::WalWrite),
        "nobody cleaned up"
    );
    rig.until("the others are told to die", |rig| {
        rig.state() == Some(PmState::WaitBackends)
    });
    rig.until("the node runs again", |rig| {
        rig.state() == Some(PmState::Run)
    });
    assert!(!rig.machine.view().shmem().locks.is_held(LockId::WalWrite));
    let (conn, _) = rig.session();
    assert!(
        rig.ask(conn, "PUT 16384 9 '00'")
            .iter()
            .any(|answer| answer == "PUT 1")
    );
}

/// After SIGQUIT to the postmaster all processes end at once, without a shutdown checkpoint.
#[test]
fn an_immediate_shutdown_leaves_recovery_to_the_next_start() {
    let mut rig = Rig::running();
    let (conn, _) = about_to_commit(&mut rig, 3);
    assert!(
        rig.ask(conn, "COMMIT")
            .iter()
            .any(|answer| answer == COMMITTED)
    );
    let postmaster = rig.newest(Role::Postmaster);
    rig.input(Input::Signal(postmaster, Signal::Quit));
    rig.settle();
    assert!(rig.machine.is_halted());
    rig.lose_power();
    let recovered = "database system was not properly shut down; automatic recovery in progress";
    assert!(
        rig.log.iter().any(|line| line.ends_with(recovered)),
        "{:#?}",
        rig.log
    );
    let (conn, _) = rig.session();
    assert!(
        rig.ask(conn, "GET 16384 3")
            .iter()
            .any(|answer| answer == "\\xc0ffee03")
    );
}

/// If the startup process cannot recover, the server ends. It does not try again, because another
/// attempt would fail as well.
#[test]
fn a_server_whose_recovery_fails_ends() {
    let mut rig = Rig::new();
    rig.disk
        .set_up_file("pg_wal/000000010000000000000001", Content::new(&[0; 8192]));
    rig.settle();
    assert!(rig.machine.is_halted());
    let last: Vec<&str> = rig.log.iter().rev().take(2).map(String::as_str).collect();
    assert_eq!(
        last,
        [
            "LOG:  database system is shut down",
            "LOG:  aborting startup due to startup process failure"
        ]
    );
}

/// A process computes deadlines from the wall clock, and sleeps by the monotonic clock.
#[test]
fn a_jump_of_the_wall_clock_does_not_change_a_sleep() {
    let mut rig = Rig::running();
    let wakeup = rig.machine.next_wakeup();
    assert!(wakeup.is_some());
    for jump_us in [3_600_000_000, -7_200_000_000] {
        rig.wall_offset_us += jump_us;
        assert!(rig.runnable().is_empty(), "nobody wakes early");
        assert_eq!(rig.machine.next_wakeup(), wakeup);
    }
    let walwriter = rig.newest(Role::WalWriter);
    rig.now = wakeup.expect("checked above");
    assert!(rig.runnable().contains(&walwriter) || !rig.runnable().is_empty());
}

/// A crash interrupts a commit after each of its effects. After a loss of power the node must
/// start, with every acknowledged commit.
#[test]
fn a_commit_can_be_interrupted_after_any_effect() {
    let mut base = Rig::running();
    let (conn, _) = about_to_commit(&mut base, 5);
    let mut whole = base.clone();
    whole.effects_seen = 0;
    assert!(
        whole
            .ask(conn, "COMMIT")
            .iter()
            .any(|answer| answer == COMMITTED)
    );
    let effects = whole.effects_seen;
    assert!(effects >= 3, "a commit writes, fsyncs and answers");
    let mut acknowledged = 0;
    for cut in 0..=effects {
        for seed in 0..4 {
            let mut rig = base.clone();
            rig.choices = Choices::new(seed);
            rig.effects_left = cut;
            rig.say(conn, "COMMIT");
            rig.settle();
            let acked = rig.has_answer(conn, COMMITTED);
            acknowledged += u32::from(acked);
            rig.lose_power();
            let (reader, _) = rig.session();
            let rows = rig.ask(reader, "GET 16384 5");
            let found = rows.iter().any(|answer| answer == "\\xc0ffee05");
            assert!(
                found || !acked,
                "cut at {cut} with seed {seed}: an acknowledged row is gone"
            );
        }
    }
    assert!(acknowledged > 0, "the last cuts lie behind the answer");
}
