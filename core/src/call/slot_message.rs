//! Messages about replication slots. Mirrors the messages of slot.c and slotfuncs.c.

use super::FilePath;
use crate::base::{Lsn, LsnText, PgVersion};
use crate::wire::slot_file::SlotFileError;
use crate::wire::slot_name::SlotNameError;
use alloc::format;
use alloc::string::String;

/// How far the restart_lsn of a slot is behind the oldest WAL that may be kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SlotExcess {
    /// The slot's restart_lsn.
    pub restart_lsn: Lsn,
    /// The distance in bytes.
    pub bytes: u64,
}

/// Why a checkpoint invalidates a slot. Mirrors the causes of `ReplicationSlotInvalidationCause`
/// that apply to physical slots.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SlotObsolete {
    /// `RS_INVAL_WAL_REMOVED`
    WalRemoved(SlotExcess),
    /// `RS_INVAL_IDLE_TIMEOUT` (since 18)
    IdleTimeout {
        /// The slot's restart_lsn.
        restart_lsn: Lsn,
        /// For how many seconds no process has acquired the slot.
        idle_s: i64,
        /// `idle_replication_slot_timeout`, in seconds.
        timeout_s: i64,
    },
}

impl SlotObsolete {
    /// The restart_lsn that the slot had.
    #[must_use]
    pub const fn restart_lsn(self) -> Lsn {
        match self {
            Self::WalRemoved(excess) => excess.restart_lsn,
            Self::IdleTimeout { restart_lsn, .. } => restart_lsn,
        }
    }

    /// The setting that a user may increase.
    const fn setting(self) -> &'static str {
        match self {
            Self::WalRemoved(_) => "max_slot_wal_keep_size",
            Self::IdleTimeout { .. } => "idle_replication_slot_timeout",
        }
    }

    /// The DETAIL since 16.
    fn detail(self, version: PgVersion) -> String {
        match self {
            Self::WalRemoved(SlotExcess { restart_lsn, bytes }) => {
                let restart_lsn = restart_lsn.text(version);
                let unit = if bytes == 1 { "byte" } else { "bytes" };
                format!("The slot's restart_lsn {restart_lsn} exceeds the limit by {bytes} {unit}.")
            }
            Self::IdleTimeout {
                idle_s, timeout_s, ..
            } => format!(
                "The slot's idle time of {idle_s}s exceeds the configured \
                 \"idle_replication_slot_timeout\" duration of {timeout_s}s."
            ),
        }
    }
}

/// All messages about slots. If the text depends on the version, the version is a field.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "the text of each variant is its documentation, its fields are what the text names"
)]
pub enum SlotMessage {
    #[error("{0}")]
    Name(SlotNameError),
    #[error("{}", error.of(path.as_str()))]
    File {
        path: FilePath,
        error: SlotFileError,
    },
    #[error("replication slot \"{0}\" already exists")]
    Exists(String),
    #[error("replication slot \"{0}\" does not exist")]
    Missing(String),
    #[error("replication slot \"{name}\" is active for PID {pid}")]
    Active { name: String, pid: u32 },
    #[error("all replication slots are in use")]
    AllInUse(PgVersion),
    #[error("can no longer access replication slot \"{name}\"")]
    Invalidated { name: String, cause: &'static str },
    #[error("WAL required by replication slot {0} has been removed concurrently")]
    WalRemoved(String),
    #[error("replication slot \"{0}\" cannot be advanced")]
    CannotAdvance(String),
    #[error("invalid target WAL LSN")]
    InvalidTarget,
    #[error("cannot advance replication slot to {to}, minimum is {least}")]
    Backwards { to: LsnText, least: LsnText },
    #[error("replication slots can only be used if {} > 0", quoted(*.0, "max_replication_slots"))]
    Off(PgVersion),
    #[error("logical decoding requires {} >= {}", quoted(*.0, "wal_level"), quoted(*.0, "logical"))]
    NoLogicalDecoding(PgVersion),
    #[error("logical decoding requires a database connection")]
    NeedsDatabase,
    #[error("cannot use physical replication slot for logical decoding")]
    IsPhysical,
    #[error("terminating process {pid} to release replication slot \"{name}\"")]
    TerminatingOwner {
        pid: u32,
        name: String,
        cause: SlotObsolete,
        version: PgVersion,
    },
    #[error("{}", invalidating(name, *cause, *version))]
    Invalidating {
        name: String,
        cause: SlotObsolete,
        version: PgVersion,
    },
    #[error("too many replication slots active before shutdown")]
    TooMany(PgVersion),
    #[error(
        "logical replication slot \"{name}\" exists, but {} < {}",
        quoted(*version, "wal_level"),
        quoted(*version, "logical")
    )]
    Logical { name: String, version: PgVersion },
}

