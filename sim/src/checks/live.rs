//! A part of LIVE: if the startup process requests a walreceiver, the postmaster starts it within a
//! second.
//!
//! The startup process gives up a request after ten seconds and makes a new one. The cluster would
//! therefore converge even if a request were lost. `world::quiescence` checks that all nodes
//! converge.

use crate::referee::{
    About, Check, Evidence, Knowledge, PerNode, Promise, Ruling, Step, Subscription, Value,
};
use walsim_core::base::Mono;
use walsim_core::node::PmState;
use walsim_core::shmem::{Role, WalRcvState};

const ABOUT: About = About {
    code: "LIVE",
    promise: Promise::Liveness,
    statement: "After all faults have stopped, every standby catches up with the primary within a \
              time limit.",
    details: "At the end of a run, the simulator stops all faults and the workload. Within a time \
              limit, every node must run, and every standby must stream and have replayed all WAL \
              that the primary has flushed. Then the primary writes one more record, which every \
              standby must replay too.",
    notes: &[
        "The time limit is 3 x (largest timeout + wal_retrieve_retry_interval + 10 s) + amount of \
         WAL / network bandwidth + sum of the backward jumps of wall clocks.",
        "A standby that is stuck for a legal reason is excused. The operator repairs the standby, \
         which must then catch up.",
        "A standby is stuck if its upstream has refused its requests, or if the standby has \
         reached the same end of WAL three times.",
        "A legal reason is an event of the run that explains why the standby is stuck. For \
         example, an operator dropped its slot.",
        "During the whole run, a walreceiver must start within one second after the startup \
         process has requested it. A delay is legal while one of the processes is paused, or while \
         the postmaster is not in recovery.",
        "A run that violates only LIVE ends with exit status 3.",
    ],
    source: "RequestXLogStreaming (walreceiverfuncs.c) sends a request to the postmaster, which \
              starts a walreceiver as soon as its state allows: MaybeStartWalReceiver \
              (postmaster.c). After the end of a stream WaitForWALToBecomeAvailable always tries \
              again (xlogrecovery.c)",
};

const SUBSCRIPTIONS: [Subscription; 1] = [Subscription::EveryStep];

/// The maximum time from the request to the start of the walreceiver.
const BOUND_US: u64 = 1_000_000;

/// For each node, how often the server has been started, and since when a request for a walreceiver
/// has been open without a legal reason.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Live {
    asked: PerNode<Option<(u32, Mono)>>,
}

impl Check for Live {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn after_step(&mut self, step: &Step<'_>, _: &Knowledge) -> Ruling {
        let open = step.view.shmem().walrcv.state == WalRcvState::Starting;
        let asked = self.asked.of(step.site.host);
        if !open || is_excused(step) {
            *asked = None;
            return Ok(());
        }
        let boot = step.site.boot;
        let (_, since) = match *asked {
            Some(asked) if asked.0 == boot => asked,
            Some(_) | None => *asked.insert((boot, step.site.now)),
        };
        let waited = step.site.now - since;
        if waited <= BOUND_US {
            return Ok(());
        }
        let state = step.view.postmaster_state().unwrap_or(PmState::Init);
        let message = "a walreceiver was requested, but none was started";
        let facts: [(&str, &dyn Evidence); 3] = [
            ("requested at", &since),
            ("waited", &Value::Duration(waited)),
            ("postmaster", &state),
        ];
        Err(step.site.violation(ABOUT.code, message, &facts))
    }
}

/// Whether a delay is legal. The postmaster starts walreceivers only during recovery, and a paused
/// or stalled process may be late.
fn is_excused(step: &Step<'_>) -> bool {
    let recovering = matches!(
        step.view.postmaster_state(),
        Some(PmState::Startup | PmState::Recovery | PmState::HotStandby)
    );
    let takes_part = |role| matches!(role, Role::Postmaster | Role::Startup | Role::WalReceiver);
    let mut processes = step.view.processes();
    !recovering || step.held || processes.any(|process| process.stopped && takes_part(process.role))
}
