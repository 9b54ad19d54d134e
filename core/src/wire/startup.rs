//! The first packet of a connection. Mirrors ProcessStartupPacket of postmaster.c
//! (backend_startup.c since 17).
//!
//! A packet is cut by [`FrameReader::next_startup`](super::frame::FrameReader::next_startup); it
//! has no type byte.

mod options;
mod reported;

pub use options::{OptionError, Switch, command_line};
pub use reported::reported;

use super::backend::BackendMessage;
use super::pqformat::{put_counted, put_str};
use crate::base::PgVersion;
use crate::base::parse_bool;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::{BufMut, Bytes};
use core::fmt;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
/// `NAMEDATALEN - 1`
const MAX_NAME: usize = 63;

/// A version of the protocol: major in the upper 16 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion(pub u32);

impl ProtocolVersion {
    /// What every server since 7.4 speaks.
    pub const V3_0: Self = Self(0x0003_0000);
    /// New in 18: long cancel keys.
    pub const V3_2: Self = Self(0x0003_0002);

    /// The upper half.
    #[must_use]
    pub const fn major(self) -> u32 {
        self.0 >> 16
    }

    /// The lower half.
    #[must_use]
    pub const fn minor(self) -> u32 {
        self.0 & 0xFFFF
    }

    /// The newest that a server speaks (`PG_PROTOCOL_LATEST`).
    #[must_use]
    pub const fn latest(server: PgVersion) -> Self {
        match server {
            PgVersion::V15 | PgVersion::V16 | PgVersion::V17 => Self::V3_0,
            PgVersion::V18 | PgVersion::V19 => Self::V3_2,
        }
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

impl fmt::Debug for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What may come first.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum StartupPacket {
    /// A session, please.
    Startup(StartupMessage),
    /// TLS, please. Answered by one byte without a frame, `S` or `N`.
    SslRequest,
    /// GSS encryption, please. Answered by one byte without a frame, `G` or `N`.
    GssEncRequest,
    /// A request to cancel the query of another session. Never answered.
    CancelRequest {
        /// From BackendKeyData.
        pid: u32,
        /// From BackendKeyData.
        key: Bytes,
    },
}

/// A request for a session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StartupMessage {
    /// What the client wants to speak.
    pub version: ProtocolVersion,
    /// Names and values, in order.
    pub params: Vec<(String, String)>,
}

/// The packet is refused.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum StartupError {
    /// Only logged; the connection is closed without an answer.
    #[error("invalid length of startup packet")]
    Length,
    /// A major version other than 3, or a second SSLRequest, which reads as version 1234.5679.
    #[error("unsupported frontend protocol {asked}: server supports 3.0 to {latest}")]
    Unsupported {
        /// What the client wants.
        asked: ProtocolVersion,
        /// What the server has.
        latest: ProtocolVersion,
    },
    /// Names and values do not end with the packet.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// Bytes after a request for encryption that was not answered yet.
    #[error("received unencrypted data after {0} request")]
    Unencrypted(&'static str),
    /// No `user`.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    /// `replication` is neither a boolean nor `database`.
    #[error("invalid value for parameter \"replication\": \"{0}\"")]
    Replication(String),
}

impl StartupError {
    /// The code that goes with the text.
    #[must_use]
    pub const fn sqlstate(&self) -> [u8; 5] {
        match self {
            Self::Length | Self::Layout | Self::Unencrypted(_) => *b"08P01",
            Self::Unsupported { .. } => *b"0A000",
            Self::NoUser => *b"28000",
            Self::Replication(_) => *b"22023",
        }
    }

    /// What the server adds as HINT.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Replication(_) => {
                Some("Valid values are: \"false\", 0, \"true\", 1, \"database\".")
            }
            Self::Length
            | Self::Unsupported { .. }
            | Self::Layout
            | Self::Unencrypted(_)
            | Self::NoUser => None,
        }
    }

    /// What the server adds as DETAIL.
    #[must_use]
    pub const fn detail(&self) -> Option<&'static str> {
        match self {
            Self::Unencrypted(_) => Some(
                "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
            ),
            Self::Length
            | Self::Unsupported { .. }
            | Self::Layout
            | Self::NoUser
            | Self::Replication(_) => None,
        }
    }

    /// The answer to a client that speaks a protocol before 3.0, if this is one: `E` and a text,
    /// without a length (`send_message_to_frontend`). A version of 0 counts as none.
    #[must_use]
    pub fn old_form(&self) -> Option<Bytes> {
        let Self::Unsupported { asked, .. } = self else {
            return None;
        };
        let is_old = asked.major() < 3 && asked.0 != 0;
        is_old.then(|| Bytes::from(alloc::format!("EFATAL:  {self}\n\0")))
    }

    /// Is the client told? If not, the connection is just closed.
    #[must_use]
    pub const fn reaches_client(&self) -> bool {
        !matches!(self, Self::Length)
    }
}

