//! How a stream ends that should have gone on, and the words for it.

use crate::call::{LogEvent, Message, ReceiveMessage, SqlState};
use crate::replication::libpqrcv::{Failure, error_text};
use crate::wire::backend::ErrorFields;
use alloc::string::String;

/// Why it ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum StreamError {
    /// Somebody asked us to stop, while there was nothing to put in order.
    Stopped,
    /// Another connection may do better.
    Lost(LogEvent),
    /// It would not.
    Fatal(LogEvent),
}

impl StreamError {
    pub(super) const fn lost(message: ReceiveMessage) -> Self {
        Self::Lost(error(message))
    }

    pub(super) const fn fatal(message: ReceiveMessage) -> Self {
        Self::Fatal(error(message))
    }

    /// A command that failed.
    pub(super) fn command(command: impl Into<String>, failure: Failure) -> Self {
        let command = command.into();
        match said(failure) {
            Some(why) => Self::lost(ReceiveMessage::Command { command, why }),
            None => Self::Stopped,
        }
    }

    /// What would be worth another connection is not worth it now: nothing ever worked.
    pub(super) fn in_vain(self) -> Self {
        match self {
            Self::Lost(event) => Self::Fatal(event),
            other @ (Self::Stopped | Self::Fatal(_)) => other,
        }
    }
}

/// `pg_log_error`
pub(super) const fn error(message: ReceiveMessage) -> LogEvent {
    LogEvent::error(SqlState::INTERNAL, Message::Receive(message))
}

/// The failure in libpq's words; none if we were asked to stop.
pub(super) fn said(failure: Failure) -> Option<String> {
    match failure {
        Failure::Terminated => None,
        Failure::Refused => Some("Connection refused".into()),
        Failure::Broken(why) => Some(why),
        Failure::Error(fields) => Some(whole_error(&fields)),
    }
}

/// `PQresultErrorMessage`: with DETAIL and HINT, a line each.
pub(super) fn whole_error(fields: &ErrorFields) -> String {
    let mut text = error_text(fields);
    for (label, more) in [("DETAIL", &fields.detail), ("HINT", &fields.hint)] {
        if let Some(more) = more {
            text.push('\n');
            text.push_str(label);
            text.push_str(":  ");
            text.push_str(more);
        }
    }
    text
}
