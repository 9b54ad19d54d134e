//! What a slot holds, when a segment may go, and what is given up for good.

use super::super::testing::{Bench, SITE, TINY, builder, message};
use super::*;
use crate::disk::Content;
use walsim_core::shmem::Invalidation;

const NAME: &str = "s";
const STATE: &str = "pg_replslot/s/state";

/// A node with segments 1 to 4, and what its slot's file says.
struct Node {
    bench: Bench,
    check: Slot,
    version: PgVersion,
}

impl Node {
    fn new(version: PgVersion) -> Self {
        let mut wal = builder();
        while wal.end() < TINY.segment_start(SegmentNo(5)) {
            wal.append(&message(3, 100));
        }
        let mut bench = Bench::new(&wal.bytes()[..4 * 1024]);
        bench.disk.set_up_dir("pg_replslot/s");
        let check = Slot::new(1, version, TINY);
        Self {
            bench,
            check,
            version,
        }
    }

    fn at(version: PgVersion, segment: u64) -> Self {
        let mut node = Self::new(version);
        let file = node.file(segment, |_| {});
        node.bench.disk.set_up_file(STATE, Content::new(&file));
        node
    }

    /// A state file with a position in that segment.
    fn file(&self, segment: u64, change: impl FnOnce(&mut SlotFile)) -> Vec<u8> {
        let mut file = SlotFile {
            name: NAME.into(),
            restart_lsn: Lsn(segment * 1024 + 40),
            ..SlotFile::default()
        };
        change(&mut file);
        file.encode(self.version)
    }

    /// Gives the file its name; a loss of power could still take that back unless it is synced.
    fn save(&mut self, file: &[u8], synced: bool) {
        let temp = "pg_replslot/s/state.tmp";
        self.bench.disk.set_up_file(temp, Content::new(file));
        let (from, to) = (temp.into(), STATE.into());
        self.bench.call(&DiskOp::Rename { from, to });
        if synced {
            self.bench.call(&DiskOp::SyncDir("pg_replslot/s".into()));
        }
    }

    fn holder(&self) -> Holder<'_> {
        Holder {
            site: SITE,
            host: 0,
            disk: &self.bench.disk,
            end: Lsn(5 * 1024),
        }
    }

    /// Is the removal of a segment allowed?
    fn removes(&self, segment: u64) -> bool {
        let mut check = self.check.clone();
        let outcome = check.segment_removed(self.holder(), SegmentNo(segment));
        outcome
            .inspect_err(|violation| assert_eq!(violation.code, CODE))
            .is_ok()
    }

    fn unlink(&mut self, segment: u64) {
        let path = wal_files::path(&TINY, FIRST_TIMELINE, SegmentNo(segment));
        self.bench.call(&DiskOp::Unlink(path.as_str().into()));
    }

    fn is_whole(&self) -> bool {
        self.check.all(self.holder()).is_ok()
    }

    /// Shared memory has the slot here.
    fn remember(&mut self, at: u64) {
        let slot = walsim_core::shmem::Slot {
            in_use: true,
            name: NAME.into(),
            restart_lsn: Lsn(at),
            ..walsim_core::shmem::Slot::default()
        };
        self.check.nodes[0].positions(&[slot], |_| Lsn::INVALID);
    }
}

#[test]
fn segments_before_the_slot_may_go_and_no_others() {
    let node = Node::at(PgVersion::V15, 3);
    assert_eq!(
        [1, 2, 3, 4, 5].map(|n| node.removes(n)),
        [true, true, false, false, true]
    );
}

#[test]
fn until_a_file_is_durable_the_one_before_it_counts() {
    let mut node = Node::at(PgVersion::V18, 2);
    let newer = node.file(4, |_| {});
    node.save(&newer, false);
    assert!(node.removes(1) && !node.removes(2));
    node.bench.call(&DiskOp::SyncDir("pg_replslot/s".into()));
    assert!(node.removes(3) && !node.removes(4));
    // And the other way round: a file that may come to be durable counts at once.
    let older = node.file(3, |_| {});
    node.save(&older, false);
    assert!(!node.removes(3));
}

