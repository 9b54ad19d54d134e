//! The settings by PostgreSQL's names: read from text, and written as it.

use super::Settings;
use crate::base::{UnitError, duration_us, show_size, show_us, size, thousandths, whole};
use alloc::format;
use alloc::string::{String, ToString};

/// A setting that can be given by its name.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// PostgreSQL's name for it.
    pub name: &'static str,
    field: Field,
}

/// Where the value lives, and how it is written.
#[derive(Clone, Copy, Debug)]
enum Field {
    Count(fn(&mut Settings) -> &mut u32, u32, u32),
    Millis(fn(&mut Settings) -> &mut u32),
    Bytes(fn(&mut Settings) -> &mut u64),
    /// Absent is written `-1`, as in PostgreSQL.
    Limit(fn(&mut Settings) -> &mut Option<u64>),
    Fraction(fn(&mut Settings) -> &mut u32),
    Switch(fn(&mut Settings) -> &mut bool),
    Text(fn(&mut Settings) -> &mut String),
}

const fn setting(name: &'static str, field: Field) -> Setting {
    Setting { name, field }
}

/// All of them, in the order in which they are written.
pub const SETTINGS: [Setting; 23] = [
    setting(
        "max_connections",
        Field::Count(|s| &mut s.max_connections, 1, 1000),
    ),
    setting(
        "max_wal_senders",
        Field::Count(|s| &mut s.max_wal_senders, 0, 1000),
    ),
    setting(
        "shared_buffers",
        Field::Count(|s| &mut s.shared_buffers, 4, 1 << 20),
    ),
    setting(
        "wal_buffers",
        Field::Count(|s| &mut s.wal_buffers, 4, 1 << 20),
    ),
    setting(
        "wal_writer_delay",
        Field::Millis(|s| &mut s.wal_writer_delay_ms),
    ),
    setting(
        "wal_writer_flush_after",
        Field::Count(|s| &mut s.wal_writer_flush_after, 0, 1 << 20),
    ),
    setting(
        "full_page_writes",
        Field::Switch(|s| &mut s.full_page_writes),
    ),
    setting(
        "checkpoint_timeout",
        Field::Millis(|s| &mut s.checkpoint_timeout_ms),
    ),
    setting(
        "checkpoint_completion_target",
        Field::Fraction(|s| &mut s.checkpoint_completion_target),
    ),
    setting("max_wal_size", Field::Bytes(|s| &mut s.max_wal_size)),
    setting("min_wal_size", Field::Bytes(|s| &mut s.min_wal_size)),
    setting("wal_keep_size", Field::Bytes(|s| &mut s.wal_keep_size)),
    setting("wal_recycle", Field::Switch(|s| &mut s.wal_recycle)),
    setting(
        "max_replication_slots",
        Field::Count(|s| &mut s.max_replication_slots, 0, 1000),
    ),
    setting(
        "max_slot_wal_keep_size",
        Field::Limit(|s| &mut s.max_slot_wal_keep_size),
    ),
    setting(
        "primary_slot_name",
        Field::Text(|s| &mut s.primary_slot_name),
    ),
    setting(
        "wal_sender_timeout",
        Field::Millis(|s| &mut s.wal_sender_timeout_ms),
    ),
    setting(
        "wal_receiver_timeout",
        Field::Millis(|s| &mut s.wal_receiver_timeout_ms),
    ),
    setting(
        "wal_receiver_status_interval",
        Field::Millis(|s| &mut s.wal_receiver_status_interval_ms),
    ),
    setting(
        "wal_retrieve_retry_interval",
        Field::Millis(|s| &mut s.wal_retrieve_retry_interval_ms),
    ),
    setting("hot_standby", Field::Switch(|s| &mut s.hot_standby)),
    setting("cluster_name", Field::Text(|s| &mut s.cluster_name)),
    setting(
        "restart_after_crash",
        Field::Switch(|s| &mut s.restart_after_crash),
    ),
];

/// The setting of that name.
#[must_use]
pub fn setting_named(name: &str) -> Option<Setting> {
    SETTINGS.iter().find(|s| s.name == name).copied()
}

