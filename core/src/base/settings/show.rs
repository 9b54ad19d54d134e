//! What SHOW tells of a setting. Mirrors _ShowOption and convert_int_from_base_unit of guc.c.

use super::{Settings, WalLevel};
use alloc::format;
use alloc::string::{String, ToString};

/// A setting's name as PostgreSQL spells it, and how its value is worded.
type Shown = (&'static str, fn(&Settings) -> String);

/// What a server is configured with, and what is the same in every server of ours. What depends on the state of the
/// server or on the session stands with them.
const SHOWN: &[Shown] = &[
    ("archive_command", |_| text("(disabled)")),
    ("archive_mode", |_| on(false)),
    ("block_size", |s| s.geometry.data_page.to_string()),
    ("checkpoint_completion_target", |s| {
        thousandths(s.checkpoint_completion_target)
    }),
    ("checkpoint_timeout", |s| time(s.checkpoint_timeout_ms)),
    ("cluster_name", |s| s.cluster_name.clone()),
    ("data_directory_mode", |_| text("0700")),
    ("DateStyle", |_| text("ISO, MDY")),
    ("default_transaction_read_only", |_| on(false)),
    ("fsync", |_| on(true)),
    ("full_page_writes", |s| on(s.full_page_writes)),
    ("hot_standby", |s| on(s.hot_standby)),
    ("hot_standby_feedback", |_| on(false)),
    ("integer_datetimes", |_| on(true)),
    ("IntervalStyle", |_| text("postgres")),
    ("is_superuser", |_| on(true)),
    ("max_connections", |s| s.max_connections.to_string()),
    ("max_replication_slots", |s| {
        s.max_replication_slots.to_string()
    }),
    ("max_slot_wal_keep_size", |s| {
        s.max_slot_wal_keep_size.map_or_else(|| text("-1"), size)
    }),
    ("max_wal_senders", |s| s.max_wal_senders.to_string()),
    ("max_wal_size", |s| size(s.max_wal_size)),
    ("min_wal_size", |s| size(s.min_wal_size)),
    ("primary_conninfo", |s| {
        let upstream = s.primary_conninfo.as_ref();
        upstream.map_or_else(String::new, |(host, port)| {
            format!("host={host} port={port}")
        })
    }),
    ("primary_slot_name", |s| s.primary_slot_name.clone()),
    ("restart_after_crash", |s| on(s.restart_after_crash)),
    ("server_version", |s| text(s.pg_version.server_version())),
    ("server_version_num", version_number),
    ("shared_buffers", |s| {
        size(u64::from(s.shared_buffers) * u64::from(s.geometry.data_page))
    }),
    ("standard_conforming_strings", |_| on(true)),
    ("synchronous_commit", |_| on(true)),
    ("synchronous_standby_names", |_| String::new()),
    ("TimeZone", |_| text("Etc/UTC")),
    ("wal_block_size", |s| s.geometry.wal_page.to_string()),
    ("wal_buffers", |s| wal_pages(s, s.wal_buffers)),
    ("wal_keep_size", |s| size(s.wal_keep_size)),
    ("wal_level", |_| text(WalLevel::Replica.name())),
    ("wal_receiver_status_interval", |s| {
        time(s.wal_receiver_status_interval_ms)
    }),
    ("wal_receiver_timeout", |s| time(s.wal_receiver_timeout_ms)),
    ("wal_recycle", |s| on(s.wal_recycle)),
    ("wal_retrieve_retry_interval", |s| {
        time(s.wal_retrieve_retry_interval_ms)
    }),
    ("wal_segment_size", |s| size(s.geometry.segment.into())),
    ("wal_sender_timeout", |s| time(s.wal_sender_timeout_ms)),
    ("wal_writer_delay", |s| time(s.wal_writer_delay_ms)),
    ("wal_writer_flush_after", |s| {
        wal_pages(s, s.wal_writer_flush_after)
    }),
];

impl Settings {
    /// The setting of that name in any case: its own spelling, and its value.
    #[must_use]
    pub fn show(&self, name: &str) -> Option<(&'static str, String)> {
        let (own, value) = SHOWN
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name))?;
        Some((own, value(self)))
    }
}

impl WalLevel {
    /// As the configuration names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Replica => "replica",
            Self::Logical => "logical",
        }
    }
}

fn text(value: &str) -> String {
    String::from(value)
}

fn on(set: bool) -> String {
    text(if set { "on" } else { "off" })
}

