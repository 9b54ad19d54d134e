//! Errors about settings and their values, with PostgreSQL's texts.

use alloc::string::String;

/// The reason why a setting does not accept a value.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "the text of each variant is its documentation, its fields are what the text names"
)]
pub enum SettingError {
    #[error("unrecognized configuration parameter \"{0}\"")]
    Unknown(String),
    #[error("invalid configuration parameter name \"{0}\"")]
    BadName(String),
    #[error("invalid value for parameter \"{name}\": \"{value}\"")]
    Invalid {
        name: String,
        value: String,
        hint: Option<String>,
    },
    /// The setting's check hook rejected a number.
    #[error("invalid value for parameter \"{name}\": {value}")]
    Refused { name: String, value: i32 },
    /// The setting's check hook rejected a string.
    #[error("invalid value for parameter \"{name}\": \"{value}\"")]
    RefusedText {
        name: String,
        value: String,
        sqlstate: [u8; 5],
        detail: Option<String>,
        hint: Option<String>,
    },
    #[error("parameter \"{0}\" requires a Boolean value")]
    NotBoolean(String),
    #[error("{value} is outside the valid range for parameter \"{name}\" ({range})")]
    OutOfRange {
        name: String,
        value: String,
        range: String,
    },
    #[error("parameter \"{0}\" cannot be changed")]
    Internal(String),
    #[error("parameter \"{0}\" cannot be changed without restarting the server")]
    NeedsRestart(String),
    #[error("parameter \"{0}\" cannot be changed now")]
    NotNow(String),
    /// PostgreSQL accepts the value, but walsim does not support it.
    #[error("parameter \"{name}\" cannot be set to \"{value}\" in walsim")]
    NotModelled {
        name: String,
        value: String,
        hint: String,
    },
}

impl SettingError {
    /// The SQLSTATE.
    #[must_use]
    pub const fn sqlstate(&self) -> [u8; 5] {
        match self {
            Self::Unknown(_) => *b"42704",
            Self::BadName(_) => *b"42602",
            Self::Invalid { .. }
            | Self::Refused { .. }
            | Self::NotBoolean(_)
            | Self::OutOfRange { .. } => *b"22023",
            Self::RefusedText { sqlstate, .. } => *sqlstate,
            Self::Internal(_) | Self::NeedsRestart(_) | Self::NotNow(_) => *b"55P02",
            Self::NotModelled { .. } => *b"0A000",
        }
    }

    /// The DETAIL.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::BadName(_) => Some(
                "Custom parameter names must be two or more simple identifiers separated by dots.",
            ),
            Self::RefusedText { detail, .. } => detail.as_deref(),
            Self::Unknown(_)
            | Self::Invalid { .. }
            | Self::Refused { .. }
            | Self::NotBoolean(_)
            | Self::OutOfRange { .. }
            | Self::Internal(_)
            | Self::NeedsRestart(_)
            | Self::NotNow(_)
            | Self::NotModelled { .. } => None,
        }
    }

    /// The HINT.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Invalid { hint, .. } | Self::RefusedText { hint, .. } => hint.as_deref(),
            Self::NotModelled { hint, .. } => Some(hint),
            Self::Unknown(_)
            | Self::BadName(_)
            | Self::Refused { .. }
            | Self::NotBoolean(_)
            | Self::OutOfRange { .. }
            | Self::Internal(_)
            | Self::NeedsRestart(_)
            | Self::NotNow(_) => None,
        }
    }
}
