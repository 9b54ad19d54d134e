//! Writes received WAL to segment files. Mirrors XLogWalRcvWrite and XLogWalRcvClose.

use super::flush::FlushWal;
use crate::access::wal_file::{SwitchSegment, segment_path};
use crate::base::Lsn;
use crate::call::{DiskError, DiskOp, LogEvent, Place, Poll};
use crate::ready_ok;
use crate::replication::libpqrcv::Link;
use crate::storage::file::written;
use crate::sys::{Cx, OpenSegment};
use bytes::{Buf, Bytes};

/// `XLogWalRcvWrite`: writes only the received bytes, and does not clear the rest of the last page.
/// Trusts the position in the message, even a position before the write position.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct WriteWal {
    at: Lsn,
    data: Bytes,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Look,
    /// Flushes and closes the open segment, because the next byte belongs to another segment.
    Leave(FlushWal),
    Switch(SwitchSegment),
    Written(OpenSegment),
}

impl WriteWal {
    pub(super) const fn new(at: Lsn, data: Bytes) -> Self {
        Self {
            at,
            data,
            phase: Phase::Look,
        }
    }

    /// # Errors
    /// A PANIC if a write or an fsync failed. An ERROR if a segment cannot be created.
    pub(super) fn poll(&mut self, cx: &mut Cx<'_>, link: &mut Link) -> Poll<Result<(), LogEvent>> {
        let geometry = cx.shmem.settings.geometry;
        loop {
            match &mut self.phase {
                Phase::Look => {
                    if self.data.is_empty() {
                        cx.shmem.walrcv.written_upto = link.write;
                    }
                    let segment = geometry.segment_of(self.at);
                    match cx.sys.wal_file {
                        // The next byte belongs to another segment, or all bytes are written and
                        // the segment is complete.
                        Some(open) if open.segment != segment || open.tli != link.tli => {
                            self.phase = Phase::Leave(FlushWal::new());
                        }
                        Some(_) | None if self.data.is_empty() => return Poll::Ready(Ok(())),
                        None => self.phase = Phase::Switch(SwitchSegment::new(segment, link.tli)),
                        Some(open) => {
                            self.phase = Phase::Written(open);
                            return Poll::Yield(self.write(cx, open));
                        }
                    }
                }
                Phase::Leave(flush) => {
                    ready_ok!(flush.poll(cx, link));
                    assert!(link.write <= link.flush, "{} {}", link.write, link.flush);
                    if let Some(open) = cx.sys.wal_file.take() {
                        cx.close(open.fd);
                    }
                    self.phase = Phase::Look;
                }
                Phase::Switch(switch) => {
                    ready_ok!(switch.poll(cx));
                    let segment = geometry.segment_of(self.at);
                    let open = cx.sys.wal_file.map(|open| (open.segment, open.tli));
                    assert_eq!(open, Some((segment, link.tli)), "{} is in it", self.at);
                    self.phase = Phase::Look;
                }
                Phase::Written(open) => {
                    let count = match cx.done().map(written) {
                        Ok(0) => Err(DiskError::NoSpace),
                        outcome => outcome,
                    };
                    let count = match count {
                        Ok(count) => count,
                        Err(e) => {
                            let path = segment_path(cx, open.tli, open.segment);
                            let event = LogEvent::file("write to", path, e);
                            return Poll::Ready(Err(event.in_critical_section()));
                        }
                    };
                    assert_eq!(cx.sys.wal_file, Some(*open), "the file stays open");
                    assert!(count as usize <= self.data.len(), "{count} bytes");
                    self.at += count.into();
                    self.data.advance(count as usize);
                    link.write = self.at;
                    self.phase = Phase::Look;
                }
            }
        }
    }

    /// Writes the bytes that fit into the segment.
    fn write(&self, cx: &mut Cx<'_>, open: OpenSegment) -> crate::call::Yield {
        let geometry = cx.shmem.settings.geometry;
        let offset = geometry.segment_offset(self.at);
        let room = (geometry.segment - offset) as usize;
        assert_eq!(geometry.segment_of(self.at), open.segment);
        assert!(!self.data.is_empty(), "nothing to write at {}", self.at);
        let data = self.data.slice(..room.min(self.data.len()));
        let op = DiskOp::Write {
            fd: open.fd,
            offset: offset.into(),
            data,
        };
        cx.disk(op, Place::XLogWalRcvWrite)
    }
}
