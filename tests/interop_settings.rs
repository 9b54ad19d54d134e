//! Asks a real server about all settings of `tests/settings.rs`. Also compares SHOW between a real
//! and a simulated server with the same configuration.
//!
//! Without PostgreSQL 15 the tests are skipped, or fail if `WALSIM_REQUIRE_PG` is set.
//! `WALSIM_PG_BIN` selects a newer server. With `WALSIM_WRITE_GOLDEN` the server's answers are
//! written to the golden file of its version.

#[path = "settings/cases.rs"]
mod cases;
#[path = "interop/server.rs"]
mod server;

use server::{Folder, Server, Stop, as_postgres, server_bin, version_of};
use std::path::Path;
use walsim_core::base::{Geometry, Kind, PgVersion, SessionSettings, Settings, parse_conf_file};

/// The rows of pg_settings in a running server.
fn their_table(server: &Server, version: PgVersion) -> String {
    let mut out = String::new();
    for name in cases::names(version) {
        let boot = if cases::has_own_default(name) {
            "'(own)'"
        } else {
            "boot_val"
        };
        out += &server.psql(&format!(
            "SELECT concat_ws('|', name, vartype, coalesce(unit, ''), coalesce(min_val, ''), coalesce(max_val, ''), \
             context, coalesce(enumvals::text, ''), coalesce({boot}, '')) FROM pg_settings WHERE name = '{name}'"
        ));
        out.push('\n');
    }
    out
}

/// What a real server makes of a text on its command line: a value or an error.
fn theirs(bin: &Path, data: &Path, name: &str, text: &str) -> String {
    let mut command = as_postgres(bin.join("postgres"));
    command
        .arg("-D")
        .arg(data)
        .args(["-C", name, "-c", &format!("{name}={text}")]);
    let output = command.output().expect("it starts");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if output.status.success() {
        return out.trim_end_matches('\n').into();
    }
    let mut answer = String::new();
    for label in ["FATAL", "DETAIL", "HINT"] {
        let mark = format!("{label}:  ");
        let said = err.lines().find_map(|line| Some(line.split_once(&mark)?.1));
        if let Some(said) = said {
            let blank = if answer.is_empty() { "" } else { " " };
            answer += &format!("{blank}{label}: {said}");
        }
    }
    assert!(!answer.is_empty(), "{name}={text:?}: {err}");
    answer
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "which file is written is no part of a simulated run; not every package forbids it"
)]
fn every_text_becomes_the_same_value() {
    let Some(bin) = server_bin() else {
        return;
    };
    let version = version_of(&bin);
    let folder = Folder::new("settings");
    let data = folder.path().join("data");
    let mut server = Server::init(&bin, &data, &["--wal-segsize=1"], "");
    server.start();
    let mut all = their_table(&server, version);
    all.push('\n');
    server.stop(Stop::Fast);
    for (name, text) in cases::texts(version) {
        all += &cases::line(name, &text, &theirs(&bin, &data, name, &text));
    }
    if std::env::var_os("WALSIM_WRITE_GOLDEN").is_some() {
        std::fs::write(cases::golden(version), &all).expect("our own folder");
    }
    let differences = cases::differences(&all, &cases::all_of_ours(version));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Three configurations.
const CONFIGURATIONS: [&str; 3] = [
    "wal_keep_size = 1024\nmax_wal_size = 64 # MB\nmin_wal_size=2MB\ncheckpoint_timeout 300\nwal_sender_timeout = 0\n\
     shared_buffers = 128\nmax_slot_wal_keep_size = 1TB\nwal_receiver_status_interval = '0.5h'\n",
    "WAL_KEEP_SIZE = '1.5GB'\nmax_wal_size = '1 TB'\nmin_wal_size = '5120kB'\nCheckpoint_Timeout = 1d\n\
     wal_sender_timeout = 60000\nshared_buffers = 16MB\nmax_slot_wal_keep_size = 100\nwal_writer_delay = 1500us\n\
     wal_receiver_timeout = '1e3'\nwal_writer_flush_after = 0x10\nfull_page_writes = of\n\
     checkpoint_completion_target = .123456789\nwal_buffers = 3\ncluster_name = 'it''s'\nhot_standby = no\n",
    "wal_keep_size = 1\nwal_keep_size = 2\nwal_retrieve_retry_interval = 1\nwal_sender_timeout = '1441min'\n\
     max_connections = 020\nmax_wal_senders = 5.4\nmax_replication_slots = 0\nwal_recycle = 0\n\
     synchronous_commit = LOCAL\nDateStyle = 'dmy, sql'\nwal_buffers = -1\nshared_buffers = 64MB\n\
     checkpoint_completion_target = 1\nstatement_timeout = 5min\nrestart_after_crash = \"on\"\n",
];

/// Compares SHOW, and the value and unit in pg_settings.
#[test]
fn a_configuration_is_shown_alike() {
    let Some(bin) = server_bin() else {
        return;
    };
    let version = version_of(&bin);
    let folder = Folder::new("settings-shown");
    for (number, text) in CONFIGURATIONS.iter().enumerate() {
        let mut ours = Settings::new(version, Geometry::STOCK);
        let lines = parse_conf_file(text).expect("a good file");
        let (last, first): (Vec<_>, Vec<_>) = lines.iter().partition(|l| l.name == "wal_buffers");
        for line in first.into_iter().chain(last) {
            let set = ours.set(&line.name, &line.value);
            set.unwrap_or_else(|e| panic!("{}: {e}", line.name));
        }
        let data = folder.path().join(number.to_string());
        // Only walsim accepts double quotes.
        let mut server = Server::init(&bin, &data, &["--wal-segsize=1"], &text.replace('"', "'"));
        server.start();
        for line in &lines {
            let setting = ours.find(&line.name).expect("it was set");
            let name = setting.name;
            let shown = server.psql(&format!("SHOW {name}"));
            assert_eq!(ours.show(name), Some((name, shown)), "{number}: {name}");
            let row = server.psql(&format!(
                "SELECT setting || '|' || coalesce(unit, '') FROM pg_settings WHERE name = '{name}'"
            ));
            let unit = if let Kind::Int { unit, .. } = setting.kind {
                unit
            } else {
                None
            };
            let unit = unit
                .map(|unit| unit.name(&ours.geometry))
                .unwrap_or_default();
            let session = SessionSettings::default();
            let value = setting
                .number(&ours)
                .or_else(|| Some(session.show(&ours, name)?.1));
            // SHOW prints the session's value with a unit, and pg_settings shows it without a unit.
            if name != "statement_timeout" {
                assert_eq!(
                    row,
                    format!("{}|{unit}", value.unwrap_or_default()),
                    "{number}: {name}"
                );
            }
        }
        server.stop(Stop::Fast);
    }
}
