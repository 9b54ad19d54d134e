//! Finds and sets settings by name. Used for configuration files, the command line and sessions.
//! Mirrors set_config_option of guc.c.

use super::table::{Setting, TABLE};
use super::value::{Kind, Place, Value};
use super::{Context, PgVersion, SettingError, Settings};
use crate::base::slot_name;
use alloc::string::{String, ToString};

/// The setting with this name. The name is not case-sensitive.
#[must_use]
pub fn setting_named(name: &str) -> Option<&'static Setting> {
    TABLE
        .iter()
        .find(|setting| setting.name.eq_ignore_ascii_case(name))
}

/// The settings that are stored in [`Settings`], in the order in which plan files list them.
pub fn kept_settings() -> impl Iterator<Item = &'static Setting> {
    TABLE.iter().filter(|setting| setting.is_kept())
}

impl Settings {
    /// The setting with this name, if the server's version has it.
    ///
    /// # Errors
    /// There is no such setting.
    pub fn find(&self, name: &str) -> Result<&'static Setting, SettingError> {
        let found = setting_named(name).filter(|setting| setting.since <= self.pg_version);
        found.ok_or_else(|| SettingError::Unknown(name.to_string()))
    }

    /// Applies a value from a configuration file or the command line.
    ///
    /// # Errors
    /// There is no such setting, or it does not accept the value.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), SettingError> {
        let setting = self.find(name)?;
        if setting.context == Context::Internal {
            return Err(SettingError::Internal(self.told(setting, name)));
        }
        let current = setting.session_default().unwrap_or_default();
        let value = setting.parse(self, name, text, current)?;
        setting.store(self, value)
    }

    /// Checks that a session may change the setting.
    ///
    /// # Errors
    /// The setting cannot be changed in a session.
    pub fn check_session_context(
        &self,
        setting: &Setting,
        written: &str,
    ) -> Result<(), SettingError> {
        let name = || self.told(setting, written);
        match setting.context_in(self.pg_version) {
            Context::Internal => Err(SettingError::Internal(name())),
            Context::Postmaster => Err(SettingError::NeedsRestart(name())),
            Context::Sighup => Err(SettingError::NotNow(name())),
            Context::Superuser | Context::User => Ok(()),
        }
    }

    /// The name to show in an error. Since 18 it is the canonical name, before 18 the name as it
    /// was written.
    fn told(&self, setting: &Setting, written: &str) -> String {
        if self.pg_version >= PgVersion::V18 {
            setting.name.into()
        } else {
            written.into()
        }
    }
}

impl Setting {
    /// Parses a value by PostgreSQL's rules (`parse_and_validate_value`). `settings` provides the
    /// version, the page sizes, and the values that check hooks compare with. `current` is the text
    /// of the old value. A new `DateStyle` may keep a part of the old value.
    ///
    /// # Errors
    /// The setting does not accept the value.
    pub fn parse(
        &self,
        settings: &Settings,
        written: &str,
        text: &str,
        current: &str,
    ) -> Result<Value, SettingError> {
        let name = settings.told(self, written);
        let place = Place {
            name: &name,
            version: settings.pg_version,
            geometry: &settings.geometry,
        };
        let value = self.kind.parse(text, place)?;
        self.check(settings, value, current)
    }

    /// Runs the check hooks.
    pub(super) fn check(
        &self,
        settings: &Settings,
        value: Value,
        current: &str,
    ) -> Result<Value, SettingError> {
        let refused = |value: i32| {
            let name = self.name.into();
            Err(SettingError::Refused { name, value })
        };
        match (self.name, &value) {
            ("max_connections", &Value::Int(count))
                if self.too_many(settings, count, settings.max_wal_senders) =>
            {
                refused(count)
            }
            ("max_wal_senders", &Value::Int(count))
                if self.too_many(settings, count, settings.max_connections) =>
            {
                refused(count)
            }
            // `check_wal_buffers`. The value -1 is replaced later, when shared memory is sized.
            ("wal_buffers", &Value::Int(count @ 0..)) => Ok(Value::Int(count.max(4))),
            ("primary_slot_name", Value::Text(slot)) if !slot.is_empty() => {
                match slot_name::validate(slot) {
                    Ok(()) => Ok(value),
                    Err(error) => Err(SettingError::RefusedText {
                        name: self.name.into(),
                        value: slot.clone(),
                        sqlstate: error.sqlstate(),
                        detail: Some(error.to_string()),
                        hint: error.hint().map(String::from),
                    }),
                }
            }
            _ => super::session::check(self, settings.pg_version, value, current),
        }
    }

    /// `check_max_connections` and `check_max_wal_senders`, up to 17. Settings that walsim does not
    /// have are counted with their defaults: 3 autovacuum workers, the autovacuum launcher and 8
    /// background workers.
    fn too_many(&self, settings: &Settings, count: i32, others: u32) -> bool {
        let Kind::Int { max, .. } = self.kind else {
            return false;
        };
        let all = i64::from(count) + i64::from(others) + 3 + 1 + 8;
        settings.pg_version < PgVersion::V18 && all > i64::from(max)
    }
}
