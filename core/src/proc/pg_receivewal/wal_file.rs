//! Writes the segment that is currently received. Mirrors open_walfile and close_walfile of
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
    /// An existing file was opened. It has only this many bytes, because its creator did not finish
    /// padding it.
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
        match self.next(cx) {
            Ok(Some((op, next))) => {
                self.phase = next;
                Poll::Yield(cx.disk(op, Place::OpenWalfile))
            }
            Ok(None) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// The next disk operation, or `None` if the file is open.
    fn next(&mut self, cx: &mut Cx<'_>) -> Result<Option<(DiskOp, OpenPhase)>, StreamError> {
        let path = partial(cx, self.tli, self.segment);
        let segment_bytes = cx.shmem.settings.geometry.segment;
        let phase = core::mem::replace(&mut self.phase, OpenPhase::Begin);
        Ok(Some(match phase {
            OpenPhase::Begin => {
                assert_eq!(cx.sys.wal_file, None, "one segment is open at a time");
                (open(path, OpenFlags::CreateNew), OpenPhase::Created)
            }
            OpenPhase::Created => match cx.done() {
                Ok(done) => extend(opened(done), 0, segment_bytes),
                Err(DiskError::Exists) => (DiskOp::Stat(path), OpenPhase::Looked),
                Err(e) => return Err(lost(OPEN, path, e)),
            },
            OpenPhase::Looked => match size(cx) {
                Ok(size) => reopen(path, size, segment_bytes)?,
                Err(e) => return Err(lost("get size of write-ahead log", path, e)),
            },
            OpenPhase::ShortOpened(from) => {
                let done = cx.done().map_err(|e| lost(OPEN, path, e))?;
                extend(opened(done), from, segment_bytes)
            }
            OpenPhase::PaddedOpened => {
                // The file is fsynced, because the previous writer may have ended before its own
                // fsync.
                let done = cx.done();
                let done = done.map_err(|e| lost("open existing write-ahead log", path, e))?;
                let fd = opened(done);
                (DiskOp::Fsync(fd), OpenPhase::PaddedSynced(fd))
            }
            OpenPhase::PaddedSynced(fd) => {
                synced(cx, path)?;
                self.opened(cx, fd);
                return Ok(None);
            }
            OpenPhase::Extended { fd, from } => {
                padded(cx, fd, path)?;
                pad(fd, from, segment_bytes)
            }
            OpenPhase::Padding { fd, at } => {
                let end = at + padded(cx, fd, path)?;
                assert!(end <= segment_bytes, "{end} bytes");
                if end < segment_bytes {
                    pad(fd, end, segment_bytes)
                } else {
                    (DiskOp::Fsync(fd), OpenPhase::Synced(fd))
                }
            }
            OpenPhase::Synced(fd) => {
                synced(cx, path)?;
                let op = DiskOp::SyncDir(FilePath::from("."));
                (op, OpenPhase::DirectorySynced(fd))
            }
            OpenPhase::DirectorySynced(fd) => {
                synced(cx, FilePath::from("."))?;
                self.opened(cx, fd);
                return Ok(None);
            }
        }))
    }

    fn opened(&self, cx: &mut Cx<'_>, fd: Fd) {
        cx.sys.wal_file = Some(OpenSegment {
            segment: self.segment,
            tli: self.tli,
            fd,
        });
    }
}

const OPEN: &str = "open write-ahead log";

fn lost(what: &'static str, path: FilePath, e: DiskError) -> StreamError {
    StreamError::disk(LogEvent::file(what, path, e), e)
}

fn synced(cx: &mut Cx<'_>, path: FilePath) -> Result<(), StreamError> {
    match cx.done() {
        Ok(_) => Ok(()),
        Err(e) => Err(StreamError::Fatal(LogEvent::file("fsync", path, e))),
    }
}

/// Opens the file if it exists with a valid size. If `size` is `None`, the file does not exist and
/// is created.
fn reopen(
    path: FilePath,
    size: Option<u64>,
    segment_bytes: u32,
) -> Result<(DiskOp, OpenPhase), StreamError> {
    let Some(size) = size else {
        return Ok((open(path, OpenFlags::Create), OpenPhase::ShortOpened(0)));
    };
    let next = match u32::try_from(size) {
        Ok(size) if size == segment_bytes => OpenPhase::PaddedOpened,
        // The file is too short if another tool does not pad files, or has crashed while padding.
        // The existing bytes stay until they are received again.
        Ok(size) if size < segment_bytes => OpenPhase::ShortOpened(size),
        Ok(_) | Err(_) => {
            let segment = segment_bytes;
            let message = ReceiveMessage::PartialSize {
                path,
                size,
                segment,
            };
            return Err(StreamError::fatal(message));
        }
    };
    Ok((open(path, OpenFlags::Existing), next))
}

