//! Removes or recycles old segments, and preallocates the next one. Mirrors RemoveOldXlogFiles,
//! RemoveXlogFile and PreallocXlogFiles.

use super::wal_file::XLogFileInitInternal;
use super::wal_install::InstallXLogFileSegment;
use crate::base::{Bug, Geometry, Lsn, Mark, SegmentNo, TimelineId};
use crate::call::{DiskDone, DiskOp, FileKind, FilePath, LogEvent, Place, Poll, Yield};
use crate::replication::wal_horizon::xlog_file_slop;
use crate::storage::file::DurableUnlink;
use crate::sys::Cx;
use crate::wal::names::{WalFile, segment_name};
use crate::{ready, ready_ok};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// `RemoveOldXlogFiles`: removes all segments up to `last`, on all timelines. Advances
/// `lastRemovedSegNo` before it touches a file. A walsender checks this number after each read, and
/// so detects that the file may have been recycled during the read.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RemoveOldXlogFiles {
    /// The last segment to remove.
    last: SegmentNo,
    recycling: Recycling,
    /// The names that are still to be examined, in reverse order.
    left: Vec<String>,
    phase: Phase,
}

/// The segments to which old files can be renamed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Recycling {
    /// `endlogSegNo`: the first segment number to try.
    from: SegmentNo,
    /// `recycleSegNo`: the last segment number to try.
    upto: SegmentNo,
    tli: TimelineId,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Start,
    Listed,
    Next,
    Announced(String),
    Remove(RemoveXlogFile),
}

impl RemoveOldXlogFiles {
    /// Removes segments up to `last`. `redo` is the last redo point and `end` is the end of WAL.
    /// Recycled segments get timeline `tli`.
    #[must_use]
    pub fn new(cx: &Cx<'_>, last: SegmentNo, redo: Lsn, end: Lsn, tli: TimelineId) -> Self {
        let settings = &cx.shmem.settings;
        let distance = cx.shmem.checkpointer.distance_estimate;
        Self {
            last,
            recycling: Recycling {
                from: settings.geometry.segment_of(end),
                upto: xlog_file_slop(settings, redo, distance),
                tli,
            },
            left: Vec::new(),
            phase: Phase::Start,
        }
    }

    /// # Errors
    /// The directory cannot be read. A failure to remove a file is only logged.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let why = Place::RemoveOldXlogFiles;
        let directory = FilePath::from("pg_wal");
        loop {
            match &mut self.phase {
                Phase::Start => {
                    self.phase = Phase::Listed;
                    return Poll::Yield(cx.disk(DiskOp::List(directory), why));
                }
                Phase::Listed => match cx.done() {
                    Ok(DiskDone::Names(names)) => {
                        self.left = names;
                        self.left.reverse();
                        self.phase = Phase::Next;
                    }
                    Ok(done) => panic!("a list gives names, not {done:?}"),
                    Err(e) => {
                        let event = LogEvent::file("open directory", directory, e);
                        return Poll::Ready(Err(event));
                    }
                },
                Phase::Next => {
                    let Some(name) = self.left.pop() else {
                        return Poll::Ready(Ok(()));
                    };
                    let geometry = cx.shmem.settings.geometry;
                    if let Some(segment) = is_old(&geometry, &name, self.last) {
                        // `UpdateLastRemovedPtr`
                        let removed = &mut cx.shmem.xlog.last_removed;
                        *removed = segment.max(*removed);
                        self.phase = Phase::Announced(name);
                        return Poll::Yield(Yield::Again(Place::UpdateLastRemovedPtr));
                    }
                }
                Phase::Announced(name) => {
                    let old = is_old(&cx.shmem.settings.geometry, name, self.last);
                    let announced = |segment| segment <= cx.shmem.xlog.last_removed;
                    assert!(old.is_some_and(announced), "{name} is not announced");
                    self.phase = Phase::Remove(RemoveXlogFile::new(name, self.recycling));
                }
                Phase::Remove(remove) => {
                    let from = ready!(remove.poll(cx));
                    assert!(self.recycling.from <= from, "{from:?} was tried before");
                    self.recycling.from = from;
                    self.phase = Phase::Next;
                    return Poll::Yield(Yield::Again(why));
                }
            }
        }
    }
}

