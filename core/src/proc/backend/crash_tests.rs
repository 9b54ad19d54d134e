//! Sessions run in random order while pages are evicted and written. Then the server crashes.
//! Replay on the files that survived must have the same result as replay of the whole WAL on an
//! empty data directory. The result must contain every commit that was reported to a client.

use super::*;
use crate::access::buffers::BufferSync;
use crate::access::clog::CheckPointClog;
use crate::access::heap::{HeapGet, Snapshot};
use crate::access::redo::Redo;
use crate::base::{Geometry, PgVersion, Pid, SegmentNo, SessionSettings, TimelineId};
use crate::call::{NetEvent, Place};
use crate::shmem::Role;
use crate::sys::Conn;
use crate::sys::testing::{Fixture, SYSID};
use crate::wal::names::segment_name;
use crate::wal::{Next, WalReader};
use crate::wire::record::Record;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

const REL: u32 = 16384;

/// Pseudo-random numbers (xorshift).
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

enum Process {
    Session(Backend),
    /// Repeatedly writes all dirty pages.
    Writer(BufferSync, Option<CheckPointClog>),
}

impl Process {
    fn step(&mut self, cx: &mut Cx<'_>) -> Yield {
        match self {
            Self::Session(backend) => backend.step(cx),
            Self::Writer(pages, None) => match pages.poll(cx) {
                Poll::Ready(done) => {
                    done.unwrap();
                    *self = Self::Writer(BufferSync::new(), Some(CheckPointClog::new()));
                    Yield::Again(Place::CheckPointGuts)
                }
                Poll::Yield(how) => how,
            },
            Self::Writer(_, Some(status)) => match status.poll(cx) {
                Poll::Ready(done) => {
                    done.unwrap();
                    *self = Self::Writer(BufferSync::new(), None);
                    Yield::Again(Place::CheckPointGuts)
                }
                Poll::Yield(how) => how,
            },
        }
    }
}

/// Runs sessions for this number of steps.
fn run(seed: u64, steps: u32) -> (Fixture, Vec<(Xid, Lsn)>) {
    let mut draw = Draw(seed);
    let mut fixture = Fixture::primary();
    fixture.shmem.settings.shared_buffers = 4;
    let mut procs: Vec<(Pid, Process, Yield)> = Vec::new();
    for n in 0..3u32 {
        let (pid, backend) = session(&mut fixture, &mut draw, n);
        procs.push((pid, Process::Session(backend), Yield::Again(Place::Fork)));
    }
    let writer = fixture.spawn(Role::Checkpointer);
    let work = Process::Writer(BufferSync::new(), None);
    procs.push((writer, work, Yield::Again(Place::Fork)));

    let mut acked = Vec::new();
    for _ in 0..steps {
        let at = usize::try_from(draw.below(4)).unwrap();
        let (pid, process, last) = &mut procs[at];
        let can_run = match last {
            Yield::Again(_) => true,
            Yield::Wait(wait) if wait.op.is_some() => true,
            Yield::Wait(wait) if wait.lock => fixture.shmem.locks.is_woken(*pid),
            Yield::Wait(_) => false,
            Yield::Exit(exit) => panic!("{pid} ended: {exit:?}"),
        };
        if can_run {
            fixture.complete(*pid);
            *last = fixture.step(*pid, |cx| process.step(cx));
        }
        if let Process::Session(backend) = process {
            acked.extend(backend.session.last_commit.take());
        }
    }
    (fixture, acked)
}

/// A session whose commands have all arrived already.
fn session(fixture: &mut Fixture, draw: &mut Draw, n: u32) -> (Pid, Backend) {
    let pid = fixture.spawn(Role::Backend);
    let conn = ConnId { incarnation: 0, n };
    let mut state = Conn::accepted();
    for round in 0..40u64 {
        let mut texts = Vec::from([String::from("BEGIN")]);
        for put in 0..=draw.below(3) {
            let key = u64::from(n) * 1000 + round * 10 + put;
            let value = "5a".repeat(usize::try_from(draw.below(200)).unwrap());
            texts.push(format!("PUT {REL} {key} '{value}'"));
        }
        texts.push(String::from(if draw.below(4) == 0 {
            "ROLLBACK"
        } else {
            "COMMIT"
        }));
        for text in texts {
            state.apply(NetEvent::Data(FrontendMessage::Query(text).to_bytes()));
        }
    }
    fixture.sys(pid).conns.insert(conn, state);
    let frames = FrameReader::default();
    let role = Role::Backend;
    (
        pid,
        Backend::new(Become {
            role,
            conn,
            frames,
            settings: SessionSettings::default(),
            database: String::new(),
        }),
    )
}

