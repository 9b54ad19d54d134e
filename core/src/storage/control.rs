//! Writes the control file. Mirrors update_controlfile.

use super::file::{opened, written};
use crate::base::Fd;
use crate::call::{DiskDone, DiskError, DiskOp, FilePath, LogEvent, OpenFlags, Place, Poll};
use crate::shmem::{LockId, Role};
use crate::sys::Cx;
use crate::wire::control_file::FILE_LEN;
use bytes::Bytes;

/// The path of the control file.
pub const CONTROL_FILE: &str = "global/pg_control";

/// `UpdateControlFile`: sets the time in the shared copy of the control file. Then writes the file
/// in a single write, and fsyncs it. The caller holds `ControlFileLock`. As in PostgreSQL, a
/// failure is a PANIC.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct UpdateControlFile {
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
enum Phase {
    #[default]
    Open,
    Opened,
    Written(Fd),
    Synced(Fd),
}

impl UpdateControlFile {
    /// Writes `shmem.control`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// # Errors
    /// A PANIC if an operation failed.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let path = FilePath::from(CONTROL_FILE);
        let why = Place::UpdateControlFile;
        let (what, outcome) = match self.phase {
            Phase::Open => {
                // Before the startup process has begun recovery, it alone uses the file.
                let role = cx.shmem.procs.get(cx.me).map(|proc| proc.role);
                let locked = cx.holds(LockId::ControlFile);
                assert!(locked || role == Some(Role::Startup), "{role:?}");
                self.phase = Phase::Opened;
                let op = DiskOp::Open {
                    path,
                    flags: OpenFlags::Existing,
                };
                return Poll::Yield(cx.disk(op, why));
            }
            Phase::Opened => ("open", cx.done()),
            // A short write means that the disk is full.
            Phase::Written(_) => ("write", cx.done().and_then(whole)),
            Phase::Synced(_) => ("fsync", cx.done()),
        };
        let done = match outcome {
            Ok(done) => done,
            Err(e) => return Poll::Ready(Err(LogEvent::file(what, path, e).in_critical_section())),
        };
        match self.phase {
            Phase::Open => unreachable!("answered above"),
            Phase::Opened => {
                let fd = opened(done);
                cx.shmem.control.time = cx.now.wall.unix_seconds();
                let data = Bytes::from(cx.shmem.control.encode(cx.shmem.settings.pg_version));
                self.phase = Phase::Written(fd);
                Poll::Yield(cx.disk(
                    DiskOp::Write {
                        fd,
                        offset: 0,
                        data,
                    },
                    why,
                ))
            }
            Phase::Written(fd) => {
                self.phase = Phase::Synced(fd);
                Poll::Yield(cx.disk(DiskOp::Fsync(fd), why))
            }
            Phase::Synced(fd) => {
                cx.close(fd);
                Poll::Ready(Ok(()))
            }
        }
    }
}

fn whole(done: DiskDone) -> Result<DiskDone, DiskError> {
    let len = written(done) as usize;
    assert!(len <= FILE_LEN, "{len} bytes were written");
    let whole = len == FILE_LEN;
    whole.then_some(DiskDone::Done).ok_or(DiskError::NoSpace)
}