/// The segment of a file that can be removed. `None` if the file must stay. Names are compared as
/// text without their timeline. A `.partial` file sorts after its segment, so it is removed one
/// segment later.
fn is_old(geometry: &Geometry, name: &str, last: SegmentNo) -> Option<SegmentNo> {
    let segment = match WalFile::parse(geometry, name)? {
        WalFile::Segment(_, segment) | WalFile::Partial(_, segment) => segment,
        WalFile::History(_) | WalFile::Backup(..) => return None,
    };
    let last = segment_name(geometry, TimelineId(0), last);
    (name[8..] <= last[8..]).then_some(segment)
}

/// `RemoveXlogFile`: renames a file to a future segment if such a segment is needed, otherwise
/// unlinks the file. A recycled file keeps its content.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct RemoveXlogFile {
    path: FilePath,
    recycling: Recycling,
    phase: FilePhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum FilePhase {
    Start,
    Looked,
    Recycle(InstallXLogFileSegment),
    Unlink(DurableUnlink),
}

impl RemoveXlogFile {
    fn new(name: &str, recycling: Recycling) -> Self {
        Self {
            path: FilePath::from(format!("pg_wal/{name}")),
            recycling,
            phase: FilePhase::Start,
        }
    }

    /// Returns the first segment name to try for the next file.
    fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<SegmentNo> {
        loop {
            match &mut self.phase {
                FilePhase::Start => {
                    let Recycling { from, upto, .. } = self.recycling;
                    // The flag is checked again under the lock.
                    let active = cx.shmem.recovery.install_segment_active;
                    let recycles = cx.shmem.settings.wal_recycle && active;
                    let limit = if recycles && from > upto && cx.planted(Bug::RecyclingWithoutLimit)
                    {
                        SegmentNo(u64::MAX)
                    } else {
                        upto
                    };
                    self.recycling.upto = limit;
                    if recycles && from <= limit {
                        self.phase = FilePhase::Looked;
                        let op = DiskOp::Stat(self.path.clone());
                        return Poll::Yield(cx.disk(op, Place::RemoveXlogFile));
                    }
                    if active && from <= limit {
                        cx.mark(Mark::RecyclingOff);
                    }
                    self.phase = self.unlink();
                }
                FilePhase::Looked => {
                    let Recycling { from, upto, tli } = self.recycling;
                    let path = self.path.clone();
                    self.phase = match cx.done() {
                        Ok(DiskDone::Stat(FileKind::File(_))) => {
                            FilePhase::Recycle(InstallXLogFileSegment::new(path, from, upto, tli))
                        }
                        Ok(_) | Err(_) => self.unlink(),
                    };
                }
                FilePhase::Recycle(install) => {
                    let installed = ready!(install.poll(cx));
                    assert!(self.recycling.from <= install.segment);
                    assert!(install.segment <= self.recycling.upto);
                    self.recycling.from = install.segment;
                    if installed {
                        cx.mark(if cx.shmem.recovery_in_progress() {
                            Mark::StandbyRecycledSegment
                        } else {
                            Mark::SegmentRecycled
                        });
                        self.recycling.from.0 += 1;
                        return Poll::Ready(self.recycling.from);
                    }
                    self.phase = self.unlink();
                }
                FilePhase::Unlink(unlink) => {
                    ready!(unlink.poll(cx));
                    return Poll::Ready(self.recycling.from);
                }
            }
        }
    }

    fn unlink(&self) -> FilePhase {
        FilePhase::Unlink(DurableUnlink::new(self.path.clone()))
    }
}

/// `PreallocXlogFiles`: creates the next segment if the end of WAL is in the last quarter of its
/// segment.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PreallocXlogFiles {
    init: Option<XLogFileInitInternal>,
}

impl PreallocXlogFiles {
    /// Creates the segment after `end` on timeline `tli`.
    #[must_use]
    pub fn new(cx: &Cx<'_>, end: Lsn, tli: TimelineId) -> Self {
        let geometry = &cx.shmem.settings.geometry;
        assert!(end.is_valid(), "WAL is removed only if there is any");
        let offset = geometry.segment_offset(Lsn(end.0 - 1));
        let late = offset >= geometry.segment / 4 * 3;
        let wanted = late && cx.shmem.recovery.install_segment_active;
        let next = SegmentNo(geometry.segment_before(end).0 + 1);
        Self {
            init: wanted.then(|| XLogFileInitInternal::new(next, tli)),
        }
    }

    /// # Errors
    /// An ERROR if the segment cannot be created.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        if let Some(init) = &mut self.init
            && let Some(fd) = ready_ok!(init.poll(cx))
        {
            cx.close(fd);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
