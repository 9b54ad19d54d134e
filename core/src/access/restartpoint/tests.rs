//! Restartpoints: when they are made, what they make durable, and which WAL they keep.

use super::*;
use crate::base::{PgVersion, Pid, Planted, SegmentNo, TimelineId};
use crate::shmem::{BufTag, RecoveryState, Role};
use crate::sys::testing::bench::{Bench, TINY};
use alloc::string::String;
use alloc::vec;

const REDO: Lsn = Lsn(6 * 1024 + 60);
const AT: Lsn = Lsn(6 * 1024 + 100);
const END: Lsn = Lsn(6 * 1024 + 220);

/// A standby that has replayed a checkpoint record in segment 6 and continues in segment 7.
fn standby() -> (Bench, Pid) {
    let mut bench = Bench::new(PgVersion::V18, TINY, Planted::NONE);
    for segment in 1..=7 {
        let path = bench.segment_path(SegmentNo(segment));
        bench.files.insert(path, vec![0; 1024]);
    }
    let shmem = &mut bench.shmem;
    shmem.settings.min_wal_size = 3 * 1024;
    shmem.recovery.state = RecoveryState::Archive;
    shmem.recovery.install_segment_active = true;
    shmem.recovery.last_replayed_end = Lsn(7 * 1024 + 100);
    shmem.recovery.last_replayed_tli = TimelineId(1);
    shmem.recovery.replay_end = Lsn(7 * 1024 + 100);
    shmem.recovery.replay_end_tli = TimelineId(1);
    shmem.control.state = DbState::InArchiveRecovery;
    shmem.control.min_recovery_point = shmem.control.checkpoint;
    let pid = bench.attach(Role::Checkpointer);
    let startup = bench.attach(Role::Startup);
    replay_checkpoint(&mut bench, startup);
    (bench, pid)
}

fn replay_checkpoint(bench: &mut Bench, startup: Pid) {
    let mut checkpoint = bench.shmem.control.checkpoint_copy;
    checkpoint.redo = REDO;
    bench.step(startup, |cx| {
        recovery_restart_point(cx, AT, END, checkpoint)
    });
}

fn run(bench: &mut Bench, pid: Pid, shutdown: bool) -> bool {
    let mut restartpoint = CreateRestartPoint::new(shutdown);
    let done = bench.drive(pid, |cx| restartpoint.poll(cx));
    done.expect("waits for nobody").expect("the disk works")
}

fn segments(bench: &Bench) -> String {
    let names = bench
        .files
        .keys()
        .filter_map(|path| path.strip_prefix("pg_wal/"));
    names.map(|name| &name[23..]).collect()
}

/// The control file is written before the first segment is removed, and after everything else is
/// durable.
#[test]
fn a_restart_begins_at_the_last_restartpoint() {
    let (mut bench, pid) = standby();
    assert!(run(&mut bench, pid, false));
    let control = &bench.shmem.control;
    assert_eq!(
        (control.checkpoint, control.checkpoint_copy.redo),
        (AT, REDO)
    );
    assert_eq!(
        (control.state, control.min_recovery_point),
        (DbState::InArchiveRecovery, END)
    );
    assert_eq!(
        bench.files["global/pg_control"],
        control.encode(PgVersion::V18)
    );
    assert_eq!(bench.shmem.xlog.redo, REDO);
    // Five old segments were recycled for the WAL up to the next restartpoint.
    assert_eq!(segments(&bench), "6789ABC");
    let of = |text: &str| {
        bench
            .trace
            .iter()
            .position(|op| op.starts_with(text))
            .expect("done")
    };
    assert!(of("fsync global/pg_control") < of("rename"));
    assert_eq!(bench.shmem.xlog.last_removed, SegmentNo(5));
}

/// The minimum recovery point is not set back to the end of the checkpoint record.
#[test]
fn the_minimum_recovery_point_stays_if_it_is_higher() {
    let (mut bench, pid) = standby();
    bench.shmem.control.min_recovery_point = Lsn(7 * 1024 + 90);
    assert!(run(&mut bench, pid, false));
    assert_eq!(bench.shmem.control.min_recovery_point, Lsn(7 * 1024 + 90));
}

