//! LOCAL: a commit that a node acknowledged is committed on that node after every later recovery of it, and on every
//! standby that has replayed it. No transaction id that was used is given out again.

use super::ledger::Ledger;
use super::{Judged, Known, Scene};
use crate::world::Violation;
use std::collections::{BTreeMap, VecDeque};
use walsim_core::base::{ConnId, Lsn, Xid};
use walsim_core::call::{Effect, NetOp};
use walsim_core::node::PmState;
use walsim_core::shmem::{Clog, Role, XactStatus};

const CODE: &str = "LOCAL";

/// Pages in a file of commit status (`SLRU_PAGES_PER_SEGMENT`).
const PAGES_PER_FILE: u32 = 32;

/// A transaction and the end of its commit record.
type Committed = (Xid, Lsn);

/// What was promised to whom.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Local {
    nodes: Vec<Promises>,
}

#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Promises {
    /// Commits by connection: the last one seen, and those that are not yet acknowledged.
    sessions: BTreeMap<ConnId, (Committed, VecDeque<Committed>)>,
    acknowledged: Vec<Committed>,
    running: bool,
}

impl Local {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            nodes: vec![Promises::default(); nodes],
        }
    }

    /// A server is gone: what it has not acknowledged yet it never will.
    pub(super) fn forget(&mut self, host: usize) {
        self.nodes[host].sessions.clear();
        self.nodes[host].running = false;
    }

    pub(super) fn after_step(
        &mut self,
        scene: &Scene<'_>,
        ledger: &Ledger,
        known: &Known,
    ) -> Result<(), Violation> {
        let promises = &mut self.nodes[scene.host];
        match scene.ran {
            Some((_, Role::Backend)) => {
                for (_, effect) in &scene.effects.0 {
                    if let Effect::Net(conn, NetOp::Send(_)) = effect
                        && let Some(commit) = scene.view.last_commit(*conn)
                    {
                        promises.committed(*conn, commit);
                    }
                }
                Ok(())
            }
            Some((_, Role::Postmaster)) => {
                let running = scene.view.postmaster_state() == Some(PmState::Run);
                let recovered = running && !promises.running;
                promises.running = running;
                if !recovered {
                    return Ok(());
                }
                let (site, shmem, disk) = (scene.site(), scene.view.shmem(), scene.disk);
                let node = Judged {
                    site,
                    shmem,
                    disk,
                    end: known.wal,
                };
                self.recovered(scene.host, node, ledger.highest_xid())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A client was told that the oldest commit of its connection succeeded.
    pub(super) fn acked(&mut self, host: usize, conn: ConnId, synchronous: bool) {
        let promises = &mut self.nodes[host];
        if let Some((_, pending)) = promises.sessions.get_mut(&conn)
            && let Some(commit) = pending.pop_front()
            && synchronous
        {
            promises.acknowledged.push(commit);
        }
    }

    /// A node has finished its recovery.
    fn recovered(&self, host: usize, node: Judged<'_>, logged: Xid) -> Result<(), Violation> {
        for commit in &self.nodes[host].acknowledged {
            kept(node, *commit)?;
        }
        let acknowledged = self.nodes[host]
            .acknowledged
            .iter()
            .map(|(xid, _)| *xid)
            .max();
        let highest = logged.max(acknowledged.unwrap_or_default());
        let next = node.shmem.next_xid;
        if next > highest {
            return Ok(());
        }
        let message = "a transaction id that was used before recovery is given out again";
        let facts: [(&str, &dyn std::fmt::Display); 2] = [("next", &next), ("used", &highest)];
        Err(node.site.violation(CODE, message, &facts))
    }

    /// The last look: nodes in the order of the plan.
    pub(super) fn at_end(&self, nodes: &[Judged<'_>]) -> Result<(), Violation> {
        for commit in self
            .nodes
            .iter()
            .flat_map(|promises| &promises.acknowledged)
        {
            for node in nodes {
                kept(*node, *commit)?;
            }
        }
        Ok(())
    }
}

impl Promises {
    fn committed(&mut self, conn: ConnId, commit: Committed) {
        let (last, pending) = self.sessions.entry(conn).or_default();
        if *last != commit {
            *last = commit;
            pending.push_back(commit);
        }
    }
}

fn kept(node: Judged<'_>, (xid, lsn): Committed) -> Result<(), Violation> {
    let status = status(node, xid);
    if status == Some(XactStatus::Committed) && lsn <= node.end {
        return Ok(());
    }
    let found = status.map_or_else(|| String::from("unknown"), |status| format!("{status:?}"));
    let message = if lsn > node.end {
        "the WAL of an acknowledged commit is gone"
    } else {
        "an acknowledged commit is not committed any more"
    };
    Err(node.site.violation(
        CODE,
        message,
        &[
            ("transaction", &xid),
            ("commit", &lsn),
            ("status", &found),
            ("end of WAL", &node.end),
        ],
    ))
}

/// The status of a transaction, in memory or else on disk.
fn status(node: Judged<'_>, xid: Xid) -> Option<XactStatus> {
    let page_size = node.shmem.settings.geometry.data_page;
    if let Some(status) = node.shmem.clog.status(xid, page_size) {
        return Some(status);
    }
    let page = Clog::page_of(xid, page_size);
    let path = format!("pg_xact/{:04X}", page / PAGES_PER_FILE);
    let in_page = xid.0 % (page_size * 4);
    let offset = u64::from(page % PAGES_PER_FILE) * u64::from(page_size) + u64::from(in_page / 4);
    let byte = *node.disk.read_cached(&path, offset, 1)?.first()?;
    Some(match byte >> (in_page % 4 * 2) & 3 {
        0 => XactStatus::InProgress,
        1 => XactStatus::Committed,
        2 => XactStatus::Aborted,
        _ => XactStatus::SubCommitted,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{SITE, disk, shmem};
    use super::*;
    use crate::disk::Content;

    const CONN: ConnId = ConnId {
        incarnation: 0,
        n: 7,
    };

    fn promised(synchronous: bool) -> Local {
        let mut local = Local::new(1);
        local.nodes[0].committed(CONN, (Xid(5), Lsn(2000)));
        local.nodes[0].committed(CONN, (Xid(5), Lsn(2000)));
        local.acked(0, CONN, synchronous);
        local.acked(0, CONN, synchronous);
        local
    }

    fn judge(local: &Local, byte: u8, end: u64, next: u32) -> Result<(), String> {
        let mut disk = disk();
        disk.set_up_file("pg_xact/0000", Content::new(&[0, byte]));
        let mut shmem = shmem();
        shmem.next_xid = Xid(next);
        let node = Judged {
            site: SITE,
            shmem: &shmem,
            disk: &disk,
            end: Lsn(end),
        };
        local
            .recovered(0, node, Xid(5))
            .map_err(|violation| violation.message)
    }

    #[test]
    fn an_acknowledged_commit_survives_recovery() {
        let local = promised(true);
        let committed = 1 << 2;
        assert_eq!(judge(&local, committed, 2000, 6), Ok(()));
        assert!(
            judge(&local, 0, 2000, 6)
                .unwrap_err()
                .contains("not committed")
        );
        assert!(
            judge(&local, 2 << 2, 2000, 6)
                .unwrap_err()
                .contains("not committed")
        );
        assert!(
            judge(&local, committed, 1999, 6)
                .unwrap_err()
                .contains("gone")
        );
        assert!(
            judge(&local, committed, 2000, 5)
                .unwrap_err()
                .contains("again")
        );
    }

    #[test]
    fn what_nobody_was_told_may_be_lost() {
        assert_eq!(judge(&promised(false), 0, 0, 6), Ok(()));
        let mut unknown = Local::new(1);
        unknown.nodes[0].committed(CONN, (Xid(5), Lsn(2000)));
        unknown.forget(0);
        unknown.acked(0, CONN, true);
        assert_eq!(judge(&unknown, 0, 0, 6), Ok(()));
    }
}
