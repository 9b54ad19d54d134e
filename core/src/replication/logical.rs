//! The errors for logical decoding, which is not supported. Mirrors logical.c.

use super::slot::acquire::acquire_nowait;
use super::slot::advance::check_slot_requirements;
use crate::base::PgVersion;
use crate::call::{LogEvent, Message, SlotMessage, SqlState};
use crate::sys::Cx;

/// `CreateReplicationSlot` for a logical slot: returns the error. `in_database` says whether the
/// session is connected to a database. Since 19 PostgreSQL would create the slot.
#[must_use]
pub fn create_logical_slot(cx: &Cx<'_>, in_database: bool) -> LogEvent {
    let checked = check_logical_decoding_requirements(cx, in_database);
    let hint = "Only physical slots are supported.";
    let command = "logical decoding";
    let message = Message::NotSupported { command, hint };
    let not_supported = LogEvent::error(SqlState::FEATURE_NOT_SUPPORTED, message);
    checked.err().unwrap_or(not_supported)
}

/// `StartLogicalReplication`: returns the error, because all slots are physical.
#[must_use]
pub fn start_logical_replication(cx: &mut Cx<'_>, in_database: bool, slot: &str) -> LogEvent {
    let checked = check_logical_decoding_requirements(cx, in_database);
    let acquired = checked.and_then(|()| acquire_nowait(cx, slot));
    let physical = LogEvent::slot(SqlState::NOT_IN_STATE, SlotMessage::IsPhysical);
    acquired.err().unwrap_or(physical)
}

/// `CheckLogicalDecodingRequirements`. The wal_level of a simulated server is `replica`. Since 19
/// that is enough, because the first logical slot enables logical decoding.
fn check_logical_decoding_requirements(cx: &Cx<'_>, in_database: bool) -> Result<(), LogEvent> {
    let version = cx.shmem.settings.pg_version;
    check_slot_requirements(cx)?;
    let message = if version < PgVersion::V19 {
        SlotMessage::NoLogicalDecoding(version)
    } else if in_database {
        return Ok(());
    } else {
        SlotMessage::NeedsDatabase
    };
    Err(LogEvent::slot(SqlState::NOT_IN_STATE, message))
}