/// The records in the WAL files.
fn records(fixture: &Fixture) -> Vec<Record> {
    let mut reader = WalReader::new(Geometry::SMALL, PgVersion::V15, Some(SYSID));
    reader.begin_read(Lsn(0x1028));
    let mut probe = crate::base::Probe::default();
    let mut records = Vec::new();
    loop {
        match reader.next(&mut probe) {
            Next::Record(record) => records.push(record),
            Next::Need { page, .. } => {
                let name = segment_name(&Geometry::SMALL, TimelineId(1), SegmentNo(page.0 / 4096));
                let Some(file) = fixture.files.get(&format!("pg_wal/{name}")) else {
                    return records;
                };
                let at = usize::try_from(page.0 % 4096).unwrap();
                reader.feed(page, Bytes::copy_from_slice(&file[at..at + 512]));
            }
            Next::End(_) => return records,
        }
    }
}

/// Replays the records over the files of `fixture`, and writes all pages to the files.
fn recover(fixture: &mut Fixture, records: &[Record]) -> Pid {
    let pid = fixture.spawn(Role::Startup);
    for record in records {
        let mut redo = Redo::new(record.clone());
        fixture.run(pid, |cx| redo.poll(cx)).unwrap();
        fixture.shmem.next_xid = fixture.shmem.next_xid.max(Xid(record.header.xid.0 + 1));
    }
    assert!(fixture.shmem.recovery.invalid_pages.is_empty());
    let mut pages = BufferSync::new();
    fixture.run(pid, |cx| pages.poll(cx)).unwrap();
    let mut status = CheckPointClog::new();
    fixture.run(pid, |cx| status.poll(cx)).unwrap();
    pid
}

/// The content of the file without zeros at its end. The file can end with pages of zeros: a
/// relation was extended, but the record of the new page was lost.
fn file(fixture: &Fixture, path: &str) -> Vec<u8> {
    trim(fixture.files.get(path).cloned().unwrap_or_default())
}

fn trim(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().rposition(|byte| *byte != 0);
    bytes.truncate(end.map_or(0, |at| at + 1));
    bytes
}

fn check(seed: u64, steps: u32) -> usize {
    let (crashed, acked) = run(seed, steps);
    let records = records(&crashed);
    let mut from_wal = Fixture::in_recovery();
    recover(&mut from_wal, &records);
    let mut from_files = Fixture::in_recovery();
    from_files.files = crashed.files.clone();
    let pid = recover(&mut from_files, &records);
    let both = |path: &str| [&from_wal, &from_files].map(|fixture| file(fixture, path));
    let [left, right] = both("base/5/16384");
    assert!(left == right, "pages of seed {seed}");
    // The status of an abort can reach the disk before the abort record. The comparison therefore
    // treats an aborted transaction like an unfinished transaction.
    let committed = |bytes: Vec<u8>| trim(bytes.iter().map(|b| b & !(b >> 1) & 0x55).collect());
    let [left, right] = both("pg_xact/0000").map(committed);
    assert!(left == right, "commit status of seed {seed}");
    let count = acked.len();
    for (xid, end) in acked {
        assert!(
            records
                .iter()
                .any(|record| record.end == end && record.header.xid == xid)
        );
        for put in records
            .iter()
            .filter(|r| r.header.xid == xid && !r.blocks.is_empty())
        {
            assert!(put.end < end);
        }
    }
    // Any session of the recovered server can read the rows.
    let snapshot = from_files.step(pid, |cx| Snapshot::take(cx, Xid::INVALID));
    let mut get = HeapGet::new(REL, 0, snapshot);
    from_files.run(pid, |cx| get.poll(cx)).unwrap();
    count
}

#[test]
fn replay_does_not_depend_on_what_was_written() {
    let mut commits = 0;
    for seed in 1..60 {
        commits += check(seed * 0x9E37_79B9, 300 + u32::try_from(seed).unwrap() * 60);
    }
    assert!(commits > 500, "{commits}");
}
