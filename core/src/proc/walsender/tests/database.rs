//! A walsender that is attached to a database: replication commands, SQL, and transactions with
//! both. The expected answers are PostgreSQL 15's.

use super::table::Table;
use crate::base::PgVersion;
use crate::call::Exit;
use crate::wire::backend::{BackendMessage, TxStatus};
use crate::wire::frontend::FrontendMessage;
use alloc::string::ToString;

const ABORTED: &str =
    "ERROR 25P02 current transaction is aborted, commands ignored until end of transaction block";

#[track_caller]
fn answers(table: &mut Table, text: &str, expected: &[&str]) {
    assert_eq!(table.answers(text), expected, "{text}");
}

#[test]
fn it_runs_commands_and_sql() {
    let mut table = Table::attached(5000);
    let identified = table.answers("IDENTIFY_SYSTEM");
    assert!(identified[1].ends_with(",postgres"), "{identified:?}");
    answers(
        &mut table,
        "SHOW wal_level",
        &["wal_level", "replica", "SHOW"],
    );
    answers(
        &mut table,
        "show wal_level",
        &["wal_level", "replica", "SHOW"],
    );
    answers(
        &mut table,
        "SHOW server_encoding",
        &["server_encoding", "UTF8", "SHOW"],
    );
    let warning = "WARNING 25P01 there is no transaction in progress";
    answers(&mut table, "COMMIT", &[warning, "COMMIT"]);
    let syntax = "ERROR 42601 syntax error at or near \"identify_system\"";
    answers(&mut table, "identify_system", &[syntax]);
    answers(
        &mut table,
        "IDENTIFY_SYSTEM x",
        &["ERROR 42601 syntax error"],
    );
}

#[test]
fn replication_commands_in_a_transaction() {
    let mut table = Table::attached(5000);
    answers(&mut table, "BEGIN", &["BEGIN"]);
    assert_eq!(table.answers("IDENTIFY_SYSTEM").len(), 3);
    let error = "ERROR 25001 START_REPLICATION cannot run inside a transaction block";
    answers(&mut table, "START_REPLICATION 0/400", &[error]);
    for text in ["IDENTIFY_SYSTEM", "SHOW wal_level", "show wal_level"] {
        answers(&mut table, text, &[ABORTED]);
    }
    answers(&mut table, "COMMIT", &["ROLLBACK"]);
    for command in ["TIMELINE_HISTORY 2", "BASE_BACKUP"] {
        table.answers("BEGIN");
        let name = command.split(' ').next().unwrap_or_default();
        let error = alloc::format!("ERROR 25001 {name} cannot run inside a transaction block");
        answers(&mut table, command, &[&error]);
        table.answers("ROLLBACK");
    }
    assert_eq!(table.answers("IDENTIFY_SYSTEM").len(), 3);
}

#[test]
fn ready_for_query_has_the_transaction_status() {
    let mut table = Table::attached(5000);
    for (text, status) in [
        ("BEGIN", TxStatus::InTransaction),
        ("SHOW wal_level", TxStatus::InTransaction),
        ("TIMELINE_HISTORY 2", TxStatus::Failed),
        ("ROLLBACK", TxStatus::Idle),
    ] {
        table.query(text);
        let mut last = None;
        while let Some(message) = table.next() {
            last = Some(message);
        }
        assert_eq!(last, Some(BackendMessage::ReadyForQuery(status)), "{text}");
    }
}

#[test]
fn it_streams_and_takes_commands_again() {
    let mut table = Table::attached(2000);
    table.query("START_REPLICATION 0/7D0");
    assert_eq!(table.next(), Some(BackendMessage::copy_both()));
    table.say(&FrontendMessage::CopyDone);
    assert_eq!(table.next(), Some(BackendMessage::CopyDone));
    let mut tags = alloc::vec::Vec::new();
    while let Some(message) = table.next() {
        if let BackendMessage::CommandComplete(tag) = message {
            tags.push(tag);
        }
    }
    assert_eq!(
        tags,
        [
            "START_STREAMING".to_string(),
            "START_REPLICATION".to_string()
        ]
    );
    answers(&mut table, "BEGIN", &["BEGIN"]);
    table.say(&FrontendMessage::Terminate);
    assert_eq!(table.exit, Some(Exit::Normal));
}

