//! The segment that is being received. Mirrors open_walfile and close_walfile of receivelog.c, and the directory method
//! of walmethods.c.

use super::trouble::Trouble;
use crate::base::{Fd, Lsn, SegmentNo, TimelineId};
use crate::call::{
    DiskError, DiskOp, FileKind, FilePath, LogEvent, OpenFlags, Poll, ReceiveMessage, Yield,
};
use crate::ready_ok;
use crate::storage::file::{DurableRename, opened, written};
use crate::storage::libpqrcv::Link;
use crate::sys::{Cx, OpenSegment};
use crate::wal::names::segment_name;
use alloc::format;
use alloc::string::String;

/// What a segment is called once it is complete.
pub(super) fn name(cx: &Cx<'_>, tli: TimelineId, segment: SegmentNo) -> String {
    segment_name(&cx.shmem.settings.geometry, tli, segment)
}

/// What it is called until then.
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
    Looked,
    ExistingOpened,
    ExistingSynced(Fd),
    Created,
    Extended(Fd),
    Padding { fd: Fd, at: u32 },
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

    pub(super) fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), Trouble>> {
        let path = partial(cx, self.tli, self.segment);
        let segment_bytes = cx.shmem.settings.geometry.segment;
        let failed = |what, e| Trouble::Lost(LogEvent::file(what, path.clone(), e));
        let phase = core::mem::replace(&mut self.phase, OpenPhase::Begin);
        let (op, next) = match phase {
            OpenPhase::Begin => (DiskOp::Stat(path), OpenPhase::Looked),
            OpenPhase::Looked => match size(cx) {
                Ok(None | Some(0)) => (open(path, OpenFlags::Create), OpenPhase::Created),
                Ok(Some(size)) if size == u64::from(segment_bytes) => {
                    let op = open(path, OpenFlags::Existing);
                    (op, OpenPhase::ExistingOpened)
                }
                Ok(Some(size)) => {
                    let segment = segment_bytes;
                    let message = ReceiveMessage::PartialSize {
                        path,
                        size,
                        segment,
                    };
                    return Poll::Ready(Err(Trouble::lost(message)));
                }
                Err(e) => return Poll::Ready(Err(failed("get size of write-ahead log", e))),
            },
            OpenPhase::ExistingOpened => match cx.done() {
                // Whoever wrote into it before may not have come to the fsync.
                Ok(done) => {
                    let fd = opened(done);
                    (DiskOp::Fsync(fd), OpenPhase::ExistingSynced(fd))
                }
                Err(e) => return Poll::Ready(Err(failed("open existing write-ahead log", e))),
            },
            OpenPhase::ExistingSynced(fd) => {
                if let Err(e) = cx.done() {
                    let what = "fsync existing write-ahead log";
                    return Poll::Ready(Err(Trouble::Fatal(LogEvent::file(what, path, e))));
                }
                return Poll::Ready(self.opened(cx, fd));
            }
            OpenPhase::Created => match cx.done() {
                // The length first: pg_receivewal that is killed while it pads leaves a file whose size it refuses.
                Ok(done) => {
                    let fd = opened(done);
                    let len = segment_bytes.into();
                    (DiskOp::Truncate { fd, len }, OpenPhase::Extended(fd))
                }
                Err(e) => return Poll::Ready(Err(failed("open write-ahead log", e))),
            },
            OpenPhase::Extended(fd) => match cx.done() {
                Ok(_) => pad(fd, 0, segment_bytes),
                Err(e) => {
                    return Poll::Ready(Err(given_up(cx, fd, failed("open write-ahead log", e))));
                }
            },
            OpenPhase::Padding { fd, at } => match cx.done().map(written) {
                Ok(more) if at + more < segment_bytes && more > 0 => {
                    pad(fd, at + more, segment_bytes)
                }
                Ok(0) => {
                    let trouble = failed("open write-ahead log", DiskError::NoSpace);
                    return Poll::Ready(Err(given_up(cx, fd, trouble)));
                }
                Ok(_) => (DiskOp::Fsync(fd), OpenPhase::Synced(fd)),
                Err(e) => {
                    return Poll::Ready(Err(given_up(cx, fd, failed("open write-ahead log", e))));
                }
            },
            OpenPhase::Synced(fd) => {
                if let Err(e) = cx.done() {
                    return Poll::Ready(Err(Trouble::Fatal(LogEvent::file("fsync", path, e))));
                }
                let op = DiskOp::SyncDir(FilePath::from("."));
                (op, OpenPhase::DirectorySynced(fd))
            }
            OpenPhase::DirectorySynced(fd) => {
                if let Err(e) = cx.done() {
                    let path = FilePath::from(".");
                    return Poll::Ready(Err(Trouble::Fatal(LogEvent::file("fsync", path, e))));
                }
                return Poll::Ready(self.opened(cx, fd));
            }
        };
        self.phase = next;
        Poll::Yield(cx.disk(op, "open_walfile"))
    }

    fn opened(&self, cx: &mut Cx<'_>, fd: Fd) -> Result<(), Trouble> {
        cx.sys.wal_file = Some(OpenSegment {
            segment: self.segment,
            tli: self.tli,
            fd,
        });
        Ok(())
    }
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

fn given_up(cx: &mut Cx<'_>, fd: Fd, trouble: Trouble) -> Trouble {
    cx.close(fd);
    trouble
}

