//! Two states in which a server of PostgreSQL stays stuck. The operator must then stop the server.

use super::{Excuse, Part};
use crate::plan::ShutdownMode;
use crate::world::World;
use walsim_core::base::{PgVersion, Pid};
use walsim_core::call::Place;
use walsim_core::node::{PmState, ProcessView};
use walsim_core::shmem::Role;

/// After faults and workload have stopped, the simulator repeatedly looks for servers that are
/// stuck in a shutdown, or that have ignored a crash. A server that is found this many times in a
/// row counts as stuck.
const LOOKS: u32 = 3;

impl World {
    /// Stops the servers that are stuck in a shutdown, or that have ignored a crash.
    pub(in crate::world) fn end_hung_servers(&mut self) {
        for host in 0..self.hosts.len() {
            let excuse = self
                .hangs_in_shutdown(host)
                .then_some(Excuse::ShutdownInCrashRestart)
                .or_else(|| {
                    self.lives_on_after_a_crash(host)
                        .then_some(Excuse::CrashPassedOver)
                });
            let looks = &mut self.hung_looks[host];
            *looks = if excuse.is_some() { *looks + 1 } else { 0 };
            if let Some(excuse) = excuse
                && *looks >= LOOKS
            {
                *looks = 0;
                self.excuses.add(excuse);
                self.emit(Some(host), format!("operator: {}", excuse.name()));
                self.shut_down(host, ShutdownMode::Immediate);
            }
        }
    }

    /// Whether the server is stuck in a shutdown that was requested in a crash restart, before redo
    /// started. The server then waits for a checkpointer that no process has told to exit:
    /// docs/hazards/shutdown-in-crash-restart.md.
    fn hangs_in_shutdown(&self, host: usize) -> bool {
        let Some(node) = &self.hosts[host].node else {
            return false;
        };
        let view = node.view();
        let left = |process: ProcessView| {
            let idle = process.at == Place::CheckpointerMain;
            process.role == Role::Postmaster || process.role == Role::Checkpointer && idle
        };
        let excuse = Excuse::ShutdownInCrashRestart;
        self.part(excuse, Part::Witness, || {
            view.postmaster_state() == Some(PmState::WaitBackends) && view.processes().all(left)
        }) && self.part(excuse, Part::Cause, || {
            self.causes.was_shut_down_in_restart(host)
        })
    }

    /// Whether the server has ignored the crash of a child and continues. Since 16 this happens if
    /// the postmaster reaps the child before it has read the report that redo has started. Locks
    /// that the dead child held stay held in shared memory: docs/hazards/crash-ignored.md.
    fn lives_on_after_a_crash(&self, host: usize) -> bool {
        let Some(node) = &self.hosts[host].node else {
            return false;
        };
        let view = node.view();
        let version = view.shmem().settings.pg_version;
        let excuse = Excuse::CrashPassedOver;
        let is_dead = |pid: &Pid| view.process(*pid).is_none();
        let dead = || view.shmem().locks.holders().filter(is_dead);
        self.part(excuse, Part::Witness, || {
            view.postmaster_state() == Some(PmState::Run) && dead().next().is_some()
        }) && self.part(excuse, Part::Cause, || {
            version >= PgVersion::V16 && dead().all(|pid| self.causes.crashed_in_restart(host, pid))
        })
    }
}
