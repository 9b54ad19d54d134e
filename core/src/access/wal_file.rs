//! Opens a WAL segment for writing. Mirrors XLogFileInit and XLogFileInitInternal.

use super::wal_install::InstallXLogFileSegment;
use crate::base::{Fd, SegmentNo, TimelineId};
use crate::call::{DiskError, DiskOp, FilePath, LogEvent, OpenFlags, Place, Poll};
use crate::storage::file::{opened, written};
use crate::sys::{Cx, OpenSegment};
use crate::wal::names;
use crate::{ready, ready_ok};
use alloc::format;

/// The path of a segment.
#[must_use]
pub fn segment_path(cx: &Cx<'_>, tli: TimelineId, segment: SegmentNo) -> FilePath {
    let geometry = &cx.shmem.settings.geometry;
    FilePath::from(names::segment_path(geometry, tli, segment))
}

/// `XLogFileInitInternal`: opens the segment. If the segment does not exist, creates a file under a
/// temporary name, fills it with zeros, and renames it. A crash therefore never leaves a segment of
/// the wrong size. An existing segment is opened with its content, which can be old WAL.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct XLogFileInitInternal {
    segment: SegmentNo,
    tli: TimelineId,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Open,
    Opened,
    TempUnlinked,
    TempOpened,
    Zeroing {
        fd: Fd,
        at: u32,
    },
    /// The zeros could not be written. The file is removed to free its space.
    Failed {
        fd: Fd,
        error: DiskError,
    },
    TempSynced(Fd),
    Install(InstallXLogFileSegment),
    Discarded,
}

impl XLogFileInitInternal {
    /// Opens or creates `segment` of timeline `tli`.
    #[must_use]
    pub const fn new(segment: SegmentNo, tli: TimelineId) -> Self {
        Self {
            segment,
            tli,
            phase: Phase::Open,
        }
    }

    /// Returns the descriptor if the segment existed. Otherwise returns `None`, and the caller must
    /// open the new segment.
    ///
    /// # Errors
    /// An ERROR for the operation that failed.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Option<Fd>, LogEvent>> {
        let path = segment_path(cx, self.tli, self.segment);
        let temp = FilePath::from(format!("pg_wal/xlogtemp.{}", cx.me.n));
        let segment_bytes = cx.shmem.settings.geometry.segment;
        let fail =
            |what, path: &FilePath, e| Poll::Ready(Err(LogEvent::file(what, path.clone(), e)));
        loop {
            let op = match &mut self.phase {
                Phase::Open => {
                    self.phase = Phase::Opened;
                    DiskOp::Open {
                        path: path.clone(),
                        flags: OpenFlags::Existing,
                    }
                }
                Phase::Opened => match cx.done() {
                    Ok(done) => return Poll::Ready(Ok(Some(opened(done)))),
                    Err(DiskError::NotFound) => {
                        self.phase = Phase::TempUnlinked;
                        DiskOp::Unlink(temp.clone())
                    }
                    Err(e) => return fail("open", &path, e),
                },
                Phase::TempUnlinked => {
                    // An error of the unlink is ignored. If the file still exists, the next open
                    // fails.
                    let _ = cx.done();
                    self.phase = Phase::TempOpened;
                    DiskOp::Open {
                        path: temp.clone(),
                        flags: OpenFlags::CreateNew,
                    }
                }
                Phase::TempOpened => match cx.done() {
                    Ok(done) => {
                        let fd = opened(done);
                        self.phase = Phase::Zeroing { fd, at: 0 };
                        DiskOp::WriteZeros {
                            fd,
                            offset: 0,
                            len: segment_bytes,
                        }
                    }
                    Err(e) => return fail("create", &temp, e),
                },
                Phase::Zeroing { fd, at } => match cx.done() {
                    Ok(done) => {
                        let (fd, at) = (*fd, *at + written(done));
                        if at < segment_bytes {
                            self.phase = Phase::Zeroing { fd, at };
                            DiskOp::WriteZeros {
                                fd,
                                offset: at.into(),
                                len: segment_bytes - at,
                            }
                        } else {
                            self.phase = Phase::TempSynced(fd);
                            DiskOp::Fsync(fd)
                        }
                    }
                    Err(error) => {
                        self.phase = Phase::Failed { fd: *fd, error };
                        DiskOp::Unlink(temp.clone())
                    }
                },
                Phase::Failed { fd, error } => {
                    let _ = cx.done();
                    cx.close(*fd);
                    return fail("write to", &temp, *error);
                }
                Phase::TempSynced(fd) => {
                    cx.close(*fd);
                    if let Err(e) = cx.done() {
                        return fail("fsync", &temp, e);
                    }
                    // If another process has created the segment in the meantime, this file becomes
                    // a later segment, but no later than `most`.
                    let most = self.segment.0 + cx.shmem.settings.checkpoint_segments();
                    self.phase = Phase::Install(InstallXLogFileSegment::new(
                        temp.clone(),
                        self.segment,
                        SegmentNo(most),
                        self.tli,
                    ));
                    continue;
                }
                Phase::Install(install) => {
                    if ready!(install.poll(cx)) {
                        return Poll::Ready(Ok(None));
                    }
                    self.phase = Phase::Discarded;
                    DiskOp::Unlink(temp.clone())
                }
                Phase::Discarded => {
                    let _ = cx.done();
                    return Poll::Ready(Ok(None));
                }
            };
            return Poll::Yield(cx.disk(op, Place::XLogFileInitInternal));
        }
    }
}

