//! SHOW. Mirrors ShowGUCOption of guc.c.

use super::Settings;
use alloc::string::String;

impl Settings {
    /// The canonical name and the value of the setting with this name. The name is not
    /// case-sensitive. `None` for a setting that depends on the state of the server.
    #[must_use]
    pub fn show(&self, name: &str) -> Option<(&'static str, String)> {
        let setting = self.find(name).ok()?;
        let value = match self.session_defaults.get(setting.name) {
            Some(value) => setting.shown_value(value, self),
            None => setting
                .session_default()
                .map(String::from)
                .or_else(|| setting.shown(self))?,
        };
        Some((setting.name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Geometry, PgVersion, Real};
    use super::*;

    /// The expected texts are PostgreSQL 15's for the same values.
    #[test]
    fn values_are_shown_as_by_the_server() {
        let settings = Settings {
            max_slot_wal_keep_size: Some(1 << 30),
            checkpoint_timeout_ms: 90_000,
            wal_sender_timeout_ms: 3_600_000,
            wal_writer_delay_ms: 10_010,
            primary_conninfo: Some((String::from("localhost"), 5432)),
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
            assert_eq!(
                settings.show(name),
                Some((own, String::from(value))),
                "{name}"
            );
        }
        assert_eq!(settings.show("frob"), None);
        assert_eq!(settings.show("wal_segment_size "), None);
    }

    #[test]
    fn zero_and_no_limit_are_shown_without_a_unit() {
        let settings = Settings {
            wal_sender_timeout_ms: 0,
            checkpoint_completion_target: Real::from_thousandths(1000),
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
                Some(String::from(value)),
                "{name}"
            );
        }
    }
}
