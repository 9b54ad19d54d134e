//! How a trace shows protocol messages: their names and main fields.

use super::event::shown;
use serde::Serialize;
use std::fmt::{self, Display};
use std::ops::Range;
use walsim_core::base::{Lsn, Xid};
use walsim_core::wire::backend::BackendMessage;
use walsim_core::wire::frame::Frame;
use walsim_core::wire::frontend::FrontendMessage;
use walsim_core::wire::replication::{StandbyMessage, WalMessage};

/// Longer texts are truncated.
const MOST: usize = 100;

/// A message.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(tag = "message")]
pub enum MessageFields {
    /// `w`: the server sends WAL.
    XLogData {
        /// The start of the WAL in the message.
        #[serde(serialize_with = "shown")]
        start: Lsn,
        /// The end of the WAL in the message.
        #[serde(serialize_with = "shown")]
        end: Lsn,
        /// The end of the WAL that the server could send.
        #[serde(serialize_with = "shown")]
        wal_end: Lsn,
    },
    /// `k`: a keepalive from the server.
    Keepalive {
        /// The position up to which the server has sent WAL.
        #[serde(serialize_with = "shown")]
        wal_end: Lsn,
        /// Whether the server requests a status update at once.
        reply_requested: bool,
    },
    /// `r`: a status update from the standby.
    StandbyStatusUpdate {
        /// The write position.
        #[serde(serialize_with = "shown")]
        write: Lsn,
        /// The flush position.
        #[serde(serialize_with = "shown")]
        flush: Lsn,
        /// The apply position.
        #[serde(serialize_with = "shown")]
        apply: Lsn,
        /// Whether the standby requests a keepalive at once.
        reply_requested: bool,
    },
    /// `h`: hot standby feedback.
    HotStandbyFeedback {
        /// The oldest transaction that queries on the standby may still need.
        #[serde(serialize_with = "shown")]
        xmin: Xid,
        /// The oldest transaction that the standby may still need in catalogs.
        #[serde(serialize_with = "shown")]
        catalog_xmin: Xid,
    },
    /// Any other message.
    Other {
        /// The name of the message in the protocol documentation.
        name: &'static str,
        /// Its contents.
        #[serde(skip_serializing_if = "String::is_empty")]
        text: String,
    },
}

impl MessageFields {
    /// Decodes a message of a server.
    pub(super) fn of_backend(frame: Frame) -> Self {
        match BackendMessage::decode(frame) {
            Ok(BackendMessage::CopyData(payload)) => match WalMessage::decode(payload) {
                Ok(WalMessage::XLogData(header, wal)) => Self::XLogData {
                    start: header.start,
                    end: Lsn(header.start.0.saturating_add(wal.len() as u64)),
                    wal_end: header.wal_end,
                },
                Ok(WalMessage::Keepalive(keepalive)) => Self::Keepalive {
                    wal_end: keepalive.wal_end,
                    reply_requested: keepalive.reply_requested,
                },
                Err(error) => Self::other("CopyData", error),
            },
            Ok(message) => backend(&message),
            Err(error) => Self::other("malformed", error),
        }
    }

    /// Decodes a message of a client.
    pub(super) fn of_frontend(frame: Frame) -> Self {
        match FrontendMessage::decode(frame) {
            Ok(FrontendMessage::CopyData(payload)) => match StandbyMessage::decode(&payload) {
                Ok(StandbyMessage::Status(status)) => Self::StandbyStatusUpdate {
                    write: status.write,
                    flush: status.flush,
                    apply: status.apply,
                    reply_requested: status.reply_requested,
                },
                Ok(StandbyMessage::Feedback(feedback)) => Self::HotStandbyFeedback {
                    xmin: feedback.xmin,
                    catalog_xmin: feedback.catalog_xmin,
                },
                Err(error) => Self::other("CopyData", error),
            },
            Ok(message) => frontend(&message),
            Err(error) => Self::other("malformed", error),
        }
    }

    fn other(name: &'static str, text: impl Display) -> Self {
        let mut text = text.to_string();
        if let Some((end, _)) = text.char_indices().nth(MOST) {
            text.truncate(end);
            text.push('…');
        }
        Self::Other { name, text }
    }