/// The outcome of a `Stat`: the size of the file, if it exists.
pub(super) fn size(cx: &mut Cx<'_>) -> Result<Option<u64>, DiskError> {
    match cx.done() {
        Ok(crate::call::DiskDone::Stat(FileKind::File(size))) => Ok(Some(size)),
        Ok(_) => Err(DiskError::IsDir),
        Err(DiskError::NotFound) => Ok(None),
        Err(e) => Err(e),
    }
}

/// `close_walfile`: a complete segment gets its name, any other stays `.partial`; both are durable then.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct CloseWalFile {
    /// After an error: the file keeps its name without a word.
    giving_up: bool,
    phase: ClosePhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum ClosePhase {
    Begin,
    Synced(OpenSegment),
    DirectorySynced,
    Rename(OpenSegment, DurableRename),
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

    /// Ready: everything up to `link.write` is durable, if a file was open.
    pub(super) fn poll(&mut self, cx: &mut Cx<'_>, link: &mut Link) -> Poll<Result<(), Trouble>> {
        loop {
            match &mut self.phase {
                ClosePhase::Begin => {
                    let Some(open) = cx.sys.wal_file.take() else {
                        return Poll::Ready(Ok(()));
                    };
                    if self.is_complete(cx, link.write) {
                        cx.close(open.fd);
                        let from = partial(cx, open.tli, open.segment);
                        let to = FilePath::from(name(cx, open.tli, open.segment));
                        self.phase = ClosePhase::Rename(open, DurableRename::new(from, to));
                        continue;
                    }
                    if !self.giving_up {
                        let path = partial(cx, open.tli, open.segment);
                        let message = ReceiveMessage::NotRenaming(path.as_str().into());
                        cx.log(LogEvent::receive(message));
                    }
                    self.phase = ClosePhase::Synced(open);
                    return Poll::Yield(cx.disk(DiskOp::Fsync(open.fd), "close_walfile"));
                }
                ClosePhase::Synced(open) => {
                    let open = *open;
                    cx.close(open.fd);
                    if let Err(e) = cx.done() {
                        let path = partial(cx, open.tli, open.segment);
                        return Poll::Ready(Err(Trouble::Fatal(LogEvent::file("fsync", path, e))));
                    }
                    self.phase = ClosePhase::DirectorySynced;
                    let op = DiskOp::SyncDir(FilePath::from("."));
                    return Poll::Yield(cx.disk(op, "close_walfile"));
                }
                ClosePhase::DirectorySynced => {
                    if let Err(e) = cx.done() {
                        let event = LogEvent::file("fsync", FilePath::from("."), e);
                        return Poll::Ready(Err(Trouble::Fatal(event)));
                    }
                    link.flush = link.write;
                    return Poll::Ready(Ok(()));
                }
                ClosePhase::Rename(open, rename) => {
                    let open = *open;
                    ready_ok!(rename.poll(cx).map(|done| done.map_err(Trouble::Fatal)));
                    link.flush = link.write;
                    let message = ReceiveMessage::Finished {
                        name: name(cx, open.tli, open.segment),
                        end: link.write,
                        tli: open.tli,
                    };
                    cx.log(LogEvent::receive(message));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    fn is_complete(&self, cx: &Cx<'_>, write: Lsn) -> bool {
        // A segment that is complete is closed at once; what is open after an error never is.
        !self.giving_up && cx.shmem.settings.geometry.segment_offset(write) == 0
    }
}

/// Makes durable what the open segment holds (`dir_sync`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct SyncWalFile {
    issued: bool,
}

impl SyncWalFile {
    pub(super) const fn new() -> Self {
        Self { issued: false }
    }

    pub(super) fn poll(&mut self, cx: &mut Cx<'_>, link: &mut Link) -> Poll<Result<(), Trouble>> {
        let open = cx.sys.wal_file.expect("what is not flushed lies in it");
        if !self.issued {
            self.issued = true;
            return Poll::Yield(cx.disk(DiskOp::Fsync(open.fd), "HandleCopyStream"));
        }
        if let Err(e) = cx.done() {
            let path = partial(cx, open.tli, open.segment);
            return Poll::Ready(Err(Trouble::Fatal(LogEvent::file("fsync", path, e))));
        }
        link.flush = link.write;
        Poll::Ready(Ok(()))
    }
}

/// Writes a piece into the open segment, which it must not leave.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct WritePiece {
    data: bytes::Bytes,
}

impl WritePiece {
    /// Issues the first write.
    pub(super) fn begin(cx: &mut Cx<'_>, link: &Link, data: bytes::Bytes) -> (Self, Yield) {
        let piece = Self { data };
        let how = piece.issue(cx, link);
        (piece, how)
    }

    pub(super) fn poll(&mut self, cx: &mut Cx<'_>, link: &mut Link) -> Poll<Result<(), Trouble>> {
        let count = match cx.done().map(written) {
            Ok(0) => Err(DiskError::NoSpace),
            outcome => outcome,
        };
        match count {
            Ok(count) => {
                link.write += count.into();
                bytes::Buf::advance(&mut self.data, count as usize);
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
                Poll::Ready(Err(Trouble::lost(message)))
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
        cx.disk(op, "ProcessXLogDataMsg")
    }
}
