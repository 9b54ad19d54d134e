//! The positions of a node's walsenders and walreceiver in shared memory.

use crate::referee::Step;
use std::collections::BTreeMap;
use walsim_core::base::{Lsn, Pid, TimelineId};

/// The positions of one node after the last step.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Streams {
    /// For each walsender, the position up to which it has sent WAL and the positions that its
    /// standby reported last.
    senders: BTreeMap<Pid, (Lsn, Reported)>,
    received: Received,
}

/// The state of the walreceiver in shared memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Received {
    /// `flushedUpto`
    pub upto: Lsn,
    /// The startup process has requested a walreceiver: `receiveStart` is valid.
    pub asked: bool,
    /// `receivedTLI`
    pub tli: TimelineId,
}

/// The progress of a walsender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The walsender.
    pub pid: Pid,
    /// The sent position before the step. This is invalid if the walsender has sent nothing before.
    pub from: Lsn,
    /// The sent position after the step.
    pub to: Lsn,
}

/// The positions that a standby reported to its walsender.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Reported {
    /// `WalSnd->write`
    pub write: Lsn,
    /// `WalSnd->flush`
    pub flush: Lsn,
    /// `WalSnd->apply`
    pub apply: Lsn,
}

impl Streams {
    /// The sent position of a walsender.
    pub(super) fn sent(&self, pid: Pid) -> Lsn {
        self.senders.get(&pid).map_or(Lsn::INVALID, |it| it.0)
    }

    pub(super) fn follow_sender(
        &mut self,
        step: &Step<'_>,
        pid: Pid,
    ) -> (Option<Sent>, Option<Reported>) {
        let entries = &step.view.shmem().walsnd;
        let Some(entry) = entries.iter().find(|entry| entry.pid == Some(pid)) else {
            return (None, None);
        };
        let (write, flush, apply) = (entry.write, entry.flush, entry.apply);
        let reported = Reported {
            write,
            flush,
            apply,
        };
        let now = (entry.sent, reported);
        let (from, before) = self.senders.insert(pid, now).unwrap_or_default();
        let to = entry.sent;
        let sent = (from != to).then_some(Sent { pid, from, to });
        (sent, (before != reported).then_some(reported))
    }

    pub(super) fn follow_receiver(&mut self, step: &Step<'_>) -> Option<(Received, Received)> {
        let walrcv = &step.view.shmem().walrcv;
        let now = Received {
            upto: walrcv.flushed_upto,
            asked: walrcv.receive_start.is_valid(),
            tli: walrcv.received_tli,
        };
        let before = std::mem::replace(&mut self.received, now);
        (before != now).then_some((before, now))
    }
}
