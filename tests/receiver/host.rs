//! A receiver on a simulated disk. The host records all actions of the receiver. It also checks
//! that no crash could lose WAL which the receiver has reported as flushed.

use bytes::Bytes;
use std::ops::{Deref, DerefMut};
use walsim::choice::Choices;
use walsim::disk::{Disk, DiskSpec};
use walsim_core::base::{ConnId, Geometry, Lsn, PgVersion, Pid, SegmentNo, Settings, TimelineId};
use walsim_core::call::{Effect, Exit, Input, NetEvent, NetOp};
use walsim_core::node::{ConnInfo, PgReceivewal, PgReceivewalOptions};
use walsim_core::wal::names::segment_name;
use walsim_core::wire::frame::FrameReader;
use walsim_core::wire::frontend::{FrontendMessage, command_limit};
use walsim_core::wire::replication::{StandbyMessage, StandbyStatus};
pub(crate) use walsim_tests::Drive;
use walsim_tests::Harness;

/// The sizes of pages and segments of the servers in these tests.
pub(crate) fn geometry() -> Geometry {
    Geometry::TINY
}

pub(crate) fn options() -> PgReceivewalOptions {
    PgReceivewalOptions {
        conninfo: ConnInfo {
            host: String::from("server"),
            port: 5432,
            user: String::from("postgres"),
            application_name: String::from("receiver"),
            connect_timeout_ms: 0,
            has_password: false,
        },
        slot: None,
        create_slot: false,
        slot_exists_ok: false,
        synchronous: false,
        no_loop: false,
        endpos: Lsn::INVALID,
    }
}

/// A receiver and its disk.
pub(crate) struct Host {
    harness: Harness<PgReceivewal>,
    options: PgReceivewalOptions,
    incarnation: u32,
    said: FrameReader,
    greeted: bool,
    /// The current connection, if there is one.
    pub(crate) conn: Option<ConnId>,
    /// The messages that the receiver has sent and that its peer has not read.
    pub(crate) sent: Vec<Bytes>,
    pub(crate) credit: u64,
    /// The start position of streaming.
    pub(crate) first: Option<Lsn>,
    /// The end of the WAL that the receiver has written.
    pub(crate) written: Lsn,
    /// The highest flush position that the receiver has reported.
    pub(crate) flushed: Lsn,
    /// The disk operations and messages of the receiver, in order.
    events: Vec<String>,
    pub(crate) log: Vec<String>,
    pub(crate) exit: Option<Exit>,
}

impl Deref for Host {
    type Target = Harness<PgReceivewal>;

    fn deref(&self) -> &Self::Target {
        &self.harness
    }
}

impl DerefMut for Host {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.harness
    }
}

impl Drive<PgReceivewal> for Host {
    fn stepped(&mut self) {
        self.written = self.machine.received().map_or(self.written, |(at, _)| at);
    }

    fn effect(&mut self, _: Pid, effect: Effect) {
        match effect {
            Effect::Disk(_, call) => self.events.push(call.describe(|_| String::new())),
            Effect::Net(conn, call) => self.net(conn, call),
            Effect::Log(event) => self.log.push(event.message.to_string()),
            Effect::Exit(exit) => self.exit = Some(exit),
            Effect::Halt => self.conn = None,
        }
    }
}

impl Host {
    pub(crate) fn new(options: PgReceivewalOptions, seed: u64) -> Self {
        let disk = Disk::new(0, DiskSpec::default(), geometry().sector, 1 << 30);
        let mut harness = Harness::new(start(options.clone(), 1), disk);
        harness.choices = Choices::new(seed);
        harness.wall_offset_us = 1_000_000;
        Self {
            harness,
            options,
            incarnation: 1,
            said: FrameReader::default(),
            greeted: false,
            conn: None,
            sent: Vec::new(),
            credit: 0,
            first: None,
            written: Lsn::INVALID,
            flushed: Lsn::INVALID,
            events: Vec::new(),
            log: Vec::new(),
            exit: None,
        }
    }

    fn net(&mut self, conn: ConnId, call: NetOp) {
        match call {
            NetOp::Connect { .. } => {
                self.conn = Some(conn);
                self.credit = 0;
                self.greeted = false;
                self.said = FrameReader::default();
                self.events.push(String::from("connect"));
            }
            NetOp::Read { max } => self.credit += u64::from(max),
            NetOp::Send(pieces) => {
                for piece in pieces {
                    self.sent.push(piece.clone());
                    self.hear(piece);
                }
            }
            NetOp::Close => {
                self.conn = None;
                self.events.push(String::from("disconnect"));
            }
            NetOp::HandOver(_) => unreachable!("there is only one process"),
        }
    }

