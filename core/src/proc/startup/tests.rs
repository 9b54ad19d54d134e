//! Complete starts of a server on an in-memory disk. The test acts as the checkpointer.

use super::*;
use crate::access::checkpoint::{CheckpointKind, CreateCheckPoint};
use crate::base::{Bug, Geometry, PgVersion, Pid, Planted, SegmentNo, Xid};
use crate::call::{Signal, Wait};
use crate::shmem::{CondVarId, RecoveryState, Role, WalRcvState};
use crate::sys::testing::Fixture;
use crate::wal::WalBuilder;
use crate::wal::position::{bytepos_to_end, skip_header};
use crate::wire::control_file::DbState;
use crate::wire::page::{PageHeader, overwrite_contrecord};
use crate::wire::record::{RecordBody, RmgrId};
use crate::wire::xlog_records::XlogRecord;
use alloc::string::String;
use alloc::vec::Vec;

mod recycled;
mod serve;

const FIRST: Lsn = Lsn(1024 + 40);

fn server(version: PgVersion, planted: Planted, state: DbState) -> Fixture {
    let mut fixture = Fixture::new(version, planted);
    fixture.shmem.control.state = state;
    // With this setting the server keeps all WAL, so that the test can examine it.
    fixture.shmem.settings.wal_keep_size = 1 << 20;
    fixture.shmem.settings.primary_conninfo = Some(("primary".into(), 5432));
    fixture
}

fn message(len: usize) -> RecordBody {
    RecordBody::new(
        RmgrId::LOGICAL_MESSAGE,
        0,
        Xid::INVALID,
        alloc::vec![0xAB; len],
    )
}

/// Runs the startup process until it ends or waits. A wait for a checkpoint does not count, because
/// this function performs the checkpoint.
fn start(fixture: &mut Fixture) -> Result<Exit, Wait> {
    let pid = fixture.spawn(Role::Startup);
    let checkpointer = fixture.spawn(Role::Checkpointer);
    let mut startup = Startup::new();
    loop {
        match advance(fixture, pid, &mut startup) {
            Err(wait) if wait.condvar && fixture.shmem.checkpointer.requests.end_of_recovery => {
                fixture.shmem.checkpointer.requests = Default::default();
                fixture.shmem.checkpointer.started += 1;
                let mut checkpoint = fixture.step(checkpointer, |cx| {
                    CreateCheckPoint::new(cx, CheckpointKind::EndOfRecovery)
                });
                let done = fixture.drive(checkpointer, |cx| checkpoint.poll(cx));
                assert_eq!(done, Ok(Ok(true)));
                assert_eq!(fixture.shmem.control.state, DbState::ShutDown);
                fixture.shmem.checkpointer.done += 1;
                fixture.shmem.condvars.broadcast(CondVarId::CheckpointDone);
            }
            outcome => return outcome,
        }
    }
}

fn advance(fixture: &mut Fixture, pid: Pid, startup: &mut Startup) -> Result<Exit, Wait> {
    fixture.drive(pid, |cx| match startup.step(cx) {
        Yield::Exit(exit) => Poll::Ready(exit),
        how @ (Yield::Again(_) | Yield::Wait(_)) => Poll::Yield(how),
    })
}

fn insert_position(fixture: &Fixture) -> Lsn {
    bytepos_to_end(&Geometry::SMALLEST, fixture.shmem.xlog.curr_byte_pos)
}

fn texts(fixture: &Fixture) -> Vec<String> {
    fixture
        .logs
        .iter()
        .map(|event| alloc::format!("{}", event.message))
        .collect()
}

