//! Tests of shared buffers on an in-memory disk.

use super::*;
use crate::access::heap::{HeapGet, HeapInsert, Row, Snapshot};
use crate::base::{Pid, Xid};
use crate::call::{DiskError, Message, Place, Yield};
use crate::shmem::{BufTag, Role};
use crate::storage::buffer::ReadMode;
use crate::sys::testing::Fixture;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

const REL: u32 = 16384;

fn tag(block: u32) -> BufTag {
    BufTag { rel: REL, block }
}

fn insert(fixture: &mut Fixture, pid: Pid, rel: u32, key: u64) -> Lsn {
    let row = Row {
        key,
        value: Bytes::from(vec![7; 300]),
    };
    let mut insert = HeapInsert::new(rel, row, Xid(10));
    fixture.run(pid, |cx| insert.poll(cx)).unwrap()
}

/// Two processes that read the same page. The first process has begun to read the page from disk.
fn two_readers() -> (Fixture, [(Pid, ReadBuffer); 2]) {
    let mut fixture = Fixture::primary();
    let [a, b] = [fixture.spawn(Role::Backend), fixture.spawn(Role::Backend)];
    fixture.files.insert("base/5/16384".into(), vec![0; 512]);
    let mut first = ReadBuffer::new(tag(0), ReadMode::Normal);
    let second = first.clone();
    fixture.run_to(a, Place::FileRead, |cx| first.poll(cx));
    (fixture, [(a, first), (b, second)])
}

/// WAL is flushed up to the page's LSN before the page is written. The page itself is not fsynced.
#[test]
fn wal_is_flushed_before_the_page_is_written() {
    let mut fixture = Fixture::primary();
    let pid = fixture.spawn(Role::Backend);
    for key in 0..6 {
        insert(&mut fixture, pid, REL, key);
    }
    let relation = fixture.trace_of("base/5/16384");
    assert!(
        relation.iter().all(|line| !line.starts_with("fsync")),
        "{relation:?}"
    );
    // The first write of block 0 extends the file. The second write is the eviction of this block.
    let writes: Vec<usize> = (0..fixture.trace.len())
        .filter(|at| fixture.trace[*at] == "write base/5/16384 0+512")
        .collect();
    assert_eq!(writes.len(), 2, "{:#?}", fixture.trace);
    assert!(fixture.position("fsync pg_wal/") < writes[1]);
    assert!(fixture.shmem.xlog.flush.0 > 0x1000);
    assert!(fixture.will_fsync("base/5/16384"));
}

/// If two processes read a page at the same time, the second waits until the first has read it.
#[test]
fn a_second_reader_waits_for_the_first() {
    let (mut fixture, [(a, mut first), (b, mut second)]) = two_readers();
    let waits = fixture.step(b, |cx| second.poll(cx));
    assert!(matches!(waits, Poll::Yield(Yield::Wait(wait)) if wait.lock));
    let one = fixture.run(a, |cx| first.poll(cx)).unwrap();
    let two = fixture.run(b, |cx| second.poll(cx)).unwrap();
    assert_eq!(one, two);
    assert_eq!(fixture.shmem.buffers.pool[usize::from(one)].pins, [a, b]);
    assert_eq!(
        fixture.trace_of("base/5/16384"),
        ["open base/5/16384", "read base/5/16384 0+512"]
    );
}

/// If the first reader fails, the waiting reader reads the page itself.
#[test]
fn after_a_failed_read_the_next_reader_reads() {
    let (mut fixture, [(a, mut first), (b, mut second)]) = two_readers();
    let _ = fixture.step(b, |cx| second.poll(cx));
    fixture
        .failing
        .insert("read base/5/16384".into(), DiskError::Io);
    assert!(fixture.run(a, |cx| first.poll(cx)).is_err());
    fixture.failing.clear();
    fixture.step(a, |cx| cx.release_everything());
    assert!(fixture.run(b, |cx| second.poll(cx)).is_ok());
}

