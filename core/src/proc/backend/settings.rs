//! What SET and SHOW know. Mirrors guc.c for a handful of settings.

use crate::base::parse_bool;
use crate::call::{LogEvent, Message, SqlState};
use crate::sys::Cx;
use alloc::string::{String, ToString};

/// `synchronous_commit`. Without synchronous standbys all but the first mean the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum SynchronousCommit {
    Off,
    Local,
    RemoteWrite,
    On,
    RemoteApply,
}

impl SynchronousCommit {
    /// Does a commit wait until its record is durable here?
    pub(super) const fn waits(self) -> bool {
        !matches!(self, Self::Off)
    }

    fn parse(text: &str) -> Option<Self> {
        let word = text.to_ascii_lowercase();
        match word.as_str() {
            "local" => Some(Self::Local),
            "remote_write" => Some(Self::RemoteWrite),
            "remote_apply" => Some(Self::RemoteApply),
            _ => parse_bool(&word).map(|on| if on { Self::On } else { Self::Off }),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Local => "local",
            Self::RemoteWrite => "remote_write",
            Self::On => "on",
            Self::RemoteApply => "remote_apply",
        }
    }
}

fn unknown(name: &str) -> LogEvent {
    let message = Message::UnknownParameter(name.to_string());
    LogEvent::error(SqlState::UNDEFINED_OBJECT, message)
}

/// `SET`
///
/// # Errors
/// No such setting, or no such value.
pub(super) fn set(name: &str, value: &str) -> Result<SynchronousCommit, LogEvent> {
    if name != "synchronous_commit" {
        return Err(unknown(name));
    }
    SynchronousCommit::parse(value).ok_or_else(|| {
        let (name, value) = (name.to_string(), value.to_string());
        let message = Message::InvalidParameterValue { name, value };
        LogEvent::error(SqlState::INVALID_PARAMETER_VALUE, message)
    })
}

/// `SHOW`: the setting's own spelling, and its value.
///
/// # Errors
/// No such setting.
pub(super) fn show(
    cx: &Cx<'_>,
    name: &str,
    synchronous_commit: SynchronousCommit,
) -> Result<(&'static str, String), LogEvent> {
    Ok(match name {
        "synchronous_commit" => ("synchronous_commit", synchronous_commit.name().to_string()),
        "client_encoding" => ("client_encoding", String::from("UTF8")),
        "server_encoding" => ("server_encoding", String::from("UTF8")),
        _ => cx.shmem.show(name).ok_or_else(|| unknown(name))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_synchronous_commit() {
        for (text, waits) in [
            ("off", false),
            ("FALSE", false),
            ("local", true),
            ("on", true),
            ("remote_apply", true),
        ] {
            assert_eq!(
                SynchronousCommit::parse(text).map(SynchronousCommit::waits),
                Some(waits)
            );
        }
        assert_eq!(SynchronousCommit::parse("maybe"), None);
    }
}
