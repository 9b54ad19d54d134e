//! Tests of the state machine in WaitForWALToBecomeAvailable.

use super::*;
use crate::base::{Geometry, Pid, Planted};
use crate::shmem::{PmSignal, Role, WalRcvState};
use crate::sys::testing::{Fixture, SYSID};
use alloc::vec::Vec;

const CRASH: RecoveryMode = RecoveryMode {
    standby_requested: false,
    in_archive: false,
};
const STANDBY: RecoveryMode = RecoveryMode {
    standby_requested: true,
    in_archive: true,
};

struct Table {
    fixture: Fixture,
    pid: Pid,
    source: WalSource,
    reader: WalReader,
}

impl Table {
    fn new(version: PgVersion, mode: RecoveryMode) -> Self {
        let mut fixture = Fixture::new(version, Planted::NONE);
        fixture.shmem.settings.primary_conninfo = Some(("primary".into(), 5432));
        let pid = fixture.spawn(Role::Startup);
        let reader = WalReader::new(Geometry::SMALLEST, version, Some(SYSID));
        let source = WalSource::new(&fixture.shmem.settings, mode, TimelineId(1));
        Self {
            fixture,
            pid,
            source,
            reader,
        }
    }

    /// Installs segment 1 of a new cluster.
    fn with_wal(mut self) -> Self {
        let wal = self.fixture.wal();
        self.fixture.install(&wal);
        self
    }

    fn read(&mut self, page: u64, len: u32) -> Result<Result<Bytes, WalError>, Wait> {
        let request = PageRequest {
            page: Lsn(page),
            len,
            fetching_checkpoint: None,
        };
        let (source, reader) = (&mut self.source, &self.reader);
        let outcome = self
            .fixture
            .drive(self.pid, |cx| source.poll(cx, request, reader))?;
        Ok(outcome.expect("no reason to die"))
    }

    fn has_requested_a_walreceiver(&mut self) -> bool {
        let postmaster = &mut self.fixture.shmem.postmaster;
        postmaster.take(PmSignal::StartWalReceiver)
    }

    /// Makes a walreceiver stream, with WAL flushed up to `upto`.
    fn receive(&mut self, upto: u64) {
        self.fixture.shmem.walrcv.state = WalRcvState::Streaming;
        self.fixture.shmem.walrcv.flushed_upto = Lsn(upto);
    }
}

#[test]
fn crash_recovery_reads_local_files_and_does_not_wait() {
    let mut table = Table::new(PgVersion::V15, CRASH).with_wal();
    assert_eq!(
        table.read(1024, 24).map(|page| page.map(|page| page.len())),
        Ok(Ok(256))
    );
    let missing = table.read(2048, 24);
    assert!(
        matches!(missing, Ok(Err(WalError::NoFile { .. }))),
        "{missing:?}"
    );
    assert_eq!(table.fixture.shmem.walrcv.state, WalRcvState::Stopped);
}

/// In crash recovery the reader itself rejects an invalid page. A segment file that is too short
/// means the end of WAL.
#[test]
fn a_short_segment_ends_crash_recovery() {
    let mut table = Table::new(PgVersion::V15, CRASH).with_wal();
    let path = table.fixture.segment_path(SegmentNo(1));
    table
        .fixture
        .files
        .get_mut(&path)
        .expect("installed")
        .truncate(300);
    assert!(matches!(table.read(1024, 24), Ok(Ok(_))));
    assert!(matches!(
        table.read(1280, 24),
        Ok(Err(WalError::ShortRead { got: 44, .. }))
    ));
}

/// Streaming starts at a segment boundary. A new segment file therefore never begins with a gap.
#[test]
fn a_standby_requests_missing_wal() {
    let mut table = Table::new(PgVersion::V15, STANDBY);
    let wait = table.read(1280, 24).expect_err("nothing to read yet");
    assert!(wait.latch);
    let walrcv = &table.fixture.shmem.walrcv;
    assert_eq!(
        (walrcv.state, walrcv.receive_start),
        (WalRcvState::Starting, Lsn(1024))
    );
    assert_eq!(walrcv.flushed_upto, Lsn(1024));
    assert!(walrcv.force_reply);
    assert!(table.has_requested_a_walreceiver());
    assert!(table.fixture.shmem.recovery.install_segment_active);
}

#[test]
fn only_15_wakes_by_itself() {
    for (version, until) in [
        (PgVersion::V15, Some(Mono(5_000_000))),
        (PgVersion::V18, None),
    ] {
        let wait = Table::new(version, STANDBY)
            .read(1024, 24)
            .expect_err("waits");
        assert_eq!((wait.latch, wait.until), (true, until));
    }
}

#[test]
fn the_stream_is_never_read_beyond_the_flush_position() {
    let mut table = Table::new(PgVersion::V18, STANDBY);
    assert!(table.read(1024, 24).is_err());
    table = table.with_wal();
    for (flushed, page, len, given) in [
        (1024 + 24, 1024, 24, None),
        (1024 + 160, 1024, 64, Some(160)),
        (1024 + 160, 1024, 160, Some(160)),
        (1024 + 256, 1024, 200, Some(256)),
        (1024 + 256, 1280, 24, None),
        (1024 + 512, 1024, 256, Some(256)),
        (1024 + 512, 1280, 24, Some(256)),
    ] {
        table.receive(flushed);
        let got = table.read(page, len);
        let got = got.map(|page| page.expect("a good page").len()).ok();
        assert_eq!(got, given, "flushed to {flushed}, {len} bytes of {page}");
    }
}

