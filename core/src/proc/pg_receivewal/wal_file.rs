//! Writes the segment that is being received. Mirrors open_walfile and close_walfile of
//! receivelog.c, and the directory method of walmethods.c.

use super::stream_error::StreamError;
use crate::base::{Fd, Lsn, SegmentNo, TimelineId};
use crate::call::{
    DiskError, DiskOp, FileKind, FilePath, LogEvent, Message, OpenFlags, Place, Poll,
    ReceiveMessage, Yield,
};
use crate::replication::libpqrcv::Link;
use crate::storage::file::{opened, written};
use crate::sys::{Cx, OpenSegment};
use crate::wal::names::segment_name;
use alloc::format;
use alloc::string::String;
use bytes::{Buf, Bytes};

/// The name of a complete segment.
pub(super) fn name(cx: &Cx<'_>, tli: TimelineId, segment: SegmentNo) -> String {
    segment_name(&cx.shmem.settings.geometry, tli, segment)
}

/// The path of an incomplete segment.
fn partial(cx: &Cx<'_>, tli: TimelineId, segment: SegmentNo) -> FilePath {
    FilePath::from(format!("{}.partial", name(cx, tli, segment)))
}

/// `open_walfile`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct OpenWalFile {
    segment: SegmentNo,
    tli: TimelineId,
    phase: OpenPhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum OpenPhase {
    Begin,
    Created,
    /// Checks whether the file exists.
    Looked,
    /// The file exists but has only this size, because its creator did not finish padding it.
    ShortOpened(u32),
    PaddedOpened,
    PaddedSynced(Fd),
    Extended {
        fd: Fd,
        from: u32,
    },
    Padding {
        fd: Fd,
        at: u32,
    },
    Synced(Fd),
    DirectorySynced(Fd),
}

