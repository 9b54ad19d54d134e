//! A new physical slot from beginning to end. Mirrors create_physical_replication_slot of
//! slotfuncs.c and the physical part of CreateReplicationSlot of walsender.c.

use super::create::ReplicationSlotCreate;
use super::my_slot;
use super::reserve::ReplicationSlotReserveWal;
use super::save::SaveSlotToPath;
use crate::call::{LogEvent, Poll};
use crate::ready_ok;
use crate::sys::Cx;
use alloc::string::String;

/// `create_physical_replication_slot`: afterwards the slot is ours.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CreatePhysicalSlot {
    reserve_wal: bool,
    /// Is what was reserved saved?
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
    /// By CREATE_REPLICATION_SLOT, which does not save the position of a temporary slot.
    /// Without `reserve_wal` the slot holds no WAL before its first report.
    #[must_use]
    pub const fn by_command(name: String, temporary: bool, reserve_wal: bool) -> Self {
        Self {
            reserve_wal,
            save: !temporary,
            phase: Phase::Create(ReplicationSlotCreate::new(name, temporary)),
        }
    }

    /// By `pg_create_physical_replication_slot`, which saves it whatever it is.
    #[must_use]
    pub fn by_function(name: String, temporary: bool, reserve_wal: bool) -> Self {
        Self {
            save: true,
            ..Self::by_command(name, temporary, reserve_wal)
        }
    }

    /// # Errors
    /// There can be no such slot, or its WAL is gone already: then there is a slot that holds
    /// nothing.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        loop {
            match &mut self.phase {
                Phase::Create(create) => {
                    ready_ok!(create.poll(cx));
                    if !self.reserve_wal {
                        return Poll::Ready(Ok(()));
                    }
                    self.phase = Phase::Reserve(ReplicationSlotReserveWal::new());
                }
                Phase::Reserve(reserve) => {
                    ready_ok!(reserve.poll(cx));
                    my_slot(cx).mark_dirty();
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
