//! The plan of the run: settings, faults and which of them took effect, and the whole file.

use super::Page;
use crate::plan::{Plan, Scenario, shown};
use walsim_core::base::{Settings, kept_settings};

/// The plan, ready for its template.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) nodes: Vec<String>,
    /// Settings that differ from the default on a node, with the value on each node.
    pub(super) settings: Vec<(&'static str, Vec<String>)>,
    pub(super) faults: Vec<Fault>,
    pub(super) marks: Vec<&'static str>,

    pub(super) toml: String,
}

/// A fault of the plan.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) row: usize,
    pub(super) when: String,
    pub(super) what: String,
    pub(super) struck: bool,
}

pub(super) fn setup(page: &Page<'_>) -> Setup {
    let plan = page.plan;
    let idle = &page.outcome.idle_faults;
    let faults = (0..plan.faults.len()).map(|index| {
        let (when, what) = plan.fault_in_words(index);
        Fault {
            row: index + 1,
            when,
            what,
            struck: !idle.contains(&index),
        }
    });
    Setup {
        nodes: plan.nodes.iter().map(|node| node.name.clone()).collect(),
        settings: settings(plan),
        faults: faults.collect(),
        marks: page.outcome.marks.iter().map(|mark| mark.name()).collect(),

        toml: Scenario::from(plan.clone()).to_toml(),
    }
}

fn settings(plan: &Plan) -> Vec<(&'static str, Vec<String>)> {
    let rows = kept_settings().filter_map(|setting| {
        let values = plan.nodes.iter().map(|node| shown(setting, &node.settings));
        let values: Vec<String> = values.collect();
        let usual = plan.nodes.iter().map(|node| {
            let mut usual = Settings::new(node.settings.pg_version, node.settings.geometry);
            usual.cluster_name.clone_from(&node.name);
            shown(setting, &usual)
        });
        let is_usual = values.iter().eq(&usual.collect::<Vec<_>>());
        (!is_usual).then_some((setting.name, values))
    });
    rows.collect()
}
