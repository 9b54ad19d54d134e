//! A receiver and a simulated server. The stream between them can be cut after any byte. The next
//! event is drawn from a seed.

use super::host::{Drive, Host, geometry, name};
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use walsim::choice::Choices;
use walsim_core::base::{ConnId, Lsn, PgVersion, Pid, Planted, Settings};
use walsim_core::call::{Effect, Input, Machine, NetEvent, NetOp, Signal};
use walsim_core::node::{Node, PgReceivewalOptions, PmState};
use walsim_core::wire::backend::{BackendMessage, backend_limit};
use walsim_core::wire::frame::FrameReader;
use walsim_core::wire::frontend::FrontendMessage;
use walsim_core::wire::startup::{StartupMessage, StartupPacket};
use walsim_tests::{Harness, client, new_cluster};

const CLIENT: u32 = 1_000_000;

/// A receiver and a server, with their connection.
pub(crate) struct Pair {
    pub(crate) receiver: Host,
    server: Harness<Node>,
    wire: Option<Wire>,
    conns: u32,
    client: Client,
    random: u64,
    halted: bool,
}

struct Wire {
    /// The server's id of the connection.
    number: ConnId,
    /// The receiver's id of the connection.
    conn: ConnId,
    to_server: VecDeque<u8>,
    to_receiver: VecDeque<u8>,
    credit: u64,
    closed: bool,
}

/// A session that writes one row after another.
struct Client {
    conn: ConnId,
    frames: FrameReader,
    ready: bool,
    left: u32,
    answered: u32,
}

impl Deref for Pair {
    type Target = Harness<Node>;

    fn deref(&self) -> &Self::Target {
        &self.server
    }
}

impl DerefMut for Pair {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.server
    }
}

impl Drive<Node> for Pair {
    fn effect(&mut self, _: Pid, effect: Effect) {
        match effect {
            Effect::Net(conn, call) if conn == self.client.conn => self.client(call),
            Effect::Net(conn, call) => self.on_wire(conn, call),
            Effect::Halt => self.halted = true,
            Effect::Disk(..) | Effect::Exit(_) | Effect::Log(_) => {}
        }
    }
}

impl Pair {
    pub(crate) fn new(options: PgReceivewalOptions, seed: u64) -> Self {
        let geometry = geometry();
        let mut settings = Settings::new(PgVersion::V15, geometry);
        settings.wal_keep_size = 1 << 24;
        settings.checkpoint_timeout_ms = 3_600_000;
        settings.max_wal_size = 1 << 24;
        let disk = new_cluster(&settings);
        let node = Node::boot(settings, seed, 1, Planted::NONE);
        let mut server = Harness::new(node, disk);
        server.choices = Choices::new(seed);
        let mut pair = Self {
            receiver: Host::new(options, seed),
            server,
            wire: None,
            conns: 0,
            client: Client {
                conn: client(CLIENT),
                frames: FrameReader::default(),
                ready: false,
                left: 0,
                answered: 0,
            },
            random: seed * 2 + 1,
            halted: false,
        };
        while pair.machine.view().postmaster_state() != Some(PmState::Run) {
            pair.move_server();
        }
        let conn = pair.client.conn;
        pair.input(Input::Net(conn, NetEvent::Accepted));
        let packet = StartupMessage::new(&[("user", "postgres"), ("database", "postgres")]);
        let packet = StartupPacket::Startup(packet).to_bytes();
        while !pair.client.ready {
            pair.move_server();
            if pair.runnable().is_empty() && !pair.has_operation() {
                pair.input(Input::Net(conn, NetEvent::Data(packet.clone())));
            }
        }
        pair
    }

    /// Writes `rows` rows. Meanwhile `faults` faults happen: kills, power losses and broken
    /// connections. At the end runs until the receiver has received all WAL.
    pub(crate) fn transfer(&mut self, rows: u32, mut faults: u32) {
        self.client.left = rows;
        for _ in 0..2_000_000 {
            let streamed = self.receiver.first.is_some();
            // The receiver exits if its first connection fails. Starts it again, as a service
            // manager would.
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

    /// Shuts down the server, and runs until both have exited.
    pub(crate) fn shut_down(&mut self) {
        let postmaster = Pid::postmaster(1);
        self.input(Input::Signal(postmaster, Signal::Int));
        for _ in 0..100_000 {
            if self.halted && self.receiver.exit.is_some() {
                return;
            }
            self.go_on(false);
        }
        panic!("one of the two does not exit: {:?}", self.receiver.log);
    }

    /// Checks that every finished segment equals the server's segment, and that the unfinished one
    /// equals it up to the last written byte. Returns the number of finished segments.
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

    /// The file that the receiver is writing, and how many bytes of it were received.
    pub(crate) fn last_partial(&self) -> (String, u64) {
        let end = self.server_end();
        let segment = geometry().segment_of(end);
        let len = geometry().segment_offset(end);
        (format!("{}.partial", name(1, segment)), len.into())
    }

    /// The end of the WAL that the server has written.
    pub(crate) fn server_end(&self) -> Lsn {
        self.machine.view().shmem().xlog.flush
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

    /// Closes the server's end of the connection.
    fn cut(&mut self) {
        if let Some(wire) = self.wire.take() {
            self.input(Input::Net(wire.number, NetEvent::Reset));
        }
    }

    /// Executes one of the possible events. Returns false if no event is possible at the current
    /// time.
    fn go_on(&mut self, working: bool) -> bool {
        let wire = self.wire.as_ref();
        let deliverable =
            wire.is_some_and(|w| !w.to_receiver.is_empty() && self.receiver.credit > 0);
        let could = [
            !self.halted && !self.runnable().is_empty(),
            self.has_operation(),
            self.receiver.is_runnable(),
            self.receiver.has_operation(),
            wire.is_some_and(|w| !w.to_server.is_empty() && w.credit > 0),
            deliverable,
            working && self.client.ready && self.client.left > 0,
        ];
        let count = could.into_iter().filter(|can| *can).count() as u64;
        if count == 0 {
            self.connect_or_close();
            self.sleep_both();
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
                self.run(all[usize::try_from(at).expect("few")]);
            }
            1 => {
                self.complete_one();
            }
            2 => {
                self.receiver.run(self.receiver.machine.pid());
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
        self.input(Input::Net(self.client.conn, NetEvent::Data(bytes)));
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
            // The connection is broken, and the receiver has not noticed this yet. A new connection
            // must wait.
            if self.receiver.credit > 0 {
                return;
            }
            self.conns += 1;
            let number = client(self.conns);
            self.wire = Some(Wire {
                number,
                conn,
                to_server: VecDeque::new(),
                to_receiver: VecDeque::new(),
                credit: 0,
                closed: false,
            });
            self.input(Input::Net(number, NetEvent::Accepted));
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
        self.input(Input::Net(number, NetEvent::Data(bytes.into())));
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
        self.input(Input::Net(number, NetEvent::Sent(n)));
    }

    /// Advances both machines to the next wake-up, because they use the same clock.
    fn sleep_both(&mut self) {
        let wakes = [
            self.machine.next_wakeup(),
            self.receiver.machine.next_wakeup(),
        ];
        if let Some(wake) = wakes.into_iter().flatten().min() {
            self.now = self.now.max(wake);
            self.receiver.now = self.now;
        }
    }

    fn move_server(&mut self) {
        if !self.advance() {
            self.sleep_both();
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
        let conn = self.client.conn;
        self.inputs.push_back(Input::Net(conn, sent));
    }

    /// A random number below `most`, which is not 0.
    fn draw(&mut self, most: u64) -> u64 {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % most
    }
}