/// Which kinds of encryption the client has asked for: each may be asked once per connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Negotiation {
    ssl: bool,
    gss: bool,
}

impl Negotiation {
    /// Reads one packet, without its length word, as a server of that version does.
    ///
    /// # Errors
    /// What the server refuses before it looks at the parameters' meaning.
    pub fn decode(
        &mut self,
        body: &[u8],
        server: PgVersion,
    ) -> Result<StartupPacket, StartupError> {
        let (code, rest) = body.split_first_chunk().ok_or(StartupError::Length)?;
        let code = u32::from_be_bytes(*code);
        match code {
            CANCEL_REQUEST => return cancel_request(rest, server),
            SSL_REQUEST if !self.ssl => {
                self.ssl = true;
                return Ok(StartupPacket::SslRequest);
            }
            GSSENC_REQUEST if !self.gss => {
                self.gss = true;
                return Ok(StartupPacket::GssEncRequest);
            }
            _ => {}
        }
        let version = ProtocolVersion(code);
        if version.major() != 3 {
            return Err(StartupError::Unsupported {
                asked: version,
                latest: ProtocolVersion::latest(server),
            });
        }
        let params = params(rest)?;
        Ok(StartupPacket::Startup(StartupMessage { version, params }))
    }
}

fn cancel_request(rest: &[u8], server: PgVersion) -> Result<StartupPacket, StartupError> {
    let (pid, key) = rest.split_first_chunk().ok_or(StartupError::Length)?;
    let longest = match server {
        PgVersion::V15 | PgVersion::V16 | PgVersion::V17 => 4,
        PgVersion::V18 | PgVersion::V19 => 256,
    };
    let shortest = match server {
        PgVersion::V15 | PgVersion::V16 | PgVersion::V17 => 4,
        PgVersion::V18 | PgVersion::V19 => 1,
    };
    if !(shortest..=longest).contains(&key.len()) {
        return Err(StartupError::Length);
    }
    Ok(StartupPacket::CancelRequest {
        pid: u32::from_be_bytes(*pid),
        key: Bytes::copy_from_slice(key),
    })
}

/// Pairs of strings, and an empty name after them as the last byte. As in C, a packet reads as if a
/// NUL stood after it, so that a single byte there is as good as a terminator.
fn params(rest: &[u8]) -> Result<Vec<(String, String)>, StartupError> {
    let mut params = Vec::new();
    let mut at = 0;
    while at < rest.len() && rest[at] != 0 {
        let (name, value_at) = split_str(rest, at);
        if value_at >= rest.len() {
            break;
        }
        let (value, next) = split_str(rest, value_at);
        params.push((name, value));
        at = next;
    }
    if at + 1 == rest.len() {
        Ok(params)
    } else {
        Err(StartupError::Layout)
    }
}

/// The string at an offset, and where the next one begins. Bytes that are not UTF-8 are replaced;
/// PostgreSQL keeps them until it knows the database's encoding.
fn split_str(bytes: &[u8], at: usize) -> (String, usize) {
    let len = bytes[at..].iter().position(|&b| b == 0);
    let end = len.map_or(bytes.len(), |len| at + len);
    let text = String::from_utf8_lossy(&bytes[at..end]).into_owned();
    (text, end + 1)
}

impl StartupPacket {
    /// Appends the packet with its length word.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_counted(out, |out| match self {
            Self::Startup(message) => {
                out.put_u32(message.version.0);
                for (name, value) in &message.params {
                    put_str(out, name);
                    put_str(out, value);
                }
                out.put_u8(0);
            }
            Self::SslRequest => out.put_u32(SSL_REQUEST),
            Self::GssEncRequest => out.put_u32(GSSENC_REQUEST),
            Self::CancelRequest { pid, key } => {
                out.put_u32(CANCEL_REQUEST);
                out.put_u32(*pid);
                out.put_slice(key);
            }
        });
    }

    /// The packet alone.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::new();
        self.encode(&mut out);
        Bytes::from(out)
    }
}

