//! The exit of the postmaster. Mirrors ExitPostmaster with UnlinkLockFiles.

use super::boot::LOCK_FILE;
use crate::call::{DiskOp, Exit, FilePath, LogEvent, Message, Place, Yield};
use crate::sys::Cx;

/// Removes the lock file, logs, and exits. If there is a reason, the exit status is 1.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Leave {
    reason: Option<Message>,
    unlinking: bool,
}

impl Leave {
    pub(super) const fn new(reason: Option<Message>) -> Self {
        Self {
            reason,
            unlinking: false,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Cx<'_>) -> Yield {
        if !self.unlinking && !cx.kernel.locked {
            self.unlinking = true;
            return cx.disk(
                DiskOp::Unlink(FilePath::from(LOCK_FILE)),
                Place::UnlinkLockFiles,
            );
        }
        if self.unlinking {
            // A failed unlink is ignored, because the next start replaces the file.
            let _ = cx.done();
        }
        cx.log(LogEvent::log(Message::ShutDown));
        Yield::Exit(match self.reason.take() {
            None => Exit::Normal,
            Some(reason) => Exit::Fatal(LogEvent::log(reason)),
        })
    }
}
