//! The settings of a session, and their check hooks. Mirrors guc.c and variable.c.

use super::encoding::client_encoding;
use super::home::Home;
use super::table::Setting;
use super::value::Value;
use super::{PgVersion, SettingError, Settings};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};

/// The settings that a session has changed. All other settings of the session have the server's
/// value.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct SessionSettings(BTreeMap<&'static str, Value>);

impl SessionSettings {
    /// Applies SET or a parameter of the startup packet. Returns the setting, because the server
    /// reports changes of some settings to the client.
    ///
    /// # Errors
    /// There is no such setting, a session cannot change it, or it does not accept the value.
    pub fn set(
        &mut self,
        server: &Settings,
        name: &str,
        text: &str,
    ) -> Result<&'static Setting, SettingError> {
        let setting = server.find(name)?;
        server.check_session_context(setting, name)?;
        let value = setting.parse(server, name, text, &self.text(server, setting))?;
        match setting.home {
            // walsim accepts only the value that the setting already has.
            Home::Fixed(_) | Home::State => setting.store(&mut server.clone(), value)?,
            Home::Switch(_)
            | Home::Count(_)
            | Home::Millis(_)
            | Home::Seconds(_)
            | Home::Bytes(_)
            | Home::Limit(_)
            | Home::Real(_)
            | Home::Text(_)
            | Home::Session(_) => {
                self.0.insert(setting.name, value);
            }
        }
        Ok(setting)
    }

    /// Restores the server's value (`SET … TO DEFAULT`, `RESET`).
    ///
    /// # Errors
    /// There is no such setting, or a session cannot change it.
    pub fn reset(
        &mut self,
        server: &Settings,
        name: &str,
    ) -> Result<&'static Setting, SettingError> {
        let setting = server.find(name)?;
        server.check_session_context(setting, name)?;
        self.0.remove(setting.name);
        Ok(setting)
    }

    /// Has the session changed this setting?
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The canonical name of the setting and its value as SHOW prints it. `None` for a setting that
    /// depends on the state of the server.
    #[must_use]
    pub fn show(&self, server: &Settings, name: &str) -> Option<(&'static str, String)> {
        let setting = server.find(name).ok()?;
        match self.own(server, setting) {
            Some(value) => Some((setting.name, setting.shown_value(&value, server))),
            None => server.show(name),
        }
    }

    /// `wal_sender_timeout` of this session.
    #[must_use]
    pub fn wal_sender_timeout_ms(&self, server: &Settings) -> u32 {
        match self.0.get("wal_sender_timeout") {
            Some(Value::Int(ms)) => ms.unsigned_abs(),
            Some(_) | None => server.wal_sender_timeout_ms,
        }
    }

    /// `wal_sender_shutdown_timeout` of this session (since 19): how long a walsender may delay a
    /// shutdown. `None` means no limit, which is -1 in PostgreSQL.
    #[must_use]
    pub fn wal_sender_shutdown_timeout_ms(&self, server: &Settings) -> Option<u32> {
        let name = "wal_sender_shutdown_timeout";
        match self
            .0
            .get(name)
            .or_else(|| server.session_defaults.get(name))
        {
            Some(Value::Int(ms)) => u32::try_from(*ms).ok(),
            Some(_) | None => None,
        }
    }

    /// Does a commit wait until its record is flushed? It does not if `synchronous_commit` is
    /// `off`. All other values have the same effect, because walsim has no synchronous standbys.
    #[must_use]
    pub fn waits_for_commits(&self, server: &Settings) -> bool {
        let value = self.0.get("synchronous_commit");
        let value = value.or_else(|| server.session_defaults.get("synchronous_commit"));
        value != Some(&Value::Enum("off"))
    }

    /// The session's own value, or the value that the server's configuration gives to new sessions.
    fn own(&self, server: &Settings, setting: &Setting) -> Option<Value> {
        let value = self.0.get(setting.name);
        value
            .or_else(|| server.session_defaults.get(setting.name))
            .cloned()
    }

    fn text(&self, server: &Settings, setting: &Setting) -> String {
        match (self.own(server, setting), setting.home) {
            (Some(value), _) => value.text(),
            (None, Home::Session(default)) => default.into(),
            (None, _) => String::new(),
        }
    }
}

