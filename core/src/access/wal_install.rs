//! Renames a complete segment file to its final name in pg_wal. Mirrors InstallXLogFileSegment.

use super::wal_file::segment_path;
use crate::base::{SegmentNo, TimelineId};
use crate::call::{DiskOp, FilePath, Place, Poll};
use crate::ready;
use crate::shmem::{LockId, LockMode};
use crate::storage::file::DurableRename;
use crate::sys::Cx;

/// `InstallXLogFileSegment` with `find_free`: renames a file to the first segment that does not
/// exist. The process holds `ControlFileLock` from the search to the rename, so two processes
/// cannot find the same name. The startup process clears `install_segment_active` under the same
/// lock before it reads from pg_wal.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct InstallXLogFileSegment {
    from: FilePath,
    /// Before the search, the first segment number to try. After the search, the number that the
    /// file got, or the last number that was tried.
    pub segment: SegmentNo,
    most: SegmentNo,
    tli: TimelineId,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Lock,
    Look,
    Looked,
    Rename(DurableRename),
}

impl InstallXLogFileSegment {
    /// Renames `from` to the first free segment between `segment` and `most` on timeline `tli`.
    #[must_use]
    pub const fn new(from: FilePath, segment: SegmentNo, most: SegmentNo, tli: TimelineId) -> Self {
        Self {
            from,
            segment,
            most,
            tli,
            phase: Phase::Lock,
        }
    }

    /// Returns false if the file was not renamed. There are three reasons: the startup process does
    /// not allow a rename now, no segment in the range is free, or the rename failed. A failed
    /// rename is logged.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<bool> {
        let why = Place::InstallXLogFileSegment;
        loop {
            match &mut self.phase {
                Phase::Lock => {
                    ready!(cx.acquire(LockId::ControlFile, LockMode::Exclusive));
                    if !cx.shmem.recovery.install_segment_active {
                        cx.release(LockId::ControlFile);
                        return Poll::Ready(false);
                    }
                    self.phase = Phase::Look;
                }
                Phase::Look => {
                    assert!(self.segment <= self.most, "{self:?}");
                    assert!(cx.holds(LockId::ControlFile), "{} installs", cx.me);
                    self.phase = Phase::Looked;
                    let path = segment_path(cx, self.tli, self.segment);
                    return Poll::Yield(cx.disk(DiskOp::Stat(path), why));
                }
                Phase::Looked => match cx.done() {
                    Ok(_) if self.segment >= self.most => {
                        cx.release(LockId::ControlFile);
                        return Poll::Ready(false);
                    }
                    Ok(_) => {
                        self.segment.0 += 1;
                        self.phase = Phase::Look;
                    }
                    Err(_) => {
                        // The startup process clears the flag under the same lock.
                        assert!(cx.shmem.recovery.install_segment_active);
                        let to = segment_path(cx, self.tli, self.segment);
                        self.phase = Phase::Rename(DurableRename::new(self.from.clone(), to));
                    }
                },
                Phase::Rename(rename) => {
                    let outcome = ready!(rename.poll(cx));
                    cx.release(LockId::ControlFile);
                    return Poll::Ready(match outcome {
                        Ok(()) => true,
                        Err(event) => {
                            cx.log(event.only_logged());
                            false
                        }
                    });
                }
            }
        }
    }
}
