//! Requests a checkpoint and waits for its end. Mirrors RequestCheckpoint of checkpointer.c.

use crate::base::{Bug, SegmentNo};
use crate::call::{LogEvent, Message, Place, Poll, Signal, SqlState, Wait, Yield};
use crate::shmem::{CheckpointRequests, CondVarId, Role};
use crate::sys::Cx;

/// Requests a checkpoint if there is enough WAL since the redo point (`XLogCheckpointNeeded`).
/// Called after segment `finished` was filled or replayed.
pub fn request_checkpoint_by_volume(cx: &mut Cx<'_>, finished: SegmentNo) {
    let shmem = &mut *cx.shmem;
    let redo = shmem.settings.geometry.segment_of(shmem.xlog.redo);
    if finished.0 + 1 >= redo.0 + shmem.settings.checkpoint_segments() {
        shmem.checkpointer.requests.requested = true;
        shmem.procs.set_latch_of(Role::Checkpointer);
    }
}

/// `RequestCheckpoint` with `CHECKPOINT_WAIT`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RequestCheckpoint {
    flags: CheckpointRequests,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Ask,
    Signal {
        started: u32,
        failed: u32,
    },
    /// Waits until a checkpoint with the requested flags has started.
    Begins {
        started: u32,
        failed: u32,
    },
    /// Waits until the requested checkpoint, or a later checkpoint, has ended.
    Ends {
        started: u32,
        failed: u32,
    },
}

impl RequestCheckpoint {
    /// Requests a checkpoint with these flags.
    #[must_use]
    pub const fn new(flags: CheckpointRequests) -> Self {
        Self {
            flags,
            phase: Phase::Ask,
        }
    }

    /// # Errors
    /// An ERROR if the checkpoint failed. A FATAL if SIGTERM was received during the wait.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let why = Place::RequestCheckpoint;
        loop {
            match self.phase {
                Phase::Ask => {
                    let checkpointer = &mut cx.shmem.checkpointer;
                    let asked = &mut checkpointer.requests;
                    asked.requested = true;
                    asked.force |= self.flags.force;
                    asked.end_of_recovery |= self.flags.end_of_recovery;
                    let (started, failed) = (checkpointer.started, checkpointer.failed);
                    assert!(checkpointer.done <= started, "{checkpointer:?}");
                    self.phase = Phase::Signal { started, failed };
                    return Poll::Yield(Yield::Again(why));
                }
                Phase::Signal { started, failed } => {
                    cx.shmem.procs.set_latch_of(Role::Checkpointer);
                    self.phase = Phase::Begins { started, failed };
                }
                Phase::Begins { started, failed } => {
                    cx.enter_condvar(CondVarId::CheckpointDone);
                    if cx.shmem.checkpointer.started == started {
                        return Self::sleep(cx);
                    }
                    let before = started;
                    let started = cx.shmem.checkpointer.started;
                    assert!(before < started, "{before} checkpoints become {started}");
                    self.phase = Phase::Ends { started, failed };
                }
                Phase::Ends { started, failed } => {
                    cx.enter_condvar(CondVarId::CheckpointDone);
                    if cx.shmem.checkpointer.done < started {
                        return Self::sleep(cx);
                    }
                    cx.leave_condvar();
                    assert!(failed <= cx.shmem.checkpointer.failed);
                    if cx.shmem.checkpointer.failed == failed
                        || cx.planted(Bug::FailedCheckpointReportedDone)
                    {
                        return Poll::Ready(Ok(()));
                    }
                    let message = Message::CheckpointFailed;
                    return Poll::Ready(Err(LogEvent::error(SqlState::INTERNAL, message)));
                }
            }
        }
    }

    /// `ConditionVariableSleep`: SIGTERM ends the sleep, except in the startup process, which
    /// checks for SIGTERM elsewhere.
    fn sleep(cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        cx.reset_latch();
        let role = cx.shmem.procs.get(cx.me).map(|proc| proc.role);
        if role != Some(Role::Startup) && cx.take_signal(Signal::Term) {
            cx.leave_condvar();
            let error = LogEvent::fatal(SqlState::ADMIN_SHUTDOWN, Message::AdminShutdown);
            return Poll::Ready(Err(error));
        }
        let wait = Wait {
            latch: true,
            condvar: true,
            ..Wait::at(Place::RequestCheckpoint)
        };
        Poll::Yield(Yield::Wait(wait))
    }
}
