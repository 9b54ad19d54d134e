//! Owning a slot. Mirrors ReplicationSlotAcquire and ReplicationSlotRelease of slot.c.

use super::mine;
use crate::base::{Bug, PgVersion, Pid};
use crate::call::{LogEvent, Message, Place, Poll, Signal, SlotMessage, SqlState, Wait, Yield};
use crate::shmem::CondVarId;
use crate::sys::Cx;
use alloc::string::String;

/// `ReplicationSlotAcquire` with `nowait`, which never ends a step: a function and no routine, so
/// that no yield of it can be lost.
///
/// # Errors
/// There is no such slot, it is in use, or invalidated. In the last case it is ours, as after every
/// success, until the error is cleaned up.
///
/// # Panics
/// If the process has a slot already.
pub fn acquire_nowait(cx: &mut Cx<'_>, name: &str) -> Result<(), LogEvent> {
    let index = find(cx, name)?;
    own(cx, index).map_err(|owner| in_use(name, owner))?;
    owned(cx, index, Judged::Now)
}

/// `ReplicationSlotAcquire` where it may end a step.
#[must_use = "a routine does nothing unless it is polled"]
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReplicationSlotAcquire {
    name: String,
    /// Fail rather than wait for the present owner.
    nowait: bool,
    judged: Judged,
}

/// Since 18: whether an invalidated slot is an error.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Judged {
    /// It is, and is looked at once the slot is ours.
    Now,
    /// The planted bug alone: it was looked at before.
    Before,
    /// It is none.
    Never,
}

impl ReplicationSlotAcquire {
    /// By a walsender that is to stream. Fails at once if another process has the slot.
    pub const fn to_stream(name: String) -> Self {
        Self {
            name,
            nowait: true,
            judged: Judged::Now,
        }
    }

    /// What a drop needs: it minds no invalidation, and may wait.
    pub const fn to_drop(name: String, nowait: bool) -> Self {
        Self {
            name,
            nowait,
            judged: Judged::Never,
        }
    }

    /// # Errors
    /// As [`acquire_nowait`]. SIGTERM while waiting is a FATAL.
    ///
    /// # Panics
    /// If the process has a slot already.
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
    assert!(cx.sys.my_slot.is_none(), "one slot at a time");
    cx.shmem.slots.find(name).ok_or_else(|| {
        cx.leave_condvar();
        LogEvent::slot(
            SqlState::UNDEFINED_OBJECT,
            SlotMessage::Missing(name.into()),
        )
    })
}

/// Takes the slot, unless another process has it.
fn own(cx: &mut Cx<'_>, index: usize) -> Result<(), Pid> {
    let owner = *cx.shmem.slots.slots[index].active_pid.get_or_insert(cx.me);
    if owner == cx.me { Ok(()) } else { Err(owner) }
}

fn in_use(name: &str, owner: Pid) -> LogEvent {
    let (name, pid) = (name.into(), owner.n);
    LogEvent::slot(SqlState::OBJECT_IN_USE, SlotMessage::Active { name, pid })
}

/// Since 18 an invalidated slot is refused.
fn judges(cx: &Cx<'_>) -> bool {
    cx.shmem.settings.pg_version >= PgVersion::V18
}

/// What follows once the slot is ours. Invalidation is looked at only now: else the checkpointer
/// could invalidate it right after the look.
fn owned(cx: &mut Cx<'_>, index: usize, judged: Judged) -> Result<(), LogEvent> {
    cx.leave_condvar();
    cx.sys.my_slot = Some(index);
    let slot = &cx.shmem.slots.slots[index];
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
    Ok(())
}

/// `ConditionVariableSleep`, which SIGTERM interrupts. Everything is looked at afresh afterwards.
fn sleep(cx: &mut Cx<'_>, index: usize) -> Poll<Result<(), LogEvent>> {
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

/// `ReplicationSlotRelease`, if the process has a slot. A temporary one stays with its session.
/// What the slot holds stays held.
pub fn release(cx: &mut Cx<'_>) {
    if cx.sys.my_slot.is_none() {
        return;
    }
    let index = mine(cx);
    cx.sys.my_slot = None;
    let slot = &mut cx.shmem.slots.slots[index];
    assert_eq!(slot.active_pid, Some(cx.me), "only its owner releases it");
    if !slot.temporary {
        slot.active_pid = None;
        cx.shmem.condvars.broadcast(CondVarId::SlotActive(index));
    }
}
