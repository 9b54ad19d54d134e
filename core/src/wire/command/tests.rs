//! Tests of commands: parsing, errors and results.

use super::super::backend::{BackendMessage, backend_limit};
use super::super::frame::FrameReader;
use super::*;
use bytes::Bytes;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Option<Command>, CommandError> {
    parse_as(text, PgVersion::V15)
}

/// Parses a command that causes no notices.
#[track_caller]
fn parse_as(text: &str, server: PgVersion) -> Result<Option<Command>, CommandError> {
    let parsed = Command::parse(text, server);
    assert_eq!(parsed.truncations, []);
    parsed.command
}

fn start(start: u64, timeline: Option<u32>) -> Result<Option<Command>, CommandError> {
    Ok(Some(Command::StartReplication {
        slot: None,
        start: Lsn(start),
        timeline: timeline.map(TimelineId),
    }))
}

#[test]
fn what_receivers_send() {
    assert_eq!(parse("IDENTIFY_SYSTEM"), Ok(Some(Command::IdentifySystem)));
    assert_eq!(
        parse("START_REPLICATION 0/1300000 TIMELINE 2"),
        start(0x130_0000, Some(2))
    );
    assert_eq!(
        parse("\tSTART_REPLICATION PHYSICAL AB/cd\n;"),
        start(0xAB_0000_00CD, None)
    );
}

/// The scanner keeps the lower 32 bits, as real servers of 15 and 18 do.
#[test]
fn overlong_numbers_keep_their_lower_bits() {
    let high = |lsn: &str| parse(&alloc::format!("START_REPLICATION {lsn}"));
    assert_eq!(high("123456789/0"), start(0x2345_6789_0000_0000, None));
    assert_eq!(high("0/1000000001"), start(1, None));
    let beyond = high("FFFFFFFFFFFFFFFFFFFFF/1");
    assert_eq!(beyond, start(0xFFFF_FFFF_0000_0001, None));
    assert_eq!(high("0/0 TIMELINE 4294967303"), start(0, Some(7)));
    assert_eq!(high("0/0 TIMELINE 007"), start(0, Some(7)));
    for (number, timeline) in [
        ("4294967297", 1),
        ("99999999999999999999999", u32::MAX),
        ("0000000000000000000000001", 1),
    ] {
        let command = Command::TimelineHistory(TimelineId(timeline));
        let text = alloc::format!("TIMELINE_HISTORY {number}");
        assert_eq!(parse(&text), Ok(Some(command)), "{number}");
    }
    let zero = parse("TIMELINE_HISTORY 4294967296");
    assert_eq!(zero, Err(CommandError::TimelineZero));
    for (number, reserve_wal) in [("4294967296", false), ("4294967297", true)] {
        let text = alloc::format!("CREATE_REPLICATION_SLOT s PHYSICAL (RESERVE_WAL {number})");
        assert_eq!(parse(&text), create("s", false, reserve_wal), "{number}");
    }
}

#[test]
fn what_is_not_a_replication_keyword_is_sql() {
    for text in [
        "",
        "  ",
        "identify_system",
        "IDENTIFY_SYSTEMS",
        "SELECT 1",
        "'SHOW'",
        "1",
        "0/1",
        ";",
        "ALTER_REPLICATION_SLOT x",
    ] {
        assert_eq!(parse(text), Ok(None), "{text:?}");
    }
    let later = parse_as("ALTER_REPLICATION_SLOT x", PgVersion::V18);
    assert_eq!(later, Err(CommandError::Syntax));
}

