//! Writes and fsyncs the data of checkpoints and restartpoints, in PostgreSQL's order. Mirrors
//! CheckPointGuts of xlog.c.

use super::clog::CheckPointClog;
use crate::access::buffers::CheckPointBuffers;
use crate::base::Bug;
use crate::call::{LogEvent, Place, Poll, Yield};
use crate::ready_ok;
use crate::replication::slot::checkpoint::CheckPointReplicationSlots;
use crate::sys::Cx;

/// `CheckPointGuts`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct CheckPointGuts(Phase);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Slots(CheckPointReplicationSlots),
    Clog(CheckPointClog),
    Buffers(CheckPointBuffers),
}

impl CheckPointGuts {
    pub(super) fn new() -> Self {
        Self(Phase::Slots(CheckPointReplicationSlots::new()))
    }

    /// # Errors
    /// An ERROR if the next checkpoint can repeat the failed step. Otherwise a PANIC.
    pub(super) fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        self.0 = match &mut self.0 {
            Phase::Slots(slots) => {
                ready_ok!(slots.poll(cx));
                let dirty = cx.shmem.clog.pages.values().any(|page| page.dirty);
                if dirty
                    && cx.shmem.recovery_in_progress()
                    && cx.planted(Bug::RestartpointSkipsClog)
                {
                    self.0 = Phase::Buffers(CheckPointBuffers::new());
                    return Poll::Yield(Yield::Again(Place::CheckPointGuts));
                }
                Phase::Clog(CheckPointClog::new())
            }
            Phase::Clog(clog) => {
                ready_ok!(clog.poll(cx));
                Phase::Buffers(CheckPointBuffers::new())
            }
            Phase::Buffers(buffers) => return buffers.poll(cx),
        };
        Poll::Yield(Yield::Again(Place::CheckPointGuts))
    }
}
