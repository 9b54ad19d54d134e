//! Physical replication slots, which hold back WAL until a standby has received it. Mirrors slot.c
//! and the parts of slotfuncs.c and walsender.c that concern slots.
//!
//! A slot is a directory `pg_replslot/NAME` with one file, and an entry in shared memory.
//! `ReplicationSlotControlLock` and the spinlocks of slots are not modeled, because no process
//! holds them while another process can run. `ReplicationSlotAllocationLock` and the I/O lock of
//! each slot are modeled.

pub mod acquire;
pub mod advance;
pub mod checkpoint;
pub mod create;
pub mod create_physical;
pub mod drop;
mod fsync;
pub mod invalidate;
pub mod required_lsn;
pub mod reserve;
mod rmtree;
pub mod save;
pub mod startup;
pub mod status;
#[cfg(test)]
mod tests;

use crate::call::FilePath;
use crate::shmem::Slot;
use crate::sys::Cx;
use alloc::format;
use alloc::string::String;

/// The directory of all slots (`PG_REPLSLOT_DIR`).
const DIRECTORY: &str = "pg_replslot";

fn directory() -> FilePath {
    FilePath::from(DIRECTORY)
}

/// The directory of a slot.
fn path_of(name: &str) -> String {
    format!("{DIRECTORY}/{name}")
}

/// The temporary name of a slot's directory, used while the slot is being created or dropped.
fn temp_path_of(name: &str) -> String {
    format!("{DIRECTORY}/{name}.tmp")
}

/// The index of `MyReplicationSlot`.
fn mine(cx: &Cx<'_>) -> usize {
    cx.sys.my_slot.expect("the process has acquired a slot")
}

/// `MyReplicationSlot`: the slot that the process has acquired, for modification.
///
/// # Panics
/// If the process has not acquired a slot.
pub fn my_slot<'a>(cx: &'a mut Cx<'_>) -> &'a mut Slot {
    let index = mine(cx);
    let slot = &mut cx.shmem.slots.slots[index];
    assert!(slot.in_use, "entry {index} is free");
    assert_eq!(
        slot.active_pid,
        Some(cx.me),
        "only its owner works on a slot"
    );
    slot
}