/// What kind of session is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReplicationMode {
    /// An ordinary backend.
    No,
    /// A walsender that knows replication commands only.
    Physical,
    /// A walsender attached to a database, which also runs SQL.
    Database,
}

/// What a StartupMessage means.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SessionRequest {
    /// `user`, cut to 63 bytes.
    pub user: String,
    /// `database`, cut to 63 bytes, the user's name by default; empty for a physical walsender.
    pub database: String,
    /// `replication`
    pub replication: ReplicationMode,
    /// `options`, if given.
    pub options: Option<String>,
    /// Settings, in order.
    pub settings: Vec<(String, String)>,
    /// Names of protocol options; no server here knows any.
    pub protocol_options: Vec<String>,
    /// The version that both sides speak.
    pub version: ProtocolVersion,
}

impl StartupMessage {
    /// A physical receiver's request, with the names in libpq's order.
    #[must_use]
    pub fn receiver(user: &str, application_name: &str) -> Self {
        let params = [
            ("user", user),
            ("database", "replication"),
            ("replication", "true"),
            ("application_name", application_name),
        ];
        Self::new(&params)
    }

    /// A request for protocol 3.0.
    #[must_use]
    pub fn new(params: &[(&str, &str)]) -> Self {
        Self {
            version: ProtocolVersion::V3_0,
            params: params
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
        }
    }

    /// Looks up what the names mean.
    ///
    /// # Errors
    /// A value of `replication` that is none, and a missing user.
    pub fn resolve(&self, server: PgVersion) -> Result<SessionRequest, StartupError> {
        let mut user = "";
        let mut database = "";
        let mut request = SessionRequest {
            user: String::new(),
            database: String::new(),
            replication: ReplicationMode::No,
            options: None,
            settings: Vec::new(),
            protocol_options: Vec::new(),
            version: self.version.min(ProtocolVersion::latest(server)),
        };
        for (name, value) in &self.params {
            match name.as_str() {
                "user" => user = value,
                "database" => database = value,
                "options" => request.options = Some(value.clone()),
                "replication" => request.replication = replication_mode(value)?,
                name if name.starts_with("_pq_.") => {
                    request.protocol_options.push(name.to_string());
                }
                _ => request.settings.push((name.clone(), value.clone())),
            }
        }
        if user.is_empty() {
            return Err(StartupError::NoUser);
        }
        request.user = truncate(user);
        request.database = match request.replication {
            ReplicationMode::Physical => String::new(),
            _ if database.is_empty() => request.user.clone(),
            ReplicationMode::No | ReplicationMode::Database => truncate(database),
        };
        Ok(request)
    }

    /// What precedes the authentication request if the client wants more than the server has
    /// (`SendNegotiateProtocolVersion`).
    #[must_use]
    pub fn negotiate(&self, server: PgVersion) -> Option<BackendMessage> {
        let latest = ProtocolVersion::latest(server);
        let options: Vec<_> = self
            .params
            .iter()
            .map(|(name, _)| name)
            .filter(|name| name.starts_with("_pq_."))
            .cloned()
            .collect();
        if self.version <= latest && options.is_empty() {
            return None;
        }
        let newest = match server {
            PgVersion::V15 | PgVersion::V16 | PgVersion::V17 => latest.0,
            PgVersion::V18 | PgVersion::V19 => self.version.min(latest).0,
        };
        Some(BackendMessage::NegotiateProtocolVersion { newest, options })
    }
}

fn replication_mode(value: &str) -> Result<ReplicationMode, StartupError> {
    if value == "database" {
        return Ok(ReplicationMode::Database);
    }
    match parse_bool(value) {
        Some(true) => Ok(ReplicationMode::Physical),
        Some(false) => Ok(ReplicationMode::No),
        None => Err(StartupError::Replication(value.to_string())),
    }
}

/// Cuts a name to what fits, between two characters.
fn truncate(name: &str) -> String {
    let mut end = name.len().min(MAX_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_string()
}

#[cfg(test)]
mod tests;
