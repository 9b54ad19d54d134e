//! Decides when the receiver stops. Mirrors stop_streaming of pg_receivewal.c and its signal
//! handler.

use crate::base::{Lsn, TimelineId};
use crate::call::{LogEvent, ReceiveMessage, Signal};
use crate::sys::Cx;

/// The state of `stop_streaming`: `endpos`, `time_to_stop`, and the last timeline and position.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Stop {
    /// Invalid if no end position is set.
    endpos: Lsn,
    /// Whether a signal was received or the end position was passed.
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

    /// `stop_streaming`, called with the position received so far. As in PostgreSQL, the receiver
    /// stops only when it has received WAL beyond the end position.
    pub(super) fn stop_streaming(&mut self, cx: &mut Cx<'_>, at: Lsn, tli: TimelineId) -> bool {
        self.asked |= cx.take_signal(Signal::Term);
        if self.endpos.is_valid() && self.endpos < at {
            cx.log(LogEvent::receive(ReceiveMessage::Stopped(at, tli)));
            self.asked = true;
            return true;
        }
        // The message names the end of the old timeline. Streaming of the new timeline starts at an
        // earlier position, a segment boundary.
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
