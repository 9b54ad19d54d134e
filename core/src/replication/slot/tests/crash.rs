//! Tests of crashes and disk errors. After a crash or an error at any point, slots are restored
//! intact and can be used.

use super::*;
use crate::base::{Bug, SegmentNo};
use crate::call::{DiskError, Severity, Yield};
use crate::replication::slot::drop::ReplicationSlotDrop;
use crate::replication::slot::invalidate::InvalidateObsoleteReplicationSlots;

const OLD: Lsn = Lsn(1024 + 40);
const NEW: Lsn = Lsn(2 * 1024 + 40);

#[derive(Clone, Copy, PartialEq, Debug)]
enum Act {
    Create,
    /// Creates a slot after a failed attempt has left files.
    CreateAgain,
    Save,
    Drop,
    Invalidate,
}

const ACTS: [Act; 5] = [
    Act::Create,
    Act::CreateAgain,
    Act::Save,
    Act::Drop,
    Act::Invalidate,
];

type Routine = alloc::boxed::Box<dyn FnMut(&mut Cx<'_>) -> Poll<Result<(), LogEvent>>>;

/// Returns a server in the state before the operation, and the operation.
fn prepared(act: Act, version: PgVersion, planted: Planted) -> (Fixture, Pid, Routine) {
    let (mut fixture, pid) = server(version, planted);
    let routine: Routine = match act {
        Act::Create | Act::CreateAgain => {
            if act == Act::CreateAgain {
                fixture.dirs.insert("pg_replslot/s.tmp".into());
                for name in ["state", "state.tmp"] {
                    let path = format!("pg_replslot/s.tmp/{name}");
                    fixture.files.insert(path, Vec::from(*b"half"));
                }
            }
            let mut create = CreatePhysicalSlot::by_command("s".into(), false, true);
            alloc::boxed::Box::new(move |cx| create.poll(cx))
        }
        Act::Save => {
            fixture.slot_at(pid, "s", OLD);
            fixture.acquire(pid, "s").unwrap();
            let mut save = fixture.step(pid, |cx| {
                let slot = my_slot(cx);
                slot.restart_lsn = NEW;
                slot.mark_dirty();
                SaveSlotToPath::mine(cx)
            });
            alloc::boxed::Box::new(move |cx| save.poll(cx))
        }
        Act::Drop => {
            fixture.slot_at(pid, "s", OLD);
            let mut drop = ReplicationSlotDrop::new("s".into(), true);
            alloc::boxed::Box::new(move |cx| drop.poll(cx))
        }
        Act::Invalidate => {
            fixture.slot_at(pid, "s", OLD);
            let mut invalidate = InvalidateObsoleteReplicationSlots::new(SegmentNo(2));
            alloc::boxed::Box::new(move |cx| {
                invalidate.poll(cx).map(|done| done.map(|any| assert!(any)))
            })
        }
    };
    fixture.trace.clear();
    (fixture, pid, routine)
}

/// The position of the slot, and whether the slot is invalidated. `None` if there is no slot.
fn state(fixture: &Fixture) -> Option<(Lsn, bool)> {
    let index = fixture.shmem.slots.find("s")?;
    let slot = &fixture.shmem.slots.slots[index];
    Some((slot.restart_lsn, slot.invalidated.is_some()))
}

const GIVEN_UP: Option<(Lsn, bool)> = Some((Lsn::INVALID, true));

/// The states that a crash may leave, in the order in which the operation reaches the states.
fn allowed(act: Act) -> Vec<Option<(Lsn, bool)>> {
    let at = |lsn| Some((lsn, false));
    match act {
        Act::Create | Act::CreateAgain => Vec::from([None, at(Lsn::INVALID), at(REDO)]),
        Act::Save => Vec::from([at(OLD), at(NEW)]),
        Act::Drop => Vec::from([at(OLD), None]),
        Act::Invalidate => Vec::from([at(OLD), GIVEN_UP]),
    }
}

/// Checks the slot after a restart. The slot has its state from before or after the operation. No
/// temporary file is left. A slot can be created, saved and dropped.
fn comes_back(fixture: &mut Fixture, what: &str) {
    fixture.restart().unwrap_or_else(|e| panic!("{what}: {e}"));
    let clean = fixture.slot_names();
    let left = clean.iter().filter(|name| name.ends_with(".tmp")).count();
    assert_eq!(left, 0, "{what}: {clean:?}");
    let pid = fixture.spawn(Role::Backend);
    if let Some((lsn, _)) = state(fixture) {
        assert_eq!(fixture.slot_file("s").restart_lsn, lsn, "{what}");
        let mut drop = ReplicationSlotDrop::new("s".into(), true);
        assert_eq!(fixture.finish(pid, |cx| drop.poll(cx)), Ok(()), "{what}");
    }
    assert_eq!(fixture.slot_names(), [""; 0], "{what}");
    assert_eq!(fixture.create(pid, "s", false, true), Ok(()), "{what}");
    assert_eq!(fixture.slot_file("s").restart_lsn, REDO);
}

#[test]
fn a_crash_anywhere_leaves_the_state_before_or_after() {
    for (version, act) in PgVersion::ALL
        .into_iter()
        .flat_map(|v| ACTS.map(|act| (v, act)))
    {
        let mut reached = Vec::new();
        for operations in 0.. {
            let (mut fixture, pid, mut routine) = prepared(act, version, Planted::NONE);
            let mut ended = false;
            while !ended && fixture.trace.len() < operations {
                match fixture.step(pid, &mut routine) {
                    Poll::Ready(outcome) => {
                        assert_eq!(outcome, Ok(()));
                        ended = true;
                    }
                    Poll::Yield(Yield::Wait(wait)) => assert!(wait.op.is_some()),
                    Poll::Yield(_) => {}
                }
            }
            let what = format!("{act:?} in {version:?}, cut at {operations}");
            let mut again = fixture;
            again.restart().unwrap_or_else(|e| panic!("{what}: {e}"));
            reached.push(state(&again));
            comes_back(&mut again, &what);
            if ended {
                break;
            }
        }
        reached.dedup();
        assert_eq!(reached, allowed(act), "{act:?} in {version:?}");
    }
}

/// If a disk operation fails, the command fails and can be repeated. If the failure leaves the
/// content of the disk unknown, the server restarts.
#[test]
fn an_error_anywhere_can_be_recovered_from() {
    for (version, act) in PgVersion::ALL
        .into_iter()
        .flat_map(|v| ACTS.map(|act| (v, act)))
    {
        let (mut fixture, pid, routine) = prepared(act, version, Planted::NONE);
        fixture.finish(pid, routine).unwrap();
        let mut operations = core::mem::take(&mut fixture.trace);
        operations.retain(|op| !op.starts_with("close"));
        assert!(!operations.is_empty());
        for operation in operations {
            let what = format!("{act:?} in {version:?}, {operation} fails");
            let (mut fixture, pid, routine) = prepared(act, version, Planted::NONE);
            fixture.failing.insert(operation, DiskError::Io);
            let outcome = fixture.finish(pid, routine);
            fixture.failing.clear();
            if let Err(event) = &outcome
                && event.severity < Severity::Panic
            {
                fixture.clean_up(pid);
                let before = state(&fixture);
                assert!(
                    allowed(act).contains(&before) || before == GIVEN_UP,
                    "{what}"
                );
                if before.is_some() {
                    let other = fixture.spawn(Role::Backend);
                    fixture.acquire(other, "s").unwrap_or_else(|e| {
                        assert_eq!(before, GIVEN_UP, "{what}: {e}");
                    });
                    if let Some(at) = other_slot(&mut fixture, other) {
                        assert_eq!(fixture.save(other), Ok(()), "{what}");
                        assert_eq!(fixture.slot_file("s").restart_lsn, at, "{what}");
                    }
                    fixture.clean_up(other);
                }
            }
            comes_back(&mut fixture, &what);
        }
    }
}

/// Marks the acquired slot dirty, and returns its position.
fn other_slot(fixture: &mut Fixture, pid: Pid) -> Option<Lsn> {
    fixture.step(pid, |cx| {
        cx.sys.my_slot?;
        let slot = my_slot(cx);
        slot.mark_dirty();
        Some(slot.restart_lsn)
    })
}

/// If the disk is full, a save fails. The next save succeeds as soon as there is space. With the
/// planted bug all saves fail until a restart.
#[test]
fn a_failed_save_leaves_no_file_in_the_way() {
    for planted in [Planted::NONE, Planted::NONE.with(Bug::SlotTempFileLeft)] {
        for operation in [
            "write pg_replslot/s/state.tmp",
            "fsync pg_replslot/s/state.tmp",
            "rename pg_replslot/s/state.tmp",
        ] {
            let (mut fixture, pid, routine) = prepared(Act::Save, PgVersion::V18, planted);
            fixture.failing.insert(operation.into(), DiskError::NoSpace);
            assert!(fixture.finish(pid, routine).is_err());
            assert!(fixture.slot("s").dirty);
            assert_eq!(fixture.slot("s").last_saved_restart_lsn, OLD);
            fixture.failing.clear();
            let again = fixture.save(pid);
            if planted.has(Bug::SlotTempFileLeft) {
                let text = "could not create file \"pg_replslot/s/state.tmp\": File exists";
                assert_eq!(said(again), ("ERROR 58P02".into(), text.into()));
                fixture.restart().unwrap();
                let other = fixture.spawn(Role::Backend);
                fixture.acquire(other, "s").unwrap();
                other_slot(&mut fixture, other);
                assert_eq!(fixture.save(other), Ok(()));
            } else {
                assert_eq!(again, Ok(()));
                assert_eq!(fixture.slot_file("s").restart_lsn, NEW);
                assert_eq!(fixture.slot("s").last_saved_restart_lsn, NEW);
            }
            assert!(!fixture.slot("s").dirty);
        }
    }
}

/// A new name of a file or directory is durable before other processes rely on it.
#[test]
fn names_are_durable_before_they_are_used() {
    let trace = |act| {
        let (mut fixture, pid, routine) = prepared(act, PgVersion::V15, Planted::NONE);
        fixture.finish(pid, routine).unwrap();
        let mut trace = fixture.short_trace();
        trace.retain(|op| !op.starts_with("close"));
        trace
    };
    let save = |dir: &str| {
        [
            format!("open {dir}/state.tmp"),
            format!("write {dir}/state.tmp"),
            format!("fsync {dir}/state.tmp"),
            format!("rename {dir}/state.tmp"),
            format!("open {dir}/state"),
            format!("fsync {dir}/state"),
            format!("syncdir {dir}"),
            "syncdir pg_replslot".into(),
        ]
    };
    let (slot, temp) = ("pg_replslot/s", "pg_replslot/s.tmp");
    let mut create = Vec::from(["stat", "mkdir", "syncdir"].map(|op| format!("{op} {temp}")));
    create.extend(save(temp));
    create.extend([
        format!("rename {temp}"),
        format!("syncdir {slot}"),
        "syncdir pg_replslot".into(),
    ]);
    create.extend(save(slot));
    assert_eq!(trace(Act::Create), create);
    assert_eq!(trace(Act::Save), save(slot));
    assert_eq!(
        trace(Act::Drop),
        [
            format!("rename {slot}"),
            format!("syncdir {temp}"),
            "syncdir pg_replslot".into(),
            format!("list {temp}"),
            format!("unlink {temp}/state"),
            format!("rmdir {temp}"),
        ]
    );
}

/// The drop of a slot releases WAL only when the new name of the directory is durable.
#[test]
fn a_drop_holds_its_wal_until_it_is_durable() {
    let (mut fixture, pid, mut routine) = prepared(Act::Drop, PgVersion::V18, Planted::NONE);
    fixture.shmem.slots.required_lsn = OLD;
    while fixture
        .trace
        .last()
        .is_none_or(|op| op != "list pg_replslot/s.tmp")
    {
        let synced = fixture.trace.iter().any(|op| op == "syncdir pg_replslot");
        assert!(synced || fixture.shmem.slots.required_lsn == OLD);
        assert!(matches!(fixture.step(pid, &mut routine), Poll::Yield(_)));
    }
    assert_eq!(fixture.shmem.slots.required_lsn, Lsn::INVALID);
}

/// A slot that changes while it is being saved is dirty after the save.
#[test]
fn a_change_during_a_save_is_not_lost() {
    for operations in 0..8 {
        let (mut fixture, pid, mut routine) = prepared(Act::Save, PgVersion::V18, Planted::NONE);
        let index = fixture.shmem.slots.find("s").unwrap();
        while fixture.trace.len() < operations {
            assert!(matches!(fixture.step(pid, &mut routine), Poll::Yield(_)));
        }
        let slot = &mut fixture.shmem.slots.slots[index];
        slot.restart_lsn = Lsn(5000);
        slot.mark_dirty();
        assert_eq!(fixture.finish(pid, routine), Ok(()));
        let slot = fixture.slot("s");
        let saved = fixture.slot_file("s").restart_lsn;
        assert_eq!(slot.last_saved_restart_lsn, saved);
        assert!(slot.dirty || saved == Lsn(5000), "after {operations}");
    }
}
