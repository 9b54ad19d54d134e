//! All steps of creating a physical slot. Mirrors create_physical_replication_slot of slotfuncs.c
//! and the physical part of CreateReplicationSlot of walsender.c.

use super::create::ReplicationSlotCreate;
use super::my_slot;
use super::reserve::ReplicationSlotReserveWal;
use super::save::SaveSlotToPath;
use crate::call::{LogEvent, Poll};
use crate::ready_ok;
use crate::sys::Cx;
use alloc::string::String;

/// `create_physical_replication_slot`: creates and acquires a physical slot.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CreatePhysicalSlot {
    reserve_wal: bool,
    /// Whether to save the slot after it has reserved WAL.
    save: bool,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Create(ReplicationSlotCreate),
    Reserve(ReplicationSlotReserveWal),
    Save(SaveSlotToPath),
}

impl CreatePhysicalSlot {
    /// Creates the slot for CREATE_REPLICATION_SLOT. This command does not save the position of a
    /// temporary slot. Without `reserve_wal` the slot holds back WAL only after the first status
    /// update.
    #[must_use]
    pub const fn by_command(name: String, temporary: bool, reserve_wal: bool) -> Self {
        Self {
            reserve_wal,
            save: !temporary,
            phase: Phase::Create(ReplicationSlotCreate::new(name, temporary)),
        }
    }

    /// Creates the slot for `pg_create_physical_replication_slot`, which saves temporary slots as
    /// well.
    #[must_use]
    pub fn by_function(name: String, temporary: bool, reserve_wal: bool) -> Self {
        Self {
            save: true,
            ..Self::by_command(name, temporary, reserve_wal)
        }
    }

    /// # Errors
    /// The slot cannot be created, or the WAL to reserve is already removed. If the WAL is removed,
    /// the slot exists without a restart_lsn.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        loop {
            match &mut self.phase {
                Phase::Create(create) => {
                    ready_ok!(create.poll(cx));
                    assert!(!my_slot(cx).restart_lsn.is_valid(), "it is new");
                    if !self.reserve_wal {
                        return Poll::Ready(Ok(()));
                    }
                    self.phase = Phase::Reserve(ReplicationSlotReserveWal::new());
                }
                Phase::Reserve(reserve) => {
                    ready_ok!(reserve.poll(cx));
                    let slot = my_slot(cx);
                    assert!(slot.restart_lsn.is_valid(), "{}", slot.name);
                    slot.mark_dirty();
                    if !self.save {
                        return Poll::Ready(Ok(()));
                    }
                    self.phase = Phase::Save(SaveSlotToPath::mine(cx));
                }
                Phase::Save(save) => return save.poll(cx),
            }
        }
    }
}
