//! The simulated network. Its connections behave like TCP.
//!
//! A stream never loses or reorders data. The network may cut a stream at any byte, delay it, stop
//! it for a while, or break it. A connection may also look alive although the other machine has no
//! power.
//!
//! The network delivers only as many bytes as the receiver has allowed (its credit). The receiving
//! kernel holds at most [`WINDOW`] bytes, and further bytes wait at the sender.
//!
//! The network is plain data: the world asks it for the next event and the time of that event.

mod direction;
mod events;
mod faults;
mod link;

pub use link::{LinkSpec, Traffic};

use crate::choice::{Choices, Key, Subject};
use bytes::Bytes;
use direction::{Direction, End};
use link::Link;
use std::collections::BTreeMap;
use walsim_core::base::{ConnId, Mono};
use walsim_core::call::{NetEvent, NetOp};

/// The maximum number of bytes of a stream that are on the wire or that the receiving kernel holds.
pub const WINDOW: u64 = 64 * 1024;

/// A connection attempt fails if it gets no answer for this time. Linux has this timeout with its
/// default of six retries.
pub const CONNECT_TIMEOUT_MS: u64 = 127_000;

/// When a machine has power again, its peers detect a lost connection by TCP keepalive after at
/// most this time, unless the plan sets another time. libpq enables keepalive. Linux's default idle
/// time of two hours is not simulated. With it, a process that waits for a reply would notice the
/// loss only long after the end of a run.
pub const KEEPALIVE_MS: u64 = 10_000;

/// The receiver acknowledges at least this many bytes at once, unless the sender waits for space in
/// its buffer.
const REPORT: u64 = 32 * 1024;

/// The index of a machine in the plan's list.
pub type HostId = u16;

/// All machines, links and connections.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Net {
    hosts: Vec<Host>,
    links: BTreeMap<(HostId, HostId), Link>,
    conns: BTreeMap<u32, Conn>,
    /// Maps a machine and its id of a connection to the connection's number and the machine's side.
    ends: BTreeMap<(HostId, ConnId), (u32, Side)>,
    queue: BTreeMap<(Mono, u64), Event>,
    scheduled: u64,
    next_conn: u32,
    accepted: u32,
    /// Keepalive has caused the last reset.
    kept_alive: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Host {
    name: String,
    up: bool,
    listening: Option<u16>,
    /// The processes of this machine do not read from its sockets.
    deaf: bool,
}

