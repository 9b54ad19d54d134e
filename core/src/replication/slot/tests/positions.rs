//! Tests of the LSN that slots require, of advances, and of the WAL that a checkpoint may remove
//! while a slot advances.

use super::*;
use crate::base::{Bug, Geometry, Mark, SegmentNo};
use crate::call::{DiskError, Message};
use crate::call::{Severity, SlotMessage, Yield};
use crate::replication::slot::advance::{PgReplicationSlotAdvance, confirm_received_location};
use crate::replication::slot::checkpoint::CheckPointReplicationSlots;
use crate::replication::slot::required_lsn::{
    ReplicationSlotsComputeRequiredLsn, sample_required_lsn, slots_minimum,
};
use crate::replication::slot::reserve::ReplicationSlotReserveWal;
use crate::shmem::Invalidation;

fn compute(fixture: &mut Fixture, pid: Pid) -> Lsn {
    let mut compute = ReplicationSlotsComputeRequiredLsn::new();
    fixture.finish(pid, |cx| compute.poll(cx));
    fixture.shmem.slots.required_lsn
}

fn checkpoint(fixture: &mut Fixture, pid: Pid) -> Result<(), LogEvent> {
    let mut slots = CheckPointReplicationSlots::new();
    fixture.finish(pid, |cx| slots.poll(cx))
}

fn one(restart_lsn: u64, last_saved: u64) -> Slot {
    Slot {
        in_use: true,
        restart_lsn: Lsn(restart_lsn),
        last_saved_restart_lsn: Lsn(last_saved),
        ..Slot::default()
    }
}

#[test]
fn the_oldest_position_is_required() {
    let lost = Slot {
        invalidated: Some(Invalidation::WalRemoved(Lsn(10))),
        ..one(0, 0)
    };
    let revived = Slot {
        restart_lsn: Lsn(40),
        ..lost.clone()
    };
    let temporary = Slot {
        temporary: true,
        ..one(40, 30)
    };
    let unused = Slot {
        in_use: false,
        ..one(1, 1)
    };
    let by_memory = Bug::SlotAdvanceDuringCheckpoint;
    let pins = Bug::InvalidSlotStillPins;
    for (slots, bug, in_15, in_18, why) in [
        (&[][..], None, 0, 0, "no slot"),
        (&[one(0, 0), unused], None, 0, 0, "none holds anything"),
        (&[one(50, 50), one(40, 40)], None, 40, 40, "the least"),
        (&[one(50, 30)], None, 50, 30, "saved is less"),
        (&[one(50, 0)], None, 50, 50, "never saved"),
        (&[one(30, 50)], None, 30, 30, "moved back since"),
        (&[one(0, 30)], None, 0, 0, "holds nothing"),
        (&[temporary], None, 40, 40, "temporary slots are not saved"),
        (core::slice::from_ref(&lost), None, 0, 0, "given up"),
        (&[revived], None, 40, 0, "a report revives it in 15"),
        (&[one(50, 30)], Some(by_memory), 50, 50, "planted"),
        (&[lost.clone(), one(50, 50)], Some(pins), 10, 10, "planted"),
    ] {
        for (version, expected) in [(PgVersion::V15, in_15), (PgVersion::V18, in_18)] {
            let planted = bug.map_or(Planted::NONE, |bug| Planted::NONE.with(bug));
            if bug.is_some() && !Planted::AVAILABLE {
                continue;
            }
            let (mut fixture, pid) = server(version, planted);
            fixture.shmem.slots.slots = slots.to_vec().into();
            assert_eq!(
                compute(&mut fixture, pid),
                Lsn(expected),
                "{why}, {version:?}"
            );
        }
    }
}

