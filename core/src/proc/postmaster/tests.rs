//! Tests of the postmaster alone. The input is events. The output is signals, forks and states.

use super::*;
use crate::base::{ConnId, Mark, PgVersion, Pid, Planted};
use crate::call::{DiskDone, Message, Signal};
use crate::shmem::PmSignal;
use crate::sys::testing::Fixture;
use crate::sys::{ChildExit, ExitKind};
use PgVersion::{V15, V18};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

mod walsenders_only;

/// A postmaster under test. The test plays the role of its children.
struct Table {
    fixture: Fixture,
    pid: Pid,
    postmaster: Postmaster,
    conns: u32,
}

const PRIMARY: [Kind; 4] = [
    Kind::Checkpointer,
    Kind::WalWriter,
    Kind::Backend,
    Kind::WalSender,
];
const STANDBY: [Kind; 5] = [
    Kind::Checkpointer,
    Kind::Startup,
    Kind::WalReceiver,
    Kind::Backend,
    Kind::WalSender,
];

impl Table {
    fn new(version: PgVersion, state: PmState, kinds: &[Kind]) -> Self {
        let mut fixture = Fixture::new(version, Planted::NONE);
        let pid = fixture.spawn(Role::Postmaster);
        let mut postmaster = Postmaster {
            state,
            boot: None,
            ..Postmaster::new()
        };
        for kind in kinds {
            postmaster.children.add(fixture.kernel.pid(), *kind);
        }
        if postmaster.children.has(Kind::Startup) {
            postmaster.startup = StartupStatus::Running;
        }
        Self {
            fixture,
            pid,
            postmaster,
            conns: 0,
        }
    }

    /// Applies an event. Returns the signals and forks that follow, and the new state.
    fn on(&mut self, event: &str) -> String {
        let (verb, rest) = event.split_once(' ').unwrap_or((event, ""));
        let exit = match verb {
            "0" => Some(ExitKind::Normal),
            "1" => Some(ExitKind::Fatal),
            "2" => Some(ExitKind::Quit),
            "abort" => Some(ExitKind::Aborted),
            "kill" => Some(ExitKind::Killed),
            _ => None,
        };
        let sys = self.fixture.procs.get_mut(&self.pid).expect("attached");
        if let Some(kind) = exit {
            for name in rest.split(' ') {
                let of = kind_named(name);
                let pid = self.postmaster.children.find(of).expect("it runs");
                let role = Role::Backend;
                sys.exits.push_back(ChildExit { pid, role, kind });
            }
        } else {
            match verb {
                "smart" => sys.signal(Signal::Term),
                "fast" => sys.signal(Signal::Int),
                "immediate" => sys.signal(Signal::Quit),
                "hup" => sys.signal(Signal::Hup),
                "connect" => {
                    self.conns += 1;
                    let (incarnation, n) = (0, self.conns);
                    sys.accepted.push_back(ConnId { incarnation, n });
                }
                "tell" => self.fixture.shmem.postmaster.send(signal_named(rest)),
                "pass" => self.fixture.pass_ms(rest.parse().expect("milliseconds")),
                other => panic!("no event {other}"),
            }
        }
        self.step()
    }

    fn step(&mut self) -> String {
        let names = self.postmaster.children.clone();
        let postmaster = &mut self.postmaster;
        self.fixture.step(self.pid, |cx| {
            let _ = postmaster.step(cx);
        });
        let mut out = Vec::new();
        for (pid, fork) in core::mem::take(&mut self.fixture.kernel.forks) {
            let refusal = match &fork {
                Fork::Backend(_, Some(event)) => format!(" ({})", event.message),
                Fork::Startup
                | Fork::Checkpointer
                | Fork::WalWriter
                | Fork::WalReceiver
                | Fork::Backend(..) => String::new(),
            };
            let kind = self.postmaster.children.kind(pid).expect("known");
            out.push(format!("+{kind:?}{refusal}"));
        }
        for (pid, signal) in core::mem::take(&mut self.fixture.kernel.signals) {
            let kind = self.postmaster.children.kind(pid);
            let kind = kind.or(names.kind(pid)).expect("known");
            out.push(format!("{signal:?}>{kind:?}"));
        }
        out.push(match &self.postmaster.leave {
            None => format!("{:?}", self.postmaster.state),
            Some(_) => String::from("leaves"),
        });
        out.join(" ")
    }

