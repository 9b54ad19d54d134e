//! DROP: a slot ends only when it is dropped.

use crate::referee::{
    About, Change, ChangeKind, Check, Knowledge, Promise, Ruling, ServerEvent, ServerKind, Site,
    SlotStep, Step, Subscription,
};
use std::collections::BTreeSet;
use walsim_core::base::Pid;
use walsim_core::shmem::{Role, Slot};
use walsim_core::wire::sql::SlotStatement;

const ABOUT: About = About {
    code: "DROP",
    promise: Promise::Safety,
    statement: "A slot ends only when a client drops it, a temporary one also with its session.",
    details: "Judged when an entry in shared memory is freed: a persistent slot by the process of a client, while a\n\
              client waits for the answer to pg_drop_replication_slot; a temporary one by its owner, at the end of\n\
              the session or after an error in it. And when a server opens: every persistent slot that was there\n\
              and that no client has asked to drop is there again. One whose drop was asked for and not answered\n\
              may be there or not, as may one whose creation was not answered. Slots are not part of a cold copy.",
    source: "ReplicationSlotDrop, ReplicationSlotCleanup, StartupReplicationSlots (slot.c). A checkpoint saves slots\n\
             and ends none: CheckPointReplicationSlots (slot.c)",
};

const SUBSCRIPTIONS: [Subscription; 2] = [
    Subscription::Change(ChangeKind::Slots),
    Subscription::Server(ServerKind::Open),
];

/// Remembers nothing.
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
            // A free entry keeps its name until another slot gets it.
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

/// A process has freed an entry. `asked`: a client waits for the end of that slot.
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
    let message = "a replication slot was dropped, but no client has asked for that";
    let by = role.name();
    Err(site.violation(
        ABOUT.code,
        message,
        &[
            ("slot", &slot.name),
            ("temporary", &slot.temporary),
            ("dropped by", &by),
            ("restart_lsn", &change.was.restart_lsn),
        ],
    ))
}

/// A server has come up.
fn opened(site: Site<'_>, slots: &[Slot], kept: &BTreeSet<String>, dropped: &[&str]) -> Ruling {
    let is_there = |name: &str| slots.iter().any(|slot| slot.in_use && slot.name == name);
    let mut missing = kept.iter().map(String::as_str);
    let missing = missing.find(|name| !is_there(name) && !dropped.contains(name));
    let Some(missing) = missing else {
        return Ok(());
    };
    let message = "a replication slot is gone after a start, but no client has asked for that";
    Err(site.violation(ABOUT.code, message, &[("slot", &missing)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::SlotEntry;
    use crate::referee::testing::SITE;

    const ME: Pid = Pid::postmaster(1);

    /// A slot of this kind, dropped by a process of that kind.
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
