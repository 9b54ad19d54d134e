//! Settings in plan files. A plan describes one run of the simulator. Names and units are
//! PostgreSQL's. Values are not rounded. The ranges are wider, because tiny clusters need timeouts
//! and sizes below PostgreSQL's minimum.

use super::Settings;
use super::home::Home;
use super::table::Setting;
use super::unit::Unit;
use super::value::{Kind, Place, Value, parse_bool};
use crate::base::units::{quantity, scaled};
use crate::base::{UnitError, show_size, show_us};
use alloc::format;
use alloc::string::{String, ToString};

impl Setting {
    /// Sets the setting to a value from a plan.
    ///
    /// # Errors
    /// If the text is not a valid value.
    pub fn set_exactly(&self, settings: &mut Settings, text: &str) -> Result<(), UnitError> {
        let wrong = || UnitError {
            text: text.into(),
            what: self.what(),
            help: self.help(),
        };
        match self.home {
            Home::Switch(field) => *field(settings) = parse_bool(text).ok_or_else(wrong)?,
            Home::Text(field) => *field(settings) = text.into(),
            Home::Real(field) => {
                let place = Place {
                    name: self.name,
                    version: settings.pg_version,
                    geometry: &settings.geometry,
                };
                let Ok(Value::Real(value)) = self.kind.parse(text, place) else {
                    return Err(wrong());
                };
                *field(settings) = value;
            }
            Home::Limit(field) if text == "-1" => *field(settings) = None,
            Home::Limit(field) => {
                *field(settings) = Some(self.amount_of(text, settings).ok_or_else(wrong)?);
            }
            Home::Bytes(field) => {
                *field(settings) = self.amount_of(text, settings).ok_or_else(wrong)?;
            }
            Home::Millis(field) => {
                let us = self.amount_of(text, settings).ok_or_else(wrong)?;
                let ms = u32::try_from(us / 1000).ok();
                let ms = ms.filter(|_| us.is_multiple_of(1000));
                *field(settings) = ms.ok_or_else(wrong)?;
            }
            Home::Seconds(field) => {
                let us = self.amount_of(text, settings).ok_or_else(wrong)?;
                let s = u32::try_from(us / 1_000_000).ok();
                let s = s.filter(|_| us.is_multiple_of(1_000_000));
                *field(settings) = s.ok_or_else(wrong)?;
            }
            Home::Count(_) => {
                let count = self.count(text, settings).ok_or_else(wrong)?;
                let value = self.check(settings, Value::Int(count), "");
                let stored = value.and_then(|value| self.store(settings, value));
                stored.map_err(|_| wrong())?;
            }
            Home::Fixed(_) | Home::State | Home::Session(_) => return Err(wrong()),
        }
        Ok(())
    }

    /// The value in the form that [`Setting::set_exactly`] reads.
    #[must_use]
    pub fn exact_text(&self, settings: &Settings) -> String {
        let mut copy = settings.clone();
        match self.home {
            Home::Switch(field) => field(&mut copy).to_string(),
            Home::Count(field) => field(&mut copy).to_string(),
            Home::Millis(field) => match *field(&mut copy) {
                0 => "0".into(),
                ms => show_us(u64::from(ms) * 1000),
            },
            Home::Seconds(field) => match *field(&mut copy) {
                0 => "0".into(),
                s => show_us(u64::from(s) * 1_000_000),
            },
            Home::Bytes(field) => show_size(*field(&mut copy)),
            Home::Limit(field) => field(&mut copy).map_or_else(|| "-1".into(), show_size),
            Home::Real(field) => field(&mut copy).text(),
            Home::Text(field) => field(&mut copy).clone(),
            Home::Fixed(_) | Home::State | Home::Session(_) => String::new(),
        }
    }

    /// Can a TOML file contain this text without quotes? It can if the text is a number or a
    /// boolean.
    #[must_use]
    pub fn is_bare(&self, text: &str) -> bool {
        match self.home {
            Home::Switch(_) => true,
            Home::Text(_) | Home::Fixed(_) | Home::State | Home::Session(_) => false,
            Home::Count(_)
            | Home::Millis(_)
            | Home::Seconds(_)
            | Home::Bytes(_)
            | Home::Limit(_)
            | Home::Real(_) => text
                .bytes()
                .all(|b| b.is_ascii_digit() || b"-.".contains(&b)),
        }
    }

