//! Tests of commands about slots, and of streaming from a slot.

use super::*;
use crate::shmem::{Invalidation, Slot};
use crate::wire::replication::StandbyStatus;
use alloc::format;
use alloc::string::ToString;
use table::wal;

const REDO: Lsn = Lsn(3 * 1024 + 40);

fn server(version: PgVersion) -> Table {
    let mut table = Table::new(version, 5000);
    table.fixture.shmem.xlog.redo = REDO;
    table
}

impl Table {
    fn slot(&self, name: &str) -> &Slot {
        let slots = &self.fixture.shmem.slots;
        &slots.slots[slots.find(name).expect("there is such a slot")]
    }

    fn has(&self, name: &str) -> bool {
        self.fixture.shmem.slots.find(name).is_some()
    }
}

#[test]
fn create_read_drop() {
    let mut table = server(PgVersion::V15);
    let columns = "slot_name,consistent_point,snapshot_name,output_plugin";
    for (name, options, at) in [
        ("reserved", "PHYSICAL (RESERVE_WAL)", "0/C28,1"),
        ("old_form", "PHYSICAL RESERVE_WAL", "0/C28,1"),
        ("empty", "PHYSICAL", "NULL,NULL"),
    ] {
        let answers = table.answers(&format!("CREATE_REPLICATION_SLOT {name} {options}"));
        let row = format!("{name},0/0,NULL,NULL");
        assert_eq!(answers, [columns, &row, "CREATE_REPLICATION_SLOT"]);
        assert_eq!(table.slot(name).active_pid, None);
        assert!(
            table
                .fixture
                .files
                .contains_key(&format!("pg_replslot/{name}/state"))
        );
        let answers = table.answers(&format!("READ_REPLICATION_SLOT {name}"));
        let row = format!("physical,{at}");
        let columns = "slot_type,restart_lsn,restart_tli";
        assert_eq!(answers, [columns, &row, "READ_REPLICATION_SLOT"]);
    }
    let answers = table.answers("READ_REPLICATION_SLOT nobody");
    assert_eq!(answers[1], "NULL,NULL,NULL");
    for end in ["", " WAIT;"] {
        table.answers("CREATE_REPLICATION_SLOT s PHYSICAL");
        let answers = table.answers(&format!("DROP_REPLICATION_SLOT s{end}"));
        assert_eq!(answers, ["DROP_REPLICATION_SLOT"]);
        assert!(!table.has("s"));
    }
}

#[test]
fn errors_of_slot_commands() {
    for version in PgVersion::ALL {
        let mut table = server(version);
        table.fixture.shmem.slots.slots = Vec::from([Slot::default(), Slot::default()]).into();
        table.answers("CREATE_REPLICATION_SLOT s PHYSICAL");
        let long = "x".repeat(64);
        let cut = "x".repeat(63);
        let setting = match version {
            PgVersion::V15 | PgVersion::V16 => "max_replication_slots",
            PgVersion::V17 | PgVersion::V18 | PgVersion::V19 => "\"max_replication_slots\"",
        };
        for (command, answer) in [
            ("CREATE_REPLICATION_SLOT s PHYSICAL", "ERROR 42710 replication slot \"s\" already exists".into()),
            ("CREATE_REPLICATION_SLOT \"\" PHYSICAL", "ERROR 42602 replication slot name \"\" is too short".into()),
            (
                "CREATE_REPLICATION_SLOT \"S\" PHYSICAL",
                "ERROR 42602 replication slot name \"S\" contains invalid character | Replication slot names may only contain lower case letters, numbers, and the underscore character.".to_string(),
            ),
            ("CREATE_REPLICATION_SLOT t PHYSICAL (bogus)", "ERROR XX000 unrecognized option: bogus".into()),
            ("CREATE_REPLICATION_SLOT t PHYSICAL (SNAPSHOT 'export')", "ERROR 42601 conflicting or redundant options".into()),
            ("DROP_REPLICATION_SLOT t", "ERROR 42704 replication slot \"t\" does not exist".into()),
            ("DROP_REPLICATION_SLOT t WAIT", "ERROR 42704 replication slot \"t\" does not exist".into()),
            ("START_REPLICATION SLOT t 0/1000", "ERROR 42704 replication slot \"t\" does not exist".into()),
        ] {
            assert_eq!(table.answers(command), [answer], "{command}");
        }
        let answers = table.answers(&format!("CREATE_REPLICATION_SLOT {long} PHYSICAL"));
        let notice = format!("NOTICE 42622 identifier \"{long}\" will be truncated to \"{cut}\"");
        assert_eq!(answers[0], notice);
        assert!(table.has(&cut));
        let answers = table.answers("CREATE_REPLICATION_SLOT t PHYSICAL");
        let text = "ERROR 53400 all replication slots are in use";
        assert_eq!(
            answers,
            [format!("{text} | Free one or increase {setting}.")]
        );
        assert_eq!(table.exit, None);
    }
}

