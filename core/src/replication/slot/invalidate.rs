//! Giving slots up whose WAL is about to go. Mirrors InvalidateObsoleteReplicationSlots and
//! InvalidatePossiblyObsoleteSlot of slot.c.
//!
//! WAL may be removed only when this is done: every slot that still counts on it says then, on
//! disk, that it does not.

use super::acquire::release;
use super::required_lsn::ReplicationSlotsComputeRequiredLsn;
use super::save::SaveSlotToPath;
use crate::base::{Lsn, Mark, PgVersion, Pid, SegmentNo};
use crate::call::{LogEvent, Message, Place, Poll, Signal, SlotExcess, SlotMessage, Yield};
use crate::shmem::{CondVarId, Invalidation, Slot};
use crate::sys::Cx;
use crate::{ready, ready_ok};

/// `InvalidateObsoleteReplicationSlots`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct InvalidateObsoleteReplicationSlots {
    oldest: SegmentNo,
    /// The slot that is looked at.
    at: usize,
    /// Whom we have told to end for its sake.
    last_signaled: Option<Pid>,
    /// Others could act since we began to look at it, so that the scan starts over after it.
    released_lock: bool,
    invalidated: bool,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Look,
    /// Until the slot has another owner, or none.
    Sleep,
    Save {
        save: SaveSlotToPath,
        excess: SlotExcess,
    },
    Compute(ReplicationSlotsComputeRequiredLsn),
}

impl InvalidateObsoleteReplicationSlots {
    /// All slots that need WAL before this segment.
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

    /// True if any slot was invalidated: then what is to be kept must be computed anew. It waits
    /// for the owner of a slot without a limit.
    ///
    /// # Errors
    /// A slot whose new state could not be saved. It stays ours then, and counts no more.
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
                    let Some(excess) = self.excess(cx, slot) else {
                        cx.leave_condvar();
                        self.go_on();
                        continue;
                    };
                    self.released_lock = true;
                    match slot.active_pid {
                        None => self.take(cx, excess),
                        Some(owner) => return self.terminate(cx, owner, excess),
                    }
                }
                Phase::Sleep => {
                    if !cx.shmem.condvars.is_woken(cx.me) {
                        return Poll::Yield(sleep(cx));
                    }
                    // The decision is taken afresh: the slot may have moved on meanwhile, and its
                    // WAL is still there.
                    self.phase = Phase::Look;
                }
                Phase::Save { save, excess } => {
                    ready_ok!(save.poll(cx));
                    let excess = *excess;
                    let name = cx.shmem.slots.slots[self.at].name.clone();
                    release(cx);
                    let version = cx.shmem.settings.pg_version;
                    cx.log(LogEvent::log(Message::Slot(SlotMessage::Invalidating {
                        name,
                        excess,
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

    /// Does the slot need WAL that is to go? In 18 one that is invalid already is left alone.
    fn excess(&self, cx: &Cx<'_>, slot: &Slot) -> Option<SlotExcess> {
        let settings = &cx.shmem.settings;
        let oldest = settings.geometry.segment_start(self.oldest);
        let restart_lsn = slot.restart_lsn;
        let spared = settings.pg_version >= PgVersion::V16 && slot.invalidated.is_some();
        let obsolete = restart_lsn.is_valid() && restart_lsn < oldest;
        (slot.in_use && !spared && obsolete).then(|| SlotExcess {
            restart_lsn,
            bytes: oldest - restart_lsn,
        })
    }

    /// No process has the slot: it is ours and invalid in one act, so that no process can take it
    /// in between.
    fn take(&mut self, cx: &mut Cx<'_>, excess: SlotExcess) {
        cx.leave_condvar();
        cx.mark(Mark::SlotInvalidated);
        cx.sys.my_slot = Some(self.at);
        let slot = &mut cx.shmem.slots.slots[self.at];
        slot.active_pid = Some(cx.me);
        slot.invalidated = Some(Invalidation::WalRemoved(excess.restart_lsn));
        slot.restart_lsn = Lsn::INVALID;
        slot.last_saved_restart_lsn = Lsn::INVALID;
        slot.mark_dirty();
        self.invalidated = true;
        self.phase = Phase::Save {
            save: SaveSlotToPath::of(cx, self.at),
            excess,
        };
    }

    /// A process has it: it is told to end, once.
    fn terminate(
        &mut self,
        cx: &mut Cx<'_>,
        owner: Pid,
        excess: SlotExcess,
    ) -> Poll<Result<bool, LogEvent>> {
        // Before it is told, so that his answer is not missed.
        cx.enter_condvar(CondVarId::SlotActive(self.at));
        if self.last_signaled != Some(owner) {
            self.last_signaled = Some(owner);
            let version = cx.shmem.settings.pg_version;
            let name = cx.shmem.slots.slots[self.at].name.clone();
            cx.log(LogEvent::log(Message::Slot(
                SlotMessage::TerminatingOwner {
                    pid: owner.n,
                    name,
                    excess,
                    version,
                },
            )));
            cx.kill(owner, Signal::Term);
        }
        self.phase = Phase::Sleep;
        Poll::Yield(sleep(cx))
    }

    /// Done with this slot.
    fn go_on(&mut self) {
        self.at = if self.released_lock { 0 } else { self.at + 1 };
        self.released_lock = false;
        self.last_signaled = None;
        self.phase = Phase::Look;
    }
}

fn sleep(cx: &Cx<'_>) -> Yield {
    cx.sleep_on_condvar(None, Place::InvalidatePossiblyObsoleteSlot)
}
