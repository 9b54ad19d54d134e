//! OWNER: only the owner of a slot writes to its entry.

use crate::referee::{
    About, Change, ChangeKind, Check, Knowledge, Promise, Ruling, Site, SlotEntry, SlotStep, Step,
    Subscription, Value, Violation,
};
use walsim_core::base::Pid;
use walsim_core::shmem::{LockId, Role};

const ABOUT: About = About {
    code: "OWNER",
    promise: Promise::Safety,
    statement: "A process changes the entry of a slot in shared memory only if it owns the slot \
              or creates it.",
    details: "Only the process that owns a slot may change restart_lsn and the cause of \
              invalidation in the slot's entry, or free the entry. A process may set active_pid \
              only from 0 to its own PID, or from its own PID to 0. A process may write to a free \
              entry only while it holds ReplicationSlotAllocationLock.",
    notes: &[
        "A process that has dropped or released a slot must not write to the entry afterwards.",
        "The startup process restores slots from disk without ReplicationSlotAllocationLock.",
        "The fields dirty, just_dirtied and last_saved_restart_lsn are not checked, because a \
         process that saves a slot writes them without owning the slot.",
    ],
    source: "A process sets active_pid in ReplicationSlotAcquire and ReplicationSlotCreate, and \
              clears it in ReplicationSlotRelease and ReplicationSlotDropPtr (slot.c)",
};

const SUBSCRIPTIONS: [Subscription; 1] = [Subscription::Change(ChangeKind::Slots)];

/// Stateless.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct SlotOwner;

impl Check for SlotOwner {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn after_change(&mut self, change: Change<'_>, step: &Step<'_>, _: &Knowledge) -> Ruling {
        let (Change::Slots(steps), Some((pid, role))) = (change, step.ran) else {
            return Ok(());
        };
        let shmem = step.view.shmem();
        let locked = shmem.locks.holds(pid, LockId::ReplicationSlotAllocation);
        for change in steps {
            let fills = locked || role == Role::Startup;
            if !may(pid, change, fills) {
                let name = &shmem.slots.slots[change.number].name;
                return Err(written(step.site, name, (pid, role), change));
            }
        }
        Ok(())
    }
}

/// Whether the process may have made this change. `fills` says whether the process may write to a
/// free entry.
fn may(pid: Pid, SlotStep { was, is, .. }: &SlotStep, fills: bool) -> bool {
    let me = Some(pid);
    match (was.in_use, is.in_use) {
        (false, false) => fills,
        // The process holds ReplicationSlotAllocationLock when it takes an entry, and may release
        // the lock in the same step. It may also release the new slot in that step, and then the
        // entry has no owner.
        (false, true) => is.owner == me || is.owner.is_none(),
        (true, false) => was.owner == me,
        (true, true) if was.owner == is.owner => was.owner == me,
        (true, true) => (was.owner.is_none() || is.owner.is_none()) && owns(me, was, is),
    }
}

fn owns(me: Option<Pid>, was: &SlotEntry, is: &SlotEntry) -> bool {
    was.owner == me || is.owner == me
}

fn written(
    site: Site<'_>,
    name: &str,
    (pid, role): (Pid, Role),
    SlotStep { number, was, is }: &SlotStep,
) -> Violation {
    let message = if was.in_use {
        "a process wrote to a replication slot that it does not own"
    } else {
        "a process wrote to a free slot entry without taking it"
    };
    let by = format!("{} {}", role.name(), pid.n);
    let owner = |entry: &SlotEntry| {
        let owner = entry.owner.filter(|_| entry.in_use);
        owner.map_or_else(|| String::from("none"), |pid| pid.n.to_string())
    };
    site.violation(
        ABOUT.code,
        message,
        &[
            ("entry", number),
            ("slot", &Value::slot(name)),
            ("written by", &by),
            ("owner before", &owner(was)),
            ("owner after", &owner(is)),
            ("restart_lsn before", &was.restart_lsn),
            ("restart_lsn after", &is.restart_lsn),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use walsim_core::base::Lsn;

    const ME: Pid = Pid::postmaster(1);
    const OTHER: Pid = Pid::postmaster(2);

    fn free(at: u64) -> SlotEntry {
        SlotEntry {
            restart_lsn: Lsn(at),
            ..SlotEntry::default()
        }
    }

    fn used(at: u64, owner: Option<Pid>) -> SlotEntry {
        SlotEntry {
            in_use: true,
            owner,
            ..free(at)
        }
    }

    fn judge(was: SlotEntry, is: SlotEntry, fills: bool) -> bool {
        let number = 0;
        may(ME, &SlotStep { number, was, is }, fills)
    }

    #[test]
    fn a_slot_is_written_to_by_its_owner() {
        assert!(judge(used(5, Some(ME)), used(6, Some(ME)), false));
        assert!(!judge(used(5, Some(OTHER)), used(6, Some(OTHER)), true));
        assert!(!judge(used(5, None), used(6, None), true));
        let acquired = judge(used(5, None), used(6, Some(ME)), false);
        let released = judge(used(5, Some(ME)), used(6, None), false);
        assert!(acquired && released);
    }

    #[test]
    fn a_slot_is_acquired_and_released_by_its_owner() {
        assert!(!judge(used(5, Some(ME)), used(5, Some(OTHER)), false));
        assert!(!judge(used(5, Some(OTHER)), used(5, Some(ME)), false));
        assert!(!judge(used(5, Some(OTHER)), used(5, None), false));
        assert!(!judge(used(5, None), used(5, Some(OTHER)), false));
        assert!(judge(used(5, Some(ME)), free(5), false));
        assert!(!judge(used(5, Some(OTHER)), free(5), true));
        assert!(!judge(used(5, None), free(5), true));
    }

    #[test]
    fn a_free_entry_is_written_to_by_the_process_that_takes_it() {
        assert!(judge(free(5), free(0), true) && !judge(free(5), free(0), false));
        assert!(judge(free(0), used(0, Some(ME)), false));
        assert!(!judge(free(0), used(0, Some(OTHER)), true));
        assert!(judge(free(0), used(5, None), false), "and released");
    }
}
