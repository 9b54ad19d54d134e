//! Tests of which segments are removed or recycled, and in which order.

use super::*;
use crate::base::{PgVersion, Pid, Planted};
use crate::call::{DiskError, Severity};
use crate::shmem::{LockId, LockMode, Role};
use crate::sys::testing::Fixture;
use alloc::string::ToString;
use alloc::vec;

/// A primary with segments 1 to 8, whose WAL ends in segment 8, and its checkpointer.
fn server() -> (Fixture, Pid) {
    let mut fixture = Fixture::new(PgVersion::V15, Planted::NONE);
    for segment in 1..=8 {
        let path = fixture.segment_path(SegmentNo(segment));
        fixture
            .files
            .insert(path, vec![u8::try_from(segment).expect("small"); 1024]);
    }
    fixture.shmem.recovery.install_segment_active = true;
    fixture.shmem.recovery.state = crate::shmem::RecoveryState::Done;
    fixture.shmem.settings.min_wal_size = 3 * 1024;
    fixture.shmem.settings.max_wal_size = 4 * 1024;
    let pid = fixture.spawn(Role::Checkpointer);
    (fixture, pid)
}

/// Removes all segments up to `last`. The redo point and the end of WAL are in segment 8.
fn remove(fixture: &mut Fixture, pid: Pid, last: u64) {
    let at = Lsn(8 * 1024 + 100);
    let mut remove = fixture.step(pid, |cx| {
        RemoveOldXlogFiles::new(cx, SegmentNo(last), at, at, TimelineId(1))
    });
    let done = fixture.drive(pid, |cx| remove.poll(cx));
    assert_eq!(done, Ok(Ok(())));
    assert!(!fixture.shmem.locks.is_held(LockId::ControlFile));
}

/// The segments in pg_wal in order, each with the first byte of the file.
fn left(fixture: &Fixture) -> Vec<(String, u8)> {
    let wal = fixture
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

fn names(fixture: &Fixture) -> Vec<String> {
    left(fixture).into_iter().map(|(name, _)| name).collect()
}

/// With a min_wal_size of three segments, old files are recycled as segments up to 10. The recycled
/// files keep their old content.
#[test]
fn old_segments_are_recycled_or_removed() {
    let (mut fixture, pid) = server();
    remove(&mut fixture, pid, 5);
    let left = left(&fixture);
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
    assert_eq!(fixture.shmem.xlog.last_removed, SegmentNo(5));
    assert!(fixture.probe.marks().contains(Mark::SegmentRecycled));
}

#[test]
fn recycling_requires_wal_recycle_and_install_segment_active() {
    for (recycle, active, kept) in [(true, false, 3), (false, true, 3), (true, true, 5)] {
        let (mut fixture, pid) = server();
        fixture.shmem.settings.wal_recycle = recycle;
        fixture.shmem.recovery.install_segment_active = active;
        remove(&mut fixture, pid, 5);
        assert_eq!(names(&fixture).len(), kept, "{recycle} {active}");
    }
}

/// lastRemovedSegNo is advanced before the file is changed. A walsender that has the file open can
/// therefore detect the removal.
#[test]
fn a_removal_is_announced_before_the_file_is_touched() {
    let (mut fixture, pid) = server();
    let at = Lsn(8 * 1024 + 100);
    let mut remove = fixture.step(pid, |cx| {
        RemoveOldXlogFiles::new(cx, SegmentNo(2), at, at, TimelineId(1))
    });
    let mut seen = 0;
    while let Poll::Yield(_) = fixture.step(pid, |cx| remove.poll(cx)) {
        for segment in 1..=2 {
            let there = fixture
                .files
                .contains_key(&fixture.segment_path(SegmentNo(segment)));
            let announced = fixture.shmem.xlog.last_removed >= SegmentNo(segment);
            assert!(there || announced);
            seen += u32::from(there && announced);
        }
    }
    assert!(seen > 2, "each is announced in a step of its own");
}

/// Each rename or unlink is made durable before the next file is handled.
#[test]
fn removals_are_durable() {
    let (mut fixture, pid) = server();
    remove(&mut fixture, pid, 3);
    let ops: Vec<&str> = fixture
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
    let (mut fixture, pid) = server();
    fixture.shmem.settings.wal_recycle = false;
    for name in [
        "000000020000000000000002",
        "000000010000000000000002.partial",
        "000000010000000000000003.partial",
        "00000002.history",
        "000000010000000000000001.00000028.backup",
        "xlogtemp.12",
        "archive_status",
    ] {
        fixture.files.insert(format!("pg_wal/{name}"), vec![0]);
    }
    remove(&mut fixture, pid, 3);
    let kept: Vec<_> = fixture
        .files
        .keys()
        .filter_map(|path| path.strip_prefix("pg_wal/"))
        .filter(|name| name.len() != 24)
        .collect();
    assert_eq!(
        kept,
        [
            "000000010000000000000001.00000028.backup",
            // The partial file sorts after the complete segment of the same number.
            "000000010000000000000003.partial",
            "00000002.history",
            "archive_status",
            "xlogtemp.12",
        ]
    );
    assert!(
        !fixture
            .files
            .contains_key("pg_wal/000000020000000000000002")
    );
}

#[test]
fn a_failed_removal_is_logged_and_the_others_continue() {
    let (mut fixture, pid) = server();
    fixture.shmem.settings.wal_recycle = false;
    fixture.failing.insert(
        format!("unlink {}", fixture.segment_path(SegmentNo(1))),
        DiskError::Io,
    );
    remove(&mut fixture, pid, 3);
    assert_eq!(
        names(&fixture),
        ["00001", "00004", "00005", "00006", "00007", "00008"]
    );
    assert_eq!(fixture.logs.len(), 1);
    assert_eq!(fixture.logs[0].severity, Severity::Log);
}

/// If the rename fails, the file is unlinked.
#[test]
fn a_segment_that_cannot_be_recycled_is_removed() {
    let (mut fixture, pid) = server();
    fixture.failing.insert(
        format!("rename {}", fixture.segment_path(SegmentNo(1))),
        DiskError::Io,
    );
    remove(&mut fixture, pid, 2);
    assert_eq!(
        left(&fixture)
            .iter()
            .map(|(_, byte)| *byte)
            .collect::<Vec<_>>(),
        [3, 4, 5, 6, 7, 8, 2]
    );
}

/// The startup process clears install_segment_active under a lock. The process that searches for a
/// free name holds the same lock.
#[test]
fn install_segment_active_is_checked_again_under_the_lock() {
    let (mut fixture, pid) = server();
    let startup = fixture.spawn(Role::Startup);
    assert_eq!(
        fixture.step(startup, |cx| cx
            .acquire(LockId::ControlFile, LockMode::Exclusive)),
        Poll::Ready(())
    );
    let at = Lsn(8 * 1024 + 100);
    let mut remove = fixture.step(pid, |cx| {
        RemoveOldXlogFiles::new(cx, SegmentNo(1), at, at, TimelineId(1))
    });
    let wait = fixture
        .drive(pid, |cx| remove.poll(cx))
        .expect_err("waits for the lock");
    assert!(wait.lock);
    fixture.step(startup, |cx| {
        cx.shmem.recovery.install_segment_active = false;
        cx.release(LockId::ControlFile);
    });
    assert_eq!(fixture.drive(pid, |cx| remove.poll(cx)), Ok(Ok(())));
    assert_eq!(
        names(&fixture),
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
            let (mut fixture, pid) = server();
            fixture.shmem.recovery.install_segment_active = active;
            let mut make = fixture.step(pid, |cx| {
                PreallocXlogFiles::new(cx, Lsn(end), TimelineId(1))
            });
            assert_eq!(fixture.drive(pid, |cx| make.poll(cx)), Ok(Ok(())));
            let there = fixture
                .files
                .contains_key(&fixture.segment_path(SegmentNo(9)));
            assert_eq!(there, made && active, "{end}");
            assert!(!fixture.files.keys().any(|path| path.contains("xlogtemp")));
        }
    }
}

