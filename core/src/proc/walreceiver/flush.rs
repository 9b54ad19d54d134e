//! Flushes received WAL. Mirrors XLogWalRcvFlush.

use crate::access::wal_file::segment_path;
use crate::base::{Bug, Mark};
use crate::call::{DiskOp, LogEvent, Place, Poll};
use crate::replication::libpqrcv::Link;
use crate::shmem::{PgProc, Role};
use crate::sys::{Cx, OpenSegment};

/// `XLogWalRcvFlush`: fsyncs the segment, publishes the flush position, wakes other processes, and
/// sends a status update. The order of these steps matters.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct FlushWal {
    dying: bool,
    syncing: Option<OpenSegment>,
}

impl FlushWal {
    pub(super) const fn new() -> Self {
        Self {
            dying: false,
            syncing: None,
        }
    }

    /// A flush before the process exits. No status update is sent.
    pub(super) const fn dying() -> Self {
        Self {
            dying: true,
            syncing: None,
        }
    }

    /// # Errors
    /// A PANIC if the fsync failed, because the content of the disk is then unknown.
    pub(super) fn poll(&mut self, cx: &mut Cx<'_>, link: &mut Link) -> Poll<Result<(), LogEvent>> {
        let Some(open) = self.syncing.take() else {
            if link.flush >= link.write {
                return Poll::Ready(Ok(()));
            }
            // Only the open segment can have unflushed bytes, because the walreceiver flushes a
            // segment before it closes the segment.
            let open = cx
                .sys
                .wal_file
                .expect("what is not flushed lies in the open segment");
            let last = cx.shmem.settings.geometry.segment_before(link.write);
            assert_eq!(open.segment, last, "{} is in it", link.write);
            assert_eq!(open.tli, link.tli, "{} is in it", link.write);
            self.syncing = Some(open);
            return Poll::Yield(cx.disk(DiskOp::Fsync(open.fd), Place::XLogWalRcvFlush));
        };
        assert_eq!(cx.sys.wal_file, Some(open), "the file stays open");
        if let Err(e) = cx.done() {
            // Up to 11.1 the server retried a failed fsync. The second fsync succeeded although
            // bytes were lost.
            if cx.planted(Bug::FsyncRetry) {
                self.syncing = Some(open);
                return Poll::Yield(cx.disk(DiskOp::Fsync(open.fd), Place::XLogWalRcvFlush));
            }
            cx.mark(Mark::FsyncPanic);
            let path = segment_path(cx, open.tli, open.segment);
            return Poll::Ready(Err(LogEvent::file("fsync", path, e).in_critical_section()));
        }
        assert!(link.flush < link.write, "{} {}", link.flush, link.write);
        link.flush = link.write;
        publish(cx, link);
        if !self.dying {
            link.send_reply(cx, false, false);
            link.send_feedback(cx, false);
        }
        Poll::Ready(Ok(()))
    }
}

/// `WakeupRecovery`
fn wake_startup(cx: &mut Cx<'_>) {
    let asleep = |proc: &PgProc| proc.role == Role::Startup && !proc.latch;
    let asleep = cx.shmem.procs.iter().any(asleep);
    if asleep && cx.planted(Bug::StartupNotWoken) {
        return;
    }
    cx.shmem.procs.set_latch_of(Role::Startup);
}

fn publish(cx: &mut Cx<'_>, link: &Link) {
    // If an earlier walreceiver has published a higher flush position, that position stays.
    let goes_back = link.flush < cx.shmem.walrcv.flushed_upto;
    let goes_back = goes_back && cx.planted(Bug::ReceiverTakesFlushBack);
    assert_eq!(
        cx.shmem.walrcv.pid,
        Some(cx.me),
        "it is the only walreceiver"
    );
    let walrcv = &mut cx.shmem.walrcv;
    if walrcv.flushed_upto < link.flush || goes_back {
        walrcv.latest_chunk_start = walrcv.flushed_upto;
        walrcv.flushed_upto = link.flush;
        walrcv.received_tli = link.tli;
    }
    wake_startup(cx);
    let settings = &cx.shmem.settings;
    if settings.hot_standby && settings.max_wal_senders > 0 {
        cx.shmem.wake_walsenders();
    }
}