#[test]
fn after_a_clean_shutdown_nothing_is_replayed() {
    let mut fixture = server(PgVersion::V15, Planted::NONE, DbState::ShutDown);
    let mut wal = fixture.wal();
    let end = wal.end();
    // After a clean shutdown, bytes after the end of WAL are not replayed, even if they look like
    // WAL.
    wal.append(&message(10));
    fixture.install(&wal);
    assert_eq!(start(&mut fixture), Ok(Exit::Normal));
    assert_eq!(fixture.shmem.control.state, DbState::InProduction);
    assert_eq!(fixture.shmem.recovery.state, RecoveryState::Done);
    assert_eq!(
        (insert_position(&fixture), fixture.shmem.xlog.flush),
        (end, end)
    );
    let page = &fixture.shmem.xlog.buffers[fixture.shmem.xlog.buffer_index(Lsn(1024), 256)].page;
    let valid = Geometry::SMALLEST.page_offset(end) as usize;
    assert_eq!(page[..valid], *fixture.read_wal(Lsn(1024), valid));
    assert!(page[valid..].iter().all(|byte| *byte == 0));
    assert!(fixture.trace.iter().all(|op| !op.starts_with("syncdir")));
}

#[test]
fn a_crash_is_replayed_to_its_end() {
    for version in PgVersion::ALL {
        let mut fixture = server(version, Planted::NONE, DbState::InProduction);
        let mut wal = fixture.wal();
        for len in [10, 300, 40, 2000] {
            let mut body = message(len);
            body.xid = Xid(20);
            wal.append(&body);
        }
        let end = wal.end();
        fixture.install(&wal);
        assert_eq!(start(&mut fixture), Ok(Exit::Normal));
        assert_eq!(fixture.shmem.next_xid, Xid(21));
        let records = fixture.records(FIRST);
        assert_eq!(records.len(), 6);
        assert_eq!(
            records[5],
            (skip_header(&Geometry::SMALLEST, end), RmgrId::XLOG, 0x00)
        );
        assert_eq!(fixture.shmem.control.checkpoint, records[5].0);
        assert_eq!(fixture.shmem.control.state, DbState::InProduction);
        assert!(fixture.probe.marks().contains(Mark::CrashRecovery));
        let of = |text: &str| fixture.trace.iter().position(|op| op.starts_with(text));
        assert!(
            of("syncdir .") < of("read pg_wal"),
            "durable before it is read"
        );
        assert!(fixture.shmem.recovery.insert_allowed.is_empty());
    }
}

/// The WAL of a server that crashed while it wrote a record of several pages, and the start of the
/// record.
fn aborted(fixture: &Fixture) -> (WalBuilder, Lsn) {
    let mut wal = fixture.wal();
    wal.append(&message(10));
    let start = wal.next_start();
    wal.append(&message(1500));
    (wal, start)
}

/// Any page of the record can be the first that is missing. The earlier pages stay as they are, the
/// missing page is rewritten, and readers skip the record.
#[test]
fn an_incomplete_record_is_overwritten_at_the_missing_page() {
    for version in PgVersion::ALL {
        for page in 1..7 {
            let missing = Lsn(1024 + 256 * page);
            let mut fixture = server(version, Planted::NONE, DbState::InProduction);
            let (wal, aborted) = aborted(&fixture);
            fixture.install(&wal);
            lose_from(&mut fixture, missing);
            let before = wal.bytes()[..256 * usize::try_from(page).expect("small")].to_vec();

            assert_eq!(start(&mut fixture), Ok(Exit::Normal), "page {page}");
            assert!(fixture.probe.marks().contains(Mark::OverwriteContrecord));
            let mut kept = Vec::new();
            for at in 0..page {
                kept.extend_from_slice(fixture.read_wal(Lsn(1024 + 256 * at), 256));
            }
            assert!(kept == before, "what may have been streamed stays");
            let header = PageHeader::decode(fixture.read_wal(missing, 24)).expect("a page");
            assert!(header.has(overwrite_contrecord(version)));
            let records = fixture.records(FIRST);
            let kinds: Vec<_> = records
                .iter()
                .map(|(_, rmid, info)| (rmid.0, *info))
                .collect();
            assert_eq!(
                kinds,
                [(0, 0x00), (21, 0), (0, 0xD0), (0, 0x00)],
                "page {page}"
            );
            assert_eq!(records[2].0, skip_header(&Geometry::SMALLEST, missing));
            assert!(records.iter().all(|(at, ..)| *at != aborted));
        }
    }
}

