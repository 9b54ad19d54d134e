//! Sends recorded messages of real clients to a simulated server that is in the same state as the
//! real server was. The answers must equal the recorded answers, field by field. Only the fields
//! named in [`mask`] may differ.

use crate::capture::{Capture, Event, Kind, Said, Side, capture};
use crate::node::{Drive, Rig, VERSIONS, client};
use bytes::{Buf, Bytes};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use walsim_core::base::Lsn;
use walsim_core::call::NetEvent;
use walsim_core::wire::backend::{BackendMessage, backend_limit};
use walsim_core::wire::frame::FrameReader;
use walsim_core::wire::frontend::FrontendMessage;
use walsim_core::wire::replication::WalMessage;
use walsim_core::wire::startup::{StartupMessage, StartupPacket};

/// The captures whose commands are not supported, each with the reason.
const NOT_YET: [(&str, &str); 3] = [
    ("basebackup", "no BASE_BACKUP"),
    ("receivewal-scram", "trust is the only way to authenticate"),
    (
        "walreceiver-follows",
        "no server of ours is promoted or serves a timeline that has ended",
    ),
];

#[test]
fn a_connection_is_opened() {
    all("startup");
}

#[test]
fn commands_are_answered() {
    all("commands");
}

#[test]
fn a_walreceiver_is_served() {
    all("walreceiver");
}

#[test]
fn pg_receivewal_is_served() {
    all("receivewal");
    all("receivewal-slot");
}

/// Each capture is either compared, or in the list of exceptions with a reason.
#[test]
fn every_capture_is_compared_or_has_a_reason() {
    let tested = [
        "startup",
        "commands",
        "walreceiver",
        "receivewal",
        "receivewal-slot",
    ];
    for capture in crate::capture::captures() {
        let name = &*capture.name;
        let excused = NOT_YET.iter().any(|(other, _)| *other == name);
        assert_ne!(tested.contains(&name), excused, "{name}");
    }
}

fn all(name: &str) {
    let captures = VERSIONS.map(|version| capture(version.major(), name));
    let mut played = 0;
    for capture in captures.iter().flatten() {
        Play::new(capture).run();
        played += 1;
    }
    assert!(played > 0, "{name} was never captured");
}

/// A capture whose client messages are sent to a simulated server.
struct Play<'a> {
    capture: &'a Capture,
    rig: Rig,
    heard: BTreeMap<u32, Heard>,
    /// The server was told to shut down.
    stopping: bool,
}

/// Messages received from the server on one connection.
#[derive(Default)]
struct Heard {
    frames: FrameReader,
    /// A message that was received and that is not compared yet.
    back: Option<BackendMessage>,
}

impl<'a> Play<'a> {
    fn new(capture: &'a Capture) -> Self {
        let rig = Rig::new(capture, None, |settings| {
            settings.wal_sender_timeout_ms = match &*capture.name {
                "walreceiver" => 3000,
                "receivewal-slot" => 2000,
                _ => 60_000,
            };
        });
        Self {
            capture,
            rig,
            heard: BTreeMap::new(),
            stopping: false,
        }
    }

    fn run(mut self) {
        for (line, event) in &self.capture.events {
            let at = self.capture.at(*line);
            match event {
                Event::Act(act) => self.act(act),
                Event::Said(said) if said.side == Side::Client => self.client_says(said),
                Event::Said(said) => self.server_says(said, &at),
            }
        }
        for (conn, heard) in &self.heard {
            assert_eq!(
                heard.frames.buffered(),
                0,
                "connection {conn}: the server has more to say"
            );
        }
    }

    fn act(&mut self, act: &str) {
        match act {
            "stop fast" => {
                self.stopping = true;
                self.rig.stop();
            }
            "write" => self.write(),
            other => panic!("nobody knows how to {other}"),
        }
    }

    /// Commits in another session, so that the server writes the recorded WAL records.
    fn write(&mut self) {
        let conn = client(1000);
        let packet = StartupMessage::new(&[("user", "postgres"), ("database", "postgres")]);
        self.rig.net(conn, NetEvent::Accepted);
        self.rig
            .hears(conn, StartupPacket::Startup(packet).to_bytes());
        let content: String = b"a line".iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("SELECT pg_logical_emit_message(true, 'short', '{content}')");
        self.rig
            .hears(conn, FrontendMessage::Query(text).to_bytes());
        self.rig.hears(conn, FrontendMessage::Terminate.to_bytes());
    }

    fn client_says(&mut self, said: &Said) {
        let conn = client(said.conn);
        if let Entry::Vacant(first) = self.heard.entry(said.conn) {
            first.insert(Heard::default());
            self.rig.net(conn, NetEvent::Accepted);
        }
        match said.kind {
            Kind::Eof => self.rig.net(conn, NetEvent::Closed),
            Kind::Packet | Kind::Message(_) | Kind::Byte => {
                if self.rig.closed.contains(&conn) {
                    return;
                }
                self.rig.hears(conn, said.bytes());
            }
        }
    }

