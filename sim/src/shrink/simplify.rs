//! Resets values to their defaults. Settings get PostgreSQL's defaults, network and disks get plain
//! properties, clocks lose offset and drift, and steps get no delays.

use super::Search;
use crate::plan::{
    DiskPlan, NetworkPlan, Plan, Setting, TINY, duration_us, kept_settings, longest_row, show_us,
    shown,
};
use walsim_core::base::{Geometry, PgVersion, Settings};

/// Changes that each reset one part of the plan.
const CHANGES: [fn(&mut Plan); 11] = [
    |plan| plan.step_delays = false,
    |plan| plan.network.fragment = false,
    |plan| plan.network.latency_us = NetworkPlan::default().latency_us,
    |plan| plan.network.jitter_us = NetworkPlan::default().jitter_us,
    |plan| plan.network.bytes_per_ms = NetworkPlan::default().bytes_per_ms,
    |plan| plan.network.keepalive_us = NetworkPlan::default().keepalive_us,
    |plan| plan.disks.latency_us = DiskPlan::default().latency_us,
    |plan| plan.disks.jitter_us = DiskPlan::default().jitter_us,
    |plan| plan.disks.fsync_us = DiskPlan::default().fsync_us,
    |plan| plan.nodes.iter_mut().for_each(|n| n.clock_offset_us = 0),
    |plan| plan.nodes.iter_mut().for_each(|n| n.clock_drift_ppm = 0),
];

/// Tries all changes at once, and then one after the other.
pub(super) fn simplify(search: &mut Search<'_>) {
    let simpler = simplified(&search.best);
    if search.attempt(simpler) {
        return;
    }
    search.attempt_with(|plan| plan.network = NetworkPlan::default());
    search.attempt_with(|plan| plan.disks = DiskPlan::default());
    for change in CHANGES {
        search.attempt_with(change);
    }
    search.leave_out(
        |plan| odd(plan).len(),
        |plan, range| {
            let mut candidate = plan.clone();
            for setting in &odd(plan)[range] {
                reset(&mut candidate, *setting);
            }
            candidate
        },
    );
}

/// The plan with default values everywhere.
pub(super) fn simplified(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    CHANGES.iter().for_each(|change| change(&mut plan));
    for setting in odd(&plan) {
        reset(&mut plan, setting);
    }
    plan
}

/// The default of a node's setting.
fn usual(plan: &Plan, node: usize, setting: Setting) -> String {
    let node = &plan.nodes[node];
    let mut usual = Settings::new(node.settings.pg_version, node.settings.geometry);
    usual.cluster_name.clone_from(&node.name);
    shown(&setting, &usual)
}

/// The settings that differ from their default on some node.
fn odd(plan: &Plan) -> Vec<Setting> {
    let is_odd = |setting: &Setting| {
        let nodes = plan.nodes.iter().enumerate();
        nodes
            .into_iter()
            .any(|(n, node)| shown(setting, &node.settings) != usual(plan, n, *setting))
    };
    kept_settings().copied().filter(is_odd).collect()
}

fn reset(plan: &mut Plan, setting: Setting) {
    for node in 0..plan.nodes.len() {
        let value = usual(plan, node, setting);
        set(&mut plan.nodes[node].settings, setting, &value);
    }
}

/// Sets a setting from a text in the format of [`Setting::show`].
fn set(settings: &mut Settings, setting: Setting, shown: &str) {
    let set = setting.set_exactly(settings, shown.trim_matches('"'));
    set.expect("a shown value can be parsed");
}

/// Tries common sizes of pages and segments, a common version, equal values on all nodes, and round
/// times.
pub(super) fn plain_settings(search: &mut Search<'_>) {
    let first = |search: &Search<'_>| search.best.nodes[0].settings.clone();
    if first(search).geometry != TINY {
        search.attempt_with(|plan| change_base(plan, first_version(plan), TINY));
    }
    if first(search).pg_version != PgVersion::V15 {
        let geometry = first(search).geometry;
        search.attempt_with(|plan| change_base(plan, PgVersion::V15, geometry));
    }
    for setting in odd(&search.best) {
        for node in 0..search.best.nodes.len() {
            search.attempt_with(|plan| {
                let value = usual(plan, node, setting);
                set(&mut plan.nodes[node].settings, setting, &value);
            });
        }
        let value = shown(&setting, &search.best.nodes[0].settings);
        search.attempt_with(|plan| to_all(plan, setting, &value));
        let Ok(us) = duration_us(value.trim_matches('"')) else {
            continue;
        };
        for unit in [1_000_000, 100_000, 10_000] {
            let rounded = (us + unit / 2) / unit * unit;
            if rounded > 0 && search.attempt_with(|plan| to_all(plan, setting, &show_us(rounded))) {
                break;
            }
        }
    }
}

fn first_version(plan: &Plan) -> PgVersion {
    plan.nodes[0].settings.pg_version
}

fn to_all(plan: &mut Plan, setting: Setting, value: &str) {
    for node in &mut plan.nodes {
        if setting.name != "cluster_name" {
            set(&mut node.settings, setting, value);
        }
    }
}

/// Changes the version, or the sizes of pages and segments (the geometry). A setting that has its
/// default value gets the new default. A size keeps its number of segments.
fn change_base(plan: &mut Plan, version: PgVersion, geometry: Geometry) {
    for n in 0..plan.nodes.len() {
        let at_default: Vec<bool> = kept_settings()
            .map(|s| shown(s, &plan.nodes[n].settings) == usual(plan, n, *s))
            .collect();
        let settings = &mut plan.nodes[n].settings;
        let old = u64::from(settings.geometry.segment);
        let scaled = |bytes: u64| bytes / old * u64::from(geometry.segment);
        settings.max_wal_size = scaled(settings.max_wal_size);
        settings.min_wal_size = scaled(settings.min_wal_size);
        settings.wal_keep_size = scaled(settings.wal_keep_size);
        settings.max_slot_wal_keep_size = settings.max_slot_wal_keep_size.map(scaled);
        settings.pg_version = version;
        settings.geometry = geometry;
        for (setting, _) in kept_settings().zip(at_default).filter(|(_, usual)| *usual) {
            let value = usual(plan, n, *setting);
            set(&mut plan.nodes[n].settings, *setting, &value);
        }
    }
    for row in &mut plan.workload {
        row.bytes = row.bytes.min(longest_row(&geometry));
    }
}
