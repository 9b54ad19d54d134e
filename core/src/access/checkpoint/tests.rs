//! Tests of checkpoints: what they write, in which order, and which transactions they wait for.

use super::*;
use crate::base::Planted;
use crate::sys::testing::Fixture;

const FIRST: Lsn = Lsn(1024 + 40);

/// A server that has completed its first checkpoint and then written one more record.
fn server(version: PgVersion, planted: Planted) -> (Fixture, Pid) {
    let mut fixture = Fixture::new(version, planted);
    let mut wal = fixture.wal();
    wal.append(&fixture.xlog(&XlogRecord::NextOid(24576)));
    fixture.in_production(&wal);
    let pid = fixture.spawn(Role::Checkpointer);
    (fixture, pid)
}

fn begin(fixture: &mut Fixture, pid: Pid, force: bool) -> CreateCheckPoint {
    fixture.step(pid, |cx| {
        CreateCheckPoint::new(cx, CheckpointKind::Online { force })
    })
}

#[test]
fn an_online_checkpoint_is_a_redo_point_a_snapshot_and_a_record() {
    let xlog = |info| (RmgrId::XLOG, info);
    let running = (RmgrId::STANDBY, 0x10);
    for (version, expected) in [
        (
            PgVersion::V15,
            &[xlog(0x00), xlog(0x30), running, xlog(0x10)][..],
        ),
        (
            PgVersion::V18,
            &[xlog(0x00), xlog(0x30), xlog(0xE0), running, xlog(0x10)][..],
        ),
    ] {
        let (mut fixture, pid) = server(version, Planted::NONE);
        let mut checkpoint = begin(&mut fixture, pid, false);
        assert_eq!(fixture.drive(pid, |cx| checkpoint.poll(cx)), Ok(Ok(true)));
        let records = fixture.records(FIRST);
        let kinds: Vec<_> = records
            .iter()
            .map(|(_, rmid, info)| (*rmid, *info))
            .collect();
        assert_eq!(kinds, expected, "{version:?}");
        let control = &fixture.shmem.control;
        assert_eq!(control.checkpoint, records[records.len() - 1].0);
        assert_eq!(control.checkpoint_copy.redo, records[2].0, "{version:?}");
        assert_eq!(fixture.shmem.xlog.redo, records[2].0);
        assert_eq!(control.state, DbState::InProduction);
        let on_disk = &fixture.files["global/pg_control"];
        assert_eq!(on_disk, &control.encode(version));
    }
}

/// The control file is written last. After a crash before this write, the previous checkpoint is
/// valid.
#[test]
fn the_control_file_is_written_after_the_flush() {
    let (mut fixture, pid) = server(PgVersion::V18, Planted::NONE);
    let mut checkpoint = begin(&mut fixture, pid, false);
    assert_eq!(fixture.drive(pid, |cx| checkpoint.poll(cx)), Ok(Ok(true)));
    let of = |text: &str| fixture.trace.iter().rposition(|op| op.starts_with(text));
    assert!(
        of("fsync pg_wal") < of("write global/pg_control"),
        "{:?}",
        fixture.trace
    );
    assert!(of("write global/pg_control") < of("fsync global/pg_control"));
}

/// The next xid is read after the redo point is fixed. If it were read earlier, a transaction could
/// start before the redo point with an id that the checkpoint does not know. After a crash this id
/// would be assigned again.
#[test]
fn the_next_xid_is_read_after_the_redo_point() {
    let (mut fixture, pid) = server(PgVersion::V15, Planted::NONE);
    let mut checkpoint = begin(&mut fixture, pid, false);
    let before = fixture.shmem.xlog.redo;
    while fixture.shmem.xlog.redo == before {
        assert!(matches!(
            fixture.step(pid, |cx| checkpoint.poll(cx)),
            Poll::Yield(_)
        ));
    }
    fixture.shmem.next_xid = Xid(100);
    assert_eq!(fixture.drive(pid, |cx| checkpoint.poll(cx)), Ok(Ok(true)));
    assert_eq!(
        fixture.shmem.control.checkpoint_copy.next_xid.xid(),
        Xid(100)
    );
}

#[test]
fn an_idle_server_skips_checkpoints_without_force() {
    let (mut fixture, pid) = server(PgVersion::V15, Planted::NONE);
    for (force, performed) in [(false, true), (false, false), (true, true), (false, false)] {
        let mut checkpoint = begin(&mut fixture, pid, force);
        let outcome = fixture.drive(pid, |cx| checkpoint.poll(cx));
        assert_eq!(outcome, Ok(Ok(performed)), "force {force}");
        assert!((0..INSERTION_LOCKS).all(|n| !fixture.shmem.locks.is_held(LockId::WalInsert(n))));
    }
}

