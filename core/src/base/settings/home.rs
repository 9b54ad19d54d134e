//! Where the value of a setting is stored: in the server's [`Settings`], or in the session.

use super::number::Real;
use super::table::Setting;
use super::value::{Kind, Value};
use super::{SettingError, Settings};
use crate::base::show_size;
use crate::base::units::{TIMES, in_units};
use alloc::format;
use alloc::string::{String, ToString};

/// Where the value of a setting is stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum Home {
    /// `bool`
    Switch(fn(&mut Settings) -> &mut bool),
    /// `integer`, stored as a count of the setting's own unit.
    Count(fn(&mut Settings) -> &mut u32),
    /// `integer`, stored in milliseconds.
    Millis(fn(&mut Settings) -> &mut u32),
    /// `integer`, stored in seconds.
    Seconds(fn(&mut Settings) -> &mut u32),
    /// `integer`, stored in bytes.
    Bytes(fn(&mut Settings) -> &mut u64),
    /// `integer`, stored in bytes. The value -1 is stored as `None`.
    Limit(fn(&mut Settings) -> &mut Option<u64>),
    /// `real`
    Real(fn(&mut Settings) -> &mut Real),
    /// `string`
    Text(fn(&mut Settings) -> &mut String),
    /// Not stored. The value is the same on all servers, or is computed from other settings.
    Fixed(fn(&Settings) -> String),
    /// Not stored. The value depends on the state of the server.
    State,
    /// Stored in each session. The text is the default value.
    Session(&'static str),
}

/// A stored amount with its unit. This unit can be finer than the setting's own unit.
enum Amount {
    Bytes(u64),
    Us(u64),
    Plain(Value),
}

