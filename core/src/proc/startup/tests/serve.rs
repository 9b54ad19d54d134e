//! Startup of a server that only sends the WAL of a stopped cluster.

use super::*;

fn stopped(version: PgVersion, state: DbState) -> Fixture {
    let mut fixture = server(version, Planted::NONE, state);
    fixture.kernel.walsenders_only = true;
    fixture
}

/// The flush position is the end of the shutdown checkpoint record. The server does not send bytes
/// after this position, and writes nothing.
#[test]
fn the_flush_position_is_the_end_of_the_shutdown_checkpoint() {
    for version in PgVersion::ALL {
        let mut fixture = stopped(version, DbState::ShutDown);
        let mut wal = fixture.wal();
        let end = wal.end();
        wal.append(&message(10));
        fixture.install(&wal);
        assert_eq!(start(&mut fixture), Ok(Exit::Normal));
        let xlog = &fixture.shmem.xlog;
        assert_eq!((xlog.flush, xlog.insert_tli), (end, TimelineId(1)));
        assert!(!fixture.shmem.recovery_in_progress());
        let reads = |op: &String| {
            ["open ", "read ", "close "]
                .iter()
                .any(|verb| op.starts_with(verb))
        };
        assert!(fixture.trace.iter().all(reads), "{:?}", fixture.trace);
    }
}

/// The end of WAL is known only after a clean shutdown. The control file of a standby has only the
/// replay position.
#[test]
fn any_other_state_is_refused() {
    for (state, name) in [
        (DbState::ShutDownInRecovery, "shut down in recovery"),
        (DbState::ShuttingDown, "shutting down"),
        (DbState::InCrashRecovery, "in crash recovery"),
        (DbState::InArchiveRecovery, "in archive recovery"),
        (DbState::InProduction, "in production"),
    ] {
        let mut fixture = stopped(PgVersion::V15, state);
        fixture.install(&fixture.wal());
        let Ok(Exit::Fatal(event)) = start(&mut fixture) else {
            panic!("{state:?} was served")
        };
        let text = alloc::format!("database cluster state is \"{name}\", not \"shut down\"");
        assert_eq!(alloc::format!("{}", event.message), text);
    }
}

/// If the control file says "shut down" but points to an online checkpoint, the control file does
/// not match the WAL in pg_wal.
#[test]
fn an_online_checkpoint_is_refused() {
    let mut fixture = stopped(PgVersion::V15, DbState::ShutDown);
    let mut wal = fixture.wal();
    let checkpoint = fixture.shmem.control.checkpoint_copy;
    let record = fixture.xlog(&XlogRecord::CheckpointOnline(checkpoint));
    fixture.shmem.control.checkpoint = wal.append(&record).start;
    fixture.install(&wal);
    assert!(matches!(
        start(&mut fixture),
        Ok(Exit::Fatal(_) | Exit::Panic(_))
    ));
    assert!(fixture.shmem.recovery_in_progress());
}