#[test]
fn syntax_errors() {
    for text in [
        "IDENTIFY_SYSTEM 1",
        "IDENTIFY_SYSTEM;;",
        "IDENTIFY_SYSTEM; IDENTIFY_SYSTEM",
        "START_REPLICATION",
        "START_REPLICATION 0",
        "START_REPLICATION 0/",
        "START_REPLICATION physical 0/1",
        "START_REPLICATION 0/1 TIMELINE",
        "START_REPLICATION 0/1 TIMELINE x",
        "START_REPLICATION 0/1 TIMELINE -1",
        "START_REPLICATION 0/1 TIMELINE 1a",
        "START_REPLICATION 0/1 TIMELINE 1 1",
        "START_REPLICATION SLOT 0/1",
        "START_REPLICATION SLOT SLOT 0/1",
        "START_REPLICATION SLOT 's' 0/1",
        "CREATE_REPLICATION_SLOT s",
        "CREATE_REPLICATION_SLOT 1s PHYSICAL",
        "CREATE_REPLICATION_SLOT a-b PHYSICAL",
        "CREATE_REPLICATION_SLOT s PHYSICAL TEMPORARY",
        "CREATE_REPLICATION_SLOT s PHYSICAL ()",
        "CREATE_REPLICATION_SLOT s PHYSICAL (RESERVE_WAL,)",
        "CREATE_REPLICATION_SLOT s PHYSICAL (RESERVE_WAL TEMPORARY)",
        "CREATE_REPLICATION_SLOT s PHYSICAL (RESERVE_WAL) RESERVE_WAL",
        "CREATE_REPLICATION_SLOT s PHYSICAL reserve_wal",
        "CREATE_REPLICATION_SLOT s PHYSICAL (bogus) x",
        "DROP_REPLICATION_SLOT",
        "DROP_REPLICATION_SLOT s wait",
        "READ_REPLICATION_SLOT",
        "READ_REPLICATION_SLOT s.",
        "TIMELINE_HISTORY",
        "TIMELINE_HISTORY x",
        "TIMELINE_HISTORY 2 3",
        "TIMELINE_HISTORY '2'",
        "TIMELINE_HISTORY -1",
        "SHOW",
        "SHOW a.",
        "SHOW .a",
        "SHOW a b",
        "SHOW 'a'",
        "SHOW 1",
        "SHOW TIMELINE",
        "SHOW a.SLOT",
        "START_REPLICATION LOGICAL 0/1",
        "START_REPLICATION 'it''s' 0/1",
    ] {
        assert_eq!(parse(text), Err(CommandError::Syntax), "{text:?}");
    }
    for text in ["START_REPLICATION 0/1 TIMELINE 0", "TIMELINE_HISTORY 0"] {
        assert_eq!(parse(text), Err(CommandError::TimelineZero), "{text:?}");
    }
    for text in ["'", "START_REPLICATION \"x", "'it''", "IDENTIFY_SYSTEM '"] {
        assert_eq!(
            parse(text),
            Err(CommandError::UnterminatedString),
            "{text:?}"
        );
    }
}

fn create(name: &str, temporary: bool, reserve_wal: bool) -> Result<Option<Command>, CommandError> {
    let name = name.into();
    Ok(Some(Command::CreateSlot {
        name,
        temporary,
        reserve_wal,
    }))
}

/// Keywords are in upper case. A word in lower case is therefore a name. A quoted text is always a
/// name.
#[test]
fn slots_are_named_by_identifiers() {
    for (text, name) in [
        ("CREATE_REPLICATION_SLOT Standby_1 PHYSICAL", "standby_1"),
        ("CREATE_REPLICATION_SLOT slot PHYSICAL", "slot"),
        ("CREATE_REPLICATION_SLOT \"SLOT\" PHYSICAL", "SLOT"),
        ("CREATE_REPLICATION_SLOT \"1\"\"s\" PHYSICAL;", "1\"s"),
        ("CREATE_REPLICATION_SLOT \"\" PHYSICAL", ""),
    ] {
        assert_eq!(parse(text), create(name, false, false), "{text}");
    }
    let name = "s".into();
    let wait = true;
    assert_eq!(
        parse("DROP_REPLICATION_SLOT s WAIT"),
        Ok(Some(Command::DropSlot { name, wait }))
    );
    let name = "a.b".into();
    assert_eq!(
        parse("READ_REPLICATION_SLOT a.B"),
        Ok(Some(Command::ReadSlot { name }))
    );
    assert_eq!(
        parse("START_REPLICATION SLOT S PHYSICAL 0/1"),
        Ok(Some(Command::StartReplication {
            slot: Some("s".into()),
            start: Lsn(1),
            timeline: None,
        }))
    );
}

