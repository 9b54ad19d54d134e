//! What SET and SHOW know. Mirrors guc.c for a handful of settings.

use crate::call::{LogEvent, Message, SqlState};
use crate::sys::Cx;
use crate::wire::startup::parse_bool;
use alloc::format;
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

/// `SHOW`
///
/// # Errors
/// No such setting.
pub(super) fn show(
    cx: &Cx<'_>,
    name: &str,
    synchronous_commit: SynchronousCommit,
) -> Result<String, LogEvent> {
    let settings = &cx.shmem.settings;
    let on = |set: bool| String::from(if set { "on" } else { "off" });
    Ok(match name {
        "synchronous_commit" => String::from(synchronous_commit.name()),
        "server_version" => String::from(settings.pg_version.server_version()),
        "in_hot_standby" | "transaction_read_only" => on(cx.shmem.recovery_in_progress()),
        "full_page_writes" => on(settings.full_page_writes),
        "hot_standby" => on(settings.hot_standby),
        "max_wal_senders" => settings.max_wal_senders.to_string(),
        "wal_level" => String::from("replica"),
        "wal_segment_size" => bytes_text(settings.geometry.segment),
        _ => return Err(unknown(name)),
    })
}

/// `GUC_UNIT_BYTE` in the largest unit that divides it.
fn bytes_text(bytes: u32) -> String {
    match bytes {
        b if b % (1 << 20) == 0 => format!("{}MB", b >> 20),
        b if b % (1 << 10) == 0 => format!("{}kB", b >> 10),
        b => format!("{b}B"),
    }
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

    #[test]
    fn sizes_are_shown_in_the_largest_unit() {
        assert_eq!(bytes_text(16 << 20), "16MB");
        assert_eq!(bytes_text(4096), "4kB");
        assert_eq!(bytes_text(1536), "1536B");
    }
}
