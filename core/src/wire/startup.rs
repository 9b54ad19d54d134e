//! The first packet of a connection. Mirrors ProcessStartupPacket of postmaster.c
//! (backend_startup.c since 17).
//!
//! The packet has no type byte.
//! [`FrameReader::next_startup`](super::frame::FrameReader::next_startup) separates it from the
//! messages that follow.

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

/// A protocol version. The upper 16 bits are the major version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion(pub u32);

impl ProtocolVersion {
    /// Supported by all servers since 7.4.
    pub const V3_0: Self = Self(0x0003_0000);
    /// Protocol 3.2. PostgreSQL 18 added it for longer cancel keys.
    pub const V3_2: Self = Self(0x0003_0002);

    /// The upper 16 bits.
    #[must_use]
    pub const fn major(self) -> u32 {
        self.0 >> 16
    }

    /// The lower 16 bits.
    #[must_use]
    pub const fn minor(self) -> u32 {
        self.0 & 0xFFFF
    }

    /// The newest version that a server supports (`PG_PROTOCOL_LATEST`).
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

/// The first packet of a connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum StartupPacket {
    /// Starts a session.
    Startup(StartupMessage),
    /// Requests TLS. The answer is a single byte, `S` or `N`.
    SslRequest,
    /// Requests GSS encryption. The answer is a single byte, `G` or `N`.
    GssEncRequest,
    /// Cancels the query of another session. The server does not answer this request.
    CancelRequest {
        /// The process id from BackendKeyData.
        pid: u32,
        /// The secret key from BackendKeyData.
        key: Bytes,
    },
}

/// The packet that starts a session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StartupMessage {
    /// The protocol version that the client requests.
    pub version: ProtocolVersion,
    /// The names and values of the parameters, in the order of the packet.
    pub params: Vec<(String, String)>,
}

/// Why a packet is refused.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum StartupError {
    /// The length is invalid. The error is logged, and the connection is closed without an answer.
    #[error("invalid length of startup packet")]
    Length,
    /// The major version is not 3. A second SSLRequest also has this error, because its code reads
    /// as version 1234.5679.
    #[error("unsupported frontend protocol {asked}: server supports 3.0 to {latest}")]
    Unsupported {
        /// The version that the client requests.
        asked: ProtocolVersion,
        /// The newest version that the server supports.
        latest: ProtocolVersion,
    },
    /// The last byte of the packet does not terminate the list of parameters.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// Bytes follow a request for encryption that the server has not answered yet.
    #[error("received unencrypted data after {0} request")]
    Unencrypted(&'static str),
    /// The parameter `user` is missing.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    /// The value of `replication` is neither a boolean nor `database`.
    #[error("invalid value for parameter \"replication\": \"{0}\"")]
    Replication(String),
}

impl StartupError {
    /// The SQLSTATE.
    #[must_use]
    pub const fn sqlstate(&self) -> [u8; 5] {
        match self {
            Self::Length | Self::Layout | Self::Unencrypted(_) => *b"08P01",
            Self::Unsupported { .. } => *b"0A000",
            Self::NoUser => *b"28000",
            Self::Replication(_) => *b"22023",
        }
    }

    /// The HINT.
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

    /// The DETAIL.
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

    /// Returns the error in the format from before protocol 3.0: `E` and a text without a length
    /// (`send_message_to_frontend`). Returns `None` if the client requested version 3.0 or later,
    /// or version 0.
    #[must_use]
    pub fn old_form(&self) -> Option<Bytes> {
        let Self::Unsupported { asked, .. } = self else {
            return None;
        };
        let is_old = asked.major() < 3 && asked.0 != 0;
        is_old.then(|| Bytes::from(alloc::format!("EFATAL:  {self}\n\0")))
    }

    /// Is the error sent to the client? If not, the connection is closed without an answer.
    #[must_use]
    pub const fn reaches_client(&self) -> bool {
        !matches!(self, Self::Length)
    }
}

/// The kinds of encryption that the client has requested. A client can request each kind once per
/// connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Negotiation {
    ssl: bool,
    gss: bool,
}

impl Negotiation {
    /// Decodes a packet as a server of this version does. `body` is the packet without its length
    /// word.
    ///
    /// # Errors
    /// The packet is invalid. The values of the parameters are checked later.
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

/// The parameters: pairs of strings. An empty name at the end of the packet terminates the list. As
/// in C, the packet is read as if a NUL followed it. If exactly one byte is left in place of a
/// name, it therefore counts as the terminator.
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

/// The string at an offset, and the offset of the next string. Bytes that are not UTF-8 are
/// replaced. PostgreSQL keeps such bytes until it knows the encoding of the database.
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

    /// The packet as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::new();
        self.encode(&mut out);
        Bytes::from(out)
    }
}

/// The kind of session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReplicationMode {
    /// An ordinary backend.
    No,
    /// A walsender that accepts only replication commands.
    Physical,
    /// A walsender that is attached to a database and also executes SQL.
    Database,
}

/// The parameters of a startup packet, interpreted.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SessionRequest {
    /// `user`, truncated to 63 bytes.
    pub user: String,
    /// `database`, truncated to 63 bytes. The default is the name of the user. Empty for a physical
    /// walsender.
    pub database: String,
    /// `replication`
    pub replication: ReplicationMode,
    /// `options`, if given.
    pub options: Option<String>,
    /// Settings, in order.
    pub settings: Vec<(String, String)>,
    /// The names of the requested protocol options. The server supports no options.
    pub protocol_options: Vec<String>,
    /// The negotiated protocol version.
    pub version: ProtocolVersion,
}

impl StartupMessage {
    /// The startup packet of a physical receiver. The parameters are in libpq's order.
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

    /// A packet for protocol 3.0.
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

    /// Interprets the parameters.
    ///
    /// # Errors
    /// The value of `replication` is invalid, or the user is missing.
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

    /// If the client requests a newer minor version than the server supports, or protocol options,
    /// returns NegotiateProtocolVersion (`SendNegotiateProtocolVersion`). The server sends this
    /// message before authentication. Otherwise returns `None`.
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

/// Truncates a name to 63 bytes, at the boundary of a character.
fn truncate(name: &str) -> String {
    let mut end = name.len().min(MAX_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_string()
}

#[cfg(test)]
mod tests;