/// If another process has already created the segment, this process keeps its own file as a later
/// segment.
#[test]
fn a_segment_made_twice_becomes_a_later_one() {
    let (mut fixture, pid) = server();
    let mut make = fixture.step(pid, |cx| {
        PreallocXlogFiles::new(cx, Lsn(9 * 1024), TimelineId(1))
    });
    while !fixture.files.keys().any(|path| path.contains("xlogtemp")) {
        assert!(matches!(
            fixture.step(pid, |cx| make.poll(cx)),
            Poll::Yield(_)
        ));
    }
    let path = fixture.segment_path(SegmentNo(9));
    fixture.files.insert(path, vec![9; 1024]);
    assert_eq!(fixture.drive(pid, |cx| make.poll(cx)), Ok(Ok(())));
    let left = left(&fixture);
    assert_eq!(
        left[left.len() - 2..],
        [("00009".to_string(), 9), ("0000A".to_string(), 0)]
    );
}

/// If a new segment cannot be filled, its file is removed, so that it takes no space.
#[test]
fn a_segment_that_cannot_be_filled_is_removed() {
    let (mut fixture, pid) = server();
    let zeros = format!("zeros pg_wal/xlogtemp.{}", pid.n);
    fixture.failing.insert(zeros, DiskError::NoSpace);
    let mut make = fixture.step(pid, |cx| {
        PreallocXlogFiles::new(cx, Lsn(9 * 1024), TimelineId(1))
    });
    let error = fixture.drive(pid, |cx| make.poll(cx));
    let Ok(Err(LogEvent { message, .. })) = error else {
        panic!("{error:?}")
    };
    assert!(
        message
            .to_string()
            .starts_with("could not write to file \"pg_wal/xlogtemp.")
    );
    assert!(!fixture.files.keys().any(|path| path.contains("xlogtemp")));
}
