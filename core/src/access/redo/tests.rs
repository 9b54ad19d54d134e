//! Tests of replay on a server in recovery with an in-memory disk.

use super::*;
use crate::access::buffers::CheckPointBuffers;
use crate::base::{Lsn, Pid, TimestampTz, Xid};
use crate::shmem::{BufTag, Role, XactStatus};
use crate::storage::relation::locator;
use crate::sys::testing::Fixture;
use crate::wire::data_page::{DataPage, add_item, empty_page, set_lsn};
use crate::wire::generic::compute_delta;
use crate::wire::record::{BlockPart, Image, RecordBody};
use crate::wire::xact_records::{XactEnd, XactOp};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

const REL: u32 = 16384;

/// A record as the reader returns it. The record ends at `end`.
fn record(body: RecordBody, end: u64) -> Record {
    let mut assembled = body.assemble(512);
    assembled.finish(Lsn(8));
    let bytes = Bytes::copy_from_slice(assembled.bytes());
    Record::decode(&bytes, [Lsn(end - 64), Lsn(end), Lsn(end)], 512).unwrap()
}

fn page(items: u8) -> Vec<u8> {
    let mut page = empty_page(512);
    for item in 0..items {
        add_item(&mut page, &[item; 40]).unwrap();
    }
    page
}

/// A Generic record that adds one item to a page that already has `items` items.
fn delta(block: u32, items: u8, end: u64) -> Record {
    let mut part = BlockPart::new(0, locator(REL), block);
    part.data = Bytes::from(compute_delta(&page(items), &page(items + 1)));
    let mut body = RecordBody::new(RmgrId::GENERIC, 0, Xid(10), Bytes::new());
    body.blocks = vec![part];
    record(body, end)
}

fn image(block: u32, items: u8, end: u64) -> Record {
    let mut part = BlockPart::new(0, locator(REL), block);
    part.image = Some(Image::of_page(&page(items), true));
    let mut body = RecordBody::new(RmgrId::GENERIC, 0, Xid(10), Bytes::new());
    body.blocks = vec![part];
    record(body, end)
}

fn replay(fixture: &mut Fixture, pid: Pid, record: &Record) -> Result<(), LogEvent> {
    let mut redo = Redo::new(record.clone());
    fixture.run(pid, |cx| redo.poll(cx))
}

fn content(fixture: &Fixture, block: u32) -> (usize, Lsn) {
    let id = fixture.shmem.buffers.map[&BufTag { rel: REL, block }];
    let buffer = &fixture.shmem.buffers.pool[usize::from(id)];
    assert!(buffer.pins.is_empty());
    let page = DataPage::new(&buffer.page);
    (page.items().count(), page.lsn())
}

/// Replaying a record twice has the same result as replaying it once. This is true for deltas and
/// for images.
#[test]
fn replaying_again_changes_nothing() {
    let mut fixture = Fixture::in_recovery();
    let pid = fixture.spawn(Role::Startup);
    let records = [
        image(0, 1, 0x1100),
        delta(0, 1, 0x1200),
        delta(0, 2, 0x1300),
    ];
    for record in &records {
        replay(&mut fixture, pid, record).unwrap();
    }
    assert_eq!(content(&fixture, 0), (3, Lsn(0x1300)));
    let changes = fixture.shmem.buffers.changes.len();
    assert_eq!(changes, 3);
    for record in &records[1..] {
        replay(&mut fixture, pid, record).unwrap();
    }
    assert_eq!(content(&fixture, 0), (3, Lsn(0x1300)));
    assert_eq!(fixture.shmem.buffers.changes.len(), changes);
    for record in &records {
        replay(&mut fixture, pid, record).unwrap();
    }
    assert_eq!(content(&fixture, 0), (3, Lsn(0x1300)));
}

/// An image replaces a torn page without reading it. A delta for a torn page is an error.
#[test]
fn an_image_repairs_a_torn_page() {
    let mut torn = page(3);
    torn[64..512].fill(0xEE);
    torn[10] = 0xFF;
    let mut fixture = Fixture::in_recovery();
    let pid = fixture.spawn(Role::Startup);
    fixture.files.insert("base/5/16384".into(), torn);
    let error = replay(&mut fixture, pid, &delta(0, 1, 0x1200)).unwrap_err();
    assert_eq!(
        error.message,
        Message::InvalidPage {
            relation: REL,
            block: 0
        }
    );
    fixture.step(pid, |cx| cx.release_everything());
    fixture.trace.clear();
    replay(&mut fixture, pid, &image(0, 2, 0x1300)).unwrap();
    assert_eq!(content(&fixture, 0), (2, Lsn(0x1300)));
    assert!(fixture.trace.iter().all(|line| !line.starts_with("read")));
}

