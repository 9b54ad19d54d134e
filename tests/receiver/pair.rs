//! A receiver and a server of ours, with a connection between them that cuts bytes anywhere. What
//! happens next is drawn from a seed.

use super::host::{Host, geometry, name};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use walsim::choice::Choices;
use walsim::disk::{Content, Disk, DiskSpec, Ticket};
use walsim_core::base::{ConnId, Lsn, Now, OpId, PgVersion, Pid, Planted, Settings, TimestampTz};
use walsim_core::call::{DiskOp, Effect, Effects, Input, Machine, NetEvent, NetOp, RunSet, Signal};
use walsim_core::node::{InitialFile, Node, PgReceivewalOptions, PmState, initdb};
use walsim_core::wire::backend::{BackendMessage, backend_limit};
use walsim_core::wire::frame::FrameReader;
use walsim_core::wire::frontend::FrontendMessage;
use walsim_core::wire::startup::{StartupMessage, StartupPacket};

const CLIENT: u32 = 1_000_000;

/// Both, and what is between them.
pub(crate) struct Pair {
    pub(crate) receiver: Host,
    server: Node,
    disk: Disk,
    choices: Choices,
    tickets: BTreeMap<OpId, Ticket>,
    wire: Option<Wire>,
    conns: u32,
    client: Client,
    random: u64,
    halted: bool,
}

struct Wire {
    /// The server's number of it.
    number: ConnId,
    /// The receiver's.
    conn: ConnId,
    to_server: VecDeque<u8>,
    to_receiver: VecDeque<u8>,
    credit: u64,
    closed: bool,
}

/// A session that writes one row after the other.
struct Client {
    conn: ConnId,
    frames: FrameReader,
    ready: bool,
    left: u32,
    answered: u32,
}

impl Pair {
    pub(crate) fn new(options: PgReceivewalOptions, seed: u64) -> Self {
        let geometry = geometry();
        let mut settings = Settings::new(PgVersion::V15, geometry);
        settings.wal_keep_size = 1 << 24;
        settings.checkpoint_timeout_ms = 3_600_000;
        settings.max_wal_size = 1 << 24;
        let mut disk = Disk::new(1, DiskSpec::default(), geometry.sector, 1 << 30);
        for file in initdb(settings.pg_version, &geometry, 7) {
            match file {
                InitialFile::Dir(path) => disk.set_up_dir(path.as_str()),
                InitialFile::File { path, bytes, len } => {
                    let mut content = Content::new(&bytes);
                    content.zero(bytes.len() as u64, len - bytes.len() as u64);
                    disk.set_up_file(path.as_str(), content);
                }
            }
        }
        let mut pair = Self {
            receiver: Host::new(options, seed),
            server: Node::boot(settings, seed, 1, Planted::NONE),
            disk,
            choices: Choices::new(seed),
            tickets: BTreeMap::new(),
            wire: None,
            conns: 0,
            client: Client {
                conn: ConnId {
                    incarnation: 0,
                    n: CLIENT,
                },
                frames: FrameReader::default(),
                ready: false,
                left: 0,
                answered: 0,
            },
            random: seed * 2 + 1,
            halted: false,
        };
        while pair.server.view().postmaster_state() != Some(PmState::Run) {
            pair.move_server();
        }
        let conn = pair.client.conn;
        pair.server_input(Input::Net(conn, NetEvent::Accepted));
        let packet = StartupMessage::new(&[("user", "postgres"), ("database", "postgres")]);
        let packet = StartupPacket::Startup(packet).to_bytes();
        while !pair.client.ready {
            pair.move_server();
            if pair.runnable().is_empty() && pair.tickets.is_empty() {
                pair.server_input(Input::Net(conn, NetEvent::Data(packet.clone())));
            }
        }
        pair
    }

    /// So many rows, and so many kills, losses of power and broken connections among them; then
    /// until the receiver has got everything.
    pub(crate) fn run(&mut self, rows: u32, mut faults: u32) {
        self.client.left = rows;
        for _ in 0..2_000_000 {
            let streamed = self.receiver.first.is_some();
            // Anyone who watches over it starts it again: a first connection that fails is the end.
            if self.receiver.exit.is_some() {
                self.receiver.start_again();
            }
            if streamed && faults > 0 && self.draw(400) == 0 {
                faults -= 1;
                self.fault();
            }
            if !self.go_on(streamed) && self.client.left == 0 && faults == 0 && self.has_all() {
                return;
            }
        }
        panic!(
            "the receiver does not get everything: {:?}",
            self.receiver.log
        );
    }

    /// The server is shut down; until both are gone.
    pub(crate) fn shut_down(&mut self) {
        let postmaster = Pid::postmaster(1);
        self.server_input(Input::Signal(postmaster, Signal::Int));
        for _ in 0..100_000 {
            if self.halted && self.receiver.exit.is_some() {
                return;
            }
            self.go_on(false);
        }
        panic!("somebody does not end: {:?}", self.receiver.log);
    }

