//! Why a connection to the upstream is of no use, before anybody has worded it.

use crate::call::{LogEvent, Message, SqlState};
use crate::wire::backend::ErrorFields;
use alloc::format;
use alloc::string::String;

/// What went wrong.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Failure {
    /// SIGTERM came.
    Terminated,
    /// Nobody listens there.
    Refused,
    /// The connection broke, or cannot be understood any more; how libpq words that.
    Broken(String),
    /// The upstream says no.
    Error(ErrorFields),
}

impl Failure {
    /// As the walreceiver reports it: `what` it was doing, and why it failed.
    #[must_use]
    pub fn event(self, sqlstate: SqlState, what: &'static str) -> LogEvent {
        let why = match self {
            Self::Terminated => return terminated(),
            Self::Refused => return LogEvent::error(sqlstate, Message::ConnectRefused),
            Self::Broken(why) => why,
            Self::Error(fields) => error_text(&fields),
        };
        LogEvent::error(sqlstate, Message::Upstream { what, why })
    }
}

/// What a walreceiver says at SIGTERM.
#[must_use]
pub fn terminated() -> LogEvent {
    LogEvent::fatal(SqlState::ADMIN_SHUTDOWN, Message::ReceiverTerminated)
}

/// An error of the upstream as libpq words it.
#[must_use]
pub fn error_text(fields: &ErrorFields) -> String {
    format!("{}:  {}", fields.severity, fields.message)
}
