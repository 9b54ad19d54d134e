//! Physical replication slots in shared memory. Mirrors `ReplicationSlot` of slot.h.

use super::touched::Check;
use crate::base::{Lsn, PgVersion, Pid, TimestampTz};
use crate::wire::slot_file::{Persistency, SlotFile};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

/// `ReplicationSlotInvalidationCause`, but only the causes that apply to physical slots.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Invalidation {
    /// The WAL of the slot exceeded `max_slot_wal_keep_size`. The field is the restart_lsn before
    /// the invalidation. Only PostgreSQL 15 saves this position in the file of the slot
    /// (`invalidated_at`).
    WalRemoved(Lsn),
    /// The slot was inactive for longer than `idle_replication_slot_timeout` (since 18). The slot
    /// keeps its restart_lsn.
    IdleTimeout,
    /// Another cause, which was read from the file of a slot (since 16).
    Other(u32),
}

impl Invalidation {
    /// `GetSlotInvalidationCauseName`
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WalRemoved(_) => "wal_removed",
            Self::IdleTimeout => "idle_timeout",
            Self::Other(2) => "rows_removed",
            Self::Other(4) => "wal_level_insufficient",
            Self::Other(_) => "unknown",
        }
    }
}

/// `RS_INVAL_WAL_REMOVED`
const WAL_REMOVED: u32 = 1;
/// `RS_INVAL_IDLE_TIMEOUT`
const IDLE_TIMEOUT: u32 = 8;

/// One entry of `ReplicationSlotCtl->replication_slots`.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Slot {
    /// Is the entry in use?
    pub in_use: bool,
    /// Its name.
    pub name: String,
    /// `RS_TEMPORARY`: whether the slot is dropped at the end of its session. A temporary slot also
    /// has a state file. If the server crashes, the next start removes the file.
    pub temporary: bool,
    /// The process that has acquired the slot. A temporary slot stays acquired by the session that
    /// created it.
    pub active_pid: Option<Pid>,
    /// `restart_lsn`: the slot requires WAL from this position on. It is invalid until the slot
    /// reserves WAL or a standby reports a flush position.
    pub restart_lsn: Lsn,
    /// Why the slot was invalidated. In 15 a status update sets restart_lsn again, but this cause
    /// stays.
    pub invalidated: Option<Invalidation>,
    /// Whether the slot was changed since the last save began.
    pub just_dirtied: bool,
    /// Whether the slot differs from its state file.
    pub dirty: bool,
    /// `last_saved_restart_lsn` (since 18): the restart_lsn in the state file.
    pub last_saved_restart_lsn: Lsn,
    /// `inactive_since` (since 17): when the slot was last released, or when the server started.
    /// `None` while a process has acquired the slot.
    pub inactive_since: Option<TimestampTz>,
}

impl Slot {
    /// `ReplicationSlotMarkDirty`
    pub const fn mark_dirty(&mut self) {
        self.just_dirtied = true;
        self.dirty = true;
    }

    /// `ReplicationSlotSetInactiveSince`. The time of an invalidated slot does not change.
    pub fn set_inactive_since(&mut self, version: PgVersion, since: Option<TimestampTz>) {
        if version >= PgVersion::V17 && self.invalidated.is_none() {
            self.inactive_since = since;
        }
    }

    /// Is the slot invalidated? In 15 a slot that has a restart_lsn again is valid. Since 16 a slot
    /// that has a cause is always invalidated.
    #[must_use]
    pub fn is_lost(&self, version: PgVersion) -> bool {
        self.invalidated.is_some() && (version >= PgVersion::V16 || !self.restart_lsn.is_valid())
    }

    /// The content of the slot's state file.
    #[must_use]
    pub fn to_file(&self) -> SlotFile {
        let (invalidated_at, cause) = match self.invalidated {
            None => (Lsn::INVALID, 0),
            Some(Invalidation::WalRemoved(at)) => (at, WAL_REMOVED),
            Some(Invalidation::IdleTimeout) => (Lsn::INVALID, IDLE_TIMEOUT),
            Some(Invalidation::Other(cause)) => (Lsn::INVALID, cause),
        };
        SlotFile {
            name: self.name.clone(),
            persistency: if self.temporary {
                Persistency::TEMPORARY
            } else {
                Persistency::PERSISTENT
            },
            restart_lsn: self.restart_lsn,
            invalidated_at,
            cause,
            ..SlotFile::default()
        }
    }

