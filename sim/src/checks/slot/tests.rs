//! Tests which WAL a slot requires, when a segment may be removed, and for which WAL the check
//! makes an exception.

use super::*;
use crate::disk::Content;
use crate::referee::testing::{GEOMETRY, NodeFixture, SITE, builder, message, shmem as memory};
use walsim_core::call::FilePath;
use walsim_core::wire::slot_file::{Persistency, SlotFile};

const NAME: &str = "s";
const STATE: &str = "pg_replslot/s/state";

/// A node with the segments 1 to 4 and a slot.
struct Node {
    fixture: NodeFixture,
    check: Slot,
    version: PgVersion,
}

impl Node {
    fn new(version: PgVersion) -> Self {
        let mut wal = builder();
        while wal.end() < GEOMETRY.segment_start(SegmentNo(5)) {
            wal.append(&message(3, 100));
        }
        let mut fixture = NodeFixture::new(&wal.bytes()[..4 * 1024]);
        fixture.disk.set_up_dir("pg_replslot/s");
        let check = Slot::default();
        Self {
            fixture,
            check,
            version,
        }
    }

    fn at(version: PgVersion, segment: u64) -> Self {
        let mut node = Self::new(version);
        let file = node.file(segment, |_| {});
        node.fixture.disk.set_up_file(STATE, Content::new(&file));
        node
    }

    /// The contents of a state file whose position is in this segment.
    fn file(&self, segment: u64, change: impl FnOnce(&mut SlotFile)) -> Vec<u8> {
        let mut file = SlotFile {
            name: NAME.into(),
            restart_lsn: Lsn(segment * 1024 + 40),
            ..SlotFile::default()
        };
        change(&mut file);
        file.encode(self.version)
    }

    /// Renames a state file into place. If `synced` is false, a power loss can undo the rename.
    fn save(&mut self, file: &[u8], synced: bool) {
        let temp = "pg_replslot/s/state.tmp";
        self.fixture.disk.set_up_file(temp, Content::new(file));
        let (from, to) = (temp.into(), STATE.into());
        self.fixture.call(&DiskOp::Rename { from, to });
        if synced {
            self.fixture.call(&DiskOp::SyncDir("pg_replslot/s".into()));
        }
    }

    fn holder(&self) -> Holder<'_> {
        Holder {
            site: SITE,
            disk: &self.fixture.disk,
            version: self.version,
            geometry: &GEOMETRY,
            end: Lsn(5 * 1024),
            forced: None,
        }
    }

    /// Whether the removal of a segment is allowed.
    fn removes(&self, segment: u64) -> bool {
        self.removes_with(segment, &[])
    }

    /// Like `removes`, with these slots in shared memory.
    fn removes_with(&self, segment: u64, slots: &[shmem::Slot]) -> bool {
        let mut check = self.check.clone();
        let outcome = check.segment_removed(self.holder(), SegmentNo(segment), slots);
        outcome
            .inspect_err(|violation| assert_eq!(violation.code, ABOUT.code))
            .is_ok()
    }

    fn unlink(&mut self, segment: u64) {
        let path = segment_path(&GEOMETRY, FIRST_TIMELINE, SegmentNo(segment));
        self.fixture.call(&DiskOp::Unlink(path.as_str().into()));
    }

    fn is_whole(&self) -> bool {
        self.check.clone().all(self.holder()).is_ok()
    }

    /// Moves the slot in shared memory.
    fn remember(&mut self, at: u64) {
        let mut shmem = memory();
        shmem.slots.slots[0] = slot(at);
        self.check.nodes.of(0).positions(&shmem, ME);
    }
}

const ME: Pid = Pid::postmaster(1);

