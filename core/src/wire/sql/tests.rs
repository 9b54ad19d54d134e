//! Tests of statements: parsing, errors, and round trips of generated statements.

use super::*;
use alloc::vec;
use proptest::prelude::*;

#[track_caller]
fn ok(text: &str, statement: Statement) {
    assert_eq!(Statement::parse(text), Ok(statement), "{text}");
}

#[track_caller]
fn refused(text: &str, code: &[u8; 5], message: &str) {
    let error = Statement::parse(text).unwrap_err();
    assert_eq!(error.to_string(), message);
    assert_eq!(&error.sqlstate(), code);
}

#[test]
fn statements() {
    ok(" \n;", Statement::Empty);
    ok("", Statement::Empty);
    ok("begin", Statement::Begin);
    ok("Commit ;", Statement::Commit);
    ok("ROLLBACK", Statement::Rollback);
    ok(
        "PUT 1 42 'dEaD'",
        Statement::Put {
            rel: 1,
            key: 42,
            value: Bytes::from_static(b"\xde\xad"),
        },
    );
    ok("get 1 42;", Statement::Get { rel: 1, key: 42 });
    ok("CHECKPOINT", Statement::Checkpoint);
    ok("SELECT pg_switch_wal();", Statement::SwitchWal);
    ok(
        "SELECT pg_logical_emit_message(true, 'it''s', '')",
        Statement::EmitMessage {
            transactional: true,
            prefix: "it's".into(),
            content: Bytes::new(),
        },
    );
    ok(
        "SHOW in_hot_standby",
        Statement::Show("in_hot_standby".into()),
    );
    let slot = |text: &str, statement| ok(text, Statement::Slot(statement));
    for (arguments, reserve_wal, temporary) in [
        ("'s'", false, false),
        ("'s', true", true, false),
        ("'s', false, true", false, true),
    ] {
        let name = "s".into();
        slot(
            &alloc::format!("SELECT pg_create_physical_replication_slot({arguments});"),
            SlotStatement::Create {
                name,
                reserve_wal,
                temporary,
            },
        );
    }
    slot(
        &alloc::format!("select pg_drop_replication_slot('{}')", "x".repeat(70)),
        SlotStatement::Drop("x".repeat(63)),
    );
    slot(
        "SELECT pg_replication_slot_advance('s', '0/3000028')",
        SlotStatement::Advance {
            name: "s".into(),
            upto: crate::base::Lsn(0x300_0028),
        },
    );
    slot(
        "select Slot_name , active_pid,restart_lsn, wal_status from pg_replication_slots",
        SlotStatement::List,
    );
    slot("SELECT pg_current_wal_lsn()", SlotStatement::CurrentWalLsn);
    slot(
        "SELECT pg_current_wal_flush_lsn()",
        SlotStatement::CurrentWalFlushLsn,
    );
    for text in ["SET a.b = 'off'", "SET a.b TO OFF", "set A.B='off'"] {
        let (name, value) = ("a.b".into(), "off".into());
        ok(text, Statement::Set { name, value });
    }
}

#[test]
fn errors_have_postgresqls_texts() {
    let near = |text, token: &str| {
        refused(
            text,
            b"42601",
            &alloc::format!("syntax error at or near \"{token}\""),
        );
    };
    near("SELEC 1", "SELEC");
    near("BEGIN BEGIN", "BEGIN");
    near("COMMIT WORK WORK", "WORK");
    near("\"begin\"", "\"begin\"");
    near("COMMIT; foo", "foo");
    near("PUT 'x' 1 'aa'", "'x'");
    near("PUT -1 1 'aa'", "-");
    near("SELECT pg_switch_wal(1)", "1");
    near("é", "é");
    near("SELECT slot_name FROM pg_replication_slots", "FROM");
    near("SELECT pg_drop_replication_slot(s)", "s");
    near(
        "SELECT pg_create_physical_replication_slot('s', true, true, true)",
        ",",
    );
    refused(
        "SELECT pg_replication_slot_advance('s', 'x')",
        b"22P02",
        "invalid input syntax for type pg_lsn: \"x\"",
    );
    for text in ["PUT 1", "SHOW", "SET a =", "SHOW a."] {
        refused(text, b"42601", "syntax error at end of input");
    }
    refused(
        "PUT 1 2 'ab''",
        b"42601",
        "unterminated quoted string at or near \"'ab''\"",
    );
    refused("PUT 1 2 'xy'", b"22023", "invalid hexadecimal digit: \"x\"");
    refused(
        "PUT 1 2 'abc'",
        b"22023",
        "invalid hexadecimal data: odd number of digits",
    );
    refused(
        "GET 4294967296 1",
        b"22003",
        "value \"4294967296\" is out of range for type oid",
    );
}