    fn hear(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        if !self.greeted {
            self.greeted = true;
            self.events.push(String::from("startup"));
            return;
        }
        self.said.push(piece);
        while let Some(frame) = self.said.next(command_limit).expect("it sends frames") {
            let message = FrontendMessage::decode(frame).expect("it sends messages");
            if let FrontendMessage::Query(text) = &message {
                self.note_start(text);
                self.events.push(text.clone());
            } else if let FrontendMessage::CopyData(payload) = &message {
                let payload = StandbyMessage::decode(payload).expect("it sends reports");
                let StandbyMessage::Status(status) = payload else {
                    panic!("it has no queries that could need rows");
                };
                self.judge(&status);
                self.events
                    .push(format!("reply {} {}", status.write, status.flush));
            } else {
                self.events.push(format!("{message:?}"));
            }
        }
    }

    fn note_start(&mut self, text: &str) {
        let words: Vec<_> = text.split(' ').collect();
        if words[0] == "START_REPLICATION" {
            let start = words.iter().find(|word| word.contains('/'));
            let start = start.expect("it says from where").parse();
            // If the directory is empty, the receiver starts at the position of the slot, or else
            // at the position of the server.
            if self.names().is_empty() {
                self.first = Some(start.expect("an LSN"));
            }
        }
    }

    /// Checks that WAL which is reported as flushed survives every crash, in files that the
    /// receiver finds at its next start.
    fn judge(&mut self, status: &StandbyStatus) {
        assert!(status.flush <= status.write, "{status:?}");
        if !status.flush.is_valid() {
            return;
        }
        self.flushed = self.flushed.max(status.flush);
        let geometry = geometry();
        let first = self.first.expect("it streams");
        let (first, last) = (
            geometry.segment_of(first),
            geometry.segment_of(status.flush),
        );
        for segment in first.0..last.0 {
            let name = name(1, SegmentNo(segment));
            let whole = 0..u64::from(geometry.segment);
            assert!(self.disk.is_stable(&name, whole), "{name}: {status:?}");
        }
        let part = 0..u64::from(geometry.segment_offset(status.flush));
        if !part.is_empty() {
            let name = format!("{}.partial", name(1, last));
            assert!(self.disk.is_stable(&name, part), "{name}: {status:?}");
        }
    }

    pub(crate) fn is_runnable(&self) -> bool {
        !self.runnable().is_empty()
    }

    pub(crate) fn event(&mut self, event: NetEvent) {
        let conn = self.conn.expect("it has connected");
        self.input(Input::Net(conn, event));
    }

    pub(crate) fn events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }

    /// Kills the receiver as `kill -9` does, and starts it again in the same directory. Operations
    /// that were issued before the kill are still executed.
    pub(crate) fn kill(&mut self) {
        let pid = self.machine.pid();
        self.replace(true);
        self.disk.close_all(pid);
    }

    /// Turns the machine's power off and on, and starts the receiver again.
    pub(crate) fn lose_power(&mut self) {
        let Harness { disk, choices, .. } = &mut self.harness;
        disk.power_loss(geometry().data_page, choices);
        self.start_again();
    }

    pub(crate) fn start_again(&mut self) {
        self.replace(false);
    }

    fn replace(&mut self, finish: bool) {
        self.incarnation += 1;
        let machine = start(self.options.clone(), self.incarnation);
        self.harness.replace(machine, finish);
        self.conn = None;
        self.sent.clear();
        self.exit = None;
    }

    /// The contents of a file in the receiver's directory.
    pub(crate) fn file(&self, name: &str) -> Option<Vec<u8>> {
        let len = self.disk.file_len(name)?;
        self.disk.read_cached(name, 0, len)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = self.disk.list(".");
        names.sort();
        names
    }
}

fn start(options: PgReceivewalOptions, incarnation: u32) -> PgReceivewal {
    // The receiver must use the segment size of the server, whatever it is.
    let geometry = Geometry {
        segment: 4 * 512,
        ..geometry()
    };
    let mut settings = Settings::new(PgVersion::V18, geometry);
    settings.wal_receiver_status_interval_ms = 1000;
    settings.wal_receiver_timeout_ms = 4000;
    PgReceivewal::start(settings, options, incarnation)
}

pub(crate) fn name(tli: u32, segment: SegmentNo) -> String {
    segment_name(&geometry(), TimelineId(tli), segment)
}