/// The number of bytes that a write has added to a new file. Closes the file if the write failed.
fn padded(cx: &mut Cx<'_>, fd: Fd, path: FilePath) -> Result<u32, StreamError> {
    let error = match cx.done().map(written) {
        Ok(more @ 1..) => return Ok(more),
        Ok(0) => DiskError::NoSpace,
        Err(e) => e,
    };
    cx.close(fd);
    Err(lost(OPEN, path, error))
}

/// Gives a new file its full length: writes the last byte first, then the zeros. The file therefore
/// has its full size even if the receiver is killed during padding. pg_receivewal writes the zeros
/// from the start of the file. If it is killed during padding, the file is too short, and its next
/// start refuses the file.
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

/// The size of the file after a `Stat`, or `None` if the file does not exist.
pub(super) fn size(cx: &mut Cx<'_>) -> Result<Option<u64>, DiskError> {
    match cx.done() {
        Ok(crate::call::DiskDone::Stat(FileKind::File(size))) => Ok(Some(size)),
        Ok(_) => Err(DiskError::IsDir),
        Err(DiskError::NotFound) => Ok(None),
        Err(e) => Err(e),
    }
}

/// `close_walfile`: gives a complete segment its final name. An incomplete segment keeps the suffix
/// `.partial`. In both cases the file is made durable.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct CloseWalFile {
    /// Whether the file is closed after an error. The file then keeps its name, and no message is
    /// logged.
    giving_up: bool,
    phase: ClosePhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum ClosePhase {
    Begin,
    Synced(OpenSegment),
    Renamed(OpenSegment),
    RenamedSynced(OpenSegment),
    /// Waits for the fsync of the directory. The field is the closed segment, or `None` if the
    /// segment is incomplete.
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

    /// Closes the open file, if there is one, and makes its WAL durable. The steps are those of
    /// durable_rename, but both fsyncs of the file use the same descriptor.
    pub(super) fn poll(
        &mut self,
        cx: &mut Cx<'_>,
        link: &mut Link,
    ) -> Poll<Result<(), StreamError>> {
        let here = || FilePath::from(".");
        if self.phase != ClosePhase::Begin
            && let Err(e) = cx.done()
        {
            return Poll::Ready(Err(StreamError::Fatal(self.failed(cx, e))));
        }
        let (op, next) = match self.phase {
            ClosePhase::Begin => {
                assert!(link.flush <= link.write, "{} {}", link.flush, link.write);
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
            ClosePhase::Synced(open) if self.is_complete(cx, link.write) => {
                let from = partial(cx, open.tli, open.segment);
                let to = FilePath::from(name(cx, open.tli, open.segment));
                (DiskOp::Rename { from, to }, ClosePhase::Renamed(open))
            }
            ClosePhase::Synced(open) => {
                cx.close(open.fd);
                (DiskOp::SyncDir(here()), ClosePhase::DirectorySynced(None))
            }
            ClosePhase::Renamed(open) => (DiskOp::Fsync(open.fd), ClosePhase::RenamedSynced(open)),
            ClosePhase::RenamedSynced(open) => {
                cx.close(open.fd);
                let next = ClosePhase::DirectorySynced(Some(open));
                (DiskOp::SyncDir(here()), next)
            }
            ClosePhase::DirectorySynced(complete) => {
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
        };
        self.phase = next;
        Poll::Yield(cx.disk(op, Place::CloseWalfile))
    }

    /// The log event for a failure of the operation in progress.
    fn failed(&self, cx: &Cx<'_>, error: DiskError) -> LogEvent {
        match self.phase {
            ClosePhase::Begin => unreachable!("nothing is under way yet"),
            ClosePhase::Synced(open) | ClosePhase::RenamedSynced(open) => {
                LogEvent::file("fsync", partial(cx, open.tli, open.segment), error)
            }
            ClosePhase::Renamed(open) => {
                let from = partial(cx, open.tli, open.segment);
                let to = FilePath::from(name(cx, open.tli, open.segment));
                let message = Message::Rename { from, to, error };
                LogEvent::error(error.into(), message)
            }
            ClosePhase::DirectorySynced(_) => LogEvent::file("fsync", FilePath::from("."), error),
        }
    }

    fn is_complete(&self, cx: &Cx<'_>, write: Lsn) -> bool {
        // The receiver closes a complete segment at once. A file that is open after an error is
        // therefore incomplete.
        !self.giving_up && cx.shmem.settings.geometry.segment_offset(write) == 0
    }
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

/// Writes part of a message to the open segment. The part must lie in this segment.
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
                assert!(count as usize <= self.data.len(), "{count} bytes");
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
        let geometry = &cx.shmem.settings.geometry;
        assert_eq!(geometry.segment_of(link.write), open.segment);
        let room = (geometry.segment - geometry.segment_offset(link.write)) as usize;
        assert!(!self.data.is_empty() && self.data.len() <= room);
        let op = DiskOp::Write {
            fd: open.fd,
            offset: cx.shmem.settings.geometry.segment_offset(link.write).into(),
            data: self.data.clone(),
        };
        cx.disk(op, Place::ProcessXLogDataMsg)
    }
}