/// A statement that only PostgreSQL supports is not a syntax error, unless one of its tokens is
/// invalid.
#[test]
fn unsupported_statements_are_not_syntax_errors() {
    for (text, what) in [
        ("DELETE FROM t", "this DELETE statement"),
        ("select version()", "this SELECT statement"),
        ("SELECT", "this SELECT statement"),
        ("BEGIN; COMMIT", "several statements at once"),
        ("COMMIT; PUT 1 1 ''", "several statements at once"),
    ] {
        refused(
            text,
            b"0A000",
            &alloc::format!("cannot execute {what} in walsim"),
        );
        assert!(Statement::parse(text).unwrap_err().hint().is_some());
    }
    refused(
        "SELECT 'x",
        b"42601",
        "unterminated quoted string at or near \"'x\"",
    );
}

/// The expected positions are those of PostgreSQL 15, in characters.
#[test]
fn errors_have_a_position() {
    for (text, position) in [
        ("SELEC 1", Some(1)),
        (" begin foo", Some(8)),
        ("SHOW", Some(5)),
        ("/* é */ é", Some(9)),
        (
            "SELECT pg_replication_slot_advance('nosuch','zz')",
            Some(45),
        ),
        ("/* x", Some(1)),
        ("begin 'x", Some(7)),
        ("begin \"x", Some(7)),
        ("select 1", None),
    ] {
        let (_, found) = Statement::parse_located(text).unwrap_err();
        assert_eq!(found, position, "{text}");
    }
}

#[test]
fn comments_and_noise_are_skipped() {
    ok("-- nothing", Statement::Empty);
    ok("/* a /* nested */ one */ begin -- here", Statement::Begin);
    ok("begin work;", Statement::Begin);
    ok("END TRANSACTION;;", Statement::Commit);
    ok("abort", Statement::Rollback);
}

fn statement() -> impl Strategy<Value = Statement> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    let name = || "[a-z_][a-z0-9_]{0,8}(\\.[a-z]{1,4})?";
    prop_oneof![
        Just(Statement::Empty),
        Just(Statement::Begin),
        Just(Statement::Commit),
        Just(Statement::Rollback),
        Just(Statement::Checkpoint),
        Just(Statement::SwitchWal),
        (any::<u32>(), any::<u64>(), bytes()).prop_map(|(rel, key, value)| Statement::Put {
            rel,
            key,
            value
        }),
        (any::<u32>(), any::<u64>()).prop_map(|(rel, key)| Statement::Get { rel, key }),
        (any::<bool>(), ".{0,8}", bytes()).prop_map(|(transactional, prefix, content)| {
            Statement::EmitMessage {
                transactional,
                prefix,
                content,
            }
        }),
        slot_statement().prop_map(Statement::Slot),
        name().prop_map(Statement::Show),
        (name(), ".{0,8}").prop_map(|(name, value)| Statement::Set { name, value }),
    ]
}

fn slot_statement() -> impl Strategy<Value = SlotStatement> {
    let name = || ".{0,15}";
    prop_oneof![
        Just(SlotStatement::List),
        Just(SlotStatement::CurrentWalLsn),
        Just(SlotStatement::CurrentWalFlushLsn),
        (name(), any::<bool>(), any::<bool>()).prop_map(|(name, reserve_wal, temporary)| {
            SlotStatement::Create {
                name,
                reserve_wal,
                temporary,
            }
        }),
        name().prop_map(SlotStatement::Drop),
        (name(), any::<u64>()).prop_map(|(name, upto)| SlotStatement::Advance {
            name,
            upto: crate::base::Lsn(upto)
        }),
    ]
}

proptest! {
    #[test]
    fn round_trip(statement in statement()) {
        prop_assert_eq!(Statement::parse(&statement.to_string()), Ok(statement));
    }

    /// Parsing a part of a statement results in an error or in a shorter statement, never in a
    /// panic.
    #[test]
    fn truncation(statement in statement(), cut in any::<prop::sample::Index>()) {
        let text = statement.to_string();
        let cut: String = text.chars().take(cut.index(text.len() + 1)).collect();
        if let Ok(shorter) = Statement::parse(&cut) {
            prop_assert_eq!(Statement::parse(&shorter.to_string()), Ok(shorter));
        }
    }

    /// Text that is accepted by accident is a statement like any other.
    #[test]
    fn garbage_is_an_error(text in ".{0,30}") {
        if let Ok(statement) = Statement::parse(&text) {
            prop_assert_eq!(Statement::parse(&statement.to_string()), Ok(statement));
        }
    }
}
