//! Finds what the facts of a violation name.

use crate::plan::Plan;
use crate::referee::{Value, relation_path};
use crate::world::Verdict;
use std::collections::BTreeSet;
use std::ops::Range;
use walsim_core::base::{Geometry, Lsn, Mono, Pid, Xid};
use walsim_core::wal::names::parse_segment_name;

/// What a violation is about.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Subjects {
    /// The code of the violation.
    pub code: String,
    /// The node of the violation, and the nodes that facts name.
    pub nodes: BTreeSet<String>,
    /// The node of the violation. This is empty if the violation is not about one node.
    pub node: String,
    /// The process whose step violated the invariant, and the processes that facts name.
    pub processes: BTreeSet<Pid>,
    /// The WAL between the positions that facts name. If the positions are far from each other,
    /// this is only the bytes at each position.
    pub wal: Vec<Range<Lsn>>,
    /// The positions that facts name.
    pub points: BTreeSet<Lsn>,
    /// Files, by their paths.
    pub files: BTreeSet<String>,
    /// Slots.
    pub slots: BTreeSet<String>,
    /// The blocks that facts name, as ranges of bytes in the files of relations.
    pub blocks: Vec<(String, Range<u64>)>,
    /// Transactions.
    pub xids: BTreeSet<Xid>,
    /// The time of the violation.
    pub at: Mono,
    /// The violation is about slots or old WAL. The positions of slots and the names of segments
    /// then matter more than the contents of WAL.
    pub retention: bool,
    /// The cluster did not converge, or simulated time does not advance. It then matters what the
    /// processes wait for.
    pub hangs: bool,
    pub(super) geometry: Geometry,
}

impl Subjects {
    /// What a verdict is about. Returns `None` for a run that passed.
    #[must_use]
    pub fn of(plan: &Plan, verdict: &Verdict) -> Option<Self> {
        let settings = &plan.nodes.first()?.settings;
        let mut subjects = Self {
            code: verdict.code()?.to_owned(),
            nodes: BTreeSet::new(),
            node: String::new(),
            processes: BTreeSet::new(),
            wal: Vec::new(),
            points: BTreeSet::new(),
            files: BTreeSet::new(),
            slots: BTreeSet::new(),
            blocks: Vec::new(),
            xids: BTreeSet::new(),
            at: Mono::default(),
            retention: RETENTION.contains(&verdict.code()?),
            hangs: matches!(verdict, Verdict::NoConvergence(_) | Verdict::Stuck(_)),
            geometry: settings.geometry,
        };
        match verdict {
            Verdict::Pass => return None,
            Verdict::Violation(it) | Verdict::NoConvergence(it) | Verdict::Stuck(it) => {
                subjects.node.clone_from(&it.node);
                subjects.at = it.at;
                subjects
                    .processes
                    .extend(it.process.map(|process| process.pid));
                let mut positions = Vec::new();
                let mut relation = None;
                for fact in &it.facts {
                    subjects.add(&fact.value, &mut positions, &mut relation);
                }
                subjects.points.extend(&positions);
                subjects.wal = near(&settings.geometry, positions);
            }
            Verdict::Panic {
                node, at, message, ..
            } => {
                let positions: Vec<Lsn> = positions_in(message).collect();
                subjects.points.extend(&positions);
                subjects.wal = near(&settings.geometry, positions);
                subjects.node.clone_from(node);
                subjects.at = *at;
            }
        }
        subjects.nodes.insert(subjects.node.clone());
        subjects.slots_of_nodes(plan);
        Some(subjects)
    }

    fn add(&mut self, value: &Value, positions: &mut Vec<Lsn>, relation: &mut Option<u32>) {
        match value {
            Value::Lsn(lsn) if lsn.is_valid() => positions.push(*lsn),
            Value::Lsn(_) => {}
            Value::File(path) => {
                if let Some(name) = path.strip_prefix("pg_wal/")
                    && let Some((_, segment)) = parse_segment_name(&self.geometry, name)
                {
                    positions.push(self.geometry.segment_start(segment));
                }
                self.files.insert(path.clone());
            }
            Value::Slot(name) => {
                self.slots.insert(name.clone());
            }
            Value::Node(name) => {
                self.nodes.insert(name.clone());
            }
            Value::Process(pid) => {
                self.processes.insert(*pid);
            }
            Value::Xid(xid) => {
                self.xids.insert(*xid);
            }
            Value::Relation(number) => *relation = Some(*number),
            Value::Block(block) => {
                if let Some(number) = relation {
                    let size = u64::from(self.geometry.data_page);
                    let start = u64::from(*block) * size;
                    let path = relation_path(*number);
                    self.blocks.push((path, start..start + size));
                }
            }
            Value::Role(_) | Value::Number(_) | Value::Time(_) | Value::Duration(_) => {}
            Value::Text(text) => positions.extend(positions_in(text)),
        }
    }

    /// Adds the slots of the nodes, because a node that waits for WAL depends on its slot. The WAL
    /// that a node keeps depends on all its slots.
    fn slots_of_nodes(&mut self, plan: &Plan) {
        if self.retention && self.slots.is_empty() {
            let nodes = plan.nodes.iter();
            let ours = nodes.filter(|node| node.name == self.node);
            self.slots.extend(ours.flat_map(|node| node.slots.clone()));
        }
        if self.hangs {
            let nodes = plan.nodes.iter();
            let ours = nodes.filter(|node| self.nodes.contains(&node.name));
            let slots = ours.map(|node| node.settings.primary_slot_name.clone());
            self.slots.extend(slots.filter(|name| !name.is_empty()));
        }
    }

    /// Whether a range of WAL overlaps WAL that the violation is about.
    #[must_use]
    pub fn has_wal(&self, range: &Range<Lsn>) -> bool {
        let overlaps = |of: &Range<Lsn>| of.start < range.end && range.start < of.end;
        self.wal.iter().any(overlaps)
    }

    /// Whether a position that changed from `from` to `to` passed WAL that the violation is about.
    #[must_use]
    pub fn passes(&self, from: Lsn, to: Lsn) -> bool {
        self.has_wal(&(from.min(to)..from.max(to)))
    }
}

/// The codes of invariants about slots and old WAL.
const RETENTION: [&str; 8] = [
    "RETAIN", "SLOT", "KEEP", "FILES", "MOVES", "DROP", "OWNER", "INVALID",
];

/// The positions in a text, such as a message of the server log.
pub(super) fn positions_in(text: &str) -> impl Iterator<Item = Lsn> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '/');
    words.filter_map(|word| {
        let (high, low) = word.split_once('/')?;
        let is_hex = |part: &str| {
            (1..=8).contains(&part.len()) && part.chars().all(|c| c.is_ascii_hexdigit())
        };
        (is_hex(high) && is_hex(low)).then(|| word.parse().ok())?
    })
}

/// Returns one range from the lowest to the highest position if all positions are within one
/// segment. Otherwise returns one range for each position. A range also includes the byte before a
/// position, because the position may be the end of a record.
fn near(geometry: &Geometry, positions: Vec<Lsn>) -> Vec<Range<Lsn>> {
    let around = |from: Lsn, to: Lsn| Lsn(from.0.saturating_sub(1))..Lsn(to.0.saturating_add(1));
    let (Some(low), Some(high)) = (positions.iter().min(), positions.iter().max()) else {
        return Vec::new();
    };
    if high.0 - low.0 <= u64::from(geometry.segment) {
        return vec![around(*low, *high)];
    }
    positions.iter().map(|at| around(*at, *at)).collect()
}
