//! Decodes each captured message and encodes it again. The result must have the same bytes.

use crate::capture::{Capture, Event, Kind, Said, Side, captures};
use bytes::Bytes;
use std::collections::BTreeSet;
use walsim_core::base::PgVersion;
use walsim_core::wire::backend::{BackendMessage, backend_limit};
use walsim_core::wire::command::Command;
use walsim_core::wire::frame::{Frame, FrameReader};
use walsim_core::wire::frontend::{FrontendMessage, command_limit};
use walsim_core::wire::replication::{StandbyMessage, WalMessage};
use walsim_core::wire::startup::{Negotiation, StartupPacket};

/// The message types without a codec, each with the reason.
const UNKNOWN: [(Side, u8, &str); 2] = [
    (
        Side::Server,
        b'H',
        "CopyOutResponse: only BASE_BACKUP copies in one direction",
    ),
    (
        Side::Client,
        b'?',
        "the capture asks what a server does with an unknown type",
    ),
];

/// Commands that are recognized but not parsed.
const UNSUPPORTED: [&str; 1] = ["BASE_BACKUP"];

#[test]
fn every_message_is_decoded_and_encoded_again() {
    let mut kinds = BTreeSet::new();
    let mut unknown = BTreeSet::new();
    for capture in captures() {
        let mut session = Session::default();
        for (line, event) in &capture.events {
            let Event::Said(said) = event else { continue };
            match said.kind {
                Kind::Message(tag)
                    if UNKNOWN.iter().any(|(s, t, _)| (*s, *t) == (said.side, tag)) =>
                {
                    unknown.insert(tag);
                    session.copy_out |= tag == b'H';
                }
                Kind::Message(tag) => {
                    kinds.insert((said.side == Side::Server, tag));
                    session.message(&capture, *line, said);
                }
                Kind::Packet => packet(&capture, *line, said),
                Kind::Byte => assert!(matches!(&*said.body, b"N" | b"S" | b"G")),
                Kind::Eof => assert!(said.body.is_empty()),
            }
        }
    }
    // Checks that the captures contain the expected messages.
    let of = |server| {
        kinds
            .iter()
            .filter(|k| k.0 == server)
            .map(|k| char::from(k.1))
            .collect::<String>()
    };
    assert_eq!(of(true), "CDEKNRSTWZcdv");
    assert_eq!(of(false), "FPQSXcdp");
    assert_eq!(unknown.len(), UNKNOWN.len());
}

#[derive(Default)]
struct Session {
    /// The server is sending a base backup. The CopyData messages of a base backup do not contain
    /// WAL.
    copy_out: bool,
}

impl Session {
    fn message(&mut self, capture: &Capture, line: usize, said: &Said) {
        let at = capture.at(line);
        if said.elided > 0 {
            return;
        }
        let bytes = said.bytes();
        let mut reader = FrameReader::default();
        reader.push(bytes.clone());
        let mut out = Vec::new();
        match said.side {
            Side::Server => {
                let frame = cut(&mut reader, backend_limit, &at);
                let message = BackendMessage::decode(frame).unwrap_or_else(|e| panic!("{at}: {e}"));
                message.encode(&mut out);
                match message {
                    BackendMessage::CopyData(payload) if !self.copy_out => {
                        let wal = WalMessage::decode(payload.clone())
                            .unwrap_or_else(|e| panic!("{at}: {e}"));
                        let mut again = Vec::new();
                        wal.encode(&mut again);
                        assert_eq!(payload, again, "{at}");
                    }
                    BackendMessage::CopyDone => self.copy_out = false,
                    _ => {}
                }
            }
            Side::Client => {
                let password = said.kind == Kind::Message(b'p');
                // A client sends PasswordMessage only during authentication.
                let limit = |tag| {
                    if password {
                        Ok(10_000)
                    } else {
                        command_limit(tag)
                    }
                };
                let frame = cut(&mut reader, limit, &at);
                let message =
                    FrontendMessage::decode(frame).unwrap_or_else(|e| panic!("{at}: {e}"));
                message.encode(&mut out);
                match message {
                    FrontendMessage::CopyData(payload) if &*payload != b"late" => {
                        let said = StandbyMessage::decode(&payload)
                            .unwrap_or_else(|e| panic!("{at}: {e}"));
                        let mut again = Vec::new();
                        said.encode(&mut again);
                        assert_eq!(payload, again, "{at}");
                    }
                    FrontendMessage::Query(text) => command(&capture.name, &text, &at),
                    _ => {}
                }
            }
        }
        assert_eq!(out, bytes, "{at}");
    }
}

/// walsim must send the same command as the real receiver. The capture `commands` is skipped,
/// because it also contains many invalid commands.
fn command(name: &str, text: &str, at: &str) {
    if name == "commands" || UNSUPPORTED.iter().any(|word| text.starts_with(word)) {
        return;
    }
    let parsed = Command::parse(text, PgVersion::V15).command;
    let command = parsed.unwrap_or_else(|e| panic!("{at}: {e}"));
    let command = command.unwrap_or_else(|| panic!("{at}: SQL"));
    // pg_receivewal and pg_basebackup quote and space some words differently.
    let same = |text: &str| text.replace(['"', ' '], "");
    // Since 19 the second half of an LSN is written with all eight digits.
    let client = if at.starts_with("19/") {
        PgVersion::V19
    } else {
        PgVersion::V18
    };
    assert_eq!(same(&command.text(client)), same(text), "{at}");
}

fn packet(capture: &Capture, line: usize, said: &Said) {
    let at = capture.at(line);
    let mut reader = FrameReader::default();
    reader.push(said.bytes());
    let body = reader
        .next_startup()
        .unwrap_or_else(|e| panic!("{at}: {e}"));
    let body = body.unwrap_or_else(|| panic!("{at}: not all of it"));
    assert_eq!(body, said.body);
    match Negotiation::default().decode(&body, PgVersion::V15) {
        Ok(packet) => assert_eq!(packet.to_bytes(), said.bytes(), "{at}"),
        Err(error) => {
            // Only one packet cannot be decoded. It requests a major version of the protocol that
            // the server does not support.
            assert_eq!(&body[..4], b"\0\x04\0\0", "{at}: {error}");
            let StartupPacket::Startup(_) =
                (match Negotiation::default().decode(&patched(&body), PgVersion::V15) {
                    Ok(packet) => packet,
                    Err(error) => panic!("{at}: {error}"),
                })
            else {
                panic!("{at}: the rest is sound")
            };
        }
    }
}

fn patched(body: &[u8]) -> Bytes {
    [b"\0\x03\0\0", &body[4..]].concat().into()
}

fn cut(
    reader: &mut FrameReader,
    limit: impl FnOnce(u8) -> Result<u32, walsim_core::wire::frame::FrameError>,
    at: &str,
) -> Frame {
    let frame = reader.next(limit).unwrap_or_else(|e| panic!("{at}: {e}"));
    let frame = frame.unwrap_or_else(|| panic!("{at}: not all of it"));
    assert_eq!(reader.buffered(), 0, "{at}: more than a message");
    frame
}
