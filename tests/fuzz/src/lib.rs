//! Shared by the fuzz targets: a machine on a simulated disk. The bytes of the fuzzer decide what
//! happens to the machine.

use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Deref, DerefMut};
use walsim::disk::Disk;
use walsim_core::base::{ConnId, Pid};
use walsim_core::call::{Effect, Input, Machine, NetEvent, NetOp};
pub use walsim_tests::Drive;
use walsim_tests::{Harness, client};

/// The largest number of steps between two inputs. If the machine has more to do, it continues
/// after the next input.
const STEPS: u32 = 2000;

/// A machine, its disk and its connections.
#[derive(Clone)]
pub struct Rig<M> {
    harness: Harness<M>,
    conns: BTreeMap<ConnId, Conn>,
    /// The connection that the machine opened last.
    pub opened: Option<ConnId>,
    /// The machine has ended.
    pub halted: bool,
    /// The peers currently do not read.
    pub stuck: bool,
}

#[derive(Clone, Default)]
struct Conn {
    /// How many more bytes the machine allows.
    credit: u64,
    /// Bytes that wait until the machine allows more.
    waiting: VecDeque<Bytes>,
    /// The number of bytes that the machine has sent and that its peer has not read yet.
    sent: u32,
}

impl<M> Deref for Rig<M> {
    type Target = Harness<M>;

    fn deref(&self) -> &Self::Target {
        &self.harness
    }
}

impl<M> DerefMut for Rig<M> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.harness
    }
}

impl<M: Machine> Drive<M> for Rig<M> {
    fn effect(&mut self, _: Pid, effect: Effect) {
        match effect {
            Effect::Net(conn, call) => self.net(conn, call),
            // Formats each log message, because the message contains parts of the input.
            Effect::Log(event) => drop(event.to_string()),
            Effect::Halt => self.halted = true,
            Effect::Disk(..) | Effect::Exit(_) => {}
        }
    }

    /// Runs until no process can run at the current time, or until the largest number of steps is
    /// reached.
    fn settle(&mut self) {
        for _ in 0..STEPS {
            if self.halted || !self.advance() && !self.deliver() {
                return;
            }
        }
    }
}

impl<M: Machine> Rig<M> {
    /// A machine before its first step.
    pub fn new(machine: M, disk: Disk) -> Self {
        Self {
            harness: Harness::new(machine, disk),
            conns: BTreeMap::new(),
            opened: None,
            halted: false,
            stuck: false,
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
        let conn = client(n);
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

    /// Sends bytes to the machine as its peer. The bytes wait until the machine allows their
    /// delivery.
    pub fn data(&mut self, conn: ConnId, bytes: Bytes) {
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.waiting.push_back(bytes);
        }
        self.settle();
    }

    /// Delivers waiting bytes on a connection. Returns false if no bytes are waiting.
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

/// The bytes of the fuzzer, which are read from the start. When no bytes are left, all values are 0
/// or empty.
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

    /// A number that is stored in `len` bytes, at most 8.
    pub fn number(&mut self, len: usize) -> u64 {
        let bytes = self.bytes(len);
        bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Bytes after a length. The length takes one byte, or two if the first bit is set.
    pub fn counted(&mut self) -> &'a [u8] {
        let mut len = usize::from(self.byte());
        if len >= 128 {
            len = (len & 127) << 8 | usize::from(self.byte());
        }
        self.bytes(len)
    }

    /// A text after its length.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.counted()).into_owned()
    }

    /// Whether all bytes have been read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A message with its type and length.
pub fn framed(tag: u8, body: &[u8]) -> Bytes {
    let len = u32::try_from(body.len() + 4).expect("inputs are short");
    [&[tag], len.to_be_bytes().as_slice(), body].concat().into()
}