#[test]
fn slots_that_hold_nothing_hold_nothing() {
    for (version, invalid) in [
        (
            PgVersion::V15,
            SlotFile {
                invalidated_at: Lsn(9),
                ..SlotFile::default()
            },
        ),
        (
            PgVersion::V18,
            SlotFile {
                cause: 1,
                ..SlotFile::default()
            },
        ),
        (
            PgVersion::V18,
            SlotFile {
                persistency: Persistency::TEMPORARY,
                ..SlotFile::default()
            },
        ),
    ] {
        let mut node = Node::at(version, 2);
        assert!(!node.removes(2));
        let file = node.file(2, |file| {
            file.invalidated_at = invalid.invalidated_at;
            file.cause = invalid.cause;
            file.persistency = invalid.persistency;
        });
        node.save(&file, true);
        assert!(node.removes(2) && node.is_whole(), "{invalid:?}");
    }
    let mut node = Node::new(PgVersion::V15);
    assert!(node.removes(1), "a slot without a file");
    let file = node.file(0, |file| file.restart_lsn = Lsn::INVALID);
    node.save(&file, true);
    assert!(node.removes(1), "a slot without a position");
}

#[test]
fn a_slot_that_was_dropped_holds_until_that_is_durable() {
    let mut node = Node::at(PgVersion::V15, 2);
    let (from, to) = ("pg_replslot/s".into(), "pg_replslot/s.tmp".into());
    node.bench.call(&DiskOp::Rename { from, to });
    assert!(!node.removes(2));
    node.bench.call(&DiskOp::SyncDir("pg_replslot".into()));
    assert!(node.removes(2));
}

#[test]
fn a_segment_that_is_missing_is_seen_when_the_slot_asks_for_it() {
    let mut node = Node::at(PgVersion::V15, 3);
    node.unlink(2);
    assert!(node.is_whole());
    let older = node.file(2, |_| {});
    node.save(&older, false);
    let violation = node.check.all(node.holder()).expect_err("it bites");
    assert_eq!(
        (violation.code, violation.facts[0].1.as_str()),
        (CODE, NAME)
    );
}

/// Two segments are the limit: what lies further behind the end in segment 4 may go, also right after a reload.
#[test]
fn a_slot_that_exceeds_its_limit_holds_no_more() {
    let mut node = Node::at(PgVersion::V18, 1);
    for limits in [[Some(2), None], [None, Some(2)]] {
        node.check.nodes[0].limits = limits;
        let may_go = [1, 2, 3, 4].map(|n| node.removes(n));
        assert_eq!(may_go, [true, false, false, false]);
    }
    node.check.nodes[0].limits = [None, None];
    assert!(!node.removes(1));
}

/// A first report asks for no more than there is.
#[test]
fn a_report_of_what_is_gone_holds_what_is_left() {
    let mut node = Node::new(PgVersion::V15);
    node.unlink(1);
    let slot = walsim_core::shmem::Slot {
        in_use: true,
        name: NAME.into(),
        restart_lsn: Lsn(1024 + 40),
        ..walsim_core::shmem::Slot::default()
    };
    node.check.nodes[0].positions(&[slot], |_| Lsn(2 * 1024));
    let file = node.file(1, |_| {});
    node.save(&file, true);
    assert!(node.is_whole() && !node.removes(2));
}

/// The same, after a standby has reported less than before.
#[test]
fn what_was_given_up_is_not_had_back() {
    let mut node = Node::at(PgVersion::V15, 3);
    node.remember(3 * 1024 + 40);
    node.unlink(2);
    node.remember(2 * 1024 + 40);
    let older = node.file(2, |_| {});
    node.save(&older, true);
    assert!(node.is_whole() && !node.removes(3));
    // A new slot of that name has given nothing up.
    node.check.removed(
        Holder {
            site: SITE,
            host: 0,
            disk: &node.bench.disk,
            end: Lsn(0),
        },
        "pg_replslot/s.tmp",
    );
    assert!(!node.is_whole());
}

/// A slot that comes back after a crash where its file has it has given nothing up, nor has one that was invalidated.
#[test]
fn only_a_report_gives_up() {
    let mut node = Node::at(PgVersion::V15, 3);
    node.remember(4 * 1024);
    node.check.forget(0);
    node.remember(3 * 1024);
    let lost = walsim_core::shmem::Slot {
        in_use: true,
        name: NAME.into(),
        invalidated: Some(Invalidation::WalRemoved(Lsn(9))),
        ..walsim_core::shmem::Slot::default()
    };
    node.check.nodes[0].positions(&[lost], |_| Lsn::INVALID);
    assert!(node.check.nodes[0].given_up.is_empty());
}

#[test]
fn names_of_slots_are_told_from_those_of_their_files() {
    for (path, name) in [
        ("pg_replslot/s/state", Some("s")),
        ("pg_replslot/s", Some("s")),
        ("pg_replslot/s.tmp", None),
        ("pg_replslot/s/state.tmp", None),
        ("pg_replslot/s.tmp/state", None),
        ("pg_wal/state", None),
    ] {
        assert_eq!(slot_of(path), name, "{path}");
    }
}
