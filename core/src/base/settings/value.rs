//! Types, contexts and values of settings, and parsing of values. Mirrors parse_and_validate_value
//! of guc.c.

use super::number::{Real, integer, is_space, real};
use super::unit::Unit;
use super::{PgVersion, SettingError};
use crate::base::Geometry;
use crate::base::units::in_units;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};

/// The type of a setting (`config_type`), and the values that it accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `bool`
    Bool,
    /// `integer`
    Int {
        /// The unit, if the setting has one. If it is a unit of time, values can have any unit of
        /// time. If it is a unit of memory, values can have any unit of memory.
        unit: Option<Unit>,
        /// The least value.
        min: i32,
        /// The greatest value.
        max: i32,
    },
    /// `real`
    Real {
        /// The least value.
        min: u32,
        /// The greatest value.
        max: u32,
    },
    /// `enum`
    Enum {
        /// The values that the server lists.
        values: &'static [&'static str],
        /// Other spellings of the listed values. The server accepts them, but does not list them.
        hidden: &'static [(&'static str, &'static str)],
    },
    /// `string`
    Text,
    /// A `string` that is truncated to the length of an identifier (`GUC_IS_NAME`) and contains
    /// only ASCII.
    Name,
}

/// When a setting may change (`GucContext`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Context {
    /// The setting never changes.
    Internal,
    /// The setting can change only when the server starts.
    Postmaster,
    /// The setting can change when the server starts and when the configuration is reloaded.
    Sighup,
    /// A superuser can change the setting for the current session at any time. In walsim every user
    /// is a superuser.
    Superuser,
    /// Any user can change the setting for the current session at any time.
    User,
}

impl Context {
    /// The name that `pg_settings.context` shows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Postmaster => "postmaster",
            Self::Sighup => "sighup",
            Self::Superuser => "superuser",
            Self::User => "user",
        }
    }
}

impl Kind {
    /// The name that `pg_settings.vartype` shows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int { .. } => "integer",
            Self::Real { .. } => "real",
            Self::Enum { .. } => "enum",
            Self::Text | Self::Name => "string",
        }
    }
}

/// The value of a setting.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Value {
    /// A `bool`.
    Bool(bool),
    /// An `integer` in the setting's own unit.
    Int(i32),
    /// A `real`.
    Real(Real),
    /// A value of type `enum`: one of the values that the server lists.
    Enum(&'static str),
    /// A `string`.
    Text(String),
}

/// The information that is needed to parse a value, besides the value's type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// The setting's name as errors show it.
    pub(super) name: &'a str,
    pub(super) version: PgVersion,
    pub(super) geometry: &'a Geometry,
}

impl Kind {
    /// Parses a value.
    pub(super) fn parse(self, text: &str, place: Place<'_>) -> Result<Value, SettingError> {
        let name = || place.name.to_string();
        let invalid = |hint: Option<String>| SettingError::Invalid {
            name: name(),
            value: text.to_string(),
            hint,
        };
        match self {
            Self::Bool => parse_bool(text)
                .map(Value::Bool)
                .ok_or_else(|| SettingError::NotBoolean(name())),
            Self::Int { unit, min, max } => {
                let value = parse_int(text, unit, place.geometry)
                    .map_err(|hint| invalid(hint.map(String::from)))?;
                if (min..=max).contains(&value) {
                    return Ok(Value::Int(value));
                }
                let unit = unit.map(|unit| format!(" {}", unit.name(place.geometry)));
                let unit = unit.unwrap_or_default();
                // Since 17 the error shows the bounds with their unit.
                let of_bounds = if place.version >= PgVersion::V17 {
                    &*unit
                } else {
                    ""
                };
                Err(SettingError::OutOfRange {
                    name: name(),
                    value: format!("{value}{unit}"),
                    range: format!("{min}{of_bounds} .. {max}{of_bounds}"),
                })
            }
            Self::Real { min, max } => {
                let (value, rest) = real(text).ok_or_else(|| invalid(None))?;
                if rest.contains(|c| !is_space(c)) {
                    return Err(invalid(None));
                }
                if value.is_within(min, max) {
                    return Ok(Value::Real(value));
                }
                Err(SettingError::OutOfRange {
                    name: name(),
                    value: value.text(),
                    range: format!("{min} .. {max}"),
                })
            }
            Self::Enum { values, hidden } => {
                let is = |word: &str| word.eq_ignore_ascii_case(text);
                let offered = values.iter().find(|value| is(value));
                let other = hidden.iter().find(|(word, _)| is(word));
                let value = offered.or(other.map(|(_, value)| value));
                let hint = || format!("Available values: {}.", values.join(", "));
                value
                    .map(|value| Value::Enum(value))
                    .ok_or_else(|| invalid(Some(hint())))
            }
            Self::Text => Ok(Value::Text(text.to_owned())),
            Self::Name => Ok(Value::Text(clean_name(text, place.version))),
        }
    }
}

impl Value {
    /// `pg_settings.setting`
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Bool(on) => (if *on { "on" } else { "off" }).into(),
            Self::Int(value) => value.to_string(),
            Self::Real(value) => value.text(),
            Self::Enum(value) => (*value).into(),
            Self::Text(value) => value.clone(),
        }
    }

    /// The value as SHOW prints it, with a unit if the setting has one (`ShowGUCOption`).
    pub(super) fn show(&self, kind: Kind, geometry: &Geometry) -> String {
        match (self, kind) {
            (
                Self::Int(value),
                Kind::Int {
                    unit: Some(unit), ..
                },
            ) if *value > 0 => {
                let size = u64::from(value.unsigned_abs()) * unit.size(geometry);
                in_units(size, unit.names())
            }
            _ => self.text(),
        }
    }
}

/// `parse_int`: a number with or without a unit. The result is rounded. An error may have a HINT.
pub(super) fn parse_int(
    text: &str,
    unit: Option<Unit>,
    geometry: &Geometry,
) -> Result<i32, Option<&'static str>> {
    let (mut number, rest) = integer(text).ok_or(None)?;
    let named = rest.trim_start_matches(is_space);
    if !named.is_empty() {
        let unit = unit.ok_or(None)?;
        let converted = unit.convert(number, named, geometry);
        number = converted.ok_or(Some(unit.hint()))?;
    }
    let whole = number.rint().to_i64();
    let value = whole.and_then(|whole| i32::try_from(whole).ok());
    value.ok_or(Some("Value exceeds integer range."))
}

/// `parse_bool`: accepts any case and any unambiguous prefix.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    let is = |word: &str, least: usize| {
        text.len() >= least
            && word
                .get(..text.len())
                .is_some_and(|word| word.eq_ignore_ascii_case(text))
    };
    if is("true", 1) || is("yes", 1) || is("on", 2) || text == "1" {
        Some(true)
    } else if is("false", 1) || is("no", 1) || is("off", 2) || text == "0" {
        Some(false)
    } else {
        None
    }
}

/// `truncate_identifier`, then `pg_clean_ascii`. Since 16, characters that are not ASCII are
/// escaped. Before 16, they are replaced by question marks.
fn clean_name(text: &str, version: PgVersion) -> String {
    let mut end = text.len().min(NAME_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let clean = |byte: u8| match byte {
        b' '..=b'~' => char::from(byte).to_string(),
        _ if version >= PgVersion::V16 => format!("\\x{byte:02x}"),
        _ => "?".into(),
    };
    text[..end].bytes().map(clean).collect()
}

/// `NAMEDATALEN - 1`
const NAME_BYTES: usize = 63;
