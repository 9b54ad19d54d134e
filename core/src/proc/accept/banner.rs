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
    let mut all = Vec::from([
        ("application_name", application_name(request)),
        ("client_encoding", encoding),
        ("DateStyle", "ISO, MDY"),
        ("default_transaction_read_only", "off"),
        ("in_hot_standby", in_hot_standby),
        ("integer_datetimes", "on"),
        ("IntervalStyle", "postgres"),
        ("is_superuser", "on"),
        ("server_encoding", encoding),
        ("server_version", version.server_version()),
        ("session_authorization", &request.user),
        ("standard_conforming_strings", "on"),
        ("TimeZone", "Etc/UTC"),
    ]);
    match version {
        PgVersion::V15 => {}
        PgVersion::V18 => {
            all.extend([
                ("scram_iterations", "4096"),
                ("search_path", "\"$user\", public"),
            ]);
        }
    }
    all
}

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