#[test]
fn options_of_a_slot() {
    for (options, reserve) in [
        ("RESERVE_WAL", true),
        ("(RESERVE_WAL)", true),
        ("(reserve_wal)", true),
        ("(\"reserve_wal\" on)", true),
        ("(RESERVE_WAL 'TRUE')", true),
        ("(RESERVE_WAL 1)", true),
        ("(RESERVE_WAL 0)", false),
        ("(RESERVE_WAL off)", false),
        ("(RESERVE_WAL False)", false),
        ("", false),
    ] {
        let text = format!("CREATE_REPLICATION_SLOT s TEMPORARY PHYSICAL {options}");
        assert_eq!(parse(&text), create("s", true, reserve), "{text}");
    }
    let conflict = || CommandError::ConflictingOptions;
    for (options, error, code) in [
        ("RESERVE_WAL RESERVE_WAL", conflict(), b"42601"),
        ("(RESERVE_WAL, RESERVE_WAL)", conflict(), b"42601"),
        ("(SNAPSHOT 'export')", conflict(), b"42601"),
        ("(TWO_PHASE)", conflict(), b"42601"),
        ("USE_SNAPSHOT", conflict(), b"42601"),
        (
            "(FAILOVER)",
            CommandError::UnrecognizedOption("failover".into()),
            b"XX000",
        ),
        (
            "(bogus 'x', RESERVE_WAL)",
            CommandError::UnrecognizedOption("bogus".into()),
            b"XX000",
        ),
        (
            "(RESERVE_WAL 2)",
            CommandError::NotBoolean("reserve_wal".into()),
            b"42601",
        ),
        (
            "(RESERVE_WAL yes)",
            CommandError::NotBoolean("reserve_wal".into()),
            b"42601",
        ),
    ] {
        let text = format!("CREATE_REPLICATION_SLOT s PHYSICAL {options}");
        let found = parse(&text).unwrap_err();
        assert_eq!((&found, &found.sqlstate()), (&error, code), "{text}");
    }
    let later = "CREATE_REPLICATION_SLOT s PHYSICAL (FAILOVER)";
    assert_eq!(parse_as(later, PgVersion::V18), Err(conflict()));
    // Syntax errors are reported before invalid options.
    let both = "CREATE_REPLICATION_SLOT s PHYSICAL (bogus) x";
    assert_eq!(parse(both), Err(CommandError::Syntax));
}

/// A name that is too long is truncated. The client gets a NOTICE, even if the command fails later.
#[test]
fn long_names_are_truncated() {
    let (long, cut) = ("X".repeat(70), "x".repeat(63));
    let truncation = |from: String| Truncation {
        from,
        to: cut.clone(),
    };
    let parsed = Command::parse(
        &format!("CREATE_REPLICATION_SLOT {long} PHYSICAL"),
        PgVersion::V18,
    );
    assert_eq!(parsed.command, create(&cut, false, false));
    assert_eq!(parsed.truncations, [truncation("x".repeat(70))]);
    let parsed = Command::parse(
        &format!("DROP_REPLICATION_SLOT \"{}\" x", "x".repeat(64)),
        PgVersion::V18,
    );
    assert_eq!(parsed.command, Err(CommandError::Syntax));
    assert_eq!(parsed.truncations, [truncation("x".repeat(64))]);
}

#[test]
fn settings_are_named_by_identifiers_with_dots() {
    for (text, expected, written) in [
        (
            "SHOW wal_segment_size",
            "wal_segment_size",
            "SHOW wal_segment_size",
        ),
        ("SHOW DateStyle;", "datestyle", "SHOW datestyle"),
        ("SHOW \"DateStyle\"", "DateStyle", "SHOW \"DateStyle\""),
        ("SHOW a . B1.\"\"", "a.b1.", "SHOW a.b1.\"\""),
        ("SHOW \"SLOT\"", "SLOT", "SHOW \"SLOT\""),
        ("SHOW all", "all", "SHOW all"),
    ] {
        let name = expected.into();
        let command = Command::Show { name };
        assert_eq!(command.to_string(), written);
        assert_eq!(parse(text), Ok(Some(command)), "{text}");
    }
}

#[test]
fn timelines_have_histories() {
    let command = Command::TimelineHistory(TimelineId(2));
    assert_eq!(command.to_string(), "TIMELINE_HISTORY 2");
    assert_eq!(parse("TIMELINE_HISTORY 02 ;"), Ok(Some(command)));
}

