//! Advances a slot. Mirrors PhysicalConfirmReceivedLocation of walsender.c and
//! pg_replication_slot_advance of slotfuncs.c.
//!
//! Both functions change the slot only in memory. The next checkpoint saves the slot. A crash
//! before that checkpoint undoes the advance.

use super::acquire::{acquire_nowait, release};
use super::my_slot;
use super::required_lsn::ReplicationSlotsComputeRequiredLsn;
use crate::base::{Bug, Lsn, PgVersion};
use crate::call::{LogEvent, Message, Poll, SlotMessage, SqlState};
use crate::ready;
use crate::sys::Cx;
use alloc::string::String;

/// The first half of `PhysicalConfirmReceivedLocation`: sets restart_lsn to the standby's flush
/// position, even if restart_lsn moves back. Returns whether restart_lsn has changed. If so, the
/// caller must compute the required LSN again.
#[must_use]
pub fn confirm_received_location(cx: &mut Cx<'_>, flush: Lsn) -> bool {
    assert!(flush.is_valid(), "the flush position is valid");
    let mut flush = flush;
    if my_slot(cx).restart_lsn == flush || cx.planted(Bug::SlotNeverMoved) {
        return false;
    }
    // After a crash the standby may need all WAL from its flush position on. The planted bug moves
    // the slot beyond that position.
    if cx.planted(Bug::SlotMovedPastFlush) {
        let segment = cx.shmem.settings.geometry.segment;
        flush = Lsn(flush.0.saturating_add(segment.into()));
    }
    let slot = my_slot(cx);
    assert_ne!(slot.restart_lsn, flush, "{} has not moved", slot.name);
    slot.restart_lsn = flush;
    slot.mark_dirty();
    true
}

/// `pg_replication_slot_advance`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PgReplicationSlotAdvance {
    name: String,
    upto: Lsn,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Start,
    Compute {
        end: Lsn,
        compute: ReplicationSlotsComputeRequiredLsn,
    },
}

impl PgReplicationSlotAdvance {
    /// Advances the slot to `upto`, but not beyond the flush position. On a standby the limit is
    /// the replay position.
    #[must_use]
    pub const fn new(name: String, upto: Lsn) -> Self {
        Self {
            name,
            upto,
            phase: Phase::Start,
        }
    }

    /// Returns the new restart_lsn.
    ///
    /// # Errors
    /// There is no such slot, another process has acquired it, it has no restart_lsn, or its
    /// restart_lsn is already beyond `upto`.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Lsn, LogEvent>> {
        if self.phase == Phase::Start {
            let end = match self.advance(cx) {
                Ok(end) => end,
                Err(event) => return Poll::Ready(Err(event)),
            };
            let compute = ReplicationSlotsComputeRequiredLsn::new();
            self.phase = Phase::Compute { end, compute };
        }
        let Phase::Compute { end, compute } = &mut self.phase else {
            unreachable!("left above")
        };
        ready!(compute.poll(cx));
        release(cx);
        Poll::Ready(Ok(*end))
    }

    fn advance(&self, cx: &mut Cx<'_>) -> Result<Lsn, LogEvent> {
        if !self.upto.is_valid() {
            let code = if cx.shmem.settings.pg_version < PgVersion::V18 {
                SqlState::INTERNAL
            } else {
                SqlState::INVALID_PARAMETER_VALUE
            };
            return Err(LogEvent::slot(code, SlotMessage::InvalidTarget));
        }
        let upto = self.upto.min(known_end(cx));
        acquire_nowait(cx, &self.name)?;
        let slot = my_slot(cx);
        let least = slot.restart_lsn;
        if !least.is_valid() {
            let message = SlotMessage::CannotAdvance(self.name.clone());
            return Err(LogEvent::slot(SqlState::NOT_IN_STATE, message));
        }
        if upto < least {
            let (to, least) = (cx.text(upto), cx.text(least));
            let message = SlotMessage::Backwards { to, least };
            return Err(LogEvent::slot(SqlState::NOT_IN_STATE, message));
        }
        // `pg_physical_replication_slot_advance`
        if least < upto {
            slot.restart_lsn = upto;
            // Before 13 the slot was not marked dirty. Even a shutdown then did not save the new
            // position.
            if !cx.planted(Bug::SlotAdvanceNotDirtied) {
                my_slot(cx).mark_dirty();
            }
        }
        assert_eq!(
            my_slot(cx).restart_lsn,
            upto,
            "the slot advances to its target"
        );
        Ok(upto)
    }
}

fn known_end(cx: &Cx<'_>) -> Lsn {
    if cx.shmem.recovery_in_progress() {
        cx.shmem.recovery.last_replayed_end
    } else {
        cx.shmem.xlog.flush
    }
}

/// `CheckSlotRequirements`
///
/// # Errors
/// `max_replication_slots` is 0.
pub fn check_slot_requirements(cx: &Cx<'_>) -> Result<(), LogEvent> {
    let settings = &cx.shmem.settings;
    if settings.max_replication_slots > 0 {
        return Ok(());
    }
    let message = Message::Slot(SlotMessage::Off(settings.pg_version));
    Err(LogEvent::error(SqlState::NOT_IN_STATE, message))
}