    /// The exit of a postmaster that is ending.
    fn exit(&mut self) -> Exit {
        let postmaster = &mut self.postmaster;
        self.fixture.procs.get_mut(&self.pid).unwrap().done = Some(Ok(DiskDone::Done));
        match self.fixture.step(self.pid, |cx| postmaster.step(cx)) {
            Yield::Exit(exit) => exit,
            how @ (Yield::Again(_) | Yield::Wait(_)) => panic!("{how:?}"),
        }
    }

    fn last_line(&self) -> String {
        format!("{}", self.fixture.logs.last().expect("something was said"))
    }
}

fn kind_named(name: &str) -> Kind {
    match name {
        "startup" => Kind::Startup,
        "checkpointer" => Kind::Checkpointer,
        "walwriter" => Kind::WalWriter,
        "walreceiver" => Kind::WalReceiver,
        "backend" => Kind::Backend,
        "walsender" => Kind::WalSender,
        "deadend" => Kind::DeadEnd,
        other => panic!("no kind {other}"),
    }
}

fn signal_named(name: &str) -> PmSignal {
    match name {
        "recovery-started" => PmSignal::RecoveryStarted,
        "consistent" => PmSignal::RecoveryConsistent,
        "hot-standby" => PmSignal::BeginHotStandby,
        "start-walreceiver" => PmSignal::StartWalReceiver,
        "advance" => PmSignal::AdvanceStateMachine,
        "xlog-is-shutdown" => PmSignal::XlogIsShutdown,
        other => panic!("no signal {other}"),
    }
}

/// Plays a script of events on a server that is in the state `state`.
fn play(version: PgVersion, state: PmState, kinds: &[Kind], script: &[(&str, &str)]) -> Table {
    let mut table = Table::new(version, state, kinds);
    for (n, (event, expected)) in script.iter().enumerate() {
        let script = &script[..n];
        assert_eq!(
            &table.on(event),
            expected,
            "{version:?}: {event} after {script:?}"
        );
    }
    table
}

#[test]
fn a_fast_shutdown_of_15() {
    let mut table = play(
        V15,
        PmState::Run,
        &PRIMARY,
        &[
            ("fast", "Term>WalWriter Term>Backend WaitBackends"),
            ("1 backend", "WaitBackends"),
            ("0 walwriter", "Usr2>Checkpointer WaitXlogShutdown"),
            ("0 checkpointer", "Usr2>WalSender WaitXlogArchival"),
            ("0 walsender", "leaves"),
        ],
    );
    assert_eq!(table.exit(), Exit::Normal);
    assert_eq!(table.last_line(), "LOG:  database system is shut down");
    assert!(table.fixture.probe.marks().contains(Mark::ShutdownFast));
}

#[test]
fn a_fast_shutdown_of_18() {
    let mut table = play(
        V18,
        PmState::Run,
        &PRIMARY,
        &[
            ("fast", "Term>WalWriter Term>Backend WaitBackends"),
            ("1 backend", "WaitBackends"),
            ("0 walwriter", "Int>Checkpointer WaitXlogShutdown"),
            ("tell xlog-is-shutdown", "Usr2>WalSender WaitXlogArchival"),
            ("0 walsender", "Usr2>Checkpointer WaitCheckpointer"),
            ("0 checkpointer", "leaves"),
        ],
    );
    assert_eq!(table.exit(), Exit::Normal);
    assert!(table.fixture.probe.marks().contains(Mark::ShutdownFast));
}

/// A smart shutdown does not wait for walsenders. If a session becomes a walsender, the shutdown
/// stops waiting for this session.
#[test]
fn a_smart_shutdown_waits_only_for_sessions() {
    let refused = "+DeadEnd (the database system is shutting down) Run";
    let mut table = play(
        V18,
        PmState::Run,
        &PRIMARY,
        &[
            ("smart", "Run"),
            ("connect", refused),
            ("0 deadend", "Run"),
            ("0 walwriter", "+WalWriter Run"),
            ("smart", "Run"),
        ],
    );
    let session = table.postmaster.children.find(Kind::Backend).unwrap();
    table.fixture.shmem.procs.attach(session, Role::WalSender);
    assert_eq!(table.on("tell advance"), "Term>WalWriter WaitBackends");
    assert_eq!(table.on("0 walwriter"), "Int>Checkpointer WaitXlogShutdown");
}