/// Logical decoding is refused in all sessions.
#[test]
fn logical_decoding_needs_another_wal_level() {
    let error = "ERROR 55000 logical decoding requires wal_level >= logical";
    for mut table in [Table::attached(5000), Table::new(PgVersion::V15, 5000)] {
        for text in [
            "CREATE_REPLICATION_SLOT l LOGICAL test_decoding",
            "CREATE_REPLICATION_SLOT l TEMPORARY LOGICAL x (SNAPSHOT 'nothing', TWO_PHASE)",
            "START_REPLICATION SLOT l LOGICAL 0/0",
            "START_REPLICATION SLOT l LOGICAL 0/0 (proto_version '1', publication_names 'p')",
        ] {
            answers(&mut table, text, &[error]);
        }
        for (text, error) in [
            (
                "CREATE_REPLICATION_SLOT l LOGICAL x (foo)",
                "ERROR XX000 unrecognized option: foo",
            ),
            (
                "CREATE_REPLICATION_SLOT l LOGICAL x (TWO_PHASE, TWO_PHASE)",
                "ERROR 42601 conflicting or redundant options",
            ),
            ("START_REPLICATION LOGICAL 0/0", "ERROR 42601 syntax error"),
            (
                "START_REPLICATION SLOT l LOGICAL 0/0 (",
                "ERROR 42601 syntax error",
            ),
        ] {
            answers(&mut table, text, &[error]);
        }
    }
}

/// Since 19 wal_level = replica is enough for logical decoding, but a session needs a database.
#[test]
fn since_19_logical_decoding_needs_a_database() {
    let create = "CREATE_REPLICATION_SLOT l LOGICAL test_decoding";
    let start = "START_REPLICATION SLOT p LOGICAL 0/0";
    let mut physical = Table::new(PgVersion::V19, 5000);
    let error = "ERROR 55000 logical decoding requires a database connection";
    answers(&mut physical, create, &[error]);
    answers(&mut physical, start, &[error]);

    let mut table = Table::attached_to(PgVersion::V19, 5000);
    let answer = table.answers(create).concat();
    let error = "ERROR 0A000 logical decoding is not supported by walsim | ";
    assert!(answer.starts_with(error), "{answer}");
    let missing = "ERROR 42704 replication slot \"p\" does not exist";
    answers(&mut table, start, &[missing]);
    table.answers("CREATE_REPLICATION_SLOT p PHYSICAL");
    let error = "ERROR 55000 cannot use physical replication slot for logical decoding";
    // The failed command has released the slot.
    answers(&mut table, start, &[error]);
    answers(&mut table, start, &[error]);
    answers(
        &mut table,
        "DROP_REPLICATION_SLOT p",
        &["DROP_REPLICATION_SLOT"],
    );
}

/// If PostgreSQL supports a feature and walsim does not, the error has a HINT.
#[test]
fn unsupported_commands() {
    let mut table = Table::new(PgVersion::V18, 5000);
    for (text, command) in [
        ("BASE_BACKUP (LABEL 'x')", "BASE_BACKUP"),
        ("UPLOAD_MANIFEST", "UPLOAD_MANIFEST"),
    ] {
        let answer = table.answers(text).concat();
        let error = alloc::format!("ERROR 0A000 {command} is not supported by walsim | ");
        assert!(answer.starts_with(&error), "{answer}");
    }
    let missing = "ERROR 42704 replication slot \"s\" does not exist";
    answers(
        &mut table,
        "ALTER_REPLICATION_SLOT s (FAILOVER)",
        &[missing],
    );
}
