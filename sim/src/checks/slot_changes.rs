//! What a step has done to the slots in shared memory, found out once for all checks that ask: mostly nothing.

use super::Scene;
use walsim_core::base::Lsn;
use walsim_core::shmem::{Role, Slot};

/// Where the slots of each node were after the last step.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct SlotChanges {
    nodes: Vec<Vec<Place>>,
}

/// A slot: where it is, and whether it was invalidated. `None` is a free entry.
type Place = Option<(Lsn, bool)>;

/// What a step has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SlotChange {
    /// Some slot came, went, change, or was invalidated.
    pub(super) any: bool,
    /// There are slots.
    pub(super) in_use: bool,
}

impl SlotChanges {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            nodes: vec![Vec::new(); nodes],
        }
    }

    pub(super) fn after_step(&mut self, scene: &Scene<'_>) -> SlotChange {
        match scene.ran {
            Some((_, Role::Backend | Role::WalSender | Role::Checkpointer | Role::Startup)) => {
                look(&mut self.nodes[scene.host], &scene.view.shmem().slots.slots)
            }
            // Nobody else touches slots.
            Some((_, Role::Postmaster | Role::WalWriter | Role::WalReceiver)) | None => {
                SlotChange {
                    any: false,
                    in_use: false,
                }
            }
        }
    }
}

fn look(places: &mut Vec<Place>, slots: &[Slot]) -> SlotChange {
    places.resize(slots.len(), None);
    let mut change = SlotChange {
        any: false,
        in_use: false,
    };
    for (place, slot) in places.iter_mut().zip(slots) {
        let now = slot
            .in_use
            .then(|| (slot.restart_lsn, slot.invalidated.is_some()));
        change.in_use |= slot.in_use;
        change.any |= *place != now;
        *place = now;
    }
    change
}

#[cfg(test)]
mod tests {
    use super::*;
    use walsim_core::shmem::Invalidation;

    #[test]
    fn whatever_happens_to_a_slot_is_a_move() {
        let mut slots = vec![Slot::default(); 2];
        let mut places = Vec::new();
        let mut after = |change: &dyn Fn(&mut Slot)| {
            change(&mut slots[1]);
            let first = look(&mut places, &slots);
            assert!(!look(&mut places, &slots).any, "seen once");
            (first.any, first.in_use)
        };
        assert_eq!(after(&|_| ()), (false, false));
        assert_eq!(after(&|slot| slot.in_use = true), (true, true));
        assert_eq!(after(&|slot| slot.dirty = true), (false, true));
        assert_eq!(after(&|slot| slot.restart_lsn = Lsn(7)), (true, true));
        let lost = Some(Invalidation::Other(1));
        assert_eq!(after(&|slot| slot.invalidated = lost), (true, true));
        assert_eq!(after(&|slot| slot.in_use = false), (true, false));
        assert_eq!(after(&|slot| slot.restart_lsn = Lsn(8)), (false, false));
    }
}