    /// An amount in bytes or microseconds.
    fn amount_of(&self, text: &str, settings: &Settings) -> Option<u64> {
        let unit = self.unit()?;
        let size = unit.size(&settings.geometry);
        let amount = scaled(text, size).or_else(|| quantity(text, unit.names()))?;
        let (least, most) = self.bounds();
        let most = u64::try_from(most).ok()? * size;
        (least <= 0 || amount > 0)
            .then_some(amount)
            .filter(|amount| *amount <= most)
    }

    /// Parses a count. A size with a unit is rounded to whole pages, as in PostgreSQL.
    fn count(&self, text: &str, settings: &Settings) -> Option<i32> {
        let unit = self.unit();
        let plain = text.parse::<i32>().ok().filter(|_| !text.starts_with('+'));
        let count = match (plain, unit) {
            (Some(count), _) => count,
            (None, Some(unit)) => {
                let page = unit.size(&settings.geometry);
                let bytes = quantity(text, unit.names())?;
                let (pages, rest) = (bytes / page, bytes % page);
                let up = rest * 2 > page || (rest * 2 == page && pages % 2 == 1);
                i32::try_from(pages).ok()?.checked_add(i32::from(up))?
            }
            (None, None) => return None,
        };
        let (least, most) = self.bounds();
        (i64::from(count) >= least && i64::from(count) <= most).then_some(count)
    }

    /// The range of the setting in a plan. It is PostgreSQL's range with two exceptions. A minimum
    /// above 1 is replaced by 1. `shared_buffers` has a smaller minimum and maximum.
    fn bounds(&self) -> (i64, i64) {
        let Kind::Int { min, max, .. } = self.kind else {
            return (0, 0);
        };
        match self.name {
            "shared_buffers" => (4, 1 << 20),
            _ => (min.min(1).into(), max.into()),
        }
    }

    const fn unit(&self) -> Option<Unit> {
        match self.kind {
            Kind::Int { unit, .. } => unit,
            Kind::Bool | Kind::Real { .. } | Kind::Enum { .. } | Kind::Text | Kind::Name => None,
        }
    }

