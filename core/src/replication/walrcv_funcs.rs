//! Starts and stops the walreceiver for the startup process. Mirrors walreceiverfuncs.c.
//!
//! The startup process cannot fork a walreceiver. It writes a request to shared memory and signals
//! the postmaster.

use crate::base::{Bug, Lsn, Pid, TimelineId};
use crate::call::{Place, Poll, Signal, Yield};
use crate::ready;
use crate::shmem::{CondVarId, LockId, LockMode, PmSignal, WalRcvState};
use crate::sys::Cx;

/// `WalRcvStreaming`: is a walreceiver streaming or about to stream?
pub fn walrcv_streaming(cx: &mut Cx<'_>) -> bool {
    expire_launch(cx);
    cx.shmem.walrcv.is_streaming()
}

/// `WalRcvRunning`: is a walreceiver running or about to start?
pub fn walrcv_running(cx: &mut Cx<'_>) -> bool {
    expire_launch(cx);
    cx.shmem.walrcv.state != WalRcvState::Stopped
}

fn expire_launch(cx: &mut Cx<'_>) {
    if cx.shmem.walrcv.expire_launch(cx.now.wall) {
        cx.shmem.condvars.broadcast(CondVarId::WalRcvStopped);
    }
}

/// `WalRcvForceReply`: requests a status update with the new apply position.
pub fn walrcv_force_reply(cx: &mut Cx<'_>) {
    cx.shmem.walrcv.force_reply = true;
    if let Some(pid) = cx.shmem.walrcv.pid {
        cx.set_latch(pid);
    }
}

/// `RequestXLogStreaming`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RequestXLogStreaming {
    tli: TimelineId,
    /// Where streaming starts. It is a segment boundary, so that a new segment file never begins
    /// with a gap.
    start: Lsn,
    /// What to do after the request is written to shared memory.
    then: Option<Then>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Then {
    Launch,
    Wake(Option<Pid>),
}

impl RequestXLogStreaming {
    /// Requests WAL of timeline `tli`, from the start of the segment that contains `at`.
    #[must_use]
    pub fn new(cx: &Cx<'_>, tli: TimelineId, at: Lsn) -> Self {
        let geometry = &cx.shmem.settings.geometry;
        let start = geometry.segment_start(geometry.segment_of(at));
        assert!(
            start <= at && at - start < u64::from(geometry.segment),
            "{at}"
        );
        Self {
            tli,
            start,
            then: None,
        }
    }

    /// # Panics
    /// If a walreceiver is already streaming.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<()> {
        let Some(then) = self.then else {
            self.then = Some(self.write_down(cx));
            return Poll::Yield(Yield::Again(Place::RequestXLogStreaming));
        };
        match then {
            Then::Launch => cx.signal_postmaster(PmSignal::StartWalReceiver),
            Then::Wake(pid) => {
                if let Some(pid) = pid {
                    cx.set_latch(pid);
                }
            }
        }
        Poll::Ready(())
    }

    fn write_down(&self, cx: &mut Cx<'_>) -> Then {
        let now = cx.now.wall.unix_seconds();
        let conninfo = cx.shmem.settings.primary_conninfo.clone();
        let slot_name = cx.shmem.settings.primary_slot_name.clone();
        let goes_back = cx.has_bug(Bug::ReceiverTakesFlushBack);
        assert!(conninfo.is_some(), "there is no upstream");
        let walrcv = &mut cx.shmem.walrcv;
        let then = match walrcv.state {
            WalRcvState::Stopped => {
                assert_eq!(walrcv.pid, None, "the last walreceiver has ended");
                walrcv.state = WalRcvState::Starting;
                Then::Launch
            }
            WalRcvState::Waiting => {
                assert!(walrcv.pid.is_some(), "a walreceiver waits");
                // `WalRcvWaitForStartPosition` has cleared the last request.
                assert!(!walrcv.receive_start.is_valid(), "{}", walrcv.receive_start);
                walrcv.state = WalRcvState::Restarting;
                Then::Wake(walrcv.pid)
            }
            state @ (WalRcvState::Starting
            | WalRcvState::Connecting
            | WalRcvState::Streaming
            | WalRcvState::Restarting
            | WalRcvState::Stopping) => {
                panic!("streaming is requested of a walreceiver that is {state:?}")
            }
        };
        walrcv.conninfo = conninfo;
        walrcv.slot_name = slot_name;
        walrcv.start_time = now;
        // After a reconnect on the same timeline the published flush position stays, because WAL up
        // to this position is already flushed.
        if !walrcv.receive_start.is_valid() || walrcv.received_tli != self.tli {
            walrcv.flushed_upto = self.start;
            walrcv.received_tli = self.tli;
            walrcv.latest_chunk_start = self.start;
        }
        assert!(walrcv.flushed_upto >= walrcv.latest_chunk_start || goes_back);
        walrcv.receive_start = self.start;
        walrcv.receive_start_tli = self.tli;
        then
    }
}

