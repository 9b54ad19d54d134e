//! What a checkpoint must have let go of, what it must have saved, and what it may have seen.

use super::super::testing::{Bench, SITE, TINY, builder, message, shmem as memory};
use super::*;
use crate::disk::Content;
use walsim_core::base::SegmentNo;
use walsim_core::call::FilePath;
use walsim_core::shmem::{Invalidation, Slot};
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

/// Segments 1 to 8, a checkpoint in the last one whose redo point lies in segment 6, and a slot's file.
fn disk(version: PgVersion, saved: Lsn) -> Disk {
    let mut wal = builder();
    let mut record = wal.append(&message(3, 100));
    while record.end < TINY.segment_start(SegmentNo(8)) {
        record = wal.append(&message(3, 100));
    }
    let mut disk = Bench::new(wal.bytes()).disk;
    let mut control = ControlFile::fresh(version, &TINY, 1, record.start);
    control.checkpoint_copy.redo = at(6);
    disk.set_up_file(control_file::PATH, Content::new(&control.encode(version)));
    let file = SlotFile {
        name: NAME.into(),
        restart_lsn: saved,
        ..SlotFile::default()
    };
    let state = Content::new(&file.encode(version));
    disk.set_up_file("pg_replslot/s/state", state);
    disk
}

fn ground(disk: &Disk, version: PgVersion) -> Ground<'_> {
    Ground {
        site: SITE,
        disk,
        version,
        geometry: TINY,
    }
}

/// The first file that should have gone.
fn left(window: &Window, disk: &Disk, restartpoint: Option<Lsn>) -> Option<String> {
    let outcome = window.removed(ground(disk, PgVersion::V15), restartpoint);
    outcome.err().map(|violation| {
        assert_eq!(violation.code, CODE);
        violation.facts[0].1[16..].to_owned()
    })
}

fn remove(disk: &mut Disk, segments: std::ops::RangeInclusive<u64>) {
    for segment in segments {
        let path = format!("pg_wal/0000000100000000{segment:08X}");
        let path = FilePath::from(path.as_str());
        let choices = crate::choice::Choices::new(0);
        let op = walsim_core::call::DiskOp::Unlink(path);
        let (ticket, _) = disk.issue(Pid::postmaster(1), &op, &choices);
        disk.complete(ticket, &choices).expect("it was there");
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
        "a slot holds it"
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

/// A restartpoint counts back from where WAL ended, and from its own redo point if recovery has ended meanwhile.
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
        let judge = |window: Window| window.saved(ground(&disk, version));
        let window = |lsn| Window::new(&shmem(version, lsn), Least(None));
        let saved = judge(window(at(3))).expect("it is where it was");
        assert_eq!(saved, Some(BTreeMap::from([(NAME.into(), at(3))])));
        let violation = judge(window(at(4))).expect_err("it bites");
        assert_eq!((violation.code, &*violation.facts[0].1), (CODE, NAME));

        let mut failed = window(at(4));
        let message = |error| Message::File {
            what: "write to",
            path: "pg_replslot/s/state.tmp".into(),
            error,
        };
        failed.heard(&message(DiskError::Exists));
        assert!(judge(failed.clone()).is_err(), "its own file is in the way");
        failed.heard(&message(DiskError::NoSpace));
        assert_eq!(judge(failed), Ok(None), "nothing is promised");
    }
}

/// A slot that moves on later need not be saved there; one that goes back, is dropped or is given up is let off.
#[test]
fn of_each_slot_the_least_position_counts() {
    let mut shmem = shmem(PgVersion::V15, at(4));
    let mut window = Window::new(&shmem, Least(None));
    let mut after = |change: &dyn Fn(&mut Slot)| {
        change(&mut shmem.slots.slots[0]);
        window.slots_moved(&shmem);
        window.slots.get(NAME).copied()
    };
    assert_eq!(after(&|slot| slot.restart_lsn = at(5)), Some(at(4)));
    assert_eq!(after(&|slot| slot.restart_lsn = at(3)), Some(at(3)));
    assert_eq!(after(&|slot| slot.restart_lsn = at(6)), Some(at(3)));
    let lost = Some(Invalidation::WalRemoved(at(6)));
    assert_eq!(after(&|slot| slot.invalidated = lost), None);
    assert_eq!(after(&|slot| slot.invalidated = None), None);
}

#[test]
fn slots_that_are_not_saved_are_not_expected_on_disk() {
    for change in [
        (|slot| slot.temporary = true) as fn(&mut Slot),
        |slot| slot.restart_lsn = Lsn::INVALID,
        |slot| slot.invalidated = Some(Invalidation::Other(1)),
        |slot| slot.in_use = false,
    ] {
        let mut shmem = shmem(PgVersion::V15, at(4));
        change(&mut shmem.slots.slots[0]);
        assert!(Window::new(&shmem, Least(None)).slots.is_empty());
    }
}

/// 15 takes its look before it saves slots, 18 when the control file names the checkpoint.
#[test]
fn the_look_at_slots_is_taken_when_the_version_takes_it() {
    let least = |segment| Least(Some(at(segment)));
    for (version, expected) in [(PgVersion::V15, least(2)), (PgVersion::V18, least(4))] {
        let mut shmem = shmem(version, at(4));
        let mut window = Window::new(&shmem, least(2));
        window.widen(&shmem, least(3));
        shmem.control.checkpoint_copy.redo = at(6);
        window.widen(&shmem, least(4));
        window.widen(&shmem, least(5));
        assert_eq!(window.published, expected, "{version:?}");
    }
}

#[test]
fn a_reload_counts_for_whoever_needs_more() {
    let mut shmem = shmem(PgVersion::V15, at(4));
    let mut window = Window::new(&shmem, Least(None));
    shmem.settings.wal_keep_size = 5 * 1024;
    shmem.walrcv.flushed_upto = at(8);
    window.widen(&shmem, Least(None));
    shmem.settings.wal_keep_size = 0;
    window.widen(&shmem, Least(None));
    assert_eq!((window.limits.keep, window.end), (5 * 1024, Lsn::INVALID));
}
