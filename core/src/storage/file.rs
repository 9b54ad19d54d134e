//! Operations on whole files: durable rename, durable unlink, and reading. Mirrors fd.c.

use crate::base::{Bug, Fd};
use crate::call::{DiskDone, DiskError, DiskOp, FilePath, LogEvent, OpenFlags, Place, Poll};
use crate::sys::Cx;
use alloc::vec::Vec;
use bytes::Bytes;

/// The descriptor that an `Open` returned.
///
/// # Panics
/// If the operation was not an `Open`.
#[must_use]
pub fn opened(done: DiskDone) -> Fd {
    let DiskDone::Opened(fd) = done else {
        panic!("an open gives a descriptor, not {done:?}")
    };
    fd
}

/// The bytes that a `Read` returned.
///
/// # Panics
/// If the operation was not a `Read`.
#[must_use]
pub fn read(done: DiskDone) -> Bytes {
    let DiskDone::Data(bytes) = done else {
        panic!("a read gives bytes, not {done:?}")
    };
    bytes
}

/// The length that a `Write` or `WriteZeros` returned.
///
/// # Panics
/// If the operation was not a write.
#[must_use]
pub fn written(done: DiskDone) -> u32 {
    let DiskDone::Written(n) = done else {
        panic!("a write gives a length, not {done:?}")
    };
    n
}

/// `durable_rename`. When it is done, even a crash cannot undo the new name or the content of the
/// file.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DurableRename {
    from: FilePath,
    to: FilePath,
    phase: RenamePhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum RenamePhase {
    OpenOld,
    OldOpened,
    OldSynced(Fd),
    Renamed,
    NewOpened,
    NewSynced(Fd),
    DirectorySynced,
}

impl DurableRename {
    /// Renames `from` to `to`, both in the same directory.
    #[must_use]
    pub const fn new(from: FilePath, to: FilePath) -> Self {
        Self {
            from,
            to,
            phase: RenamePhase::OpenOld,
        }
    }

    /// # Errors
    /// An ERROR for the first operation that failed.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let why = Place::DurableRename;
        let first = self.phase == RenamePhase::OpenOld;
        let outcome = if first { Ok(DiskDone::Done) } else { cx.done() };
        let fail = |what, path: &FilePath, error| {
            Poll::Ready(Err(LogEvent::file(what, path.clone(), error)))
        };
        let op = match (&self.phase, outcome) {
            (RenamePhase::OpenOld, _) => {
                // Only the directory of the new name is fsynced.
                assert_eq!(self.from.parent(), self.to.parent());
                assert_ne!(self.from, self.to);
                self.phase = RenamePhase::OldOpened;
                DiskOp::Open {
                    path: self.from.clone(),
                    flags: OpenFlags::Existing,
                }
            }
            (RenamePhase::OldOpened, Ok(done)) => {
                let fd = opened(done);
                self.phase = RenamePhase::OldSynced(fd);
                DiskOp::Fsync(fd)
            }
            (RenamePhase::OldSynced(fd), Ok(_)) => {
                cx.close(*fd);
                self.phase = RenamePhase::Renamed;
                DiskOp::Rename {
                    from: self.from.clone(),
                    to: self.to.clone(),
                }
            }
            (RenamePhase::Renamed, Ok(_)) => {
                self.phase = RenamePhase::NewOpened;
                DiskOp::Open {
                    path: self.to.clone(),
                    flags: OpenFlags::Existing,
                }
            }
            (RenamePhase::NewOpened, Ok(done)) => {
                let fd = opened(done);
                self.phase = RenamePhase::NewSynced(fd);
                DiskOp::Fsync(fd)
            }
            (RenamePhase::NewSynced(fd), Ok(_)) => {
                cx.close(*fd);
                // Before 9.5.2 the directory was not fsynced. After a loss of power the file could
                // then have its old name, or be missing.
                if cx.planted(Bug::RenameNotDurable) {
                    return Poll::Ready(Ok(()));
                }
                self.phase = RenamePhase::DirectorySynced;
                DiskOp::SyncDir(FilePath::from(self.to.parent()))
            }
            (RenamePhase::DirectorySynced, Ok(_)) => return Poll::Ready(Ok(())),
            (RenamePhase::OldOpened, Err(e)) => return fail("open", &self.from, e),
            (RenamePhase::OldSynced(fd), Err(e)) => {
                cx.close(*fd);
                return fail("fsync", &self.from, e);
            }
            (RenamePhase::Renamed, Err(e)) => return fail("rename", &self.from, e),
            (RenamePhase::NewOpened, Err(e)) => return fail("open", &self.to, e),
            (RenamePhase::NewSynced(fd), Err(e)) => {
                cx.close(*fd);
                return fail("fsync", &self.to, e);
            }
            (RenamePhase::DirectorySynced, Err(e)) => {
                return fail("fsync", &FilePath::from(self.to.parent()), e);
            }
        };
        Poll::Yield(cx.disk(op, why))
    }
}

