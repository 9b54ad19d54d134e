//! When to stop. Mirrors stop_streaming of pg_receivewal.c and its signal handler.

use crate::base::{Lsn, TimelineId};
use crate::call::{LogEvent, ReceiveMessage, Signal};
use crate::sys::Cx;

/// `endpos`, `time_to_stop`, and what was reported last.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Stop {
    /// Invalid: there is none.
    endpos: Lsn,
    /// A signal came, or the end was reached.
    asked: bool,
    previous: Option<(TimelineId, Lsn)>,
}

impl Stop {
    pub(super) const fn new(endpos: Lsn) -> Self {
        Self {
            endpos,
            asked: false,
            previous: None,
        }
    }

    pub(super) const fn is_asked(&self) -> bool {
        self.asked
    }

    /// `stop_streaming`: WAL has come so far. The end position must be passed, not just reached:
    /// the record that ends there may not have come whole.
    pub(super) fn stop_streaming(&mut self, cx: &mut Cx<'_>, at: Lsn, tli: TimelineId) -> bool {
        self.asked |= cx.take_signal(Signal::Term);
        if self.endpos.is_valid() && self.endpos < at {
            cx.log(LogEvent::receive(ReceiveMessage::Stopped(at, tli)));
            self.asked = true;
            return true;
        }
        // Reported is where the old timeline ended, not where the new one begins: that is the start
        // of a segment.
        if let Some((before, end)) = self.previous.replace((tli, at))
            && before != tli
        {
            cx.log(LogEvent::receive(ReceiveMessage::Switched(tli, end)));
        }
        if self.asked {
            cx.log(LogEvent::receive(ReceiveMessage::Interrupted));
        }
        self.asked
    }
}
