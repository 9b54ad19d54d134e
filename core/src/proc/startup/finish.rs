//! The end of recovery. Mirrors FinishWalRecovery, the second half of StartupXLOG,
//! CreateOverwriteContrecordRecord and PerformRecoveryXLogAction.

use super::Recovery;
use crate::access::checkpoint::insert;
use crate::access::checkpoint_request::RequestCheckpoint;
use crate::access::clog::TrimClog;
use crate::access::wal_file::segment_path;
use crate::access::xlog_flush::XLogFlush;
use crate::access::xlog_insert::XLogInsert;
use crate::base::{Bug, Fd, Lsn, Mark};
use crate::call::{DiskDone, DiskOp, LogEvent, Message, OpenFlags, Place, Poll, SqlState, Yield};
use crate::shmem::{CheckpointRequests, LockId, LockMode, RecoveryState};
use crate::storage::control::UpdateControlFile;
use crate::storage::file::opened;
use crate::sys::Cx;
use crate::wal::position::{lsn_to_bytepos, skip_header};
use crate::wal::{Aborted, PageIdent, init_page, mark_overwrite};
use crate::wire::control_file::DbState;
use crate::wire::xlog_records::{OverwriteContrecord, XlogRecord};
use crate::{ready, ready_ok};
use alloc::sync::Arc;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Finish {
    /// `EndOfLog`: the position at which new WAL starts.
    end: Lsn,
    /// The incomplete record to overwrite.
    aborted: Option<Aborted>,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Start,
    LastPageOpened,
    LastPageRead(Fd),
    Trim(TrimClog),
    Overwrite,
    InsertOverwrite(XLogInsert),
    FlushOverwrite(XLogFlush),
    Checkpoint(RequestCheckpoint),
    LockControl,
    Control(UpdateControlFile),
}

