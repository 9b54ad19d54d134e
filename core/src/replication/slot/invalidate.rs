//! Invalidates slots whose WAL is about to be removed, and since 18 idle slots. Mirrors
//! InvalidateObsoleteReplicationSlots and InvalidatePossiblyObsoleteSlot of slot.c.
//!
//! If a slot requires WAL that is about to be removed, the slot's invalidation is first saved to
//! disk.

use super::acquire::release;
use super::required_lsn::ReplicationSlotsComputeRequiredLsn;
use super::save::SaveSlotToPath;
use crate::base::{Lsn, Mark, PgVersion, Pid, SegmentNo};
use crate::call::{
    LogEvent, Message, Place, Poll, Signal, SlotExcess, SlotMessage, SlotObsolete, Yield,
};
use crate::shmem::{CondVarId, Invalidation, Slot};
use crate::sys::Cx;
use crate::{ready, ready_ok};

/// `InvalidateObsoleteReplicationSlots`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct InvalidateObsoleteReplicationSlots {
    oldest: SegmentNo,
    /// Index of the current slot.
    at: usize,
    /// The process that was last sent SIGTERM because it owned the current slot.
    last_signaled: Option<Pid>,
    /// Whether other processes could run since the current slot was first examined. If so, the scan
    /// starts again from the first slot afterwards.
    released_lock: bool,
    invalidated: bool,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Look,
    /// Waits until the owner of the slot changes.
    Sleep,
    Save {
        save: SaveSlotToPath,
        cause: SlotObsolete,
    },
    Compute(ReplicationSlotsComputeRequiredLsn),
}

impl InvalidateObsoleteReplicationSlots {
    /// Invalidates all slots that require WAL before the segment `oldest`, and since 18 all slots
    /// that have been inactive for longer than `idle_replication_slot_timeout`.
    #[must_use]
    pub const fn new(oldest: SegmentNo) -> Self {
        Self {
            oldest,
            at: 0,
            last_signaled: None,
            released_lock: false,
            invalidated: false,
            phase: Phase::Look,
        }
    }

