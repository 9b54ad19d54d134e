//! Locks that a process can hold while another process runs. Mirrors lwlock.c.
//!
//! Waiting processes get a lock in the order of their requests. The locks of a killed process stay
//! held until a crash restart replaces shared memory.

use super::BufId;
use crate::base::{Lsn, Pid};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt;

/// A lock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LockId {
    /// One of the WAL insertion locks. Its variable is the position up to which its holder has
    /// inserted WAL.
    WalInsert(u8),
    /// `WALBufMappingLock`: held to replace pages of the WAL buffers.
    WalBufMapping,
    /// `WALWriteLock`: held to write and flush WAL.
    WalWrite,
    /// `ControlFileLock`
    ControlFile,
    /// `XidGenLock`
    XidGen,
    /// `XactSLRULock`: clog pages.
    Clog,
    /// The content lock of a buffer.
    BufferContent(BufId),
    /// The I/O lock of a buffer: held to read or write its page on disk.
    BufferIo(BufId),
    /// The extension lock of a relation.
    RelationExtension(u32),
    /// `ReplicationSlotAllocationLock`: held to create or drop a slot, and to reserve WAL.
    ReplicationSlotAllocation,
    /// `io_in_progress_lock` of a slot: held to write the slot's state file.
    SlotIo(usize),
}

/// The name of the lock in the wait events of pg_stat_activity. If there are several locks of this
/// kind, a number follows.
impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WalInsert(number) => write!(f, "WALInsert {number}"),
            Self::WalBufMapping => f.write_str("WALBufMapping"),
            Self::WalWrite => f.write_str("WALWrite"),
            Self::ControlFile => f.write_str("ControlFile"),
            Self::XidGen => f.write_str("XidGen"),
            Self::Clog => f.write_str("XactSLRU"),
            Self::BufferContent(buffer) => write!(f, "BufferContent {buffer}"),
            Self::BufferIo(buffer) => write!(f, "BufferIO {buffer}"),
            Self::RelationExtension(relation) => write!(f, "extend {relation}"),
            Self::ReplicationSlotAllocation => f.write_str("ReplicationSlotAllocation"),
            Self::SlotIo(slot) => write!(f, "ReplicationSlotIO {slot}"),
        }
    }
}

/// How a lock is held.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LockMode {
    /// Other processes can hold the lock in shared mode at the same time.
    Shared,
    /// No other process can hold the lock.
    Exclusive,
}

/// A request for a lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Request {
    /// Takes the lock (`LWLockAcquire`).
    Hold(LockMode),
    /// Takes the lock if it is free. Otherwise waits until the lock is free, and then does not take
    /// the lock (`LWLockAcquireOrWait`).
    HoldOrFree,
    /// Waits until the lock is free or its variable has reached a value (`LWLockWaitForVar`).
    Var(Lsn),
}

/// The answer to a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Acquired {
    /// The process has the lock, or the condition is already true.
    Now,
    /// The process has joined the queue of the lock.
    Queued,
}

#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Lock {
    holders: Vec<(Pid, LockMode)>,
    queue: VecDeque<(Pid, Request)>,
    var: Lsn,
}

impl Lock {
    /// The invariants of a lock, and of the queue that its holders keep waiting.
    fn check(&self, id: LockId) {
        let exclusive = |(_, mode): &(Pid, LockMode)| *mode == LockMode::Exclusive;
        let exclusive = self.holders.iter().any(exclusive);
        assert!(!exclusive || self.holders.len() == 1, "{id:?}: {self:?}");
        assert!(exclusive || !self.var.is_valid(), "{id:?}: {self:?}");
        let waiting = !self.queue.is_empty();
        assert!(!waiting || !self.holders.is_empty(), "{id:?}: {self:?}");
    }

    fn held_by(&self, pid: Pid) -> bool {
        self.holders.iter().any(|(holder, _)| *holder == pid)
    }

    fn admits(&self, mode: LockMode) -> bool {
        match mode {
            LockMode::Exclusive => self.holders.is_empty(),
            LockMode::Shared => self.holders.iter().all(|(_, m)| *m == LockMode::Shared),
        }
    }
}

