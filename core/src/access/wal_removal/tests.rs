//! Which segments are removed or recycled, and in which order.

use super::*;
use crate::base::{PgVersion, Pid, Planted};
use crate::call::{DiskError, Severity};
use crate::shmem::{LockId, LockMode, Role};
use crate::sys::testing::bench::{Bench, TINY};
use alloc::string::ToString;
use alloc::vec;

/// A primary with segments 1 to 8, whose WAL ends in segment 8, and its checkpointer.
fn server() -> (Bench, Pid) {
    let mut bench = Bench::new(PgVersion::V15, TINY, Planted::NONE);
    for segment in 1..=8 {
        let path = bench.segment_path(SegmentNo(segment));
        bench
            .files
            .insert(path, vec![u8::try_from(segment).expect("small"); 1024]);
    }
    bench.shmem.recovery.install_segment_active = true;
    bench.shmem.recovery.state = crate::shmem::RecoveryState::Done;
    bench.shmem.settings.min_wal_size = 3 * 1024;
    bench.shmem.settings.max_wal_size = 4 * 1024;
    let pid = bench.attach(Role::Checkpointer);
    (bench, pid)
}

/// Removes everything up to segment `last`. The redo point and the end of WAL are in segment 8.
fn remove(bench: &mut Bench, pid: Pid, last: u64) {
    let at = Lsn(8 * 1024 + 100);
    let mut remove = bench.step(pid, |cx| {
        RemoveOldXlogFiles::new(cx, SegmentNo(last), at, at, TimelineId(1))
    });
    let done = bench.drive(pid, |cx| remove.poll(cx));
    assert_eq!(done, Ok(Ok(())));
    assert!(!bench.shmem.locks.is_held(LockId::ControlFile));
}

/// The segments in pg_wal in order, each with the first byte of the file.
fn left(bench: &Bench) -> Vec<(String, u8)> {
    let wal = bench
        .files
        .iter()
        .filter(|(path, _)| path.starts_with("pg_wal/"));
    wal.map(|(path, bytes)| {
        (
            path.trim_start_matches("pg_wal/0000000100000000000")
                .to_string(),
            bytes[0],
        )
    })
    .collect()
}

fn names(bench: &Bench) -> Vec<String> {
    left(bench).into_iter().map(|(name, _)| name).collect()
}

/// With min_wal_size of three segments, files are recycled as segments up to 10. Their old content
/// stays in them.
#[test]
fn old_segments_are_recycled_or_removed() {
    let (mut bench, pid) = server();
    remove(&mut bench, pid, 5);
    let left = left(&bench);
    let expected = [
        ("00006", 6),
        ("00007", 7),
        ("00008", 8),
        ("00009", 1),
        ("0000A", 2),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, byte)| ((*name).to_string(), *byte))
        .collect();
    assert_eq!(left, expected);
    assert_eq!(bench.shmem.xlog.last_removed, SegmentNo(5));
    assert!(bench.probe.marks().contains(Mark::SegmentRecycled));
}

#[test]
fn recycling_requires_wal_recycle_and_install_segment_active() {
    for (recycle, active, kept) in [(true, false, 3), (false, true, 3), (true, true, 5)] {
        let (mut bench, pid) = server();
        bench.shmem.settings.wal_recycle = recycle;
        bench.shmem.recovery.install_segment_active = active;
        remove(&mut bench, pid, 5);
        assert_eq!(names(&bench).len(), kept, "{recycle} {active}");
    }
}

/// lastRemovedSegNo is advanced first, so that a walsender with the file open notices before its
/// content changes.
#[test]
fn a_removal_is_announced_before_the_file_is_touched() {
    let (mut bench, pid) = server();
    let at = Lsn(8 * 1024 + 100);
    let mut remove = bench.step(pid, |cx| {
        RemoveOldXlogFiles::new(cx, SegmentNo(2), at, at, TimelineId(1))
    });
    let mut seen = 0;
    while let Poll::Yield(_) = bench.step(pid, |cx| remove.poll(cx)) {
        for segment in 1..=2 {
            let there = bench
                .files
                .contains_key(&bench.segment_path(SegmentNo(segment)));
            let announced = bench.shmem.xlog.last_removed >= SegmentNo(segment);
            assert!(there || announced);
            seen += u32::from(there && announced);
        }
    }
    assert!(seen > 2, "each is announced in a step of its own");
}

/// Renames and unlinks are made durable before the next file is handled.
#[test]
fn removals_are_durable() {
    let (mut bench, pid) = server();
    remove(&mut bench, pid, 3);
    let ops: Vec<&str> = bench
        .trace
        .iter()
        .map(|op| op.split(' ').next().expect("a verb"))
        .collect();
    let recycled = [
        "stat", "stat", "stat", "open", "fsync", "close", "rename", "open", "fsync", "close",
        "syncdir",
    ];
    assert_eq!(ops[1..=11], recycled);
    assert_eq!(ops[ops.len() - 2..], ["unlink", "syncdir"]);
}

