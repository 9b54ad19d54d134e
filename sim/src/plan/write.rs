//! Writes a plan as text for people. Reading the text gives the same plan. Default values are
//! omitted.

use super::read::{ACTIVE_US, DISK_CAPACITY};
use super::schema::SCHEMA;
use super::settings::{TINY, quoted, shown};
use super::units::{show_seed, show_signed_us};
use super::{
    Action, ActionRow, Counts, DiskPlan, Expect, Fault, FaultRow, NetworkPlan, NodePlan, Origin,
    PassDone, Plan, Scenario, ShutdownMode, When, WorkloadRow,
};
use std::fmt::Write;
use walsim_core::base::{Geometry, Settings};
use walsim_core::base::{kept_settings, show_size, show_us};

impl Scenario {
    /// The text of the file. Its head comment is the `about` text of the plan.
    ///
    /// # Panics
    /// If the plan has no node.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let plan = &self.plan;
        self.to_toml_under(if plan.about.is_empty() {
            &plan.name
        } else {
            &plan.about
        })
    }

    /// The text of the file, with `head` as its head comment.
    ///
    /// # Panics
    /// If the plan has no node.
    #[must_use]
    pub fn to_toml_under(&self, head: &str) -> String {
        let plan = &self.plan;
        let mut out = Out::default();
        for line in head.lines() {
            // The message of a panic may contain control characters, which a TOML comment must not
            // contain.
            let line: String = line.chars().filter(|c| !c.is_control()).collect();
            out.line(format_args!("{}", format!("# {line}").trim_end()));
        }
        out.head(plan);
        out.network(&plan.network);
        out.disks(&plan.disks);
        let common = common(plan);
        if !common.is_empty() {
            out.line(format_args!("\n[settings]"));
            common
                .iter()
                .for_each(|(name, value)| out.line(format_args!("{name} = {value}")));
        }
        for node in &plan.nodes {
            out.node(node, &common);
        }
        let names = Names(plan);
        plan.workload
            .iter()
            .for_each(|row| out.workload(row, names));
        plan.actions.iter().for_each(|row| out.action(row, names));
        plan.faults.iter().for_each(|row| out.fault(row, names));
        if !plan.pins.is_empty() {
            out.line(format_args!("\n[pins]"));
            for (key, value) in &plan.pins {
                out.line(format_args!("{} = {}", quoted(key), pin(*value)));
            }
        }
        out.expect(&self.expect);
        if let Some(origin) = &self.origin {
            out.origin(origin);
        }
        out.0
    }
}

impl Plan {
    /// When a fault of the plan takes effect, and what it is, as in a plan file.
    ///
    /// # Panics
    /// If there is no such fault.
    #[must_use]
    pub fn fault_in_words(&self, row: usize) -> (String, String) {
        let mut out = Out::default();
        out.fault(&self.faults[row], Names(self));
        let mut lines = out.0.lines().filter(|line| line.contains(" = "));
        let mut next = || lines.next().unwrap_or_default().to_owned();
        (next(), next())
    }
}

#[derive(Clone, Copy)]
struct Names<'a>(&'a Plan);

impl Names<'_> {
    fn of(self, node: usize) -> String {
        quoted(&self.0.nodes[node].name)
    }
}

/// The settings that have the same value on all nodes and differ from the default.
fn common(plan: &Plan) -> Vec<(&'static str, String)> {
    let first = &plan.nodes.first().expect("a plan has a node").settings;
    let usual = Settings::new(first.pg_version, first.geometry);
    let shared = kept_settings().filter_map(|setting| {
        let value = shown(setting, first);
        let everywhere = plan
            .nodes
            .iter()
            .all(|n| shown(setting, &n.settings) == value);
        let own_name = setting.name == "cluster_name";
        (everywhere && !own_name && value != shown(setting, &usual))
            .then_some((setting.name, value))
    });
    shared.collect()
}

/// Formats a pin. TOML's integers are signed, so a large value is written as a string.
fn pin(value: u64) -> String {
    match i64::try_from(value) {
        Ok(value) => value.to_string(),
        Err(_) => quoted(&format!("{value:#x}")),
    }
}