#[test]
fn a_standby_stops_replay_before_its_last_restartpoint() {
    for version in PgVersion::ALL {
        let stop = "Term>Startup Term>WalReceiver Term>Backend WaitBackends";
        let order = if version < V18 {
            "Usr2>Checkpointer WaitXlogShutdown"
        } else {
            "Int>Checkpointer WaitXlogShutdown"
        };
        play(
            version,
            PmState::HotStandby,
            &STANDBY,
            &[
                ("fast", stop),
                ("1 walreceiver backend", "WaitBackends"),
                ("1 startup", order),
            ],
        );
        // In a state that does not yet allow sessions, the shutdown does not wait for sessions.
        for state in [PmState::Startup, PmState::Recovery] {
            let kinds = [Kind::Checkpointer, Kind::Startup];
            play(
                version,
                state,
                &kinds,
                &[("smart", "Term>Startup WaitBackends"), ("1 startup", order)],
            );
        }
    }
}

/// The postmaster signals all processes. In this case PostgreSQL signals no process, and waits
/// forever.
#[test]
fn the_end_of_recovery_during_a_smart_shutdown_stops_all_processes() {
    for version in PgVersion::ALL {
        play(
            version,
            PmState::HotStandby,
            &STANDBY,
            &[
                ("smart", "HotStandby"),
                ("0 startup", "Term>WalReceiver Term>Backend WaitBackends"),
            ],
        );
    }
}

#[test]
fn a_more_severe_request_replaces_a_milder_one() {
    let quit = "Quit>Checkpointer Quit>WalWriter Quit>Backend Quit>WalSender WaitBackends";
    for version in PgVersion::ALL {
        let mut table = play(
            version,
            PmState::Run,
            &PRIMARY,
            &[
                ("smart", "Run"),
                ("fast", "Term>WalWriter Term>Backend WaitBackends"),
                ("smart", "WaitBackends"),
                ("hup", "WaitBackends"),
                ("immediate", quit),
                ("fast", "WaitBackends"),
                ("2 backend walwriter", "WaitBackends"),
                ("2 walsender checkpointer", "leaves"),
            ],
        );
        assert_eq!(table.exit(), Exit::Normal);
        assert!(
            table
                .fixture
                .probe
                .marks()
                .contains(Mark::ShutdownImmediate)
        );
        let logs = &table.fixture.logs;
        assert!(!logs.iter().any(|e| e.message == Message::Reloading));
    }
}

/// A child that has not exited five seconds after SIGQUIT is killed once.
#[test]
fn a_child_that_ignores_sigquit_is_killed() {
    for (first, state) in [
        ("immediate", Kind::WalSender),
        ("abort backend", Kind::Backend),
    ] {
        let mut table = Table::new(V18, PmState::Run, &PRIMARY);
        table.on(first);
        assert_eq!(table.on("pass 4900"), "WaitBackends", "{first} {state:?}");
        let killed = table.on("pass 100");
        assert!(killed.contains("Kill>Checkpointer"), "{killed}");
        assert_eq!(table.on("pass 9000"), "WaitBackends");
    }
}