/// `durable_unlink`. When it is done, even a crash cannot undo the removal. A failure is only
/// logged, because a later caller can try again.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DurableUnlink {
    path: FilePath,
    phase: UnlinkPhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum UnlinkPhase {
    Start,
    Unlinked,
    DirectorySynced,
}

impl DurableUnlink {
    /// Removes `path`.
    #[must_use]
    pub const fn new(path: FilePath) -> Self {
        Self {
            path,
            phase: UnlinkPhase::Start,
        }
    }

    /// Returns false if the file could not be removed durably.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<bool> {
        let why = Place::DurableUnlink;
        let directory = FilePath::from(self.path.parent());
        let (what, path, outcome) = match self.phase {
            UnlinkPhase::Start => {
                self.phase = UnlinkPhase::Unlinked;
                return Poll::Yield(cx.disk(DiskOp::Unlink(self.path.clone()), why));
            }
            UnlinkPhase::Unlinked => ("remove", self.path.clone(), cx.done()),
            UnlinkPhase::DirectorySynced => ("fsync", directory.clone(), cx.done()),
        };
        match (&self.phase, outcome) {
            (_, Err(e)) => {
                cx.log(LogEvent::file(what, path, e).only_logged());
                Poll::Ready(false)
            }
            (UnlinkPhase::Unlinked, Ok(_)) => {
                self.phase = UnlinkPhase::DirectorySynced;
                Poll::Yield(cx.disk(DiskOp::SyncDir(directory), why))
            }
            (UnlinkPhase::Start | UnlinkPhase::DirectorySynced, Ok(_)) => Poll::Ready(true),
        }
    }
}

/// Reads a file from its beginning, up to a limit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReadWholeFile {
    path: FilePath,
    limit: u32,
    phase: ReadPhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum ReadPhase {
    Open,
    Opened,
    Reading { fd: Fd, bytes: Vec<u8> },
}

impl ReadWholeFile {
    /// Reads at most `limit` bytes of `path`.
    #[must_use]
    pub const fn new(path: FilePath, limit: u32) -> Self {
        Self {
            path,
            limit,
            phase: ReadPhase::Open,
        }
    }

    /// Returns `None` if the file does not exist.
    ///
    /// # Errors
    /// An ERROR if an operation failed.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Option<Vec<u8>>, LogEvent>> {
        let why = Place::ReadControlFile;
        match &mut self.phase {
            ReadPhase::Open => {
                assert!(self.limit > 0, "a read of 0 bytes looks like the end");
                let op = DiskOp::Open {
                    path: self.path.clone(),
                    flags: OpenFlags::Existing,
                };
                self.phase = ReadPhase::Opened;
                Poll::Yield(cx.disk(op, why))
            }
            ReadPhase::Opened => match cx.done() {
                Ok(done) => {
                    let fd = opened(done);
                    let op = DiskOp::Read {
                        fd,
                        offset: 0,
                        len: self.limit,
                    };
                    self.phase = ReadPhase::Reading {
                        fd,
                        bytes: Vec::new(),
                    };
                    Poll::Yield(cx.disk(op, why))
                }
                Err(DiskError::NotFound) => Poll::Ready(Ok(None)),
                Err(e) => Poll::Ready(Err(LogEvent::file("open", self.path.clone(), e))),
            },
            ReadPhase::Reading { fd, bytes } => {
                let fd = *fd;
                match cx.done() {
                    Ok(done) => {
                        let got = read(done);
                        bytes.extend_from_slice(&got);
                        let have = u32::try_from(bytes.len()).expect("at most the limit");
                        assert!(have <= self.limit, "{have} of {} bytes", self.limit);
                        if got.is_empty() || have == self.limit {
                            cx.close(fd);
                            return Poll::Ready(Ok(Some(core::mem::take(bytes))));
                        }
                        let op = DiskOp::Read {
                            fd,
                            offset: have.into(),
                            len: self.limit - have,
                        };
                        Poll::Yield(cx.disk(op, why))
                    }
                    Err(e) => {
                        cx.close(fd);
                        Poll::Ready(Err(LogEvent::file("read", self.path.clone(), e)))
                    }
                }
            }
        }
    }
}
