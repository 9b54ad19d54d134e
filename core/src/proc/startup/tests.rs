//! Whole server starts on an in-memory disk. The test acts as the checkpointer.

use super::*;
use crate::access::checkpoint::{CheckpointKind, CreateCheckPoint};
use crate::base::{Bug, PgVersion, Pid, Planted, SegmentNo, Xid};
use crate::call::{Signal, Wait};
use crate::shmem::{CondVarId, RecoveryState, Role, WalRcvState};
use crate::sys::testing::bench::{Bench, TINY};
use crate::wal::WalBuilder;
use crate::wal::position::{bytepos_to_end, skip_header};
use crate::wire::control_file::DbState;
use crate::wire::page::{FIRST_IS_OVERWRITE_CONTRECORD, PageHeader};
use crate::wire::record::{RecordBody, RmgrId};
use crate::wire::xlog_records::XlogRecord;
use alloc::string::String;
use alloc::vec::Vec;

mod recycled;
mod serve;

const FIRST: Lsn = Lsn(1024 + 40);

fn server(version: PgVersion, planted: Planted, state: DbState) -> Bench {
    let mut bench = Bench::new(version, TINY, planted);
    bench.shmem.control.state = state;
    // Keeps all WAL, so that the test can examine it.
    bench.shmem.settings.wal_keep_size = 1 << 20;
    bench.shmem.settings.primary_conninfo = Some(("primary".into(), 5432));
    bench
}

fn message(len: usize) -> RecordBody {
    RecordBody::new(
        RmgrId::LOGICAL_MESSAGE,
        0,
        Xid::INVALID,
        alloc::vec![0xAB; len],
    )
}

/// Runs the startup process until it ends or waits for anything other than a checkpoint.
fn start(bench: &mut Bench) -> Result<Exit, Wait> {
    let pid = bench.attach(Role::Startup);
    let checkpointer = bench.attach(Role::Checkpointer);
    let mut startup = Startup::new();
    loop {
        match advance(bench, pid, &mut startup) {
            Err(wait) if wait.condvar && bench.shmem.checkpointer.requests.end_of_recovery => {
                bench.shmem.checkpointer.requests = Default::default();
                bench.shmem.checkpointer.started += 1;
                let mut checkpoint = bench.step(checkpointer, |cx| {
                    CreateCheckPoint::new(cx, CheckpointKind::EndOfRecovery)
                });
                let done = bench.drive(checkpointer, |cx| checkpoint.poll(cx));
                assert_eq!(done, Ok(Ok(true)));
                assert_eq!(bench.shmem.control.state, DbState::ShutDown);
                bench.shmem.checkpointer.done += 1;
                bench.shmem.condvars.broadcast(CondVarId::CheckpointDone);
            }
            outcome => return outcome,
        }
    }
}

fn advance(bench: &mut Bench, pid: Pid, startup: &mut Startup) -> Result<Exit, Wait> {
    bench.drive(pid, |cx| match startup.step(cx) {
        Yield::Exit(exit) => Poll::Ready(exit),
        how @ (Yield::Again(_) | Yield::Wait(_)) => Poll::Yield(how),
    })
}

fn insert_position(bench: &Bench) -> Lsn {
    bytepos_to_end(&TINY, bench.shmem.xlog.curr_byte_pos)
}

fn texts(bench: &Bench) -> Vec<String> {
    bench
        .logs
        .iter()
        .map(|event| alloc::format!("{}", event.message))
        .collect()
}

#[test]
fn after_a_clean_shutdown_nothing_is_replayed() {
    let mut bench = server(PgVersion::V15, Planted::NONE, DbState::ShutDown);
    let mut wal = bench.wal();
    let end = wal.end();
    // Bytes after a clean end of WAL are not WAL, even if they look like it.
    wal.append(&message(10));
    bench.install(&wal);
    assert_eq!(start(&mut bench), Ok(Exit::Normal));
    assert_eq!(bench.shmem.control.state, DbState::InProduction);
    assert_eq!(bench.shmem.recovery.state, RecoveryState::Done);
    assert_eq!(
        (insert_position(&bench), bench.shmem.xlog.flush),
        (end, end)
    );
    let page = &bench.shmem.xlog.buffers[bench.shmem.xlog.buffer_index(Lsn(1024), 256)].page;
    let valid = TINY.page_offset(end) as usize;
    assert_eq!(page[..valid], *bench.read_wal(Lsn(1024), valid));
    assert!(page[valid..].iter().all(|byte| *byte == 0));
    assert!(bench.trace.iter().all(|op| !op.starts_with("syncdir")));
}

