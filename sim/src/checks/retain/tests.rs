//! Tests which WAL a checkpoint must remove, which slots it must save, and which values it could
//! have read.

use super::*;
use crate::disk::Content;
use crate::referee::testing::{GEOMETRY, NodeFixture, SITE, builder, message, shmem as memory};
use crate::referee::{Least, Window};
use walsim_core::base::{Lsn, Pid, SegmentNo};
use walsim_core::call::{DiskError, FilePath, Message};
use walsim_core::shmem::{Shmem, Slot};
use walsim_core::wire::control_file::ControlFile;
use walsim_core::wire::slot_file::SlotFile;

const NAME: &str = "s";

fn at(segment: u64) -> Lsn {
    Lsn(segment * 1024 + 40)
}

fn slot(restart_lsn: Lsn) -> Slot {
    Slot {
        in_use: true,
        name: NAME.into(),
        restart_lsn,
        ..Slot::default()
    }
}

/// Shared memory with one slot.
fn shmem(version: PgVersion, restart_lsn: Lsn) -> Shmem {
    let mut shmem = memory();
    shmem.settings.pg_version = version;
    shmem.slots.slots[0] = slot(restart_lsn);
    shmem
}

fn control(version: PgVersion) -> ControlFile {
    let mut control = ControlFile::fresh(version, &GEOMETRY, 1, last_record().1);
    control.checkpoint_copy.redo = at(6);
    control
}

/// WAL that ends in segment 8, and the start of its last record.
fn last_record() -> (Vec<u8>, Lsn) {
    let mut wal = builder();
    let mut record = wal.append(&message(3, 100));
    while record.end < GEOMETRY.segment_start(SegmentNo(8)) {
        record = wal.append(&message(3, 100));
    }
    (wal.bytes().to_vec(), record.start)
}

/// A disk with segments 1 to 8 and a slot's state file. The checkpoint record is in segment 8, and
/// its redo point is in segment 6.
fn disk(version: PgVersion, saved: Lsn) -> Disk {
    let mut disk = NodeFixture::new(&last_record().0).disk;
    let file = SlotFile {
        name: NAME.into(),
        restart_lsn: saved,
        ..SlotFile::default()
    };
    let state = Content::new(&file.encode(version));
    disk.set_up_file("pg_replslot/s/state", state);
    disk
}

fn ground<'a>(disk: &'a Disk, control: &'a ControlFile, version: PgVersion) -> Ground<'a> {
    Ground {
        site: SITE,
        disk,
        control: Some(control),
        version,
        geometry: &GEOMETRY,
    }
}

fn ended(window: &Window, restartpoint: Option<Lsn>) -> CheckpointEnd {
    let window = window.clone();
    CheckpointEnd {
        restartpoint,
        window,
    }
}

/// The first file that the checkpoint should have removed.
fn left(window: &Window, disk: &Disk, restartpoint: Option<Lsn>) -> Option<String> {
    let (version, control) = (PgVersion::V15, control(PgVersion::V15));
    let outcome = removed(
        &ended(window, restartpoint),
        ground(disk, &control, version),
    );
    outcome.err().map(|violation| {
        assert_eq!(violation.code, ABOUT.code);
        violation.facts[0].value.to_string()[23..].to_owned()
    })
}

fn remove(disk: &mut Disk, segments: std::ops::RangeInclusive<u64>) {
    for segment in segments {
        let path = format!("pg_wal/0000000100000000{segment:08X}");
        let path = FilePath::from(path.as_str());
        let choices = crate::choice::Choices::new(0);
        let op = walsim_core::call::DiskOp::Unlink(path);
        disk.call(Pid::postmaster(1), &op, &choices)
            .expect("it was there");
    }
}

#[test]
fn segments_that_nobody_needs_must_go() {
    let mut disk = disk(PgVersion::V15, at(3));
    let holding = |lsn| Window::new(&memory(), Least(lsn));
    assert_eq!(left(&holding(None), &disk, None), Some("00000001".into()));
    remove(&mut disk, 1..=2);
    assert_eq!(
        left(&holding(Some(at(3))), &disk, None),
        None,
        "a slot requires it"
    );
    assert_eq!(
        left(&holding(Some(at(4))), &disk, None),
        Some("00000003".into())
    );
    remove(&mut disk, 3..=5);
    assert_eq!(left(&holding(None), &disk, None), None, "recovery needs it");
}

#[test]
fn what_could_not_be_removed_is_no_fault_of_the_checkpoint() {
    let mut disk = disk(PgVersion::V15, at(3));
    remove(&mut disk, 2..=5);
    let mut window = Window::new(&memory(), Least(None));
    assert_eq!(left(&window, &disk, None), Some("00000001".into()));
    window.heard(&Message::File {
        what: "remove",
        path: "pg_wal/000000010000000000000001".into(),
        error: DiskError::Io,
    });
    assert_eq!(left(&window, &disk, None), None);
}

/// A checkpoint removes only files that existed when it read the directory.
#[test]
fn what_came_after_the_directory_was_read_stays_until_the_next_checkpoint() {
    let mut disk = disk(PgVersion::V15, at(3));
    remove(&mut disk, 2..=5);
    let mut window = Window::new(&memory(), Least(None));
    let name = "000000010000000000000001";
    window.listed();
    window.installed.push(name.into());
    assert_eq!(left(&window, &disk, None), None);
    window.listed();
    assert_eq!(left(&window, &disk, None), Some("00000001".into()));
}

/// During recovery, a restartpoint measures `wal_keep_size` back from the end of WAL. After
/// recovery, it measures back from its own redo point.
#[test]
fn a_restartpoint_goes_by_what_was_received() {
    let mut disk = disk(PgVersion::V15, at(3));
    remove(&mut disk, 1..=4);
    let mut shmem = memory();
    shmem.walrcv.flushed_upto = at(8);
    shmem.settings.wal_keep_size = 3 * 1024;
    let mut window = Window::new(&shmem, Least(None));
    assert_eq!(left(&window, &disk, Some(at(6))), None);
    window.end = at(9);
    assert_eq!(left(&window, &disk, Some(at(6))), Some("00000005".into()));
    assert_eq!(left(&window, &disk, Some(at(5))), None);
}

#[test]
fn every_slot_must_have_come_to_disk() {
    for version in PgVersion::ALL {
        let disk = disk(version, at(3));
        let control = control(version);
        let judge = |window: Window| saved(&ended(&window, None), ground(&disk, &control, version));
        let window = |lsn| Window::new(&shmem(version, lsn), Least(None));
        judge(window(at(3))).expect("it is where it was");
        let violation = judge(window(at(4))).expect_err("it bites");
        assert_eq!(
            (violation.code, &violation.facts[0].value),
            (ABOUT.code, &Value::slot(NAME))
        );

        let mut failed = window(at(4));
        let message = |error| Message::File {
            what: "write to",
            path: "pg_replslot/s/state.tmp".into(),
            error,
        };
        failed.heard(&message(DiskError::Exists));
        assert!(judge(failed.clone()).is_err(), "its file already exists");
        failed.heard(&message(DiskError::NoSpace));
        assert_eq!(judge(failed), Ok(()), "exempt");
    }
}
