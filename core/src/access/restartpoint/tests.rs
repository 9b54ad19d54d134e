//! Tests of restartpoints: when they are made, what they make durable, and which WAL they keep.

use super::*;
use crate::base::{Geometry, PgVersion, Pid, Planted, SegmentNo, TimelineId};
use crate::shmem::{BufTag, RecoveryState, Role};
use crate::sys::testing::Fixture;
use alloc::string::String;
use alloc::vec;

const REDO: Lsn = Lsn(6 * 1024 + 60);
const AT: Lsn = Lsn(6 * 1024 + 100);
const END: Lsn = Lsn(6 * 1024 + 220);

/// A standby that has replayed a checkpoint record in segment 6 and has then replayed up to segment
/// 7.
fn standby() -> (Fixture, Pid) {
    let mut fixture = Fixture::new(PgVersion::V18, Planted::NONE);
    for segment in 1..=7 {
        let path = fixture.segment_path(SegmentNo(segment));
        fixture.files.insert(path, vec![0; 1024]);
    }
    let shmem = &mut fixture.shmem;
    shmem.settings.min_wal_size = 3 * 1024;
    shmem.recovery.state = RecoveryState::Archive;
    shmem.recovery.install_segment_active = true;
    shmem.recovery.last_replayed_end = Lsn(7 * 1024 + 100);
    shmem.recovery.last_replayed_tli = TimelineId(1);
    shmem.recovery.replay_end = Lsn(7 * 1024 + 100);
    shmem.recovery.replay_end_tli = TimelineId(1);
    shmem.control.state = DbState::InArchiveRecovery;
    shmem.control.min_recovery_point = shmem.control.checkpoint;
    let pid = fixture.spawn(Role::Checkpointer);
    let startup = fixture.spawn(Role::Startup);
    replay_checkpoint(&mut fixture, startup);
    (fixture, pid)
}

fn replay_checkpoint(fixture: &mut Fixture, startup: Pid) {
    let mut checkpoint = fixture.shmem.control.checkpoint_copy;
    checkpoint.redo = REDO;
    fixture.step(startup, |cx| {
        recovery_restart_point(cx, AT, END, checkpoint)
    });
}

fn run(fixture: &mut Fixture, pid: Pid, shutdown: bool) -> bool {
    let mut restartpoint = CreateRestartPoint::new(shutdown);
    let done = fixture.drive(pid, |cx| restartpoint.poll(cx));
    done.expect("waits for nobody").expect("the disk works")
}

fn segments(fixture: &Fixture) -> String {
    let names = fixture
        .files
        .keys()
        .filter_map(|path| path.strip_prefix("pg_wal/"));
    names.map(|name| &name[23..]).collect()
}

/// The control file is written after all other data is durable, and before the first segment is
/// removed.
#[test]
fn a_restart_begins_at_the_last_restartpoint() {
    let (mut fixture, pid) = standby();
    assert!(run(&mut fixture, pid, false));
    let control = &fixture.shmem.control;
    assert_eq!(
        (control.checkpoint, control.checkpoint_copy.redo),
        (AT, REDO)
    );
    assert_eq!(
        (control.state, control.min_recovery_point),
        (DbState::InArchiveRecovery, END)
    );
    assert_eq!(
        fixture.files["global/pg_control"],
        control.encode(PgVersion::V18)
    );
    assert_eq!(fixture.shmem.xlog.redo, REDO);
    // Five old segments were recycled. The recycled segments will hold the WAL up to the next
    // restartpoint.
    assert_eq!(segments(&fixture), "6789ABC");
    let of = |text: &str| {
        fixture
            .trace
            .iter()
            .position(|op| op.starts_with(text))
            .expect("done")
    };
    assert!(of("fsync global/pg_control") < of("rename"));
    assert_eq!(fixture.shmem.xlog.last_removed, SegmentNo(5));
}

/// If the minimum recovery point is beyond the end of the checkpoint record, it is not changed.
#[test]
fn the_minimum_recovery_point_stays_if_it_is_higher() {
    let (mut fixture, pid) = standby();
    fixture.shmem.control.min_recovery_point = Lsn(7 * 1024 + 90);
    assert!(run(&mut fixture, pid, false));
    assert_eq!(fixture.shmem.control.min_recovery_point, Lsn(7 * 1024 + 90));
}

/// wal_keep_size is measured back from the end of the received WAL, even if that WAL is not yet
/// replayed.
#[test]
fn wal_keep_size_counts_from_the_end_of_received_wal() {
    for (keep, received, expected) in [
        (2 * 1024, 0, "5678"),
        (2 * 1024, 8 * 1024 + 9, "678"),
        (5 * 1024, 8 * 1024 + 9, "34567"),
    ] {
        let (mut fixture, pid) = standby();
        fixture.shmem.settings.wal_keep_size = keep;
        fixture.shmem.walrcv.flushed_upto = Lsn(received);
        assert!(run(&mut fixture, pid, false));
        let left = segments(&fixture);
        assert!(left.starts_with(expected), "{keep} {received}: {left}");
    }
}