    /// Every finished segment holds the server's bytes, and what is not finished those that were
    /// flushed: how many are.
    pub(crate) fn compare(&self) -> usize {
        let mut finished = 0;
        for file in self.receiver.names() {
            let (stem, complete) = match file.strip_suffix(".partial") {
                Some(stem) => (stem, false),
                None => (file.as_str(), true),
            };
            let ours = self.receiver.file(&file).expect("it was listed");
            let path = format!("pg_wal/{stem}");
            let theirs = self.disk.read_cached(&path, 0, ours.len() as u64);
            let theirs = theirs.expect("the server keeps everything");
            if complete {
                finished += 1;
                assert!(ours == theirs, "{file} differs");
            } else {
                let written = ours.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
                assert!(ours[..written] == theirs[..written], "{file} differs");
            }
        }
        finished
    }

    /// The file that is being received, and how many bytes of it have come.
    pub(crate) fn last_partial(&self) -> (String, u64) {
        let end = self.server_end();
        let segment = geometry().segment_of(end);
        let len = geometry().segment_offset(end);
        (format!("{}.partial", name(1, segment)), len.into())
    }

    /// How far the server has written WAL.
    pub(crate) fn server_end(&self) -> Lsn {
        self.server.view().shmem().xlog.flush
    }

    fn has_all(&self) -> bool {
        let Some((written, _)) = self.receiver.machine.received() else {
            return false;
        };
        written == self.server_end()
    }

    fn fault(&mut self) {
        match self.draw(3) {
            0 => self.receiver.kill(),
            1 => self.receiver.lose_power(),
            _ => {
                if self.receiver.conn.is_some() {
                    self.receiver.event(NetEvent::Reset);
                }
            }
        }
        self.cut();
    }

    /// The connection is gone for the server.
    fn cut(&mut self) {
        if let Some(wire) = self.wire.take() {
            self.server_input(Input::Net(wire.number, NetEvent::Reset));
        }
    }

    /// Does one of the things that could happen now. False if only time can do anything.
    fn go_on(&mut self, working: bool) -> bool {
        let wire = self.wire.as_ref();
        let deliverable =
            wire.is_some_and(|w| !w.to_receiver.is_empty() && self.receiver.credit > 0);
        let could = [
            !self.halted && !self.runnable().is_empty(),
            !self.tickets.is_empty(),
            self.receiver.is_runnable(),
            self.receiver.has_operation(),
            wire.is_some_and(|w| !w.to_server.is_empty() && w.credit > 0),
            deliverable,
            working && self.client.ready && self.client.left > 0,
        ];
        let count = could.into_iter().filter(|can| *can).count() as u64;
        if count == 0 {
            self.connect_or_close();
            self.sleep();
            return false;
        }
        let chosen = self.draw(count);
        let mut able = (0..).zip(could).filter(|(_, can)| *can);
        let chosen = able
            .nth(usize::try_from(chosen).expect("few"))
            .map(|(n, _)| n);
        match chosen.expect("one of them") {
            0 => {
                let all = self.runnable();
                let at = self.draw(all.len() as u64);
                self.server_input(Input::Run(all[usize::try_from(at).expect("few")]));
            }
            1 => {
                let first = self.tickets.pop_first();
                let (op, ticket) = first.expect("there is one");
                let outcome = self.disk.complete(ticket, &self.choices);
                self.server_input(Input::Disk(op, outcome));
            }
            2 => {
                self.receiver.run();
                self.take_sent();
            }
            3 => {
                self.receiver.complete_one();
                self.take_sent();
            }
            4 => self.deliver_to_server(),
            5 => self.deliver_to_receiver(),
            _ => self.next_row(),
        }
        self.connect_or_close();
        true
    }

    fn next_row(&mut self) {
        self.client.left -= 1;
        self.client.ready = false;
        let key = self.client.left;
        let statement = match self.draw(6) {
            0 => String::from("SELECT pg_switch_wal()"),
            1 => format!(
                "SELECT pg_logical_emit_message(false, 'p', '{}')",
                "ab".repeat(usize::try_from(self.draw(3000)).expect("few"))
            ),
            _ => format!("PUT 16384 {key} '{}'", "c0ffee".repeat(20)),
        };
        let bytes = FrontendMessage::Query(statement).to_bytes();
        self.server_input(Input::Net(self.client.conn, NetEvent::Data(bytes)));
    }

    fn take_sent(&mut self) {
        for piece in std::mem::take(&mut self.receiver.sent) {
            if let Some(wire) = &mut self.wire {
                wire.to_server.extend(piece);
            }
        }
    }

    fn connect_or_close(&mut self) {
        let ours = self.wire.as_ref().map(|wire| wire.conn);
        if self
            .wire
            .as_ref()
            .is_some_and(|w| w.closed && w.to_receiver.is_empty())
        {
            let wire = self.wire.take().expect("looked at above");
            if self.receiver.conn == Some(wire.conn) {
                self.receiver.event(NetEvent::Closed);
            }
        } else if ours.is_some() && self.receiver.conn != ours {
            self.cut();
        } else if ours.is_none() && self.receiver.conn.is_some() && !self.halted {
            let conn = self.receiver.conn.expect("looked at above");
            // A connection that broke is not opened again; the receiver has not noticed yet.
            if self.receiver.credit > 0 {
                return;
            }
            self.conns += 1;
            let number = ConnId {
                incarnation: 0,
                n: self.conns,
            };
            self.wire = Some(Wire {
                number,
                conn,
                to_server: VecDeque::new(),
                to_receiver: VecDeque::new(),
                credit: 0,
                closed: false,
            });
            self.server_input(Input::Net(number, NetEvent::Accepted));
            self.receiver.event(NetEvent::Connected);
        }
    }

