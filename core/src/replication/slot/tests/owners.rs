//! Tests of the owners of slots: how a process acquires a slot, waits for it, and makes the owner
//! release it.

use super::*;
use crate::base::{Mark, SegmentNo};
use crate::call::{Message, Signal, SlotExcess, SlotMessage, SlotObsolete, Wait};
use crate::replication::slot::advance::confirm_received_location;
use crate::replication::slot::drop::{ReplicationSlotCleanup, ReplicationSlotDrop};
use crate::replication::slot::invalidate::InvalidateObsoleteReplicationSlots;
use crate::shmem::{CondVarId, Invalidation};

const OLD: Lsn = Lsn(1024 + 40);

/// A slot that a walsender has acquired.
fn in_use(version: PgVersion) -> (Fixture, Pid, Pid) {
    let (mut fixture, pid) = server(version, Planted::NONE);
    fixture.slot_at(pid, "s", OLD);
    let owner = fixture.spawn(Role::WalSender);
    fixture.acquire(owner, "s").unwrap();
    (fixture, pid, owner)
}

fn missing() -> (String, String) {
    let text = "replication slot \"s\" does not exist";
    ("ERROR 42704".into(), text.into())
}

#[test]
fn a_slot_in_use_is_refused() {
    let (mut fixture, pid, owner) = in_use(PgVersion::V15);
    let text = format!("replication slot \"s\" is active for PID {}", owner.n);
    let refused = ("ERROR 55006".into(), text);
    assert_eq!(said(fixture.acquire(pid, "s")), refused);
    assert!(!fixture.probe.marks().contains(Mark::SlotDropRefusedActive));
    let mut drop = ReplicationSlotDrop::new("s".into(), true);
    assert_eq!(said(fixture.finish(pid, |cx| drop.poll(cx))), refused);
    assert!(fixture.probe.marks().contains(Mark::SlotDropRefusedActive));
    assert_eq!(fixture.slot("s").active_pid, Some(owner));
    let mut drop = ReplicationSlotDrop::new("none".into(), true);
    assert!(
        said(fixture.finish(pid, |cx| drop.poll(cx)))
            .0
            .ends_with("42704")
    );
}

/// Two processes wait in order to drop the same slot. The first process drops the slot. The second
/// process gets an error.
#[test]
fn a_drop_may_wait() {
    let (mut fixture, pid, owner) = in_use(PgVersion::V18);
    let second = fixture.spawn(Role::Backend);
    let drop = || ReplicationSlotDrop::new("s".into(), false);
    let mut drops = [(pid, drop()), (second, drop())];
    for (pid, drop) in &mut drops {
        let wait = fixture.drive(*pid, |cx| drop.poll(cx)).unwrap_err();
        assert!(wait.condvar && wait.latch && wait.until.is_none());
        assert!(!fixture.shmem.condvars.is_woken(*pid));
    }
    fixture.step(owner, release);
    let outcomes = drops.each_mut().map(|(pid, drop)| {
        assert!(fixture.shmem.condvars.is_woken(*pid));
        fixture.finish(*pid, |cx| drop.poll(cx))
    });
    assert_eq!(outcomes[0], Ok(()));
    assert_eq!(said(outcomes[1].clone()), missing());
    assert_eq!(fixture.slot_names(), [""; 0]);
}

#[test]
fn sigterm_ends_the_wait() {
    let (mut fixture, pid, _) = in_use(PgVersion::V18);
    let mut drop = ReplicationSlotDrop::new("s".into(), false);
    fixture.drive(pid, |cx| drop.poll(cx)).unwrap_err();
    fixture.procs.get_mut(&pid).unwrap().signal(Signal::Term);
    let outcome = said(fixture.finish(pid, |cx| drop.poll(cx)));
    assert_eq!(outcome.0, "FATAL 57P01");
}

