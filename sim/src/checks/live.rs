//! LIVE, its part about one hand-over: a walreceiver that the startup process asks for is there
//! within a second.
//!
//! The bound of a whole run would forgive a lost request: the startup process gives a launch up
//! after ten seconds and asks again. That all nodes converge in the quiescent phase is the world's
//! own business.

use crate::referee::{About, Check, Knowledge, PerNode, Promise, Ruling, Step, Subscription};
use std::fmt::Display;
use walsim_core::base::Mono;
use walsim_core::node::PmState;
use walsim_core::shmem::{Role, WalRcvState};

const ABOUT: About = About {
    code: "LIVE",
    promise: Promise::Liveness,
    statement: "Once faults have stopped, every node converges within a bound.",
    details: "Every node runs, every standby streams, and what it replayed equals the primary's flush. The bound\n\
              is 3 x (largest timeout + wal_retrieve_retry_interval + 10 s) + backlog / slowest link + the sum of\n\
              the backward jumps of wall clocks. A standby that cannot return by itself is excused if the run has a\n\
              witness, it asked and was refused with that very error or came to the same end of WAL three times,\n\
              and a cause, the legal act behind it. An operator then helps: makes the slot again, restarts or\n\
              rebuilds the standby; and it is judged again. At the end one more record is written, which every\n\
              standby has to replay.\n\
              A single hand-over, from the request for a walreceiver to a started one, takes a second at most\n\
              while nobody who takes part in it is paused. A run that fails LIVE alone ends with status 3.",
    source: "RequestXLogStreaming (walreceiverfuncs.c) asks the postmaster, which starts a walreceiver as soon as it may:\n\
             MaybeStartWalReceiver (postmaster.c); whatever ends a stream, WaitForWALToBecomeAvailable tries again",
};

const SUBSCRIPTIONS: [Subscription; 1] = [Subscription::EveryStep];

/// From the request to a walreceiver that has begun.
const BOUND_US: u64 = 1_000_000;

/// Since when a request is open that nothing excuses, and in which run of the server.
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
        let ms = format!("{} ms", waited / 1000);
        let state = format!("{:?}", step.view.postmaster_state());
        let message = "a walreceiver was requested, but none was started";
        let facts: [(&str, &dyn Display); 3] = [
            ("asked at", &since),
            ("waited", &ms),
            ("postmaster", &state),
        ];
        Err(step.site.violation(ABOUT.code, message, &facts))
    }
}

/// A postmaster that is not recovering starts none, and a process that is paused is late through no
/// fault of its own.
fn is_excused(step: &Step<'_>) -> bool {
    let recovering = matches!(
        step.view.postmaster_state(),
        Some(PmState::Startup | PmState::Recovery | PmState::HotStandby)
    );
    let takes_part = |role| matches!(role, Role::Postmaster | Role::Startup | Role::WalReceiver);
    let mut processes = step.view.processes();
    !recovering || step.held || processes.any(|process| process.stopped && takes_part(process.role))
}