/// Walreceivers double quotes in a name only since 18.
#[test]
fn what_walreceivers_send() {
    for (slot, version, text) in [
        (
            None,
            PgVersion::V15,
            "START_REPLICATION 0/3000000 TIMELINE 2",
        ),
        (
            Some("standby"),
            PgVersion::V15,
            "START_REPLICATION SLOT \"standby\" 0/3000000 TIMELINE 2",
        ),
        (
            Some("a\"b"),
            PgVersion::V15,
            "START_REPLICATION SLOT \"a\"b\" 0/3000000 TIMELINE 2",
        ),
        (
            Some("a\"b"),
            PgVersion::V18,
            "START_REPLICATION SLOT \"a\"\"b\" 0/3000000 TIMELINE 2",
        ),
    ] {
        let command = Command::StartReplication {
            slot: slot.map(String::from),
            start: Lsn(0x300_0000),
            timeline: Some(TimelineId(2)),
        };
        assert_eq!(command.text(version), text);
    }
}

fn rows(out: Vec<u8>) -> Vec<BackendMessage> {
    let mut reader = FrameReader::default();
    reader.push(out.into());
    core::iter::from_fn(|| reader.next(backend_limit).unwrap())
        .map(|frame| BackendMessage::decode(frame).unwrap())
        .collect()
}

/// A physical slot has no consistent point. The result for a slot that does not exist is a row of
/// NULLs.
#[test]
fn results_of_slot_commands() {
    let row = |values: &[Option<&str>]| {
        BackendMessage::DataRow(
            values
                .iter()
                .map(|v| v.map(|text| text.as_bytes().to_vec().into()))
                .collect(),
        )
    };
    for (version, nowhere) in [(PgVersion::V18, "0/0"), (PgVersion::V19, "0/00000000")] {
        let mut out = Vec::new();
        encode_created(version, "s", &mut out);
        let created = rows(out);
        assert_eq!(created[1], row(&[Some("s"), Some(nowhere), None, None]));
        let tag = "CREATE_REPLICATION_SLOT".into();
        assert_eq!(created[2], BackendMessage::CommandComplete(tag));
    }
    let position = Some((Lsn(0x300_0028), TimelineId(2)));
    for (version, exists, position, expected) in [
        (PgVersion::V18, false, None, [None, None, None]),
        (PgVersion::V18, true, None, [Some("physical"), None, None]),
        (
            PgVersion::V18,
            true,
            position,
            [Some("physical"), Some("0/3000028"), Some("2")],
        ),
        (
            PgVersion::V19,
            true,
            position,
            [Some("physical"), Some("0/03000028"), Some("2")],
        ),
    ] {
        let mut out = Vec::new();
        encode_read(version, exists, position, &mut out);
        let read = rows(out);
        let BackendMessage::RowDescription(columns) = &read[0] else {
            panic!("{read:?}")
        };
        let types: Vec<_> = columns.iter().map(|c| (&*c.name, c.type_oid)).collect();
        let expected_types = [("slot_type", 25), ("restart_lsn", 25), ("restart_tli", 20)];
        assert_eq!(types, expected_types);
        assert_eq!(read[1], row(&expected));
        let tag = "READ_REPLICATION_SLOT".into();
        assert_eq!(read[2], BackendMessage::CommandComplete(tag));
    }
}

/// The answer of PostgreSQL 15 and 18 to SHOW wal_segment_size.
#[test]
fn a_setting() {
    let mut out = Vec::new();
    encode_shown("wal_segment_size", "1MB".into(), &mut out);
    let column =
        b"T\0\0\0\x29\0\x01wal_segment_size\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
    let row = b"D\0\0\0\x0d\0\x01\0\0\0\x031MB";
    let complete = b"C\0\0\0\x09SHOW\0";
    assert_eq!(out, [&column[..], row, complete].concat());
}