/// If the server crashes right after it has overwritten the missing page, replay skips the
/// incomplete record.
#[test]
fn an_overwritten_record_is_skipped_in_replay() {
    let mut fixture = server(PgVersion::V18, Planted::NONE, DbState::InProduction);
    let (mut wal, aborted) = aborted(&fixture);
    let last = Lsn(FIRST.0 + 120);
    assert_eq!(wal.prev(), aborted);
    wal.overwrite_contrecord([last, aborted, Lsn(1024 + 512)], fixture.now.wall);
    let end = wal.end();
    fixture.install(&wal);
    assert_eq!(
        start(&mut fixture),
        Ok(Exit::Normal),
        "{:?}",
        texts(&fixture)
    );
    let skipped = Message::SkippedMissingContrecord(aborted.text(PgVersion::V18));
    assert!(
        fixture.logs.iter().any(|event| event.message == skipped),
        "{:?}",
        texts(&fixture)
    );
    assert_eq!(
        fixture.records(FIRST).last().map(|last| last.0),
        Some(skip_header(&Geometry::SMALLEST, end))
    );
    assert!(!fixture.probe.marks().contains(Mark::OverwriteContrecord));
}

/// As in releases before 14.1, new WAL overwrites the first part of the incomplete record.
#[test]
fn the_planted_bug_writes_over_the_incomplete_record() {
    let planted = Planted::NONE.with(Bug::ContrecordDivergence);
    let mut fixture = server(PgVersion::V15, planted, DbState::InProduction);
    let (wal, aborted) = aborted(&fixture);
    fixture.install(&wal);
    lose_from(&mut fixture, Lsn(1024 + 512));
    assert_eq!(start(&mut fixture), Ok(Exit::Normal));
    let overwritten = fixture.records(FIRST).iter().any(|(at, ..)| *at == aborted);
    assert_eq!(overwritten, Planted::AVAILABLE);
}

/// The paths of `count` segment files from `at` on, each with the offset at which WAL after `at`
/// begins in the file.
fn tails(fixture: &Fixture, at: Lsn, count: u64) -> Vec<(String, usize)> {
    let (first, offset) = (
        Geometry::SMALLEST.segment_of(at).0,
        Geometry::SMALLEST.segment_offset(at) as usize,
    );
    let from = |segment| if segment == first { offset } else { 0 };
    (first..first + count)
        .map(|segment| (fixture.segment_path(SegmentNo(segment)), from(segment)))
        .collect()
}