impl OpenWalFile {
    pub(super) const fn new(segment: SegmentNo, tli: TimelineId) -> Self {
        Self {
            segment,
            tli,
            phase: OpenPhase::Begin,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), StreamError>> {
        let path = partial(cx, self.tli, self.segment);
        let segment_bytes = cx.shmem.settings.geometry.segment;
        let lost = |what, e| {
            let event = LogEvent::file(what, path.clone(), e);
            Poll::Ready(Err(StreamError::disk(event, e)))
        };
        let unsynced = |path, e| {
            let event = LogEvent::file("fsync", path, e);
            Poll::Ready(Err(StreamError::Fatal(event)))
        };
        let phase = core::mem::replace(&mut self.phase, OpenPhase::Begin);
        let (op, next) = match phase {
            OpenPhase::Begin => (open(path, OpenFlags::CreateNew), OpenPhase::Created),
            OpenPhase::Created => match cx.done() {
                Ok(done) => extend(opened(done), 0, segment_bytes),
                Err(DiskError::Exists) => (DiskOp::Stat(path), OpenPhase::Looked),
                Err(e) => return lost("open write-ahead log", e),
            },
            OpenPhase::Looked => match size(cx) {
                Ok(None) => (open(path, OpenFlags::Create), OpenPhase::ShortOpened(0)),
                Ok(Some(size)) if size == u64::from(segment_bytes) => {
                    (open(path, OpenFlags::Existing), OpenPhase::PaddedOpened)
                }
                Ok(Some(size)) => match u32::try_from(size) {
                    // Other tools do not pad the file, or crashed during padding. Its bytes stay
                    // until they are received again.
                    Ok(size) if size < segment_bytes => {
                        let next = OpenPhase::ShortOpened(size);
                        (open(path, OpenFlags::Existing), next)
                    }
                    Ok(_) | Err(_) => {
                        let segment = segment_bytes;
                        let message = ReceiveMessage::PartialSize {
                            path,
                            size,
                            segment,
                        };
                        return Poll::Ready(Err(StreamError::fatal(message)));
                    }
                },
                Err(e) => return lost("get size of write-ahead log", e),
            },
            OpenPhase::ShortOpened(from) => match cx.done() {
                Ok(done) => extend(opened(done), from, segment_bytes),
                Err(e) => return lost("open write-ahead log", e),
            },
            OpenPhase::PaddedOpened => match cx.done() {
                // The previous writer may have ended before its fsync.
                Ok(done) => {
                    let fd = opened(done);
                    (DiskOp::Fsync(fd), OpenPhase::PaddedSynced(fd))
                }
                Err(e) => return lost("open existing write-ahead log", e),
            },
            OpenPhase::PaddedSynced(fd) => match cx.done() {
                Ok(_) => return Poll::Ready(self.opened(cx, fd)),
                Err(e) => return unsynced(path, e),
            },
            OpenPhase::Extended { fd, from } => match cx.done().map(written) {
                Ok(1..) => pad(fd, from, segment_bytes),
                Ok(0) => {
                    cx.close(fd);
                    return lost("open write-ahead log", DiskError::NoSpace);
                }
                Err(e) => {
                    cx.close(fd);
                    return lost("open write-ahead log", e);
                }
            },
            OpenPhase::Padding { fd, at } => match cx.done().map(written) {
                Ok(0) => {
                    cx.close(fd);
                    return lost("open write-ahead log", DiskError::NoSpace);
                }
                Ok(more) if at + more < segment_bytes => pad(fd, at + more, segment_bytes),
                Ok(_) => (DiskOp::Fsync(fd), OpenPhase::Synced(fd)),
                Err(e) => {
                    cx.close(fd);
                    return lost("open write-ahead log", e);
                }
            },
            OpenPhase::Synced(fd) => {
                if let Err(e) = cx.done() {
                    return unsynced(path, e);
                }
                let op = DiskOp::SyncDir(FilePath::from("."));
                (op, OpenPhase::DirectorySynced(fd))
            }
            OpenPhase::DirectorySynced(fd) => match cx.done() {
                Ok(_) => return Poll::Ready(self.opened(cx, fd)),
                Err(e) => return unsynced(FilePath::from("."), e),
            },
        };
        self.phase = next;
        Poll::Yield(cx.disk(op, Place::OpenWalfile))
    }

    fn opened(&self, cx: &mut Cx<'_>, fd: Fd) -> Result<(), StreamError> {
        cx.sys.wal_file = Some(OpenSegment {
            segment: self.segment,
            tli: self.tli,
            fd,
        });
        Ok(())
    }
}

/// Sets the length of a new file by writing its last byte, before the zeros. If pg_receivewal is
/// killed during padding, it leaves a file whose size it refuses later.
fn extend(fd: Fd, from: u32, segment_bytes: u32) -> (DiskOp, OpenPhase) {
    let op = DiskOp::Write {
        fd,
        offset: u64::from(segment_bytes) - 1,
        data: Bytes::from_static(&[0]),
    };
    (op, OpenPhase::Extended { fd, from })
}

fn open(path: FilePath, flags: OpenFlags) -> DiskOp {
    DiskOp::Open { path, flags }
}

fn pad(fd: Fd, at: u32, segment_bytes: u32) -> (DiskOp, OpenPhase) {
    let op = DiskOp::WriteZeros {
        fd,
        offset: at.into(),
        len: segment_bytes - at,
    };
    (op, OpenPhase::Padding { fd, at })
}

/// The result of a `Stat`: the size of the file, if it exists.
pub(super) fn size(cx: &mut Cx<'_>) -> Result<Option<u64>, DiskError> {
    match cx.done() {
        Ok(crate::call::DiskDone::Stat(FileKind::File(size))) => Ok(Some(size)),
        Ok(_) => Err(DiskError::IsDir),
        Err(DiskError::NotFound) => Ok(None),
        Err(e) => Err(e),
    }
}

/// `close_walfile`: gives a complete segment its final name; otherwise the name stays `.partial`.
/// In both cases the file is made durable.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct CloseWalFile {
    /// After an error: the file keeps its name, and no message is logged.
    giving_up: bool,
    phase: ClosePhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum ClosePhase {
    Begin,
    Synced(OpenSegment),
    Renamed(OpenSegment),
    RenamedSynced(OpenSegment),
    /// The segment, if it is complete.
    DirectorySynced(Option<OpenSegment>),
}

impl CloseWalFile {
    pub(super) const fn new() -> Self {
        Self {
            giving_up: false,
            phase: ClosePhase::Begin,
        }
    }

    pub(super) const fn giving_up() -> Self {
        Self {
            giving_up: true,
            phase: ClosePhase::Begin,
        }
    }