    /// Returns whether any slot was invalidated. If so, the caller must recompute the oldest
    /// segment to keep. If another process has acquired a slot that must be invalidated, waits
    /// without a timeout until that process releases the slot.
    ///
    /// # Errors
    /// A slot could not be saved. This slot stays acquired and invalidated.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<bool, LogEvent>> {
        loop {
            match &mut self.phase {
                Phase::Look => {
                    let Some(slot) = cx.shmem.slots.slots.get(self.at) else {
                        if !self.invalidated {
                            return Poll::Ready(Ok(false));
                        }
                        let compute = ReplicationSlotsComputeRequiredLsn::new();
                        self.phase = Phase::Compute(compute);
                        continue;
                    };
                    let Some(cause) = self.cause(cx, slot) else {
                        cx.leave_condvar();
                        self.go_on();
                        continue;
                    };
                    self.released_lock = true;
                    match slot.active_pid {
                        None => self.take(cx, cause),
                        Some(owner) => return self.terminate(cx, owner, cause),
                    }
                }
                Phase::Sleep => {
                    if !cx.shmem.condvars.is_woken(cx.me) {
                        return Poll::Yield(sleep(cx));
                    }
                    // The slot is examined again. It may have advanced to WAL that will not be
                    // removed.
                    self.phase = Phase::Look;
                }
                Phase::Save { save, cause } => {
                    ready_ok!(save.poll(cx));
                    let cause = *cause;
                    assert_eq!(cx.sys.my_slot, Some(self.at));
                    let slot = &cx.shmem.slots.slots[self.at];
                    assert!(slot.invalidated.is_some(), "{}", slot.name);
                    // `InvalidatePossiblyObsoleteSlot`: its owner alone could move the slot.
                    let removed = matches!(slot.invalidated, Some(Invalidation::WalRemoved(_)));
                    assert!(!removed || !slot.restart_lsn.is_valid(), "{}", slot.name);
                    let name = cx.shmem.slots.slots[self.at].name.clone();
                    release(cx);
                    let version = cx.shmem.settings.pg_version;
                    cx.log(LogEvent::log(Message::Slot(SlotMessage::Invalidating {
                        name,
                        cause,
                        version,
                    })));
                    self.go_on();
                    return Poll::Yield(Yield::Again(Place::InvalidateObsoleteReplicationSlots));
                }
                Phase::Compute(compute) => {
                    ready!(compute.poll(cx));
                    return Poll::Ready(Ok(true));
                }
            }
        }
    }

    /// `DetermineSlotInvalidationCause`. Since 16 a slot that is already invalidated is skipped.
    fn cause(&self, cx: &Cx<'_>, slot: &Slot) -> Option<SlotObsolete> {
        let spared = cx.shmem.settings.pg_version >= PgVersion::V16 && slot.invalidated.is_some();
        if !slot.in_use || spared || !slot.restart_lsn.is_valid() {
            return None;
        }
        self.excess(cx, slot)
            .map(SlotObsolete::WalRemoved)
            .or_else(|| idle_timeout(cx, slot))
    }

    /// Does the slot require WAL that is about to be removed?
    fn excess(&self, cx: &Cx<'_>, slot: &Slot) -> Option<SlotExcess> {
        let oldest = cx.shmem.settings.geometry.segment_start(self.oldest);
        let restart_lsn = slot.restart_lsn;
        (restart_lsn < oldest).then(|| SlotExcess {
            restart_lsn,
            bytes: oldest - restart_lsn,
        })
    }

    /// Acquires and invalidates a slot without an owner. Both happen in one step, so no other
    /// process can acquire the slot before it is invalidated.
    fn take(&mut self, cx: &mut Cx<'_>, cause: SlotObsolete) {
        cx.leave_condvar();
        cx.mark(Mark::SlotInvalidated);
        cx.sys.my_slot = Some(self.at);
        let slot = &mut cx.shmem.slots.slots[self.at];
        assert!(slot.in_use && slot.active_pid.is_none(), "{slot:?}");
        assert!(slot.restart_lsn.is_valid(), "{} requires no WAL", slot.name);
        slot.active_pid = Some(cx.me);
        match cause {
            SlotObsolete::WalRemoved(excess) => {
                slot.invalidated = Some(Invalidation::WalRemoved(excess.restart_lsn));
                slot.restart_lsn = Lsn::INVALID;
                slot.last_saved_restart_lsn = Lsn::INVALID;
            }
            SlotObsolete::IdleTimeout { .. } => slot.invalidated = Some(Invalidation::IdleTimeout),
        }
        slot.mark_dirty();
        self.invalidated = true;
        self.phase = Phase::Save {
            save: SaveSlotToPath::of(cx, self.at),
            cause,
        };
    }

    /// Sends SIGTERM to the owner of the slot, once.
    fn terminate(
        &mut self,
        cx: &mut Cx<'_>,
        owner: Pid,
        cause: SlotObsolete,
    ) -> Poll<Result<bool, LogEvent>> {
        // The process enters the queue before it sends the signal. It therefore cannot miss the
        // owner's broadcast.
        assert_ne!(owner, cx.me, "the checkpointer signals itself");
        cx.enter_condvar(CondVarId::SlotActive(self.at));
        if self.last_signaled != Some(owner) {
            self.last_signaled = Some(owner);
            let version = cx.shmem.settings.pg_version;
            let name = cx.shmem.slots.slots[self.at].name.clone();
            cx.log(LogEvent::log(Message::Slot(
                SlotMessage::TerminatingOwner {
                    pid: owner.n,
                    name,
                    cause,
                    version,
                },
            )));
            cx.kill(owner, Signal::Term);
        }
        self.phase = Phase::Sleep;
        Poll::Yield(sleep(cx))
    }

    /// Moves on to the next slot. If other processes could run, starts again from the first slot.
    fn go_on(&mut self) {
        self.at = if self.released_lock { 0 } else { self.at + 1 };
        self.released_lock = false;
        self.last_signaled = None;
        self.phase = Phase::Look;
    }
}

/// `CanInvalidateIdleSlot` and the comparison of its caller (since 18): has the slot been inactive
/// for at least the timeout, in whole seconds?
fn idle_timeout(cx: &Cx<'_>, slot: &Slot) -> Option<SlotObsolete> {
    let settings = &cx.shmem.settings;
    let timeout_s = i64::from(settings.idle_replication_slot_timeout_s);
    if settings.pg_version < PgVersion::V18 || timeout_s == 0 {
        return None;
    }
    let idle_s = (cx.now.wall - slot.inactive_since?) / 1_000_000;
    (idle_s >= timeout_s).then_some(SlotObsolete::IdleTimeout {
        restart_lsn: slot.restart_lsn,
        idle_s,
        timeout_s,
    })
}

fn sleep(cx: &Cx<'_>) -> Yield {
    cx.sleep_on_condvar(None, Place::InvalidatePossiblyObsoleteSlot)
}