/// Since 18 WAL before a new restart_lsn is released only after the restart_lsn is saved. In
/// earlier versions a checkpoint uses positions from before it saves the slots.
#[test]
fn wal_is_released_by_saved_positions() {
    for planted in [
        Planted::NONE,
        Planted::NONE.with(Bug::SlotAdvanceDuringCheckpoint),
    ] {
        for version in PgVersion::ALL {
            let (mut fixture, pid) = server(version, planted);
            fixture.slot_at(pid, "s", Lsn(2000));
            compute(&mut fixture, pid);
            let sampled = fixture.finish(pid, sample_required_lsn);
            assert_eq!(checkpoint(&mut fixture, pid), Ok(()));
            fixture.acquire(pid, "s").unwrap();
            assert!(fixture.step(pid, |cx| confirm_received_location(cx, Lsn(6000))));
            compute(&mut fixture, pid);
            let minimum = fixture.step(pid, |cx| slots_minimum(cx, sampled));
            let on_disk = fixture.slot_file("s").restart_lsn;
            let wrong = planted.has(Bug::SlotAdvanceDuringCheckpoint);
            assert_eq!(minimum > on_disk, wrong, "{version:?}");
            // The next checkpoint saves the slot. Since 18 that checkpoint may already remove the
            // WAL. In earlier versions only the following checkpoint may remove it.
            assert_eq!(checkpoint(&mut fixture, pid), Ok(()));
            assert_eq!(fixture.slot_file("s").restart_lsn, Lsn(6000));
            let sampled = fixture.finish(pid, sample_required_lsn);
            let minimum = fixture.step(pid, |cx| slots_minimum(cx, sampled));
            assert_eq!(minimum, Lsn(6000));
        }
    }
}

/// restart_lsn is set to a reported position even if the position is lower. If the position has not
/// changed, the required LSN is not computed again.
#[test]
fn a_reported_position_is_assigned() {
    let (mut fixture, pid) = server(PgVersion::V18, Planted::NONE);
    fixture.slot_at(pid, "s", Lsn(5000));
    fixture.acquire(pid, "s").unwrap();
    for (flush, changes) in [(6000, true), (6000, false), (4000, true)] {
        let changed = fixture.step(pid, |cx| confirm_received_location(cx, Lsn(flush)));
        assert_eq!(changed, changes);
        assert_eq!(fixture.slot("s").restart_lsn, Lsn(flush));
    }
    assert!(fixture.slot("s").dirty);
    assert_eq!(fixture.slot_file("s").restart_lsn, Lsn(5000));
}

/// If a slot cannot be saved, the failure is logged and the slot stays dirty. All other dirty slots
/// are saved. Clean slots are not written.
#[test]
fn a_checkpoint_saves_dirty_slots_and_goes_on() {
    let (mut fixture, pid) = server(PgVersion::V18, Planted::NONE);
    for name in ["a", "b", "c"] {
        fixture.slot_at(pid, name, Lsn(5000));
    }
    for name in ["a", "b"] {
        let index = fixture.shmem.slots.find(name).unwrap();
        fixture.shmem.slots.slots[index].restart_lsn = Lsn(6000);
        fixture.shmem.slots.slots[index].mark_dirty();
    }
    fixture.trace.clear();
    let broken = "write pg_replslot/a/state.tmp".to_string();
    fixture.failing.insert(broken, DiskError::NoSpace);
    assert_eq!(checkpoint(&mut fixture, pid), Ok(()));
    let log = fixture.logs.last().unwrap();
    assert_eq!(log.severity, Severity::Log);
    let text = "could not write to file \"pg_replslot/a/state.tmp\": No space left on device";
    assert_eq!(log.message.to_string(), text);
    let of = |name| {
        (
            fixture.slot(name).dirty,
            fixture.slot_file(name).restart_lsn,
        )
    };
    assert_eq!(of("a"), (true, Lsn(5000)));
    assert_eq!(of("b"), (false, Lsn(6000)));
    assert!(!fixture.trace.iter().any(|op| op.contains("/c/")));
    assert_eq!(fixture.shmem.slots.required_lsn, Lsn(5000), "recomputed");
}