/// The lock that a process waits for. When the wait is over, also whether the process got the lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Waiting {
    id: LockId,
    outcome: Option<bool>,
}

/// All LWLocks and their queues.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Locks {
    locks: BTreeMap<LockId, Lock>,
    waiting: BTreeMap<Pid, Waiting>,
}

impl Locks {
    /// Takes the lock, or joins the queue of the lock.
    pub fn request(&mut self, pid: Pid, id: LockId, request: Request) -> Acquired {
        let lock = self.locks.entry(id).or_default();
        let (now, mode) = match request {
            Request::Hold(mode) => (lock.queue.is_empty() && lock.admits(mode), Some(mode)),
            Request::HoldOrFree => (lock.holders.is_empty(), Some(LockMode::Exclusive)),
            Request::Var(upto) => (lock.holders.is_empty() || lock.var >= upto, None),
        };
        // A process that waits for its own lock would wait forever.
        assert!(mode.is_none() || !lock.held_by(pid), "{pid} holds {id:?}");
        if now {
            lock.holders.extend(mode.map(|mode| (pid, mode)));
            lock.check(id);
            return Acquired::Now;
        }
        lock.queue.push_back((pid, request));
        lock.check(id);
        let outcome = None;
        let other = self.waiting.insert(pid, Waiting { id, outcome });
        assert!(other.is_none(), "{pid} waits for {id:?} and {other:?}");
        Acquired::Queued
    }

    /// Is the wait of this process over?
    #[must_use]
    pub fn is_woken(&self, pid: Pid) -> bool {
        self.waiting.get(&pid).is_some_and(|w| w.outcome.is_some())
    }

    /// The lock for which the process waits. It is returned until the process takes the outcome of
    /// the wait.
    #[must_use]
    pub fn awaited(&self, pid: Pid) -> Option<LockId> {
        self.waiting.get(&pid).map(|w| w.id)
    }

    /// Takes the outcome of a finished wait: `Some(true)` if the process got the lock,
    /// `Some(false)` if the lock only became free.
    pub fn take_outcome(&mut self, pid: Pid) -> Option<bool> {
        let outcome = self.waiting.get(&pid)?.outcome?;
        self.waiting.remove(&pid);
        Some(outcome)
    }

    /// Releases the lock, and wakes processes that wait for it.
    ///
    /// # Panics
    /// If the process does not hold the lock.
    pub fn release(&mut self, pid: Pid, id: LockId) {
        let lock = self.locks.get_mut(&id).expect("a held lock is known");
        let at = lock.holders.iter().position(|(holder, _)| *holder == pid);
        lock.holders
            .remove(at.expect("only the holder releases a lock"));
        if lock.holders.is_empty() {
            lock.var = Lsn::INVALID;
        }
        self.serve(id);
    }

    /// Sets the variable of a held lock to a higher value (`LWLockUpdateVar`).
    pub fn set_var(&mut self, id: LockId, var: Lsn) {
        let lock = self.locks.get_mut(&id).expect("a held lock is known");
        let exclusive = matches!(lock.holders[..], [(_, LockMode::Exclusive)]);
        assert!(exclusive, "the variable of {id:?} is set without the lock");
        assert!(
            lock.var <= var,
            "the variable of {id:?} goes back to {var:?}"
        );
        lock.var = var;
        self.serve(id);
    }

    /// The variable of a lock. 0 if the lock is free.
    #[must_use]
    pub fn var(&self, id: LockId) -> Lsn {
        self.locks.get(&id).map_or(Lsn::INVALID, |lock| lock.var)
    }

    /// Does the process hold the lock?
    #[must_use]
    pub fn holds(&self, pid: Pid, id: LockId) -> bool {
        self.locks.get(&id).is_some_and(|lock| lock.held_by(pid))
    }

    /// The locks that the process holds.
    pub fn held_by(&self, pid: Pid) -> impl Iterator<Item = LockId> {
        let held = self.locks.iter().filter(move |(_, lock)| lock.held_by(pid));
        held.map(|(id, _)| *id)
    }

    /// Does the process hold any lock?
    #[must_use]
    pub fn holds_any(&self, pid: Pid) -> bool {
        let mut locks = self.locks.values();
        locks.any(|lock| lock.held_by(pid))
    }

