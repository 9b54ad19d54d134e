//! What a server whose `wal_level` is `replica` says of logical decoding. Mirrors logical.c.

use super::slot::advance::check_slot_requirements;
use crate::call::{LogEvent, SlotMessage, SqlState};
use crate::sys::Cx;

/// `CheckLogicalDecodingRequirements`: why there is none. No server of ours writes what decoding
/// needs.
#[must_use]
pub fn check_logical_decoding_requirements(cx: &Cx<'_>) -> LogEvent {
    let message = SlotMessage::NoLogicalDecoding(cx.shmem.settings.pg_version);
    match check_slot_requirements(cx) {
        Err(event) => event,
        Ok(()) => LogEvent::slot(SqlState::NOT_IN_STATE, message),
    }
}
