//! Removes nodes. Removing a node also removes its workload, faults and actions, and attaches its
//! standbys to its upstream.

use super::Search;
use crate::plan::{Action, Fault, Plan, When};

pub(super) fn drop_nodes(search: &mut Search<'_>) {
    // Removes the last node first. Node numbers identify choices, so a removed last node leaves the
    // choices of the other nodes unchanged.
    for node in (1..search.best.nodes.len()).rev() {
        let candidate = without(&search.best, node);
        search.attempt(candidate);
    }
}

fn without(plan: &Plan, gone: usize) -> Plan {
    let mut plan = plan.clone();
    let left = plan.nodes.remove(gone);
    for node in &mut plan.nodes {
        let upstream = &mut node.settings.primary_conninfo;
        if upstream
            .as_ref()
            .is_some_and(|(host, _)| *host == left.name)
        {
            upstream.clone_from(&left.settings.primary_conninfo);
        }
    }
    let renumber = |nodes: Vec<&mut usize>| {
        let mut stays = true;
        for node in nodes {
            stays = stays && *node != gone;
            *node -= usize::from(*node > gone);
        }
        stays
    };
    plan.workload.retain_mut(|row| {
        let mut nodes = of_when(&mut row.when);
        nodes.push(&mut row.node);
        renumber(nodes)
    });
    plan.faults.retain_mut(|row| {
        let mut nodes = of_when(&mut row.when);
        nodes.extend(of_fault(&mut row.fault));
        renumber(nodes)
    });
    plan.actions.retain_mut(|row| {
        let mut nodes = of_when(&mut row.when);
        nodes.extend(of_action(&mut row.action));
        renumber(nodes)
    });
    plan
}

fn of_when(when: &mut When) -> Vec<&mut usize> {
    match when {
        When::At(_) => Vec::new(),
        When::Event { node, .. } => vec![node],
    }
}

/// The nodes that a fault names, beginning with the one that the fault hits directly.
pub(super) fn of_fault(fault: &mut Fault) -> Vec<&mut usize> {
    match fault {
        Fault::PowerLoss { node, .. }
        | Fault::NodeCrash { node, .. }
        | Fault::FsyncError { node, .. }
        | Fault::DiskFull { node, .. }
        | Fault::ClockJump { node, .. }
        | Fault::Shutdown { node, .. }
        | Fault::Kill { node, .. }
        | Fault::Pause { node, .. }
        | Fault::Stall { node, .. }
        | Fault::StopReading { node, .. } => vec![node],
        Fault::Partition { a, b, .. } | Fault::Reset { a, b } | Fault::Delay { a, b, .. } => {
            vec![a, b]
        }
    }
}

fn of_action(action: &mut Action) -> Vec<&mut usize> {
    match action {
        Action::Sql { node, .. } | Action::Reload { node, .. } | Action::GrowDisk { node, .. } => {
            vec![node]
        }
    }
}
