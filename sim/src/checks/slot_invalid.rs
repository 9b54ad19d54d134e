//! INVALID: since 18 a walsender does not stream from an invalidated slot.

use crate::referee::{
    About, Change, ChangeKind, Check, Knowledge, Promise, Ruling, Site, Step, Subscription, Value,
};
use walsim_core::base::{Lsn, PgVersion};
use walsim_core::shmem::Slot;

const ABOUT: About = About {
    code: "INVALID",
    promise: Promise::Safety,
    statement: "Since version 18, a walsender does not stream from an invalidated slot.",
    details: "When a walsender of version 18 or later sends WAL, the slot that the walsender uses \
              must not be invalidated.",
    notes: &[
        "A walsender may acquire an invalidated slot before it streams. ReplicationSlotAcquire \
         finds the invalidation only after it has acquired the slot.",
        "A client may read or drop an invalidated slot.",
        "A checkpointer that could not save an invalidated slot stays its owner \
         (docs/hazards/slot-kept-by-the-checkpointer.md).",
        "In versions 15 to 17 walsenders do stream from invalidated slots, so these versions are \
         not checked.",
    ],
    source: "ReplicationSlotAcquire with error_if_invalid acquires the slot and then checks it. \
              After that, the checkpointer cannot invalidate the slot while it has an owner: \
              InvalidatePossiblyObsoleteSlot first terminates the owner (slot.c)",
};

const SUBSCRIPTIONS: [Subscription; 1] = [Subscription::Change(ChangeKind::Sent)];

/// Stateless.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct SlotInvalid;

impl Check for SlotInvalid {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn after_change(&mut self, change: Change<'_>, step: &Step<'_>, known: &Knowledge) -> Ruling {
        let Change::Sent(sent) = change else {
            return Ok(());
        };
        match step.view.slot_of(sent.pid) {
            Some(number) => {
                let slot = &step.view.shmem().slots.slots[number];
                streams(step.site, known.version(), slot, sent.to)
            }
            None => Ok(()),
        }
    }
}

/// Judges a walsender that owns this slot and has sent WAL, or is about to start streaming.
fn streams(site: Site<'_>, version: PgVersion, slot: &Slot, sent: Lsn) -> Ruling {
    let Some(cause) = slot.invalidated.filter(|_| version >= PgVersion::V18) else {
        return Ok(());
    };
    let message = "a walsender streams from a replication slot that was invalidated";
    Err(site.violation(
        ABOUT.code,
        message,
        &[
            ("slot", &Value::slot(&slot.name)),
            ("cause", &cause.name()),
            ("sent", &sent),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::SITE;
    use walsim_core::shmem::Invalidation;

    #[test]
    fn only_18_refuses_an_invalidated_slot() {
        let slot = |invalidated| Slot {
            invalidated,
            ..Slot::default()
        };
        let judge = |version, slot: &Slot| streams(SITE, version, slot, Lsn(7)).is_ok();
        let good = slot(None);
        for cause in [Invalidation::WalRemoved(Lsn(5)), Invalidation::IdleTimeout] {
            let lost = slot(Some(cause));
            for version in [PgVersion::V15, PgVersion::V16, PgVersion::V17] {
                assert!(judge(version, &lost) && judge(version, &good));
            }
            assert!(!judge(PgVersion::V18, &lost) && judge(PgVersion::V18, &good));
        }
    }
}