/// `XLogShutdownWalRcv`: stops the walreceiver and waits until it has ended. Until streaming is
/// requested again, no process may install a new segment file.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct XLogShutdownWalRcv {
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
enum Phase {
    #[default]
    Announce,
    Kill(Pid),
    Wait,
    Reset,
}

impl XLogShutdownWalRcv {
    /// Creates the routine. It does nothing before the first poll.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `ResetInstallXLogFileSegmentActive` alone, if no walreceiver runs.
    #[must_use]
    pub const fn reset_only() -> Self {
        Self {
            phase: Phase::Reset,
        }
    }

    /// Waits until the walreceiver has ended.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<()> {
        loop {
            match self.phase {
                Phase::Announce => {
                    let victim = Self::announce(cx);
                    self.phase = victim.map_or(Phase::Wait, Phase::Kill);
                    if victim.is_some() {
                        return Poll::Yield(Yield::Again(Place::ShutdownWalRcv));
                    }
                }
                Phase::Kill(pid) => {
                    cx.kill(pid, Signal::Term);
                    self.phase = Phase::Wait;
                }
                Phase::Wait => {
                    ready!(Self::wait(cx));
                    self.phase = Phase::Reset;
                }
                Phase::Reset => {
                    // With the lock, no process is between the check of the flag and the rename of
                    // a segment.
                    ready!(cx.acquire(LockId::ControlFile, LockMode::Exclusive));
                    assert!(
                        !cx.shmem.walrcv.is_streaming(),
                        "{:?}",
                        cx.shmem.walrcv.state
                    );
                    cx.shmem.recovery.install_segment_active = false;
                    cx.release(LockId::ControlFile);
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Sets the state that tells the walreceiver to stop. Returns the process to signal if a
    /// walreceiver is running.
    fn announce(cx: &mut Cx<'_>) -> Option<Pid> {
        let walrcv = &mut cx.shmem.walrcv;
        match walrcv.state {
            WalRcvState::Stopped => None,
            WalRcvState::Starting => {
                walrcv.state = WalRcvState::Stopped;
                cx.shmem.condvars.broadcast(CondVarId::WalRcvStopped);
                None
            }
            WalRcvState::Connecting
            | WalRcvState::Streaming
            | WalRcvState::Waiting
            | WalRcvState::Restarting
            | WalRcvState::Stopping => {
                assert!(walrcv.pid.is_some(), "{:?}", walrcv.state);
                walrcv.state = WalRcvState::Stopping;
                walrcv.pid
            }
        }
    }

    fn wait(cx: &mut Cx<'_>) -> Poll<()> {
        cx.enter_condvar(CondVarId::WalRcvStopped);
        if walrcv_running(cx) {
            return Poll::Yield(cx.sleep_on_condvar(None, Place::ShutdownWalRcv));
        }
        cx.leave_condvar();
        Poll::Ready(())
    }
}