#[test]
fn candidates_are_segments_of_any_timeline_and_nothing_else() {
    let (mut bench, pid) = server();
    bench.shmem.settings.wal_recycle = false;
    for name in [
        "000000020000000000000002",
        "000000010000000000000002.partial",
        "000000010000000000000003.partial",
        "00000002.history",
        "000000010000000000000001.00000028.backup",
        "xlogtemp.12",
        "archive_status",
    ] {
        bench.files.insert(format!("pg_wal/{name}"), vec![0]);
    }
    remove(&mut bench, pid, 3);
    let kept: Vec<_> = bench
        .files
        .keys()
        .filter_map(|path| path.strip_prefix("pg_wal/"))
        .filter(|name| name.len() != 24)
        .collect();
    assert_eq!(
        kept,
        [
            "000000010000000000000001.00000028.backup",
            // It sorts after its segment.
            "000000010000000000000003.partial",
            "00000002.history",
            "archive_status",
            "xlogtemp.12",
        ]
    );
    assert!(!bench.files.contains_key("pg_wal/000000020000000000000002"));
}

#[test]
fn a_failed_removal_is_logged_and_the_others_continue() {
    let (mut bench, pid) = server();
    bench.shmem.settings.wal_recycle = false;
    bench.failing.insert(
        format!("unlink {}", bench.segment_path(SegmentNo(1))),
        DiskError::Io,
    );
    remove(&mut bench, pid, 3);
    assert_eq!(
        names(&bench),
        ["00001", "00004", "00005", "00006", "00007", "00008"]
    );
    assert_eq!(bench.logs.len(), 1);
    assert_eq!(bench.logs[0].severity, Severity::Log);
}

/// If the rename fails, the file is unlinked.
#[test]
fn a_segment_that_cannot_be_recycled_is_removed() {
    let (mut bench, pid) = server();
    bench.failing.insert(
        format!("rename {}", bench.segment_path(SegmentNo(1))),
        DiskError::Io,
    );
    remove(&mut bench, pid, 2);
    assert_eq!(
        left(&bench)
            .iter()
            .map(|(_, byte)| *byte)
            .collect::<Vec<_>>(),
        [3, 4, 5, 6, 7, 8, 2]
    );
}

/// The startup process clears install_segment_active under the lock that is held while a free name
/// is searched.
#[test]
fn install_segment_active_is_checked_again_under_the_lock() {
    let (mut bench, pid) = server();
    let startup = bench.attach(Role::Startup);
    assert_eq!(
        bench.step(startup, |cx| cx
            .acquire(LockId::ControlFile, LockMode::Exclusive)),
        Poll::Ready(())
    );
    let at = Lsn(8 * 1024 + 100);
    let mut remove = bench.step(pid, |cx| {
        RemoveOldXlogFiles::new(cx, SegmentNo(1), at, at, TimelineId(1))
    });
    let wait = bench
        .drive(pid, |cx| remove.poll(cx))
        .expect_err("waits for the lock");
    assert!(wait.lock);
    bench.step(startup, |cx| {
        cx.shmem.recovery.install_segment_active = false;
        cx.release(LockId::ControlFile);
    });
    assert_eq!(bench.drive(pid, |cx| remove.poll(cx)), Ok(Ok(())));
    assert_eq!(
        names(&bench),
        [
            "00002", "00003", "00004", "00005", "00006", "00007", "00008"
        ]
    );
}

#[test]
fn the_next_segment_is_made_in_the_last_quarter() {
    for (end, made) in [
        (8 * 1024 + 767, false),
        (8 * 1024 + 768, false),
        (8 * 1024 + 769, true),
        (9 * 1024, true),
        (9 * 1024 + 40, false),
    ] {
        for active in [true, false] {
            let (mut bench, pid) = server();
            bench.shmem.recovery.install_segment_active = active;
            let mut make = bench.step(pid, |cx| {
                PreallocXlogFiles::new(cx, Lsn(end), TimelineId(1))
            });
            assert_eq!(bench.drive(pid, |cx| make.poll(cx)), Ok(Ok(())));
            let there = bench.files.contains_key(&bench.segment_path(SegmentNo(9)));
            assert_eq!(there, made && active, "{end}");
            assert!(!bench.files.keys().any(|path| path.contains("xlogtemp")));
        }
    }
}

/// A process that finds its segment already created keeps its own file as a later segment.
#[test]
fn a_segment_made_twice_becomes_a_later_one() {
    let (mut bench, pid) = server();
    let mut make = bench.step(pid, |cx| {
        PreallocXlogFiles::new(cx, Lsn(9 * 1024), TimelineId(1))
    });
    while !bench.files.keys().any(|path| path.contains("xlogtemp")) {
        assert!(matches!(
            bench.step(pid, |cx| make.poll(cx)),
            Poll::Yield(_)
        ));
    }
    let path = bench.segment_path(SegmentNo(9));
    bench.files.insert(path, vec![9; 1024]);
    assert_eq!(bench.drive(pid, |cx| make.poll(cx)), Ok(Ok(())));
    let left = left(&bench);
    assert_eq!(
        left[left.len() - 2..],
        [("00009".to_string(), 9), ("0000A".to_string(), 0)]
    );
}
