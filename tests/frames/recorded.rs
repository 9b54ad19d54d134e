//! A server that answers with the recorded messages of a real server. The standalone receiver must
//! work with these answers.

use crate::capture::{Capture, Event, Kind, Side, capture};
use crate::node::{Rig, VERSIONS};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use walsim_core::base::{ConnId, Lsn};
use walsim_core::call::{Exit, NetEvent};
use walsim_core::node::{ConnInfo, PgReceivewal, PgReceivewalOptions};
use walsim_core::wire::frame::FrameReader;
use walsim_core::wire::frontend::{FrontendMessage, command_limit};
use walsim_core::wire::replication::{StandbyMessage, StandbyStatus};

/// A message that the server sends, or an event for which the server waits.
#[derive(Clone, Debug)]
enum Line {
    Says(Bytes),
    /// The client ends its side of the COPY.
    AwaitsCopyDone,
    Closes,
}

/// All messages that a real server sent on one connection. The key of `answers` is the command to
/// which the server replied.
struct Recorded {
    greeting: Vec<Line>,
    answers: BTreeMap<String, VecDeque<Vec<Line>>>,
    /// The last status update of the real receiver.
    last: Option<StandbyStatus>,
}

impl Recorded {
    /// One connection of a capture. If the capture lacks the answer to a command, the answer comes
    /// from `commands`, the capture of all commands.
    fn new(capture: &Capture, conn: u32, commands: &Capture) -> Self {
        let mut all = Self::of(commands, 1);
        let Self {
            greeting,
            answers,
            last,
        } = Self::of(capture, conn);
        all.answers.extend(answers);
        Self {
            greeting,
            answers: all.answers,
            last,
        }
    }

    fn of(capture: &Capture, conn: u32) -> Self {
        let mut recorded = Self {
            greeting: Vec::new(),
            answers: BTreeMap::new(),
            last: None,
        };
        let (mut asked, mut lines) = (None, Vec::new());
        for (_, event) in &capture.events {
            let Event::Said(said) = event else { continue };
            if said.conn != conn {
                continue;
            }
            match (said.side, said.kind) {
                (Side::Server, Kind::Message(tag)) => {
                    lines.push(Line::Says(said.bytes()));
                    if tag == b'c' {
                        lines.push(Line::AwaitsCopyDone);
                    }
                }
                (Side::Server, Kind::Eof) => lines.push(Line::Closes),
                (Side::Client, Kind::Message(b'Q')) => {
                    let text = String::from_utf8_lossy(&said.body)
                        .trim_end_matches('\0')
                        .into();
                    recorded.keep(asked.replace(text), std::mem::take(&mut lines));
                }
                (Side::Client, Kind::Message(b'd')) => {
                    if let Ok(StandbyMessage::Status(status)) = StandbyMessage::decode(&said.body) {
                        recorded.last = Some(status);
                    }
                }
                (Side::Server, Kind::Byte | Kind::Packet) | (Side::Client, _) => {}
            }
        }
        recorded.keep(asked, lines);
        recorded
    }

    fn keep(&mut self, asked: Option<String>, lines: Vec<Line>) {
        match asked {
            Some(text) => {
                let answers = self.answers.entry(key(&text));
                answers.or_default().push_back(lines);
            }
            None => self.greeting = lines,
        }
    }

    /// The answer to a command. Quotes in the command do not matter. If the command is repeated,
    /// the recorded answers are used in their order, and then the last answer again.
    fn answer(&mut self, text: &str) -> Vec<Line> {
        let answers = self.answers.get_mut(&key(text));
        let answers = answers.unwrap_or_else(|| panic!("no real server was asked {text}"));
        if answers.len() > 1 {
            return answers.pop_front().expect("looked at above");
        }
        answers[0].clone()
    }
}