#[test]
fn a_crash_is_replayed_to_its_end() {
    for version in PgVersion::ALL {
        let mut bench = server(version, Planted::NONE, DbState::InProduction);
        let mut wal = bench.wal();
        for len in [10, 300, 40, 2000] {
            let mut body = message(len);
            body.xid = Xid(20);
            wal.append(&body);
        }
        let end = wal.end();
        bench.install(&wal);
        assert_eq!(start(&mut bench), Ok(Exit::Normal));
        assert_eq!(bench.shmem.next_xid, Xid(21));
        let records = bench.records(FIRST);
        assert_eq!(records.len(), 6);
        assert_eq!(records[5], (skip_header(&TINY, end), RmgrId::XLOG, 0x00));
        assert_eq!(bench.shmem.control.checkpoint, records[5].0);
        assert_eq!(bench.shmem.control.state, DbState::InProduction);
        assert!(bench.probe.marks().contains(Mark::CrashRecovery));
        let of = |text: &str| bench.trace.iter().position(|op| op.starts_with(text));
        assert!(
            of("syncdir .") < of("read pg_wal"),
            "durable before it is read"
        );
        assert!(bench.shmem.recovery.insert_allowed.is_empty());
    }
}

/// The WAL of a server that crashed within a record of several pages, and the start of this record.
fn aborted(bench: &Bench) -> (WalBuilder, Lsn) {
    let mut wal = bench.wal();
    wal.append(&message(10));
    let start = wal.next_start();
    wal.append(&message(1500));
    (wal, start)
}

/// Whichever page of the record is missing first, the pages before it stay as they are. The missing
/// page is rewritten, and readers skip the record.
#[test]
fn an_incomplete_record_is_overwritten_at_the_missing_page() {
    for version in PgVersion::ALL {
        for page in 1..7 {
            let missing = Lsn(1024 + 256 * page);
            let mut bench = server(version, Planted::NONE, DbState::InProduction);
            let (wal, aborted) = aborted(&bench);
            bench.install(&wal);
            lose_from(&mut bench, missing);
            let before = wal.bytes()[..256 * usize::try_from(page).expect("small")].to_vec();

            assert_eq!(start(&mut bench), Ok(Exit::Normal), "page {page}");
            assert!(bench.probe.marks().contains(Mark::OverwriteContrecord));
            let mut kept = Vec::new();
            for at in 0..page {
                kept.extend_from_slice(bench.read_wal(Lsn(1024 + 256 * at), 256));
            }
            assert!(kept == before, "what may have been streamed stays");
            let header = PageHeader::decode(bench.read_wal(missing, 24)).expect("a page");
            assert!(header.has(FIRST_IS_OVERWRITE_CONTRECORD));
            let records = bench.records(FIRST);
            let kinds: Vec<_> = records
                .iter()
                .map(|(_, rmid, info)| (rmid.0, *info))
                .collect();
            assert_eq!(
                kinds,
                [(0, 0x00), (21, 0), (0, 0xD0), (0, 0x00)],
                "page {page}"
            );
            assert_eq!(records[2].0, skip_header(&TINY, missing));
            assert!(records.iter().all(|(at, ..)| *at != aborted));
        }
    }
}

/// After a crash right after the overwriting, replay skips the record.
#[test]
fn an_overwritten_record_is_skipped_in_replay() {
    let mut bench = server(PgVersion::V18, Planted::NONE, DbState::InProduction);
    let (mut wal, aborted) = aborted(&bench);
    let last = Lsn(FIRST.0 + 120);
    assert_eq!(wal.prev(), aborted);
    wal.overwrite_contrecord([last, aborted, Lsn(1024 + 512)], bench.now.wall);
    let end = wal.end();
    bench.install(&wal);
    assert_eq!(start(&mut bench), Ok(Exit::Normal), "{:?}", texts(&bench));
    let skipped = Message::SkippedMissingContrecord(aborted.text(PgVersion::V18));
    assert!(
        bench.logs.iter().any(|event| event.message == skipped),
        "{:?}",
        texts(&bench)
    );
    assert_eq!(
        bench.records(FIRST).last().map(|last| last.0),
        Some(skip_header(&TINY, end))
    );
    assert!(!bench.probe.marks().contains(Mark::OverwriteContrecord));
}

/// As before 14.1, new WAL overwrites the first part of the incomplete record.
#[test]
fn the_planted_bug_writes_over_the_incomplete_record() {
    let planted = Planted::NONE.with(Bug::ContrecordDivergence);
    let mut bench = server(PgVersion::V15, planted, DbState::InProduction);
    let (wal, aborted) = aborted(&bench);
    bench.install(&wal);
    lose_from(&mut bench, Lsn(1024 + 512));
    assert_eq!(start(&mut bench), Ok(Exit::Normal));
    let overwritten = bench.records(FIRST).iter().any(|(at, ..)| *at == aborted);
    assert_eq!(overwritten, Planted::AVAILABLE);
}

