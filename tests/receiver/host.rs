//! A receiver on a fake disk, moved by hand. Everything that it does is written down, and what it
//! reports as durable is held against what the disk could lose.

use bytes::Bytes;
use std::collections::BTreeMap;
use walsim::choice::Choices;
use walsim::disk::{Disk, DiskSpec, Ticket};
use walsim_core::base::{
    ConnId, Geometry, Lsn, Mono, Now, OpId, PgVersion, SegmentNo, Settings, TimelineId, TimestampTz,
};
use walsim_core::call::{DiskOp, Effect, Effects, Exit, Input, Machine, NetEvent, NetOp, RunSet};
use walsim_core::node::{ConnInfo, PgReceivewal, PgReceivewalOptions};
use walsim_core::wal::names::segment_name;
use walsim_core::wire::frame::FrameReader;
use walsim_core::wire::frontend::{FrontendMessage, command_limit};
use walsim_core::wire::replication::{StandbyMessage, StandbyStatus};

/// What servers in these tests have.
pub(crate) fn geometry() -> Geometry {
    Geometry::new(512, 16 * 512, 1024, 128).expect("sound sizes")
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
    pub(crate) machine: PgReceivewal,
    pub(crate) disk: Disk,
    pub(crate) choices: Choices,
    pub(crate) now: Mono,
    options: PgReceivewalOptions,
    incarnation: u32,
    tickets: BTreeMap<OpId, Ticket>,
    said: FrameReader,
    greeted: bool,
    /// The connection, while there is one.
    pub(crate) conn: Option<ConnId>,
    /// What it sent and no one took yet.
    pub(crate) sent: Vec<Bytes>,
    pub(crate) credit: u64,
    /// Where streaming began.
    pub(crate) first: Option<Lsn>,
    /// How far it has written.
    pub(crate) written: Lsn,
    /// The most that was reported as durable.
    pub(crate) flushed: Lsn,
    /// Disk operations and messages, in order.
    events: Vec<String>,
    pub(crate) log: Vec<String>,
    pub(crate) exit: Option<Exit>,
}

impl Host {
    pub(crate) fn new(options: PgReceivewalOptions, seed: u64) -> Self {
        let disk = Disk::new(0, DiskSpec::default(), geometry().sector, 1 << 30);
        Self {
            machine: start(options.clone(), 1),
            disk,
            choices: Choices::new(seed),
            now: Mono(0),
            options,
            incarnation: 1,
            tickets: BTreeMap::new(),
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

    pub(crate) fn clock(&self) -> Now {
        let wall = i64::try_from(self.now.0).expect("short runs");
        Now {
            mono: self.now,
            wall: TimestampTz(wall + 1_000_000),
        }
    }

    pub(crate) fn input(&mut self, input: Input) {
        let mut fx = Effects::default();
        self.machine.step(self.clock(), input, &mut fx);
        self.written = self.machine.received().map_or(self.written, |(at, _)| at);
        for (pid, effect) in fx.0 {
            match effect {
                Effect::Disk(op, call) => {
                    self.events.push(told(&call));
                    let (ticket, _) = self.disk.issue(pid, &call, &self.choices);
                    if matches!(call, DiskOp::Close(_)) {
                        let _ = self.disk.complete(ticket, &self.choices);
                    } else {
                        self.tickets.insert(op, ticket);
                    }
                }
                Effect::Net(conn, call) => self.net(conn, call),
                Effect::Log(event) => self.log.push(event.message.to_string()),
                Effect::Exit(exit) => self.exit = Some(exit),
                Effect::Halt => self.conn = None,
            }
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
            // With nothing in its directory it begins anew, wherever the server or the slot is.
            if self.names().is_empty() {
                self.first = Some(start.expect("an LSN"));
            }
        }
    }

    /// Nothing is reported as durable that a crash could take, and all of it has a name that the
    /// next start finds.
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
        let mut set = RunSet::default();
        self.machine.runnable(self.clock(), &mut set);
        !set.0.is_empty()
    }

    pub(crate) fn run(&mut self) {
        self.input(Input::Run(self.machine.pid()));
    }

    /// Completes the operation under way; false if there is none.
    pub(crate) fn complete_one(&mut self) -> bool {
        let Some((op, ticket)) = self.tickets.pop_first() else {
            return false;
        };
        let outcome = self.disk.complete(ticket, &self.choices);
        self.input(Input::Disk(op, outcome));
        true
    }

    pub(crate) fn has_operation(&self) -> bool {
        !self.tickets.is_empty()
    }

    /// Runs, and completes operations, until it can do nothing more at this time.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.is_runnable() {
                self.run();
            } else if !self.complete_one() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.now = self.now.after_ms(ms);
        self.settle();
    }

    pub(crate) fn event(&mut self, event: NetEvent) {
        let conn = self.conn.expect("it has connected");
        self.input(Input::Net(conn, event));
    }

    pub(crate) fn events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }

    /// `kill -9`, and a new start in the same directory.
    pub(crate) fn kill(&mut self) {
        // What it has asked for still happens.
        for ticket in std::mem::take(&mut self.tickets).into_values() {
            let _ = self.disk.complete(ticket, &self.choices);
        }
        self.disk.close_all(self.machine.pid());
        self.start_again();
    }

    /// The machine loses power, and the receiver is started again.
    pub(crate) fn lose_power(&mut self) {
        self.tickets.clear();
        self.disk.power_loss(geometry().data_page, &self.choices);
        self.start_again();
    }

    pub(crate) fn start_again(&mut self) {
        self.incarnation += 1;
        self.machine = start(self.options.clone(), self.incarnation);
        self.conn = None;
        self.sent.clear();
        self.exit = None;
    }

    /// A file of the directory.
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
    // Any segment size: the server's is asked for.
    let geometry = Geometry::new(512, 4 * 512, 1024, 128).expect("sound sizes");
    let mut settings = Settings::new(PgVersion::V18, geometry);
    settings.wal_receiver_status_interval_ms = 1000;
    settings.wal_receiver_timeout_ms = 4000;
    PgReceivewal::start(settings, options, incarnation)
}

pub(crate) fn name(tli: u32, segment: SegmentNo) -> String {
    segment_name(&geometry(), TimelineId(tli), segment)
}

fn told(op: &DiskOp) -> String {
    match op {
        DiskOp::Open { path, .. } => format!("open {path}"),
        DiskOp::Close(_) => String::from("close"),
        DiskOp::Read { .. } => String::from("read"),
        DiskOp::Write { offset, data, .. } => format!("write {offset}+{}", data.len()),
        DiskOp::WriteZeros { offset, len, .. } => format!("zeros {offset}+{len}"),
        DiskOp::Fsync(_) => String::from("fsync"),
        DiskOp::Truncate { len, .. } => format!("truncate {len}"),
        DiskOp::Stat(path) => format!("stat {path}"),
        DiskOp::Rename { from, to } => format!("rename {from} {to}"),
        DiskOp::Unlink(path) => format!("unlink {path}"),
        DiskOp::Mkdir(path) => format!("mkdir {path}"),
        DiskOp::Rmdir(path) => format!("rmdir {path}"),
        DiskOp::List(path) => format!("list {path}"),
        DiskOp::SyncDir(path) => format!("syncdir {path}"),
    }
}