#[test]
fn names_and_the_number_of_slots_are_checked() {
    let (mut fixture, pid) = server(PgVersion::V15, Planted::NONE);
    fixture.shmem.slots.slots = Vec::from([Slot::default(), Slot::default()]).into();
    let refused = |fixture: &mut Fixture, name: &str| {
        let outcome = fixture.create(pid, name, false, false);
        fixture.clean_up(pid);
        said(outcome)
    };
    let (code, _) = refused(&mut fixture, "No");
    assert_eq!(code, "ERROR 42602");
    fixture.slot_at(pid, "a", OLD);
    let text = "replication slot \"a\" already exists";
    assert_eq!(
        refused(&mut fixture, "a"),
        ("ERROR 42710".into(), text.into())
    );
    fixture.slot_at(pid, "b", OLD);
    // The name exists and all slots are in use. The error is about the name.
    assert_eq!(refused(&mut fixture, "a").0, "ERROR 42710");
    let text = "all replication slots are in use";
    assert_eq!(
        refused(&mut fixture, "c"),
        ("ERROR 53400".into(), text.into())
    );
    // The new slot gets the lowest free entry.
    let mut drop = ReplicationSlotDrop::new("a".into(), true);
    assert_eq!(fixture.finish(pid, |cx| drop.poll(cx)), Ok(()));
    fixture.slot_at(pid, "c", OLD);
    assert_eq!(fixture.shmem.slots.find("c"), Some(0));
}

/// Temporary slots are dropped when their session ends or gets an error.
#[test]
fn temporary_slots_end_with_their_session() {
    let (mut fixture, pid) = server(PgVersion::V18, Planted::NONE);
    let later = REDO + 1024;
    fixture.slot_at(pid, "kept", later);
    for name in ["a", "b"] {
        fixture.create(pid, name, true, true).unwrap();
        fixture.step(pid, release);
        assert_eq!(fixture.slot(name).active_pid, Some(pid));
    }
    let other = fixture.spawn(Role::Backend);
    assert_eq!(said(fixture.acquire(other, "a")).0, "ERROR 55006");
    assert_eq!(fixture.acquire(pid, "a"), Ok(()));
    fixture.clean_up(pid);
    assert_eq!(fixture.shmem.slots.required_lsn, REDO);
    let mut cleanup = ReplicationSlotCleanup::new();
    assert_eq!(fixture.finish(other, |cx| cleanup.poll(cx)), Ok(()));
    assert_eq!(fixture.slot_names().len(), 6, "those of others stay");
    let mut cleanup = ReplicationSlotCleanup::new();
    assert_eq!(fixture.finish(pid, |cx| cleanup.poll(cx)), Ok(()));
    assert_eq!(fixture.slot_names(), ["kept", "kept/state"]);
    assert_eq!(fixture.shmem.slots.required_lsn, later);
}

fn invalidate(fixture: &mut Fixture, pid: Pid, oldest: u64) -> Result<bool, LogEvent> {
    let mut invalidate = InvalidateObsoleteReplicationSlots::new(SegmentNo(oldest));
    fixture.finish(pid, |cx| invalidate.poll(cx))
}

#[test]
fn slots_that_require_older_wal_are_invalidated() {
    for version in PgVersion::ALL {
        let (mut fixture, pid) = server(version, Planted::NONE);
        fixture.slot_at(pid, "first", Lsn(2 * 1024));
        fixture.slot_at(pid, "lost", Lsn(2 * 1024 - 1));
        fixture.create(pid, "empty", false, false).unwrap();
        fixture.step(pid, release);
        let checkpointer = fixture.spawn(Role::Checkpointer);
        assert_eq!(invalidate(&mut fixture, checkpointer, 1), Ok(false));
        assert!(!fixture.probe.marks().contains(Mark::SlotInvalidated));
        assert_eq!(invalidate(&mut fixture, checkpointer, 2), Ok(true));
        assert!(fixture.probe.marks().contains(Mark::SlotInvalidated));
        assert_eq!(invalidate(&mut fixture, checkpointer, 2), Ok(false));
        let excess = SlotExcess {
            restart_lsn: Lsn(2047),
            bytes: 1,
        };
        let name = "lost".into();
        let message = SlotMessage::Invalidating {
            name,
            cause: SlotObsolete::WalRemoved(excess),
            version,
        };
        assert_eq!(fixture.logs.pop().unwrap().message, Message::Slot(message));
        let lost = fixture.slot("lost");
        let why = Some(Invalidation::WalRemoved(Lsn(2047)));
        assert_eq!((lost.restart_lsn, lost.invalidated), (Lsn::INVALID, why));
        assert_eq!((lost.active_pid, lost.dirty), (None, false));
        let file = fixture.slot_file("lost");
        let (at, cause) = match version {
            PgVersion::V15 => (Lsn(2047), 0),
            PgVersion::V16 | PgVersion::V17 | PgVersion::V18 | PgVersion::V19 => (Lsn::INVALID, 1),
        };
        let written = (file.restart_lsn, file.invalidated_at, file.cause);
        assert_eq!(written, (Lsn::INVALID, at, cause));
        for name in ["first", "empty"] {
            assert_eq!(fixture.slot(name).invalidated, None);
        }
        assert_eq!(fixture.shmem.slots.required_lsn, Lsn(2048));
        // Since 18 an invalidated slot cannot be acquired.
        let again = fixture.acquire(pid, "lost");
        match version {
            PgVersion::V15 | PgVersion::V16 | PgVersion::V17 => assert_eq!(again, Ok(())),
            PgVersion::V18 | PgVersion::V19 => {
                let text = "can no longer access replication slot \"lost\"";
                assert_eq!(said(again), ("ERROR 55000".into(), text.into()));
            }
        }
        fixture.clean_up(pid);
        let mut drop = ReplicationSlotDrop::new("lost".into(), true);
        assert_eq!(fixture.finish(pid, |cx| drop.poll(cx)), Ok(()));
    }
}

