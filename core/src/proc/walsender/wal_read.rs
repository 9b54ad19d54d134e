//! Reads WAL from segment files. Mirrors WALRead and WalSndSegmentOpen.

use crate::access::wal_file::segment_path;
use crate::base::{Bug, Lsn, Mark, SegmentNo, TimelineId};
use crate::call::{DiskError, DiskOp, LogEvent, Message, OpenFlags, Place, Poll, SqlState};
use crate::storage::file::{opened, read};
use crate::sys::{Cx, OpenSegment};
use crate::wal::names::segment_name;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};

/// Reads the bytes between two positions, which may be in several segments.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct WalRead {
    tli: TimelineId,
    start: Lsn,
    at: Lsn,
    end: Lsn,
    pieces: Vec<Bytes>,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Next,
    Opened(SegmentNo),
    Read { segment: SegmentNo, wanted: u32 },
}

impl WalRead {
    pub(super) const fn new(tli: TimelineId, start: Lsn, end: Lsn) -> Self {
        assert!(start.0 < end.0, "there is nothing to read");
        Self {
            tli,
            start,
            at: start,
            end,
            pieces: Vec::new(),
            phase: Phase::Next,
        }
    }

    /// Returns the bytes. The last segment stays open.
    ///
    /// # Errors
    /// A segment is missing or too short, or a disk operation failed.
    pub(super) fn poll(
        &mut self,
        cx: &mut Cx<'_>,
        open: &mut Option<OpenSegment>,
    ) -> Poll<Result<Bytes, LogEvent>> {
        let geometry = cx.shmem.settings.geometry;
        loop {
            match self.phase {
                Phase::Next if self.at == self.end => return Poll::Ready(self.checked(cx)),
                Phase::Next => {
                    let segment = geometry.segment_of(self.at);
                    let ours = |o: &&mut OpenSegment| o.segment == segment && o.tli == self.tli;
                    if let Some(file) = open.as_mut().filter(ours) {
                        let offset = geometry.segment_offset(self.at);
                        let rest = u64::from(geometry.segment - offset);
                        let wanted = u32::try_from(rest.min(self.end - self.at))
                            .expect("at most the rest of a segment");
                        self.phase = Phase::Read { segment, wanted };
                        let read = DiskOp::Read {
                            fd: file.fd,
                            offset: offset.into(),
                            len: wanted,
                        };
                        return Poll::Yield(cx.disk(read, Place::WALRead));
                    }
                    if let Some(other) = open.take() {
                        cx.close(other.fd);
                    }
                    self.phase = Phase::Opened(segment);
                    let path = segment_path(cx, self.tli, segment);
                    let flags = OpenFlags::Existing;
                    return Poll::Yield(
                        cx.disk(DiskOp::Open { path, flags }, Place::WalSndSegmentOpen),
                    );
                }
                Phase::Opened(segment) => match cx.done() {
                    Ok(done) => {
                        let tli = self.tli;
                        let fd = opened(done);
                        assert_eq!(*open, None, "one segment is open at a time");
                        *open = Some(OpenSegment { segment, tli, fd });
                        self.phase = Phase::Next;
                    }
                    Err(e) => return Poll::Ready(Err(self.cannot("open", cx, segment, e))),
                },
                Phase::Read { segment, wanted } => match cx.done() {
                    Ok(done) => {
                        let bytes = read(done);
                        if bytes.is_empty() {
                            return Poll::Ready(Err(self.too_short(cx, segment, wanted)));
                        }
                        assert!(bytes.len() <= wanted as usize, "{}", bytes.len());
                        assert_eq!(geometry.segment_of(self.at), segment);
                        self.at += bytes.len() as u64;
                        assert!(
                            self.at <= self.end,
                            "a read returns at most the requested bytes"
                        );
                        self.pieces.push(bytes);
                        self.phase = Phase::Next;
                    }
                    Err(e) => return Poll::Ready(Err(self.cannot("read", cx, segment, e))),
                },
            }
        }
    }

    /// `CheckXLogRemoved`, called after the read. The segment may have been recycled while it was
    /// open. In that case `lastRemovedSegNo` was advanced before the recycling. If the segment was
    /// only unlinked, the bytes are still valid, but PostgreSQL reports the same error.
    fn checked(&mut self, cx: &mut Cx<'_>) -> Result<Bytes, LogEvent> {
        assert_eq!(self.at, self.end, "the read is complete");
        let segment = cx.shmem.settings.geometry.segment_of(self.start);
        if segment > cx.shmem.xlog.last_removed || cx.planted(Bug::RecycledSegmentSent) {
            return Ok(self.join());
        }
        Err(self.removed(cx, segment, SqlState::INTERNAL))
    }

    fn removed(&self, cx: &mut Cx<'_>, segment: SegmentNo, code: SqlState) -> LogEvent {
        cx.mark(Mark::WalRemovedRefusal);
        LogEvent::error(code, Message::SegmentRemoved(self.name(cx, segment)))
    }

    /// Joins the pieces. A single piece, the usual case, is not copied.
    fn join(&mut self) -> Bytes {
        let len: usize = self.pieces.iter().map(Bytes::len).sum();
        assert_eq!(len as u64, self.end - self.start);
        if self.pieces.len() > 1 {
            let mut joined = BytesMut::new();
            for piece in &self.pieces {
                joined.extend_from_slice(piece);
            }
            return joined.freeze();
        }
        self.pieces.pop().unwrap_or_default()
    }

    fn cannot(
        &self,
        what: &'static str,
        cx: &mut Cx<'_>,
        segment: SegmentNo,
        error: DiskError,
    ) -> LogEvent {
        if error == DiskError::NotFound {
            return self.removed(cx, segment, SqlState::UNDEFINED_FILE);
        }
        LogEvent::file(what, segment_path(cx, self.tli, segment), error)
    }

    fn too_short(&self, cx: &Cx<'_>, segment: SegmentNo, wanted: u32) -> LogEvent {
        let message = Message::SegmentShort {
            name: self.name(cx, segment),
            offset: cx.shmem.settings.geometry.segment_offset(self.at),
            got: 0,
            wanted,
        };
        LogEvent::error(SqlState::DATA_CORRUPTED, message)
    }

    fn name(&self, cx: &Cx<'_>, segment: SegmentNo) -> String {
        segment_name(&cx.shmem.settings.geometry, self.tli, segment)
    }
}
