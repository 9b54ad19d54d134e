//! SHOW and TIMELINE_HISTORY.

use super::*;
use crate::call::DiskError;
use alloc::format;
use alloc::string::String;
use table::wal;

#[test]
fn settings_are_shown_under_their_canonical_names() {
    let mut table = Table::new(PgVersion::V15, 5000);
    table.fixture.shmem.recovery.state = RecoveryState::Archive;
    for (text, expected) in [
        ("SHOW wal_segment_size", ["wal_segment_size", "1kB", "SHOW"]),
        (
            "SHOW data_directory_mode",
            ["data_directory_mode", "0700", "SHOW"],
        ),
        ("SHOW datestyle", ["DateStyle", "ISO, MDY", "SHOW"]),
        ("SHOW in_hot_standby", ["in_hot_standby", "on", "SHOW"]),
        ("SHOW data_checksums", ["data_checksums", "off", "SHOW"]),
        ("SHOW application_name", ["application_name", "", "SHOW"]),
        (
            "SHOW client_encoding",
            ["client_encoding", "SQL_ASCII", "SHOW"],
        ),
    ] {
        assert_eq!(table.answers(text), expected, "{text}");
    }
    for (text, name) in [("SHOW Frob", "frob"), ("SHOW \"A\".b", "A.b")] {
        let error = format!("ERROR 42704 unrecognized configuration parameter \"{name}\"");
        assert_eq!(table.answers(text), [error], "{text}");
    }
}

/// The history file is longer than one read.
#[test]
fn a_history_file_is_sent_byte_for_byte() {
    for version in PgVersion::ALL {
        let mut table = Table::new(version, 5000);
        let content = wal(0, 20_000);
        let path = String::from("pg_wal/0000000B.history");
        table.fixture.files.insert(path, content.clone());
        table.query("TIMELINE_HISTORY 11");
        let Some(BackendMessage::RowDescription(columns)) = table.next() else {
            panic!()
        };
        let names: Vec<_> = columns.iter().map(|column| &*column.name).collect();
        assert_eq!(names, ["filename", "content"]);
        let row = [&b"0000000B.history"[..], &content].map(|value| Some(value.to_vec().into()));
        assert_eq!(table.next(), Some(BackendMessage::DataRow(row.into())));
        let complete = BackendMessage::CommandComplete("TIMELINE_HISTORY".into());
        assert_eq!(table.next(), Some(complete));
        assert_eq!(table.next(), Some(IDLE));
        let open = table
            .fixture
            .trace
            .iter()
            .filter(|op| op.starts_with("open"));
        let closed = table
            .fixture
            .trace
            .iter()
            .filter(|op| op.starts_with("close"));
        assert_eq!(open.count(), closed.count());
    }
}

/// RowDescription is sent before the file is opened.
#[test]
fn a_missing_history_file_is_an_error_after_the_columns() {
    let mut table = Table::new(PgVersion::V15, 5000);
    let open = "could not open file \"pg_wal/00000001.history\": No such file or directory";
    assert_eq!(
        table.answers("TIMELINE_HISTORY 1"),
        ["filename,content", &format!("ERROR 58P01 {open}")]
    );
    let path = "pg_wal/00000002.history";
    table.fixture.files.insert(path.into(), wal(0, 10));
    let broken = format!("read {path}");
    table.fixture.failing.insert(broken, DiskError::Io);
    let read = "could not read file \"pg_wal/00000002.history\": Input/output error";
    assert_eq!(
        table.answers("TIMELINE_HISTORY 2"),
        ["filename,content", &format!("ERROR 58030 {read}")]
    );
    assert_eq!(
        table.fixture.trace.last().map(String::as_str),
        Some("close pg_wal/00000002.history")
    );
    // The session continues.
    assert_eq!(
        table.answers("SHOW wal_level"),
        ["wal_level", "replica", "SHOW"]
    );
}
