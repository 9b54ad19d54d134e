//! Decisions of processes, seen in memory: slots, the slot minimum, the oldest WAL to keep, and
//! flags. A comparison of the memory before and after a step shows what has changed.

use super::event::Act;
use std::collections::BTreeSet;
use walsim_core::access::wal_release::WalHorizon;
use walsim_core::base::{Lsn, Pid, Settings};
use walsim_core::call::Place;
use walsim_core::node::NodeView;
use walsim_core::replication::wal_horizon::keep_log_seg;
use walsim_core::shmem::{Invalidation, PmSignal, Slot};

/// The memory of a node before a step.
#[derive(Debug)]
pub(super) struct Memory {
    slots: Vec<Slot>,
    minimum: Lsn,
    horizon: Option<WalHorizon>,
    flags: BTreeSet<Flag>,
}

/// A flag that is set, and the process that it belongs to.
type Flag = (&'static str, Option<Pid>);

impl Memory {
    pub(super) fn of(view: &NodeView<'_>) -> Self {
        let slots = &view.shmem().slots;
        Self {
            slots: slots.slots.to_vec(),
            minimum: slots.required_lsn,
            horizon: view.wal_horizon(),
            flags: flags(view),
        }
    }

    /// The events of a step. `place` is the C function in which the step began.
    pub(super) fn changes(&self, view: &NodeView<'_>, place: Option<Place>) -> Vec<Act> {
        let mut changes = self.slots(view);
        changes.extend(self.minimum(view, place));
        changes.extend(self.horizon(view));
        changes.extend(self.flags(view));
        changes
    }

    fn slots(&self, view: &NodeView<'_>) -> Vec<Act> {
        let now = view.shmem().slots.slots.iter();
        let pairs = self.slots.iter().zip(now);
        let changed = pairs.filter(|(was, is)| was != is && (was.in_use || is.in_use));
        let mut changes = Vec::new();
        for (was, is) in changed {
            let slot = if is.in_use { &is.name } else { &was.name };
            for ((field, from), (_, to)) in fields(was).into_iter().zip(fields(is)) {
                if from != to {
                    let slot = slot.clone();
                    changes.push(Act::Slot {
                        slot,
                        field,
                        from,
                        to,
                    });
                }
            }
        }
        changes
    }

    /// The result of `ReplicationSlotsComputeRequiredLSN`, also if it is the same as before.
    fn minimum(&self, view: &NodeView<'_>, place: Option<Place>) -> Option<Act> {
        let slots = &view.shmem().slots;
        let (from, to) = (self.minimum, slots.required_lsn);
        let computed = place == Some(Place::ReplicationSlotsComputeRequiredLSN);
        if from == to && !computed {
            return None;
        }
        let used = slots.slots.iter().filter(|slot| slot.in_use);
        let held_by = used.filter_map(|slot| holds(slot, to)).collect();
        Some(Act::SlotMinimum { from, to, held_by })
    }

    fn horizon(&self, view: &NodeView<'_>) -> Option<Act> {
        let horizon = view
            .wal_horizon()
            .filter(|_| view.wal_horizon() != self.horizon)?;
        let settings = &view.shmem().settings;
        Some(Act::Horizon {
            keep: settings.geometry.segment_start(horizon.keep),
            by: limit(settings, &horizon),
            redo: horizon.redo,
            slots: horizon.slots,
            wal_end: horizon.end,
            computed: horizon.computed,
        })
    }

    fn flags(&self, view: &NodeView<'_>) -> Vec<Act> {
        let now = flags(view);
        let changed = self.flags.symmetric_difference(&now);
        let act = |(flag, pid): &Flag| Act::Flag {
            flag,
            of: pid.map_or_else(String::new, |pid| pid.to_string()),
            set: now.contains(&(*flag, *pid)),
        };
        changed.map(act).collect()
    }
}

fn flags(view: &NodeView<'_>) -> BTreeSet<Flag> {
    let shmem = view.shmem();
    let delaying = shmem.procs.delaying_checkpoint().into_iter();
    let delaying = delaying.map(|pid| ("DELAY_CHKPT_START", Some(pid)));
    let start = shmem.postmaster.is_set(PmSignal::StartWalReceiver);
    let start = start.then_some(("PMSIGNAL_START_WALRECEIVER", None));
    let requested = view.walreceiver_requested() == Some(true);
    let requested = requested.then_some(("WalReceiverRequested", None));
    delaying.chain(start).chain(requested).collect()
}

/// The fields of a slot, as text. Its restart_lsn is a position, and not among them.
fn fields(slot: &Slot) -> [(&'static str, String); 6] {
    let flag = |holds: bool| String::from(if holds { "true" } else { "false" });
    let none = || String::from("none");
    [
        ("in_use", flag(slot.in_use)),
        (
            "active_pid",
            slot.active_pid.map_or_else(none, |pid| pid.to_string()),
        ),
        (
            "invalidated",
            slot.invalidated
                .map_or_else(none, |cause| cause.name().to_owned()),
        ),
        ("just_dirtied", flag(slot.just_dirtied)),
        ("dirty", flag(slot.dirty)),
        (
            "last_saved_restart_lsn",
            slot.last_saved_restart_lsn.to_string(),
        ),
    ]
}

/// The name of the slot, if the slot is or was at this position.
fn holds(slot: &Slot, at: Lsn) -> Option<String> {
    if !at.is_valid() {
        return None;
    }
    if slot.restart_lsn == at {
        return Some(slot.name.clone());
    }
    if slot.last_saved_restart_lsn == at {
        return Some(format!("{} (last_saved_restart_lsn)", slot.name));
    }
    let is_old = matches!(slot.invalidated, Some(Invalidation::WalRemoved(was)) if was == at);
    is_old.then(|| format!("{} (invalidated)", slot.name))
}

/// What made the segment the oldest one to keep.
fn limit(settings: &Settings, horizon: &WalHorizon) -> &'static str {
    let WalHorizon {
        keep,
        redo,
        slots,
        end,
        ..
    } = *horizon;
    let geometry = &settings.geometry;
    if keep == geometry.segment_of(redo) {
        return "redo point";
    }
    if slots.is_valid() && keep == geometry.segment_of(slots) {
        return "slots";
    }
    let mut without = settings.clone();
    without.wal_keep_size = 0;
    if keep == keep_log_seg(&without, redo, end, slots) {
        return "max_slot_wal_keep_size";
    }
    if keep == keep_log_seg(settings, redo, end, slots) {
        return "wal_keep_size";
    }
    "end of WAL"
}