#[derive(Default)]
struct Out(String);

impl Out {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("writing to a string cannot fail");
    }

    fn head(&mut self, plan: &Plan) {
        let settings = &plan.nodes.first().expect("a plan has a node").settings;
        self.line(format_args!("schema = {SCHEMA}"));
        self.line(format_args!("name = {}", quoted(&plan.name)));
        if !plan.about.is_empty() {
            self.line(format_args!("about = {}", quoted(&plan.about)));
        }
        self.line(format_args!("seed = {}", quoted(&show_seed(plan.seed))));
        self.line(format_args!("version = {}", settings.pg_version.major()));
        self.line(format_args!("geometry = {}", geometry(&settings.geometry)));
        if plan.active_us != ACTIVE_US {
            self.line(format_args!(
                "active = {}",
                quoted(&show_us(plan.active_us))
            ));
        }
        if !plan.step_delays {
            self.line(format_args!("step_delays = false"));
        }
    }

    fn network(&mut self, network: &NetworkPlan) {
        if *network == NetworkPlan::default() {
            return;
        }
        self.line(format_args!("\n[network]"));
        self.line(format_args!(
            "latency = {}",
            quoted(&show_us(network.latency_us))
        ));
        self.line(format_args!(
            "jitter = {}",
            quoted(&show_us(network.jitter_us))
        ));
        self.line(format_args!(
            "bytes_per_ms = {}",
            quoted(&show_size(network.bytes_per_ms))
        ));
        self.line(format_args!("fragment = {}", network.fragment));
        if network.keepalive_us != NetworkPlan::default().keepalive_us {
            let keepalive = quoted(&show_us(network.keepalive_us));
            self.line(format_args!("keepalive = {keepalive}"));
        }
    }

    fn disks(&mut self, disks: &DiskPlan) {
        if *disks == DiskPlan::default() {
            return;
        }
        self.line(format_args!("\n[disks]"));
        self.line(format_args!(
            "latency = {}",
            quoted(&show_us(disks.latency_us))
        ));
        self.line(format_args!(
            "jitter = {}",
            quoted(&show_us(disks.jitter_us))
        ));
        self.line(format_args!("fsync = {}", quoted(&show_us(disks.fsync_us))));
    }

    fn node(&mut self, node: &NodePlan, common: &[(&str, String)]) {
        self.line(format_args!("\n[[node]]"));
        self.line(format_args!("name = {}", quoted(&node.name)));
        if let Some((upstream, _)) = &node.settings.primary_conninfo {
            self.line(format_args!("upstream = {}", quoted(upstream)));
        }
        if node.clock_offset_us != 0 {
            let offset = show_signed_us(node.clock_offset_us);
            self.line(format_args!("clock_offset = {}", quoted(&offset)));
        }
        if node.clock_drift_ppm != 0 {
            self.line(format_args!("clock_drift_ppm = {}", node.clock_drift_ppm));
        }
        if !node.slots.is_empty() {
            let slots: Vec<String> = node.slots.iter().map(|name| quoted(name)).collect();
            self.line(format_args!("slots = [{}]", slots.join(", ")));
        }
        if node.disk_capacity != DISK_CAPACITY {
            self.line(format_args!(
                "disk = {}",
                quoted(&show_size(node.disk_capacity))
            ));
        }
        let mut usual = Settings::new(node.settings.pg_version, node.settings.geometry);
        usual.cluster_name.clone_from(&node.name);
        let own: Vec<_> = kept_settings()
            .map(|setting| (setting, shown(setting, &node.settings)))
            .filter(|(setting, value)| {
                let shared = common.iter().find(|(name, _)| *name == setting.name);
                *value != shared.map_or_else(|| shown(setting, &usual), |(_, value)| value.clone())
            })
            .collect();
        if !own.is_empty() {
            self.line(format_args!("[node.settings]"));
            own.iter()
                .for_each(|(s, value)| self.line(format_args!("{} = {value}", s.name)));
        }
    }

    fn when(&mut self, when: &When, names: Names<'_>) {
        match when {
            When::At(us) => self.line(format_args!("at = {}", quoted(&show_us(*us)))),
            When::Event { node, event, nth } => {
                let (node, event) = (names.of(*node), event.name());
                self.line(format_args!(
                    "when = {{ node = {node}, event = \"{event}\", nth = {nth} }}"
                ));
            }
        }
    }

    fn workload(&mut self, row: &WorkloadRow, names: Names<'_>) {
        self.line(format_args!("\n[[workload]]"));
        self.when(&row.when, names);
        self.line(format_args!("session = {}", row.session));
        if row.node != 0 {
            self.line(format_args!("node = {}", names.of(row.node)));
        }
        self.line(format_args!("transactions = {}", row.transactions));
        self.line(format_args!("rows = {}", row.rows));
        self.line(format_args!("bytes = {}", row.bytes));
        for (name, value) in [
            ("message", row.message),
            ("rollback_every", row.rollback_every),
            ("read_every", row.read_every),
        ] {
            if value != 0 {
                self.line(format_args!("{name} = {value}"));
            }
        }
        if row.asynchronous {
            self.line(format_args!("asynchronous = true"));
        }
        if row.pause_us != 0 {
            self.line(format_args!("pause = {}", quoted(&show_us(row.pause_us))));
        }
    }

    fn action(&mut self, row: &ActionRow, names: Names<'_>) {
        self.line(format_args!("\n[[action]]"));
        self.when(&row.when, names);
        match &row.action {
            Action::Sql { node, statement } => {
                let (node, run) = (names.of(*node), quoted(&statement.to_string()));
                self.line(format_args!("sql = {{ node = {node}, run = {run} }}"));
            }
            Action::Reload { node, settings } => {
                let node = names.of(*node);
                let values: Vec<String> = settings
                    .iter()
                    .map(|(name, value)| format!("{name} = {}", quoted(value)))
                    .collect();
                let values = values.join(", ");
                self.line(format_args!(
                    "reload = {{ node = {node}, settings = {{ {values} }} }}"
                ));
            }
            Action::GrowDisk { node, by } => {
                let (node, by) = (names.of(*node), quoted(&show_size(*by)));
                self.line(format_args!("grow_disk = {{ node = {node}, by = {by} }}"));
            }
        }
    }

    fn fault(&mut self, row: &FaultRow, names: Names<'_>) {
        self.line(format_args!("\n[[fault]]"));
        self.when(&row.when, names);
        let us = |us: u64| quoted(&show_us(us));
        let node = |node: usize| format!("node = {}", names.of(node));
        let link = |a: usize, b: usize| format!("from = {}, to = {}", names.of(a), names.of(b));
        let (kind, what) = match &row.fault {
            Fault::PowerLoss { node: n, off_us } => {
                ("power_loss", format!("{}, off = {}", node(*n), us(*off_us)))
            }
            Fault::NodeCrash { node: n, off_us } => {
                ("node_crash", format!("{}, off = {}", node(*n), us(*off_us)))
            }
            Fault::Shutdown {
                node: n,
                mode,
                off_us,
            } => {
                let kind = match mode {
                    ShutdownMode::Smart => "smart_shutdown",
                    ShutdownMode::Fast => "fast_shutdown",
                    ShutdownMode::Immediate => "immediate_shutdown",
                };
                (kind, format!("{}, off = {}", node(*n), us(*off_us)))
            }
            Fault::Kill { node: n, process } => (
                "kill",
                format!("{}, process = \"{}\"", node(*n), process.name()),
            ),
            Fault::Pause {
                node: n,
                process,
                for_us,
            } => {
                let process = process.map_or_else(String::new, |process| {
                    format!("process = \"{}\", ", process.name())
                });
                (
                    "pause",
                    format!("{}, {process}for = {}", node(*n), us(*for_us)),
                )
            }
            Fault::Partition {
                a,
                b,
                one_way,
                for_us,
            } => {
                let one_way = if *one_way { "one_way = true, " } else { "" };
                (
                    "partition",
                    format!("{}, {one_way}for = {}", link(*a, *b), us(*for_us)),
                )
            }
            Fault::Reset { a, b } => ("reset", link(*a, *b)),
            Fault::Delay {
                a,
                b,
                by_us,
                for_us,
            } => {
                let (by, lasts) = (us(*by_us), us(*for_us));
                (
                    "delay",
                    format!("{}, by = {by}, for = {lasts}", link(*a, *b)),
                )
            }
            Fault::FsyncError {
                node: n,
                path,
                drop_pages,
            } => {
                let drop = if *drop_pages {
                    ", drop_pages = true"
                } else {
                    ""
                };
                (
                    "fsync_error",
                    format!("{}, path = {}{drop}", node(*n), quoted(path)),
                )
            }
            Fault::Stall {
                node: n,
                at,
                for_us,
            } => (
                "stall",
                format!(
                    "{}, at = {}, for = {}",
                    node(*n),
                    quoted(at.name()),
                    us(*for_us)
                ),
            ),
            Fault::DiskFull { node: n, for_us } => {
                ("disk_full", format!("{}, for = {}", node(*n), us(*for_us)))
            }
            Fault::StopReading { node: n, for_us } => (
                "stop_reading",
                format!("{}, for = {}", node(*n), us(*for_us)),
            ),
            Fault::ClockJump { node: n, by_us } => {
                let by = quoted(&show_signed_us(*by_us));
                ("clock_jump", format!("{}, by = {by}", node(*n)))
            }
        };
        self.line(format_args!("{kind} = {{ {what} }}"));
    }

    fn origin(&mut self, origin: &Origin) {
        let counts = |counts: Counts| {
            let Counts {
                nodes,
                workload,
                faults,
                actions,
            } = counts;
            format!(
                "{{ nodes = {nodes}, workload = {workload}, faults = {faults}, actions = {actions} }}"
            )
        };
        self.line(format_args!("\n[origin]"));
        self.line(format_args!("seed = {}", quoted(&show_seed(origin.seed))));
        if !origin.replay.is_empty() {
            self.line(format_args!("replay = {}", quoted(&origin.replay)));
        }
        if origin.audited {
            self.line(format_args!("audited = true"));
        }
        if origin.tries > 0 {
            self.line(format_args!("tries = {}", origin.tries));
            self.line(format_args!("size = {}", counts(origin.was)));
        }
        if !origin.passes.is_empty() {
            self.line(format_args!("passes = ["));
            for PassDone {
                name,
                changes,
                left,
            } in &origin.passes
            {
                let (name, left) = (quoted(name), counts(*left));
                self.line(format_args!(
                    "  {{ name = {name}, changes = {changes}, left = {left} }},"
                ));
            }
            self.line(format_args!("]"));
        }
    }

    fn expect(&mut self, expect: &Expect) {
        if *expect == Expect::default() {
            return;
        }
        self.line(format_args!("\n[expect]"));
        if let Some(bug) = expect.bug {
            self.line(format_args!("bug = \"{}\"", bug.name()));
        }
        if !expect.invariants.is_empty() {
            let codes: Vec<_> = expect.invariants.iter().map(|code| quoted(code)).collect();
            self.line(format_args!("invariant = [{}]", codes.join(", ")));
        }
        if !expect.marks.is_empty() {
            let marks: Vec<_> = expect
                .marks
                .iter()
                .map(|mark| quoted(mark.name()))
                .collect();
            self.line(format_args!("marks = [{}]", marks.join(", ")));
        }
        if !expect.excuses.is_empty() {
            let excuses = expect.excuses.iter().map(|excuse| quoted(excuse.name()));
            let excuses: Vec<_> = excuses.collect();
            self.line(format_args!("excuses = [{}]", excuses.join(", ")));
        }
    }
}

fn geometry(geometry: &Geometry) -> String {
    if *geometry == Geometry::STOCK {
        return "\"stock\"".into();
    }
    if *geometry == TINY {
        return "\"tiny\"".into();
    }
    let Geometry {
        wal_page,
        segment,
        data_page,
        sector,
    } = geometry;
    format!(
        "{{ wal_page = {wal_page}, segment = {segment}, data_page = {data_page}, sector = {sector} }}"
    )
}