    /// When it is ready, all WAL before `link.write` is durable, if a file was open. The steps are
    /// those of durable_rename, with the file kept open.
    pub(super) fn poll(
        &mut self,
        cx: &mut Cx<'_>,
        link: &mut Link,
    ) -> Poll<Result<(), StreamError>> {
        let here = || FilePath::from(".");
        let outcome = match self.phase {
            ClosePhase::Begin => Ok(crate::call::DiskDone::Done),
            ClosePhase::Synced(_)
            | ClosePhase::Renamed(_)
            | ClosePhase::RenamedSynced(_)
            | ClosePhase::DirectorySynced(_) => cx.done(),
        };
        let (op, next) = match (&self.phase, outcome) {
            (ClosePhase::Begin, _) => {
                let Some(open) = cx.sys.wal_file.take() else {
                    return Poll::Ready(Ok(()));
                };
                if !self.giving_up && !self.is_complete(cx, link.write) {
                    let path = partial(cx, open.tli, open.segment);
                    let message = ReceiveMessage::NotRenaming(path.as_str().into());
                    cx.log(LogEvent::receive(message));
                }
                (DiskOp::Fsync(open.fd), ClosePhase::Synced(open))
            }
            (&ClosePhase::Synced(open), Ok(_)) if self.is_complete(cx, link.write) => {
                let from = partial(cx, open.tli, open.segment);
                let to = FilePath::from(name(cx, open.tli, open.segment));
                (DiskOp::Rename { from, to }, ClosePhase::Renamed(open))
            }
            (&ClosePhase::Synced(open), Ok(_)) => {
                cx.close(open.fd);
                (DiskOp::SyncDir(here()), ClosePhase::DirectorySynced(None))
            }
            (&ClosePhase::Renamed(open), Ok(_)) => {
                (DiskOp::Fsync(open.fd), ClosePhase::RenamedSynced(open))
            }
            (&ClosePhase::RenamedSynced(open), Ok(_)) => {
                cx.close(open.fd);
                let next = ClosePhase::DirectorySynced(Some(open));
                (DiskOp::SyncDir(here()), next)
            }
            (&ClosePhase::DirectorySynced(complete), Ok(_)) => {
                link.flush = link.write;
                if let Some(open) = complete {
                    let message = ReceiveMessage::Finished {
                        name: name(cx, open.tli, open.segment),
                        end: link.write,
                        tli: open.tli,
                    };
                    cx.log(LogEvent::receive(message));
                }
                return Poll::Ready(Ok(()));
            }
            (&(ClosePhase::Synced(open) | ClosePhase::RenamedSynced(open)), Err(e)) => {
                let path = partial(cx, open.tli, open.segment);
                return fatal(LogEvent::file("fsync", path, e));
            }
            (&ClosePhase::Renamed(open), Err(error)) => {
                let from = partial(cx, open.tli, open.segment);
                let to = FilePath::from(name(cx, open.tli, open.segment));
                let message = Message::Rename { from, to, error };
                return fatal(LogEvent::error(error.into(), message));
            }
            (ClosePhase::DirectorySynced(_), Err(e)) => {
                return fatal(LogEvent::file("fsync", here(), e));
            }
        };
        self.phase = next;
        Poll::Yield(cx.disk(op, Place::CloseWalfile))
    }

    fn is_complete(&self, cx: &Cx<'_>, write: Lsn) -> bool {
        // A complete segment was closed at once, so a file that is open after an error is
        // incomplete.
        !self.giving_up && cx.shmem.settings.geometry.segment_offset(write) == 0
    }
}

const fn fatal(event: LogEvent) -> Poll<Result<(), StreamError>> {
    Poll::Ready(Err(StreamError::Fatal(event)))
}

/// Fsyncs the open segment (`dir_sync`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct SyncWalFile {
    issued: bool,
}

impl SyncWalFile {
    pub(super) const fn new() -> Self {
        Self { issued: false }
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Cx<'_>,
        link: &mut Link,
    ) -> Poll<Result<(), StreamError>> {
        let open = cx.sys.wal_file.expect("what is not flushed lies in it");
        if !self.issued {
            self.issued = true;
            return Poll::Yield(cx.disk(DiskOp::Fsync(open.fd), Place::HandleCopyStream));
        }
        if let Err(e) = cx.done() {
            let path = partial(cx, open.tli, open.segment);
            return Poll::Ready(Err(StreamError::Fatal(LogEvent::file("fsync", path, e))));
        }
        link.flush = link.write;
        Poll::Ready(Ok(()))
    }
}

/// Writes part of a message to the open segment. The part must not cross the segment's end.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct WritePiece {
    data: Bytes,
}

impl WritePiece {
    /// Issues the first write.
    pub(super) fn begin(cx: &mut Cx<'_>, link: &Link, data: Bytes) -> (Self, Yield) {
        let piece = Self { data };
        let how = piece.issue(cx, link);
        (piece, how)
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Cx<'_>,
        link: &mut Link,
    ) -> Poll<Result<(), StreamError>> {
        let count = match cx.done().map(written) {
            Ok(0) => Err(DiskError::NoSpace),
            outcome => outcome,
        };
        match count {
            Ok(count) => {
                link.write += count.into();
                self.data.advance(count as usize);
                if self.data.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                Poll::Yield(self.issue(cx, link))
            }
            Err(error) => {
                let open = cx.sys.wal_file.expect("it is being written");
                let message = ReceiveMessage::Write {
                    len: self.data.len(),
                    path: partial(cx, open.tli, open.segment),
                    error,
                };
                Poll::Ready(Err(StreamError::lost(message)))
            }
        }
    }

    fn issue(&self, cx: &mut Cx<'_>, link: &Link) -> Yield {
        let open = cx.sys.wal_file.expect("opened before");
        let op = DiskOp::Write {
            fd: open.fd,
            offset: cx.shmem.settings.geometry.segment_offset(link.write).into(),
            data: self.data.clone(),
        };
        cx.disk(op, Place::ProcessXLogDataMsg)
    }
}