/// A history file as PostgreSQL 15 sends it. In later versions the columns have the type modifier
/// -1.
#[test]
fn a_history_file() {
    let history = TimelineHistory {
        filename: "00000002.history".into(),
        content: Bytes::from_static(b"1\t0/13A1EC8\tno recovery target specified\n"),
    };
    let columns = |modifier: &[u8; 4]| {
        let after = b"\0\0\0\0\0\0\0\0\0\x19\xff\xff";
        let (before, between) = (b"T\0\0\0\x3b\0\x02filename\0", b"\0\0content\0");
        [
            &before[..],
            &after[..],
            modifier,
            between,
            after,
            modifier,
            b"\0\0",
        ]
        .concat()
    };
    for (version, modifier) in [(PgVersion::V15, 0), (PgVersion::V18, -1i32)] {
        let mut out = Vec::new();
        TimelineHistory::encode_columns(version, &mut out);
        assert_eq!(out, columns(&modifier.to_be_bytes()));
    }
    let mut out = Vec::new();
    history.encode(&mut out);
    let row = b"D\0\0\0\x47\0\x02\0\0\0\x1000000002.history\0\0\0)1\t0/13A1EC8\tno recovery target specified\n";
    assert_eq!(out, [&row[..], b"C\0\0\0\x15TIMELINE_HISTORY\0"].concat());
    let rows = rows(out);
    let BackendMessage::DataRow(row) = &rows[0] else {
        panic!("{rows:?}")
    };
    assert_eq!(TimelineHistory::from_row(row), Some(history));
    assert_eq!(TimelineHistory::from_row(&row[..1]), None);
    assert_eq!(TimelineHistory::from_row(&[None, None]), None);
}

/// The row as PostgreSQL 15 and 18 send it.
#[test]
fn identity() {
    let identity = SystemIdentity {
        system_id: 7_710_309_314_411_937_630,
        timeline: TimelineId(2),
        xlogpos: Lsn(0x190_B520),
        dbname: None,
    };
    let mut out = Vec::new();
    identity.encode(PgVersion::V15, &mut out);
    let columns = b"T\0\0\0\x6f\0\x04systemid\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0timeline\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0xlogpos\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0dbname\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
    let row = b"D\0\0\0\x33\0\x04\0\0\0\x137710309314411937630\0\0\0\x012\0\0\0\t0/190B520\xff\xff\xff\xff";
    let complete = b"C\0\0\0\x14IDENTIFY_SYSTEM\0";
    assert_eq!(out, [&columns[..], row, complete].concat());

    let mut later = Vec::new();
    identity.encode(PgVersion::V18, &mut later);
    assert_ne!(out, later, "the timeline is an int8 there");

    let mut reader = FrameReader::default();
    reader.push(later.into());
    reader.next(backend_limit).unwrap();
    let row = BackendMessage::decode(reader.next(backend_limit).unwrap().unwrap());
    let Ok(BackendMessage::DataRow(row)) = row else {
        panic!("{row:?}");
    };
    assert_eq!(SystemIdentity::from_row(&row), Some(identity));
    assert_eq!(SystemIdentity::from_row(&row[..2]), None);
    assert_eq!(SystemIdentity::from_row(&[None, None, None]), None);
}

fn command() -> impl Strategy<Value = Command> {
    let name = || "[a-zA-Z0-9_\"'. é]{0,20}";
    prop_oneof![
        Just(Command::IdentifySystem),
        (
            prop::option::of(name()),
            any::<u64>(),
            prop::option::of(1u32..)
        )
            .prop_map(|(slot, start, timeline)| Command::StartReplication {
                slot,
                start: Lsn(start),
                timeline: timeline.map(TimelineId)
            }),
        (name(), any::<bool>(), any::<bool>()).prop_map(|(name, temporary, reserve_wal)| {
            Command::CreateSlot {
                name,
                temporary,
                reserve_wal,
            }
        }),
        (name(), any::<bool>()).prop_map(|(name, wait)| Command::DropSlot { name, wait }),
        name().prop_map(|name| Command::ReadSlot { name }),
        (1u32..).prop_map(|n| Command::TimelineHistory(TimelineId(n))),
        name().prop_map(|name| Command::Show { name }),
    ]
}

proptest! {
    #[test]
    fn round_trip(command in command()) {
        prop_assert_eq!(parse(&command.to_string()), Ok(Some(command)));
    }

    #[test]
    fn garbage_is_an_error(text in "((START_REPLICATION|IDENTIFY_SYSTEM|SHOW|TIMELINE_HISTORY|CREATE_REPLICATION_SLOT|DROP_REPLICATION_SLOT) ?)?[ 0-9A-F/'\"(),;é]{0,12}|.{0,20}") {
        if let Ok(Some(command)) = parse(&text) {
            prop_assert_eq!(parse(&command.to_string()), Ok(Some(command)));
        }
    }
}
