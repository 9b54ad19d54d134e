//! The shutdown checkpoint or restartpoint. Mirrors ShutdownXLOG, WalSndInitStopping and
//! WalSndWaitStopping.

use crate::access::checkpoint::{CheckpointKind, CreateCheckPoint, LogStandbySnapshot};
use crate::access::restartpoint::CreateRestartPoint;
use crate::access::wal_release::WalHorizon;
use crate::access::xlog_flush::XLogFlush;
use crate::base::{Bug, Pid};
use crate::call::{LogEvent, Message, Place, Poll, Signal, Wait, Yield};
use crate::ready_ok;
use crate::shmem::{PgProc, Role, WalSndState};
use crate::sys::Cx;
use crate::wire::control_file::DbState;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The interval at which the checkpointer checks whether walsenders still run commands.
const POLL_MS: u64 = 10;

/// `ShutdownXLOG`: returns when the control file states that the server is shut down.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct ShutdownXlog {
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
enum Phase {
    #[default]
    Start,
    /// Waits until every walsender has exited or is in state STOPPING.
    WaitStopping,
    Checkpoint(Box<CreateCheckPoint>),
    RestartPoint(Box<CreateRestartPoint>),
    /// With the planted bug only: inserts a record after the shutdown checkpoint.
    Snapshot(LogStandbySnapshot),
    FlushSnapshot(XLogFlush),
}

impl ShutdownXlog {
    pub(super) const fn horizon(&self) -> Option<WalHorizon> {
        match &self.phase {
            Phase::Checkpoint(checkpoint) => checkpoint.horizon(),
            Phase::RestartPoint(restartpoint) => restartpoint.horizon(),
            Phase::Start | Phase::WaitStopping | Phase::Snapshot(_) | Phase::FlushSnapshot(_) => {
                None
            }
        }
    }

    /// # Errors
    /// A step failed, or WAL was written during the checkpoint.
    pub(super) fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        loop {
            match &mut self.phase {
                Phase::Start => {
                    assert!(!cx.shmem.procs.iter().any(writes_wal), "WAL may follow");
                    cx.log(LogEvent::log(Message::ShuttingDownXlog));
                    // No new walsender can start any more. One signal to each running walsender is
                    // therefore enough.
                    let senders = cx.shmem.walsnd.iter().filter_map(|entry| entry.pid);
                    for pid in senders.collect::<Vec<Pid>>() {
                        cx.kill(pid, Signal::Usr1);
                    }
                    self.phase = Phase::WaitStopping;
                    return Poll::Yield(Yield::Again(Place::WalSndInitStopping));
                }
                Phase::WaitStopping => {
                    let mut entries = cx.shmem.walsnd.iter().filter(|entry| entry.pid.is_some());
                    if entries.any(|entry| entry.state != WalSndState::Stopping) {
                        return Poll::Yield(Yield::Wait(Wait {
                            until: Some(cx.now.mono.after_ms(POLL_MS)),
                            ..Wait::at(Place::WalSndWaitStopping)
                        }));
                    }
                    self.phase = if cx.shmem.recovery_in_progress() {
                        Phase::RestartPoint(Box::new(CreateRestartPoint::new(true)))
                    } else {
                        let kind = CheckpointKind::Shutdown;
                        Phase::Checkpoint(Box::new(CreateCheckPoint::new(cx, kind)))
                    };
                }
                Phase::Checkpoint(checkpoint) => {
                    ready_ok!(checkpoint.poll(cx));
                    assert_eq!(cx.shmem.control.state, DbState::ShutDown);
                    // No record may follow the shutdown checkpoint. The next start writes WAL
                    // directly after the checkpoint record, and would overwrite a later record.
                    if !cx.planted(Bug::WalAfterShutdownCheckpoint) {
                        return Poll::Ready(Ok(()));
                    }
                    self.phase = Phase::Snapshot(LogStandbySnapshot::default());
                }
                Phase::Snapshot(snapshot) => {
                    ready_ok!(snapshot.poll(cx));
                    let end = cx.shmem.xlog.async_commit;
                    self.phase = Phase::FlushSnapshot(XLogFlush::new(end));
                }
                Phase::FlushSnapshot(flush) => return flush.poll(cx),
                Phase::RestartPoint(restartpoint) => {
                    ready_ok!(restartpoint.poll(cx));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

/// Can the process write WAL? The postmaster waits for the end of such processes first.
fn writes_wal(proc: &PgProc) -> bool {
    match proc.role {
        Role::Backend => proc.in_session,
        Role::Startup | Role::WalWriter | Role::WalReceiver => true,
        Role::Postmaster | Role::Checkpointer | Role::WalSender => false,
    }
}