impl Setting {
    /// Is the value stored in [`Settings`]? Each server then has its own value.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        !matches!(self.home, Home::Fixed(_) | Home::State | Home::Session(_))
    }

    /// The default value of a setting that is stored in the session.
    pub(super) const fn session_default(&self) -> Option<&'static str> {
        if let Home::Session(default) = self.home {
            Some(default)
        } else {
            None
        }
    }

    fn amount(&self, settings: &Settings) -> Option<Amount> {
        let mut copy = settings.clone();
        let page = match self.kind {
            Kind::Int {
                unit: Some(unit), ..
            } => unit.size(&settings.geometry),
            Kind::Bool
            | Kind::Int { unit: None, .. }
            | Kind::Real { .. }
            | Kind::Enum { .. }
            | Kind::Text
            | Kind::Name => 0,
        };
        Some(match self.home {
            Home::Switch(field) => Amount::Plain(Value::Bool(*field(&mut copy))),
            Home::Count(field) if page > 0 => Amount::Bytes(u64::from(*field(&mut copy)) * page),
            Home::Count(field) => Amount::Plain(Value::Text(field(&mut copy).to_string())),
            Home::Millis(field) => Amount::Us(u64::from(*field(&mut copy)) * 1000),
            Home::Seconds(field) => Amount::Us(u64::from(*field(&mut copy)) * 1_000_000),
            Home::Bytes(field) => Amount::Bytes(*field(&mut copy)),
            Home::Limit(field) => match *field(&mut copy) {
                Some(bytes) => Amount::Bytes(bytes),
                None => Amount::Plain(Value::Int(-1)),
            },
            Home::Real(field) => Amount::Plain(Value::Real(*field(&mut copy))),
            Home::Text(field) => Amount::Plain(Value::Text(field(&mut copy).clone())),
            Home::Fixed(value) => Amount::Plain(Value::Text(value(settings))),
            Home::State | Home::Session(_) => return None,
        })
    }

    /// The server's value as SHOW prints it, in the largest unit that divides the value.
    pub(super) fn shown(&self, settings: &Settings) -> Option<String> {
        Some(match self.amount(settings)? {
            Amount::Bytes(bytes) => show_size(bytes),
            Amount::Us(us) => in_units(us, &TIMES),
            Amount::Plain(value) => self.shown_value(&value, settings),
        })
    }

    /// A value as SHOW prints it.
    #[must_use]
    pub fn shown_value(&self, value: &Value, settings: &Settings) -> String {
        let geometry = &settings.geometry;
        match (value, self.kind) {
            // In this function the value of a `Fixed` setting is a text, even if the setting has
            // another type.
            (Value::Text(text), Kind::Int { unit: Some(_), .. }) => {
                let value = text.parse().map(Value::Int);
                value.map_or_else(|_| text.clone(), |value| value.show(self.kind, geometry))
            }
            _ => value.show(self.kind, geometry),
        }
    }

    /// The server's value as `pg_settings.setting` shows it: a number in the setting's own unit. In
    /// walsim a value can be finer than this unit. Such a value is shown with a finer unit.
    #[must_use]
    pub fn number(&self, settings: &Settings) -> Option<String> {
        let Kind::Int {
            unit: Some(unit), ..
        } = self.kind
        else {
            return self.shown(settings);
        };
        let size = unit.size(&settings.geometry);
        Some(match self.amount(settings)? {
            Amount::Bytes(amount) | Amount::Us(amount) if amount.is_multiple_of(size) => {
                (amount / size).to_string()
            }
            Amount::Bytes(bytes) => show_size(bytes),
            Amount::Us(us) => in_units(us, &TIMES),
            Amount::Plain(value) => value.text(),
        })
    }

    /// Stores a value.
    pub(super) fn store(&self, settings: &mut Settings, value: Value) -> Result<(), SettingError> {
        let unit = self.unit_size(settings);
        match (self.home, value) {
            (Home::Switch(field), Value::Bool(on)) => *field(settings) = on,
            (Home::Count(field), Value::Int(count)) => {
                *field(settings) = self.counted(settings, count)?;
            }
            (Home::Millis(field), Value::Int(count)) => {
                let ms = u64::from(count.unsigned_abs()) * (unit / 1000);
                *field(settings) = u32::try_from(ms).expect("its range ends below 49 days");
            }
            (Home::Seconds(field), Value::Int(count)) => *field(settings) = count.unsigned_abs(),
            (Home::Bytes(field), Value::Int(count)) => {
                *field(settings) = u64::from(count.unsigned_abs()) * unit;
            }
            (Home::Limit(field), Value::Int(count)) => {
                let count = u64::try_from(count).ok();
                *field(settings) = count.map(|count| count * unit);
            }
            (Home::Real(field), Value::Real(value)) => *field(settings) = value,
            (Home::Text(field), Value::Text(text)) => *field(settings) = text,
            (Home::Session(default), value) => {
                if value.text() == default {
                    settings.session_defaults.remove(self.name);
                } else {
                    settings.session_defaults.insert(self.name, value);
                }
            }
            (Home::Fixed(fixed), value) => return self.keeps(fixed(settings), &value),
            (Home::State, value) => {
                let hint = "It follows the state of the server.".into();
                return Err(self.not_modelled(&value, hint));
            }
            (
                Home::Switch(_)
                | Home::Count(_)
                | Home::Millis(_)
                | Home::Seconds(_)
                | Home::Bytes(_)
                | Home::Limit(_)
                | Home::Real(_)
                | Home::Text(_),
                _,
            ) => unreachable!("{} has a value of another type", self.name),
        }
        Ok(())
    }

    /// The size of the setting's own unit, in bytes or microseconds.
    fn unit_size(&self, settings: &Settings) -> u64 {
        match self.kind {
            Kind::Int {
                unit: Some(unit), ..
            } => unit.size(&settings.geometry),
            Kind::Int { unit: None, .. }
            | Kind::Bool
            | Kind::Real { .. }
            | Kind::Enum { .. }
            | Kind::Text
            | Kind::Name => 1,
        }
    }

    /// The count to store, or an error if the count is too large for walsim.
    fn counted(&self, settings: &Settings, count: i32) -> Result<u32, SettingError> {
        let count = self.adjusted(settings, count);
        let most = if self.name == "shared_buffers" {
            MOST_BUFFERS
        } else {
            u32::MAX
        };
        let fits = u32::try_from(count).ok().filter(|count| *count <= most);
        fits.ok_or_else(|| {
            let hint = format!("It has {most} at most.");
            self.not_modelled(&Value::Int(count), hint)
        })
    }

    /// The check of a setting whose value is fixed. Such a setting accepts no other value.
    fn keeps(&self, fixed: String, value: &Value) -> Result<(), SettingError> {
        let none = value.text().is_empty() && fixed == "(disabled)";
        if value.text() == fixed || none {
            return Ok(());
        }
        Err(self.not_modelled(value, format!("It is always \"{fixed}\".")))
    }

    fn not_modelled(&self, value: &Value, hint: String) -> SettingError {
        SettingError::NotModelled {
            name: self.name.into(),
            value: value.text(),
            hint,
        }
    }

    /// `XLOGChooseNumBuffers`, used if `wal_buffers` is -1.
    fn adjusted(&self, settings: &Settings, count: i32) -> i32 {
        if self.name != "wal_buffers" || count >= 0 {
            return count;
        }
        let most = settings.geometry.segment / settings.geometry.wal_page;
        let chosen = (settings.shared_buffers / 32).min(most).max(8);
        i32::try_from(chosen).expect("a segment has fewer pages")
    }
}

/// The largest supported buffer pool, in pages.
const MOST_BUFFERS: u32 = 1 << 20;
