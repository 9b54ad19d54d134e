//! Passes the recorded messages of a real upstream to a walreceiver. The walreceiver must send the
//! same commands as the recorded one, accept all messages, and end at the same positions.

use crate::capture::{Capture, Event, Kind, Side, capture};
use crate::node::{Drive, Rig, VERSIONS};
use bytes::Bytes;
use walsim_core::base::ConnId;
use walsim_core::call::NetEvent;
use walsim_core::wire::frame::FrameReader;
use walsim_core::wire::frontend::{FrontendMessage, command_limit};
use walsim_core::wire::replication::{StandbyMessage, StandbyStatus};

/// Messages that a real walreceiver sends and walsim's walreceiver does not. walsim has neither
/// encryption nor hot standby feedback.
const NOT_YET: [&str; 2] = ["SSLRequest", "hot standby feedback"];

#[test]
fn a_walreceiver_accepts_what_a_real_server_sends() {
    assert_eq!(NOT_YET.len(), 2);
    for version in VERSIONS {
        let capture = capture(version.major(), "walreceiver").expect("captured for all versions");
        let (conn, mut rig) = connected(&capture);
        let (theirs, mut reader) = (asked(&capture), FrameReader::default());
        let mut ours = Asked::default();
        for (_, event) in &capture.events {
            let Event::Said(said) = event else { continue };
            match (said.side, said.kind) {
                (Side::Server, Kind::Message(_)) => rig.hears(conn, said.bytes()),
                // The connection has ended. The standby reconnects.
                (Side::Server, Kind::Eof) => rig.net(conn, NetEvent::Closed),
                (Side::Server, Kind::Byte | Kind::Packet) | (Side::Client, _) => {}
            }
            reader.push(Bytes::from(rig.sent.remove(&conn).unwrap_or_default()));
            ours.take(&mut reader);
        }
        assert_eq!(ours.commands, theirs.commands);
        let last = |asked: &Asked| asked.last.map(|s| (s.write, s.flush, s.apply));
        assert_eq!(last(&ours), last(&theirs), "{:#?}", rig.log);
        let end = "replication terminated by primary server";
        assert!(
            rig.log.iter().any(|line| line.contains(end)),
            "{:#?}",
            rig.log
        );
    }
}

/// A standby that has just connected and sent its startup packet.
fn connected(capture: &Capture) -> (ConnId, Rig) {
    let mut rig = Rig::new(capture, Some("upstream"), |_| ());
    for _ in 0..10 {
        if !rig.opened.is_empty() {
            break;
        }
        rig.pass();
    }
    let conn = *rig.opened.last().expect("a standby looks for its upstream");
    let packet = rig.sent.remove(&conn).expect("it says who it is");
    let theirs = capture.events.iter().find_map(|(_, event)| match event {
        // The body of an encryption request is a code of four bytes. A startup packet is longer.
        Event::Said(said) if said.kind == Kind::Packet && said.body.len() > 4 => Some(said.bytes()),
        Event::Said(_) | Event::Act(_) => None,
    });
    assert_eq!(Some(Bytes::from(packet)), theirs);
    (conn, rig)
}

/// The commands that a receiver has sent, and its last status update.
#[derive(Default)]
struct Asked {
    commands: Vec<String>,
    last: Option<StandbyStatus>,
}

impl Asked {
    fn take(&mut self, reader: &mut FrameReader) {
        while let Some(frame) = reader.next(command_limit).expect("frames") {
            match FrontendMessage::decode(frame).expect("messages") {
                FrontendMessage::Query(text) => self.commands.push(text),
                FrontendMessage::CopyData(payload) => {
                    if let Ok(StandbyMessage::Status(status)) = StandbyMessage::decode(&payload) {
                        self.last = Some(status);
                    }
                }
                FrontendMessage::Terminate => {}
                other => panic!("a walreceiver does not say {other:?}"),
            }
        }
    }
}

fn asked(capture: &Capture) -> Asked {
    let mut asked = Asked::default();
    let mut reader = FrameReader::default();
    for (_, event) in &capture.events {
        if let Event::Said(said) = event
            && said.side == Side::Client
            && matches!(said.kind, Kind::Message(_))
        {
            reader.push(said.bytes());
        }
    }
    asked.take(&mut reader);
    asked
}
