//! Spans and events of `tracing`, for programs that embed the simulator.
//!
//! A run is a span with its seed, and each start of a server is a span within it. Faults, actions
//! of operators, log lines and violations are events. Nothing here influences a run. Without a
//! subscriber, the cost of an event is one comparison.

use super::World;
use crate::plan::{Plan, show_seed};
use crate::referee::Violation;
use std::hash::{Hash, Hasher};
use tracing::Span;
use walsim_core::base::{Mono, Pid};
use walsim_core::call::{LogEvent, Severity};

/// The spans of a run. They are not a part of the state of the world, so that two worlds with
/// different spans can be equal.
#[derive(Clone, Debug)]
pub(super) struct Spans {
    run: Span,
    /// For each node, the span of the server that runs.
    servers: Vec<Span>,
}

impl PartialEq for Spans {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Spans {}

impl Hash for Spans {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Spans {
    pub(super) fn new(plan: &Plan) -> Self {
        let seed = show_seed(plan.seed);
        Self {
            run: tracing::info_span!("run", %seed),
            servers: vec![Span::none(); plan.nodes.len()],
        }
    }

    /// Called when a server is started. `start` counts the starts of the node's servers.
    pub(super) fn starts(&mut self, host: usize, node: &str, start: u32) {
        self.servers[host] = tracing::info_span!(parent: &self.run, "server", node, start);
    }

    /// Called when a server has stopped.
    pub(super) fn stops(&mut self, host: usize) {
        self.servers[host] = Span::none();
    }

    /// Emits an event for a line of the server log.
    pub(super) fn log(&self, host: usize, at: Mono, pid: Pid, event: &LogEvent) {
        let (server, at_us) = (&self.servers[host], at.0);
        match event.severity {
            Severity::Log => {
                tracing::info!(target: "walsim::log", parent: server, at_us, %pid, "{event}");
            }
            Severity::Warning => {
                tracing::warn!(target: "walsim::log", parent: server, at_us, %pid, "{event}");
            }
            Severity::Error | Severity::Fatal | Severity::Panic => {
                tracing::error!(target: "walsim::log", parent: server, at_us, %pid, "{event}");
            }
        }
    }

    /// Emits an event for a fault, an action of an operator, or a start or stop of a server.
    pub(super) fn world(&self, host: Option<(usize, &str)>, at: Mono, text: &str) {
        let (node, at_us) = (host.map_or("", |(_, name)| name), at.0);
        tracing::info!(target: "walsim::world", parent: &self.run, at_us, node, "{text}");
    }

    pub(super) fn violation(&self, violation: &Violation) {
        let (at_us, node) = (violation.at.0, violation.node.as_str());
        let (invariant, text) = (violation.code, &violation.message);
        tracing::error!(
            target: "walsim::violation", parent: &self.run, at_us, node, invariant, "{text}"
        );
    }
}

impl World {
    /// Emits a fault, an action of an operator, a start or stop of a server, or another main event
    /// of the run: to the trace, and as an event of `tracing`.
    pub(super) fn emit(&mut self, host: Option<usize>, text: impl Into<String>) {
        let text = text.into();
        self.record_world(host, &text);
        let named = host.map(|host| (host, self.hosts[host].plan.name.as_str()));
        self.spans.world(named, self.now, &text);
    }
}