    fn server_says(&mut self, said: &Said, at: &str) {
        let conn = client(said.conn);
        match said.kind {
            Kind::Eof => assert!(self.rig.closed.contains(&conn), "{at}: ours goes on"),
            Kind::Byte => {
                let sent = self.rig.sent.entry(conn).or_default();
                // A server with GSS support answers G. Such a capture cannot be compared, because
                // the bytes that follow are encrypted.
                assert_eq!(sent.drain(..1).as_slice(), b"N", "{at}");
            }
            Kind::Packet => panic!("{at}: a server sends no packet"),
            Kind::Message(_) => {
                let theirs = message(said.bytes(), at);
                let mut ours = self.next(said.conn, at);
                // When a walsender stops, it requests replies until the standby has confirmed all
                // WAL (WalSndDone). The number of these requests depends on timing.
                if self.stopping && is_request(&theirs) && !is_request(&ours) {
                    self.heard.get_mut(&said.conn).expect("made above").back = Some(ours);
                    return;
                }
                while self.stopping && is_request(&ours) && !is_request(&theirs) {
                    ours = self.next(said.conn, at);
                }
                let same = self.mask(theirs) == self.mask(ours.clone());
                if !same {
                    let theirs = self.mask(message(said.bytes(), at));
                    panic!(
                        "{at}\n  theirs: {theirs:?}\n  ours:   {:?}",
                        self.mask(ours)
                    );
                }
            }
        }
    }

    /// The server's next message. Lets time pass if necessary.
    fn next(&mut self, n: u32, at: &str) -> BackendMessage {
        for _ in 0..1000 {
            let heard = self.heard.get_mut(&n).expect("somebody connected");
            if let Some(message) = heard.back.take() {
                return message;
            }
            if let Some(bytes) = self.rig.sent.get_mut(&client(n)) {
                heard.frames.push(Bytes::from(std::mem::take(bytes)));
            }
            match heard.frames.next(backend_limit) {
                Ok(Some(frame)) => {
                    return BackendMessage::decode(frame).unwrap_or_else(|e| panic!("{at}: {e}"));
                }
                Ok(None) => assert!(self.rig.pass(), "{at}: ours says nothing"),
                Err(error) => panic!("{at}: {error}"),
            }
        }
        panic!("{at}: ours says nothing: {:#?}", self.rig.log);
    }

    /// Masks the fields that may differ between two servers in the same state.
    fn mask(&self, message: BackendMessage) -> BackendMessage {
        match message {
            // Masks the process id and the key. The length of the key is compared.
            BackendMessage::BackendKeyData { key, .. } => BackendMessage::BackendKeyData {
                pid: 0,
                key: vec![0; key.len()].into(),
            },
            // The minor version, and the text that the distribution adds to it.
            BackendMessage::ParameterStatus { name, value } if name == "server_version" => {
                let mut major = value.split(|c: char| !c.is_ascii_digit());
                let major = major.next().unwrap_or_default().into();
                BackendMessage::ParameterStatus { name, value: major }
            }
            // The minor version in SHOW server_version_num.
            BackendMessage::DataRow(row) if self.is_version_number(&row) => {
                let first = row[0].clone().expect("looked at above");
                BackendMessage::DataRow(vec![Some(first.slice(..2))])
            }
            // File, line and routine of PostgreSQL's source.
            BackendMessage::ErrorResponse(mut fields) => {
                fields.others.retain(|(code, _)| !b"FLR".contains(code));
                BackendMessage::ErrorResponse(fields)
            }
            BackendMessage::NoticeResponse(mut fields) => {
                fields.others.retain(|(code, _)| !b"FLR".contains(code));
                BackendMessage::NoticeResponse(fields)
            }
            BackendMessage::CopyData(payload) => BackendMessage::CopyData(self.mask_wal(payload)),
            other => other,
        }
    }

    fn is_version_number(&self, row: &[Option<Bytes>]) -> bool {
        let major = self.capture.major.to_string();
        matches!(row, [Some(value)] if value.len() == 6 && value.starts_with(major.as_bytes()))
    }

    /// Masks the sender's clock. Also masks WAL that was written after the capture began, because
    /// its records contain times.
    fn mask_wal(&self, payload: Bytes) -> Bytes {
        let mut out = Vec::new();
        match WalMessage::decode(payload.clone()) {
            Ok(WalMessage::XLogData(mut header, data)) => {
                header.send_time.0 = 0;
                let known = header.start + data.len() as u64 <= self.end_of_wal();
                let data = if known {
                    data
                } else {
                    vec![0; data.len()].into()
                };
                WalMessage::XLogData(header, data).encode(&mut out);
            }
            Ok(WalMessage::Keepalive(mut keepalive)) => {
                keepalive.send_time.0 = 0;
                WalMessage::Keepalive(keepalive).encode(&mut out);
            }
            Err(_) => return payload,
        }
        out.into()
    }

    /// The end of WAL in the captured segment. This is the end of the shutdown checkpoint to which
    /// the control file points.
    fn end_of_wal(&self) -> Lsn {
        let checkpoint = (&self.capture.state.control[32..]).get_u64_le();
        Lsn(checkpoint + 120)
    }
}

/// Whether the message is a keepalive that requests a reply.
fn is_request(message: &BackendMessage) -> bool {
    let BackendMessage::CopyData(payload) = message else {
        return false;
    };
    matches!(WalMessage::decode(payload.clone()), Ok(WalMessage::Keepalive(k)) if k.reply_requested)
}

fn message(bytes: Bytes, at: &str) -> BackendMessage {
    let mut reader = FrameReader::default();
    reader.push(bytes);
    let frame = reader
        .next(backend_limit)
        .unwrap_or_else(|e| panic!("{at}: {e}"));
    let frame = frame.unwrap_or_else(|| panic!("{at}: not all of it"));
    BackendMessage::decode(frame).unwrap_or_else(|e| panic!("{at}: {e}"))
}
