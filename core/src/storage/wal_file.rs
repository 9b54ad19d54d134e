//! Getting hold of a WAL segment to write into. Mirrors XLogFileInit and InstallXLogFileSegment.

use super::file::{DurableRename, opened, written};
use crate::base::{Fd, SegmentNo, TimelineId};
use crate::call::{DiskError, DiskOp, FilePath, LogEvent, OpenFlags, Poll, Severity};
use crate::shmem::{LockId, LockMode};
use crate::sys::{Cx, OpenSegment};
use crate::wal::names::segment_name;
use crate::{ready, ready_ok};
use alloc::format;

/// The path of a segment.
#[must_use]
pub fn segment_path(cx: &Cx<'_>, tli: TimelineId, segment: SegmentNo) -> FilePath {
    let name = segment_name(&cx.shmem.settings.geometry, tli, segment);
    FilePath::from(format!("pg_wal/{name}"))
}

/// `XLogFileInit`: opens the segment; if it does not exist, makes it of zeros under a temporary name first, so that a
/// crash never leaves a segment of the wrong size under a real name. An existing one is not cleared.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct XLogFileInit {
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
    Zeroing { fd: Fd, at: u32 },
    TempSynced(Fd),
    Lock,
    Look,
    Looked,
    Install(DurableRename),
    Discard,
    Discarded,
    OpenInstalled,
    InstalledOpened,
}

impl XLogFileInit {
    /// For writing into `segment` of timeline `tli`.
    #[must_use]
    pub const fn new(segment: SegmentNo, tli: TimelineId) -> Self {
        Self {
            segment,
            tli,
            phase: Phase::Open,
        }
    }

    /// # Errors
    /// The operation that failed, as an ERROR.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Fd, LogEvent>> {
        let why = "XLogFileInit";
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
                    Ok(done) => return Poll::Ready(Ok(opened(done))),
                    Err(DiskError::NotFound) => {
                        self.phase = Phase::TempUnlinked;
                        DiskOp::Unlink(temp.clone())
                    }
                    Err(e) => return fail("open", &path, e),
                },
                Phase::TempUnlinked => {
                    // Whatever it says: the next step finds out.
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
                    Err(e) => {
                        cx.close(*fd);
                        return fail("write to", &temp, e);
                    }
                },
                Phase::TempSynced(fd) => {
                    cx.close(*fd);
                    if let Err(e) = cx.done() {
                        return fail("fsync", &temp, e);
                    }
                    self.phase = Phase::Lock;
                    continue;
                }
                Phase::Lock => {
                    ready!(cx.acquire(LockId::ControlFile, LockMode::Exclusive));
                    self.phase = Phase::Look;
                    continue;
                }
                Phase::Look => {
                    self.phase = Phase::Looked;
                    DiskOp::Stat(path.clone())
                }
                Phase::Looked => match cx.done() {
                    Err(DiskError::NotFound) => {
                        self.phase = Phase::Install(DurableRename::new(temp.clone(), path.clone()));
                        continue;
                    }
                    // Somebody else was faster; theirs is as good.
                    Ok(_) => {
                        cx.release(LockId::ControlFile);
                        self.phase = Phase::Discard;
                        continue;
                    }
                    Err(e) => {
                        cx.release(LockId::ControlFile);
                        return fail("stat", &path, e);
                    }
                },
                Phase::Install(rename) => {
                    let outcome = ready!(rename.poll(cx));
                    cx.release(LockId::ControlFile);
                    self.phase = match outcome {
                        Ok(()) => Phase::OpenInstalled,
                        // InstallXLogFileSegment only logs it: the caller sees whether the file is there.
                        Err(event) => {
                            cx.log(LogEvent {
                                severity: Severity::Log,
                                ..event
                            });
                            Phase::Discard
                        }
                    };
                    continue;
                }
                Phase::Discard => {
                    self.phase = Phase::Discarded;
                    DiskOp::Unlink(temp.clone())
                }
                Phase::Discarded => {
                    let _ = cx.done();
                    self.phase = Phase::OpenInstalled;
                    continue;
                }
                Phase::OpenInstalled => {
                    self.phase = Phase::InstalledOpened;
                    DiskOp::Open {
                        path: path.clone(),
                        flags: OpenFlags::Existing,
                    }
                }
                Phase::InstalledOpened => {
                    return match cx.done() {
                        Ok(done) => Poll::Ready(Ok(opened(done))),
                        Err(e) => fail("open", &path, e),
                    };
                }
            };
            return Poll::Yield(cx.disk(op, why));
        }
    }
}

/// Makes a segment the one that the process writes into: closes another one that is open, opens this one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SwitchSegment {
    segment: SegmentNo,
    tli: TimelineId,
    init: XLogFileInit,
}

impl SwitchSegment {
    /// To `segment` of timeline `tli`.
    #[must_use]
    pub const fn new(segment: SegmentNo, tli: TimelineId) -> Self {
        Self {
            segment,
            tli,
            init: XLogFileInit::new(segment, tli),
        }
    }

    /// The descriptor.
    ///
    /// # Errors
    /// What [`XLogFileInit`] reports.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Fd, LogEvent>> {
        if let Some(open) = cx.sys.wal_file {
            if open.segment == self.segment && open.tli == self.tli {
                return Poll::Ready(Ok(open.fd));
            }
            cx.close(open.fd);
            cx.sys.wal_file = None;
        }
        let fd = ready_ok!(self.init.poll(cx));
        cx.sys.wal_file = Some(OpenSegment {
            segment: self.segment,
            tli: self.tli,
            fd,
        });
        Poll::Ready(Ok(fd))
    }
}
