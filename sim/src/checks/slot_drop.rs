//! DROP: a slot disappears only because a client or the end of a session drops it.

use crate::referee::{
    About, Change, ChangeKind, Check, Knowledge, Promise, Ruling, ServerEvent, ServerKind, Site,
    SlotStep, Step, Subscription, Value,
};
use std::collections::BTreeSet;
use walsim_core::base::Pid;
use walsim_core::shmem::{Role, Slot};
use walsim_core::wire::sql::SlotStatement;

const ABOUT: About = About {
    code: "DROP",
    promise: Promise::Safety,
    statement: "A persistent slot is dropped only by a client's command; a temporary slot is also \
              dropped when its session ends.",
    details: "A persistent slot may be dropped only while a client waits for the answer to \
              pg_drop_replication_slot. A temporary slot may also be dropped by the process that \
              owns it. After a server start, every persistent slot must exist unless a client has \
              asked to drop it.",
    notes: &[
        "Only a backend or a walsender may free an entry.",
        "A slot may or may not exist if its creation or drop was requested but not answered.",
        "A standby that was rebuilt from a cold copy has no slots.",
    ],
    source: "ReplicationSlotDrop drops a slot at a command. ReplicationSlotCleanup drops temporary \
              slots at the end of a session. StartupReplicationSlots restores all persistent \
              slots. CheckPointReplicationSlots saves slots and drops none (slot.c)",
};

const SUBSCRIPTIONS: [Subscription; 2] = [
    Subscription::Change(ChangeKind::Slots),
    Subscription::Server(ServerKind::Open),
];

/// Stateless.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct SlotDrop;

impl Check for SlotDrop {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn after_change(&mut self, change: Change<'_>, step: &Step<'_>, known: &Knowledge) -> Ruling {
        let (Change::Slots(steps), Some((pid, role))) = (change, step.ran) else {
            return Ok(());
        };
        for change in steps.iter().filter(|it| it.was.in_use && !it.is.in_use) {
            // The entry is free now and still contains the name of the dropped slot.
            let slot = &step.view.shmem().slots.slots[change.number];
            let mut asked = known.slots_asked(step.site.host);
            let asked = asked.any(|asked| asks(asked, &slot.name));
            freed(step.site, slot, change, (pid, role), asked)?;
        }
        Ok(())
    }

    fn on_server(&mut self, event: &ServerEvent<'_>, known: &Knowledge) -> Ruling {
        let slots = event.view.map_or(&[][..], |view| &view.shmem().slots.slots);
        let asked = known.slots_asked(event.site.host);
        let dropped = asked.filter_map(|asked| match asked {
            SlotStatement::Drop(name) => Some(name.as_str()),
            SlotStatement::Create { .. }
            | SlotStatement::CreateLogical
            | SlotStatement::Advance { .. }
            | SlotStatement::List
            | SlotStatement::CurrentWalLsn
            | SlotStatement::CurrentWalFlushLsn => None,
        });
        let dropped: Vec<_> = dropped.collect();
        opened(
            event.site,
            slots,
            known.slots_kept(event.site.host),
            &dropped,
        )
    }
}

fn asks(asked: &SlotStatement, slot: &str) -> bool {
    matches!(asked, SlotStatement::Drop(name) if name == slot)
}

/// Judges a process that has freed an entry. `asked` says whether a client has asked to drop the
/// slot and waits for the answer.
fn freed(
    site: Site<'_>,
    slot: &Slot,
    change: &SlotStep,
    (pid, role): (Pid, Role),
    asked: bool,
) -> Ruling {
    let is_session = matches!(role, Role::Backend | Role::WalSender);
    let owns = change.was.owner == Some(pid);
    if is_session && (asked || slot.temporary && owns) {
        return Ok(());
    }
    let message = "a replication slot was dropped, but no client requested this";
    Err(site.violation(
        ABOUT.code,
        message,
        &[
            ("slot", &Value::slot(&slot.name)),
            ("temporary", &slot.temporary),
            ("dropped by", &role),
            ("restart_lsn", &change.was.restart_lsn),
        ],
    ))
}

/// Checks the slots of a server that has just come up.
fn opened(site: Site<'_>, slots: &[Slot], kept: &BTreeSet<String>, dropped: &[&str]) -> Ruling {
    let is_there = |name: &str| slots.iter().any(|slot| slot.in_use && slot.name == name);
    let mut missing = kept.iter().map(String::as_str);
    let missing = missing.find(|name| !is_there(name) && !dropped.contains(name));
    let Some(missing) = missing else {
        return Ok(());
    };
    let message = "a replication slot is missing after a restart, but no client dropped it";
    Err(site.violation(ABOUT.code, message, &[("slot", &Value::slot(missing))]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::SlotEntry;
    use crate::referee::testing::SITE;

    const ME: Pid = Pid::postmaster(1);

    /// Judges the drop of a slot by a process.
    fn drops(temporary: bool, role: Role, owner: Pid, asked: bool) -> bool {
        let slot = Slot {
            temporary,
            ..Slot::default()
        };
        let was = SlotEntry {
            in_use: true,
            owner: Some(owner),
            ..SlotEntry::default()
        };
        let is = SlotEntry::default();
        let change = SlotStep { number: 0, was, is };
        freed(SITE, &slot, &change, (ME, role), asked).is_ok()
    }

    #[test]
    fn a_slot_ends_by_a_drop_a_temporary_one_with_its_session() {
        let other = Pid::postmaster(2);
        assert!(drops(false, Role::Backend, ME, true));
        assert!(!drops(false, Role::Backend, ME, false));
        assert!(!drops(false, Role::Checkpointer, ME, true));
        assert!(drops(true, Role::WalSender, ME, false));
        assert!(!drops(true, Role::WalSender, other, false));
        assert!(!drops(true, Role::Checkpointer, ME, false));
    }

    #[test]
    fn a_slot_is_there_after_a_start_unless_a_drop_was_asked_for() {
        let slot = |name: &str, in_use| Slot {
            in_use,
            name: name.into(),
            ..Slot::default()
        };
        let slots = [slot("a", true), slot("b", false)];
        let after = |kept: &[&str], dropped: &[&str]| {
            let kept = kept.iter().map(|name| String::from(*name)).collect();
            opened(SITE, &slots, &kept, dropped).is_ok()
        };
        assert!(after(&[], &[]) && after(&["a"], &[]));
        assert!(!after(&["a", "b"], &[]) && !after(&["c"], &["b"]));
        assert!(after(&["a", "b"], &["b"]));
    }
}
