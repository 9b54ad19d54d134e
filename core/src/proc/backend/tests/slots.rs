//! SQL functions for slots and WAL positions.

use super::*;
use crate::sys::testing::Fixture;

/// The redo pointer is at 0/1028. WAL ends at 0/1800 and is flushed up to 0/1700.
fn session() -> Session {
    let mut fixture = Fixture::primary();
    fixture.shmem.xlog.redo = Lsn(0x1028);
    fixture.shmem.xlog.write = Lsn(0x1800);
    fixture.shmem.xlog.flush = Lsn(0x1700);
    Session::new(fixture)
}

const LIST: &str =
    "SELECT slot_name, active_pid, restart_lsn, wal_status FROM pg_replication_slots";

#[test]
fn a_slot_from_creation_to_drop() {
    let mut session = session();
    for (statement, answer) in [
        (
            "SELECT pg_create_physical_replication_slot('held', true)",
            "(pg_create_physical_replication_slot), (held,0/1028), SELECT 1, I",
        ),
        (
            "SELECT pg_create_physical_replication_slot('empty')",
            "(pg_create_physical_replication_slot), (empty,), SELECT 1, I",
        ),
        (
            LIST,
            "(slot_name), held|NULL|0/1028|reserved, empty|NULL|NULL|NULL, SELECT 2, I",
        ),
        (
            "SELECT pg_replication_slot_advance('held', '0/FFFFFF')",
            "(pg_replication_slot_advance), (held,0/1700), SELECT 1, I",
        ),
        (
            "SELECT pg_drop_replication_slot('held')",
            "(pg_drop_replication_slot), , SELECT 1, I",
        ),
        (LIST, "(slot_name), empty|NULL|NULL|NULL, SELECT 1, I"),
    ] {
        assert_eq!(session.run(statement), answer, "{statement}");
    }
    let left = session.fixture.files.keys();
    let left: Vec<_> = left
        .filter(|path| path.starts_with("pg_replslot"))
        .collect();
    assert_eq!(left, ["pg_replslot/empty/state"]);
}

#[test]
fn errors() {
    let mut session = session();
    session.run("SELECT pg_create_physical_replication_slot('s')");
    for (statement, code) in [
        ("SELECT pg_create_physical_replication_slot('s')", "42710"),
        ("SELECT pg_create_physical_replication_slot('S')", "42602"),
        ("SELECT pg_create_physical_replication_slot('')", "42602"),
        ("SELECT pg_drop_replication_slot('t')", "42704"),
        ("SELECT pg_replication_slot_advance('s', '0/1')", "55000"),
        ("SELECT pg_replication_slot_advance('s', '0/0')", "XX000"),
        ("SELECT pg_replication_slot_advance('t', '0/1')", "42704"),
    ] {
        // The description of the result column is sent before the function is called. It therefore
        // arrives before the error.
        let function = statement[7..].split('(').next().unwrap();
        assert_eq!(
            session.run(statement),
            format!("({function}), ERROR {code}, I"),
            "{statement}"
        );
        let slot = &session.fixture.shmem.slots.slots[0];
        assert_eq!(slot.active_pid, None, "{statement}");
        assert_eq!(session.fixture.sys(session.pid).my_slot, None);
    }
    session.fixture.shmem.settings.max_replication_slots = 0;
    for statement in [
        "SELECT pg_create_physical_replication_slot('t')",
        "SELECT pg_drop_replication_slot('s')",
    ] {
        let answer = session.run(statement);
        assert!(answer.ends_with("), ERROR 55000, I"), "{statement}");
    }
}

/// A temporary slot survives the end of a transaction. Any error drops it, and so does the end of
/// the session.
#[test]
fn temporary_slots() {
    for end in ["SELECT 1", "leave"] {
        let mut session = session();
        session.run("SELECT pg_create_physical_replication_slot('kept', true)");
        session.run("BEGIN");
        session.run("SELECT pg_create_physical_replication_slot('t', true, true)");
        assert_eq!(session.run("ROLLBACK"), "ROLLBACK, I");
        let pid = session.pid.n;
        assert_eq!(
            session.run(LIST),
            format!("(slot_name), kept|NULL|0/1028|reserved, t|{pid}|0/1028|reserved, SELECT 2, I")
        );
        if end == "leave" {
            session.receive(NetEvent::Data(FrontendMessage::Terminate.to_bytes()));
            assert_eq!(session.drive(), Yield::Exit(Exit::Normal));
        } else {
            assert_eq!(session.run(end), "ERROR 0A000, I");
        }
        assert_eq!(session.fixture.shmem.slots.find("t"), None, "{end}");
        assert_eq!(session.fixture.shmem.slots.find("kept"), Some(0));
        assert!(
            session
                .fixture
                .trace_of("pg_replslot/t")
                .last()
                .unwrap()
                .starts_with("rmdir")
        );
    }
}

#[test]
fn positions() {
    let mut session = session();
    let flushed = "SELECT pg_current_wal_flush_lsn()";
    for (statement, answer) in [
        (
            "SELECT pg_current_wal_lsn()",
            "(pg_current_wal_lsn), 0/1800, SELECT 1, I",
        ),
        (flushed, "(pg_current_wal_flush_lsn), 0/1700, SELECT 1, I"),
    ] {
        assert_eq!(session.run(statement), answer);
    }
    let mut standby = Session::new(Fixture::in_recovery());
    let answer = standby.run(flushed);
    assert_eq!(answer, "(pg_current_wal_flush_lsn), ERROR 55000, I");
}
