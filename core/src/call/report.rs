//! Turns a log event into the message that a client receives. Mirrors send_message_to_frontend of
//! elog.c.

use super::{LogEvent, Message};
use crate::wire::backend::{BackendMessage, ErrorFields};
use alloc::string::{String, ToString};

impl LogEvent {
    /// The DETAIL.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        detail(&self.message)
    }

    /// The HINT.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        hint(&self.message)
    }

    /// The ErrorResponse for the event. If the severity is below ERROR, it is a NoticeResponse.
    #[must_use]
    pub fn to_client(&self) -> BackendMessage {
        let mut fields = ErrorFields::new(
            &self.severity.to_string(),
            self.sqlstate.0,
            self.message.to_string(),
        );
        fields.detail = self.detail();
        fields.hint = self.hint();
        if let Message::Sql {
            position: Some(position),
            ..
        } = &self.message
        {
            fields.others.push((b'P', position.to_string()));
        }
        if self.severity < super::Severity::Error {
            BackendMessage::NoticeResponse(fields)
        } else {
            BackendMessage::ErrorResponse(fields)
        }
    }
}

/// PostgreSQL's DETAIL for a message.
fn detail(message: &Message) -> Option<String> {
    if let Message::Slot(message) = message {
        return message.detail();
    }
    if let Message::Setting(error) = message {
        return error.detail().map(String::from);
    }
    if matches!(message, Message::SenderShutdownTimeout) {
        let text = "Walsender process might have been terminated before all WAL data was replicated to the receiver.";
        return Some(text.into());
    }
    if matches!(message, Message::NotYetAccepting) {
        return Some("Consistent recovery state has not been yet reached.".into());
    }
    if matches!(message, Message::NoSnapshotYet) {
        return Some("Recovery snapshot is not yet ready for hot standby.".into());
    }
    matches!(message, Message::NotAccepting).then(|| "Hot standby mode is disabled.".into())
}

/// PostgreSQL's HINT for a message.
fn hint(message: &Message) -> Option<String> {
    if let Message::Slot(message) = message {
        return message.hint();
    }
    if let Message::Setting(error) = message {
        return error.hint().map(String::from);
    }
    if matches!(message, Message::CommandLine(_)) {
        return Some("Try \"postgres --help\" for more information.".into());
    }
    if let Message::Sql { error, .. } = message {
        return error.hint().map(String::from);
    }
    if let Message::NotSupported { hint, .. } = message {
        return Some(String::from(*hint));
    }
    if matches!(message, Message::RecoveryInProgress) {
        return Some("WAL control functions cannot be executed during recovery.".into());
    }
    if matches!(message, Message::NoSnapshotYet) {
        return Some(
            "To enable hot standby, close write transactions with more than 64 subtransactions on the primary server."
                .into(),
        );
    }
    matches!(message, Message::CheckpointFailed)
        .then(|| "Consult recent messages in the server log for details.".into())
}
