//! The CHECKPOINT command. Mirrors RequestCheckpoint of checkpointer.c with CHECKPOINT_WAIT.

use crate::call::{LogEvent, Message, Poll, Signal, SqlState, Wait, Yield};
use crate::shmem::{CondVarId, Role};
use crate::sys::Cx;

/// Asks for a checkpoint and waits until one that began after the request has ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct RequestCheckpoint {
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
enum Phase {
    #[default]
    Request,
    /// Until another one begins than the one that was under way.
    Start {
        failed: u32,
        started: u32,
    },
    Done {
        failed: u32,
        started: u32,
    },
}

impl RequestCheckpoint {
    /// # Errors
    /// The checkpoint failed; or the session is to end, as a FATAL.
    pub(super) fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        loop {
            let ctl = &mut cx.shmem.checkpointer;
            match self.phase {
                Phase::Request => {
                    self.phase = Phase::Start {
                        failed: ctl.failed,
                        started: ctl.started,
                    };
                    ctl.requests.requested = true;
                    ctl.requests.force = true;
                    cx.shmem.procs.set_latch_of(Role::Checkpointer);
                    cx.enter_condvar(CondVarId::CheckpointDone);
                }
                Phase::Start { failed, started } if ctl.started != started => {
                    self.phase = Phase::Done {
                        failed,
                        started: ctl.started,
                    };
                }
                // The counters wrap.
                Phase::Done { failed, started }
                    if ctl.done.wrapping_sub(started) <= u32::MAX / 2 =>
                {
                    let ok = ctl.failed == failed;
                    cx.leave_condvar();
                    return Poll::Ready(if ok {
                        Ok(())
                    } else {
                        Err(LogEvent::error(
                            SqlState::INTERNAL,
                            Message::CheckpointFailed,
                        ))
                    });
                }
                Phase::Start { .. } | Phase::Done { .. } => {
                    cx.reset_latch();
                    if cx.take_signal(Signal::Term) {
                        cx.leave_condvar();
                        let state = SqlState::ADMIN_SHUTDOWN;
                        return Poll::Ready(Err(LogEvent::fatal(state, Message::AdminShutdown)));
                    }
                    cx.enter_condvar(CondVarId::CheckpointDone);
                    let why = "RequestCheckpoint";
                    let wait = Wait {
                        latch: true,
                        condvar: true,
                        why,
                        ..Wait::default()
                    };
                    return Poll::Yield(Yield::Wait(wait));
                }
            }
        }
    }
}
