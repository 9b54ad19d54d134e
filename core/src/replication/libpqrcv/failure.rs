//! Why a connection to the upstream failed.

use crate::call::{LogEvent, Message, Refusal, SqlState};
use crate::wire::backend::ErrorFields;
use alloc::format;
use alloc::string::String;

/// Why a connection to the upstream failed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Failure {
    /// SIGTERM was received.
    Terminated,
    /// The connection could not be opened.
    Refused(Refusal),
    /// The connection broke or an invalid message arrived. The text is libpq's error message.
    Broken(String),
    /// The upstream requested an authentication method that walsim does not support.
    Authentication {
        /// The method's code.
        method: u32,
        /// Is a password configured?
        has_password: bool,
    },
    /// The upstream sent an ErrorResponse.
    Error(ErrorFields),
}

impl Failure {
    /// The upstream's ErrorResponse, if the upstream sent one.
    #[must_use]
    pub const fn error(&self) -> Option<&ErrorFields> {
        if let Self::Error(fields) = self {
            Some(fields)
        } else {
            None
        }
    }

    /// The log event of a walreceiver. `what` is the operation that failed.
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

/// The walreceiver's message at SIGTERM.
#[must_use]
pub fn terminated() -> LogEvent {
    LogEvent::fatal(SqlState::ADMIN_SHUTDOWN, Message::ReceiverTerminated)
}

/// The message of a libpq that cannot answer an authentication request (`pg_fe_sendauth`). If only
/// the password is missing, the message says so. Otherwise it is the message of a libpq that was
/// built without support for the method.
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

/// An ErrorResponse in libpq's format.
#[must_use]
pub fn error_text(fields: &ErrorFields) -> String {
    format!("{}:  {}", fields.severity, fields.message)
}