/// A walsender holds the slot from START_REPLICATION to the end of streaming. The slot's
/// restart_lsn is the reported flush position.
#[test]
fn streaming_from_a_slot() {
    let mut table = server(PgVersion::V18);
    table.answers("CREATE_REPLICATION_SLOT s PHYSICAL (RESERVE_WAL)");
    table.query("START_REPLICATION SLOT \"s\" 0/1000 TIMELINE 1");
    assert_eq!(table.next(), Some(BackendMessage::copy_both()));
    assert_eq!(table.next_range(), Some((4096, 5000)));
    assert_eq!(table.slot("s").active_pid, Some(table.pid));
    table.report(status(4500, false));
    let slot = table.slot("s");
    assert_eq!((slot.restart_lsn, slot.dirty), (Lsn(4500), true));
    assert_eq!(slot.last_saved_restart_lsn, REDO);
    assert_eq!(
        table.fixture.shmem.slots.required_lsn, REDO,
        "not saved yet"
    );
    // Several status updates arrive together. One of them has no flush position.
    let mute = StandbyStatus {
        flush: Lsn::INVALID,
        write: Lsn(9),
        apply: Lsn(9),
        client_time: TimestampTz(9),
        reply_requested: false,
    };
    let frames = [
        status(4600, false).to_frame(),
        status(4400, true).to_frame(),
        StandbyMessage::Status(mute).to_frame(),
    ];
    table.conn().apply(NetEvent::Data(frames.concat().into()));
    table.run();
    assert_eq!(
        table.slot("s").restart_lsn,
        Lsn(4400),
        "assigned, not maximized"
    );
    assert_eq!(table.entry().flush, Lsn::INVALID);
    assert!(matches!(table.next_wal(), Some(WalMessage::Keepalive(_))));
    table.say(&FrontendMessage::CopyDone);
    let ends = [
        BackendMessage::CopyDone,
        BackendMessage::CommandComplete("START_STREAMING".into()),
    ];
    assert_eq!([table.next(), table.next()], ends.map(Some));
    assert_eq!(table.slot("s").active_pid, None);
}

/// The slot is released if streaming ends by an error, by SIGTERM, or by the end of the connection.
#[test]
fn a_slot_is_released_however_streaming_ends() {
    type End = fn(&mut Table);
    let ends: [End; 4] = [
        |table| table.say(&FrontendMessage::CopyData(Bytes::from_static(b"r"))),
        Table::terminate,
        |table| {
            table.conn().apply(NetEvent::Reset);
            table.run();
        },
        |table| table.say(&FrontendMessage::Terminate),
    ];
    for end in ends {
        let mut table = server(PgVersion::V15);
        table.answers("CREATE_REPLICATION_SLOT s PHYSICAL");
        table.answers("CREATE_REPLICATION_SLOT t TEMPORARY PHYSICAL (RESERVE_WAL)");
        table.query("START_REPLICATION SLOT s 0/1000");
        assert_eq!(table.slot("s").active_pid, Some(table.pid));
        assert_eq!(table.slot("t").active_pid, Some(table.pid));
        end(&mut table);
        assert_eq!(table.slot("s").active_pid, None);
        assert!(!table.has("t"), "temporary slots end with errors, too");
        assert!(!table.fixture.dirs.contains("pg_replslot/t"));
        assert_eq!(table.entry().pid.is_none(), table.exit.is_some());
    }
}

/// The error is sent before the cleanup. The next command is executed after the cleanup.
#[test]
fn an_error_drops_temporary_slots() {
    let mut table = server(PgVersion::V18);
    table.answers("CREATE_REPLICATION_SLOT t TEMPORARY PHYSICAL");
    assert_eq!(table.slot("t").active_pid, Some(table.pid));
    assert_eq!(
        table.answers("START_REPLICATION")[0],
        "ERROR 42601 syntax error"
    );
    assert!(!table.has("t"));
    assert_eq!(table.answers("IDENTIFY_SYSTEM").len(), 3);
}

