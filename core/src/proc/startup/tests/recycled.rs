//! Crash recovery when old WAL follows the end of the new WAL in recycled segments.

use super::*;
use crate::base::Geometry;
use crate::wal::position::lsn_to_bytepos;

/// Fills the rest of the WAL, from `at` on, with old WAL of recycled segments.
fn recycle_from(fixture: &mut Fixture, at: Lsn) {
    let mut old = fixture.wal();
    for len in [700, 90, 33, 500, 900, 40, 41, 42, 800] {
        old.append(&message(len));
    }
    let stale = &old.bytes()[2048..3072];
    for (path, from) in tails(fixture, at, 2) {
        let file = fixture
            .files
            .entry(path)
            .or_insert_with(|| alloc::vec![0; 1024]);
        file[from..].copy_from_slice(&stale[from..]);
    }
}

fn kinds(fixture: &Fixture) -> Vec<(u8, u8)> {
    let records = fixture.records(FIRST);
    let kinds = records.iter().map(|(_, rmid, info)| (rmid.0, *info));
    kinds.collect()
}

/// For every position at which writing can stop: all earlier records are kept, and new WAL follows
/// them.
#[test]
fn old_bytes_after_the_end_are_not_wal() {
    for version in PgVersion::ALL {
        let (wal, _) = aborted(&server(version, Planted::NONE, DbState::InProduction));
        let first_end = wal.prev().0;
        for at in (first_end..wal.end().0).step_by(8) {
            let mut fixture = server(version, Planted::NONE, DbState::InProduction);
            fixture.install(&wal);
            recycle_from(&mut fixture, Lsn(at));
            assert_eq!(start(&mut fixture), Ok(Exit::Normal), "{at}");
            let kinds = kinds(&fixture);
            assert_eq!(kinds[..2], [(0, 0x00), (21, 0)], "{at}");
            assert_eq!(kinds.last(), Some(&(0, 0x00)), "{at}");
            let overwritten = fixture.probe.marks().contains(Mark::OverwriteContrecord);
            assert_eq!(kinds.len(), 3 + usize::from(overwritten), "{at}");
        }
    }
}

/// An incomplete record ends with its segment, and the next segment is a recycled file. The
/// incomplete record stays, because it may have been streamed. The page after it is rewritten and
/// names the incomplete record, so that readers skip it.
#[test]
fn a_record_that_ends_with_its_segment_is_overwritten_in_the_recycled_one() {
    for version in PgVersion::ALL {
        let mut fixture = server(version, Planted::NONE, DbState::InProduction);
        let (wal, aborted) = aborted(&fixture);
        fixture.install(&wal);
        recycle_from(&mut fixture, Lsn(2048));
        let before = fixture.files[&fixture.segment_path(SegmentNo(1))].clone();
        assert_eq!(start(&mut fixture), Ok(Exit::Normal));
        assert!(aborted < Lsn(2048));
        assert_eq!(fixture.files[&fixture.segment_path(SegmentNo(1))], before);
        assert_eq!(kinds(&fixture), [(0, 0x00), (21, 0), (0, 0xD0), (0, 0x00)]);
        let header = PageHeader::decode(fixture.read_wal(Lsn(2048), 40)).expect("a page");
        assert!(header.has(overwrite_contrecord(version)));
    }
}

/// Only the length of a record fits on the last page, and the next page is left over from old WAL.
/// Replay must validate that page before it trusts the length.
#[test]
fn lengths_at_the_end_of_a_page_are_not_trusted() {
    for version in PgVersion::ALL {
        for left in [8, 16] {
            for length in [0_u32, 1, 7, 23, 24, 25, 4096, 0x7FFF_FFFF, u32::MAX] {
                let mut fixture = server(version, Planted::NONE, DbState::InProduction);
                let mut wal = fixture.wal();
                // The next record starts `left` bytes before the end of the second page.
                let goal = lsn_to_bytepos(&Geometry::SMALLEST, Lsn(1024 + 512 - left));
                let room = goal - lsn_to_bytepos(&Geometry::SMALLEST, wal.end());
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
                fixture.install(&wal);
                recycle_from(&mut fixture, end);
                let path = fixture.segment_path(SegmentNo(1));
                let at = Geometry::SMALLEST.segment_offset(end) as usize;
                let file = fixture.files.get_mut(&path).expect("installed");
                file[at..at + 4].copy_from_slice(&length.to_le_bytes());
                assert_eq!(start(&mut fixture), Ok(Exit::Normal), "{left} {length}");
                let kinds = kinds(&fixture);
                assert_eq!(kinds[..2], [(0, 0x00), (21, 0)], "{left} {length}");
                assert_eq!(kinds.last(), Some(&(0, 0x00)), "{left} {length}");
            }
        }
    }
}