    /// The processes that hold a lock. Some of them may be dead.
    pub fn holders(&self) -> impl Iterator<Item = Pid> {
        let locks = self.locks.values();
        locks.flat_map(|lock| lock.holders.iter().map(|(pid, _)| *pid))
    }

    /// Does any process hold the lock?
    #[must_use]
    pub fn is_held(&self, id: LockId) -> bool {
        self.locks
            .get(&id)
            .is_some_and(|lock| !lock.holders.is_empty())
    }

    /// `LWLockReleaseAll`: releases all locks of a process and removes the process from all queues.
    /// Called after an error.
    pub fn release_all(&mut self, pid: Pid) {
        self.waiting.remove(&pid);
        let ids: Vec<LockId> = self.locks.keys().copied().collect();
        for id in ids {
            let lock = self.locks.get_mut(&id).expect("just listed");
            lock.queue.retain(|(waiter, _)| *waiter != pid);
            if lock.held_by(pid) {
                self.release(pid, id);
            } else {
                self.serve(id);
            }
        }
    }

    /// The cycle of waiting processes that contains `pid`. Such a cycle is a deadlock. `None` if
    /// there is no cycle.
    #[must_use]
    pub fn cycle(&self, pid: Pid) -> Option<Vec<(Pid, LockId)>> {
        let mut path = Vec::new();
        self.walk(pid, pid, &mut path).then_some(path)
    }

    fn walk(&self, from: Pid, goal: Pid, path: &mut Vec<(Pid, LockId)>) -> bool {
        let Some(Waiting { id, outcome: None }) = self.waiting.get(&from).copied() else {
            return false;
        };
        if path.iter().any(|(seen, _)| *seen == from) {
            return false;
        }
        path.push((from, id));
        let holders = self.locks.get(&id).map_or(&[][..], |lock| &lock.holders);
        if holders
            .iter()
            .any(|(holder, _)| *holder == goal || self.walk(*holder, goal, path))
        {
            return true;
        }
        path.pop();
        false
    }

    fn serve(&mut self, id: LockId) {
        let Some(lock) = self.locks.get_mut(&id) else {
            return;
        };
        let mut barred = false;
        let mut kept = VecDeque::new();
        while let Some((pid, request)) = lock.queue.pop_front() {
            let outcome = match request {
                Request::Hold(mode) if !barred && lock.admits(mode) => {
                    lock.holders.push((pid, mode));
                    Some(true)
                }
                Request::Hold(_) => {
                    barred = true;
                    None
                }
                // These two requests only wait, and do not take the lock. The process is woken even
                // if another process has taken the lock in the meantime. The process then checks
                // its condition again.
                Request::HoldOrFree if !barred => Some(false),
                Request::Var(upto) if lock.holders.is_empty() || lock.var >= upto => Some(false),
                Request::HoldOrFree | Request::Var(_) => None,
            };
            if outcome.is_some() {
                let asked = self.waiting.insert(pid, Waiting { id, outcome });
                let outcome = None;
                assert_eq!(asked, Some(Waiting { id, outcome }), "{pid} is queued");
            } else {
                kept.push_back((pid, request));
            }
        }
        lock.queue = kept;
        lock.check(id);
    }
}

/// A condition variable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CondVarId {
    /// `walRcvStoppedCV`
    WalRcvStopped,
    /// `start_cv` and `done_cv` of the checkpointer.
    CheckpointDone,
    /// `active_cv` of a slot: broadcast when the owner of the slot has changed.
    SlotActive(usize),
}

/// Condition variables: the processes that sleep on each, and the processes that were woken.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct CondVars {
    sleeping: BTreeMap<Pid, (CondVarId, bool)>,
}

impl CondVars {
    /// `ConditionVariablePrepareToSleep`
    pub fn enter(&mut self, pid: Pid, id: CondVarId) {
        self.sleeping.insert(pid, (id, false));
    }

    /// `ConditionVariableCancelSleep`
    pub fn leave(&mut self, pid: Pid) {
        self.sleeping.remove(&pid);
    }

