//! Writes the state file of a slot. Mirrors SaveSlotToPath of slot.c.
//!
//! A crash at any point leaves either the old or the new file. It may also leave a temporary file.

use super::fsync::{FsyncNames, Name};
use super::{directory, mine, path_of, temp_path_of};
use crate::base::{Bug, Fd, Lsn, PgVersion};
use crate::call::{
    DiskDone, DiskError, DiskOp, FilePath, LogEvent, Message, OpenFlags, Place, Poll,
};
use crate::shmem::{LockId, LockMode};
use crate::storage::file::{opened, written};
use crate::sys::Cx;
use crate::wire::slot_file::FILE_LEN;
use crate::{ready, ready_ok};
use alloc::format;
use alloc::string::String;
use bytes::Bytes;

/// `SaveSlotToPath`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SaveSlotToPath {
    index: usize,
    directory: String,
    /// The restart_lsn that was written.
    restart_lsn: Lsn,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Start,
    Lock,
    Opened,
    Written(Fd),
    Synced(Fd),
    Renamed,
    Critical(FsyncNames),
    /// The temporary file was unlinked because of this error.
    Unlinked(LogEvent),
}

impl SaveSlotToPath {
    /// Saves the slot with this index to `directory`, which may be the temporary name of the slot's
    /// directory.
    #[must_use]
    pub(super) const fn new(index: usize, directory: String) -> Self {
        Self {
            index,
            directory,
            restart_lsn: Lsn::INVALID,
            phase: Phase::Start,
        }
    }

    /// Saves the slot with this index.
    #[must_use]
    pub(super) fn of(cx: &Cx<'_>, index: usize) -> Self {
        Self::new(index, path_of(&cx.shmem.slots.slots[index].name))
    }

    /// `ReplicationSlotSave`: saves the slot that the process has acquired.
    #[must_use]
    pub fn mine(cx: &Cx<'_>) -> Self {
        Self::of(cx, mine(cx))
    }

    /// # Errors
    /// An ERROR if a step before the rename failed. The old file then still exists, and the slot
    /// stays dirty. A PANIC if a later step failed.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let op = match &mut self.phase {
            Phase::Start => {
                let slot = &mut cx.shmem.slots.slots[self.index];
                // The flag is cleared before the slot is read. A later change of the slot sets the
                // flag again.
                slot.just_dirtied = false;
                if !slot.dirty {
                    return Poll::Ready(Ok(()));
                }
                self.phase = Phase::Lock;
                return self.poll(cx);
            }
            Phase::Lock => {
                ready!(cx.acquire(LockId::SlotIo(self.index), LockMode::Exclusive));
                self.phase = Phase::Opened;
                DiskOp::Open {
                    path: self.temp(),
                    flags: OpenFlags::CreateNew,
                }
            }
            Phase::Opened => match cx.done() {
                Ok(done) => {
                    let fd = opened(done);
                    self.phase = Phase::Written(fd);
                    DiskOp::Write {
                        fd,
                        offset: 0,
                        data: self.image(cx),
                    }
                }
                Err(e) => {
                    cx.release(LockId::SlotIo(self.index));
                    return Poll::Ready(Err(LogEvent::file("create", self.temp(), e)));
                }
            },
            Phase::Written(fd) => {
                let fd = *fd;
                // A short write means that the disk is full.
                let whole = |n: u32| {
                    assert!(n as usize <= FILE_LEN, "{n} bytes were written");
                    (n as usize == FILE_LEN)
                        .then_some(())
                        .ok_or(DiskError::NoSpace)
                };
                if let Err(e) = cx.done().map(written).and_then(whole) {
                    cx.close(fd);
                    return self.give_up(cx, LogEvent::file("write to", self.temp(), e));
                }
                self.phase = Phase::Synced(fd);
                DiskOp::Fsync(fd)
            }
            Phase::Synced(fd) => {
                let fd = *fd;
                let synced = cx.done();
                cx.close(fd);
                if let Err(e) = synced {
                    return self.give_up(cx, LogEvent::file("fsync", self.temp(), e));
                }
                self.phase = Phase::Renamed;
                DiskOp::Rename {
                    from: self.temp(),
                    to: self.state(),
                }
            }
            Phase::Renamed => {
                if let Err(error) = cx.done() {
                    let (from, to) = (self.temp(), self.state());
                    let message = Message::Rename { from, to, error };
                    return self.give_up(cx, LogEvent::error(error.into(), message));
                }
                self.phase = Phase::Critical(FsyncNames::new([
                    Name::File(self.state()),
                    Name::Dir(FilePath::from(self.directory.as_str())),
                    Name::Dir(directory()),
                ]));
                return self.poll(cx);
            }
            Phase::Critical(fsync) => {
                ready_ok!(fsync.poll(cx));
                self.saved(cx);
                return Poll::Ready(Ok(()));
            }
            Phase::Unlinked(event) => {
                let event = event.clone();
                // A failure of this unlink is not reported. In that case the next save fails with
                // "File exists".
                let _: Result<DiskDone, DiskError> = cx.done();
                cx.release(LockId::SlotIo(self.index));
                return Poll::Ready(Err(event));
            }
        };
        Poll::Yield(cx.disk(op, Place::SaveSlotToPath))
    }

    /// The content of the state file.
    fn image(&mut self, cx: &Cx<'_>) -> Bytes {
        assert!(cx.holds(LockId::SlotIo(self.index)), "{}", self.directory);
        let slot = &cx.shmem.slots.slots[self.index];
        let names = [path_of(&slot.name), temp_path_of(&slot.name)];
        assert!(
            names.contains(&self.directory),
            "{} is the entry's",
            slot.name
        );
        self.restart_lsn = slot.restart_lsn;
        Bytes::from(slot.to_file().encode(cx.shmem.settings.pg_version))
    }

    fn saved(&self, cx: &mut Cx<'_>) {
        assert!(cx.holds(LockId::SlotIo(self.index)), "{}", self.directory);
        let version = cx.shmem.settings.pg_version;
        // If the slot has advanced during the write, the slot keeps the new position in memory and
        // stays dirty.
        let moved = cx.shmem.slots.slots[self.index].restart_lsn != self.restart_lsn;
        if moved && cx.planted(Bug::SlotSaveTakesMemoryBack) {
            cx.shmem.slots.slots[self.index].restart_lsn = self.restart_lsn;
        }
        let slot = &mut cx.shmem.slots.slots[self.index];
        if !slot.just_dirtied {
            slot.dirty = false;
        }
        // Since 18 WAL is kept from the saved position on, not from the position in memory.
        if version >= PgVersion::V18 {
            slot.last_saved_restart_lsn = self.restart_lsn;
        }
        cx.release(LockId::SlotIo(self.index));
    }

    fn give_up(&mut self, cx: &mut Cx<'_>, event: LogEvent) -> Poll<Result<(), LogEvent>> {
        // Before 18.1 and 15.15 the temporary file was not removed. A save creates this file with
        // O_EXCL, so all later saves of the slot failed until the next start.
        if cx.planted(Bug::SlotTempFileLeft) {
            cx.release(LockId::SlotIo(self.index));
            return Poll::Ready(Err(event));
        }
        self.phase = Phase::Unlinked(event);
        Poll::Yield(cx.disk(DiskOp::Unlink(self.temp()), Place::SaveSlotToPath))
    }

    fn temp(&self) -> FilePath {
        FilePath::from(format!("{}/state.tmp", self.directory))
    }

    fn state(&self) -> FilePath {
        FilePath::from(format!("{}/state", self.directory))
    }
}