    const fn what(&self) -> &'static str {
        match (self.home, self.unit()) {
            (Home::Switch(_), _) => "switch",
            (Home::Millis(_), _) => "duration in milliseconds",
            (Home::Seconds(_), _) => "duration in seconds",
            (Home::Bytes(_) | Home::Limit(_), _) => "size",
            (Home::Count(_), Some(_)) => "number of pages",
            (Home::Count(_), None) => "count",
            (Home::Real(_), _) => "fraction",
            (Home::Text(_) | Home::Fixed(_) | Home::State | Home::Session(_), _) => "value",
        }
    }

    fn help(&self) -> String {
        let name = self.name;
        let (least, most) = self.bounds();
        let bare = self.unit().map(|unit| match unit {
            Unit::DataPage => "data pages",
            Unit::WalPage => "WAL pages",
            Unit::Byte => "bytes",
            Unit::Kilobyte => "kB",
            Unit::Megabyte => "MB",
            Unit::Millisecond => "milliseconds",
            Unit::Second => "seconds",
            Unit::Minute => "minutes",
        });
        match (self.home, bare) {
            (Home::Switch(_), _) => "write true or false".into(),
            (Home::Real(_), _) => "write a number from 0 to 1, such as 0.9".into(),
            (Home::Seconds(_), Some(bare)) => format!(
                "{name} takes {least} to {most} {bare}: \"30s\" or \"5min\"; a number alone means {bare}"
            ),
            (Home::Millis(_), Some(bare)) => {
                let least = if least > 0 { "1ms" } else { "0" };
                format!(
                    "{name} takes {least} to {most} {bare}: \"3.2s\", \"150ms\" or \"1min\"; a number alone means {bare}"
                )
            }
            (Home::Count(_), None) => format!("{name} takes a number from {least} to {most}"),
            (_, Some(bare)) => {
                let least = match (self.home, least) {
                    (Home::Bytes(_), 1) => "1B".into(),
                    (_, least) => least.to_string(),
                };
                format!(
                    "{name} takes {least} to {most} {bare}: \"64kB\" or \"16MB\"; a number alone means {bare}"
                )
            }
            (_, None) => format!("{name} is not for plans"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Geometry, PgVersion, kept_settings, setting_named};
    use super::*;

    #[test]
    fn exact_values_round_trip() {
        let mut settings = Settings::new(PgVersion::V18, Geometry::STOCK);
        settings.wal_keep_size = 100;
        settings.wal_receiver_status_interval_ms = 50;
        settings.max_slot_wal_keep_size = Some(0);
        settings.primary_slot_name = "s1".into();
        let mut other = Settings::new(PgVersion::V18, Geometry::STOCK);
        for setting in kept_settings() {
            let text = setting.exact_text(&settings);
            setting
                .set_exactly(&mut other, &text)
                .expect("what it shows");
        }
        assert_eq!(settings, other);
    }

    /// A number without a unit has PostgreSQL's default unit. A number with a unit can be finer
    /// than that unit.
    #[test]
    fn units_are_those_of_postgresql() {
        let mut settings = Settings::new(PgVersion::V15, Geometry::STOCK);
        for (name, text, shown) in [
            ("wal_keep_size", "1024", "1GB"),
            ("wal_keep_size", "64kB", "64kB"),
            ("max_wal_size", "1500B", "1500B"),
            ("max_wal_size", "0.5", "512kB"),
            ("checkpoint_timeout", "300", "5min"),
            ("checkpoint_timeout", "3.1s", "3100ms"),
            ("wal_receiver_status_interval", "50ms", "50ms"),
            ("wal_sender_timeout", "0", "0"),
            ("wal_sender_timeout", "2000", "2s"),
            ("shared_buffers", "8", "64kB"),
            ("shared_buffers", "1MB", "1MB"),
            ("wal_buffers", "20kB", "32kB"),
            ("max_slot_wal_keep_size", "-1", "-1"),
            ("checkpoint_completion_target", "0.0", "0"),
            ("hot_standby", "off", "off"),
        ] {
            let setting = setting_named(name).expect("a setting");
            let set = setting.set_exactly(&mut settings, text);
            set.unwrap_or_else(|e| panic!("{name} = {text}: {e}"));
            assert_eq!(
                settings.show(name),
                Some((name, shown.into())),
                "{name} = {text}"
            );
        }
    }

    #[test]
    fn refuses_invalid_values() {
        let mut settings = Settings::new(PgVersion::V15, Geometry::STOCK);
        for (name, text, help) in [
            ("shared_buffers", "3", "4 to 1048576 data pages"),
            ("wal_buffers", "-2", "-1 to 262143 WAL pages"),
            ("max_connections", "10s", "a number from 1"),
            ("checkpoint_timeout", "1500us", "1ms to 86400 seconds"),
            ("checkpoint_timeout", "2d", "1ms to 86400 seconds"),
            ("checkpoint_timeout", "0", "1ms to 86400 seconds"),
            ("checkpoint_completion_target", "1.1", "from 0 to 1"),
            ("hot_standby", "maybe", "true or false"),
            ("max_wal_size", "2segments", "a number alone means MB"),
            ("max_wal_size", "64KiB", "\"64kB\""),
            ("max_wal_size", "0", "1B"),
            ("max_slot_wal_keep_size", "-2", "-1 to"),
        ] {
            let setting = setting_named(name).expect("a setting");
            let refused = setting.set_exactly(&mut settings, text).expect_err(text);
            assert!(
                refused.help.contains(help),
                "{name} = {text}: {}",
                refused.help
            );
        }
        assert_eq!(settings, Settings::new(PgVersion::V15, Geometry::STOCK));
    }
}
