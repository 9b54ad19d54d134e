//! Putting a finished segment file into pg_wal under its real name. Mirrors InstallXLogFileSegment.

use super::wal_file::segment_path;
use crate::base::{SegmentNo, TimelineId};
use crate::call::{DiskOp, FilePath, Place, Poll};
use crate::ready;
use crate::shmem::{LockId, LockMode};
use crate::storage::file::DurableRename;
use crate::sys::Cx;

/// `InstallXLogFileSegment` with `find_free`: renames a file to the first segment that does not
/// exist. A process that looks for a free name holds `ControlFileLock` until it is taken, so that
/// no two find the same one; the startup process, which wants pg_wal for itself before it reads
/// from there, takes the permission away under the same lock.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct InstallXLogFileSegment {
    from: FilePath,
    /// Which one it is to become; after the call the one that it became, or the last one that was
    /// looked at.
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
    /// `from` as the first free segment from `segment` to `most` of timeline `tli`.
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

    /// False if it is still where it was: no segment may be installed now, none in the range is
    /// free, or the rename failed, which is only logged.
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
