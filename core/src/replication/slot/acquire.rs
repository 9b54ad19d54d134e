//! Owning a slot. Mirrors ReplicationSlotAcquire and ReplicationSlotRelease of slot.c.

use super::mine;
use crate::base::{Bug, PgVersion};
use crate::call::{LogEvent, Message, Place, Poll, Signal, SlotMessage, SqlState, Wait, Yield};
use crate::shmem::CondVarId;
use crate::sys::Cx;
use alloc::string::String;

/// `ReplicationSlotAcquire`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReplicationSlotAcquire {
    name: String,
    /// Fail rather than wait for the present owner.
    nowait: bool,
    /// Since 18: fail if the slot was invalidated.
    error_if_invalid: bool,
    /// The planted bug alone: the look at that comes first, and is still to come.
    look_first: bool,
}

impl ReplicationSlotAcquire {
    /// Fails at once if somebody else has the slot.
    #[must_use]
    pub const fn nowait(name: String) -> Self {
        Self {
            name,
            nowait: true,
            error_if_invalid: true,
            look_first: false,
        }
    }

    /// The same, by a walsender that is to stream.
    #[must_use]
    pub fn to_stream(name: String) -> Self {
        Self {
            look_first: true,
            ..Self::nowait(name)
        }
    }

    /// What a drop needs: it minds no invalidation, and may wait.
    #[must_use]
    pub const fn to_drop(name: String, nowait: bool) -> Self {
        Self {
            name,
            nowait,
            error_if_invalid: false,
            look_first: false,
        }
    }

    /// # Errors
    /// There is no such slot, it is in use, or invalidated. In the last case it is ours, as after every success, until
    /// the error is cleaned up. SIGTERM while waiting is a FATAL.
    ///
    /// # Panics
    /// If the process has a slot already.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        assert!(cx.sys.my_slot.is_none(), "one slot at a time");
        let Some(index) = cx.shmem.slots.find(&self.name) else {
            cx.leave_condvar();
            let message = SlotMessage::Missing(self.name.clone());
            return Poll::Ready(Err(LogEvent::slot(SqlState::UNDEFINED_OBJECT, message)));
        };
        let invalid = cx.shmem.slots.slots[index].invalidated.is_some();
        let judges = cx.shmem.settings.pg_version == PgVersion::V18 && self.error_if_invalid;
        if judges && self.look_first && !invalid && cx.has_bug(Bug::InvalidSlotStreamed) {
            self.look_first = false;
            return Poll::Yield(Yield::Again(Place::ReplicationSlotAcquire));
        }
        let slot = &mut cx.shmem.slots.slots[index];
        let owner = *slot.active_pid.get_or_insert(cx.me);
        if owner != cx.me {
            if !self.nowait {
                return sleep(cx, index);
            }
            let name = self.name.clone();
            let message = SlotMessage::Active { name, pid: owner.n };
            return Poll::Ready(Err(LogEvent::slot(SqlState::OBJECT_IN_USE, message)));
        }
        cx.leave_condvar();
        cx.sys.my_slot = Some(index);
        // Looked at only now that the slot is ours: else the checkpointer could invalidate it right behind the look.
        if judges
            && let Some(invalidation) = cx.shmem.slots.slots[index].invalidated
            && (self.look_first || !cx.planted(Bug::InvalidSlotStreamed))
        {
            let name = self.name.clone();
            let cause = invalidation.name();
            let message = SlotMessage::Invalidated { name, cause };
            return Poll::Ready(Err(LogEvent::slot(SqlState::NOT_IN_STATE, message)));
        }
        cx.shmem.condvars.broadcast(CondVarId::SlotActive(index));
        Poll::Ready(Ok(()))
    }
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

/// `ReplicationSlotRelease`, if the process has a slot. A temporary one stays with its session. What the slot holds
/// stays held.
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
