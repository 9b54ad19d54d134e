//! The files that the postmaster reads and writes before it starts children. Mirrors
//! CreateDataDirLockFile and LocalProcessControlFile.

use crate::base::Fd;
use crate::call::{DiskOp, FilePath, LogEvent, Message, OpenFlags, Place, Poll, SqlState};
use crate::ready_ok;
use crate::storage::control::CONTROL_FILE;
use crate::storage::file::{ReadWholeFile, opened};
use crate::sys::Cx;
use crate::wire::control_file::{ControlFile, ControlFileError};
use alloc::format;
use bytes::Bytes;

pub(super) const LOCK_FILE: &str = "postmaster.pid";

/// Creates the lock file, then reads the control file.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Boot {
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Start,
    LockOpened,
    LockWritten(Fd),
    Control(ReadWholeFile),
}

impl Boot {
    pub(super) const fn new() -> Self {
        Self {
            phase: Phase::Start,
        }
    }

    /// Used for a restart after the crash of a child. The lock file already exists then.
    pub(super) fn again() -> Self {
        Self {
            phase: Phase::Control(read_control_file()),
        }
    }

    /// Returns the control file.
    ///
    /// # Errors
    /// Why the server cannot start.
    pub(super) fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<ControlFile, LogEvent>> {
        let lock = FilePath::from(LOCK_FILE);
        let why = Place::CreateLockFile;
        loop {
            match &mut self.phase {
                Phase::Start => {
                    cx.log(LogEvent::log(Message::Starting(
                        cx.shmem.settings.pg_version.major(),
                    )));
                    if cx.kernel.locked {
                        self.phase = Phase::Control(read_control_file());
                        continue;
                    }
                    // A lock file that already exists is left over from a crash. It is overwritten.
                    self.phase = Phase::LockOpened;
                    let flags = OpenFlags::CreateTruncate;
                    return Poll::Yield(cx.disk(DiskOp::Open { path: lock, flags }, why));
                }
                Phase::LockOpened => match cx.done() {
                    Ok(done) => {
                        let fd = opened(done);
                        let data = Bytes::from(format!("{}\n.\n", cx.me.n));
                        self.phase = Phase::LockWritten(fd);
                        return Poll::Yield(cx.disk(
                            DiskOp::Write {
                                fd,
                                offset: 0,
                                data,
                            },
                            why,
                        ));
                    }
                    Err(e) => return Poll::Ready(Err(LogEvent::file("create lock", lock, e))),
                },
                Phase::LockWritten(fd) => {
                    cx.close(*fd);
                    if let Err(e) = cx.done() {
                        return Poll::Ready(Err(LogEvent::file("write lock", lock, e)));
                    }
                    self.phase = Phase::Control(read_control_file());
                }
                Phase::Control(read) => {
                    let bytes = ready_ok!(read.poll(cx)).unwrap_or_default();
                    return Poll::Ready(Self::control(cx, &bytes));
                }
            }
        }
    }

    fn control(cx: &Cx<'_>, bytes: &[u8]) -> Result<ControlFile, LogEvent> {
        let settings = &cx.shmem.settings;
        let control = ControlFile::decode(settings.pg_version, bytes).map_err(|e| {
            let message = match e {
                ControlFileError::Checksum { .. } => Message::ControlChecksum,
                ControlFileError::Short(_)
                | ControlFileError::Version { .. }
                | ControlFileError::Incompatible { .. }
                | ControlFileError::State(_)
                | ControlFileError::Size { .. } => Message::IncompatibleControl,
            };
            LogEvent::fatal(SqlState::DATA_CORRUPTED, message)
        })?;
        let geometry = &settings.geometry;
        let ours = (geometry.wal_page, geometry.segment, geometry.data_page);
        if (control.xlog_blcksz, control.xlog_seg_size, control.blcksz) != ours {
            return Err(LogEvent::fatal(
                SqlState::INTERNAL,
                Message::IncompatibleControl,
            ));
        }
        Ok(control)
    }
}

fn read_control_file() -> ReadWholeFile {
    ReadWholeFile::new(FilePath::from(CONTROL_FILE), 8192)
}