/// Replaces the WAL from a page on by zeros, as if it had never been written.
fn lose_from(bench: &mut Bench, at: Lsn) {
    let first = TINY.segment_of(at);
    for segment in first.0..first.0 + 3 {
        let path = bench.segment_path(SegmentNo(segment));
        let from = if segment == first.0 {
            TINY.segment_offset(at) as usize
        } else {
            0
        };
        if let Some(file) = bench.files.get_mut(&path) {
            file[from..].fill(0);
        }
    }
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_a_panic() {
    let mut bench = server(PgVersion::V15, Planted::NONE, DbState::InProduction);
    let wal = bench.wal();
    bench.install(&wal);
    lose_from(&mut bench, Lsn(1024));
    assert!(matches!(start(&mut bench), Ok(Exit::Panic(_))));
    let mut bench = server(PgVersion::V15, Planted::NONE, DbState::ShutDown);
    bench.shmem.control.checkpoint = Lsn(1024 + 8);
    assert!(matches!(start(&mut bench), Ok(Exit::Fatal(_))));
}

/// A standby made from a clean cluster is consistent at once, allows sessions, and requests WAL
/// from the end of its own.
#[test]
fn a_standby_opens_and_follows() {
    let mut bench = server(PgVersion::V18, Planted::NONE, DbState::ShutDown);
    bench.files.insert("standby.signal".into(), Vec::new());
    let mut wal = bench.wal();
    wal.append(&message(10));
    bench.install(&wal);
    let wait = start(&mut bench).expect_err("never ends");
    assert!(wait.latch);
    assert_eq!(bench.shmem.recovery.state, RecoveryState::Archive);
    assert!(bench.shmem.recovery.consistent && bench.shmem.recovery.hot_standby_active);
    assert!(bench.shmem.postmaster.take(PmSignal::BeginHotStandby));
    assert_eq!(bench.shmem.recovery.last_replayed_end, wal.end());
    assert_eq!(bench.shmem.walrcv.state, WalRcvState::Starting);
    assert_eq!(bench.shmem.walrcv.receive_start, Lsn(1024));
    let control = &bench.shmem.control;
    assert_eq!(
        (control.state, control.min_recovery_point),
        (DbState::InArchiveRecovery, FIRST)
    );
    assert!(bench.trace.iter().any(|op| op == "fsync standby.signal"));
}

/// A crashed primary that becomes a standby replays all its local WAL before sessions are allowed.
#[test]
fn a_crashed_primary_becomes_a_standby_after_its_own_wal() {
    let mut bench = server(PgVersion::V15, Planted::NONE, DbState::InProduction);
    bench.files.insert("standby.signal".into(), Vec::new());
    let (wal, aborted) = aborted(&bench);
    bench.install(&wal);
    lose_from(&mut bench, Lsn(1024 + 512));
    assert!(start(&mut bench).is_err());
    let control = &bench.shmem.control;
    assert_eq!(
        (control.state, control.min_recovery_point),
        (DbState::InArchiveRecovery, aborted)
    );
    assert_eq!(
        bench.files["global/pg_control"],
        control.encode(PgVersion::V15)
    );
    assert!(bench.shmem.recovery.consistent);
    assert!(
        texts(&bench)
            .iter()
            .any(|text| text.starts_with("consistent recovery state"))
    );
}

#[test]
fn sigterm_ends_a_standby_with_status_1() {
    let mut bench = server(PgVersion::V18, Planted::NONE, DbState::ShutDown);
    bench.files.insert("standby.signal".into(), Vec::new());
    let wal = bench.wal();
    bench.install(&wal);
    let pid = bench.attach(Role::Startup);
    let mut startup = Startup::new();
    assert!(advance(&mut bench, pid, &mut startup).is_err());
    bench
        .procs
        .get_mut(&pid)
        .expect("attached")
        .signal(Signal::Term);
    assert!(matches!(
        advance(&mut bench, pid, &mut startup),
        Ok(Exit::Silent)
    ));
}

/// Since 17 the redo point is marked with a record.
#[test]
fn redo_of_18_starts_at_a_checkpoint_redo_record() {
    for (version, first, ok) in [
        (PgVersion::V18, XlogRecord::CheckpointRedo(1), true),
        (PgVersion::V18, XlogRecord::NextOid(5), false),
        (PgVersion::V15, XlogRecord::NextOid(5), true),
    ] {
        let mut bench = server(version, Planted::NONE, DbState::InProduction);
        let mut wal = bench.wal();
        let redo = wal.append(&bench.xlog(&first)).start;
        let mut checkpoint = bench.shmem.control.checkpoint_copy;
        checkpoint.redo = redo;
        let placed = wal.append(&bench.xlog(&XlogRecord::CheckpointOnline(checkpoint)));
        bench.shmem.control.checkpoint = placed.start;
        bench.shmem.control.checkpoint_copy = checkpoint;
        bench.install(&wal);
        let exit = start(&mut bench);
        assert_eq!(
            exit == Ok(Exit::Normal),
            ok,
            "{version:?} {first:?}: {exit:?}"
        );
    }
}