/// After a walreceiver has ended, the WAL that it has written is read from the file, up to the end
/// of the file.
#[test]
fn local_files_come_after_a_stream_that_ended() {
    let mut table = Table::new(PgVersion::V18, STANDBY);
    assert!(table.read(1024, 24).is_err());
    table = table.with_wal();
    table.fixture.shmem.walrcv.state = WalRcvState::Stopped;
    assert_eq!(
        table.read(1024, 24).map(|page| page.map(|page| page.len())),
        Ok(Ok(256))
    );
    assert!(!table.source.is_streaming());
}

/// After the second failure within wal_retrieve_retry_interval, recovery waits for the rest of the
/// interval.
#[test]
fn consecutive_failures_wait_for_the_retry_interval() {
    let mut table = Table::new(PgVersion::V18, STANDBY);
    assert!(table.read(1024, 24).is_err());
    table.fixture.shmem.walrcv.state = WalRcvState::Stopped;
    assert!(table.read(1024, 24).is_err(), "at once the first time");
    assert_eq!(table.fixture.shmem.walrcv.state, WalRcvState::Starting);
    table.fixture.pass_ms(1000);
    table.fixture.shmem.walrcv.state = WalRcvState::Stopped;
    let wait = table.read(1024, 24).expect_err("sleeps");
    assert_eq!(wait.until, Some(Mono(5_000_000)));
    assert_eq!(table.fixture.shmem.walrcv.state, WalRcvState::Stopped);
    table.fixture.pass_ms(4000);
    assert!(table.read(1024, 24).is_err());
    assert_eq!(table.fixture.shmem.walrcv.state, WalRcvState::Starting);
}

/// If a requested walreceiver does not start, the startup process requests it again after ten
/// seconds.
#[test]
fn a_walreceiver_that_does_not_start_is_requested_again() {
    let mut table = Table::new(PgVersion::V18, STANDBY);
    assert!(table.read(1024, 24).is_err());
    assert!(table.has_requested_a_walreceiver());
    table.fixture.pass_ms(10_000);
    assert!(table.read(1024, 24).is_err());
    assert!(!table.has_requested_a_walreceiver());
    table.fixture.pass_ms(1000);
    assert!(table.read(1024, 24).is_err());
    assert!(table.has_requested_a_walreceiver());
}

/// A recycled segment is rejected at its first page, before the reader uses any record from it.
#[test]
fn a_recycled_first_page_sends_a_standby_to_the_stream() {
    let mut table = Table::new(PgVersion::V15, STANDBY).with_wal();
    let old = table.fixture.files[&table.fixture.segment_path(SegmentNo(1))].clone();
    let path = table.fixture.segment_path(SegmentNo(2));
    table.fixture.files.insert(path, old);
    assert!(table.read(2048, 24).is_err(), "waits for the stream");
    assert_eq!(table.fixture.shmem.walrcv.receive_start, Lsn(2048));
    let texts: Vec<_> = table
        .fixture
        .logs
        .iter()
        .map(|event| event.message.clone())
        .collect();
    assert!(
        matches!(texts[..], [Message::WalEnd(WalError::PageAddr { .. })]),
        "{texts:?}"
    );
}

/// With the planted bug the source does not validate the first page of a segment, and returns a
/// recycled page.
#[test]
#[cfg(feature = "planted-bugs")]
fn with_the_bug_a_recycled_segment_is_accepted() {
    let mut table = Table::new(PgVersion::V15, STANDBY).with_wal();
    let planted = Planted::NONE.with(Bug::RecycledFirstPage);
    table.fixture.probe = crate::base::Probe::new(planted);
    let old = table.fixture.files[&table.fixture.segment_path(SegmentNo(1))].clone();
    let path = table.fixture.segment_path(SegmentNo(2));
    table.fixture.files.insert(path, old);
    assert!(matches!(table.read(2048, 24), Ok(Ok(_))));
}

/// After the reader has rejected streamed WAL, the walreceiver is stopped. Local files are read
/// only after that.
#[test]
fn a_rejected_stream_stops_the_walreceiver() {
    let mut table = Table::new(PgVersion::V18, STANDBY);
    assert!(table.read(1024, 24).is_err());
    table = table.with_wal();
    table.receive(1400);
    let walreceiver = table.fixture.spawn(Role::WalReceiver);
    table.fixture.shmem.walrcv.pid = Some(walreceiver);
    assert!(matches!(table.read(1024, 24), Ok(Ok(_))));
    let source = &mut table.source;
    table.fixture.step(table.pid, |cx| source.reject(cx));
    let wait = table.read(1024, 24).expect_err("waits until it is gone");
    assert!(wait.condvar && !wait.latch);
    assert_eq!(table.fixture.kernel.signals, [(walreceiver, Signal::Term)]);
    assert_eq!(table.fixture.shmem.walrcv.state, WalRcvState::Stopping);
    table.fixture.shmem.walrcv.state = WalRcvState::Stopped;
    assert!(matches!(table.read(1024, 24), Ok(Ok(_))));
    assert!(!table.fixture.shmem.recovery.install_segment_active);
}

#[test]
fn sigterm_ends_the_wait() {
    let mut table = Table::new(PgVersion::V18, STANDBY);
    assert!(table.read(1024, 24).is_err());
    table
        .fixture
        .procs
        .get_mut(&table.pid)
        .expect("attached")
        .signal(Signal::Term);
    let request = PageRequest {
        page: Lsn(1024),
        len: 24,
        fetching_checkpoint: None,
    };
    let (source, reader) = (&mut table.source, &table.reader);
    let outcome = table
        .fixture
        .drive(table.pid, |cx| source.poll(cx, request, reader));
    assert!(matches!(outcome, Ok(Err(_))));
}