#[test]
fn a_slot_in_use_or_invalidated() {
    for version in PgVersion::ALL {
        let mut table = server(version);
        table.answers("CREATE_REPLICATION_SLOT s PHYSICAL (RESERVE_WAL)");
        let index = table.fixture.shmem.slots.find("s").unwrap();
        let other = table.fixture.spawn(crate::shmem::Role::WalSender);
        table.fixture.shmem.slots.slots[index].active_pid = Some(other);
        let text = format!(
            "ERROR 55006 replication slot \"s\" is active for PID {}",
            other.n
        );
        for command in ["START_REPLICATION SLOT s 0/1000", "DROP_REPLICATION_SLOT s"] {
            assert_eq!(table.answers(command), [&*text], "{command}");
        }
        assert_eq!(
            table.answers("READ_REPLICATION_SLOT s")[1],
            format!("physical,{},1", Lsn(0xC28).text(version))
        );
        let slot = &mut table.fixture.shmem.slots.slots[index];
        slot.active_pid = None;
        slot.invalidated = Some(Invalidation::WalRemoved(REDO));
        slot.restart_lsn = Lsn::INVALID;
        table.query("START_REPLICATION SLOT s 0/1000");
        match version {
            // The walsender of 15 does not check for invalidation. It streams the WAL that still
            // exists, and the next status update makes the slot valid again.
            PgVersion::V15 => {
                assert_eq!(table.next(), Some(BackendMessage::copy_both()));
                table.report(status(4500, false));
                assert!(!table.slot("s").is_lost(version));
                assert_eq!(table.fixture.shmem.slots.required_lsn, Lsn(4500));
            }
            // The walsender of 16 and 17 also streams the WAL, but the slot stays invalidated.
            PgVersion::V16 | PgVersion::V17 => {
                assert_eq!(table.next(), Some(BackendMessage::copy_both()));
                table.report(status(4500, false));
                assert!(table.slot("s").is_lost(version));
                assert_eq!(table.fixture.shmem.slots.required_lsn, Lsn::INVALID);
            }
            PgVersion::V18 | PgVersion::V19 => {
                let Some(BackendMessage::ErrorResponse(fields)) = table.next() else {
                    panic!("an invalidated slot is refused")
                };
                assert_eq!(&fields.sqlstate, b"55000");
                let text = "can no longer access replication slot \"s\"";
                assert_eq!(fields.message, text);
                let text = "This replication slot has been invalidated due to \"wal_removed\".";
                assert_eq!(fields.detail.as_deref(), Some(text));
                assert_eq!(table.slot("s").active_pid, None);
                assert_eq!(table.next(), Some(IDLE));
                let gone = table.answers("READ_REPLICATION_SLOT s");
                assert_eq!(gone[1], "physical,NULL,NULL");
                assert_eq!(table.answers("DROP_REPLICATION_SLOT s").len(), 1);
            }
        }
    }
}

/// The command waits for the slot's owner. SIGTERM ends the wait and the connection.
#[test]
fn a_drop_waits_for_the_owner() {
    for terminated in [false, true] {
        let mut table = server(PgVersion::V18);
        table.answers("CREATE_REPLICATION_SLOT s PHYSICAL");
        let index = table.fixture.shmem.slots.find("s").unwrap();
        let other = table.fixture.spawn(crate::shmem::Role::WalSender);
        table.fixture.shmem.slots.slots[index].active_pid = Some(other);
        assert_eq!(table.answers("DROP_REPLICATION_SLOT s WAIT"), [""; 0]);
        if terminated {
            table.terminate();
            assert_eq!(table.next_error().0, "FATAL 57P01");
            assert!(table.has("s"));
        } else {
            table.fixture.shmem.slots.slots[index].active_pid = None;
            let released = crate::shmem::CondVarId::SlotActive(index);
            table.fixture.shmem.condvars.broadcast(released);
            table.run();
            let tag = "DROP_REPLICATION_SLOT".into();
            assert_eq!(table.next(), Some(BackendMessage::CommandComplete(tag)));
            assert!(!table.has("s"));
        }
    }
}

/// Streaming can start before the slot's restart_lsn.
#[test]
fn a_start_before_restart_lsn_is_served() {
    let mut table = server(PgVersion::V15);
    table.answers("CREATE_REPLICATION_SLOT s PHYSICAL (RESERVE_WAL)");
    table.query("START_REPLICATION SLOT s 0/800");
    assert_eq!(table.next(), Some(BackendMessage::copy_both()));
    let Some(WalMessage::XLogData(header, data)) = table.next_wal() else {
        panic!()
    };
    assert_eq!(header.start, Lsn(2048));
    assert_eq!(data, wal(2048, 5000));
}
