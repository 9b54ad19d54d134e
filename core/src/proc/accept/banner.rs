//! The messages from AuthenticationOk to the first ReadyForQuery. Mirrors BeginReportingGUCOptions
//! and the start of PostgresMain.

use crate::base::SessionSettings;
use crate::sys::Cx;
use crate::wire::backend::{BackendMessage, TxStatus};
use crate::wire::startup::{ProtocolVersion, ReplicationMode, SessionRequest, reported};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;

/// Appends all messages up to the first ReadyForQuery.
pub(super) fn encode(
    cx: &Cx<'_>,
    request: &SessionRequest,
    settings: &SessionSettings,
    out: &mut Vec<u8>,
) {
    for (name, value) in parameters(cx, request, settings) {
        let name = name.to_string();
        BackendMessage::ParameterStatus { name, value }.encode(out);
    }
    let key = cancel_key(cx, request);
    BackendMessage::BackendKeyData { pid: cx.me.n, key }.encode(out);
    BackendMessage::ReadyForQuery(TxStatus::Idle).encode(out);
}

fn parameters(
    cx: &Cx<'_>,
    request: &SessionRequest,
    settings: &SessionSettings,
) -> Vec<(&'static str, String)> {
    let server = &cx.shmem.settings;
    let value = |name: &'static str| match name {
        "client_encoding" | "server_encoding" => encoding(cx, request, settings, name),
        "in_hot_standby" if cx.shmem.recovery_in_progress() => "on".to_string(),
        "in_hot_standby" => "off".to_string(),
        _ => {
            let shown = settings.show(server, name);
            shown.map_or_else(String::new, |(_, value)| value)
        }
    };
    let names = reported(server.pg_version);
    names.map(|name| (name, value(name))).collect()
}

/// A client encoding or server encoding to report. A physical walsender has no database. It
/// therefore reports SQL_ASCII, unless the client requested a client_encoding.
fn encoding(
    cx: &Cx<'_>,
    request: &SessionRequest,
    settings: &SessionSettings,
    name: &str,
) -> String {
    let asked = name == "client_encoding" && settings.has(name);
    if request.replication == ReplicationMode::Physical && !asked {
        return "SQL_ASCII".to_string();
    }
    let shown = settings.show(&cx.shmem.settings, name);
    shown.map_or_else(String::new, |(_, value)| value)
}

/// The cancel key. It cannot be guessed without the seed.
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
