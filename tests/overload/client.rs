//! The messages of a client, and the count of answers.

use bytes::Bytes;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;
use walsim_core::wire::backend::{BackendMessage, backend_limit};
use walsim_core::wire::frame::FrameReader;
use walsim_core::wire::frontend::FrontendMessage;
use walsim_core::wire::startup::{StartupMessage, StartupPacket};

/// The kinds of sessions, by the value of `replication` in the startup packet.
pub(crate) const SESSIONS: [&str; 3] = ["false", "true", "database"];

/// How many messages are sent at once.
pub(crate) const FLOOD: usize = 20_001;

/// A kind of message in a flood.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Sync,
    Flush,
    Query(&'static str),
    CopyData,
    CopyDone,
    /// Sync messages with a Terminate in the middle. The server ignores the messages after the
    /// Terminate.
    Terminate,
}

pub(crate) const KINDS: [Kind; 12] = [
    Kind::Sync,
    Kind::Flush,
    Kind::Query("SHOW wal_level"),
    Kind::CopyData,
    Kind::CopyDone,
    Kind::Query("SELEC 1"),
    Kind::Query("IDENTIFY_SYSTEM"),
    Kind::Query("COMMIT"),
    Kind::Query("READ_REPLICATION_SLOT nosuch"),
    Kind::Query(""),
    Kind::Query("TIMELINE_HISTORY 7"),
    Kind::Terminate,
];

impl Kind {
    fn message(self) -> FrontendMessage {
        match self {
            Self::Sync | Self::Terminate => FrontendMessage::Sync,
            Self::Flush => FrontendMessage::Flush,
            Self::Query(text) => FrontendMessage::Query(text.into()),
            Self::CopyData => FrontendMessage::CopyData(Bytes::from_static(b"left over")),
            Self::CopyDone => FrontendMessage::CopyDone,
        }
    }

    /// One message, and a Sync that marks its end.
    pub(crate) fn once(self) -> Vec<u8> {
        [self.message(), FrontendMessage::Sync]
            .map(|message| message.to_bytes())
            .concat()
    }

    /// The flood, and a Sync that marks its end.
    pub(crate) fn flood(self) -> Vec<u8> {
        let mut out = self.message().to_bytes().repeat(FLOOD);
        if matches!(self, Self::Terminate) {
            FrontendMessage::Terminate.encode(&mut out);
            out.extend(FrontendMessage::Sync.to_bytes().repeat(FLOOD));
        }
        FrontendMessage::Sync.encode(&mut out);
        out
    }
}

/// A startup packet.
pub(crate) fn startup(replication: &str) -> Bytes {
    let params = [
        ("user", "postgres"),
        ("database", "postgres"),
        ("replication", replication),
    ];
    StartupPacket::Startup(StartupMessage::new(&params)).to_bytes()
}

/// A connection to a server.
pub(crate) struct Client {
    stream: TcpStream,
    heard: FrameReader,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        // If the test passes, the server is never silent for this long.
        let patience = Some(Duration::from_secs(60));
        stream.set_read_timeout(patience).expect("not zero");
        Self {
            stream,
            heard: FrameReader::default(),
        }
    }

    /// A session after its first ReadyForQuery.
    pub(crate) fn session(port: u16, replication: &str) -> Self {
        let mut client = Self::connect(port);
        client.say(&startup(replication));
        client.until_ready();
        client
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server listens");
    }

    pub(crate) fn query(&mut self, text: &str) {
        self.say(&FrontendMessage::Query(text.into()).to_bytes());
    }

    /// Sends bytes from another thread, so that this thread can read the answers. Errors are
    /// ignored, because the server may have closed the connection.
    pub(crate) fn say_all(&self, bytes: Vec<u8>) {
        let mut stream = self.stream.try_clone().expect("it has descriptors");
        thread::spawn(move || stream.write_all(&bytes));
    }

    /// Closes the sending side.
    pub(crate) fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next message, or `None` at the end of the stream.
    pub(crate) fn next(&mut self) -> Option<BackendMessage> {
        loop {
            if let Some(frame) = self.heard.next(backend_limit).expect("messages") {
                return Some(BackendMessage::decode(frame).expect("a message"));
            }
            let mut buffer = vec![0; 64 * 1024];
            let got = match self.stream.read(&mut buffer) {
                Ok(got) => got,
                Err(e) if e.kind() == ErrorKind::ConnectionReset => 0,
                Err(e) => panic!("{e}"),
            };
            if got == 0 {
                assert_eq!(self.heard.buffered(), 0, "half a message");
                return None;
            }
            buffer.truncate(got);
            self.heard.push(buffer.into());
        }
    }

    /// All messages up to the next ReadyForQuery, or to the end of the stream.
    pub(crate) fn until_ready(&mut self) -> Vec<BackendMessage> {
        let mut messages = Vec::new();
        while let Some(message) = self.next() {
            let ready = matches!(message, BackendMessage::ReadyForQuery(_));
            messages.push(message);
            if ready {
                break;
            }
        }
        messages
    }

    /// All messages up to the end of the stream.
    pub(crate) fn rest(&mut self) -> Vec<BackendMessage> {
        std::iter::from_fn(|| self.next()).collect()
    }
}
