//! Names of replication slots: validation and truncation. Mirrors ReplicationSlotValidateName and
//! truncate_identifier.

use alloc::string::{String, ToString};

/// `NAMEDATALEN`: a name has at most 63 bytes.
pub const NAME_DATA_LEN: usize = 64;

/// Why a slot name is invalid.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum SlotNameError {
    /// Empty.
    #[error("replication slot name \"{0}\" is too short")]
    TooShort(String),
    /// The name has more than 63 bytes.
    #[error("replication slot name \"{0}\" is too long")]
    TooLong(String),
    /// The name contains a character other than a lower case letter, a digit or an underscore.
    #[error("replication slot name \"{0}\" contains invalid character")]
    Character(String),
}

impl SlotNameError {
    /// The SQLSTATE.
    #[must_use]
    pub const fn sqlstate(&self) -> [u8; 5] {
        match self {
            Self::TooShort(_) | Self::Character(_) => *b"42602",
            Self::TooLong(_) => *b"42622",
        }
    }

    /// The HINT.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Character(_) => Some(
                "Replication slot names may only contain lower case letters, numbers, and the underscore character.",
            ),
            Self::TooShort(_) | Self::TooLong(_) => None,
        }
    }
}

/// `ReplicationSlotValidateName`
///
/// # Errors
/// Why the name is invalid.
pub fn validate(name: &str) -> Result<(), SlotNameError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() {
        Err(SlotNameError::TooShort(name.to_string()))
    } else if name.len() >= NAME_DATA_LEN {
        Err(SlotNameError::TooLong(name.to_string()))
    } else if name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(SlotNameError::Character(name.to_string()))
    }
}

/// The first 63 bytes of the name, without a partial character (`truncate_identifier`).
#[must_use]
pub fn truncated(name: &str) -> &str {
    let mut end = name.len().min(NAME_DATA_LEN - 1);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(validate("standby_1"), Ok(()));
        assert_eq!(validate(&"x".repeat(63)), Ok(()));
        for (name, code, text) in [
            ("", b"42602", "replication slot name \"\" is too short"),
            (
                "Standby",
                b"42602",
                "replication slot name \"Standby\" contains invalid character",
            ),
            (
                "a-b",
                b"42602",
                "replication slot name \"a-b\" contains invalid character",
            ),
        ] {
            let error = validate(name).unwrap_err();
            assert_eq!(error.to_string(), text);
            assert_eq!(&error.sqlstate(), code);
            assert_eq!(error.hint().is_some(), !name.is_empty());
        }
        assert_eq!(&validate(&"x".repeat(64)).unwrap_err().sqlstate(), b"42622");
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(truncated("short"), "short");
        assert_eq!(truncated(&"x".repeat(70)), "x".repeat(63));
        assert_eq!(truncated(&"é".repeat(40)), "é".repeat(31));
    }
}
