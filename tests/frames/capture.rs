//! Reads the captures in `tests/golden/frames`, which contain messages between real clients and
//! servers. The README in this directory describes the format.

use bytes::{BufMut, Bytes};
use std::fs;
use std::path::{Path, PathBuf};
use walsim_core::base::Lsn;

/// The sender of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Client,
    Server,
}

/// How the bytes of a message are recognized.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A packet without a type, before the first message.
    Packet,
    /// The single byte that answers an encryption request.
    Byte,
    /// A message with this type.
    Message(u8),
    /// The end of the stream in this direction.
    Eof,
}

/// A message. It is complete unless `elided` is greater than 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Said {
    pub(crate) conn: u32,
    pub(crate) side: Side,
    pub(crate) kind: Kind,
    pub(crate) body: Bytes,
    /// How many bytes at the end of the message are not in the capture.
    pub(crate) elided: usize,
}

impl Said {
    /// The bytes as they were sent.
    pub(crate) fn bytes(&self) -> Bytes {
        assert_eq!(self.elided, 0, "not all of it is known");
        let mut out = Vec::new();
        let length = u32::try_from(self.body.len() + 4).expect("captured messages are short");
        match self.kind {
            Kind::Packet => out.put_u32(length),
            Kind::Message(tag) => {
                out.put_u8(tag);
                out.put_u32(length);
            }
            Kind::Byte | Kind::Eof => {}
        }
        out.extend_from_slice(&self.body);
        out.into()
    }
}

/// A line of a capture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    Said(Said),
    /// An event that is not a message.
    Act(String),
}

/// The files of a server when its captures began. All captures of a version begin with these files.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) control: Vec<u8>,
    pub(crate) segment_name: String,
    pub(crate) segment: Vec<u8>,
    /// The position of the first byte of the segment.
    pub(crate) start: Lsn,
}

/// One capture.
#[derive(Clone, Debug)]
pub(crate) struct Capture {
    pub(crate) major: u32,
    pub(crate) name: String,
    pub(crate) events: Vec<(usize, Event)>,
    pub(crate) state: State,
}

/// The segment size.
pub(crate) const SEGMENT: u32 = 1 << 20;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/frames")
}

/// All captures of all versions.
pub(crate) fn captures() -> Vec<Capture> {
    let mut captures = Vec::new();
    for major in 15..=19 {
        let folder = golden().join(major.to_string());
        let mut names: Vec<_> = fs::read_dir(&folder)
            .expect("every version has a folder")
            .map(|entry| entry.expect("a folder of ours").path())
            .filter(|path| path.extension().is_some_and(|e| e == "frames"))
            .collect();
        names.sort();
        let state = State::read(&folder);
        for path in names {
            let name = path.file_stem().expect("it has a name").to_string_lossy();
            let text = fs::read_to_string(&path).expect("a text");
            captures.push(Capture {
                major,
                name: name.into_owned(),
                events: events(&text, &state),
                state: state.clone(),
            });
        }
    }
    captures
}

/// The capture with this version and name.
pub(crate) fn capture(major: u32, name: &str) -> Option<Capture> {
    captures()
        .into_iter()
        .find(|capture| capture.major == major && capture.name == name)
}

impl State {
    fn read(folder: &Path) -> Self {
        let entries = fs::read_dir(folder).expect("every version has a folder");
        let mut names = entries.map(|e| e.expect("a folder of ours").file_name());
        let segment_name = names
            .find_map(|name| name.into_string().ok().filter(|name| name.len() == 24))
            .expect("every version has a segment");
        let mut segment = fs::read(folder.join(&segment_name)).expect("it is there");
        segment.resize(SEGMENT as usize, 0);
        let number = u64::from_str_radix(&segment_name[16..], 16).expect("a segment's name");
        Self {
            control: fs::read(folder.join("pg_control")).expect("every version has one"),
            segment_name,
            segment,
            start: Lsn(number * u64::from(SEGMENT)),
        }
    }

    /// The WAL of the segment at this position.
    pub(crate) fn wal(&self, at: Lsn, len: usize) -> &[u8] {
        let from = usize::try_from(at - self.start).expect("within the segment");
        &self.segment[from..from + len]
    }
}

impl Capture {
    /// The place of a line in its file, for messages of failing tests.
    pub(crate) fn at(&self, line: usize) -> String {
        format!("{}/{}.frames:{line}", self.major, self.name)
    }
}

fn events(text: &str, state: &State) -> Vec<(usize, Event)> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.starts_with('#'));
    lines
        .map(|(i, line)| {
            let event = match line.strip_prefix("- ") {
                Some(act) => Event::Act(act.into()),
                None => Event::Said(said(line, state)),
            };
            (i + 1, event)
        })
        .collect()
}

fn said(line: &str, state: &State) -> Said {
    let mut words = line.splitn(4, ' ');
    let mut word = || words.next().unwrap_or_default();
    let conn = word().parse().expect("a line begins with a connection");
    let side = match word() {
        "F" => Side::Client,
        "B" => Side::Server,
        other => panic!("nobody is {other}: {line}"),
    };
    let kind = match word() {
        "packet" => Kind::Packet,
        "byte" => Kind::Byte,
        "EOF" => Kind::Eof,
        tag => match tag.as_bytes() {
            [tag] => Kind::Message(*tag),
            _ => panic!("{tag} is no kind: {line}"),
        },
    };
    let (mut body, mut elided) = (Vec::new(), 0);
    let mut rest = word();
    while !rest.is_empty() {
        if let Some(text) = rest.strip_prefix('"') {
            rest = unquoted(text, &mut body);
        } else if let Some(place) = rest.strip_prefix("wal ") {
            let (at, more) = place.split_once(' ').expect("a position and a length");
            let (len, more) = more.split_once(' ').unwrap_or((more, ""));
            let at = at.parse().expect("a position");
            let len = len.parse().expect("a length");
            body.extend_from_slice(state.wal(at, len));
            rest = more;
        } else if let Some(len) = rest.strip_prefix("elided ") {
            elided = len.parse().expect("a length");
            rest = "";
        } else {
            panic!("what is {rest}: {line}");
        }
        rest = rest.trim_start();
    }
    Said {
        conn,
        side,
        kind,
        body: body.into(),
        elided,
    }
}

/// Appends the text before the closing quote, and returns the rest.
fn unquoted<'a>(text: &'a str, out: &mut Vec<u8>) -> &'a str {
    let mut rest = text;
    loop {
        let end = rest.find(['"', '\\']).expect("a text ends with a quote");
        out.extend_from_slice(&rest.as_bytes()[..end]);
        if rest[end..].starts_with('"') {
            return &rest[end + 1..];
        }
        let (byte, len) = match rest.as_bytes()[end + 1] {
            b'0' => (0, 2),
            b't' => (b'\t', 2),
            b'n' => (b'\n', 2),
            b'r' => (b'\r', 2),
            b'x' => {
                let digits = &rest[end + 2..end + 4];
                (u8::from_str_radix(digits, 16).expect("two digits"), 4)
            }
            other => (other, 2),
        };
        out.push(byte);
        rest = &rest[end + len..];
    }
}
