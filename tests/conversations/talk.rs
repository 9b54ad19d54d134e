//! Reads conversations from their file, and runs them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// What a client sends.
pub(crate) struct Conversation {
    pub(crate) name: String,
    steps: Vec<Step>,
}

enum Step {
    /// Sends bytes, in which `{flush}` stands for the server's flush position.
    Say(Vec<u8>),
    /// Waits until this number of bytes has arrived.
    Await(usize),
}

/// All conversations in `conversations.txt`. A line that starts with `==` begins a conversation and
/// names it. Each further line is one of these:
///
/// * `ordinary`, `physical`, `database`: sends a startup packet for a session of this kind;
/// * `start MAJOR.MINOR NAME=VALUE | NAME=VALUE …`: sends any startup packet;
/// * `raw HEX`: sends bytes;
/// * `await N`: waits until N bytes of the answer have arrived;
/// * `X TEXT`, where X is the type of a message: sends this message with the text as its body. For
///   Q a NUL is added. In the text `\xHH` is a byte.
pub(crate) fn conversations() -> Vec<Conversation> {
    let mut all: Vec<Conversation> = Vec::new();
    for line in include_str!("conversations.txt").lines() {
        if let Some(name) = line.strip_prefix("== ") {
            let name = name.into();
            let steps = Vec::new();
            all.push(Conversation { name, steps });
        } else if !line.is_empty() && !line.starts_with('#') {
            let conversation = all.last_mut().expect("a name comes first");
            conversation.steps.push(step(line));
        }
    }
    all
}

fn step(line: &str) -> Step {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let session = |params: &str| Step::Say(startup("3.0", params));
    match word {
        "ordinary" => session("user=postgres|database=postgres"),
        "physical" => session("user=postgres|database=replication|replication=true"),
        "database" => session("user=postgres|database=postgres|replication=database"),
        "start" => {
            let (version, params) = rest.split_once(' ').unwrap_or((rest, ""));
            Step::Say(startup(version, params))
        }
        "raw" => Step::Say(escaped(rest)),
        "await" => Step::Await(rest.parse().expect("a number")),
        tag => {
            let mut body = escaped(rest);
            if tag == "Q" {
                body.push(0);
            }
            let len = u32::try_from(body.len() + 4).expect("short");
            Step::Say([tag.as_bytes(), &len.to_be_bytes(), &body].concat())
        }
    }
}

fn startup(version: &str, params: &str) -> Vec<u8> {
    let (major, minor) = version.split_once('.').expect("MAJOR.MINOR");
    let number = |text: &str| text.parse::<u16>().expect("a number").to_be_bytes();
    let mut body = [number(major), number(minor)].concat();
    for param in params.split('|').filter(|param| !param.is_empty()) {
        let (name, value) = param.split_once('=').expect("NAME=VALUE");
        for text in [name, value] {
            body.extend(escaped(text));
            body.push(0);
        }
    }
    body.push(0);
    let len = u32::try_from(body.len() + 4).expect("short");
    [&len.to_be_bytes()[..], &body].concat()
}

fn escaped(text: &str) -> Vec<u8> {
    let mut pieces = text.split("\\x");
    let mut out = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        out.push(u8::from_str_radix(&piece[..2], 16).expect("two digits"));
        out.extend(&piece.as_bytes()[2..]);
    }
    out
}

/// Runs a conversation. Returns all bytes that the server sent.
pub(crate) fn play(conversation: &Conversation, port: u16) -> Vec<u8> {
    let mut stream = connect(port);
    let mut heard = Vec::new();
    let mut unsent = Vec::new();
    for step in &conversation.steps {
        match step {
            Step::Say(bytes) => unsent.extend(with_positions(bytes, port)),
            Step::Await(count) => {
                stream.write_all(&unsent).expect("the server listens");
                unsent.clear();
                let mut bytes = vec![0; *count];
                stream.read_exact(&mut bytes).expect("the server answers");
                heard.extend(bytes);
            }
        }
    }
    // An error is ignored, because the server may have closed the connection.
    let _ = stream.write_all(&unsent);
    let _ = stream.shutdown(Shutdown::Write);
    heard.extend(rest(&mut stream));
    heard
}

/// Replaces `{flush}` by the flush position, and adjusts the length of the message.
fn with_positions(bytes: &[u8], port: u16) -> Vec<u8> {
    const FLUSH: &[u8] = b"{flush}";
    let Some(at) = bytes.windows(FLUSH.len()).position(|piece| piece == FLUSH) else {
        return bytes.to_vec();
    };
    let flush = flush_position(port);
    let mut out = [&bytes[..at], flush.as_bytes(), &bytes[at + FLUSH.len()..]].concat();
    let len = u32::try_from(out.len() - 1).expect("short");
    out[1..5].copy_from_slice(&len.to_be_bytes());
    out
}

fn flush_position(port: u16) -> String {
    let mut stream = connect(port);
    let Step::Say(hello) = step("physical") else {
        unreachable!("a start-up packet")
    };
    let Step::Say(query) = step("Q IDENTIFY_SYSTEM") else {
        unreachable!("a message")
    };
    stream
        .write_all(&[hello, query].concat())
        .expect("it listens");
    let _ = stream.shutdown(Shutdown::Write);
    let answer = rest(&mut stream);
    // The third column of IDENTIFY_SYSTEM is the flush position.
    let row = crate::mask::frames(&answer)
        .into_iter()
        .find(|(tag, _)| *tag == b'D');
    let values = crate::mask::values(&row.expect("one row").1);
    String::from_utf8(values[2].clone().expect("a position")).expect("digits")
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    // If the test passes, the server is never silent for this long.
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).expect("not zero");
    stream
}

fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return heard,
            Ok(n) => heard.extend(&buffer[..n]),
            // If a server closes a connection before it has read all data, it causes a reset.
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return heard,
            Err(e) => panic!("{e}"),
        }
    }
}
