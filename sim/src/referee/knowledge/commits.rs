//! The acknowledged commits of each node, with the ends of their commit records.

use crate::referee::Step;
use std::collections::{BTreeMap, VecDeque};
use walsim_core::base::{ConnId, Lsn, Xid};
use walsim_core::call::{Effect, NetOp};

/// A transaction and the end of its commit record.
pub type Committed = (Xid, Lsn);

/// The commits of one node.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Commits {
    /// For each connection: its last commit, and its commits that the server has not acknowledged
    /// yet.
    sessions: BTreeMap<ConnId, (Committed, VecDeque<Committed>)>,
    acknowledged: Vec<Committed>,
}

impl Commits {
    pub(super) fn acknowledged(&self) -> &[Committed] {
        &self.acknowledged
    }

    /// Called when the server has stopped. The server can no longer acknowledge pending commits.
    pub(super) fn gone(&mut self) {
        self.sessions.clear();
    }

    /// Records the commits of a backend that has made a step.
    pub(super) fn step(&mut self, step: &Step<'_>) {
        for (_, effect) in &step.effects.0 {
            if let Effect::Net(conn, NetOp::Send(_)) = effect
                && let Some(commit) = step.view.last_commit(*conn)
            {
                self.committed(*conn, commit);
            }
        }
    }

    pub(super) fn committed(&mut self, conn: ConnId, commit: Committed) {
        let (last, pending) = self.sessions.entry(conn).or_default();
        if *last != commit {
            *last = commit;
            pending.push_back(commit);
        }
    }

    /// Called when a client has received an acknowledgment, which belongs to the oldest
    /// unacknowledged commit of the connection.
    pub(super) fn acked(&mut self, conn: ConnId, synchronous: bool) {
        if let Some((_, pending)) = self.sessions.get_mut(&conn)
            && let Some(commit) = pending.pop_front()
            && synchronous
        {
            self.acknowledged.push(commit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId {
        incarnation: 0,
        n: 7,
    };
    const COMMIT: Committed = (Xid(5), Lsn(2000));

    #[test]
    fn a_commit_counts_once_its_client_was_told_of_it() {
        let mut commits = Commits::default();
        commits.committed(CONN, COMMIT);
        commits.committed(CONN, COMMIT);
        assert_eq!(commits.acknowledged(), []);
        commits.acked(CONN, true);
        assert_eq!(commits.acknowledged(), [COMMIT]);
        commits.acked(CONN, true);
        assert_eq!(commits.acknowledged(), [COMMIT], "told once");
    }

    #[test]
    fn asynchronous_and_unknown_outcomes_promise_nothing() {
        let mut commits = Commits::default();
        commits.committed(CONN, COMMIT);
        commits.acked(CONN, false);
        commits.committed(CONN, (Xid(6), Lsn(2100)));
        commits.gone();
        commits.acked(CONN, true);
        assert_eq!(commits.acknowledged(), []);
    }
}
