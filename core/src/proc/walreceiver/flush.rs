//! Making received WAL durable. Mirrors XLogWalRcvFlush.

use crate::access::wal_file::segment_path;
use crate::base::{Bug, Mark};
use crate::call::{DiskOp, LogEvent, Place, Poll};
use crate::replication::libpqrcv::Link;
use crate::shmem::Role;
use crate::sys::{Cx, OpenSegment};

/// `XLogWalRcvFlush`. The order is the point: durable first, then published, then others are woken,
/// then reported.
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

    /// For the exit of the process: nothing is sent any more.
    pub(super) const fn dying() -> Self {
        Self {
            dying: true,
            syncing: None,
        }
    }

    /// # Errors
    /// A failed fsync, as a PANIC: it is unknown what the disk still holds.
    pub(super) fn poll(&mut self, cx: &mut Cx<'_>, link: &mut Link) -> Poll<Result<(), LogEvent>> {
        let Some(open) = self.syncing.take() else {
            if link.flush >= link.write {
                return Poll::Ready(Ok(()));
            }
            // Only one segment can hold bytes that are not durable: a segment is flushed before it
            // is left.
            let open = cx
                .sys
                .wal_file
                .expect("what is not flushed lies in the open segment");
            self.syncing = Some(open);
            return Poll::Yield(cx.disk(DiskOp::Fsync(open.fd), Place::XLogWalRcvFlush));
        };
        if let Err(e) = cx.done() {
            // Up to 11.1 a failed fsync was tried again, and the second one succeeded although the
            // bytes were gone.
            if cx.planted(Bug::FsyncRetry) {
                self.syncing = Some(open);
                return Poll::Yield(cx.disk(DiskOp::Fsync(open.fd), Place::XLogWalRcvFlush));
            }
            cx.mark(Mark::FsyncPanic);
            let path = segment_path(cx, open.tli, open.segment);
            return Poll::Ready(Err(LogEvent::file("fsync", path, e).in_critical_section()));
        }
        link.flush = link.write;
        publish(cx, link);
        if !self.dying {
            link.send_reply(cx, false, false);
            link.send_feedback(cx, false);
        }
        Poll::Ready(Ok(()))
    }
}

fn publish(cx: &mut Cx<'_>, link: &Link) {
    let walrcv = &mut cx.shmem.walrcv;
    // A position that an earlier walreceiver has reached is not taken back.
    if walrcv.flushed_upto < link.flush {
        walrcv.latest_chunk_start = walrcv.flushed_upto;
        walrcv.flushed_upto = link.flush;
        walrcv.received_tli = link.tli;
    }
    cx.shmem.procs.set_latch_of(Role::Startup);
    let settings = &cx.shmem.settings;
    if settings.hot_standby && settings.max_wal_senders > 0 {
        cx.shmem.wake_walsenders();
    }
}