/// The check hooks of `client_encoding`, `DateStyle` and `TimeZone`. `current` is the value before
/// the change.
pub(super) fn check(
    setting: &Setting,
    version: PgVersion,
    value: Value,
    current: &str,
) -> Result<Value, SettingError> {
    let Value::Text(text) = &value else {
        return Ok(value);
    };
    let refused = |sqlstate: [u8; 5], detail: Option<String>| SettingError::RefusedText {
        name: setting.name.into(),
        value: text.clone(),
        sqlstate,
        detail,
        hint: None,
    };
    match setting.name {
        "client_encoding" => match client_encoding(text) {
            None => Err(refused(*b"22023", None)),
            Some(own @ "MULE_INTERNAL") => {
                let detail = format!("Conversion between {own} and UTF8 is not supported.");
                Err(refused(*b"0A000", Some(detail)))
            }
            // The spelling UNICODE is kept, because old drivers expect the server to report it.
            Some(_) if text == "UNICODE" => Ok(value),
            Some(own) => Ok(Value::Text(own.into())),
        },
        "DateStyle" => match date_style(text, current, version) {
            Ok(style) => Ok(Value::Text(style)),
            Err(detail) => Err(refused(*b"22023", Some(detail))),
        },
        // walsim has no time zone database. Any text that looks like the name of a zone is
        // accepted.
        "TimeZone" if !is_zone(text) => Err(refused(*b"22023", None)),
        _ => Ok(value),
    }
}

fn is_zone(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-/:<>,.".contains(c);
    !text.is_empty() && text.chars().all(allowed)
}

/// `check_datestyle`: the text contains a style, an order, or both. A part that is missing keeps
/// its current value. The error is the text of a DETAIL.
fn date_style(text: &str, current: &str, version: PgVersion) -> Result<String, String> {
    let (mut style, mut order) = current.split_once(", ").unwrap_or(("ISO", "MDY"));
    let (mut styles, mut orders) = (0, 0);
    let mut conflict = false;
    let words = text.split(',').map(|word| word.trim().trim_matches('"'));
    if text.trim().is_empty() {
        return Ok(format!("{style}, {order}"));
    }
    for word in words {
        let is = |other: &str| word.eq_ignore_ascii_case(other);
        let begins = |other: &str| {
            word.get(..other.len())
                .is_some_and(|w| w.eq_ignore_ascii_case(other))
        };
        let named = match () {
            () if word.is_empty() => return Err("List syntax is invalid.".to_string()),
            () if is("ISO") => (Some("ISO"), None),
            () if is("SQL") => (Some("SQL"), None),
            () if begins("POSTGRES") => (Some("Postgres"), None),
            () if is("GERMAN") => (Some("German"), None),
            () if is("YMD") => (None, Some("YMD")),
            () if is("DMY") || begins("EURO") => (None, Some("DMY")),
            () if is("MDY") || is("US") || begins("NONEURO") => (None, Some("MDY")),
            () if is("DEFAULT") => {
                style = if styles == 0 { "ISO" } else { style };
                order = if orders == 0 { "MDY" } else { order };
                continue;
            }
            () => {
                return Err(format!(
                    "Unrecognized key word: \"{}\".",
                    word.to_ascii_lowercase()
                ));
            }
        };
        if let Some(named) = named.0 {
            conflict |= styles > 0 && style != named;
            (style, styles) = (named, 1);
            if named == "German" && orders == 0 {
                order = "DMY";
            }
        }
        if let Some(named) = named.1 {
            conflict |= orders > 0 && order != named;
            (order, orders) = (named, 1);
        }
    }
    if conflict {
        let name = if version >= PgVersion::V18 {
            "DateStyle"
        } else {
            "datestyle"
        };
        return Err(format!("Conflicting \"{name}\" specifications."));
    }
    Ok(format!("{style}, {order}"))
}
