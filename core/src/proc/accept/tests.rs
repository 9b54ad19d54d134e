//! Tests of startup packets.

use super::*;
use crate::base::{PgVersion, Pid};
use crate::call::{NetEvent, Place};
use crate::sys::Conn;
use crate::sys::testing::Fixture;
use crate::wire::backend::{BackendMessage, backend_limit};
use crate::wire::frontend::FrontendMessage;
use crate::wire::startup::ProtocolVersion;
use alloc::string::String;
use alloc::vec;

const CONN: ConnId = ConnId {
    incarnation: 0,
    n: 1,
};

struct Client {
    fixture: Fixture,
    pid: Pid,
    accept: Accept,
}

impl Client {
    fn new(refusal: Option<LogEvent>) -> Self {
        let mut fixture = Fixture::primary();
        let pid = fixture.spawn(Role::Backend);
        fixture.sys(pid).conns.insert(CONN, Conn::accepted());
        Self {
            fixture,
            pid,
            accept: Accept::new(CONN, refusal),
        }
    }

    fn send(&mut self, bytes: impl Into<Bytes>) -> Yield {
        let conn = self.fixture.sys(self.pid).conns.get_mut(&CONN).unwrap();
        conn.apply(NetEvent::Data(bytes.into()));
        self.fixture.step(self.pid, |cx| self.accept.step(cx))
    }

    fn messages(&mut self) -> Vec<BackendMessage> {
        let mut frames = FrameReader::default();
        frames.push(Bytes::from(self.fixture.sent()));
        let mut all = Vec::new();
        while let Some(frame) = frames.next(backend_limit).unwrap() {
            all.push(BackendMessage::decode(frame).unwrap());
        }
        all
    }

    fn error(&mut self) -> String {
        let messages = self.messages();
        let [BackendMessage::ErrorResponse(fields)] = &messages[..] else {
            panic!("{messages:?}")
        };
        String::from_utf8(fields.sqlstate.to_vec()).unwrap()
    }

    /// Adds another process that has a session.
    fn other_session(&mut self, role: Role) {
        let pid = self.fixture.spawn(role);
        let proc = self.fixture.shmem.procs.get_mut(pid).unwrap();
        proc.in_session = true;
    }

    fn becomes(&mut self) -> Option<Become> {
        self.fixture.step(self.pid, |cx| cx.kernel.becomes.take())
    }
}

fn startup(params: &[(&str, &str)]) -> Bytes {
    StartupPacket::Startup(StartupMessage::new(params)).to_bytes()
}

/// The packet arrives byte by byte, after the server has declined both encryption requests. Bytes
/// after the packet are passed on to the session.
#[test]
fn a_session_is_greeted() {
    let mut client = Client::new(None);
    let _ = client.send(StartupPacket::SslRequest.to_bytes());
    let _ = client.send(StartupPacket::GssEncRequest.to_bytes());
    assert_eq!(client.fixture.sent(), b"NN");
    let packet = startup(&[("user", "postgres"), ("application_name", "app")]);
    let next = FrontendMessage::Query(String::from("BEGIN")).to_bytes();
    for byte in &packet[..packet.len() - 1] {
        assert!(matches!(client.send(vec![*byte]), Yield::Wait(_)));
    }
    let how = client.send([&packet[packet.len() - 1..], &next].concat());
    assert_eq!(how, Yield::Again(Place::InitPostgres));
    let messages = client.messages();
    assert_eq!(messages[0], BackendMessage::AuthenticationOk);
    let is_status = |m: &&BackendMessage| matches!(m, BackendMessage::ParameterStatus { .. });
    assert_eq!(messages.iter().filter(is_status).count(), 13);
    let [
        ..,
        BackendMessage::BackendKeyData { key, .. },
        BackendMessage::ReadyForQuery(_),
    ] = &messages[..]
    else {
        panic!("{messages:?}")
    };
    assert_eq!(key.len(), 4);
    let becomes = client.becomes().unwrap();
    assert_eq!(
        (becomes.role, becomes.frames.buffered()),
        (Role::Backend, next.len())
    );
    let server = &client.fixture.shmem.settings;
    let shown = becomes.settings.show(server, "application_name");
    assert_eq!(shown, Some(("application_name", String::from("app"))));
}

#[test]
fn newer_servers_report_more_settings() {
    let mut client = Client::new(None);
    client.fixture.shmem.settings.pg_version = PgVersion::V18;
    let mut message = StartupMessage::new(&[("user", "postgres")]);
    message.version = ProtocolVersion::V3_2;
    let _ = client.send(StartupPacket::Startup(message).to_bytes());
    let messages = client.messages();
    assert_eq!(messages.len(), 1 + 15 + 2);
    assert!(
        messages
            .iter()
            .any(|m| matches!(m, BackendMessage::BackendKeyData { key, .. } if key.len() == 32))
    );
}