/// A checkpoint waits for a commit whose record is before the redo point and whose status is not
/// yet set. It does not wait for commits that begin after the redo point.
#[test]
fn a_checkpoint_waits_for_commits_that_cross_its_redo_point() {
    let (mut fixture, pid) = server(PgVersion::V18, Planted::NONE);
    let backend = fixture.spawn(Role::Backend);
    let set = |fixture: &mut Fixture, xid: u32, delay: bool| {
        let proc = fixture.shmem.procs.get_mut(backend).expect("attached");
        (proc.xid, proc.delay_checkpoint) = (Xid(xid), delay);
    };
    set(&mut fixture, 7, true);
    let mut checkpoint = begin(&mut fixture, pid, true);
    for _ in 0..3 {
        let wait = fixture
            .drive(pid, |cx| checkpoint.poll(cx))
            .expect_err("waits");
        assert_eq!(wait.until, Some(fixture.now.mono.after_ms(10)));
        fixture.pass_ms(10);
    }
    set(&mut fixture, 8, true);
    assert_eq!(fixture.drive(pid, |cx| checkpoint.poll(cx)), Ok(Ok(true)));
}

#[test]
fn the_planted_bug_does_not_wait() {
    let planted = Planted::NONE.with(Bug::CommitCrossesRedoPoint);
    let (mut fixture, pid) = server(PgVersion::V18, planted);
    let backend = fixture.spawn(Role::Backend);
    fixture
        .shmem
        .procs
        .get_mut(backend)
        .expect("attached")
        .delay_checkpoint = true;
    let mut checkpoint = begin(&mut fixture, pid, true);
    let outcome = fixture.drive(pid, |cx| checkpoint.poll(cx));
    assert_eq!(outcome.is_ok(), Planted::AVAILABLE);
}

#[test]
fn the_snapshot_lists_running_transactions() {
    let (mut fixture, _) = server(PgVersion::V15, Planted::NONE);
    for xid in [7, 5] {
        let backend = fixture.spawn(Role::Backend);
        fixture.shmem.procs.get_mut(backend).expect("attached").xid = Xid(xid);
    }
    fixture.shmem.next_xid = Xid(8);
    let pid = fixture.spawn(Role::Checkpointer);
    let running = fixture.step(pid, |cx| running_xacts(cx));
    assert_eq!(running.xids, [Xid(5), Xid(7)]);
    assert_eq!(
        (running.oldest_running_xid, running.latest_completed_xid),
        (Xid(5), Xid(6))
    );
}

/// A shutdown checkpoint is its own redo point. The control file states that the server is shut
/// down.
#[test]
fn a_shutdown_checkpoint_is_its_own_redo_point() {
    for version in PgVersion::ALL {
        let (mut fixture, pid) = server(version, Planted::NONE);
        let kind = CheckpointKind::Shutdown;
        let mut checkpoint = fixture.step(pid, |cx| CreateCheckPoint::new(cx, kind));
        assert_eq!(fixture.drive(pid, |cx| checkpoint.poll(cx)), Ok(Ok(true)));
        let records = fixture.records(FIRST);
        let (at, rmid, info) = records[records.len() - 1];
        assert_eq!((rmid, info), (RmgrId::XLOG, 0x00), "{version:?}");
        let control = &fixture.shmem.control;
        assert_eq!((control.checkpoint, control.checkpoint_copy.redo), (at, at));
        assert_eq!(control.state, DbState::ShutDown);
        assert_eq!(fixture.files["global/pg_control"], control.encode(version));
    }
}

/// WAL written during the shutdown checkpoint causes a PANIC, because the next start would
/// overwrite that WAL.
#[test]
fn wal_that_is_written_during_a_shutdown_is_a_panic() {
    let (mut fixture, pid) = server(PgVersion::V15, Planted::NONE);
    let kind = CheckpointKind::Shutdown;
    let mut checkpoint = fixture.step(pid, |cx| CreateCheckPoint::new(cx, kind));
    let before = fixture.shmem.xlog.redo;
    while fixture.shmem.xlog.redo == before {
        let step = fixture.step(pid, |cx| checkpoint.poll(cx));
        assert!(matches!(step, Poll::Yield(_)));
    }
    let other = fixture.spawn(Role::Backend);
    let mut record = fixture.step(other, |cx| insert(cx, &XlogRecord::NextOid(9)));
    assert!(matches!(
        fixture.drive(other, |cx| record.poll(cx)),
        Ok(Ok(_))
    ));
    let Ok(Err(event)) = fixture.drive(pid, |cx| checkpoint.poll(cx)) else {
        panic!("the checkpoint passed")
    };
    let expected = LogEvent::panic(SqlState::INTERNAL, Message::ConcurrentWal);
    assert_eq!(event, expected);
    assert_eq!(fixture.shmem.control.state, DbState::ShuttingDown);
}
