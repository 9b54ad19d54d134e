//! Acquires and releases a slot. Mirrors ReplicationSlotAcquire and ReplicationSlotRelease of
//! slot.c.

use super::mine;
use crate::base::{Bug, PgVersion, Pid};
use crate::call::{LogEvent, Message, Place, Poll, Signal, SlotMessage, SqlState, Wait, Yield};
use crate::shmem::CondVarId;
use crate::sys::Cx;
use alloc::string::String;

/// `ReplicationSlotAcquire` with `nowait`. A plain function, because it never waits.
///
/// # Errors
/// There is no such slot, another process has acquired it, or it is invalidated. An invalidated
/// slot stays acquired until the caller cleans up after the error.
///
/// # Panics
/// If the process has already acquired a slot.
pub fn acquire_nowait(cx: &mut Cx<'_>, name: &str) -> Result<(), LogEvent> {
    let index = find(cx, name)?;
    own(cx, index).map_err(|owner| in_use(name, owner))?;
    owned(cx, index, Judged::Now)
}

/// `ReplicationSlotAcquire` for callers that can wait.
#[must_use = "a routine does nothing unless it is polled"]
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReplicationSlotAcquire {
    name: String,
    /// Whether to fail instead of waiting for the owner.
    nowait: bool,
    judged: Judged,
}

/// Since 18: when the slot is checked for invalidation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Judged {
    /// The slot is checked for invalidation after it is acquired.
    Now,
    /// With the planted bug only: the slot is checked for invalidation before it is acquired.
    Before,
    /// The slot is not checked for invalidation. An invalidated slot is accepted.
    Never,
}

impl ReplicationSlotAcquire {
    /// Acquires the slot for streaming. Fails at once if another process has acquired the slot.
    pub const fn to_stream(name: String) -> Self {
        Self {
            name,
            nowait: true,
            judged: Judged::Now,
        }
    }

    /// Acquires the slot in order to drop it. Accepts an invalidated slot. Waits for the owner
    /// unless `nowait` is set.
    pub const fn to_drop(name: String, nowait: bool) -> Self {
        Self {
            name,
            nowait,
            judged: Judged::Never,
        }
    }

    /// # Errors
    /// The errors of [`acquire_nowait`]. SIGTERM during the wait is a FATAL.
    ///
    /// # Panics
    /// If the process has already acquired a slot.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let index = match find(cx, &self.name) {
            Ok(index) => index,
            Err(event) => return Poll::Ready(Err(event)),
        };
        let valid = cx.shmem.slots.slots[index].invalidated.is_none();
        let judges = self.judged == Judged::Now && judges(cx);
        if judges && valid && cx.has_bug(Bug::InvalidSlotStreamed) {
            self.judged = Judged::Before;
            return Poll::Yield(Yield::Again(Place::ReplicationSlotAcquire));
        }
        match own(cx, index) {
            Err(owner) if self.nowait => Poll::Ready(Err(in_use(&self.name, owner))),
            Err(_) => sleep(cx, index),
            Ok(()) => Poll::Ready(owned(cx, index, self.judged)),
        }
    }
}

fn find(cx: &mut Cx<'_>, name: &str) -> Result<usize, LogEvent> {
    assert!(cx.sys.my_slot.is_none(), "a process has at most one slot");
    cx.shmem.slots.find(name).ok_or_else(|| {
        cx.leave_condvar();
        LogEvent::slot(
            SqlState::UNDEFINED_OBJECT,
            SlotMessage::Missing(name.into()),
        )
    })
}

/// Acquires the slot. Fails if another process has acquired it.
fn own(cx: &mut Cx<'_>, index: usize) -> Result<(), Pid> {
    let owner = *cx.shmem.slots.slots[index].active_pid.get_or_insert(cx.me);
    if owner == cx.me { Ok(()) } else { Err(owner) }
}

fn in_use(name: &str, owner: Pid) -> LogEvent {
    let (name, pid) = (name.into(), owner.n);
    LogEvent::slot(SqlState::OBJECT_IN_USE, SlotMessage::Active { name, pid })
}

/// Does this version refuse to acquire invalidated slots? PostgreSQL does since 18.
fn judges(cx: &Cx<'_>) -> bool {
    cx.shmem.settings.pg_version >= PgVersion::V18
}

/// Checks the slot after it was acquired. An earlier check would not be reliable: the checkpointer
/// could invalidate the slot between the check and the acquisition.
fn owned(cx: &mut Cx<'_>, index: usize, judged: Judged) -> Result<(), LogEvent> {
    cx.leave_condvar();
    assert_eq!(cx.sys.my_slot, None, "a process has at most one slot");
    cx.sys.my_slot = Some(index);
    let slot = &cx.shmem.slots.slots[index];
    assert!(slot.in_use, "only an existing slot is acquired");
    assert_eq!(slot.active_pid, Some(cx.me));
    if judged != Judged::Never
        && judges(cx)
        && let Some(invalidation) = slot.invalidated
    {
        let (name, cause) = (slot.name.clone(), invalidation.name());
        if judged == Judged::Now || !cx.planted(Bug::InvalidSlotStreamed) {
            let message = SlotMessage::Invalidated { name, cause };
            return Err(LogEvent::slot(SqlState::NOT_IN_STATE, message));
        }
    }
    cx.shmem.condvars.broadcast(CondVarId::SlotActive(index));
    let version = cx.shmem.settings.pg_version;
    cx.shmem.slots.slots[index].set_inactive_since(version, None);
    Ok(())
}

/// `ConditionVariableSleep`: SIGTERM ends the sleep. After the sleep the caller checks everything
/// again.
fn sleep(cx: &mut Cx<'_>, index: usize) -> Poll<Result<(), LogEvent>> {
    let owner = cx.shmem.slots.slots[index].active_pid;
    assert!(
        owner.is_some_and(|pid| pid != cx.me),
        "it waits for {owner:?}"
    );
    cx.enter_condvar(CondVarId::SlotActive(index));
    cx.reset_latch();
    if cx.take_signal(Signal::Term) {
        cx.leave_condvar();
        let event = LogEvent::fatal(SqlState::ADMIN_SHUTDOWN, Message::AdminShutdown);
        return Poll::Ready(Err(event));
    }
    Poll::Yield(Yield::Wait(Wait {
        latch: true,
        condvar: true,
        ..Wait::at(Place::ReplicationSlotAcquire)
    }))
}

/// `ReplicationSlotRelease`: releases the slot that the process has acquired, if any. The slot
/// still holds back WAL. A temporary slot still belongs to its session.
pub fn release(cx: &mut Cx<'_>) {
    if cx.sys.my_slot.is_none() {
        return;
    }
    let index = mine(cx);
    cx.sys.my_slot = None;
    let slot = &mut cx.shmem.slots.slots[index];
    assert_eq!(
        slot.active_pid,
        Some(cx.me),
        "only its owner releases a slot"
    );
    assert!(slot.in_use, "an acquired slot is not dropped");
    let now = Some(cx.now.wall);
    slot.set_inactive_since(cx.shmem.settings.pg_version, now);
    if !slot.temporary {
        slot.active_pid = None;
        cx.shmem.condvars.broadcast(CondVarId::SlotActive(index));
    }
}
