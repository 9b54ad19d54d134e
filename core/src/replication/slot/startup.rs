//! Restores slots at server start. Mirrors StartupReplicationSlots and RestoreSlotFromDisk of
//! slot.c.

use super::fsync::{FsyncNames, Name};
use super::required_lsn::least_required;
use super::rmtree::Rmtree;
use super::{directory, path_of};
use crate::base::Bug;
use crate::base::{Fd, Lsn};
use crate::call::{
    DiskDone, DiskError, DiskOp, FileKind, FilePath, LogEvent, Message, OpenFlags, Place, Poll,
    SlotMessage, SqlState,
};
use crate::shmem::Slot;
use crate::storage::file::{opened, read};
use crate::sys::Cx;
use crate::wire::slot_file::{FILE_LEN, Persistency, SlotFile};
use crate::{ready, ready_ok};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// `StartupReplicationSlots`. Runs before recovery, which can remove WAL.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct StartupReplicationSlots {
    /// Remaining names in the directory, in reverse order.
    left: Vec<String>,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
enum Phase {
    #[default]
    Start,
    Listed,
    Next,
    Looked(String),
    Remove(Rmtree),
    SyncDirectory(FsyncNames),
    Restore(RestoreSlotFromDisk),
}

impl StartupReplicationSlots {
    /// Creates the routine. It does nothing before the first poll.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// # Errors
    /// A PANIC if a state file is damaged. A FATAL if there are too many slots.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let why = Place::StartupReplicationSlots;
        loop {
            match &mut self.phase {
                Phase::Start => {
                    let used = cx.shmem.slots.slots.iter().any(|slot| slot.in_use);
                    assert!(!used, "slots are restored into new shared memory");
                    self.phase = Phase::Listed;
                    return Poll::Yield(cx.disk(DiskOp::List(directory()), why));
                }
                Phase::Listed => match cx.done() {
                    Ok(DiskDone::Names(mut names)) => {
                        names.reverse();
                        self.left = names;
                        self.phase = Phase::Next;
                    }
                    Ok(done) => panic!("a list gives names, not {done:?}"),
                    Err(error) => {
                        let path = directory();
                        let message = Message::OpenDir { path, error };
                        return Poll::Ready(Err(LogEvent::error(error.into(), message)));
                    }
                },
                Phase::Next => {
                    let Some(name) = self.left.pop() else {
                        cx.shmem.slots.required_lsn = least_required(cx).unwrap_or(Lsn::INVALID);
                        return Poll::Ready(Ok(()));
                    };
                    let op = DiskOp::Stat(FilePath::from(path_of(&name)));
                    self.phase = Phase::Looked(name);
                    return Poll::Yield(cx.disk(op, why));
                }
                Phase::Looked(name) => {
                    let name = core::mem::take(name);
                    self.phase = if matches!(cx.done(), Ok(DiskDone::Stat(FileKind::File(_)))) {
                        // The entry is not a directory and therefore not a slot.
                        Phase::Next
                    } else if name.ends_with(".tmp") {
                        // The directory is left over from a crash while the slot was being created
                        // or dropped.
                        Phase::Remove(Rmtree::new(path_of(&name)))
                    } else {
                        Phase::Restore(RestoreSlotFromDisk::new(&name))
                    };
                }
                Phase::Remove(remove) => {
                    self.phase = if ready!(remove.poll(cx)) {
                        Phase::SyncDirectory(FsyncNames::new([Name::Dir(directory())]))
                    } else {
                        Phase::Next
                    };
                }
                Phase::SyncDirectory(fsync) => {
                    ready_ok!(fsync.poll(cx));
                    self.phase = Phase::Next;
                }
                Phase::Restore(restore) => {
                    ready_ok!(restore.poll(cx));
                    self.phase = Phase::Next;
                }
            }
        }
    }
}

/// `RestoreSlotFromDisk`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct RestoreSlotFromDisk {
    directory: String,
    phase: RestorePhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum RestorePhase {
    Start,
    TempUnlinked,
    Opened,
    Synced(Fd),
    SyncDirectory(Fd, FsyncNames),
    Read(Fd),
    Remove(Rmtree),
    SyncParent(FsyncNames),
}