/// While no walreceiver is streaming, no segment is recycled. The startup process might otherwise
/// read the recycled file as the next WAL.
#[test]
fn segments_are_not_recycled_while_not_streaming() {
    let (mut fixture, pid) = standby();
    fixture.shmem.recovery.install_segment_active = false;
    fixture.shmem.recovery.last_replayed_end = Lsn(8 * 1024);
    assert!(run(&mut fixture, pid, false));
    assert_eq!(segments(&fixture), "67");
}

#[test]
fn a_second_restartpoint_at_the_same_record_is_skipped() {
    for (shutdown, state) in [
        (false, DbState::InArchiveRecovery),
        (true, DbState::ShutDownInRecovery),
    ] {
        let (mut fixture, pid) = standby();
        assert!(run(&mut fixture, pid, false));
        fixture.shmem.recovery.replay_end = Lsn(7 * 1024 + 500);
        assert!(!run(&mut fixture, pid, shutdown));
        let control = &fixture.shmem.control;
        assert_eq!((control.checkpoint, control.state), (AT, state));
        assert_eq!(
            control.min_recovery_point,
            Lsn(7 * 1024 + 500),
            "readers do not see an earlier state"
        );
        assert_eq!(
            fixture.files["global/pg_control"],
            control.encode(PgVersion::V18)
        );
    }
}

#[test]
fn the_shutdown_restartpoint_sets_the_state() {
    let (mut fixture, pid) = standby();
    assert!(run(&mut fixture, pid, true));
    assert_eq!(fixture.shmem.control.state, DbState::ShutDownInRecovery);
}

#[test]
fn invalid_pages_prevent_a_restartpoint() {
    let (mut fixture, pid) = standby();
    fixture.shmem.xlog.last_checkpoint = None;
    let tag = BufTag { rel: 1, block: 0 };
    fixture.shmem.recovery.invalid_pages.insert(tag);
    let startup = fixture.spawn(Role::Startup);
    replay_checkpoint(&mut fixture, startup);
    assert!(!run(&mut fixture, pid, false));
    fixture.shmem.recovery.invalid_pages.clear();
    replay_checkpoint(&mut fixture, startup);
    assert!(run(&mut fixture, pid, false));
}

/// If recovery ends during the restartpoint, the control file keeps the newer checkpoint. The newer
/// checkpoint determines which WAL is kept.
#[test]
fn recovery_ends_during_the_restartpoint() {
    let (mut fixture, pid) = standby();
    let mut restartpoint = CreateRestartPoint::new(false);
    while !fixture.trace.iter().any(|op| op.contains("pg_xact")) && fixture.shmem.xlog.redo != REDO
    {
        assert!(matches!(
            fixture.step(pid, |cx| restartpoint.poll(cx)),
            Poll::Yield(_)
        ));
    }
    fixture.shmem.control.checkpoint_copy.redo = Lsn(7 * 1024 + 300);
    fixture.shmem.control.state = DbState::InProduction;
    fixture.shmem.recovery.state = RecoveryState::Done;
    fixture.shmem.xlog.insert_tli = TimelineId(1);
    let before = fixture.shmem.control.clone();
    assert_eq!(fixture.drive(pid, |cx| restartpoint.poll(cx)), Ok(Ok(true)));
    assert_eq!(fixture.shmem.control, before);
    assert_eq!(segments(&fixture), "678");
}

/// After a crash at any point, recovery can start from the control file. The segment of its redo
/// point still exists.
#[test]
fn a_crash_at_any_point_leaves_the_wal_for_recovery() {
    let (mut fixture, pid) = standby();
    let mut restartpoint = CreateRestartPoint::new(false);
    let mut steps = 0;
    while let Poll::Yield(_) = fixture.step(pid, |cx| restartpoint.poll(cx)) {
        steps += 1;
        let on_disk = crate::wire::control_file::ControlFile::decode(
            PgVersion::V18,
            &fixture.files["global/pg_control"],
        );
        let redo = on_disk.map_or(Lsn(1024), |control| control.checkpoint_copy.redo);
        for segment in Geometry::SMALLEST.segment_of(redo).0..=7 {
            let path = fixture.segment_path(SegmentNo(segment));
            assert!(fixture.files.contains_key(&path), "step {steps}: {path}");
        }
    }
    assert!(steps > 20);
}
