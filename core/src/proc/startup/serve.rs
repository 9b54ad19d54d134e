//! Startup of a server that only sends the WAL of a stopped cluster. PostgreSQL has no such server.
//! This startup does what StartupXLOG does up to the checkpoint record, and changes no file.

use super::begin::{checkpoint_found, look_for_checkpoint, say_how_it_ended};
use crate::access::recovery::RecoveryReader;
use crate::base::Lsn;
use crate::call::{LogEvent, Message, Poll, SqlState};
use crate::ready_ok;
use crate::shmem::RecoveryState;
use crate::sys::Cx;
use crate::wire::control_file::DbState;

/// Reads the shutdown checkpoint, and publishes the end of its record as the flush position.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Serve {
    reader: RecoveryReader,
}

impl Serve {
    /// # Errors
    /// The cluster was not shut down cleanly, so the end of its WAL is unknown.
    pub(super) fn new(cx: &mut Cx<'_>) -> Result<Self, LogEvent> {
        say_how_it_ended(cx)?;
        let state = cx.shmem.control.state;
        if state != DbState::ShutDown {
            let message = Message::NotShutDown(state);
            return Err(LogEvent::fatal(SqlState::NOT_IN_STATE, message));
        }
        let reader = look_for_checkpoint(cx, false);
        Ok(Self { reader })
    }

    pub(super) const fn reading(&self) -> Lsn {
        self.reader.position()
    }

    /// # Errors
    /// The checkpoint record is missing or invalid.
    pub(super) fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let outcome = ready_ok!(self.reader.poll(cx));
        self.reader.close(cx);
        let recovery = match checkpoint_found(cx, self.reader.clone(), &outcome) {
            Ok(recovery) => recovery,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if recovery.in_recovery {
            // The control file says "shut down", but the record is an online checkpoint. The
            // control file therefore does not belong to this WAL.
            let message = Message::NoCheckpoint(cx.text(recovery.checkpoint_at));
            let error = LogEvent::fatal(SqlState::DATA_CORRUPTED, message);
            return Poll::Ready(Err(error));
        }
        let end = recovery.checkpoint_end;
        assert!(recovery.checkpoint_at < end, "{end}");
        assert!(cx.kernel.walsenders_only, "no process may write WAL");
        let xlog = &mut cx.shmem.xlog;
        xlog.insert_tli = recovery.tli;
        xlog.prev_tli = recovery.tli;
        xlog.write = end;
        xlog.flush = end;
        xlog.request_write = end;
        cx.shmem.recovery.state = RecoveryState::Done;
        Poll::Ready(Ok(()))
    }
}
