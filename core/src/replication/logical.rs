//! The errors for logical decoding, which is not supported. Mirrors logical.c.

use super::slot::advance::check_slot_requirements;
use crate::call::{LogEvent, SlotMessage, SqlState};
use crate::sys::Cx;

/// `CheckLogicalDecodingRequirements`: always returns the error, because walsim does not support
/// the wal_level `logical`.
#[must_use]
pub fn check_logical_decoding_requirements(cx: &Cx<'_>) -> LogEvent {
    let message = SlotMessage::NoLogicalDecoding(cx.shmem.settings.pg_version);
    match check_slot_requirements(cx) {
        Err(event) => event,
        Ok(()) => LogEvent::slot(SqlState::NOT_IN_STATE, message),
    }
}