impl RestoreSlotFromDisk {
    fn new(name: &str) -> Self {
        Self {
            directory: path_of(name),
            phase: RestorePhase::Start,
        }
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let why = Place::RestoreSlotFromDisk;
        let fail = |what, path, error| {
            Poll::Ready(Err(LogEvent::file(what, path, error).in_critical_section()))
        };
        loop {
            match &mut self.phase {
                RestorePhase::Start => {
                    self.phase = RestorePhase::TempUnlinked;
                    return Poll::Yield(cx.disk(DiskOp::Unlink(self.temp()), why));
                }
                RestorePhase::TempUnlinked => match cx.done() {
                    Ok(_) | Err(DiskError::NotFound) => {
                        self.phase = RestorePhase::Opened;
                        let (path, flags) = (self.state(), OpenFlags::Existing);
                        return Poll::Yield(cx.disk(DiskOp::Open { path, flags }, why));
                    }
                    Err(e) => return fail("remove", self.temp(), e),
                },
                RestorePhase::Opened => match cx.done() {
                    Ok(done) => {
                        // The file may not be durable yet. It is fsynced before the server uses its
                        // content.
                        let fd = opened(done);
                        self.phase = RestorePhase::Synced(fd);
                        return Poll::Yield(cx.disk(DiskOp::Fsync(fd), why));
                    }
                    Err(e) => return fail("open", self.state(), e),
                },
                RestorePhase::Synced(fd) => {
                    let fd = *fd;
                    if let Err(e) = cx.done() {
                        return fail("fsync", self.state(), e);
                    }
                    let directory = FilePath::from(self.directory.as_str());
                    let fsync = FsyncNames::new([Name::Dir(directory)]);
                    self.phase = RestorePhase::SyncDirectory(fd, fsync);
                }
                RestorePhase::SyncDirectory(fd, fsync) => {
                    ready_ok!(fsync.poll(cx));
                    let fd = *fd;
                    self.phase = RestorePhase::Read(fd);
                    let len = u32::try_from(FILE_LEN).expect("a small constant");
                    let op = DiskOp::Read { fd, offset: 0, len };
                    return Poll::Yield(cx.disk(op, why));
                }
                RestorePhase::Read(fd) => {
                    let fd = *fd;
                    let bytes = match cx.done() {
                        Ok(done) => read(done),
                        Err(e) => return fail("read", self.state(), e),
                    };
                    assert!(bytes.len() <= FILE_LEN, "{} bytes", bytes.len());
                    cx.close(fd);
                    match self.restore(cx, &bytes) {
                        Ok(true) => return Poll::Ready(Ok(())),
                        Ok(false) => {
                            let remove = Rmtree::new(self.directory.as_str());
                            self.phase = RestorePhase::Remove(remove);
                        }
                        Err(event) => return Poll::Ready(Err(event)),
                    }
                }
                RestorePhase::Remove(remove) => {
                    ready!(remove.poll(cx));
                    let fsync = FsyncNames::new([Name::Dir(directory())]);
                    self.phase = RestorePhase::SyncParent(fsync);
                }
                RestorePhase::SyncParent(fsync) => return fsync.poll(cx),
            }
        }
    }

    /// Restores the slot in shared memory. Returns false for a temporary slot, because its session
    /// ended with the previous server.
    fn restore(&self, cx: &mut Cx<'_>, bytes: &[u8]) -> Result<bool, LogEvent> {
        let version = cx.shmem.settings.pg_version;
        let file = SlotFile::decode(version, bytes).map_err(|error| {
            let path = self.state();
            let message = Message::Slot(SlotMessage::File { path, error });
            LogEvent::panic(SqlState::DATA_CORRUPTED, message)
        })?;
        if file.persistency != Persistency::PERSISTENT {
            return Ok(false);
        }
        let fatal = |state, message| Err(LogEvent::fatal(state, Message::Slot(message)));
        if file.database != 0 {
            let name = file.name;
            return fatal(
                SqlState::NOT_IN_STATE,
                SlotMessage::Logical { name, version },
            );
        }
        let mut entries = cx.shmem.slots.slots.iter_mut();
        let Some(free) = entries.find(|slot| !slot.in_use) else {
            return fatal(SqlState::INTERNAL, SlotMessage::TooMany(version));
        };
        *free = Slot::from_file(version, file);
        free.set_inactive_since(version, Some(cx.now.wall));
        let geometry = &cx.shmem.settings.geometry;
        let start = geometry.segment_start(geometry.segment_of(free.restart_lsn));
        if start < free.restart_lsn && cx.probe.planted(Bug::SlotRestoredAtSegmentStart) {
            free.restart_lsn = start;
        }
        Ok(true)
    }

    fn temp(&self) -> FilePath {
        FilePath::from(format!("{}/state.tmp", self.directory))
    }

    fn state(&self) -> FilePath {
        FilePath::from(format!("{}/state", self.directory))
    }
}
