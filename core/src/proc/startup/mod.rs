//! The startup process: crash recovery, or continuous replay on a standby. Mirrors startup.c,
//! StartupXLOG of xlog.c and xlogrecovery.c.
//!
//! The process has three parts: it finds the checkpoint, replays WAL, and prepares the server for
//! writes. A standby stays in the second part. An error ends the process, and then the server.

mod begin;
mod finish;
mod replay;
mod serve;

use crate::access::recovery::RecoveryReader;
use crate::base::{Lsn, Mark, PgVersion, TimelineId};
use crate::call::{Exit, LogEvent, Message, Poll, Severity, SqlState, Yield};
use crate::shmem::{PmSignal, RecoveryState};
use crate::sys::Cx;
use crate::wire::xlog_records::CheckPoint;
use begin::Begin;
use finish::Finish;
use replay::Replay;
use serve::Serve;

/// The startup process.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Startup {
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Start,
    Begin(Begin),
    Serve(Serve),
    Replay(Recovery, Replay),
    Finish(Recovery, Finish),
}

/// The state that all parts share after the checkpoint record has been read.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Recovery {
    reader: RecoveryReader,
    /// Start of the checkpoint record (`CheckPointLoc`).
    checkpoint_at: Lsn,
    /// End of the checkpoint record.
    checkpoint_end: Lsn,
    /// Content of the checkpoint record.
    checkpoint: CheckPoint,
    /// Whether the server was not shut down cleanly.
    crashed: bool,
    /// Whether recovery is needed (`InRecovery`).
    in_recovery: bool,
    /// The timeline to replay.
    tli: TimelineId,
    /// `minRecoveryPoint` of xlogrecovery.c. Invalid in crash recovery, because crash recovery
    /// replays all WAL.
    min_recovery_point: Lsn,
    /// `STANDBY_SNAPSHOT_READY`: whether the running transactions of the primary are known.
    snapshot_ready: bool,
    /// Whether hot standby is enabled, which needs the snapshot.
    wants_snapshot: bool,
}

impl Default for Startup {
    fn default() -> Self {
        Self::new()
    }
}

impl Startup {
    /// A newly forked process.
    #[must_use]
    pub fn new() -> Self {
        Self {
            phase: Phase::Start,
        }
    }

    /// The position at which the next record is expected. Invalid if the process reads no WAL.
    #[must_use]
    pub const fn reading(&self) -> Lsn {
        match &self.phase {
            Phase::Start => Lsn::INVALID,
            Phase::Begin(begin) => begin.reading(),
            Phase::Serve(serve) => serve.reading(),
            Phase::Replay(recovery, _) | Phase::Finish(recovery, _) => recovery.reader.position(),
        }
    }

    /// Runs until it would block.
    pub fn step(&mut self, cx: &mut Cx<'_>) -> Yield {
        loop {
            let outcome = match &mut self.phase {
                Phase::Start if cx.kernel.walsenders_only => {
                    Poll::Ready(Serve::new(cx).map(|serve| Some(Phase::Serve(serve))))
                }
                Phase::Start => Poll::Ready(Ok(Some(Phase::Begin(Begin::new())))),
                Phase::Serve(serve) => serve.poll(cx).map(|served| served.map(|()| None)),
                Phase::Begin(begin) => begin.poll(cx).map(|begun| {
                    begun.map(|recovery| Some(Phase::Replay(recovery, Replay::new())))
                }),
                Phase::Replay(recovery, replay) => replay.poll(cx, recovery).map(|replayed| {
                    replayed.map(|()| Some(Phase::Finish(recovery.clone(), Finish::new())))
                }),
                Phase::Finish(recovery, finish) => finish
                    .poll(cx, recovery)
                    .map(|finished| finished.map(|()| None)),
            };
            match outcome {
                Poll::Yield(how) => return how,
                Poll::Ready(Ok(Some(next))) => self.phase = next,
                Poll::Ready(Ok(None)) => return Yield::Exit(Exit::Normal),
                Poll::Ready(Err(error)) => return Yield::Exit(exit(error)),
            }
        }
    }
}

fn exit(error: LogEvent) -> Exit {
    // As in `StartupProcShutdownHandler`, no message is logged.
    if error.message == Message::AdminShutdown {
        return Exit::Silent;
    }
    let error = error.in_auxiliary_process();
    if error.severity == Severity::Panic {
        Exit::Panic(error)
    } else {
        Exit::Fatal(error)
    }
}

impl Recovery {
    /// `CheckRecoveryConsistency`: checks whether replay has passed all changes that the data files
    /// may contain, and whether sessions can be allowed.
    fn check_consistency(&self, cx: &mut Cx<'_>) -> Result<(), LogEvent> {
        if !self.min_recovery_point.is_valid() {
            return Ok(());
        }
        // Crash recovery is consistent only at its end.
        assert_eq!(cx.shmem.recovery.state, RecoveryState::Archive);
        let replayed = cx.shmem.recovery.last_replayed_end;
        let half = cx.shmem.recovery.replay_end;
        assert_eq!(half, replayed, "a record is applied only in part");
        if !cx.shmem.recovery.consistent && self.min_recovery_point <= replayed {
            if !cx.shmem.recovery.invalid_pages.is_empty() {
                return Err(LogEvent::panic(
                    SqlState::DATA_CORRUPTED,
                    Message::InvalidPages,
                ));
            }
            cx.shmem.recovery.consistent = true;
            cx.log(LogEvent::log(Message::Consistent(cx.text(replayed))));
            // Since 18 new clients get a different error while recovery is consistent but hot
            // standby has no snapshot. The postmaster must therefore know that recovery is
            // consistent.
            if cx.shmem.settings.pg_version >= PgVersion::V18 {
                cx.signal_postmaster(PmSignal::RecoveryConsistent);
            }
            if self.crashed {
                cx.mark(Mark::CrashRecovery);
            }
            if !cx.shmem.settings.hot_standby {
                cx.mark(Mark::ConsistentWithoutHotStandby);
            }
        }
        let recovery = &mut cx.shmem.recovery;
        if self.snapshot_ready && recovery.consistent && !recovery.hot_standby_active {
            assert!(self.wants_snapshot, "hot standby is off");
            recovery.hot_standby_active = true;
            cx.signal_postmaster(PmSignal::BeginHotStandby);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