/// A command in a form that can be compared: without quotes, and with LSNs as they were written
/// before 19. Our receiver sends this form.
fn key(text: &str) -> String {
    let text = text.replace('"', "");
    let word = |word: &str| match word.parse::<Lsn>() {
        Ok(lsn) => lsn.to_string(),
        Err(_) => word.into(),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// The receiver and the recorded server.
struct Talk {
    rig: Rig<PgReceivewal>,
    server: Recorded,
    conn: ConnId,
    said: FrameReader,
    lines: VecDeque<Line>,
    commands: Vec<String>,
    last: Option<StandbyStatus>,
    copy_done: bool,
    /// The receiver's write position.
    written: Lsn,
}

impl Talk {
    fn new(options: PgReceivewalOptions, server: Recorded) -> Self {
        let mut rig = Rig::receiver(options);
        let conn = *rig.opened.last().expect("it looks for its server");
        assert!(rig.sent.remove(&conn).is_some(), "it says who it is");
        Self {
            rig,
            lines: server.greeting.clone().into(),
            server,
            conn,
            said: FrameReader::default(),
            commands: Vec::new(),
            last: None,
            copy_done: false,
            written: Lsn::INVALID,
        }
    }

    /// Runs until neither side sends anything.
    fn run(&mut self) {
        loop {
            match self.lines.front() {
                Some(Line::Says(bytes)) => {
                    let bytes = bytes.clone();
                    self.lines.pop_front();
                    self.rig.hears(self.conn, bytes);
                    let received = self.rig.machine.received();
                    self.written = received.map_or(self.written, |(write, _)| write);
                }
                Some(Line::Closes) => {
                    self.lines.pop_front();
                    self.rig.net(self.conn, NetEvent::Closed);
                }
                Some(Line::AwaitsCopyDone) if self.copy_done => {
                    self.lines.pop_front();
                    self.copy_done = false;
                }
                Some(Line::AwaitsCopyDone) => {
                    panic!("it does not end its half: {:#?}", self.rig.log)
                }
                None => {}
            }
            let sent = self.rig.sent.remove(&self.conn).unwrap_or_default();
            let quiet = sent.is_empty() && self.lines.is_empty();
            self.said.push(sent.into());
            self.listen();
            if quiet {
                return;
            }
        }
    }

    fn listen(&mut self) {
        while let Some(frame) = self.said.next(command_limit).expect("frames") {
            match FrontendMessage::decode(frame).expect("messages") {
                FrontendMessage::Query(text) => {
                    assert!(
                        self.lines.is_empty(),
                        "{text} before the last answer was whole"
                    );
                    self.lines = self.server.answer(&text).into();
                    self.commands.push(text);
                }
                FrontendMessage::CopyData(payload) => match StandbyMessage::decode(&payload) {
                    Ok(StandbyMessage::Status(status)) => self.last = Some(status),
                    other => panic!("a receiver does not say {other:?}"),
                },
                FrontendMessage::CopyDone => self.copy_done = true,
                FrontendMessage::Terminate => {}
                other => panic!("a receiver does not say {other:?}"),
            }
        }
    }

    /// The first bytes of a file in the receiver's directory.
    fn file(&self, name: &str, len: usize) -> Vec<u8> {
        let bytes = self.rig.disk.read_cached(name, 0, len as u64);
        bytes
            .unwrap_or_else(|| panic!("no {name}: {:#?}", self.rig.log))
            .to_vec()
    }
}

fn options() -> PgReceivewalOptions {
    PgReceivewalOptions {
        conninfo: ConnInfo {
            host: String::from("server"),
            port: 5432,
            user: String::from("postgres"),
            application_name: String::from("pg_receivewal"),
            connect_timeout_ms: 0,
            has_password: false,
        },
        slot: None,
        create_slot: false,
        slot_exists_ok: false,
        synchronous: false,
        no_loop: true,
        endpos: Lsn::INVALID,
    }
}

/// The captures contain all WAL of the segment before this offset.
const KNOWN: usize = 192_000;

/// With a slot, a keepalive and a clean shutdown, the receiver ends at the same position as
/// pg_receivewal.
#[test]
fn a_receiver_ends_where_pg_receivewal_ended() {
    let capture = capture(15, "receivewal-slot").expect("captured");
    let commands = crate::capture::capture(15, "commands").expect("captured");
    let options = PgReceivewalOptions {
        slot: Some(String::from("q")),
        synchronous: true,
        ..options()
    };
    let mut talk = Talk::new(options, Recorded::new(&capture, 2, &commands));
    talk.run();
    let start = format!(
        "START_REPLICATION SLOT \"q\" {} TIMELINE 1",
        capture.state.start
    );
    assert_eq!(talk.commands.last(), Some(&start));
    let flushed = |status: &Option<StandbyStatus>| status.map(|s| (s.write, s.flush));
    assert_eq!(flushed(&talk.last), flushed(&talk.server.last));
    assert_eq!(
        talk.rig.machine.exit(),
        Some(&Exit::Normal),
        "{:#?}",
        talk.rig.log
    );
    let name = format!("{}.partial", capture.state.segment_name);
    assert!(talk.file(&name, KNOWN) == capture.state.segment[..KNOWN]);
}

/// At the end of a timeline the receiver fetches the history file. Then it receives the next
/// timeline from the start of the segment.
#[test]
fn a_receiver_follows_where_a_real_standby_followed() {
    for version in VERSIONS {
        let major = version.major();
        let capture = capture(major, "walreceiver-follows").expect("captured for all versions");
        let commands = crate::capture::capture(major, "commands").expect("captured");
        let mut talk = Talk::new(options(), Recorded::new(&capture, 1, &commands));
        talk.run();
        let start = capture.state.start;
        let end = [
            format!("START_REPLICATION {start} TIMELINE 1"),
            String::from("TIMELINE_HISTORY 2"),
            format!("START_REPLICATION {start} TIMELINE 2"),
        ];
        let mut commands = talk.commands.clone();
        commands.retain(|text| !text.starts_with("SHOW") && text != "IDENTIFY_SYSTEM");
        assert_eq!(commands, end, "{major}");
        let next = capture
            .state
            .segment_name
            .replacen("00000001", "00000002", 1);
        for name in [&capture.state.segment_name, &next] {
            let name = format!("{name}.partial");
            assert!(
                talk.file(&name, KNOWN) == capture.state.segment[..KNOWN],
                "{major}: {name}"
            );
        }
        let history = talk.file("00000002.history", 1000);
        let history = String::from_utf8(history).expect("a text");
        let from = talk.server.last.expect("it reported").write;
        assert!(history.starts_with("1\t0/"), "{history}");
        assert!(
            history.ends_with("\tno recovery target specified\n"),
            "{history}"
        );
        assert_eq!(talk.written, from, "{major}");
    }
}
