//! Connection strings. This module follows conninfo_parse and conninfo_uri_parse of fe-connect.c. A
//! keyword that requires more than a plain connection is refused. A keyword that only controls
//! encryption is ignored.

use super::{defaults, passfile};
use std::collections::BTreeMap;
use std::path::PathBuf;
use walsim_core::node::ConnInfo;

/// Why a connection string is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "the text of each variant is its documentation, its fields are what the text names"
)]
pub enum ConnInfoError {
    #[error("missing \"=\" after \"{0}\" in connection info string")]
    NoEquals(String),
    #[error("unterminated quoted string in connection info string")]
    Unterminated,
    #[error("invalid connection option \"{0}\"")]
    Unknown(String),
    #[error("invalid URI query parameter: \"{0}\"")]
    UnknownParameter(String),
    #[error("missing key/value separator \"=\" in URI query parameter: \"{0}\"")]
    NoSeparator(String),
    #[error("extra key/value separator \"=\" in URI query parameter: \"{0}\"")]
    ExtraSeparator(String),
    #[error("invalid percent-encoded token: \"{0}\"")]
    Percent(String),
    #[error(
        "end of string reached when looking for matching \"]\" in IPv6 host address in URI: \"{0}\""
    )]
    NoBracket(String),
    #[error("invalid port number: \"{0}\"")]
    Port(String),
    #[error("invalid integer value \"{value}\" for connection option \"{keyword}\"")]
    Integer {
        value: String,
        keyword: &'static str,
    },
    #[error("invalid {keyword} value: \"{value}\"")]
    Value {
        keyword: &'static str,
        value: String,
    },
    #[error("{keyword}={value} is not supported: encryption is not supported")]
    Unencrypted {
        keyword: &'static str,
        value: String,
    },
    #[error("connection option \"{0}\" is not supported")]
    Unsupported(String),
    #[error("environment variable {0} is not supported")]
    UnsupportedVariable(&'static str),
    #[error("more than one host is not supported")]
    ManyHosts,
    #[error("could not determine the user name; set user=")]
    NoUser,
}

/// All keywords of libpq 15.
const KEYWORDS: [&str; 37] = [
    "service",
    "user",
    "password",
    "passfile",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "port",
    "client_encoding",
    "options",
    "application_name",
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "sslmode",
    "sslcompression",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "sslsni",
    "requirepeer",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "gssencmode",
    "krbsrvname",
    "gsslib",
    "replication",
    "target_session_attrs",
    "authtype",
];

/// Keywords that would change the peer or the session. Each has the name of its environment
/// variable.
const REFUSED: [(&str, &str); 4] = [
    ("service", "PGSERVICE"),
    ("options", "PGOPTIONS"),
    ("requirepeer", "PGREQUIREPEER"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
];

type Given = BTreeMap<&'static str, String>;

/// Parses a connection string, which contains `key=value` pairs or is a URI. Missing values come
/// from the environment and the system.
///
/// # Errors
/// An error with libpq's text.
pub fn parse(text: &str, program: &str) -> Result<ConnInfo, ConnInfoError> {
    parse_with(text, [], program)
}

/// Like [`parse`], with the options `host`, `port` and `user` of the command line. These options
/// override the text, which can be empty (`GetConnection`).
///
/// # Errors
/// As [`parse`].
pub fn parse_with<'a>(
    text: &str,
    options: impl IntoIterator<Item = (&'static str, &'a str)>,
    program: &str,
) -> Result<ConnInfo, ConnInfoError> {
    let uri = ["postgresql://", "postgres://"]
        .into_iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    let mut given = match uri {
        Some(rest) => uri_parse(text, rest)?,
        None => pairs(text)?,
    };
    let options = options.into_iter();
    given.extend(options.map(|(keyword, value)| (keyword, value.into())));
    resolve(given, program)
}

fn keyword(name: &str) -> Option<&'static str> {
    KEYWORDS.into_iter().find(|known| *known == name)
}

/// `conninfo_parse`
fn pairs(text: &str) -> Result<Given, ConnInfoError> {
    let mut given = Given::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c.is_whitespace());
        let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
        let Some(after) = after.trim_start().strip_prefix('=') else {
            return Err(ConnInfoError::NoEquals(name.into()));
        };
        let (value, after) = value(after.trim_start())?;
        let known = keyword(name).ok_or_else(|| ConnInfoError::Unknown(name.into()))?;
        given.insert(known, value);
        rest = after.trim_start();
    }
    Ok(given)
}

/// The value at the start of the text, and the rest of the text. The value is quoted or ends before
/// the next blank.
fn value(text: &str) -> Result<(String, &str), ConnInfoError> {
    let mut value = String::new();
    let (quoted, text) = match text.strip_prefix('\'') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            c if !quoted && c.is_whitespace() => return Ok((value, &text[at..])),
            c => value.push(c),
        }
    }
    if quoted {
        return Err(ConnInfoError::Unterminated);
    }
    Ok((value, ""))
}