/// `server_version_num`
fn version_number(settings: &Settings) -> String {
    let version = settings.pg_version;
    let minor = version.server_version().rsplit_once('.');
    format!(
        "{}{:0>4}",
        version.major(),
        minor.map_or("", |(_, minor)| minor)
    )
}

fn wal_pages(settings: &Settings, pages: u32) -> String {
    size(u64::from(pages) * u64::from(settings.geometry.wal_page))
}

/// Bytes in the largest unit that divides them.
fn size(bytes: u64) -> String {
    in_units(
        bytes,
        &[
            ("TB", 1 << 40),
            ("GB", 1 << 30),
            ("MB", 1 << 20),
            ("kB", 1 << 10),
            ("B", 1),
        ],
    )
}

/// Milliseconds in the largest unit that divides them.
fn time(ms: u32) -> String {
    let units = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("min", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    in_units(ms.into(), &units)
}

/// Nothing has no unit.
fn in_units(value: u64, units: &[(&str, u64)]) -> String {
    let unit = units
        .iter()
        .find(|(_, factor)| value.is_multiple_of(*factor));
    match unit {
        Some((unit, factor)) if value > 0 => format!("{}{unit}", value / factor),
        _ => value.to_string(),
    }
}

/// `%g` of a number with three decimals.
fn thousandths(value: u32) -> String {
    let text = format!("{}.{:03}", value / 1000, value % 1000);
    String::from(text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::super::{Geometry, PgVersion};
    use super::*;

    /// As PostgreSQL 15 words the same values.
    #[test]
    fn values_are_worded_as_the_server_words_them() {
        let settings = Settings {
            max_slot_wal_keep_size: Some(1 << 30),
            checkpoint_timeout_ms: 90_000,
            wal_sender_timeout_ms: 3_600_000,
            wal_writer_delay_ms: 10_010,
            primary_conninfo: Some((text("localhost"), 5432)),
            ..Settings::new(PgVersion::V15, Geometry::STOCK)
        };
        for (name, own, value) in [
            ("wal_segment_size", "wal_segment_size", "1MB"),
            ("WAL_Block_Size", "wal_block_size", "8192"),
            ("datestyle", "DateStyle", "ISO, MDY"),
            ("data_directory_mode", "data_directory_mode", "0700"),
            ("server_version", "server_version", "15.18"),
            ("server_version_num", "server_version_num", "150018"),
            ("integer_datetimes", "integer_datetimes", "on"),
            ("wal_level", "wal_level", "replica"),
            ("wal_keep_size", "wal_keep_size", "0"),
            ("max_wal_size", "max_wal_size", "64MB"),
            ("wal_buffers", "wal_buffers", "128kB"),
            ("wal_writer_flush_after", "wal_writer_flush_after", "1MB"),
            ("max_slot_wal_keep_size", "max_slot_wal_keep_size", "1GB"),
            ("checkpoint_timeout", "checkpoint_timeout", "90s"),
            ("wal_sender_timeout", "wal_sender_timeout", "1h"),
            ("wal_writer_delay", "wal_writer_delay", "10010ms"),
            (
                "wal_receiver_status_interval",
                "wal_receiver_status_interval",
                "10s",
            ),
            (
                "checkpoint_completion_target",
                "checkpoint_completion_target",
                "0.9",
            ),
            (
                "primary_conninfo",
                "primary_conninfo",
                "host=localhost port=5432",
            ),
        ] {
            assert_eq!(settings.show(name), Some((own, text(value))), "{name}");
        }
        assert_eq!(settings.show("frob"), None);
        assert_eq!(settings.show("wal_segment_size "), None);
    }

    #[test]
    fn what_is_switched_off() {
        let settings = Settings {
            wal_sender_timeout_ms: 0,
            checkpoint_completion_target: 1000,
            ..Settings::new(PgVersion::V18, Geometry::STOCK)
        };
        for (name, value) in [
            ("wal_sender_timeout", "0"),
            ("max_slot_wal_keep_size", "-1"),
            ("checkpoint_completion_target", "1"),
            ("primary_conninfo", ""),
        ] {
            assert_eq!(
                settings.show(name).map(|(_, value)| value),
                Some(text(value)),
                "{name}"
            );
        }
    }

    /// SHOW looks names up without regard to case, so that two must not differ in it alone.
    #[test]
    fn every_setting_is_there_once() {
        for (i, (name, _)) in SHOWN.iter().enumerate() {
            let again = SHOWN[..i]
                .iter()
                .any(|(other, _)| other.eq_ignore_ascii_case(name));
            assert!(!again, "{name}");
        }
    }
}
