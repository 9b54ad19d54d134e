//! LIVE, its part about one hand-over: a walreceiver that the startup process asks for is there within a second.
//!
//! The bound of a whole run would forgive a lost request: the startup process gives a launch up after ten seconds and
//! asks again.

use super::Scene;
use crate::world::Violation;
use walsim_core::base::Mono;
use walsim_core::node::PmState;
use walsim_core::shmem::{Role, WalRcvState};

const CODE: &str = "LIVE";
/// From the request to a walreceiver that has begun.
const BOUND_US: u64 = 1_000_000;

/// Per node: since when a request is open that nothing excuses.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Handover {
    asked: Vec<Option<Mono>>,
}

impl Handover {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            asked: vec![None; nodes],
        }
    }

    /// A server is gone, or new.
    pub(super) fn forget(&mut self, host: usize) {
        self.asked[host] = None;
    }

    pub(super) fn after_step(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        let open = scene.view.shmem().walrcv.state == WalRcvState::Starting;
        let since = &mut self.asked[scene.host];
        if !open || is_excused(scene) {
            *since = None;
            return Ok(());
        }
        let since = *since.get_or_insert(scene.now);
        let waited = scene.now - since;
        if waited <= BOUND_US {
            return Ok(());
        }
        let ms = format!("{} ms", waited / 1000);
        let state = format!("{:?}", scene.view.postmaster_state());
        let message = "a walreceiver was asked for, and none was started";
        let facts: [(&str, &dyn std::fmt::Display); 3] = [
            ("asked at", &since),
            ("waited", &ms),
            ("postmaster", &state),
        ];
        Err(scene.site().violation(CODE, message, &facts))
    }
}

/// Nobody is started by a postmaster that is not recovering, and whoever is paused is late through no fault of its own.
fn is_excused(scene: &Scene<'_>) -> bool {
    let recovering = matches!(
        scene.view.postmaster_state(),
        Some(PmState::Startup | PmState::Recovery | PmState::HotStandby)
    );
    let takes_part = |role| matches!(role, Role::Postmaster | Role::Startup | Role::WalReceiver);
    let mut processes = scene.view.processes();
    !recovering
        || scene.held
        || processes.any(|process| process.stopped && takes_part(process.role))
}
