//! Why a connection to the upstream is of no use, before it is put into words.

use crate::call::{LogEvent, Message, Refusal, SqlState};
use crate::wire::backend::ErrorFields;
use alloc::format;
use alloc::string::String;

/// What went wrong.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Failure {
    /// SIGTERM came.
    Terminated,
    /// There is no connection, and why.
    Refused(Refusal),
    /// The connection broke, or cannot be understood any more; how libpq words that.
    Broken(String),
    /// The upstream wants a proof that we cannot give.
    Authentication {
        /// Which, by its code.
        method: u32,
        /// A password is known.
        has_password: bool,
    },
    /// The upstream says no.
    Error(ErrorFields),
}

impl Failure {
    /// What the upstream said, if it said no.
    #[must_use]
    pub const fn error(&self) -> Option<&ErrorFields> {
        if let Self::Error(fields) = self {
            Some(fields)
        } else {
            None
        }
    }

    /// As the walreceiver reports it: `what` it was doing, and why it failed.
    #[must_use]
    pub fn event(self, sqlstate: SqlState, what: &'static str) -> LogEvent {
        let why = match self {
            Self::Terminated => return terminated(),
            Self::Refused(_) => return LogEvent::error(sqlstate, Message::ConnectRefused),
            Self::Broken(why) => why,
            Self::Authentication {
                method,
                has_password,
            } => authentication_text(method, has_password),
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

/// What libpq says of a method that it was not built for (`pg_fe_sendauth`); of passwords, that
/// none was given.
#[must_use]
pub fn authentication_text(method: u32, has_password: bool) -> String {
    match method {
        3 | 5 | 10 if !has_password => "fe_sendauth: no password supplied".into(),
        3 => unusable("cleartext"),
        5 => unusable("MD5"),
        10 => unusable("SASL"),
        1 => "Kerberos 4 authentication not supported".into(),
        2 => "Kerberos 5 authentication not supported".into(),
        4 => "Crypt authentication not supported".into(),
        6 => "SCM_CRED authentication method not supported".into(),
        7 | 8 => "GSSAPI authentication not supported".into(),
        9 => "SSPI authentication not supported".into(),
        method => format!("authentication method {method} not supported"),
    }
}

fn unusable(kind: &str) -> String {
    format!(
        "a password was given, but it cannot be used yet: the server asks for {kind} authentication"
    )
}

/// An error of the upstream as libpq words it.
#[must_use]
pub fn error_text(fields: &ErrorFields) -> String {
    format!("{}:  {}", fields.severity, fields.message)
}