/// A new slot reserves WAL while a checkpoint moves the redo pointer, saves the slots and removes
/// WAL. In every interleaving, either the WAL of the slot exists or the reservation fails.
fn reserve_meets_checkpoint(version: PgVersion, planted: Planted, steps: usize) -> bool {
    let (mut fixture, pid) = server(version, planted);
    fixture.create(pid, "s", false, false).unwrap();
    let checkpointer = fixture.spawn(Role::Checkpointer);
    let mut reserve = ReplicationSlotReserveWal::new();
    let mut outcome = None;
    for _ in 0..steps {
        if let Poll::Ready(done) = fixture.step(pid, |cx| reserve.poll(cx)) {
            outcome = Some(done);
            break;
        }
    }
    // The new redo pointer is two segments higher.
    fixture.shmem.xlog.redo = REDO + 2048;
    let mut sample = None;
    let mut save = CheckPointReplicationSlots::new();
    let removed = fixture.drive(checkpointer, |cx| {
        let sampled = match sample {
            Some(sampled) => sampled,
            None => match sample_required_lsn(cx) {
                Poll::Ready(sampled) => *sample.insert(sampled),
                Poll::Yield(how) => return Poll::Yield(how),
            },
        };
        save.poll(cx).map(|saved| {
            saved.unwrap();
            let slots = slots_minimum(cx, sampled);
            let redo = cx.shmem.xlog.redo;
            let keep = if slots.is_valid() {
                slots.min(redo)
            } else {
                redo
            };
            let geometry = cx.shmem.settings.geometry;
            cx.shmem.xlog.last_removed = SegmentNo(geometry.segment_of(keep).0 - 1);
        })
    });
    if outcome.is_none() {
        outcome = Some(fixture.finish(pid, |cx| reserve.poll(cx)));
    }
    if removed.is_err() {
        // The checkpointer was waiting for the lock. It continues after the slot has reserved WAL.
        assert!(fixture.shmem.locks.is_woken(checkpointer));
        return true;
    }
    let segment = Geometry::SMALLEST.segment_of(fixture.slot("s").restart_lsn);
    match outcome.expect("set above") {
        Ok(()) => segment > fixture.shmem.xlog.last_removed,
        Err(event) => {
            let message = SlotMessage::WalRemoved("s".into());
            assert_eq!(event.message, Message::Slot(message));
            // Without the planted bug, a failed reservation is allowed. With the planted bug, the
            // test looks for this failure.
            !planted.has(Bug::SlotReserveVsCheckpoint)
        }
    }
}

#[test]
fn reserving_wal_excludes_a_checkpoint() {
    for version in PgVersion::ALL {
        for steps in 0..5 {
            assert!(
                reserve_meets_checkpoint(version, Planted::NONE, steps),
                "{version:?}, after {steps} steps"
            );
        }
    }
}

#[cfg(feature = "planted-bugs")]
#[test]
fn without_the_lock_a_checkpoint_removes_what_was_reserved() {
    let planted = Planted::NONE.with(Bug::SlotReserveVsCheckpoint);
    for version in PgVersion::ALL {
        let all = (0..5).all(|steps| reserve_meets_checkpoint(version, planted, steps));
        assert!(!all, "{version:?}");
    }
}

