//! Replication slots as shared memory holds them. Mirrors `ReplicationSlot` of slot.h.

use crate::base::{Lsn, Pid};
use alloc::string::String;
use alloc::vec::Vec;

/// `ReplicationSlotInvalidationCause`, as far as a physical slot can meet it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Invalidation {
    /// Its WAL exceeded `max_slot_wal_keep_size`. The position that it had is what 15 writes down (`invalidated_at`).
    WalRemoved(Lsn),
}

/// One entry of `ReplicationSlotCtl->replication_slots`.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Slot {
    /// Is the entry taken?
    pub in_use: bool,
    /// Its name.
    pub name: String,
    /// `RS_TEMPORARY`: ends with its session, and is never saved.
    pub temporary: bool,
    /// Who has acquired it.
    pub active_pid: Option<Pid>,
    /// `restart_lsn`: WAL from here on is held; invalid until reserved or reported.
    pub restart_lsn: Lsn,
    /// Why it holds nothing any more.
    pub invalidated: Option<Invalidation>,
    /// Changed since the last save began.
    pub just_dirtied: bool,
    /// Differs from its state file.
    pub dirty: bool,
    /// `last_saved_restart_lsn` (18): what the state file says.
    pub last_saved_restart_lsn: Lsn,
}

/// All slots, and what they hold together.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct ReplicationSlots {
    /// One entry per `max_replication_slots`.
    pub slots: Vec<Slot>,
    /// `XLogCtl->replicationSlotMinLSN`: the last computed required LSN; invalid if no slot holds WAL.
    pub required_lsn: Lsn,
}

impl ReplicationSlots {
    pub(super) fn new(max_replication_slots: u32) -> Self {
        Self {
            slots: (0..max_replication_slots)
                .map(|_| Slot::default())
                .collect(),
            required_lsn: Lsn::INVALID,
        }
    }
}