    /// A persistent physical slot, restored from its state file.
    #[must_use]
    pub fn from_file(version: PgVersion, file: SlotFile) -> Self {
        let invalidated = match (version, file.cause) {
            (PgVersion::V15, _) if file.invalidated_at.is_valid() => {
                Some(Invalidation::WalRemoved(file.invalidated_at))
            }
            (PgVersion::V15, _) | (_, 0) => None,
            (_, WAL_REMOVED) => Some(Invalidation::WalRemoved(Lsn::INVALID)),
            (_, IDLE_TIMEOUT) => Some(Invalidation::IdleTimeout),
            (_, cause) => Some(Invalidation::Other(cause)),
        };
        Self {
            in_use: true,
            name: file.name,
            restart_lsn: file.restart_lsn,
            invalidated,
            last_saved_restart_lsn: if version < PgVersion::V18 {
                Lsn::INVALID
            } else {
                file.restart_lsn
            },
            ..Self::default()
        }
    }
}

impl Slot {
    fn check(&self) {
        // `ReplicationSlotDropPtr` releases the slot and frees its entry at once.
        assert!(self.in_use || self.active_pid.is_none(), "{self:?}");
        // Other processes never see a temporary slot without its owner.
        let owned = self.active_pid.is_some();
        assert!(!self.in_use || !self.temporary || owned, "{self:?}");
        assert!(!self.just_dirtied || self.dirty, "{self:?}");
    }
}

impl Check for ReplicationSlots {
    fn check(&self) {
        // The names come from files, which may repeat a name.
        for slot in self.slots.iter() {
            slot.check();
        }
    }
}

/// All slots, and the oldest LSN that they require.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct ReplicationSlots {
    /// One entry per `max_replication_slots`.
    pub slots: Entries,
    /// `XLogCtl->replicationSlotMinLSN`: the LSN that slots require, as last computed. Invalid if
    /// no slot requires WAL.
    pub required_lsn: Lsn,
}

/// The entries for slots, and a counter of mutable borrows. While the counter stays the same, no
/// entry has changed.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Entries {
    slots: Vec<Slot>,
    borrowed: u64,
}

impl Entries {
    /// The number of mutable borrows.
    #[must_use]
    pub const fn borrowed(&self) -> u64 {
        self.borrowed
    }
}

impl From<Vec<Slot>> for Entries {
    fn from(slots: Vec<Slot>) -> Self {
        Self { slots, borrowed: 0 }
    }
}

impl Deref for Entries {
    type Target = [Slot];

    fn deref(&self) -> &[Slot] {
        &self.slots
    }
}

impl DerefMut for Entries {
    fn deref_mut(&mut self) -> &mut [Slot] {
        self.borrowed += 1;
        &mut self.slots
    }
}

impl ReplicationSlots {
    pub(super) fn new(max_replication_slots: u32) -> Self {
        Self {
            slots: (0..max_replication_slots)
                .map(|_| Slot::default())
                .collect::<Vec<_>>()
                .into(),
            required_lsn: Lsn::INVALID,
        }
    }

    /// `SearchNamedReplicationSlot`: the index of the slot.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        let named = |slot: &Slot| slot.in_use && slot.name == name;
        self.slots.iter().position(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slot survives a restart unchanged. The only exception is an invalidated slot since 16: its
    /// old restart_lsn is lost.
    #[test]
    fn a_slot_survives_a_restart() {
        let at = Lsn(0x300_0028);
        for (version, invalidated, kept) in [
            (PgVersion::V15, None, None),
            (PgVersion::V18, None, None),
            (
                PgVersion::V15,
                Some(Invalidation::WalRemoved(at)),
                Some(Invalidation::WalRemoved(at)),
            ),
            (
                PgVersion::V18,
                Some(Invalidation::WalRemoved(at)),
                Some(Invalidation::WalRemoved(Lsn::INVALID)),
            ),
            (
                PgVersion::V18,
                Some(Invalidation::IdleTimeout),
                Some(Invalidation::IdleTimeout),
            ),
        ] {
            let slot = Slot {
                in_use: true,
                name: "s".into(),
                restart_lsn: Lsn(77),
                invalidated,
                ..Slot::default()
            };
            let bytes = slot.to_file().encode(version);
            let file = SlotFile::decode(version, &bytes).unwrap();
            let again = Slot::from_file(version, file);
            let expected = Slot {
                invalidated: kept,
                last_saved_restart_lsn: again.last_saved_restart_lsn,
                ..slot
            };
            assert_eq!(again, expected);
            let saved = again.last_saved_restart_lsn == Lsn(77);
            assert_eq!(saved, version >= PgVersion::V18);
        }
    }

    /// In PostgreSQL 15 a status update makes an invalidated slot valid again. Since 16 an
    /// invalidated slot stays invalidated.
    #[test]
    fn only_in_15_a_position_makes_a_lost_slot_valid() {
        let mut slot = Slot {
            invalidated: Some(Invalidation::WalRemoved(Lsn(9))),
            ..Slot::default()
        };
        assert!(slot.is_lost(PgVersion::V15) && slot.is_lost(PgVersion::V18));
        slot.restart_lsn = Lsn(10);
        assert!(!slot.is_lost(PgVersion::V15) && slot.is_lost(PgVersion::V18));
    }
}
