//! The fake network: connections as TCP gives them to a program.
//!
//! A stream loses and reorders nothing, but it may be cut at any byte, be slow, stall, break, or go
//! on looking alive while the other machine has no power. Data arrives only against credit; the
//! receiving kernel holds [`WINDOW`] bytes, then the sender's bytes stay where they are. The
//! network is data: the world pops its timed events.

mod direction;
mod events;
mod faults;
mod link;

pub use link::LinkSpec;

use crate::choice::{Choices, Key, Subject};
use bytes::Bytes;
use direction::{Direction, End};
use link::Link;
use std::collections::BTreeMap;
use walsim_core::base::{ConnId, Mono};
use walsim_core::call::{NetEvent, NetOp};

/// Bytes of a stream that are on the wire or unread in the receiving kernel, at most.
pub const WINDOW: u64 = 64 * 1024;

/// After this time a connection attempt without an answer fails, as with Linux's default of six
/// retries.
pub const CONNECT_TIMEOUT_MS: u64 = 127_000;

/// How long after a machine has power again TCP keepalive finds out, at the latest, that it has
/// forgotten a connection. libpq switches keepalive on; with Linux's own idle time of two hours a
/// process that waits for a reply would not notice sooner.
pub const KEEPALIVE_MS: u64 = 10_000;

/// Tell a sender of room in its buffer in no smaller amounts, unless it is waiting for room.
const REPORT: u64 = 32 * 1024;

/// The position of a machine in the plan's list.
pub type HostId = u16;

/// All machines, links and connections.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Net {
    hosts: Vec<Host>,
    links: BTreeMap<(HostId, HostId), Link>,
    conns: BTreeMap<u32, Conn>,
    /// Which end of which connection a machine means by an id.
    ends: BTreeMap<(HostId, ConnId), (u32, Side)>,
    queue: BTreeMap<(Mono, u64), Event>,
    scheduled: u64,
    next_conn: u32,
    accepted: u32,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Host {
    name: String,
    up: bool,
    listening: Option<u16>,
    /// Its processes take no bytes from the kernel.
    deaf: bool,
}

/// 0 opened the connection, 1 accepted it.
type Side = usize;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Conn {
    hosts: [HostId; 2],
    ids: [ConnId; 2],
    states: [State; 2],
    /// What each side sends.
    directions: [Direction; 2],
    /// Its number among those opened from one machine to the other.
    nth: u64,
    port: u16,
    /// The opener knows that it is open.
    connected: bool,
    /// It was broken for both ends; a partition does not keep them from learning of it.
    broken: bool,
    /// A step of the handshake that did not get through.
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
    /// Closed by its owner; its bytes still travel.
    Closed,
    /// Its machine lost power.
    Dead,
    /// Broken, and its owner knows.
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Event {
    Syn(u32),
    SynAck(u32),
    /// The opener is told that nothing listens, or that time is up.
    Refuse(u32),
    /// The oldest segment that this side has on the wire arrives.
    Arrive(u32, Side),
    /// This side may have data to read.
    Flush(u32, Side),
    /// This side may have bytes to send.
    Pump(u32, Side),
    /// This side learns that its bytes have arrived.
    Ack(u32, Side),
    /// This side learns that the connection broke.
    Reset(u32, Side),
}

/// What happens to a machine's connection now.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Delivery {
    /// Whose.
    pub host: HostId,
    /// Which connection.
    pub conn: ConnId,
    /// What happens.
    pub event: NetEvent,
}

impl Net {
    /// A network of machines with those names, all with power, none listening.
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

    /// When the next event is due.
    #[must_use]
    pub fn next_time(&self) -> Option<Mono> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// What the events up to now bring to a machine next.
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

    /// What a process does with a connection. Handing over is the host's affair.
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
        // A name that no machine has fails at once, on the machine itself.
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
        let direction = &mut self.conn(number).directions[side];
        pieces.iter().for_each(|piece| direction.push(piece));
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

    /// Closes a connection in an orderly way: what was sent still arrives, and what the peer sends
    /// from now on breaks it.
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

    /// A server listens on a port of a machine, or no longer does.
    pub fn listen(&mut self, host: HostId, port: Option<u16>) {
        self.hosts[usize::from(host)].listening = port;
    }

    /// The other end of a connection, while both are open.
    #[must_use]
    pub fn peer(&self, host: HostId, id: ConnId) -> Option<(HostId, ConnId)> {
        let (number, side) = self.end(host, id)?;
        let conn = &self.conns[&number];
        let other = 1 - side;
        (conn.states[other] == State::Open).then_some((conn.hosts[other], conn.ids[other]))
    }

    /// Bytes of a connection that the peer has not got yet.
    #[must_use]
    pub fn undelivered(&self, host: HostId, id: ConnId) -> u64 {
        self.end(host, id).map_or(0, |(number, side)| {
            let direction = &self.conns[&number].directions[side];
            direction.arrived + direction.travelling + direction.waiting
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
            .expect("ends and events name connections that are not forgotten")
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
