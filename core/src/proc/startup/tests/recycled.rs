//! Crash recovery where the files hold old WAL after the end of the new.

use super::*;
use crate::wal::position::lsn_to_bytepos;

/// Puts old WAL, as it stood in a segment long ago, wherever the new had not been written yet.
fn recycle_from(bench: &mut Bench, at: Lsn) {
    let mut old = bench.wal();
    for len in [700, 90, 33, 500, 900, 40, 41, 42, 800] {
        old.append(&message(len));
    }
    let stale = &old.bytes()[2048..3072];
    let first = TINY.segment_of(at);
    for segment in first.0..first.0 + 2 {
        let path = bench.segment_path(SegmentNo(segment));
        let from = if segment == first.0 {
            TINY.segment_offset(at) as usize
        } else {
            0
        };
        let file = bench
            .files
            .entry(path)
            .or_insert_with(|| alloc::vec![0; 1024]);
        file[from..].copy_from_slice(&stale[from..]);
    }
}

fn kinds(bench: &Bench) -> Vec<(u8, u8)> {
    let records = bench.records(FIRST);
    let kinds = records.iter().map(|(_, rmid, info)| (rmid.0, *info));
    kinds.collect()
}

/// Wherever the writing stopped, what came before is kept, and WAL goes on after it.
#[test]
fn old_bytes_behind_the_end_are_no_wal() {
    for version in PgVersion::ALL {
        let (wal, _) = aborted(&server(version, Planted::NONE, DbState::InProduction));
        let first_end = wal.prev().0;
        for at in (first_end..wal.end().0).step_by(8) {
            let mut bench = server(version, Planted::NONE, DbState::InProduction);
            bench.install(&wal);
            recycle_from(&mut bench, Lsn(at));
            assert_eq!(start(&mut bench), Ok(Exit::Normal), "{at}");
            let kinds = kinds(&bench);
            assert_eq!(kinds[..2], [(0, 0x00), (21, 0)], "{at}");
            assert_eq!(kinds.last(), Some(&(0, 0x00)), "{at}");
            let overwritten = bench.probe.marks().contains(Mark::OverwriteContrecord);
            assert_eq!(kinds.len(), 3 + usize::from(overwritten), "{at}");
        }
    }
}

/// The first part is whole up to the end of its segment, and the next file is an old one: readers
/// may have the first part, so that it stays, and the page after it says that it is not continued.
#[test]
fn a_record_that_ends_with_its_segment_is_overwritten_in_the_recycled_one() {
    for version in PgVersion::ALL {
        let mut bench = server(version, Planted::NONE, DbState::InProduction);
        let (wal, aborted) = aborted(&bench);
        bench.install(&wal);
        recycle_from(&mut bench, Lsn(2048));
        let before = bench.files[&bench.segment_path(SegmentNo(1))].clone();
        assert_eq!(start(&mut bench), Ok(Exit::Normal));
        assert!(aborted < Lsn(2048));
        assert_eq!(bench.files[&bench.segment_path(SegmentNo(1))], before);
        assert_eq!(kinds(&bench), [(0, 0x00), (21, 0), (0, 0xD0), (0, 0x00)]);
        let header = PageHeader::decode(bench.read_wal(Lsn(2048), 40)).expect("a page");
        assert!(header.has(FIRST_IS_OVERWRITE_CONTRECORD));
    }
}

/// Only the length of a record fits on the page where WAL ends; the page after would say that it is
/// old, and whatever the length says must not be believed before.
#[test]
fn lengths_at_the_end_of_a_page_are_not_believed() {
    for version in PgVersion::ALL {
        for left in [8, 16] {
            for length in [0_u32, 1, 7, 23, 24, 25, 4096, 0x7FFF_FFFF, u32::MAX] {
                let mut bench = server(version, Planted::NONE, DbState::InProduction);
                let mut wal = bench.wal();
                // So that the next record would start this far before the end of the second page.
                let goal = lsn_to_bytepos(&TINY, Lsn(1024 + 512 - left));
                let room = goal - lsn_to_bytepos(&TINY, wal.end());
                let mut len = usize::try_from(room).expect("small") - 32;
                while {
                    let mut trial = wal.clone();
                    trial.append(&message(len));
                    trial.end() > Lsn(1024 + 512 - left)
                } {
                    len -= 1;
                }
                wal.append(&message(len));
                let end = wal.end();
                assert_eq!(end, Lsn(1024 + 512 - left), "the end lies where it should");
                bench.install(&wal);
                recycle_from(&mut bench, end);
                let path = bench.segment_path(SegmentNo(1));
                let at = TINY.segment_offset(end) as usize;
                let file = bench.files.get_mut(&path).expect("installed");
                file[at..at + 4].copy_from_slice(&length.to_le_bytes());
                assert_eq!(start(&mut bench), Ok(Exit::Normal), "{left} {length}");
                let kinds = kinds(&bench);
                assert_eq!(kinds[..2], [(0, 0x00), (21, 0)], "{left} {length}");
                assert_eq!(kinds.last(), Some(&(0, 0x00)), "{left} {length}");
            }
        }
    }
}