    fn deliver_to_server(&mut self) {
        let Some(wire) = &self.wire else { return };
        let most = (wire.to_server.len() as u64).min(wire.credit);
        let n = 1 + self.draw(most);
        let wire = self.wire.as_mut().expect("looked at above");
        wire.credit -= n;
        let bytes: Vec<u8> = wire
            .to_server
            .drain(..usize::try_from(n).expect("few"))
            .collect();
        let number = wire.number;
        self.server_input(Input::Net(number, NetEvent::Data(bytes.into())));
        self.receiver
            .event(NetEvent::Sent(u32::try_from(n).expect("few")));
    }

    fn deliver_to_receiver(&mut self) {
        let Some(wire) = &self.wire else { return };
        let most = (wire.to_receiver.len() as u64).min(self.receiver.credit);
        let n = 1 + self.draw(most);
        self.receiver.credit -= n;
        let wire = self.wire.as_mut().expect("looked at above");
        let bytes: Vec<u8> = wire
            .to_receiver
            .drain(..usize::try_from(n).expect("few"))
            .collect();
        let number = wire.number;
        self.receiver.event(NetEvent::Data(bytes.into()));
        let n = u32::try_from(n).expect("few");
        self.server_input(Input::Net(number, NetEvent::Sent(n)));
    }

    fn sleep(&mut self) {
        let wakes = [
            self.server.next_wakeup(),
            self.receiver.machine.next_wakeup(),
        ];
        if let Some(wake) = wakes.into_iter().flatten().min() {
            self.receiver.now = self.receiver.now.max(wake);
        }
    }

    fn move_server(&mut self) {
        if let Some(pid) = self.runnable().first() {
            self.server_input(Input::Run(*pid));
        } else if let Some((op, ticket)) = self.tickets.pop_first() {
            let outcome = self.disk.complete(ticket, &self.choices);
            self.server_input(Input::Disk(op, outcome));
        } else {
            self.sleep();
        }
    }

    fn server_input(&mut self, input: Input) {
        let mut fx = Effects::default();
        self.server.step(self.clock(), input, &mut fx);
        for (pid, effect) in fx.0 {
            match effect {
                Effect::Disk(op, call) => {
                    let (ticket, _) = self.disk.issue(pid, &call, &self.choices);
                    if matches!(call, DiskOp::Close(_)) {
                        let _ = self.disk.complete(ticket, &self.choices);
                    } else {
                        self.tickets.insert(op, ticket);
                    }
                }
                Effect::Net(conn, call) if conn == self.client.conn => self.client(call),
                Effect::Net(conn, call) => self.on_wire(conn, call),
                Effect::Exit(_) => self.disk.close_all(pid),
                Effect::Halt => self.halted = true,
                Effect::Log(_) => {}
            }
        }
    }

    fn on_wire(&mut self, conn: ConnId, call: NetOp) {
        let Some(wire) = self.wire.as_mut().filter(|wire| wire.number == conn) else {
            return;
        };
        match call {
            NetOp::Read { max } => wire.credit += u64::from(max),
            NetOp::Send(pieces) => pieces
                .into_iter()
                .for_each(|piece| wire.to_receiver.extend(piece)),
            NetOp::Close => wire.closed = true,
            NetOp::HandOver(_) | NetOp::Connect { .. } => {}
        }
    }

    fn client(&mut self, call: NetOp) {
        let NetOp::Send(pieces) = call else { return };
        let len: usize = pieces.iter().map(Bytes::len).sum();
        for piece in pieces {
            self.client.frames.push(piece);
        }
        while let Some(frame) = self.client.frames.next(backend_limit).expect("frames") {
            let message = BackendMessage::decode(frame).expect("messages");
            if let BackendMessage::ErrorResponse(fields) = &message {
                assert_eq!(&fields.sqlstate, b"57P01", "{fields:?}");
            }
            if matches!(message, BackendMessage::ReadyForQuery(_)) {
                self.client.ready = true;
                self.client.answered += 1;
            }
        }
        let sent = NetEvent::Sent(u32::try_from(len).expect("few"));
        self.server_input(Input::Net(self.client.conn, sent));
    }

    fn runnable(&self) -> Vec<Pid> {
        let mut set = RunSet::default();
        self.server.runnable(self.clock(), &mut set);
        set.0
    }

    fn clock(&self) -> Now {
        let wall = i64::try_from(self.receiver.now.0).expect("short runs");
        Now {
            mono: self.receiver.now,
            wall: TimestampTz(wall),
        }
    }

    /// Below `most`, which is not 0.
    fn draw(&mut self, most: u64) -> u64 {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % most
    }
}
