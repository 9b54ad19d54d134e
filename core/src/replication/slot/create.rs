//! Creates a slot. Mirrors ReplicationSlotCreate and CreateSlotOnDisk of slot.c.
//!
//! The directory of the slot is complete and durable before it is renamed to its final name. Other
//! processes can see the slot only after the rename.

use super::fsync::{FsyncNames, Name};
use super::rmtree::Rmtree;
use super::save::SaveSlotToPath;
use super::{directory, path_of, temp_path_of};
use crate::call::{
    DiskDone, DiskOp, FileKind, FilePath, LogEvent, Message, Place, Poll, SlotMessage, SqlState,
};
use crate::shmem::{CondVarId, LockId, LockMode, Slot};
use crate::sys::Cx;
use crate::wire::slot_name::validate;
use crate::{ready, ready_ok};
use alloc::string::String;

/// `ReplicationSlotCreate`: creates and acquires a slot.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReplicationSlotCreate {
    name: String,
    temporary: bool,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Start,
    Lock,
    OnDisk {
        index: usize,
        create: CreateSlotOnDisk,
    },
}

impl ReplicationSlotCreate {
    /// Creates a physical slot that does not yet hold back WAL.
    #[must_use]
    pub const fn new(name: String, temporary: bool) -> Self {
        Self {
            name,
            temporary,
            phase: Phase::Start,
        }
    }

    /// # Errors
    /// The name is invalid or taken, all slots are in use, or a disk operation failed. The locks
    /// are released before the error is returned.
    ///
    /// # Panics
    /// If the process has already acquired a slot.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        loop {
            match &mut self.phase {
                Phase::Start => {
                    assert!(cx.sys.my_slot.is_none(), "a process has at most one slot");
                    if let Err(e) = validate(&self.name) {
                        let state = SqlState(e.sqlstate());
                        return Poll::Ready(Err(LogEvent::slot(state, SlotMessage::Name(e))));
                    }
                    self.phase = Phase::Lock;
                }
                Phase::Lock => {
                    ready!(cx.acquire(LockId::ReplicationSlotAllocation, LockMode::Exclusive));
                    let index = match self.allocate(cx) {
                        Ok(index) => index,
                        Err(event) => return Poll::Ready(Err(event)),
                    };
                    let create = CreateSlotOnDisk::new(index, &self.name);
                    self.phase = Phase::OnDisk { index, create };
                }
                Phase::OnDisk { index, create } => {
                    ready_ok!(create.poll(cx));
                    let index = *index;
                    assert!(cx.holds(LockId::ReplicationSlotAllocation));
                    let slot = &mut cx.shmem.slots.slots[index];
                    assert!(!slot.in_use, "entry {index} was taken");
                    assert_eq!(slot.active_pid, None, "entry {index} is acquired");
                    assert_eq!(slot.name, self.name, "entry {index} was allocated");
                    assert!(!slot.dirty, "{} is not saved", slot.name);
                    slot.in_use = true;
                    slot.active_pid = Some(cx.me);
                    cx.sys.my_slot = Some(index);
                    cx.release(LockId::ReplicationSlotAllocation);
                    cx.shmem.condvars.broadcast(CondVarId::SlotActive(index));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Allocates the free entry with the lowest index. No other process can use the entry while
    /// this process holds the lock.
    fn allocate(&self, cx: &mut Cx<'_>) -> Result<usize, LogEvent> {
        let version = cx.shmem.settings.pg_version;
        let slots = &mut cx.shmem.slots;
        if slots.find(&self.name).is_some() {
            let message = SlotMessage::Exists(self.name.clone());
            return Err(LogEvent::slot(SqlState::DUPLICATE_OBJECT, message));
        }
        let Some(index) = slots.slots.iter().position(|slot| !slot.in_use) else {
            let state = SqlState::CONFIGURATION_LIMIT_EXCEEDED;
            return Err(LogEvent::slot(state, SlotMessage::AllInUse(version)));
        };
        assert_eq!(slots.slots[index].active_pid, None, "entry {index} is free");
        slots.slots[index] = Slot {
            name: self.name.clone(),
            temporary: self.temporary,
            ..Slot::default()
        };
        Ok(index)
    }
}

/// `CreateSlotOnDisk`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct CreateSlotOnDisk {
    index: usize,
    temp: FilePath,
    path: FilePath,
    phase: DiskPhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum DiskPhase {
    Start,
    Looked,
    Remove(Rmtree),
    Made,
    SyncTemp(FsyncNames),
    Save(SaveSlotToPath),
    Renamed,
    Critical(FsyncNames),
}

impl CreateSlotOnDisk {
    fn new(index: usize, name: &str) -> Self {
        Self {
            index,
            temp: FilePath::from(temp_path_of(name)),
            path: FilePath::from(path_of(name)),
            phase: DiskPhase::Start,
        }
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let why = Place::CreateSlotOnDisk;
        loop {
            match &mut self.phase {
                DiskPhase::Start => {
                    self.phase = DiskPhase::Looked;
                    return Poll::Yield(cx.disk(DiskOp::Stat(self.temp.clone()), why));
                }
                DiskPhase::Looked => {
                    // The directory is left over from a failed attempt to create or drop a slot of
                    // this name.
                    if matches!(cx.done(), Ok(DiskDone::Stat(FileKind::Dir))) {
                        self.phase = DiskPhase::Remove(Rmtree::new(self.temp.clone()));
                    } else {
                        return self.mkdir(cx);
                    }
                }
                DiskPhase::Remove(remove) => {
                    // If the removal has failed, the mkdir below fails too and reports the error.
                    ready!(remove.poll(cx));
                    return self.mkdir(cx);
                }
                DiskPhase::Made => {
                    if let Err(error) = cx.done() {
                        let path = self.temp.clone();
                        let message = Message::CreateDir { path, error };
                        return Poll::Ready(Err(LogEvent::error(error.into(), message)));
                    }
                    let name = Name::Dir(self.temp.clone());
                    self.phase = DiskPhase::SyncTemp(FsyncNames::new([name]));
                }
                DiskPhase::SyncTemp(fsync) => {
                    ready_ok!(fsync.poll(cx));
                    assert!(!cx.shmem.slots.slots[self.index].in_use);
                    cx.shmem.slots.slots[self.index].dirty = true;
                    let directory = String::from(self.temp.as_str());
                    self.phase = DiskPhase::Save(SaveSlotToPath::new(self.index, directory));
                }
                DiskPhase::Save(save) => {
                    ready_ok!(save.poll(cx));
                    self.phase = DiskPhase::Renamed;
                    let (from, to) = (self.temp.clone(), self.path.clone());
                    return Poll::Yield(cx.disk(DiskOp::Rename { from, to }, why));
                }
                DiskPhase::Renamed => {
                    if let Err(error) = cx.done() {
                        let (from, to) = (self.temp.clone(), self.path.clone());
                        let message = Message::Rename { from, to, error };
                        return Poll::Ready(Err(LogEvent::error(error.into(), message)));
                    }
                    let names = [Name::Dir(self.path.clone()), Name::Dir(directory())];
                    self.phase = DiskPhase::Critical(FsyncNames::new(names));
                }
                DiskPhase::Critical(fsync) => {
                    ready_ok!(fsync.poll(cx));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    fn mkdir(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        // A start removes the temporary directory if the server crashes now.
        assert!(self.temp.as_str().ends_with(".tmp"), "{}", self.temp);
        self.phase = DiskPhase::Made;
        let op = DiskOp::Mkdir(self.temp.clone());
        Poll::Yield(cx.disk(op, Place::CreateSlotOnDisk))
    }
}
