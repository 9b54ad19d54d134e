//! The view pg_replication_slots. Mirrors pg_get_replication_slots of slotfuncs.c and
//! GetWALAvailability of xlog.c.

use crate::base::{Lsn, Pid, SegmentNo};
use crate::replication::wal_horizon::keep_log_seg;
use crate::shmem::Slot;
use crate::sys::Cx;
use alloc::string::String;
use alloc::vec::Vec;

/// `wal_status`: is the required WAL still available?
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WalStatus {
    /// Within `max_wal_size`.
    Reserved,
    /// The WAL exceeds `max_wal_size`, but is kept for the slot.
    Extended,
    /// The WAL of the slot is no longer kept. The next checkpoint may invalidate the slot, unless
    /// the slot advances.
    Unreserved,
    /// Removed.
    Lost,
}

impl WalStatus {
    /// The name in the view.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Extended => "extended",
            Self::Unreserved => "unreserved",
            Self::Lost => "lost",
        }
    }
}

/// A row of `pg_replication_slots`. `None` means NULL.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SlotRow {
    /// `slot_name`
    pub name: String,
    /// `active_pid`
    pub active_pid: Option<Pid>,
    /// `restart_lsn`
    pub restart_lsn: Option<Lsn>,
    /// `wal_status`
    pub wal_status: Option<WalStatus>,
}

/// `pg_get_replication_slots`
#[must_use]
pub fn pg_get_replication_slots(cx: &Cx<'_>) -> Vec<SlotRow> {
    let slots = cx.shmem.slots.slots.iter().filter(|slot| slot.in_use);
    slots
        .map(|slot| SlotRow {
            name: slot.name.clone(),
            active_pid: slot.active_pid,
            restart_lsn: Some(slot.restart_lsn).filter(|lsn| lsn.is_valid()),
            wal_status: wal_status(cx, slot),
        })
        .collect()
}

fn wal_status(cx: &Cx<'_>, slot: &Slot) -> Option<WalStatus> {
    if slot.is_lost(cx.shmem.settings.pg_version) {
        return Some(WalStatus::Lost);
    }
    let status = wal_availability(cx, slot.restart_lsn)?;
    // A slot with an owner is not reported as lost. The owner may still advance the slot to WAL
    // that exists.
    let may_go_on = status == WalStatus::Lost && slot.active_pid.is_some();
    Some(if may_go_on {
        WalStatus::Unreserved
    } else {
        status
    })
}

/// `GetWALAvailability`. `None` for a slot without restart_lsn.
fn wal_availability(cx: &Cx<'_>, target: Lsn) -> Option<WalStatus> {
    if !target.is_valid() {
        return None;
    }
    let (settings, xlog) = (&cx.shmem.settings, &cx.shmem.xlog);
    let geometry = &settings.geometry;
    // `GetXLogWriteRecPtr`, which does not advance on a standby.
    let end = xlog.write;
    let target = geometry.segment_of(target);
    let held = keep_log_seg(settings, end, end, cx.shmem.slots.required_lsn);
    let current = geometry.segment_of(end).0;
    assert!(
        held.0 <= current,
        "{held:?} is after the end of WAL at {end}"
    );
    let max_segments = settings.max_wal_size / u64::from(geometry.segment) + 1;
    let within = SegmentNo(current.saturating_sub(max_segments).max(1));
    Some(if target >= held {
        if target >= within {
            WalStatus::Reserved
        } else {
            WalStatus::Extended
        }
    } else if target > xlog.last_removed {
        WalStatus::Unreserved
    } else {
        WalStatus::Lost
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PgVersion, Planted};
    use crate::shmem::{Invalidation, Role};
    use crate::sys::testing::Fixture;

    /// The end of WAL is in segment 30. max_wal_size is eight segments, max_slot_wal_keep_size is
    /// twelve, and the segments up to 10 are removed.
    #[test]
    fn wal_status_of_a_slot() {
        use WalStatus::{Extended, Lost, Reserved, Unreserved};
        let lost = Some(Invalidation::WalRemoved(Lsn(9)));
        for (segment, active, invalidated, in_15, in_18) in [
            (0, false, None, None, None),
            (30, false, None, Some(Reserved), Some(Reserved)),
            (21, false, None, Some(Reserved), Some(Reserved)),
            (20, false, None, Some(Extended), Some(Extended)),
            (18, false, None, Some(Extended), Some(Extended)),
            (17, false, None, Some(Unreserved), Some(Unreserved)),
            (11, true, None, Some(Unreserved), Some(Unreserved)),
            (10, true, None, Some(Unreserved), Some(Unreserved)),
            (10, false, None, Some(Lost), Some(Lost)),
            (0, false, lost, Some(Lost), Some(Lost)),
            (30, false, lost, Some(Reserved), Some(Lost)),
        ] {
            for (version, expected) in [(PgVersion::V15, in_15), (PgVersion::V18, in_18)] {
                let mut fixture = Fixture::new(version, Planted::NONE);
                let pid = fixture.spawn(Role::Backend);
                let shmem = &mut fixture.shmem;
                shmem.settings.max_wal_size = 8 * 1024;
                shmem.settings.max_slot_wal_keep_size = Some(12 * 1024);
                shmem.xlog.write = Lsn(30 * 1024 + 100);
                shmem.xlog.last_removed = SegmentNo(10);
                shmem.slots.required_lsn = Lsn(11 * 1024);
                shmem.slots.slots[3] = Slot {
                    in_use: true,
                    name: "s".into(),
                    restart_lsn: Lsn(segment * 1024),
                    active_pid: active.then_some(pid),
                    invalidated,
                    ..Slot::default()
                };
                let rows = fixture.step(pid, |cx| pg_get_replication_slots(cx));
                let row = SlotRow {
                    name: "s".into(),
                    active_pid: active.then_some(pid),
                    restart_lsn: (segment > 0).then_some(Lsn(segment * 1024)),
                    wal_status: expected,
                };
                assert_eq!(rows, [row], "{version:?}");
            }
        }
    }
}