/// `XLogFileInit`: opens the segment, and creates it first if it does not exist.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct XLogFileInit {
    init: XLogFileInitInternal,
    opening: bool,
}

impl XLogFileInit {
    /// Opens `segment` of timeline `tli` for writing.
    #[must_use]
    pub const fn new(segment: SegmentNo, tli: TimelineId) -> Self {
        Self {
            init: XLogFileInitInternal::new(segment, tli),
            opening: false,
        }
    }

    /// # Errors
    /// An ERROR for the operation that failed. If a new segment could not be installed, the open
    /// fails.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Fd, LogEvent>> {
        let path = segment_path(cx, self.init.tli, self.init.segment);
        if self.opening {
            return Poll::Ready(match cx.done() {
                Ok(done) => Ok(opened(done)),
                Err(e) => Err(LogEvent::file("open", path, e)),
            });
        }
        if let Some(fd) = ready_ok!(self.init.poll(cx)) {
            return Poll::Ready(Ok(fd));
        }
        self.opening = true;
        let flags = OpenFlags::Existing;
        Poll::Yield(cx.disk(DiskOp::Open { path, flags }, Place::XLogFileInit))
    }
}

/// Closes the segment that the process has open, and opens the segment that the process will write
/// to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SwitchSegment {
    segment: SegmentNo,
    tli: TimelineId,
    init: XLogFileInit,
}

impl SwitchSegment {
    /// Switches to `segment` of timeline `tli`.
    #[must_use]
    pub const fn new(segment: SegmentNo, tli: TimelineId) -> Self {
        Self {
            segment,
            tli,
            init: XLogFileInit::new(segment, tli),
        }
    }

    /// Returns the descriptor.
    ///
    /// # Errors
    /// The errors of [`XLogFileInit`].
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Fd, LogEvent>> {
        if let Some(open) = cx.sys.wal_file {
            if open.segment == self.segment && open.tli == self.tli {
                return Poll::Ready(Ok(open.fd));
            }
            cx.close(open.fd);
            cx.sys.wal_file = None;
        }
        let fd = ready_ok!(self.init.poll(cx));
        assert_eq!(cx.sys.wal_file, None, "one segment is open at a time");
        cx.sys.wal_file = Some(OpenSegment {
            segment: self.segment,
            tli: self.tli,
            fd,
        });
        Poll::Ready(Ok(fd))
    }
}