#[test]
fn an_invalid_page_is_refused() {
    let mut fixture = Fixture::primary();
    let pid = fixture.spawn(Role::Backend);
    fixture.files.insert("base/5/16384".into(), vec![0xAB; 512]);
    let mut read = ReadBuffer::new(tag(0), ReadMode::Normal);
    let error = fixture.run(pid, |cx| read.poll(cx)).unwrap_err();
    assert_eq!(
        error.message,
        Message::InvalidPage {
            relation: REL,
            block: 0
        }
    );
    fixture.step(pid, |cx| cx.release_everything());
    // A process that will initialize a page does not read the page from disk.
    let mut read = ReadBuffer::new(tag(0), ReadMode::ZeroAndLock);
    assert!(fixture.run(pid, |cx| read.poll(cx)).is_ok());
}

#[test]
fn a_pool_of_pinned_buffers_is_an_error() {
    let mut fixture = Fixture::primary();
    let pid = fixture.spawn(Role::Backend);
    fixture
        .files
        .insert("base/5/16384".into(), vec![0; 5 * 512]);
    for block in 0..4 {
        let mut read = ReadBuffer::new(tag(block), ReadMode::Normal);
        fixture.run(pid, |cx| read.poll(cx)).unwrap();
    }
    let mut read = ReadBuffer::new(tag(4), ReadMode::Normal);
    let error = fixture.run(pid, |cx| read.poll(cx)).unwrap_err();
    assert_eq!(error.message, Message::NoUnpinnedBuffers);
}

/// Rows survive the eviction of their page. A transaction sees its own rows and the rows of
/// committed transactions.
#[test]
fn rows_follow_the_visibility_rules() {
    let mut fixture = Fixture::primary();
    let pid = fixture.spawn(Role::Backend);
    for key in 0..6 {
        insert(&mut fixture, pid, REL, key);
    }
    fixture.shmem.next_xid = Xid(11);
    let mut get = |own| {
        let snapshot = fixture.step(pid, |cx| Snapshot::take(cx, own));
        let mut get = HeapGet::new(REL, 0, snapshot);
        fixture.run(pid, |cx| get.poll(cx)).unwrap().is_some()
    };
    assert!(get(Xid(10)));
    assert!(!get(Xid::INVALID));
}

/// A failed write leaves the page dirty.
#[test]
fn a_failed_write_leaves_the_page_dirty() {
    let mut fixture = Fixture::primary();
    let pid = fixture.spawn(Role::Checkpointer);
    insert(&mut fixture, pid, REL, 1);
    fixture
        .failing
        .insert("write base/5/16384".into(), DiskError::NoSpace);
    let mut sync = CheckPointBuffers::new();
    assert!(fixture.run(pid, |cx| sync.poll(cx)).is_err());
    fixture.failing.clear();
    fixture.step(pid, |cx| cx.release_everything());
    let mut sync = CheckPointBuffers::new();
    fixture.run(pid, |cx| sync.poll(cx)).unwrap();
    assert!(
        fixture
            .shmem
            .buffers
            .pool
            .iter()
            .all(|buffer| !buffer.dirty)
    );
    let write = fixture.trace.len() - 3;
    assert_eq!(
        fixture.trace[write..],
        [
            "write base/5/16384 0+512",
            "fsync base/5/16384",
            "syncdir base/5"
        ]
    );
}

/// A failed fsync is a PANIC. The kernel may have dropped dirty pages, so that only WAL can restore
/// them.
#[test]
fn a_failed_fsync_is_a_panic() {
    let mut fixture = Fixture::primary();
    let pid = fixture.spawn(Role::Checkpointer);
    insert(&mut fixture, pid, REL, 1);
    fixture
        .failing
        .insert("fsync base/5/16384".into(), DiskError::Io);
    let mut sync = CheckPointBuffers::new();
    let error = fixture.run(pid, |cx| sync.poll(cx)).unwrap_err();
    assert_eq!(error.severity, crate::call::Severity::Panic);
}