/// Since 18 a slot that was inactive for `idle_replication_slot_timeout` is invalidated. The slot
/// keeps its restart_lsn, which holds back no WAL any more. A slot in use, a slot without a
/// position and all slots of a server without the timeout stay valid.
#[test]
fn idle_slots_are_invalidated() {
    for version in PgVersion::ALL {
        for (timeout_s, idle_s, invalid) in [(60, 59, false), (60, 60, true), (0, 999, false)] {
            let (mut fixture, pid) = server(version, Planted::NONE);
            fixture.shmem.settings.idle_replication_slot_timeout_s = timeout_s;
            fixture.slot_at(pid, "idle", Lsn(3 * 1024));
            fixture.create(pid, "empty", false, false).unwrap();
            fixture.step(pid, release);
            fixture.slot_at(pid, "used", Lsn(5 * 1024));
            fixture.acquire(pid, "used").unwrap();
            // The last microsecond of a second does not count.
            fixture.now.wall = fixture.now.wall + (idle_s * 1_000_000 + 999_999);
            let checkpointer = fixture.spawn(Role::Checkpointer);
            let expected = invalid && version >= PgVersion::V18;
            assert_eq!(invalidate(&mut fixture, checkpointer, 1), Ok(expected));
            let idle = fixture.slot("idle");
            let why = expected.then_some(Invalidation::IdleTimeout);
            assert_eq!((idle.restart_lsn, idle.invalidated), (Lsn(3 * 1024), why));
            for name in ["empty", "used"] {
                assert_eq!(fixture.slot(name).invalidated, None, "{name}");
            }
            if expected {
                let file = fixture.slot_file("idle");
                assert_eq!((file.restart_lsn, file.cause), (Lsn(3 * 1024), 8));
                assert_eq!(fixture.shmem.slots.required_lsn, Lsn(5 * 1024));
                let text = fixture.logs.pop().unwrap().message.to_string();
                assert_eq!(text, "invalidating obsolete replication slot \"idle\"");
            }
        }
    }
}

/// After a restart the slot has been inactive since the start of the server.
#[test]
fn a_restart_starts_the_idle_time_again() {
    let (mut fixture, pid) = server(PgVersion::V18, Planted::NONE);
    fixture.shmem.settings.idle_replication_slot_timeout_s = 60;
    fixture.slot_at(pid, "s", Lsn(3 * 1024));
    fixture.now.wall = fixture.now.wall + 61_000_000;
    fixture.restart().unwrap();
    let since = fixture.slot("s").inactive_since;
    assert_eq!(since, Some(fixture.now.wall));
    let checkpointer = fixture.spawn(Role::Checkpointer);
    assert_eq!(invalidate(&mut fixture, checkpointer, 1), Ok(false));
}

/// A checkpointer that waits for the owner of a slot.
struct Waiting {
    fixture: Fixture,
    owner: Pid,
    checkpointer: Pid,
    invalidate: InvalidateObsoleteReplicationSlots,
}