    /// Was the process woken since it began to wait?
    #[must_use]
    pub fn is_woken(&self, pid: Pid) -> bool {
        self.sleeping.get(&pid).is_some_and(|(_, woken)| *woken)
    }

    /// `ConditionVariableBroadcast`
    pub fn broadcast(&mut self, id: CondVarId) {
        for (waited, woken) in self.sleeping.values_mut() {
            *woken |= *waited == id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Pid = Pid {
        incarnation: 1,
        n: 2,
    };
    const B: Pid = Pid {
        incarnation: 1,
        n: 3,
    };
    const C: Pid = Pid {
        incarnation: 1,
        n: 4,
    };
    const HOLD: Request = Request::Hold(LockMode::Exclusive);

    #[test]
    fn a_lock_is_granted_in_order() {
        let mut locks = Locks::default();
        assert_eq!(locks.request(A, LockId::WalWrite, HOLD), Acquired::Now);
        assert_eq!(locks.request(B, LockId::WalWrite, HOLD), Acquired::Queued);
        assert_eq!(locks.request(C, LockId::WalWrite, HOLD), Acquired::Queued);
        locks.release(A, LockId::WalWrite);
        assert_eq!(locks.take_outcome(B), Some(true));
        assert!(!locks.is_woken(C));
        locks.release(B, LockId::WalWrite);
        assert_eq!(locks.take_outcome(C), Some(true));
    }

    #[test]
    fn followers_are_woken_without_the_lock() {
        let mut locks = Locks::default();
        assert_eq!(
            locks.request(A, LockId::WalWrite, Request::HoldOrFree),
            Acquired::Now
        );
        assert_eq!(
            locks.request(B, LockId::WalWrite, Request::HoldOrFree),
            Acquired::Queued
        );
        assert_eq!(
            locks.request(C, LockId::WalWrite, Request::HoldOrFree),
            Acquired::Queued
        );
        locks.release(A, LockId::WalWrite);
        assert_eq!(locks.take_outcome(B), Some(false));
        assert_eq!(locks.take_outcome(C), Some(false));
        assert!(!locks.is_held(LockId::WalWrite));
    }

    #[test]
    fn a_variable_wakes_those_that_waited_for_less() {
        let mut locks = Locks::default();
        let id = LockId::WalInsert(0);
        locks.request(A, id, HOLD);
        assert_eq!(
            locks.request(B, id, Request::Var(Lsn(100))),
            Acquired::Queued
        );
        locks.set_var(id, Lsn(50));
        assert!(!locks.is_woken(B));
        locks.set_var(id, Lsn(100));
        assert_eq!(locks.take_outcome(B), Some(false));
    }

    #[test]
    fn readers_share_but_do_not_pass_a_waiting_writer() {
        let mut locks = Locks::default();
        let shared = Request::Hold(LockMode::Shared);
        assert_eq!(locks.request(A, LockId::Clog, shared), Acquired::Now);
        assert_eq!(locks.request(B, LockId::Clog, HOLD), Acquired::Queued);
        assert_eq!(locks.request(C, LockId::Clog, shared), Acquired::Queued);
        locks.release(A, LockId::Clog);
        assert!(locks.is_woken(B) && !locks.is_woken(C));
    }

    #[test]
    fn a_cycle_of_waits_is_shown_as_a_graph() {
        let mut locks = Locks::default();
        locks.request(A, LockId::WalWrite, HOLD);
        locks.request(B, LockId::WalBufMapping, HOLD);
        locks.request(A, LockId::WalBufMapping, HOLD);
        assert_eq!(locks.cycle(A), None);
        locks.request(B, LockId::WalWrite, HOLD);
        let graph = [(B, LockId::WalWrite), (A, LockId::WalBufMapping)];
        assert_eq!(locks.cycle(B).as_deref(), Some(&graph[..]));
    }

    #[test]
    fn an_error_exit_releases_everything() {
        let mut locks = Locks::default();
        locks.request(A, LockId::WalWrite, HOLD);
        locks.request(B, LockId::WalWrite, HOLD);
        locks.release_all(A);
        assert_eq!(locks.take_outcome(B), Some(true));
    }
}