/// An image far beyond the end of the file creates the pages before it. A delta for a missing page
/// adds that page to the table of invalid pages. After the consistent point such a delta is a
/// PANIC.
#[test]
fn blocks_beyond_the_end() {
    let mut fixture = Fixture::in_recovery();
    let pid = fixture.spawn(Role::Startup);
    replay(&mut fixture, pid, &image(2, 1, 0x1100)).unwrap();
    assert_eq!(fixture.files["base/5/16384"].len(), 3 * 512);
    let tag = |block| BufTag { rel: REL, block };
    // Block 1 is all zeros. Block 7 does not exist.
    for block in [1, 7] {
        replay(&mut fixture, pid, &delta(block, 1, 0x1200)).unwrap();
        assert!(fixture.shmem.recovery.invalid_pages.contains(&tag(block)));
    }
    fixture.shmem.recovery.consistent = true;
    let error = replay(&mut fixture, pid, &delta(8, 1, 0x1200)).unwrap_err();
    assert_eq!(
        error,
        LogEvent::panic(SqlState::DATA_CORRUPTED, Message::InvalidPages)
    );
}

/// A delta that reaches beyond the page is an error.
#[test]
fn a_delta_stays_on_its_page() {
    let mut fixture = Fixture::in_recovery();
    let pid = fixture.spawn(Role::Startup);
    replay(&mut fixture, pid, &image(0, 1, 0x1100)).unwrap();
    let mut bad = delta(0, 1, 0x1200);
    bad.blocks[0].data = Bytes::from_static(&[
        0xF8, 1, 16, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
    ]);
    let error = replay(&mut fixture, pid, &bad).unwrap_err();
    assert_eq!(error.message, Message::BadGeneric(bad.lsn));
}

#[test]
fn ends_of_transactions_set_their_status() {
    let mut fixture = Fixture::in_recovery();
    let pid = fixture.spawn(Role::Startup);
    let end = |op, xid| {
        let end = XactEnd::new(op, TimestampTz(1));
        let main = end.encode(crate::base::PgVersion::V15);
        record(
            RecordBody::new(RmgrId::TRANSACTION, end.info(), Xid(xid), main),
            0x1100,
        )
    };
    replay(&mut fixture, pid, &end(XactOp::Commit, 20)).unwrap();
    replay(&mut fixture, pid, &end(XactOp::Abort, 21)).unwrap();
    // The clog page is beyond the end of the file. In recovery such a page is read as zeros.
    replay(&mut fixture, pid, &end(XactOp::Commit, 5000)).unwrap();
    let status = |xid| fixture.shmem.clog.status(Xid(xid), 512);
    assert_eq!(status(20), Some(XactStatus::Committed));
    assert_eq!(status(21), Some(XactStatus::Aborted));
    assert_eq!(status(5000), Some(XactStatus::Committed));
}

#[test]
fn a_new_status_page_gets_its_file() {
    let mut fixture = Fixture::in_recovery();
    let pid = fixture.spawn(Role::Startup);
    let zero = ClogRecord::ZeroPage(33);
    let main = zero.encode(crate::base::PgVersion::V15);
    let zero = record(
        RecordBody::new(RmgrId::CLOG, zero.info(), Xid::INVALID, main),
        0x1100,
    );
    replay(&mut fixture, pid, &zero).unwrap();
    assert_eq!(fixture.files["pg_xact/0001"].len(), 2 * 512);
    assert!(fixture.will_fsync("pg_xact/0001"));
}

/// A replayed page keeps its LSN when it is evicted and read again. Older records are therefore not
/// applied to the page.
#[test]
fn a_written_page_is_not_changed_by_older_records() {
    let mut fixture = Fixture::in_recovery();
    let pid = fixture.spawn(Role::Startup);
    let mut newer = page(5);
    set_lsn(&mut newer, Lsn(0x2000));
    fixture.files.insert("base/5/16384".into(), newer);
    replay(&mut fixture, pid, &delta(0, 2, 0x1300)).unwrap();
    assert_eq!(content(&fixture, 0), (5, Lsn(0x2000)));
    let mut sync = CheckPointBuffers::new();
    fixture.run(pid, |cx| sync.poll(cx)).unwrap();
    assert!(fixture.trace.iter().all(|line| !line.starts_with("write")));
}

#[test]
fn unknown_records_are_refused() {
    let mut fixture = Fixture::in_recovery();
    let pid = fixture.spawn(Role::Startup);
    let body = RecordBody::new(RmgrId::BTREE, 0, Xid(10), Bytes::from_static(b"x"));
    assert!(replay(&mut fixture, pid, &record(body, 0x1100)).is_err());
    for rmid in [RmgrId::STANDBY, RmgrId::LOGICAL_MESSAGE] {
        let body = RecordBody::new(rmid, 0x10, Xid(10), Bytes::from_static(b"x"));
        assert_eq!(replay(&mut fixture, pid, &record(body, 0x1100)), Ok(()));
    }
}