/// A crash in each state, and the states that follow.
#[test]
fn a_crash_in_each_state() {
    let down = "Quit>Checkpointer Quit>WalWriter Quit>WalSender WaitBackends";
    let ckpt_and_sender = [Kind::Checkpointer, Kind::WalSender];
    for version in PgVersion::ALL {
        // A crash in normal operation: the server restarts.
        play(
            version,
            PmState::Run,
            &PRIMARY,
            &[
                ("kill backend", down),
                ("2 walsender", "WaitBackends"),
                ("2 walwriter checkpointer", "Init"),
            ],
        );
        // While the server runs, every exit of the checkpointer counts as a crash.
        for how in ["0", "1", "kill"] {
            let event = format!("{how} checkpointer");
            let out = "Quit>WalWriter Quit>Backend Quit>WalSender WaitBackends";
            assert_eq!(Table::new(version, PmState::Run, &PRIMARY).on(&event), out);
        }
        // Orderly exits do not change the state.
        let mut table = Table::new(version, PmState::HotStandby, &STANDBY);
        for event in ["0 backend", "1 walsender", "1 walreceiver"] {
            assert_eq!(table.on(event), "HotStandby", "{event}");
        }
    }
    // After a crash during a shutdown the server does not restart.
    let crash = "kill walsender";
    for (version, state, first, then, last) in [
        (
            V15,
            PmState::WaitXlogShutdown,
            "Quit>Checkpointer WaitBackends",
            "2 checkpointer",
            "leaves",
        ),
        (
            V18,
            PmState::WaitXlogShutdown,
            "Quit>Checkpointer WaitDeadEnd",
            "2 checkpointer",
            "leaves",
        ),
        (
            V18,
            PmState::WaitXlogArchival,
            "Quit>Checkpointer WaitDeadEnd",
            "2 checkpointer",
            "leaves",
        ),
    ] {
        let mut table = Table::new(version, state, &ckpt_and_sender);
        table.postmaster.shutdown = Shutdown::Fast;
        assert_eq!(table.on(crash), first, "{version:?} {state:?}");
        assert_eq!(table.on(then), last, "{version:?} {state:?}");
        let Exit::Fatal(event) = table.exit() else {
            panic!()
        };
        assert_eq!(event.message, Message::AbnormalShutdown);
    }
    let mut table = Table::new(
        V15,
        PmState::WaitXlogArchival,
        &[Kind::WalSender, Kind::WalSender],
    );
    table.postmaster.shutdown = Shutdown::Fast;
    assert_eq!(table.on(crash), "Quit>WalSender WaitXlogArchival");
    assert_eq!(table.on("2 walsender"), "leaves");
}

/// Only the first crash is reported and handled.
#[test]
fn later_crashes_are_not_handled_again() {
    let mut table = Table::new(V18, PmState::Run, &PRIMARY);
    table.on("abort backend");
    let said = table.fixture.logs.len();
    table.on("kill walwriter");
    assert_eq!(table.fixture.logs.len(), said);
    assert!(table.fixture.probe.marks().contains(Mark::ProcessKilled));
}

#[test]
fn a_startup_process_that_fails_ends_the_server() {
    for version in PgVersion::ALL {
        let mut table = play(
            version,
            PmState::Startup,
            &[Kind::Checkpointer, Kind::Startup],
            &[("1 startup", "leaves")],
        );
        assert!(matches!(table.exit(), Exit::Fatal(e) if e.message == Message::AbortingStartup));
        let others = "Quit>Checkpointer Quit>WalReceiver Quit>Backend Quit>WalSender WaitBackends";
        let mut table = play(
            version,
            PmState::HotStandby,
            &STANDBY,
            &[
                ("abort startup", others),
                ("2 checkpointer walreceiver backend walsender", "leaves"),
            ],
        );
        assert!(matches!(table.exit(), Exit::Fatal(e) if e.message == Message::StartupFailed));
        // The exit of a startup process to which the postmaster has sent SIGQUIT is not a failure.
        let quit = "Quit>Startup Quit>WalReceiver Quit>Backend Quit>WalSender WaitBackends";
        play(
            version,
            PmState::HotStandby,
            &STANDBY,
            &[
                ("kill checkpointer", quit),
                ("2 startup walreceiver backend walsender", "Init"),
            ],
        );
    }
}

#[test]
fn without_restart_after_crash_the_server_ends() {
    for (version, text) in [
        (V15, "shutting down because restart_after_crash is off"),
        (V18, "shutting down because \"restart_after_crash\" is off"),
    ] {
        let mut table = Table::new(version, PmState::Run, &PRIMARY);
        table.fixture.shmem.settings.restart_after_crash = false;
        table.on("kill backend");
        assert_eq!(table.on("2 walwriter checkpointer walsender"), "leaves");
        assert!(matches!(table.exit(), Exit::Fatal(e) if format!("{}", e.message) == text));
    }
}