impl Setting {
    /// Sets it from text.
    ///
    /// # Errors
    /// If the text is no value for it.
    pub fn set(&self, settings: &mut Settings, text: &str) -> Result<(), UnitError> {
        let wrong = |what, help: &str| UnitError {
            text: text.into(),
            what,
            help: help.into(),
        };
        match self.field {
            Field::Count(field, least, most) => {
                let value = whole(text).and_then(|n| u32::try_from(n).ok());
                let value = value.filter(|n| (least..=most).contains(n));
                let help = format!("{} takes a number from {least} to {most}", self.name);
                *field(settings) = value.ok_or_else(|| wrong("count", &help))?;
            }
            Field::Millis(field) => {
                let us = duration_us(text)?;
                let ms = u32::try_from(us / 1000)
                    .ok()
                    .filter(|_| us.is_multiple_of(1000));
                let help = "this setting counts whole milliseconds, up to 49 days";
                *field(settings) = ms.ok_or_else(|| wrong("duration in milliseconds", help))?;
            }
            Field::Bytes(field) => *field(settings) = size(text)?,
            Field::Limit(field) => {
                *field(settings) = match text {
                    "-1" => None,
                    text => Some(size(text)?),
                };
            }
            Field::Fraction(field) => {
                let value = thousandths(text).and_then(|n| u32::try_from(n).ok());
                let value = value.filter(|n| *n <= 1000);
                let help = "write a number from 0 to 1, such as 0.9";
                *field(settings) = value.ok_or_else(|| wrong("fraction", help))?;
            }
            Field::Switch(field) => {
                *field(settings) = match text {
                    "true" | "on" => true,
                    "false" | "off" => false,
                    _ => return Err(wrong("switch", "write true or false")),
                };
            }
            Field::Text(field) => *field(settings) = text.into(),
        }
        Ok(())
    }

    /// Its value, as [`Setting::set`] reads it.
    #[must_use]
    pub fn text(&self, settings: &Settings) -> String {
        let mut copy = settings.clone();
        match self.field {
            Field::Count(field, ..) => field(&mut copy).to_string(),
            Field::Millis(field) => show_us(u64::from(*field(&mut copy)) * 1000),
            Field::Bytes(field) => show_size(*field(&mut copy)),
            Field::Limit(field) => field(&mut copy).map_or_else(|| String::from("-1"), show_size),
            Field::Fraction(field) => {
                let value = *field(&mut copy);
                let digits = format!("{}.{:03}", value / 1000, value % 1000);
                let short = digits.trim_end_matches('0');
                if short.ends_with('.') {
                    format!("{short}0")
                } else {
                    short.into()
                }
            }
            Field::Switch(field) => field(&mut copy).to_string(),
            Field::Text(field) => field(&mut copy).clone(),
        }
    }

    /// Is its value, so written, a bare number or switch in TOML? Else it is a string.
    #[must_use]
    pub fn is_bare(&self, text: &str) -> bool {
        match self.field {
            Field::Count(..) | Field::Limit(_) | Field::Bytes(_) | Field::Fraction(_) => {
                text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'-'))
            }
            Field::Switch(_) => true,
            Field::Millis(_) | Field::Text(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Geometry, PgVersion};
    use super::*;

    #[test]
    fn what_is_shown_reads_back() {
        let mut settings = Settings::new(PgVersion::V18, Geometry::STOCK);
        settings.wal_keep_size = 100;
        settings.primary_slot_name = "s1".into();
        let mut other = Settings::new(PgVersion::V18, Geometry::STOCK);
        for setting in SETTINGS {
            let text = setting.text(&settings);
            setting.set(&mut other, &text).expect("what it shows");
        }
        assert_eq!(settings, other);
    }

    #[test]
    fn refuses_what_is_no_value() {
        let mut settings = Settings::new(PgVersion::V15, Geometry::STOCK);
        for (name, text) in [
            ("wal_buffers", "3"),
            ("wal_buffers", "16MiB"),
            ("checkpoint_timeout", "5"),
            ("checkpoint_timeout", "1500us"),
            ("checkpoint_completion_target", "1.1"),
            ("hot_standby", "yes"),
            ("max_wal_size", "2segments"),
            ("max_slot_wal_keep_size", "-2"),
        ] {
            let setting = setting_named(name).expect("a setting");
            assert!(setting.set(&mut settings, text).is_err(), "{name} = {text}");
        }
        assert_eq!(settings, Settings::new(PgVersion::V15, Geometry::STOCK));
    }
}
