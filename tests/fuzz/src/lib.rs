//! Shared by the fuzz targets: a machine on a fake disk that is driven by bytes.

use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use walsim::choice::Choices;
use walsim::disk::{Disk, Ticket};
use walsim_core::base::{ConnId, Mono, Now, OpId, TimestampTz};
use walsim_core::call::{DiskOp, Effect, Effects, Input, Machine, NetEvent, NetOp, RunSet};

/// The largest number of steps between two inputs. Further steps run after the next input.
const STEPS: u32 = 2000;

/// A machine, its disk and its connections.
#[derive(Clone)]
pub struct Rig<M> {
    /// The machine.
    pub machine: M,
    /// Its disk.
    pub disk: Disk,
    choices: Choices,
    now: Mono,
    tickets: BTreeMap<OpId, Ticket>,
    conns: BTreeMap<ConnId, Conn>,
    /// The connection that it opened last.
    pub opened: Option<ConnId>,
    /// It has ended.
    pub halted: bool,
    /// The peers do not read for now.
    pub stuck: bool,
}

#[derive(Clone, Default)]
struct Conn {
    /// Number of bytes that the machine's credit allows.
    credit: u64,
    /// Bytes that wait for more credit.
    waiting: VecDeque<Bytes>,
    /// Number of bytes that it has sent and that no peer has read.
    sent: u32,
}

impl<M: Machine> Rig<M> {
    /// A machine before its first step.
    pub fn new(machine: M, disk: Disk) -> Self {
        Self {
            machine,
            disk,
            choices: Choices::new(1),
            now: Mono(0),
            tickets: BTreeMap::new(),
            conns: BTreeMap::new(),
            opened: None,
            halted: false,
            stuck: false,
        }
    }

    /// The world's clocks.
    pub fn clock(&self) -> Now {
        Now {
            mono: self.now,
            wall: TimestampTz(i64::try_from(self.now.0).unwrap_or(i64::MAX)),
        }
    }

    /// Passes an input to the machine, and executes its effects.
    pub fn input(&mut self, input: Input) {
        if self.halted {
            return;
        }
        let mut fx = Effects::default();
        self.machine.step(self.clock(), input, &mut fx);
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
                Effect::Net(conn, call) => self.net(conn, call),
                // Messages contain parts of the input, so their texts are made to test that as
                // well.
                Effect::Log(event) => drop(event.to_string()),
                Effect::Exit(_) => self.disk.close_all(pid),
                Effect::Halt => self.halted = true,
            }
        }
    }

    fn net(&mut self, conn: ConnId, call: NetOp) {
        match call {
            NetOp::Connect { .. } => {
                self.conns.insert(conn, Conn::default());
                self.opened = Some(conn);
            }
            NetOp::Read { max } => {
                if let Some(conn) = self.conns.get_mut(&conn) {
                    conn.credit += u64::from(max);
                }
            }
            NetOp::Send(pieces) => {
                let len: usize = pieces.iter().map(Bytes::len).sum();
                if let Some(conn) = self.conns.get_mut(&conn) {
                    conn.sent += u32::try_from(len).expect("a message is below 1 GiB");
                }
            }
            NetOp::Close => {
                self.conns.remove(&conn);
                if self.opened == Some(conn) {
                    self.opened = None;
                }
            }
            NetOp::HandOver(_) => {}
        }
    }

    /// A client connects.
    pub fn accept(&mut self, n: u32) -> ConnId {
        let conn = ConnId { incarnation: 0, n };
        self.conns.insert(conn, Conn::default());
        self.input(Input::Net(conn, NetEvent::Accepted));
        self.settle();
        conn
    }

    /// Passes an event to a connection, unless it is closed.
    pub fn event(&mut self, conn: ConnId, event: NetEvent) {
        if self.conns.contains_key(&conn) {
            if matches!(
                event,
                NetEvent::Closed | NetEvent::Reset | NetEvent::Refused(_)
            ) {
                self.conns.remove(&conn);
            }
            self.input(Input::Net(conn, event));
        }
        self.settle();
    }

    /// The peer sends bytes.
    pub fn data(&mut self, conn: ConnId, bytes: Bytes) {
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.waiting.push_back(bytes);
        }
        self.settle();
    }

    /// Lets time pass.
    pub fn pass_ms(&mut self, ms: u64) {
        self.now = self.now.after_ms(ms);
        self.settle();
    }

    /// Lets time pass until the machine wakes.
    pub fn pass_to_wakeup(&mut self) {
        if let Some(wake) = self.machine.next_wakeup() {
            self.now = self.now.max(wake);
        }
        self.settle();
    }

    /// Runs until no process can run at this time.
    pub fn settle(&mut self) {
        for _ in 0..STEPS {
            if self.halted {
                return;
            }
            let mut set = RunSet::default();
            self.machine.runnable(self.clock(), &mut set);
            if let Some(pid) = set.0.first() {
                self.input(Input::Run(*pid));
            } else if let Some((op, ticket)) = self.tickets.pop_first() {
                let outcome = self.disk.complete(ticket, &self.choices);
                self.input(Input::Disk(op, outcome));
            } else if !self.deliver() {
                return;
            }
        }
    }

    /// Delivers bytes on a connection. False if none are waiting.
    fn deliver(&mut self) -> bool {
        let stuck = self.stuck;
        let event = self.conns.iter_mut().find_map(|(id, conn)| {
            if conn.sent > 0 && !stuck {
                return Some((*id, NetEvent::Sent(std::mem::take(&mut conn.sent))));
            }
            let first = conn.waiting.front_mut().filter(|_| conn.credit > 0)?;
            let most = usize::try_from(conn.credit).unwrap_or(usize::MAX);
            let piece = first.split_to(most.min(first.len()));
            conn.credit -= piece.len() as u64;
            if first.is_empty() {
                conn.waiting.pop_front();
            }
            Some((*id, NetEvent::Data(piece)))
        });
        match event {
            Some((_, NetEvent::Data(bytes))) if bytes.is_empty() => true,
            Some((conn, event)) => {
                self.input(Input::Net(conn, event));
                true
            }
            None => false,
        }
    }
}

/// The input of a target, consumed from its start. At its end all values are 0 or empty.
pub struct Source<'a>(pub &'a [u8]);

impl<'a> Source<'a> {
    /// One byte.
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }

    /// Up to `len` bytes.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// A number of this many bytes, at most 8.
    pub fn number(&mut self, len: usize) -> u64 {
        let bytes = self.bytes(len);
        bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Bytes with a length prefix of one byte, or two if its first bit is set.
    pub fn counted(&mut self) -> &'a [u8] {
        let mut len = usize::from(self.byte());
        if len >= 128 {
            len = (len & 127) << 8 | usize::from(self.byte());
        }
        self.bytes(len)
    }

    /// Text with a length prefix.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.counted()).into_owned()
    }

    /// Is the input used up?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A message with its type and length.
pub fn framed(tag: u8, body: &[u8]) -> Bytes {
    let len = u32::try_from(body.len() + 4).expect("inputs are short");
    [&[tag], len.to_be_bytes().as_slice(), body].concat().into()
}
