//! Fsyncs files and directories by name. Mirrors fsync_fname of fd.c.

use crate::base::Fd;
use crate::call::{DiskOp, FilePath, LogEvent, OpenFlags, Place, Poll};
use crate::storage::file::opened;
use crate::sys::Cx;
use alloc::vec::Vec;

/// `fsync_fname` for several names in turn. A failure is a PANIC (`data_sync_elevel`), because the
/// content of the disk is then unknown.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct FsyncNames {
    /// The names that are still to be fsynced, in reverse order.
    left: Vec<Name>,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Name {
    File(FilePath),
    Dir(FilePath),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Next,
    Opened(FilePath),
    Synced(FilePath, Option<Fd>),
}

impl FsyncNames {
    /// Fsyncs the files and directories with these names, in order.
    pub(super) fn new<const N: usize>(names: [Name; N]) -> Self {
        const { assert!(N > 0, "an fsync of nothing makes nothing durable") };
        let mut left = Vec::from(names);
        left.reverse();
        Self {
            left,
            phase: Phase::Next,
        }
    }

    /// # Errors
    /// A PANIC for the first fsync that failed.
    pub(super) fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let panic = |what, path, error| {
            Poll::Ready(Err(LogEvent::file(what, path, error).in_critical_section()))
        };
        let op = loop {
            match core::mem::replace(&mut self.phase, Phase::Next) {
                Phase::Next => match self.left.pop() {
                    None => return Poll::Ready(Ok(())),
                    Some(Name::Dir(path)) => {
                        self.phase = Phase::Synced(path.clone(), None);
                        break DiskOp::SyncDir(path);
                    }
                    Some(Name::File(path)) => {
                        self.phase = Phase::Opened(path.clone());
                        let flags = OpenFlags::Existing;
                        break DiskOp::Open { path, flags };
                    }
                },
                Phase::Opened(path) => match cx.done() {
                    Ok(done) => {
                        let fd = opened(done);
                        self.phase = Phase::Synced(path, Some(fd));
                        break DiskOp::Fsync(fd);
                    }
                    Err(e) => return panic("open", path, e),
                },
                Phase::Synced(path, fd) => {
                    let outcome = cx.done();
                    if let Some(fd) = fd {
                        cx.close(fd);
                    }
                    if let Err(e) = outcome {
                        return panic("fsync", path, e);
                    }
                }
            }
        };
        Poll::Yield(cx.disk(op, Place::FsyncFname))
    }
}
