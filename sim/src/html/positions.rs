//! The WAL positions of the nodes over time, reduced to what a chart can show.

use super::axis::Axis;
use crate::plan::Plan;
use crate::trace::{Act, TraceEvent};
use std::collections::BTreeMap;
use walsim_core::base::Lsn;

/// The positions of all nodes.
#[derive(Debug)]
pub(super) struct Positions {
    pub(super) axis: Axis,
    /// For each node, the series of each position.
    pub(super) nodes: Vec<(String, BTreeMap<SeriesName, Series>)>,
    /// For each process, the node to which it last sent a message. The key is the node and id of
    /// the process.
    peers: BTreeMap<(String, String), String>,
}

/// The name of a position, and the slot or standby to which the position belongs. The second text
/// is empty for other positions.
pub(super) type SeriesName = (&'static str, String);

/// One position over time.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Series {
    /// The x coordinates and values of changes, ascending in x. Of several changes at one x the
    /// last is kept. 0 is no position.
    pub(super) points: Vec<(i64, Lsn)>,
    /// The last value that is a position.
    pub(super) last: Lsn,
    /// The slot was invalidated, so `last` is no position that it has.
    pub(super) invalidated: bool,
}

impl Positions {
    pub(super) fn new(plan: &Plan, axis: Axis) -> Self {
        let nodes = plan.nodes.iter();
        let nodes = nodes.map(|node| (node.name.clone(), BTreeMap::new()));
        Self {
            axis,
            nodes: nodes.collect(),
            peers: BTreeMap::new(),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "events of other kinds change no position"
    )]
    pub(super) fn hear(&mut self, event: &TraceEvent) {
        let Some((_, all)) = self.nodes.iter_mut().find(|(name, _)| *name == event.node) else {
            return;
        };
        let x = self.axis.x(event.at.0);
        match &event.act {
            Act::Position { what, of, to, .. } => {
                // The walsenders of one standby, one after the other, share a series.
                let of = match self.peers.get(&(event.node.clone(), of.clone())) {
                    Some(peer) if *what != "restart_lsn" => peer.clone(),
                    Some(_) | None => of.clone(),
                };
                let series = all.entry((what, of)).or_default();
                series.add(x, *to);
                series.invalidated = *what == "restart_lsn" && !to.is_valid();
            }
            Act::Send { peer, .. } => {
                if let Some(process) = event.process {
                    let key = (event.node.clone(), process.pid.to_string());
                    self.peers.insert(key, peer.clone());
                }
            }
            // While a server is down, it has no positions.
            Act::World { text } if is_end(text) => {
                all.values_mut()
                    .for_each(|series| series.add(x, Lsn::INVALID));
            }
            _ => {}
        }
    }

    /// The lowest and highest position of all nodes.
    pub(super) fn bounds(&self) -> Option<(Lsn, Lsn)> {
        let series = self.nodes.iter().flat_map(|(_, all)| all.values());
        let points = series.flat_map(|series| &series.points);
        let valid = || {
            points
                .clone()
                .map(|point| point.1)
                .filter(|lsn| lsn.is_valid())
        };
        valid().min().zip(valid().max())
    }
}

/// Whether a line of the world says that a server has ended.
pub(super) fn is_end(text: &str) -> bool {
    text == "server stopped" || text == "all processes killed" || text.starts_with("power loss: ")
}

impl Series {
    /// The position at the end, as text.
    pub(super) fn value(&self) -> String {
        match self.invalidated {
            true => format!("invalidated (was {})", self.last),
            false => self.last.to_string(),
        }
    }

    fn add(&mut self, x: i64, lsn: Lsn) {
        if lsn.is_valid() {
            self.last = lsn;
        }
        match self.points.last_mut() {
            Some(last) if last.0 == x => last.1 = lsn,
            Some(last) if last.1 == lsn => {}
            _ => self.points.push((x, lsn)),
        }
    }
}