impl SlotMessage {
    /// PostgreSQL's DETAIL.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Invalidated { cause, .. } => Some(format!(
                "This replication slot has been invalidated due to \"{cause}\"."
            )),
            Self::CannotAdvance(_) => Some(
                "This slot has never previously reserved WAL, or it has been invalidated.".into(),
            ),
            Self::TerminatingOwner { cause, version, .. }
            | Self::Invalidating { cause, version, .. }
                if *version >= PgVersion::V16 =>
            {
                Some(cause.detail(*version))
            }
            Self::Name(_)
            | Self::File { .. }
            | Self::Exists(_)
            | Self::Missing(_)
            | Self::Active { .. }
            | Self::AllInUse(_)
            | Self::WalRemoved(_)
            | Self::InvalidTarget
            | Self::Backwards { .. }
            | Self::Off(_)
            | Self::NoLogicalDecoding(_)
            | Self::NeedsDatabase
            | Self::IsPhysical
            | Self::TerminatingOwner { .. }
            | Self::Invalidating { .. }
            | Self::TooMany(_)
            | Self::Logical { .. } => None,
        }
    }

    /// PostgreSQL's HINT.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Name(error) => error.hint().map(String::from),
            Self::AllInUse(version) => {
                let setting = quoted(*version, "max_replication_slots");
                Some(format!("Free one or increase {setting}."))
            }
            Self::TooMany(version) => {
                let setting = quoted(*version, "max_replication_slots");
                Some(format!("Increase {setting} and try again."))
            }
            Self::Logical { version, .. } => {
                let (setting, least) = (quoted(*version, "wal_level"), quoted(*version, "logical"));
                Some(format!("Change {setting} to be {least} or higher."))
            }
            Self::TerminatingOwner { cause, version, .. }
            | Self::Invalidating { cause, version, .. }
                if *version >= PgVersion::V16 =>
            {
                let setting = quoted(*version, cause.setting());
                Some(format!("You might need to increase {setting}."))
            }
            Self::File { .. }
            | Self::Exists(_)
            | Self::Missing(_)
            | Self::Active { .. }
            | Self::Invalidated { .. }
            | Self::WalRemoved(_)
            | Self::CannotAdvance(_)
            | Self::InvalidTarget
            | Self::Backwards { .. }
            | Self::Off(_)
            | Self::NoLogicalDecoding(_)
            | Self::NeedsDatabase
            | Self::IsPhysical
            | Self::TerminatingOwner { .. }
            | Self::Invalidating { .. } => None,
        }
    }
}

/// Quotes a name or value of a setting, but only since 17.
pub(super) fn quoted(version: PgVersion, name: &str) -> String {
    if version < PgVersion::V17 {
        name.into()
    } else {
        format!("\"{name}\"")
    }
}

fn invalidating(name: &str, cause: SlotObsolete, version: PgVersion) -> String {
    match version {
        PgVersion::V15 => format!(
            "invalidating slot \"{name}\" because its restart_lsn {} exceeds max_slot_wal_keep_size",
            cause.restart_lsn()
        ),
        PgVersion::V16 | PgVersion::V17 | PgVersion::V18 | PgVersion::V19 => {
            format!("invalidating obsolete replication slot \"{name}\"")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn texts_differ_by_version() {
        let of = |version| {
            let excess = SlotExcess {
                restart_lsn: Lsn(0x300_0028),
                bytes: 1,
            };
            let name = String::from("s");
            let message = SlotMessage::Invalidating {
                name,
                cause: SlotObsolete::WalRemoved(excess),
                version,
            };
            let off = SlotMessage::Off(version).to_string();
            (message.to_string(), message.detail(), message.hint(), off)
        };
        assert_eq!(
            of(PgVersion::V15),
            (
                "invalidating slot \"s\" because its restart_lsn 0/3000028 exceeds max_slot_wal_keep_size"
                    .into(),
                None,
                None,
                "replication slots can only be used if max_replication_slots > 0".into()
            )
        );
        assert_eq!(
            of(PgVersion::V18),
            (
                "invalidating obsolete replication slot \"s\"".into(),
                Some("The slot's restart_lsn 0/3000028 exceeds the limit by 1 byte.".into()),
                Some("You might need to increase \"max_slot_wal_keep_size\".".into()),
                "replication slots can only be used if \"max_replication_slots\" > 0".into()
            )
        );
    }

    /// The texts that a real 18 logs for an idle slot.
    #[test]
    fn an_idle_slot_is_described() {
        let message = SlotMessage::Invalidating {
            name: "s".into(),
            cause: SlotObsolete::IdleTimeout {
                restart_lsn: Lsn(1),
                idle_s: 61,
                timeout_s: 60,
            },
            version: PgVersion::V18,
        };
        assert_eq!(
            (message.to_string(), message.detail(), message.hint()),
            (
                "invalidating obsolete replication slot \"s\"".into(),
                Some(
                    "The slot's idle time of 61s exceeds the configured \
                     \"idle_replication_slot_timeout\" duration of 60s."
                        .into()
                ),
                Some("You might need to increase \"idle_replication_slot_timeout\".".into())
            )
        );
    }
}