/// Replaces all WAL from a page on with zeros, as if the WAL had never been written.
fn lose_from(fixture: &mut Fixture, at: Lsn) {
    for (path, from) in tails(fixture, at, 3) {
        if let Some(file) = fixture.files.get_mut(&path) {
            file[from..].fill(0);
        }
    }
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_a_panic() {
    let mut fixture = server(PgVersion::V15, Planted::NONE, DbState::InProduction);
    let wal = fixture.wal();
    fixture.install(&wal);
    lose_from(&mut fixture, Lsn(1024));
    assert!(matches!(start(&mut fixture), Ok(Exit::Panic(_))));
    let mut fixture = server(PgVersion::V15, Planted::NONE, DbState::ShutDown);
    fixture.shmem.control.checkpoint = Lsn(1024 + 8);
    assert!(matches!(start(&mut fixture), Ok(Exit::Fatal(_))));
}

/// A standby made from a cleanly stopped cluster is consistent at once and allows sessions. It
/// requests WAL from the end of its local WAL.
#[test]
fn a_standby_opens_and_follows() {
    let mut fixture = server(PgVersion::V18, Planted::NONE, DbState::ShutDown);
    fixture.files.insert("standby.signal".into(), Vec::new());
    let mut wal = fixture.wal();
    wal.append(&message(10));
    fixture.install(&wal);
    let wait = start(&mut fixture).expect_err("never ends");
    assert!(wait.latch);
    assert_eq!(fixture.shmem.recovery.state, RecoveryState::Archive);
    assert!(fixture.shmem.recovery.consistent && fixture.shmem.recovery.hot_standby_active);
    assert!(fixture.shmem.postmaster.take(PmSignal::BeginHotStandby));
    assert_eq!(fixture.shmem.recovery.last_replayed_end, wal.end());
    assert_eq!(fixture.shmem.walrcv.state, WalRcvState::Starting);
    assert_eq!(fixture.shmem.walrcv.receive_start, Lsn(1024));
    let control = &fixture.shmem.control;
    assert_eq!(
        (control.state, control.min_recovery_point),
        (DbState::InArchiveRecovery, FIRST)
    );
    assert!(fixture.trace.iter().any(|op| op == "fsync standby.signal"));
}

/// A crashed primary that becomes a standby replays all its local WAL before it allows sessions.
#[test]
fn a_crashed_primary_becomes_a_standby_after_its_own_wal() {
    let mut fixture = server(PgVersion::V15, Planted::NONE, DbState::InProduction);
    fixture.files.insert("standby.signal".into(), Vec::new());
    let (wal, aborted) = aborted(&fixture);
    fixture.install(&wal);
    lose_from(&mut fixture, Lsn(1024 + 512));
    assert!(start(&mut fixture).is_err());
    let control = &fixture.shmem.control;
    assert_eq!(
        (control.state, control.min_recovery_point),
        (DbState::InArchiveRecovery, aborted)
    );
    assert_eq!(
        fixture.files["global/pg_control"],
        control.encode(PgVersion::V15)
    );
    assert!(fixture.shmem.recovery.consistent);
    assert!(
        texts(&fixture)
            .iter()
            .any(|text| text.starts_with("consistent recovery state"))
    );
}

#[test]
fn sigterm_ends_a_standby_with_status_1() {
    let mut fixture = server(PgVersion::V18, Planted::NONE, DbState::ShutDown);
    fixture.files.insert("standby.signal".into(), Vec::new());
    let wal = fixture.wal();
    fixture.install(&wal);
    let pid = fixture.spawn(Role::Startup);
    let mut startup = Startup::new();
    assert!(advance(&mut fixture, pid, &mut startup).is_err());
    fixture
        .procs
        .get_mut(&pid)
        .expect("attached")
        .signal(Signal::Term);
    assert!(matches!(
        advance(&mut fixture, pid, &mut startup),
        Ok(Exit::Silent)
    ));
}

/// Since 17 a record marks the redo point.
#[test]
fn redo_of_18_starts_at_a_checkpoint_redo_record() {
    for (version, first, ok) in [
        (PgVersion::V18, XlogRecord::CheckpointRedo(1), true),
        (PgVersion::V18, XlogRecord::NextOid(5), false),
        (PgVersion::V15, XlogRecord::NextOid(5), true),
    ] {
        let mut fixture = server(version, Planted::NONE, DbState::InProduction);
        let mut wal = fixture.wal();
        let redo = wal.append(&fixture.xlog(&first)).start;
        let mut checkpoint = fixture.shmem.control.checkpoint_copy;
        checkpoint.redo = redo;
        let placed = wal.append(&fixture.xlog(&XlogRecord::CheckpointOnline(checkpoint)));
        fixture.shmem.control.checkpoint = placed.start;
        fixture.shmem.control.checkpoint_copy = checkpoint;
        fixture.install(&wal);
        let exit = start(&mut fixture);
        assert_eq!(
            exit == Ok(Exit::Normal),
            ok,
            "{version:?} {first:?}: {exit:?}"
        );
    }
}
