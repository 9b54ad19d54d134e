//! The table of supported settings, with PostgreSQL's names, types, units, ranges and contexts. The
//! table is the same for 15 to 19, with two exceptions. Some settings are newer than 15
//! ([`Setting::since`]). One setting has another context since 19 ([`Setting::context_in`]).
//!
//! All code that reads or shows a setting uses this table. A test compares it with pg_settings of
//! real servers.

use super::home::Home;
use super::unit::Unit;
use super::value::{Context, Kind};
use super::{PgVersion, Settings, WalLevel};
use alloc::format;
use alloc::string::{String, ToString};

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The canonical name.
    pub name: &'static str,
    /// The type and the range of the setting.
    pub kind: Kind,
    /// When the setting may change in 15. For other versions see [`Setting::context_in`].
    pub context: Context,
    /// The first version that has the setting.
    pub since: PgVersion,
    /// Where the value is stored.
    pub(super) home: Home,
}

impl Setting {
    /// When the setting may change in this version. Since 19, sessions can set
    /// `wal_receiver_timeout`, because subscriptions use it.
    #[must_use]
    pub fn context_in(&self, version: PgVersion) -> Context {
        if self.name == "wal_receiver_timeout" && version >= PgVersion::V19 {
            User
        } else {
            self.context
        }
    }
}

use Context::{Internal, Postmaster, Sighup, Superuser, User};
use Kind::{Bool, Enum, Name, Text};
use Unit::{Byte, DataPage, Megabyte, Millisecond, Second, WalPage};

const fn row(name: &'static str, kind: Kind, context: Context, home: Home) -> Setting {
    Setting {
        name,
        kind,
        context,
        since: PgVersion::V15,
        home,
    }
}

const fn int(min: i32, max: i32) -> Kind {
    Kind::Int {
        unit: None,
        min,
        max,
    }
}

const fn of(unit: Unit, min: i32, max: i32) -> Kind {
    Kind::Int {
        unit: Some(unit),
        min,
        max,
    }
}

/// `MAX_BACKENDS`
const MAX_BACKENDS: i32 = 0x3_FFFF;
const MAX: i32 = i32::MAX;

/// A switch that is always on.
const ON: Home = Home::Fixed(|_| "on".into());
/// A switch that is always off.
const OFF: Home = Home::Fixed(|_| "off".into());
/// A value that is always empty.
const EMPTY: Home = Home::Fixed(|_| String::new());

