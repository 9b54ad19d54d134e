//! XID: a transaction stays in the set of running transactions until its commit status is set.

use crate::referee::{About, Check, Knowledge, PerNode, Promise, Ruling, Site, Step, Subscription};
use walsim_core::base::{Pid, Xid};
use walsim_core::call::{Effect, Effects, Exit};
use walsim_core::shmem::{Role, XactStatus};

const ABOUT: About = About {
    code: "XID",
    promise: Promise::Safety,
    statement: "A transaction is removed from the set of running transactions only after its \
              commit status has been set.",
    details: "When a transaction on a primary is no longer in the set of running transactions, \
              the CLOG buffers must show it as committed or aborted.",
    notes: &[
        "While a transaction waits for a synchronous standby, it is committed but may still be in \
         the set of running transactions.",
        "A process that is killed or aborts is not checked, because the whole server restarts \
         afterwards.",
        "On a standby the known assigned transaction IDs are not checked. RUNNING_XACTS prunes \
         them.",
    ],
    source: "ProcArrayEndTransaction is called after TransactionIdCommitTree and \
              TransactionIdAbortTree: CommitTransaction, AbortTransaction (xact.c). Other \
              processes first check whether a transaction runs, and then check its status",
};

const SUBSCRIPTIONS: [Subscription; 1] = [Subscription::Step(&[Role::Backend])];

/// The running transactions of each node.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct XidVisibility {
    nodes: PerNode<Vec<(Pid, Xid)>>,
}

impl Check for XidVisibility {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn after_step(&mut self, step: &Step<'_>, _: &Knowledge) -> Ruling {
        let Some((pid, _)) = step.ran else {
            return Ok(());
        };
        let shmem = step.view.shmem();
        let now = shmem.procs.get(pid).map(|proc| proc.xid);
        let running = self.nodes.of(step.site.host);
        let Some(left) = advance(running, pid, now.unwrap_or_default()) else {
            return Ok(());
        };
        // Forgets the transactions of processes that were killed, and of servers that have stopped.
        running.retain(|(pid, _)| shmem.procs.get(*pid).is_some());
        if now.is_none() && is_killed(step.effects, pid) {
            return Ok(());
        }
        let page_size = shmem.settings.geometry.data_page;
        ended(step.site, left, shmem.clog.status(left, page_size))
    }
}

/// Records the transaction that the process runs now. Returns the transaction that it ran before,
/// if that one has ended.
fn advance(running: &mut Vec<(Pid, Xid)>, pid: Pid, now: Xid) -> Option<Xid> {
    let at = running.iter().position(|(owner, _)| *owner == pid);
    let before = at.map_or(Xid::INVALID, |at| running[at].1);
    if before == now {
        return None;
    }
    match at {
        Some(at) if !now.is_valid() => _ = running.swap_remove(at),
        Some(at) => running[at].1 = now,
        None => running.push((pid, now)),
    }
    before.is_valid().then_some(before)
}

/// Whether the process exited in a way that causes a crash restart.
fn is_killed(effects: &Effects, pid: Pid) -> bool {
    effects.0.iter().any(|(who, effect)| {
        let Effect::Exit(exit) = effect else {
            return false;
        };
        *who == pid
            && match exit {
                Exit::Panic(_) | Exit::Quit | Exit::Killed => true,
                Exit::Normal | Exit::Fatal(_) | Exit::Silent => false,
            }
    })
}

fn ended(site: Site<'_>, xid: Xid, status: Option<XactStatus>) -> Ruling {
    if matches!(status, Some(XactStatus::Committed | XactStatus::Aborted)) {
        return Ok(());
    }
    let message = "a transaction is no longer running, but its status has not been set";
    Err(site.violation(
        ABOUT.code,
        message,
        &[("transaction", &xid), ("status", &status)],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::SITE;
    use walsim_core::call::{LogEvent, Message, SqlState};

    #[test]
    fn a_transaction_is_seen_to_leave() {
        let pids = [Pid::postmaster(1), Pid::postmaster(2)];
        let mut running = Vec::new();
        assert_eq!(advance(&mut running, pids[0], Xid::INVALID), None);
        assert_eq!(advance(&mut running, pids[0], Xid(5)), None);
        assert_eq!(advance(&mut running, pids[1], Xid(6)), None);
        assert_eq!(advance(&mut running, pids[0], Xid(5)), None);
        assert_eq!(advance(&mut running, pids[0], Xid::INVALID), Some(Xid(5)));
        assert_eq!(advance(&mut running, pids[1], Xid(7)), Some(Xid(6)));
        assert_eq!(running, [(pids[1], Xid(7))]);
    }

    #[test]
    fn its_status_is_set_by_then() {
        for (status, is_good) in [
            (Some(XactStatus::Committed), true),
            (Some(XactStatus::Aborted), true),
            (Some(XactStatus::InProgress), false),
            (None, false),
        ] {
            assert_eq!(ended(SITE, Xid(5), status).is_ok(), is_good, "{status:?}");
        }
    }

    /// A backend that aborts causes a crash restart, and its transaction never gets a commit
    /// status.
    #[test]
    fn a_killed_process_sets_no_status() {
        let pid = Pid::postmaster(1);
        let event = LogEvent::panic(SqlState::INTERNAL, Message::CheckpointFailed);
        for (exit, killed) in [
            (Exit::Panic(event.clone()), true),
            (Exit::Quit, true),
            (Exit::Fatal(event), false),
            (Exit::Normal, false),
        ] {
            let mut effects = Effects::default();
            effects.push(pid, Effect::Exit(exit));
            assert_eq!(is_killed(&effects, pid), killed);
        }
    }
}