#[test]
fn pg_replication_slot_advance_moves_the_slot() {
    let (mut fixture, pid) = server(PgVersion::V18, Planted::NONE);
    fixture.shmem.xlog.flush = Lsn(8000);
    fixture.slot_at(pid, "s", Lsn(5000));
    fixture.create(pid, "empty", false, false).unwrap();
    fixture.step(pid, release);
    let mut advance = |name: &str, upto| {
        let mut advance = PgReplicationSlotAdvance::new(name.into(), Lsn(upto));
        let outcome = fixture.finish(pid, |cx| advance.poll(cx));
        fixture.clean_up(pid);
        outcome.map_err(|event| (event.sqlstate, event.message.to_string()))
    };
    let error = |code: &[u8; 5], text: &str| Err((crate::call::SqlState(*code), text.into()));
    assert_eq!(advance("s", 6000), Ok(Lsn(6000)));
    assert_eq!(advance("s", 6000), Ok(Lsn(6000)));
    assert_eq!(
        advance("s", 99_000),
        Ok(Lsn(8000)),
        "no further than flushed"
    );
    let text = "cannot advance replication slot to 0/1770, minimum is 0/1F40";
    assert_eq!(advance("s", 6000), error(b"55000", text));
    let text = "replication slot \"empty\" cannot be advanced";
    assert_eq!(advance("empty", 6000), error(b"55000", text));
    let text = "replication slot \"none\" does not exist";
    assert_eq!(advance("none", 6000), error(b"42704", text));
    assert_eq!(advance("s", 0), error(b"22023", "invalid target WAL LSN"));
    assert_eq!(fixture.slot("s").active_pid, None);
    assert_eq!(fixture.slot_file("s").restart_lsn, Lsn(5000), "not saved");
    assert_eq!(checkpoint(&mut fixture, pid), Ok(()));
    assert_eq!(fixture.slot_file("s").restart_lsn, Lsn(8000));
    assert!(!fixture.probe.marks().contains(Mark::SlotInvalidated));
}

/// The error code of an invalid target changed in 18.
#[test]
fn an_invalid_target_has_the_code_of_its_version() {
    for version in PgVersion::ALL {
        let (mut fixture, pid) = server(version, Planted::NONE);
        fixture.slot_at(pid, "s", Lsn(5000));
        let mut advance = PgReplicationSlotAdvance::new("s".into(), Lsn::INVALID);
        let refused = fixture.finish(pid, |cx| advance.poll(cx)).unwrap_err();
        let code = if version < PgVersion::V18 {
            b"XX000"
        } else {
            b"22023"
        };
        assert_eq!(
            refused.sqlstate,
            crate::call::SqlState(*code),
            "{version:?}"
        );
    }
}

/// Not even a shutdown checkpoint saves the slot.
#[cfg(feature = "planted-bugs")]
#[test]
fn with_the_bug_an_advance_is_never_saved() {
    let planted = Planted::NONE.with(Bug::SlotAdvanceNotDirtied);
    let (mut fixture, pid) = server(PgVersion::V15, planted);
    fixture.shmem.xlog.flush = Lsn(8000);
    fixture.slot_at(pid, "s", Lsn(5000));
    let mut advance = PgReplicationSlotAdvance::new("s".into(), Lsn(6000));
    assert_eq!(fixture.finish(pid, |cx| advance.poll(cx)), Ok(Lsn(6000)));
    assert_eq!(checkpoint(&mut fixture, pid), Ok(()));
    assert_eq!(fixture.slot_file("s").restart_lsn, Lsn(5000));
}

/// No lock covers the computation. A result from older positions can therefore be published last.
#[test]
fn a_computation_can_overwrite_a_newer_one() {
    let (mut fixture, pid) = server(PgVersion::V18, Planted::NONE);
    fixture.shmem.slots.slots = Vec::from([one(50, 50), one(0, 0)]).into();
    let mut slow = ReplicationSlotsComputeRequiredLsn::new();
    let first = fixture.step(pid, |cx| slow.poll(cx));
    assert!(matches!(first, Poll::Yield(Yield::Again(_))));
    fixture.shmem.slots.slots[1] = one(20, 20);
    let other = fixture.spawn(Role::Backend);
    assert_eq!(compute(&mut fixture, other), Lsn(20));
    fixture.finish(pid, |cx| slow.poll(cx));
    assert_eq!(fixture.shmem.slots.required_lsn, Lsn(50));
}