/// All settings. The settings that a plan file can set are in the order in which plan files list
/// them.
#[rustfmt::skip]
pub static TABLE: [Setting; 65] = [
    row("max_connections", int(1, MAX_BACKENDS), Postmaster, Home::Count(|s| &mut s.max_connections)),
    row("max_wal_senders", int(0, MAX_BACKENDS), Postmaster, Home::Count(|s| &mut s.max_wal_senders)),
    row("shared_buffers", of(DataPage, 16, MAX / 2), Postmaster, Home::Count(|s| &mut s.shared_buffers)),
    row("wal_buffers", of(WalPage, -1, 262_143), Postmaster, Home::Count(|s| &mut s.wal_buffers)),
    row("wal_writer_delay", of(Millisecond, 1, 10_000), Sighup, Home::Millis(|s| &mut s.wal_writer_delay_ms)),
    row("wal_writer_flush_after", of(WalPage, 0, MAX), Sighup, Home::Count(|s| &mut s.wal_writer_flush_after)),
    row("full_page_writes", Bool, Sighup, Home::Switch(|s| &mut s.full_page_writes)),
    row("checkpoint_timeout", of(Second, 30, 86_400), Sighup, Home::Millis(|s| &mut s.checkpoint_timeout_ms)),
    row("checkpoint_completion_target", Kind::Real { min: 0, max: 1 }, Sighup,
        Home::Real(|s| &mut s.checkpoint_completion_target)),
    row("max_wal_size", of(Megabyte, 2, MAX), Sighup, Home::Bytes(|s| &mut s.max_wal_size)),
    row("min_wal_size", of(Megabyte, 2, MAX), Sighup, Home::Bytes(|s| &mut s.min_wal_size)),
    row("wal_keep_size", of(Megabyte, 0, MAX), Sighup, Home::Bytes(|s| &mut s.wal_keep_size)),
    row("wal_recycle", Bool, Superuser, Home::Switch(|s| &mut s.wal_recycle)),
    row("max_replication_slots", int(0, MAX_BACKENDS), Postmaster, Home::Count(|s| &mut s.max_replication_slots)),
    row("max_slot_wal_keep_size", of(Megabyte, -1, MAX), Sighup, Home::Limit(|s| &mut s.max_slot_wal_keep_size)),
    Setting {
        since: PgVersion::V18,
        ..row("idle_replication_slot_timeout", of(Second, 0, MAX), Sighup,
            Home::Seconds(|s| &mut s.idle_replication_slot_timeout_s))
    },
    row("primary_slot_name", Text, Sighup, Home::Text(|s| &mut s.primary_slot_name)),
    row("wal_sender_timeout", of(Millisecond, 0, MAX), User, Home::Millis(|s| &mut s.wal_sender_timeout_ms)),
    row("wal_receiver_timeout", of(Millisecond, 0, MAX), Sighup, Home::Millis(|s| &mut s.wal_receiver_timeout_ms)),
    row("wal_receiver_status_interval", of(Second, 0, MAX / 1000), Sighup,
        Home::Millis(|s| &mut s.wal_receiver_status_interval_ms)),
    row("wal_retrieve_retry_interval", of(Millisecond, 1, MAX), Sighup,
        Home::Millis(|s| &mut s.wal_retrieve_retry_interval_ms)),
    row("hot_standby", Bool, Postmaster, Home::Switch(|s| &mut s.hot_standby)),
    row("cluster_name", Name, Postmaster, Home::Text(|s| &mut s.cluster_name)),
    row("restart_after_crash", Bool, Sighup, Home::Switch(|s| &mut s.restart_after_crash)),
    // Settings with a fixed value.
    row("archive_command", Text, Sighup, Home::Fixed(|_| "(disabled)".into())),
    row("archive_mode", ARCHIVE_MODE, Postmaster, OFF),
    row("block_size", int(8192, 8192), Internal, Home::Fixed(|s| s.geometry.data_page.to_string())),
    row("data_directory_mode", int(0, 0o777), Internal, Home::Fixed(|_| "0700".into())),
    row("default_transaction_read_only", Bool, User, OFF),
    row("fsync", Bool, Sighup, ON),
    row("hot_standby_feedback", Bool, Sighup, OFF),
    row("integer_datetimes", Bool, Internal, ON),
    row("is_superuser", Bool, Internal, ON),
    row("primary_conninfo", Text, Sighup, Home::Fixed(primary_conninfo)),
    row("role", Text, User, Home::Fixed(|_| "none".into())),
    row("server_encoding", Text, Internal, Home::Fixed(|_| "UTF8".into())),
    row("server_version", Text, Internal, Home::Fixed(|s| s.pg_version.server_version().into())),
    row("server_version_num", int(0, MAX), Internal, Home::Fixed(server_version_num)),
    row("standard_conforming_strings", Bool, User, ON),
    row("synchronous_standby_names", Text, Sighup, EMPTY),
    row("wal_block_size", int(8192, 8192), Internal, Home::Fixed(|s| s.geometry.wal_page.to_string())),
    row("wal_level", WAL_LEVEL, Postmaster, Home::Fixed(|_| WalLevel::Replica.name().into())),
    row("wal_segment_size", of(Byte, 1 << 20, 1 << 30), Internal, Home::Fixed(|s| s.geometry.segment.to_string())),
    // Settings whose values depend on the state of the server.
    row("data_checksums", Bool, Internal, Home::State),
    row("in_hot_standby", Bool, Internal, Home::State),
    row("transaction_read_only", Bool, User, Home::State),
    // Settings that each session can change for itself.
    row("application_name", Name, User, Home::Session("")),
    row("bytea_output", BYTEA_OUTPUT, User, Home::Session("hex")),
    row("client_encoding", Text, User, Home::Session("UTF8")),
    row("client_min_messages", CLIENT_MIN_MESSAGES, User, Home::Session("notice")),
    row("DateStyle", Text, User, Home::Session("ISO, MDY")),
    row("extra_float_digits", int(-15, 3), User, Home::Session("1")),
    row("geqo", Bool, User, Home::Session("on")),
    row("idle_in_transaction_session_timeout", of(Millisecond, 0, MAX), User, Home::Session("0")),
    row("idle_session_timeout", of(Millisecond, 0, MAX), User, Home::Session("0")),
    row("IntervalStyle", INTERVAL_STYLE, User, Home::Session("postgres")),
    row("lock_timeout", of(Millisecond, 0, MAX), User, Home::Session("0")),
    row("row_security", Bool, User, Home::Session("on")),
    Setting { since: PgVersion::V16, ..row("scram_iterations", int(1, MAX), User, Home::Session("4096")) },
    row("search_path", Text, User, Home::Session("\"$user\", public")),
    row("session_authorization", Text, User, Home::Session("")),
    row("statement_timeout", of(Millisecond, 0, MAX), User, Home::Session("0")),
    row("synchronous_commit", SYNCHRONOUS_COMMIT, User, Home::Session("on")),
    row("TimeZone", Text, User, Home::Session("Etc/UTC")),
    Setting {
        since: PgVersion::V19,
        ..row("wal_sender_shutdown_timeout", of(Millisecond, -1, MAX), User, Home::Session("-1"))
    },
];

/// Other spellings of `on` and `off` that enum settings accept.
const SWITCHES: &[(&str, &str)] = &[
    ("true", "on"),
    ("false", "off"),
    ("yes", "on"),
    ("no", "off"),
    ("1", "on"),
    ("0", "off"),
];

const ARCHIVE_MODE: Kind = Enum {
    values: &["always", "on", "off"],
    hidden: SWITCHES,
};
const SYNCHRONOUS_COMMIT: Kind = Enum {
    values: &["local", "remote_write", "remote_apply", "on", "off"],
    hidden: SWITCHES,
};
const WAL_LEVEL: Kind = Enum {
    values: &["minimal", "replica", "logical"],
    hidden: &[("archive", "replica"), ("hot_standby", "replica")],
};
const BYTEA_OUTPUT: Kind = Enum {
    values: &["escape", "hex"],
    hidden: &[],
};
const INTERVAL_STYLE: Kind = Enum {
    values: &["postgres", "postgres_verbose", "sql_standard", "iso_8601"],
    hidden: &[],
};
const CLIENT_MIN_MESSAGES: Kind = Enum {
    values: &[
        "debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error",
    ],
    hidden: &[("debug", "debug2"), ("info", "info")],
};

fn primary_conninfo(settings: &Settings) -> String {
    let upstream = settings.primary_conninfo.as_ref();
    upstream.map_or_else(String::new, |(host, port)| {
        format!("host={host} port={port}")
    })
}

fn server_version_num(settings: &Settings) -> String {
    let version = settings.pg_version;
    let minor = version.server_version().rsplit_once('.');
    let minor = minor.map_or("", |(_, minor)| minor);
    format!("{}{minor:0>4}", version.major())
}

impl WalLevel {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Replica => "replica",
            Self::Logical => "logical",
        }
    }
}