#[test]
fn a_receiver_becomes_a_walsender_while_there_is_room() {
    let packet = StartupPacket::Startup(StartupMessage::receiver("postgres", "standby")).to_bytes();
    let mut client = Client::new(None);
    let _ = client.send(packet.clone());
    assert_eq!(client.becomes().unwrap().role, Role::WalSender);
    let mut client = Client::new(None);
    client.fixture.shmem.settings.max_wal_senders = 1;
    client.other_session(Role::WalSender);
    assert!(matches!(client.send(packet), Yield::Exit(Exit::Fatal(_))));
    assert_eq!(client.error(), "53300");
}

/// Connections without a startup packet do not count towards max_connections. Walsenders do not
/// count either.
#[test]
fn sessions_are_counted() {
    let packet = startup(&[("user", "postgres")]);
    let mut client = Client::new(None);
    client.fixture.shmem.settings.max_connections = 1;
    client.fixture.spawn(Role::Backend);
    client.other_session(Role::WalSender);
    let _ = client.send(packet.clone());
    assert_eq!(client.becomes().unwrap().role, Role::Backend);
    let mut client = Client::new(None);
    client.fixture.shmem.settings.max_connections = 1;
    client.other_session(Role::Backend);
    assert!(matches!(client.send(packet), Yield::Exit(Exit::Fatal(_))));
    assert_eq!(client.error(), "53300");
}

/// Sessions and logical walsenders must name the only database. A physical walsender may name any.
#[test]
fn databases() {
    for (replication, database, refused) in [
        ("off", "postgres", false),
        ("database", "postgres", false),
        ("off", "nodb", true),
        ("database", "nodb", true),
        ("on", "nodb", false),
    ] {
        let mut client = Client::new(None);
        let _ = client.send(startup(&[
            ("user", "postgres"),
            ("database", database),
            ("replication", replication),
        ]));
        if refused {
            let messages = client.messages();
            assert_eq!(messages[0], BackendMessage::AuthenticationOk);
            let [_, BackendMessage::ErrorResponse(fields)] = &messages[..] else {
                panic!("{messages:?}")
            };
            assert_eq!(fields.message, "database \"nodb\" does not exist");
            assert_eq!((&*fields.severity, fields.sqlstate), ("FATAL", *b"3D000"));
            continue;
        }
        let becomes = client.becomes().unwrap();
        let attached = replication != "on";
        assert_eq!(becomes.database, if attached { "postgres" } else { "" });
        let is_sender = becomes.role == Role::WalSender;
        assert_eq!(is_sender, replication != "off");
    }
}

/// A client that sends data after an encryption request, without waiting for the answer, is
/// refused.
#[test]
fn bytes_after_a_request_for_encryption() {
    for (packet, kind) in [
        (StartupPacket::SslRequest, "SSL"),
        (StartupPacket::GssEncRequest, "GSSAPI encryption"),
    ] {
        let mut client = Client::new(None);
        let _ = client.send([&packet.to_bytes()[..], b"x"].concat());
        let sent = client.fixture.sent();
        let text = String::from_utf8_lossy(&sent);
        assert!(text.starts_with("NE"), "{text}");
        let message = alloc::format!("C08P01\0Mreceived unencrypted data after {kind} request\0D");
        assert!(text.contains(&message), "{text}");
    }
}

/// Parameters of the startup packet, and the errors for invalid parameters. The expected texts are
/// PostgreSQL 15's.
#[test]
fn parameters_of_a_start_up_packet() {
    let unknown = "42704 unrecognized configuration parameter \"foo\"";
    for (name, value, refused) in [
        ("foo", "1", Some(unknown)),
        ("options", "-c foo=5", Some(unknown)),
        ("foo.bar", "1", None),
        ("wal_sender_timeout", "5s", None),
        ("options", "-c wal_sender_timeout=5s", None),
        (
            "client_encoding",
            "xxx",
            Some("22023 invalid value for parameter \"client_encoding\": \"xxx\""),
        ),
        (
            "fsync",
            "off",
            Some("55P02 parameter \"fsync\" cannot be changed now"),
        ),
        ("options", "-c foo", Some("42601 -c foo requires a value")),
        (
            "options",
            "-Z",
            Some("42601 invalid command-line argument for server process: -Z"),
        ),
    ] {
        let mut client = Client::new(None);
        let _ = client.send(startup(&[("user", "postgres"), (name, value)]));
        let Some(refused) = refused else {
            let settings = client.becomes().unwrap().settings;
            let timeout = settings.wal_sender_timeout_ms(&client.fixture.shmem.settings);
            let set = value.contains("5s");
            assert_eq!(timeout, if set { 5000 } else { 60_000 }, "{name}");
            continue;
        };
        let messages = client.messages();
        assert_eq!(messages[0], BackendMessage::AuthenticationOk);
        let [_, BackendMessage::ErrorResponse(fields)] = &messages[..] else {
            panic!("{messages:?}")
        };
        let code = String::from_utf8(fields.sqlstate.to_vec()).unwrap();
        let said = alloc::format!("{code} {}", fields.message);
        assert_eq!((&*fields.severity, &*said), ("FATAL", refused));
    }
}

