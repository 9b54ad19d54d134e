//! What a client says, as bytes, and how it counts what comes back.

use bytes::Bytes;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;
use walsim_core::wire::backend::{BackendMessage, backend_limit};
use walsim_core::wire::frame::FrameReader;
use walsim_core::wire::frontend::FrontendMessage;
use walsim_core::wire::startup::{StartupMessage, StartupPacket};

/// A session's kind, as `replication` in the start-up packet names it.
pub(crate) const SESSIONS: [&str; 3] = ["false", "true", "database"];

/// How many messages are sent at once.
pub(crate) const FLOOD: usize = 20_001;

/// A kind of message that comes in floods.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Sync,
    Flush,
    Query(&'static str),
    CopyData,
    CopyDone,
    /// Syncs with a Terminate in the middle: what follows it is not looked at.
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

    /// One message, and a Sync that tells its end.
    pub(crate) fn once(self) -> Vec<u8> {
        [self.message(), FrontendMessage::Sync]
            .map(|message| message.to_bytes())
            .concat()
    }

    /// The flood, and a Sync that tells its end.
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

/// A request for a session.
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
        // Only a server that fails the test says nothing for so long.
        let patience = Some(Duration::from_secs(60));
        stream.set_read_timeout(patience).expect("not zero");
        Self {
            stream,
            heard: FrameReader::default(),
        }
    }

    /// A session that has been greeted.
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

    /// Says it while the answers are read elsewhere. A server that has hung up need not hear all of
    /// it.
    pub(crate) fn say_all(&self, bytes: Vec<u8>) {
        let mut stream = self.stream.try_clone().expect("it has descriptors");
        thread::spawn(move || stream.write_all(&bytes));
    }

    /// Says no more.
    pub(crate) fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next message; none at the end of the stream.
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

    /// Everything up to the next ReadyForQuery, or to the end.
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

    /// Everything up to the end of the stream.
    pub(crate) fn rest(&mut self) -> Vec<BackendMessage> {
        std::iter::from_fn(|| self.next()).collect()
    }
}
