//! Draws what retains WAL in a run, and how operators change it: slots, limits, and reloads of the
//! configuration.

use super::{Draw, MS, SECOND, sql};
use crate::plan::{Action, ActionRow, Fault, FaultRow, NodePlan, When};
use std::collections::BTreeMap;
use walsim_core::base::{Lsn, show_size};
use walsim_core::call::Place;
use walsim_core::wire::sql::{SlotStatement, Statement};

impl Draw {
    /// Draws what protects the WAL that the standbys need: slots, `wal_keep_size`, or nothing. A
    /// standby without protection may lose its WAL. Returns stalls during which a checkpoint can
    /// overtake a process that reserves WAL.
    pub(super) fn retention(
        &mut self,
        nodes: &mut [NodePlan],
        actions: &mut Vec<ActionRow>,
        active_us: u64,
    ) -> Vec<FaultRow> {
        let mut stalls = Vec::new();
        let segment = u64::from(nodes[0].settings.geometry.segment);
        let at_least = self.rng.between(2, 5) * segment;
        for node in &mut *nodes {
            node.settings.min_wal_size = at_least;
        }
        let mut held = true;
        for standby in 1..nodes.len() {
            if self.rng.ratio(3, 4) {
                self.slot_of(standby, nodes, actions, active_us);
            } else {
                held = false;
            }
        }
        let keep: &[u64] = if held {
            &[0, 0, 0, 1]
        } else {
            &[2, 8, 1000, 1000, 1000]
        };
        let settings = &mut nodes[0].settings;
        settings.wal_keep_size = *self.rng.pick(keep) * segment;
        let limit = *self.rng.pick(&[0, 0, 0, 0, 1, 2, 4]);
        settings.max_slot_wal_keep_size = (limit > 0).then_some(limit * segment);
        if self.rng.ratio(1, 2) {
            self.spare_slots(actions, &mut stalls, active_us);
        }
        if self.rng.ratio(1, 4) {
            self.reloads(nodes.len(), segment, actions, active_us);
        }
        stalls
    }

    /// Gives a standby a slot. In some runs the operator drops, replaces or advances the slot.
    fn slot_of(
        &mut self,
        standby: usize,
        nodes: &mut [NodePlan],
        actions: &mut Vec<ActionRow>,
        active_us: u64,
    ) {
        let name = nodes[standby].name.clone();
        nodes[standby].settings.primary_slot_name.clone_from(&name);
        let reserve_wal = self.rng.ratio(3, 4);
        if self.rng.ratio(4, 5) {
            nodes[0].slots.push(name.clone());
        } else {
            let at = self.between_ms(0, 100 * MS);
            actions.push(slot(at, create(&name, reserve_wal)));
        }
        let at = self.between_ms(500 * MS, active_us);
        match self.rng.below(8) {
            0 => actions.push(slot(at, SlotStatement::Drop(name))),
            1 => {
                let again = at + self.between_ms(10 * MS, 2 * SECOND);
                actions.push(slot(at, SlotStatement::Drop(name.clone())));
                actions.push(slot(again, create(&name, reserve_wal)));
            }
            2 => actions.push(slot(at, advance(&name))),
            _ => {}
        }
    }

    /// Draws slots that no walsender uses. The operator creates, advances and drops them while
    /// checkpoints run.
    fn spare_slots(
        &mut self,
        actions: &mut Vec<ActionRow>,
        stalls: &mut Vec<FaultRow>,
        active_us: u64,
    ) {
        for n in 0..self.small(1, 4) {
            let name = format!("spare{n}");
            let mut at = self.between_ms(100 * MS, active_us * 3 / 4);
            let reserve_wal = self.rng.ratio(4, 5);
            actions.push(slot(at, create(&name, reserve_wal)));
            if self.rng.ratio(1, 2) {
                for place in [Place::ReplicationSlotReserveWal, Place::RemoveOldXlogFiles] {
                    let for_us = self.between_ms(300 * MS, 2 * SECOND);
                    stalls.push(stall(at - MS, place, for_us));
                }
            }
            for _ in 0..self.small(0, 2) {
                at += self.between_ms(10 * MS, 3 * SECOND);
                actions.push(slot(at, advance(&name)));
            }
            if self.rng.ratio(1, 2) {
                at += self.between_ms(10 * MS, 3 * SECOND);
                actions.push(slot(at, SlotStatement::Drop(name)));
            }
        }
    }

    fn reloads(
        &mut self,
        nodes: usize,
        segment: u64,
        actions: &mut Vec<ActionRow>,
        active_us: u64,
    ) {
        for _ in 0..self.small(1, 2) {
            let ms = self.between_ms(1000 * MS, 5000 * MS) / MS;
            let (node, name, value) = match self.rng.below(6) {
                0 => (0, "max_slot_wal_keep_size", show_size(2 * segment)),
                1 => (0, "max_slot_wal_keep_size", "-1".into()),
                2 => (0, "wal_keep_size", "0".into()),
                3 => (0, "wal_sender_timeout", format!("{ms}ms")),
                4 => (self.victim(nodes), "checkpoint_timeout", format!("{ms}ms")),
                _ => (self.standby(nodes), "primary_slot_name", String::new()),
            };
            let at = self.between_ms(200 * MS, active_us * 9 / 10);
            let settings = BTreeMap::from([(name.into(), value)]);
            actions.push(ActionRow {
                when: When::At(at),
                action: Action::Reload { node, settings },
            });
        }
    }
}

fn stall(at_us: u64, at: Place, for_us: u64) -> FaultRow {
    let node = 0;
    FaultRow {
        when: When::At(at_us),
        fault: Fault::Stall { node, at, for_us },
    }
}

fn slot(at_us: u64, statement: SlotStatement) -> ActionRow {
    ActionRow {
        when: When::At(at_us),
        action: sql(Statement::Slot(statement)),
    }
}

fn create(name: &str, reserve_wal: bool) -> SlotStatement {
    SlotStatement::Create {
        name: name.into(),
        reserve_wal,
        temporary: false,
    }
}

/// Advances the slot to the flush position.
fn advance(name: &str) -> SlotStatement {
    SlotStatement::Advance {
        name: name.into(),
        upto: Lsn::MAX,
    }
}