fn slot(at: u64) -> shmem::Slot {
    shmem::Slot {
        in_use: true,
        name: NAME.into(),
        restart_lsn: Lsn(at),
        ..shmem::Slot::default()
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
    node.fixture.call(&DiskOp::SyncDir("pg_replslot/s".into()));
    assert!(node.removes(3) && !node.removes(4));
    // A power loss can leave the new state file, so the new file counts before it is durable.
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
    node.fixture.call(&DiskOp::Rename { from, to });
    assert!(!node.removes(2));
    node.fixture.call(&DiskOp::SyncDir("pg_replslot".into()));
    assert!(node.removes(2));
}

#[test]
fn a_segment_that_is_missing_is_seen_when_the_slot_asks_for_it() {
    let mut node = Node::at(PgVersion::V15, 3);
    node.unlink(2);
    assert!(node.is_whole());
    let older = node.file(2, |_| {});
    node.save(&older, false);
    let violation = node.check.clone().all(node.holder()).expect_err("it bites");
    assert_eq!(
        (violation.code, &violation.facts[0].value),
        (ABOUT.code, &Value::slot(NAME))
    );
}

/// If a standby reports a lower position than before, the WAL between the two positions may already
/// be removed.
#[test]
fn what_was_given_up_is_not_had_back() {
    let mut node = Node::at(PgVersion::V15, 3);
    node.remember(3 * 1024 + 40);
    node.unlink(2);
    node.remember(2 * 1024 + 40);
    let older = node.file(2, |_| {});
    node.save(&older, true);
    assert!(node.is_whole() && !node.removes(3));
    // A slot was created under this name, so the exemption of the old slot is forgotten.
    node.check.nodes.of(0).renamed("pg_replslot/s.tmp");
    assert!(!node.is_whole());
}

/// A slot whose position goes back in a crash gets no exemption. Neither does an invalidated slot.
#[test]
fn only_a_report_gives_up() {
    let mut node = Node::at(PgVersion::V15, 3);
    node.remember(4 * 1024);
    node.check.nodes.of(0).boot(2);
    node.remember(3 * 1024);
    node.remember(0);
    assert!(node.check.nodes.of(0).given_up.is_empty());
}

/// When a standby's first report sets the position of a slot, the WAL at this position may already
/// be removed. A checkpoint that has not seen the position yet may also remove this WAL.
#[test]
fn a_first_report_holds_nothing_before_it_is_known() {
    let mut node = Node::new(PgVersion::V18);
    let mut shmem = memory();
    shmem.xlog.redo = Lsn(3 * 1024);
    shmem.slots.slots[0] = slot(0);
    node.check.nodes.of(0).positions(&shmem, ME);
    shmem.slots.slots[0] = slot(2 * 1024);
    shmem.walsnd[0].pid = Some(ME);
    shmem.walsnd[0].flush = Lsn(2 * 1024);
    node.check.nodes.of(0).positions(&shmem, ME);
    let file = node.file(2, |_| {});
    node.save(&file, true);
    assert!(node.removes(2) && node.removes(3));
    node.check.nodes.of(0).follow(&shmem, Pid { n: 9, ..ME });
    assert!(node.removes(3));
    node.check.nodes.of(0).follow(&shmem, ME);
    assert!(node.removes(2) && !node.removes(3));
}

#[test]
fn a_position_that_was_reserved_counts_at_once() {
    let mut node = Node::new(PgVersion::V18);
    node.remember(0);
    node.remember(2 * 1024);
    let file = node.file(2, |_| {});
    node.save(&file, true);
    assert!(!node.removes(2));
}

/// The node has segments 1 to 4. A limit of one segment, counted back from segment 4, retains
/// segment 3.
#[test]
fn wal_beyond_the_limit_goes_if_memory_has_the_slot_further_on() {
    let mut node = Node::at(PgVersion::V18, 2);
    let further = [slot(4 * 1024)];
    assert!(!node.removes_with(2, &further));
    let mut shmem = memory();
    shmem.settings.max_slot_wal_keep_size = Some(2 * 1024 + 1023);
    node.check.nodes.of(0).follow(&shmem, ME);
    assert!(node.removes_with(2, &further));
    assert!(
        !node.removes_with(2, &[slot(2 * 1024 + 40)]),
        "required by the position in memory"
    );
    assert!(!node.removes_with(2, &[]), "no such slot in memory");
    assert!(!node.removes_with(3, &further), "within the limit");
    let disk = node.fixture.disk.clone();
    let holder = Holder {
        site: SITE,
        disk: &disk,
        version: node.version,
        geometry: &GEOMETRY,
        end: node.holder().end,
        forced: None,
    };
    assert_eq!(
        node.check.segment_removed(holder, SegmentNo(2), &further),
        Ok(())
    );
    assert_eq!(node.check.exempted(Exemption::SlotFileBehindMemory), 1);
    node.unlink(2);
    assert!(node.is_whole(), "and does not come back");
    // The next checkpoint uses the limit that is set at that time.
    shmem.settings.max_slot_wal_keep_size = None;
    node.check.nodes.of(0).follow(&shmem, ME);
    assert_eq!(node.check.nodes.of(0).limit, Some(3 * 1024 - 1));
    shmem.checkpointer.started += 1;
    node.check.nodes.of(0).follow(&shmem, ME);
    assert_eq!(node.check.nodes.of(0).limit, None);
}

#[test]
fn a_slot_that_could_not_be_saved_is_left_behind_in_15_or_if_it_is_lost() {
    for (version, error, allowed) in [
        (PgVersion::V15, DiskError::NoSpace, true),
        (PgVersion::V15, DiskError::Exists, false),
        (PgVersion::V18, DiskError::NoSpace, false),
    ] {
        let mut node = Node::at(version, 2);
        let path = "pg_replslot/s/state.tmp".into();
        let what = "write to";
        let message = Message::File { what, path, error };
        node.check.nodes.of(0).heard(&message);
        let further = [slot(4 * 1024)];
        assert_eq!(node.removes_with(2, &further), allowed, "{version:?}");
        assert!(!node.removes_with(2, &[slot(2 * 1024)]));
        let lost = shmem::Slot {
            invalidated: Some(shmem::Invalidation::WalRemoved(Lsn(9))),
            ..slot(0)
        };
        let failed = error == DiskError::NoSpace;
        assert_eq!(node.removes_with(2, &[lost]), failed, "{version:?}");
    }
}

/// Only the last attempt to save a slot counts.
#[test]
fn a_slot_is_unsaved_until_it_is_saved() {
    let mut slots = Slots::default();
    let path = FilePath::from("pg_replslot/s/state.tmp");
    for (error, unsaved) in [
        (DiskError::Io, true),
        (DiskError::Exists, false),
        (DiskError::NoSpace, true),
    ] {
        let (what, path) = ("create", path.clone());
        slots.heard(&Message::File { what, path, error });
        assert_eq!(slots.unsaved.contains(NAME), unsaved, "{error:?}");
    }
}
