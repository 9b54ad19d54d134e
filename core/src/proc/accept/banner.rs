//! What a client is greeted with. Mirrors BeginReportingGUCOptions, and AuthenticationOk, BackendKeyData and the first
//! ReadyForQuery.

use crate::base::PgVersion;
use crate::sys::Cx;
use crate::wire::backend::{BackendMessage, TxStatus};
use crate::wire::startup::{ProtocolVersion, ReplicationMode, SessionRequest};
use alloc::string::ToString;
use alloc::vec::Vec;
use bytes::Bytes;

/// Appends everything up to the first ReadyForQuery.
pub(super) fn encode(cx: &Cx<'_>, request: &SessionRequest, out: &mut Vec<u8>) {
    BackendMessage::AuthenticationOk.encode(out);
    for (name, value) in parameters(cx, request) {
        let (name, value) = (name.to_string(), value.to_string());
        BackendMessage::ParameterStatus { name, value }.encode(out);
    }
    let key = cancel_key(cx, request);
    BackendMessage::BackendKeyData { pid: cx.me.n, key }.encode(out);
    BackendMessage::ReadyForQuery(TxStatus::Idle).encode(out);
}

/// The last `application_name` among the settings; empty without one.
pub(super) fn application_name(request: &SessionRequest) -> &str {
    let named = request
        .settings
        .iter()
        .rev()
        .find(|(name, _)| name == "application_name");
    named.map_or("", |(_, value)| value)
}

fn parameters<'a>(cx: &Cx<'_>, request: &'a SessionRequest) -> Vec<(&'static str, &'a str)> {
    let version = cx.shmem.settings.pg_version;
    // A physical walsender belongs to no database, so that it has no encoding.
    let encoding = match request.replication {
        ReplicationMode::Physical => "SQL_ASCII",
        ReplicationMode::No | ReplicationMode::Database => "UTF8",
    };
    let in_hot_standby = if cx.shmem.recovery_in_progress() {
        "on"
    } else {
        "off"
    };
    let value = |name| match name {
        "application_name" => application_name(request),
        "client_encoding" | "server_encoding" => encoding,
        "in_hot_standby" => in_hot_standby,
        "server_version" => version.server_version(),
        "session_authorization" => &request.user,
        "DateStyle" => "ISO, MDY",
        "IntervalStyle" => "postgres",
        "scram_iterations" => "4096",
        "search_path" => "\"$user\", public",
        "TimeZone" => "Etc/UTC",
        "default_transaction_read_only" => "off",
        _ => "on",
    };
    let since_18 = |name: &&str| version >= PgVersion::V18 || *name != "search_path";
    let names = match version {
        PgVersion::V15 => SORTED.as_slice(),
        PgVersion::V16 | PgVersion::V17 | PgVersion::V18 | PgVersion::V19 => HASHED.as_slice(),
    };
    names
        .iter()
        .copied()
        .filter(since_18)
        .map(|name| (name, value(name)))
        .collect()
}

/// The settings that clients follow. 15 keeps all settings sorted.
const SORTED: [&str; 13] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
];

/// Since 16 they stand in a hash table, whose order is the same in every server.
const HASHED: [&str; 15] = [
    "in_hot_standby",
    "integer_datetimes",
    "TimeZone",
    "IntervalStyle",
    "search_path",
    "is_superuser",
    "application_name",
    "default_transaction_read_only",
    "scram_iterations",
    "DateStyle",
    "standard_conforming_strings",
    "session_authorization",
    "client_encoding",
    "server_version",
    "server_encoding",
];

/// Nobody can guess it who does not know the seed.
fn cancel_key(cx: &Cx<'_>, request: &SessionRequest) -> Bytes {
    let words = if request.version >= ProtocolVersion::V3_2 {
        8u32
    } else {
        1
    };
    let word = |i: u32| {
        let process = [cx.me.incarnation, cx.me.n, i]
            .map(u32::to_be_bytes)
            .concat();
        crc32c::crc32c_append(crc32c::crc32c(&cx.kernel.seed.to_be_bytes()), &process)
    };
    (0..words).flat_map(|i| word(i).to_be_bytes()).collect()
}