/// Errors for protocols before 3.0 have no length field.
#[test]
fn old_protocols_are_refused_in_their_own_format() {
    for (version, old) in [
        (0x0002_0000, true),
        (0x0001_0005, true),
        (0, false),
        (5, true),
    ] {
        let mut message = StartupMessage::new(&[("user", "postgres")]);
        message.version = ProtocolVersion(version);
        let mut client = Client::new(None);
        let _ = client.send(StartupPacket::Startup(message.clone()).to_bytes());
        let sent = client.fixture.sent();
        let version = message.version;
        let text = alloc::format!(
            "FATAL:  unsupported frontend protocol {version}: server supports 3.0 to 3.0\n\0"
        );
        let is_old = sent == [b"E", text.as_bytes()].concat();
        assert_eq!(is_old, old, "{version}");
    }
}

/// A server that only sends WAL has no databases, so it refuses ordinary sessions.
#[test]
fn a_server_of_walsenders_takes_no_sessions() {
    for (replication, refused) in [
        ("true", None),
        ("database", Some("0A000")),
        ("off", Some("0A000")),
    ] {
        let mut client = Client::new(None);
        client.fixture.kernel.walsenders_only = true;
        let _ = client.send(startup(&[
            ("user", "postgres"),
            ("replication", replication),
        ]));
        match refused {
            Some(code) => assert_eq!(client.error(), code, "{replication}"),
            None => assert_eq!(client.becomes().unwrap().role, Role::WalSender),
        }
    }
}

/// While the server does not accept sessions, it sends the error after it has read the startup
/// packet, and before it checks anything else.
#[test]
fn a_refusal_waits_for_the_packet() {
    let refusal = LogEvent::fatal(SqlState::CANNOT_CONNECT_NOW, Message::StartingUp);
    let mut client = Client::new(Some(refusal.clone()));
    assert!(matches!(client.send(Bytes::new()), Yield::Wait(_)));
    assert!(client.fixture.sent().is_empty());
    let how = client.send(startup(&[("user", "postgres")]));
    assert_eq!(how, Yield::Exit(Exit::Fatal(refusal)));
    assert_eq!(client.error(), "57P03");
}

#[test]
fn bad_packets_are_refused() {
    for (packet, sqlstate) in [
        (startup(&[("database", "d")]), "28000"),
        (
            startup(&[("user", "postgres"), ("replication", "zzz")]),
            "22023",
        ),
        (Bytes::from_static(b"\0\0\0\x09\0\x04\0\0\0"), "0A000"),
        (Bytes::from_static(b"\0\0\0\x0a\0\x03\0\0xy"), "08P01"),
        (Bytes::from_static(b"\0\0\0\x09\0\x03\0\0x"), "28000"),
    ] {
        let mut client = Client::new(None);
        assert!(matches!(client.send(packet), Yield::Exit(Exit::Fatal(_))));
        assert_eq!(client.error(), sqlstate);
    }
}

/// Cases in which the connection is closed without an answer.
#[test]
fn connections_closed_without_an_answer() {
    let cancel = StartupPacket::CancelRequest {
        pid: 1,
        key: Bytes::from_static(b"abcd"),
    };
    for (packet, lines) in [
        (Bytes::from_static(b"\0\0\0\x04"), 1),
        (cancel.to_bytes(), 0),
    ] {
        let mut client = Client::new(None);
        assert_eq!(client.send(packet), Yield::Exit(Exit::Normal));
        assert!(client.fixture.sent().is_empty());
        assert_eq!(client.fixture.logs.len(), lines);
    }
    let mut client = Client::new(None);
    let _ = client.send(&b"\0\0"[..]);
    let conn = client.fixture.sys(client.pid).conns.get_mut(&CONN).unwrap();
    conn.apply(NetEvent::Closed);
    let how = client.fixture.step(client.pid, |cx| client.accept.step(cx));
    assert_eq!(
        (how, client.fixture.logs.len()),
        (Yield::Exit(Exit::Normal), 1)
    );
}
