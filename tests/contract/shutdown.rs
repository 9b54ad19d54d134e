//! Clean shutdowns, and the starts that follow them.

use crate::rig::{Drive, Rig};
use walsim_core::base::{Mark, PgVersion};
use walsim_core::call::Signal;
use walsim_core::node::PmState;
use walsim_core::shmem::Role;
use walsim_core::wire::control_file::DbState;

fn running(version: PgVersion) -> Rig {
    let mut rig = Rig::of(version, false);
    rig.until("the node runs", |rig| rig.state() == Some(PmState::Run));
    rig.settle();
    rig
}

fn hot_standby(version: PgVersion) -> Rig {
    let mut rig = Rig::of(version, true);
    rig.until("the standby opens", |rig| {
        rig.state() == Some(PmState::HotStandby)
    });
    rig.until("it has a walreceiver", |rig| {
        rig.machine.view().shmem().walrcv.pid.is_some()
    });
    rig.settle();
    rig
}

fn said(rig: &Rig, text: &str) -> bool {
    rig.log.iter().any(|line| line.contains(text))
}

/// After SIGINT all processes stop, and the shutdown checkpoint is sent to the standby. The server
/// waits until the standby has confirmed the checkpoint.
#[test]
fn a_fast_shutdown_waits_for_its_standby() {
    for version in PgVersion::ALL {
        let mut rig = running(version);
        let (session, _) = rig.session();
        rig.ask(session, "PUT 16384 1 'c0ffee'");
        let (standby, _) = rig.stream();
        rig.signal(Role::Postmaster, Signal::Int);
        rig.until("the sender has the last word", |rig| {
            rig.state() == Some(PmState::WaitXlogArchival)
        });
        rig.settle();
        let told = rig.answers.remove(&session).unwrap_or_default();
        assert!(
            told[0].contains("terminating connection due to administrator command"),
            "{told:?}"
        );
        let control = &rig.machine.view().shmem().control;
        assert_eq!(control.state, DbState::ShutDown);
        assert_eq!(control.checkpoint, control.checkpoint_copy.redo);
        let end = rig.machine.view().shmem().xlog.flush;
        assert_eq!(rig.shipped.get(&standby), Some(&end), "{version:?}");

        rig.confirm(standby, control_start(&rig));
        rig.settle();
        assert!(!rig.machine.is_halted(), "a part is not all");
        rig.confirm(standby, end);
        rig.until("the server is gone", |rig| rig.machine.is_halted());
        let answers = rig.answers.remove(&standby).unwrap_or_default();
        assert!(
            answers.ends_with(&["COPY 0".into(), "closed".into()]),
            "{answers:?}"
        );
        assert!(
            rig.log
                .last()
                .is_some_and(|l| l == "LOG:  database system is shut down")
        );
        assert!(rig.machine.probe().marks().contains(Mark::ShutdownFast));

        rig.log.clear();
        rig.boot();
        rig.until("the node runs", |rig| rig.state() == Some(PmState::Run));
        assert!(
            said(&rig, "database system was shut down at"),
            "{:#?}",
            rig.log
        );
        assert!(!said(&rig, "recovery"), "{:#?}", rig.log);
        assert_eq!(
            rig.machine.view().shmem().xlog.flush,
            end,
            "WAL goes on where it ended"
        );
        let (session, _) = rig.session();
        let rows = rig.ask(session, "GET 16384 1");
        assert!(rows.iter().any(|row| row == "\\xc0ffee"), "{rows:?}");
    }
}

fn control_start(rig: &Rig) -> walsim_core::base::Lsn {
    rig.machine.view().shmem().control.checkpoint
}

/// After SIGTERM existing sessions continue, and new sessions are refused. When the last session
/// has ended, the shutdown continues like a fast shutdown.
#[test]
fn a_smart_shutdown_lets_sessions_finish() {
    for version in PgVersion::ALL {
        let mut rig = running(version);
        let (session, pid) = rig.session();
        rig.ask(session, "BEGIN");
        rig.signal(Role::Postmaster, Signal::Term);
        rig.settle();
        let late = rig.connect(&[("user", "postgres"), ("database", "postgres")]);
        let told = rig.answers.remove(&late).unwrap_or_default();
        assert!(
            told[0].contains("the database system is shutting down"),
            "{told:?}"
        );
        rig.ask(session, "PUT 16384 2 '02'");
        let answers = rig.ask(session, "COMMIT");
        assert!(answers.iter().any(|answer| answer == "COMMIT"));
        assert_eq!(rig.state(), Some(PmState::Run));
        rig.input(walsim_core::call::Input::Signal(pid, Signal::Term));
        rig.until("the server is gone", |rig| rig.machine.is_halted());
        assert!(rig.machine.probe().marks().contains(Mark::ShutdownSmart));
    }
}

/// A shutdown aborts a running transaction, which releases everything that it held.
#[test]
fn a_fast_shutdown_aborts_running_transactions() {
    for version in PgVersion::ALL {
        let mut rig = running(version);
        let (session, _) = rig.session();
        rig.ask(session, "BEGIN");
        rig.ask(session, "PUT 16384 3 '03'");
        rig.signal(Role::Postmaster, Signal::Int);
        rig.until("the server is gone", |rig| rig.machine.is_halted());
        rig.boot();
        rig.until("the node runs", |rig| rig.state() == Some(PmState::Run));
        let (session, _) = rig.session();
        let rows = rig.ask(session, "GET 16384 3");
        assert!(!rows.iter().any(|row| row == "\\x03"), "{rows:?}");
    }
}

/// When a standby shuts down, it first stops replay. At its next start it finds that it was shut
/// down during recovery.
#[test]
fn a_standby_shuts_down_in_recovery() {
    for version in PgVersion::ALL {
        let mut rig = hot_standby(version);
        rig.signal(Role::Postmaster, Signal::Int);
        rig.until("the server is gone", |rig| rig.machine.is_halted());
        let control = &rig.machine.view().shmem().control;
        assert_eq!(control.state, DbState::ShutDownInRecovery);
        assert!(said(
            &rig,
            "terminating walreceiver process due to administrator command"
        ));
        rig.log.clear();
        rig.boot();
        rig.until("the standby opens", |rig| {
            rig.state() == Some(PmState::HotStandby)
        });
        assert!(
            said(&rig, "database system was shut down in recovery at"),
            "{:#?}",
            rig.log
        );
    }
}

/// When primary_conninfo changes, the walreceiver is replaced.
#[test]
fn a_reload_replaces_the_walreceiver() {
    for version in PgVersion::ALL {
        let mut rig = hot_standby(version);
        let first = rig.newest(Role::WalReceiver);
        let mut settings = rig.machine.view().shmem().settings.clone();
        settings.primary_conninfo = Some((String::from("another"), 5433));
        rig.machine.reload(settings);
        rig.settle();
        assert_eq!(rig.newest(Role::WalReceiver), first, "nobody was told yet");
        rig.signal(Role::Postmaster, Signal::Hup);
        rig.until("another walreceiver", |rig| {
            let walrcv = &rig.machine.view().shmem().walrcv;
            walrcv.pid.is_some_and(|pid| pid != first)
        });
        assert!(said(&rig, "received SIGHUP, reloading configuration files"));
        assert!(said(&rig, "WAL receiver process shutdown requested"));
        let conninfo = rig.machine.view().shmem().walrcv.conninfo.clone();
        assert_eq!(conninfo, Some((String::from("another"), 5433)));
    }
}