/// wal_keep_size is counted from the end of the received WAL, even if it is not yet replayed.
#[test]
fn wal_keep_size_counts_from_the_end_of_received_wal() {
    for (keep, received, expected) in [
        (2 * 1024, 0, "5678"),
        (2 * 1024, 8 * 1024 + 9, "678"),
        (5 * 1024, 8 * 1024 + 9, "34567"),
    ] {
        let (mut bench, pid) = standby();
        bench.shmem.settings.wal_keep_size = keep;
        bench.shmem.walrcv.flushed_upto = Lsn(received);
        assert!(run(&mut bench, pid, false));
        let left = segments(&bench);
        assert!(left.starts_with(expected), "{keep} {received}: {left}");
    }
}

/// While no walreceiver is streaming, no segment is recycled, because the startup process may read
/// its name.
#[test]
fn segments_are_not_recycled_while_not_streaming() {
    let (mut bench, pid) = standby();
    bench.shmem.recovery.install_segment_active = false;
    bench.shmem.recovery.last_replayed_end = Lsn(8 * 1024);
    assert!(run(&mut bench, pid, false));
    assert_eq!(segments(&bench), "67");
}

#[test]
fn a_second_restartpoint_at_the_same_record_is_skipped() {
    for (shutdown, state) in [
        (false, DbState::InArchiveRecovery),
        (true, DbState::ShutDownInRecovery),
    ] {
        let (mut bench, pid) = standby();
        assert!(run(&mut bench, pid, false));
        bench.shmem.recovery.replay_end = Lsn(7 * 1024 + 500);
        assert!(!run(&mut bench, pid, shutdown));
        let control = &bench.shmem.control;
        assert_eq!((control.checkpoint, control.state), (AT, state));
        assert_eq!(
            control.min_recovery_point,
            Lsn(7 * 1024 + 500),
            "readers do not see an earlier state"
        );
        assert_eq!(
            bench.files["global/pg_control"],
            control.encode(PgVersion::V18)
        );
    }
}

#[test]
fn the_shutdown_restartpoint_sets_the_state() {
    let (mut bench, pid) = standby();
    assert!(run(&mut bench, pid, true));
    assert_eq!(bench.shmem.control.state, DbState::ShutDownInRecovery);
}

#[test]
fn invalid_pages_prevent_a_restartpoint() {
    let (mut bench, pid) = standby();
    bench.shmem.xlog.last_checkpoint = None;
    let tag = BufTag { rel: 1, block: 0 };
    bench.shmem.recovery.invalid_pages.insert(tag);
    let startup = bench.attach(Role::Startup);
    replay_checkpoint(&mut bench, startup);
    assert!(!run(&mut bench, pid, false));
    bench.shmem.recovery.invalid_pages.clear();
    replay_checkpoint(&mut bench, startup);
    assert!(run(&mut bench, pid, false));
}

/// Recovery ends during the restartpoint. The control file keeps its newer checkpoint, which
/// determines the WAL to keep.
#[test]
fn recovery_ends_during_the_restartpoint() {
    let (mut bench, pid) = standby();
    let mut restartpoint = CreateRestartPoint::new(false);
    while !bench.trace.iter().any(|op| op.contains("pg_xact")) && bench.shmem.xlog.redo != REDO {
        assert!(matches!(
            bench.step(pid, |cx| restartpoint.poll(cx)),
            Poll::Yield(_)
        ));
    }
    bench.shmem.control.checkpoint_copy.redo = Lsn(7 * 1024 + 300);
    bench.shmem.control.state = DbState::InProduction;
    bench.shmem.recovery.state = RecoveryState::Done;
    bench.shmem.xlog.insert_tli = TimelineId(1);
    let before = bench.shmem.control.clone();
    assert_eq!(bench.drive(pid, |cx| restartpoint.poll(cx)), Ok(Ok(true)));
    assert_eq!(bench.shmem.control, before);
    assert_eq!(segments(&bench), "678");
}

/// After a crash at any point, recovery can start from the control file: the segment of its redo
/// point exists.
#[test]
fn a_crash_at_any_point_leaves_the_wal_for_recovery() {
    let (mut bench, pid) = standby();
    let mut restartpoint = CreateRestartPoint::new(false);
    let mut steps = 0;
    while let Poll::Yield(_) = bench.step(pid, |cx| restartpoint.poll(cx)) {
        steps += 1;
        let on_disk = crate::wire::control_file::ControlFile::decode(
            PgVersion::V18,
            &bench.files["global/pg_control"],
        );
        let redo = on_disk.map_or(Lsn(1024), |control| control.checkpoint_copy.redo);
        for segment in TINY.segment_of(redo).0..=7 {
            let path = bench.segment_path(SegmentNo(segment));
            assert!(bench.files.contains_key(&path), "step {steps}: {path}");
        }
    }
    assert!(steps > 20);
}