impl Finish {
    pub(super) const fn new() -> Self {
        Self {
            end: Lsn::INVALID,
            aborted: None,
            phase: Phase::Start,
        }
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Cx<'_>,
        recovery: &mut Recovery,
    ) -> Poll<Result<(), LogEvent>> {
        let why = Place::StartupXLOG;
        let geometry = cx.shmem.settings.geometry;
        loop {
            match &mut self.phase {
                Phase::Start => {
                    self.start(cx, recovery);
                    if geometry.page_offset(self.end) == 0 {
                        cx.shmem.xlog.initialized_upto = self.end;
                        self.phase = Phase::Trim(TrimClog::new(cx.shmem.next_xid));
                        continue;
                    }
                    let segment = geometry.segment_of(self.end);
                    let path = segment_path(cx, recovery.tli, segment);
                    self.phase = Phase::LastPageOpened;
                    let op = DiskOp::Open {
                        path,
                        flags: OpenFlags::Existing,
                    };
                    return Poll::Yield(cx.disk(op, Place::FinishWalRecovery));
                }
                Phase::LastPageOpened => {
                    let fd = match cx.done() {
                        Ok(done) => opened(done),
                        Err(_) => return Poll::Ready(Err(self.lost())),
                    };
                    self.phase = Phase::LastPageRead(fd);
                    let offset = geometry
                        .segment_offset(geometry.page_start(self.end))
                        .into();
                    let op = DiskOp::Read {
                        fd,
                        offset,
                        len: geometry.wal_page,
                    };
                    return Poll::Yield(cx.disk(op, Place::FinishWalRecovery));
                }
                Phase::LastPageRead(fd) => {
                    let fd = *fd;
                    let read = cx.done();
                    cx.close(fd);
                    match read {
                        Ok(DiskDone::Data(page)) if page.len() == geometry.wal_page as usize => {
                            self.take_last_page(cx, &page);
                        }
                        Ok(_) | Err(_) => return Poll::Ready(Err(self.lost())),
                    }
                    self.phase = Phase::Trim(TrimClog::new(cx.shmem.next_xid));
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::Trim(trim) => {
                    ready_ok!(trim.poll(cx));
                    self.phase = Phase::Overwrite;
                }
                Phase::Overwrite => {
                    // The lock is needed because InstallXLogFileSegment reads the flag under the
                    // same lock.
                    ready!(cx.acquire(LockId::ControlFile, LockMode::Exclusive));
                    cx.shmem.recovery.install_segment_active = true;
                    cx.release(LockId::ControlFile);
                    assert!(cx.shmem.recovery.insert_allowed.is_empty());
                    cx.shmem.recovery.insert_allowed.push(cx.me);
                    self.phase = match self.aborted {
                        Some(aborted) => Phase::InsertOverwrite(overwrite(cx, recovery, aborted)),
                        None => after_wal(cx, recovery),
                    };
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::InsertOverwrite(insert) => {
                    let at = ready_ok!(insert.poll(cx));
                    let expected = skip_header(&geometry, self.end);
                    assert_eq!(
                        at.start, expected,
                        "OVERWRITE_CONTRECORD is the first record of its page"
                    );
                    self.phase = Phase::FlushOverwrite(XLogFlush::new(at.end));
                }
                Phase::FlushOverwrite(flush) => {
                    ready_ok!(flush.poll(cx));
                    cx.mark(Mark::OverwriteContrecord);
                    self.phase = after_wal(cx, recovery);
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::Checkpoint(request) => {
                    // If the checkpointer died in this checkpoint, and the postmaster passed over
                    // the crash, the next checkpointer performs a restartpoint in its place. So
                    // the control file need not name a checkpoint at the end of recovery.
                    ready_ok!(request.poll(cx));
                    self.phase = Phase::LockControl;
                }
                Phase::LockControl => {
                    ready!(cx.acquire(LockId::ControlFile, LockMode::Exclusive));
                    assert!(cx.shmem.recovery_in_progress(), "recovery ends once");
                    assert_eq!(cx.shmem.xlog.open_reservations, 0);
                    cx.shmem.control.state = DbState::InProduction;
                    cx.shmem.recovery.state = RecoveryState::Done;
                    let me = cx.me;
                    cx.shmem.recovery.insert_allowed.retain(|pid| *pid != me);
                    self.phase = Phase::Control(UpdateControlFile::new());
                }
                Phase::Control(update) => {
                    ready_ok!(update.poll(cx));
                    cx.release(LockId::ControlFile);
                    if recovery.crashed {
                        cx.mark(Mark::CrashRecovery);
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Sets the insertion position and related positions in shared memory.
    fn start(&mut self, cx: &mut Cx<'_>, recovery: &mut Recovery) {
        recovery.reader.close(cx);
        let geometry = cx.shmem.settings.geometry;
        let progress = &cx.shmem.recovery;
        let (last, end) = if recovery.in_recovery {
            (progress.last_replayed_read, progress.last_replayed_end)
        } else {
            (recovery.checkpoint_at, recovery.checkpoint_end)
        };
        assert!(
            last < end,
            "the last record is at {last}, and ends at {end}"
        );
        // No walreceiver may write into the segments that this server will write.
        assert!(
            !cx.shmem.walrcv.is_streaming(),
            "{:?}",
            cx.shmem.walrcv.state
        );
        self.end = end;
        self.aborted = recovery.reader.aborted();
        // Before 14.1 and 13.5 new WAL overwrote the incomplete record from its start. A standby
        // that had already received the first part of the record then waited forever for the rest.
        if self.aborted.is_some() && cx.planted(Bug::ContrecordDivergence) {
            self.aborted = None;
        }
        if let Some(aborted) = self.aborted {
            assert_eq!(geometry.page_offset(aborted.missing), 0);
            assert!(end <= aborted.record && aborted.record < aborted.missing);
            self.end = aborted.missing;
        }
        let xlog = &mut cx.shmem.xlog;
        assert_eq!(xlog.curr_byte_pos, 0, "WAL was inserted during recovery");
        xlog.insert_tli = recovery.tli;
        xlog.prev_tli = recovery.tli;
        xlog.prev_byte_pos = lsn_to_bytepos(&geometry, last);
        xlog.curr_byte_pos = lsn_to_bytepos(&geometry, self.end);
        xlog.write = self.end;
        xlog.flush = self.end;
        xlog.request_write = self.end;
    }

    /// Copies the last page of WAL to the WAL buffers: its valid bytes, then zeros. New WAL is
    /// written to this page.
    fn take_last_page(&self, cx: &mut Cx<'_>, page: &[u8]) {
        let geometry = cx.shmem.settings.geometry;
        let start = geometry.page_start(self.end);
        let valid = geometry.page_offset(self.end) as usize;
        assert!(
            0 < valid && valid < page.len(),
            "{} is in the page",
            self.end
        );
        let xlog = &mut cx.shmem.xlog;
        let index = xlog.buffer_index(start, geometry.wal_page);
        let buffer = &mut xlog.buffers[index];
        let bytes = Arc::make_mut(&mut buffer.page);
        bytes[..valid].copy_from_slice(&page[..valid]);
        let stale = page[valid..].iter().any(|byte| *byte != 0);
        if stale && cx.probe.planted(Bug::StaleTailInLastPage) {
            bytes[valid..].copy_from_slice(&page[valid..]);
        } else {
            bytes[valid..].fill(0);
        }
        buffer.end = start + u64::from(geometry.wal_page);
        xlog.initialized_upto = buffer.end;
    }

    /// The error if the last page of WAL can no longer be read.
    fn lost(&self) -> LogEvent {
        LogEvent::panic(SqlState::DATA_CORRUPTED, Message::LostLastPage(self.end))
    }
}

/// `CreateOverwriteContrecordRecord`: rewrites the page at which the continuation of the incomplete
/// record is missing. The first record on the rewritten page names the incomplete record, so that
/// readers skip it. Earlier pages stay as they are, because they may have been streamed already.
fn overwrite(cx: &mut Cx<'_>, recovery: &Recovery, aborted: Aborted) -> XLogInsert {
    let settings = &cx.shmem.settings;
    let geometry = settings.geometry;
    let page = aborted.missing;
    let ident = PageIdent {
        version: settings.pg_version,
        tli: recovery.tli,
        sysid: cx.shmem.control.system_identifier,
        removable: true,
    };
    let xlog = &mut cx.shmem.xlog;
    let index = xlog.buffer_index(page, geometry.wal_page);
    let buffer = &mut xlog.buffers[index];
    let bytes = Arc::make_mut(&mut buffer.page);
    init_page(bytes, &geometry, page, &ident);
    mark_overwrite(bytes);
    buffer.end = page + u64::from(geometry.wal_page);
    xlog.initialized_upto = buffer.end;
    let record = OverwriteContrecord {
        overwritten_lsn: aborted.record,
        time: cx.now.wall,
    };
    insert(cx, &XlogRecord::OverwriteContrecord(record))
}

/// Chooses the step after the end of WAL. After recovery the server writes a checkpoint before
/// other processes may write WAL. After a clean shutdown the last checkpoint is still valid.
fn after_wal(cx: &mut Cx<'_>, recovery: &Recovery) -> Phase {
    cx.shmem.xlog.full_page_writes = cx.shmem.settings.full_page_writes;
    if !recovery.in_recovery {
        return Phase::LockControl;
    }
    let flags = CheckpointRequests {
        end_of_recovery: true,
        ..CheckpointRequests::default()
    };
    Phase::Checkpoint(RequestCheckpoint::new(flags))
}