/// Side 0 opened the connection, side 1 accepted it.
type Side = usize;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Conn {
    hosts: [HostId; 2],
    ids: [ConnId; 2],
    states: [State; 2],
    /// The stream that each side sends.
    directions: [Direction; 2],
    /// The ordinal number of this connection among those that one machine has opened to the other.
    nth: u64,
    port: u16,
    /// The opener has learned that the connection is open.
    connected: bool,
    /// The network broke the connection at both ends. Each end learns of this even during a
    /// partition.
    broken: bool,
    /// A handshake message that a partition blocked.
    stuck: Option<Handshake>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Handshake {
    Syn,
    SynAck,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum State {
    /// Not accepted yet.
    Embryo,
    Open,
    /// The owner has closed the connection. Remaining bytes are still delivered.
    Closed,
    /// The machine lost power.
    Dead,
    /// The connection is broken, and the owner knows this.
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Event {
    Syn(u32),
    SynAck(u32),
    /// The opener learns that no server listens on the port, or that the attempt timed out.
    Refuse(u32),
    /// The oldest segment that this side has on the wire arrives.
    Arrive(u32, Side),
    /// This side may have data to read.
    Flush(u32, Side),
    /// This side may have bytes to send.
    Pump(u32, Side),
    /// This side learns that bytes that it sent have arrived.
    Ack(u32, Side),
    /// This side learns that the connection broke.
    Reset(u32, Side),
    /// TCP keepalive of this side detects that the peer has lost power.
    Keepalive(u32, Side),
}

/// An event for one end of a connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Delivery {
    /// The machine.
    pub host: HostId,
    /// The connection.
    pub conn: ConnId,
    /// The event.
    pub event: NetEvent,
}

impl Net {
    /// A network of machines with these names. All machines have power, and no server listens.
    #[must_use]
    pub fn new(names: &[String], spec: LinkSpec) -> Self {
        let hosts = names.iter().map(|name| Host {
            name: name.clone(),
            up: true,
            listening: None,
            deaf: false,
        });
        let hosts: Vec<Host> = hosts.collect();
        let count = HostId::try_from(hosts.len()).expect("a plan has few machines");
        let mut links = BTreeMap::new();
        for from in 0..count {
            for to in 0..count {
                let link = Link {
                    spec,
                    ..Link::default()
                };
                links.insert((from, to), link);
            }
        }
        Self {
            hosts,
            links,
            ..Self::default()
        }
    }

    /// The time of the next event.
    #[must_use]
    pub fn next_time(&self) -> Option<Mono> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next delivery to a machine, at a time not after `now`.
    pub fn pop(&mut self, now: Mono, choices: &Choices) -> Option<Delivery> {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > now {
                return None;
            }
            let event = entry.remove();
            let delivery = self.happen(now, event, choices);
            if delivery.is_some() {
                return delivery;
            }
        }
        None
    }

    /// Executes a network operation of a process. The host itself handles `HandOver`.
    pub fn op(&mut self, now: Mono, host: HostId, conn: ConnId, op: &NetOp, choices: &Choices) {
        match op {
            NetOp::Connect { host: to, port } => self.connect(now, host, conn, to, *port, choices),
            NetOp::Read { max } => self.read(now, host, conn, *max),
            NetOp::Send(pieces) => self.send(now, host, conn, pieces, choices),
            NetOp::HandOver(_) => {}
            NetOp::Close => self.close(now, host, conn, choices),
        }
    }

    fn connect(
        &mut self,
        now: Mono,
        from: HostId,
        id: ConnId,
        to: &str,
        port: u16,
        choices: &Choices,
    ) {
        let target = self.hosts.iter().position(|host| host.name == to);
        // A connection to an unknown host name fails at once on the opener's machine.
        let host = target.map_or(from, |index| {
            HostId::try_from(index).expect("a plan has few machines")
        });
        let link = self.link(from, host);
        link.opened += 1;
        let nth = link.opened;
        self.next_conn += 1;
        let number = self.next_conn;
        let nobody = ConnId {
            incarnation: 0,
            n: 0,
        };
        let conn = Conn {
            hosts: [from, host],
            ids: [id, nobody],
            states: [State::Open, State::Embryo],
            directions: [Direction::new(), Direction::new()],
            nth,
            port: if target.is_some() { port } else { 0 },
            connected: false,
            broken: false,
            stuck: None,
        };
        self.conns.insert(number, conn);
        self.ends.insert((from, id), (number, 0));
        let travel = self.latency(from, host, [nth, 0], choices);
        self.schedule(now.after_us(travel), Event::Syn(number));
        self.schedule(now.after_ms(CONNECT_TIMEOUT_MS), Event::Refuse(number));
    }

    fn send(
        &mut self,
        now: Mono,
        host: HostId,
        id: ConnId,
        pieces: &[Bytes; 2],
        choices: &Choices,
    ) {
        let Some((number, side)) = self.end(host, id) else {
            return;
        };
        let conn = self.conn(number);
        let (from, to) = (conn.hosts[side], conn.hosts[1 - side]);
        let direction = &mut conn.directions[side];
        pieces.iter().for_each(|piece| direction.push(piece));
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        self.link(from, to).traffic.sent += bytes as u64;
        self.pump(now, number, side, choices);
        self.report(now, number, side, choices);
    }

    fn read(&mut self, now: Mono, host: HostId, id: ConnId, max: u32) {
        let Some((number, side)) = self.end(host, id) else {
            return;
        };
        let direction = &mut self.conn(number).directions[1 - side];
        direction.credit += u64::from(max);
        if direction.arrived > 0 {
            self.schedule(now, Event::Flush(number, side));
        }
    }

    /// Closes a connection in an orderly way. Bytes that were already sent are still delivered. If
    /// the peer sends anything later, the connection breaks.
    pub fn close(&mut self, now: Mono, host: HostId, id: ConnId, choices: &Choices) {
        let Some((number, side)) = self.end(host, id) else {
            return;
        };
        let conn = self.conn(number);
        conn.states[side] = State::Closed;
        conn.directions[side].end = End::Queued;
        conn.directions[1 - side].discard_arrived();
        self.ends.remove(&(host, id));
        if !self.forget(number) {
            self.pump(now, number, side, choices);
        }
    }

    /// Starts or stops listening on a port.
    pub fn listen(&mut self, host: HostId, port: Option<u16>) {
        self.hosts[usize::from(host)].listening = port;
    }

    /// The machine at the other end of a connection. Returns `None` unless both ends are open.
    #[must_use]
    pub fn peer(&self, host: HostId, id: ConnId) -> Option<(HostId, ConnId)> {
        let (number, side) = self.end(host, id)?;
        let conn = &self.conns[&number];
        let other = 1 - side;
        (conn.states[other] == State::Open).then_some((conn.hosts[other], conn.ids[other]))
    }

    /// Whether TCP keepalive has caused the last reset.
    #[must_use]
    pub const fn was_keepalive(&self) -> bool {
        self.kept_alive
    }

    /// The number of sent bytes that the peer has not received yet.
    #[must_use]
    pub fn undelivered(&self, host: HostId, id: ConnId) -> u64 {
        self.end(host, id).map_or(0, |(number, side)| {
            let direction = &self.conns[&number].directions[side];
            direction.arrived + direction.traveling + direction.waiting
        })
    }

    fn latency(&self, from: HostId, to: HostId, what: [u64; 2], choices: &Choices) -> u64 {
        let spec = self.links[&(from, to)].spec;
        let key = Key::new("net.latency", Subject::Link(from, to), what);
        let jitter_us = choices.below(key, spec.jitter_us.saturating_add(1));
        spec.latency_us.saturating_add(jitter_us)
    }

    fn schedule(&mut self, at: Mono, event: Event) {
        self.scheduled += 1;
        self.queue.insert((at, self.scheduled), event);
    }

    fn end(&self, host: HostId, id: ConnId) -> Option<(u32, Side)> {
        self.ends.get(&(host, id)).copied()
    }

    fn conn(&mut self, number: u32) -> &mut Conn {
        self.conns
            .get_mut(&number)
            .expect("ends and events refer to known connections")
    }

    fn link(&mut self, from: HostId, to: HostId) -> &mut Link {
        self.links
            .get_mut(&(from, to))
            .expect("every pair of machines has a link")
    }

    fn numbers(&self, which: impl Fn(&Conn) -> bool) -> Vec<u32> {
        let chosen = self.conns.iter().filter(|(_, conn)| which(conn));
        chosen.map(|(number, _)| *number).collect()
    }
}

#[cfg(test)]
mod tests;