/// The error for a new connection in each state.
#[test]
fn the_error_for_new_connections_depends_on_the_state() {
    let startup = "+DeadEnd (the database system is starting up) Startup";
    let recovering = "+DeadEnd (the database system is in recovery mode) Startup";
    let early = "+DeadEnd (the database system is not yet accepting connections) Recovery";
    let never = "+DeadEnd (the database system is not accepting connections) Recovery";
    let kinds = [Kind::Checkpointer, Kind::Startup];
    for version in PgVersion::ALL {
        let of = |state| Table::new(version, state, &kinds);
        assert_eq!(of(PmState::Startup).on("connect"), startup);
        let mut again = of(PmState::Startup);
        again.postmaster.fatal_error = true;
        assert_eq!(again.on("connect"), recovering);
        assert_eq!(of(PmState::Recovery).on("connect"), early);
        let mut cold = of(PmState::Recovery);
        cold.fixture.shmem.settings.hot_standby = false;
        assert_eq!(cold.on("connect"), never);
        assert_eq!(of(PmState::HotStandby).on("connect"), "+Backend HotStandby");
        let mut last = Table::new(version, PmState::WaitDeadEnd, &[Kind::DeadEnd]);
        assert_eq!(
            last.on("connect"),
            "WaitDeadEnd",
            "it waits in the queue of the socket"
        );
    }
    let mut table = Table::new(V18, PmState::Recovery, &kinds);
    table.on("tell consistent");
    table.on("connect");
    assert!(table.postmaster.consistent);
}

/// Signals of children are ignored in a state that does not expect them. The request for a
/// walreceiver stays pending.
#[test]
fn signals_of_children() {
    let kinds = [Kind::Checkpointer, Kind::Startup];
    play(
        V18,
        PmState::Startup,
        &kinds,
        &[
            ("tell hot-standby", "Startup"),
            ("tell recovery-started", "Recovery"),
            ("tell start-walreceiver", "+WalReceiver Recovery"),
            ("tell hot-standby", "HotStandby"),
            ("tell start-walreceiver", "HotStandby"),
            ("1 walreceiver", "+WalReceiver HotStandby"),
            ("1 walreceiver", "HotStandby"),
            ("fast", "Term>Startup WaitBackends"),
            ("tell start-walreceiver", "WaitBackends"),
        ],
    );
    let mut table = Table::new(V18, PmState::Run, &PRIMARY);
    let all = "Quit>Checkpointer Quit>WalWriter Quit>Backend Quit>WalSender WaitBackends";
    assert_eq!(
        table.on("tell xlog-is-shutdown"),
        all,
        "nobody had asked for it"
    );
}

/// Up to 9.6 a walreceiver request was lost if it arrived before the old walreceiver was reaped.
#[test]
#[cfg(feature = "planted-bugs")]
fn the_planted_bug_loses_a_walreceiver_request() {
    let mut table = Table::new(V15, PmState::HotStandby, &STANDBY);
    let planted = Planted::NONE.with(crate::base::Bug::LostWalreceiverStartRequest);
    table.fixture.probe = crate::base::Probe::new(planted);
    table.on("tell start-walreceiver");
    assert_eq!(table.on("1 walreceiver"), "HotStandby");
    assert_eq!(
        table.on("tell start-walreceiver"),
        "+WalReceiver HotStandby"
    );
}

#[test]
fn a_reload_applies_settings_that_a_running_server_can_change() {
    let mut table = Table::new(V15, PmState::Run, &PRIMARY);
    let mut config = table.fixture.shmem.settings.clone();
    config.checkpoint_timeout_ms = 1234;
    config.max_wal_senders = 1;
    table.fixture.kernel.config = Some(config);
    let all = "Hup>Checkpointer Hup>WalWriter Hup>Backend Hup>WalSender Run";
    assert_eq!(table.on("hup"), all);
    let settings = &table.fixture.shmem.settings;
    assert_eq!(
        (settings.checkpoint_timeout_ms, settings.max_wal_senders),
        (1234, 10)
    );
    let refused =
        "LOG:  parameter \"max_wal_senders\" cannot be changed without restarting the server";
    assert_eq!(table.last_line(), refused);
}
