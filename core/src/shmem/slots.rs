//! Replication slots as shared memory holds them. Mirrors `ReplicationSlot` of slot.h, for physical
//! slots.

use crate::base::{Lsn, PgVersion, Pid};
use crate::wire::slot_file::{Persistency, SlotFile};
use alloc::string::String;
use alloc::vec::Vec;

/// `ReplicationSlotInvalidationCause`, as far as a physical slot can meet it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Invalidation {
    /// Its WAL exceeded `max_slot_wal_keep_size`. Carries the position that it had, which only 15
    /// writes down (`invalidated_at`): in 18 it is known until the next restart.
    WalRemoved(Lsn),
    /// A number that is read from a file of 18 and never given by us.
    Other(u32),
}

impl Invalidation {
    /// `GetSlotInvalidationCauseName`
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WalRemoved(_) => "wal_removed",
            Self::Other(2) => "rows_removed",
            Self::Other(4) => "wal_level_insufficient",
            Self::Other(8) => "idle_timeout",
            Self::Other(_) => "unknown",
        }
    }
}

/// `RS_INVAL_WAL_REMOVED`
const WAL_REMOVED: u32 = 1;

/// One entry of `ReplicationSlotCtl->replication_slots`.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Slot {
    /// Is the entry taken?
    pub in_use: bool,
    /// Its name.
    pub name: String,
    /// `RS_TEMPORARY`: ends with its session. Its file is written too, and removed by the next
    /// start.
    pub temporary: bool,
    /// Who has acquired it. A temporary slot stays with its session.
    pub active_pid: Option<Pid>,
    /// `restart_lsn`: WAL from here on is held; invalid until reserved or reported.
    pub restart_lsn: Lsn,
    /// Why it holds nothing any more. In 15 a report gives it a position again, and this stays.
    pub invalidated: Option<Invalidation>,
    /// Changed since the last save began.
    pub just_dirtied: bool,
    /// Differs from its state file.
    pub dirty: bool,
    /// `last_saved_restart_lsn` (18): what the state file says.
    pub last_saved_restart_lsn: Lsn,
}

impl Slot {
    /// `ReplicationSlotMarkDirty`
    pub const fn mark_dirty(&mut self) {
        self.just_dirtied = true;
        self.dirty = true;
    }

    /// Does it hold nothing because its WAL was given up? Since 16 the cause alone counts; in 15 a
    /// slot is good again once it has a position.
    #[must_use]
    pub fn is_lost(&self, version: PgVersion) -> bool {
        self.invalidated.is_some() && (version >= PgVersion::V16 || !self.restart_lsn.is_valid())
    }

    /// What its state file has to say.
    #[must_use]
    pub fn to_file(&self) -> SlotFile {
        let (invalidated_at, cause) = match self.invalidated {
            None => (Lsn::INVALID, 0),
            Some(Invalidation::WalRemoved(at)) => (at, WAL_REMOVED),
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

    /// A persistent physical slot as its state file has it.
    #[must_use]
    pub fn from_file(version: PgVersion, file: SlotFile) -> Self {
        let invalidated = match (version, file.cause) {
            (PgVersion::V15, _) if file.invalidated_at.is_valid() => {
                Some(Invalidation::WalRemoved(file.invalidated_at))
            }
            (PgVersion::V15, _) | (_, 0) => None,
            (_, WAL_REMOVED) => Some(Invalidation::WalRemoved(Lsn::INVALID)),
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

/// All slots, and what they hold together.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct ReplicationSlots {
    /// One entry per `max_replication_slots`.
    pub slots: Vec<Slot>,
    /// `XLogCtl->replicationSlotMinLSN`: the last computed required LSN; invalid if no slot holds
    /// WAL.
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

    /// `SearchNamedReplicationSlot`: the number of the entry.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        let named = |slot: &Slot| slot.in_use && slot.name == name;
        self.slots.iter().position(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What memory knows of a slot outlives a restart, but for 18's old position of a lost one.
    #[test]
    fn a_file_keeps_what_counts() {
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
                Some(Invalidation::Other(8)),
                Some(Invalidation::Other(8)),
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

    /// In 15 a report revives a slot; in 18 nothing does.
    #[test]
    fn a_position_revives_a_lost_slot_in_15_alone() {
        let mut slot = Slot {
            invalidated: Some(Invalidation::WalRemoved(Lsn(9))),
            ..Slot::default()
        };
        assert!(slot.is_lost(PgVersion::V15) && slot.is_lost(PgVersion::V18));
        slot.restart_lsn = Lsn(10);
        assert!(!slot.is_lost(PgVersion::V15) && slot.is_lost(PgVersion::V18));
    }
}