    /// The name of the message in the protocol documentation.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::XLogData { .. } => "XLogData",
            Self::Keepalive { .. } => "Keepalive",
            Self::StandbyStatusUpdate { .. } => "StandbyStatusUpdate",
            Self::HotStandbyFeedback { .. } => "HotStandbyFeedback",
            Self::Other { name, .. } => name,
        }
    }

    /// A short description for reports.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::XLogData { start, end, .. } => format!("WAL {start}..{end}"),
            Self::Keepalive { .. }
            | Self::StandbyStatusUpdate { .. }
            | Self::HotStandbyFeedback { .. }
            | Self::Other { .. } => self.to_string(),
        }
    }

    /// The WAL that the message contains or names.
    #[must_use]
    pub fn lsn(&self) -> Option<Range<Lsn>> {
        match self {
            Self::XLogData { start, end, .. } => Some(*start..*end),
            Self::Keepalive { wal_end, .. } => Some(*wal_end..*wal_end),
            Self::StandbyStatusUpdate {
                write,
                flush,
                apply,
                ..
            } => {
                let least = (*write).min(*flush).min(*apply);
                Some(least..(*write).max(*flush).max(*apply))
            }
            Self::HotStandbyFeedback { .. } | Self::Other { .. } => None,
        }
    }
}

fn backend(message: &BackendMessage) -> MessageFields {
    let said = |fields: &walsim_core::wire::backend::ErrorFields| {
        format!("{}:  {}", fields.severity, fields.message)
    };
    let (name, text) = match message {
        BackendMessage::AuthenticationOk => ("AuthenticationOk", String::new()),
        BackendMessage::Authentication { code, .. } => ("Authentication", code.to_string()),
        BackendMessage::ParameterStatus { name, value } => {
            ("ParameterStatus", format!("{name} = {value}"))
        }
        BackendMessage::BackendKeyData { pid, .. } => ("BackendKeyData", pid.to_string()),
        BackendMessage::NegotiateProtocolVersion { .. } => {
            ("NegotiateProtocolVersion", String::new())
        }
        BackendMessage::ReadyForQuery(_) => ("ReadyForQuery", String::new()),
        BackendMessage::RowDescription(columns) => (
            "RowDescription",
            columns
                .iter()
                .map(|column| column.name.clone())
                .collect::<Vec<_>>()
                .join(", "),
        ),
        BackendMessage::DataRow(values) => ("DataRow", row(values)),
        BackendMessage::CommandComplete(tag) => ("CommandComplete", tag.clone()),
        BackendMessage::EmptyQueryResponse => ("EmptyQueryResponse", String::new()),
        BackendMessage::CopyBothResponse { .. } => ("CopyBothResponse", String::new()),
        BackendMessage::CopyData(_) => ("CopyData", String::new()),
        BackendMessage::CopyDone => ("CopyDone", String::new()),
        BackendMessage::ErrorResponse(fields) => ("ErrorResponse", said(fields)),
        BackendMessage::NoticeResponse(fields) => ("NoticeResponse", said(fields)),
        BackendMessage::NotificationResponse { channel, .. } => {
            ("NotificationResponse", channel.clone())
        }
    };
    MessageFields::other(name, text)
}

fn row(values: &[Option<bytes::Bytes>]) -> String {
    let text = |value: &Option<bytes::Bytes>| match value {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => String::from("null"),
    };
    values.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn frontend(message: &FrontendMessage) -> MessageFields {
    let (name, text) = match message {
        FrontendMessage::Query(text) => ("Query", text.clone()),
        FrontendMessage::Sync => ("Sync", String::new()),
        FrontendMessage::Flush => ("Flush", String::new()),
        FrontendMessage::Terminate => ("Terminate", String::new()),
        FrontendMessage::CopyDone => ("CopyDone", String::new()),
        FrontendMessage::CopyFail(why) => ("CopyFail", why.to_string()),
        FrontendMessage::CopyData(_) => ("CopyData", String::new()),
        FrontendMessage::Password(_) => ("PasswordMessage", String::new()),
        FrontendMessage::FunctionCall(_) => ("FunctionCall", String::new()),
        FrontendMessage::Extended { tag, .. } => ("extended query", char::from(*tag).to_string()),
    };
    MessageFields::other(name, text)
}

impl Display for MessageFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asks = |reply: bool| if reply { ", reply requested" } else { "" };
        match self {
            Self::XLogData {
                start,
                end,
                wal_end,
            } => write!(f, "XLogData {start}..{end}, WAL end {wal_end}"),
            Self::Keepalive {
                wal_end,
                reply_requested,
            } => write!(f, "Keepalive {wal_end}{}", asks(*reply_requested)),
            Self::StandbyStatusUpdate {
                write,
                flush,
                apply,
                reply_requested,
            } => write!(
                f,
                "StandbyStatusUpdate write {write}, flush {flush}, apply {apply}{}",
                asks(*reply_requested)
            ),
            Self::HotStandbyFeedback { xmin, catalog_xmin } => {
                write!(
                    f,
                    "HotStandbyFeedback xmin {xmin}, catalog_xmin {catalog_xmin}"
                )
            }
            Self::Other { name, text } if text.is_empty() => f.write_str(name),
            Self::Other { name, text } => write!(f, "{name} {text}"),
        }
    }
}