impl Waiting {
    fn new(version: PgVersion) -> Self {
        let (mut fixture, _, owner) = in_use(version);
        let checkpointer = fixture.spawn(Role::Checkpointer);
        let invalidate = InvalidateObsoleteReplicationSlots::new(SegmentNo(2));
        let mut waiting = Self {
            fixture,
            owner,
            checkpointer,
            invalidate,
        };
        let wait = waiting.go().unwrap_err();
        assert!(wait.condvar && wait.until.is_none(), "without a limit");
        assert_eq!(waiting.fixture.kernel.signals, [(owner, Signal::Term)]);
        waiting
    }

    fn go(&mut self) -> Result<Result<bool, LogEvent>, Wait> {
        let invalidate = &mut self.invalidate;
        self.fixture
            .drive(self.checkpointer, |cx| invalidate.poll(cx))
    }
}

/// The owner is signaled once. The slot is invalidated after the owner has released the slot.
#[test]
fn an_owner_is_made_to_release_its_slot() {
    for version in PgVersion::ALL {
        let mut waiting = Waiting::new(version);
        waiting
            .fixture
            .shmem
            .condvars
            .broadcast(CondVarId::SlotActive(0));
        waiting.go().unwrap_err();
        assert_eq!(waiting.fixture.kernel.signals.len(), 1, "told once");
        waiting.fixture.step(waiting.owner, release);
        assert_eq!(waiting.go(), Ok(Ok(true)));
        assert_eq!(waiting.fixture.slot("s").active_pid, None);
        assert!(waiting.fixture.slot("s").invalidated.is_some());
    }
}

/// If another process acquires the slot during the wait, the checkpointer signals that process too.
#[test]
fn the_next_owner_is_signaled_too() {
    let mut waiting = Waiting::new(PgVersion::V15);
    waiting.fixture.step(waiting.owner, release);
    let next = waiting.fixture.spawn(Role::WalSender);
    waiting.fixture.acquire(next, "s").unwrap();
    waiting.go().unwrap_err();
    assert_eq!(waiting.fixture.kernel.signals[1..], [(next, Signal::Term)]);
}

/// If the slot has advanced during the wait and its WAL still exists, the slot stays valid.
#[test]
fn a_slot_that_advanced_meanwhile_stays_valid() {
    for version in PgVersion::ALL {
        let mut waiting = Waiting::new(version);
        let moved = |cx: &mut Cx<'_>| confirm_received_location(cx, Lsn(2048));
        assert!(waiting.fixture.step(waiting.owner, moved));
        waiting.fixture.step(waiting.owner, release);
        assert_eq!(waiting.go(), Ok(Ok(false)));
        assert_eq!(waiting.fixture.slot("s").restart_lsn, Lsn(2048));
        assert_eq!(waiting.fixture.slot("s").invalidated, None);
    }
}

/// Another process drops the slot while the checkpointer waits for the slot's owner.
#[test]
fn a_slot_that_is_dropped_meanwhile_is_skipped() {
    let mut waiting = Waiting::new(PgVersion::V18);
    waiting.fixture.step(waiting.owner, release);
    let pid = waiting.fixture.spawn(Role::Backend);
    let mut drop = ReplicationSlotDrop::new("s".into(), true);
    assert_eq!(waiting.fixture.finish(pid, |cx| drop.poll(cx)), Ok(()));
    assert_eq!(waiting.go(), Ok(Ok(false)));
}

/// If an invalidated slot cannot be saved, the checkpoint fails. The slot then holds back no WAL,
/// and stays acquired by the checkpointer.
#[test]
fn a_slot_that_cannot_be_saved_stays_acquired() {
    let (mut fixture, pid) = server(PgVersion::V18, Planted::NONE);
    fixture.slot_at(pid, "s", OLD);
    let checkpointer = fixture.spawn(Role::Checkpointer);
    let broken = "write pg_replslot/s/state.tmp".to_string();
    fixture
        .failing
        .insert(broken, crate::call::DiskError::NoSpace);
    assert!(invalidate(&mut fixture, checkpointer, 2).is_err());
    fixture.step(checkpointer, |cx| cx.release_everything());
    fixture.failing.clear();
    assert_eq!(invalidate(&mut fixture, checkpointer, 2), Ok(false));
    assert_eq!(fixture.slot("s").active_pid, Some(checkpointer));
    assert_eq!(said(fixture.acquire(pid, "s")).0, "ERROR 55006");
    assert_eq!(fixture.restart(), Ok(()));
    assert_eq!(fixture.slot("s").restart_lsn, OLD);
}