/// `conninfo_uri_parse_options`
fn uri_parse(uri: &str, rest: &str) -> Result<Given, ConnInfoError> {
    let mut given = Given::new();
    let mut set = |name: &'static str, text: &str| -> Result<(), ConnInfoError> {
        if !text.is_empty() {
            given.insert(name, decode(text)?);
        }
        Ok(())
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (place, dbname) = rest.split_once('/').unwrap_or((rest, ""));
    let (who, place) = place.rsplit_once('@').unwrap_or(("", place));
    let (user, password) = who.split_once(':').unwrap_or((who, ""));
    set("user", user)?;
    set("password", password)?;
    set("dbname", dbname)?;
    let (host, port) = match place.strip_prefix('[') {
        Some(inside) => {
            let (host, after) = inside
                .split_once(']')
                .ok_or_else(|| ConnInfoError::NoBracket(uri.into()))?;
            (host, after.strip_prefix(':').unwrap_or(after))
        }
        None => place.split_once(':').unwrap_or((place, "")),
    };
    set("host", host)?;
    set("port", port)?;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, text) = parameter
            .split_once('=')
            .ok_or_else(|| ConnInfoError::NoSeparator(parameter.into()))?;
        if text.contains('=') {
            return Err(ConnInfoError::ExtraSeparator(name.into()));
        }
        let (name, text) = (decode(name)?, decode(text)?);
        let (name, text) = match (name.as_str(), text.as_str()) {
            // For compatibility with JDBC.
            ("ssl", "true") => ("sslmode", "require"),
            pair => pair,
        };
        let known = keyword(name).ok_or_else(|| ConnInfoError::UnknownParameter(name.into()))?;
        given.insert(known, text.into());
    }
    Ok(given)
}

/// `conninfo_uri_decode`
fn decode(text: &str) -> Result<String, ConnInfoError> {
    let wrong = || ConnInfoError::Percent(text.into());
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
        match u8::try_from(high * 16 + low) {
            Ok(0) | Err(_) => return Err(wrong()),
            Ok(byte) => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// Converts the values of the keywords to options (`connectOptions2`).
fn resolve(mut given: Given, program: &str) -> Result<ConnInfo, ConnInfoError> {
    // An empty value counts as missing.
    given.retain(|_, value| !value.is_empty());
    // The default value.
    if given
        .get("target_session_attrs")
        .is_some_and(|it| it == "any")
    {
        given.remove("target_session_attrs");
    }
    for (name, variable) in REFUSED {
        if given.contains_key(name) {
            return Err(ConnInfoError::Unsupported(name.into()));
        }
        if defaults::variable(variable).is_some() {
            return Err(ConnInfoError::UnsupportedVariable(variable));
        }
    }
    let mut take = |name| {
        given
            .remove(name)
            .or_else(|| defaults::from_environment(name))
    };
    for (keyword, harmless) in [
        ("sslmode", ["disable", "allow", "prefer"].as_slice()),
        ("gssencmode", &["disable", "prefer"]),
        ("channel_binding", &["disable", "prefer"]),
    ] {
        if let Some(value) = take(keyword).filter(|value| !harmless.contains(&value.as_str())) {
            return Err(match value.as_str() {
                "require" | "verify-ca" | "verify-full" => {
                    ConnInfoError::Unencrypted { keyword, value }
                }
                _ => ConnInfoError::Value { keyword, value },
            });
        }
    }
    let host = take("hostaddr").or_else(|| take("host"));
    let port = take("port").unwrap_or_else(|| "5432".into());
    if host.as_ref().is_some_and(|host| host.contains(',')) || port.contains(',') {
        return Err(ConnInfoError::ManyHosts);
    }
    let application_name = take("application_name").or_else(|| take("fallback_application_name"));
    let timeout = take("connect_timeout").unwrap_or_else(|| "0".into());
    let user = take("user").or_else(defaults::user);
    let user = user.ok_or(ConnInfoError::NoUser)?;
    let password = take("password");
    let file = take("passfile").map(PathBuf::from);
    let host = host.unwrap_or_else(defaults::socket_dir);
    let port = port_number(port)?;
    let in_file = |file: PathBuf| passfile::has_password(&file, &host, port, &user);
    let file = file.or_else(passfile::default_file);
    let has_password = password.is_some() || file.is_some_and(in_file);
    Ok(ConnInfo {
        host,
        port,
        user,
        application_name: application_name.unwrap_or_else(|| program.into()),
        connect_timeout_ms: timeout_ms(timeout)?,
        has_password,
    })
}

fn port_number(value: String) -> Result<u16, ConnInfoError> {
    let keyword = "port";
    match value.trim().parse::<i64>() {
        Err(_) => Err(ConnInfoError::Integer { value, keyword }),
        Ok(number) => match u16::try_from(number) {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(ConnInfoError::Port(value)),
        },
    }
}

/// Parses `connect_timeout`. Zero and negative values mean no limit. One second is raised to two
/// (`connectDBComplete`).
fn timeout_ms(value: String) -> Result<u32, ConnInfoError> {
    let keyword = "connect_timeout";
    match value.trim().parse::<i32>() {
        Err(_) => Err(ConnInfoError::Integer { value, keyword }),
        Ok(seconds) if seconds <= 0 => Ok(0),
        Ok(seconds) => Ok(seconds.unsigned_abs().max(2).saturating_mul(1000)),
    }
}

#[cfg(test)]
mod tests;
