//! Network faults: broken connections, partitions, stalls, and machines without power.

use super::direction::Direction;
use super::direction::as_u64;
use super::{Conn, Event, Handshake, HostId, LinkSpec, Net, Side, State, Traffic};
use crate::choice::{Choices, Key, Subject};
use walsim_core::base::{ConnId, Mono};

impl Net {
    /// Breaks a connection at both ends. The bytes on the wire are lost.
    pub fn reset(&mut self, now: Mono, host: HostId, id: ConnId) {
        if let Some((number, _)) = self.end(host, id) {
            self.break_up(now, number);
        }
    }

    /// Breaks all connections between two machines. Returns the number of broken connections.
    pub fn reset_between(&mut self, now: Mono, a: HostId, b: HostId) -> usize {
        let between = |conn: &Conn| conn.hosts == [a, b] || conn.hosts == [b, a];
        let chosen = self.numbers(between);
        for number in &chosen {
            self.break_up(now, *number);
        }
        chosen.len()
    }

    fn break_up(&mut self, now: Mono, number: u32) {
        let conn = self.conn(number);
        conn.broken = true;
        conn.directions.iter_mut().for_each(Direction::clear);
        for side in [0, 1] {
            self.schedule(now, Event::Reset(number, side));
        }
    }

    /// Turns off a machine's power. The machine's ends of all connections vanish, and the peers are
    /// not notified.
    pub fn power_off(&mut self, host: HostId) {
        let index = usize::from(host);
        self.hosts[index].up = false;
        self.hosts[index].listening = None;
        self.hosts[index].deaf = false;
        for number in self.numbers(|conn| conn.hosts.contains(&host)) {
            for side in [0, 1] {
                let conn = self.conn(number);
                if conn.hosts[side] == host && conn.states[side] != State::Embryo {
                    conn.states[side] = State::Dead;
                    conn.directions[side].discard_waiting();
                    conn.directions[1 - side].discard_arrived();
                    let id = conn.ids[side];
                    self.ends.remove(&(host, id));
                }
            }
            self.forget(number);
        }
    }

    /// Turns on a machine's power again. A peer that has sent bytes in the meantime retransmits
    /// them, and gets a reset. A peer that sends nothing detects the lost connection by TCP
    /// keepalive.
    pub fn power_on(&mut self, now: Mono, host: HostId, choices: &Choices) {
        self.hosts[usize::from(host)].up = true;
        for number in self.numbers(|conn| conn.hosts.contains(&host)) {
            let conn = self.conn(number);
            let lost = [0, 1].map(|side| conn.directions[side].to_powerless_host);
            for side in [0, 1] {
                let conn = self.conn(number);
                if conn.hosts[1 - side] != host {
                    continue;
                }
                if lost[side] {
                    let delay = self.retransmission(number, side, choices);
                    self.schedule(now.after_us(delay), Event::Reset(number, side));
                } else if conn.states == [State::Open, State::Dead]
                    || conn.states == [State::Dead, State::Open]
                {
                    let hosts = conn.hosts;
                    let wait_us = self.link(hosts[side], host).spec.keepalive_us;
                    self.schedule(now.after_us(wait_us), Event::Keepalive(number, side));
                }
            }
            self.retry_handshake(now, number, choices);
        }
    }

    /// Blocks one direction between two machines. A full partition blocks both directions.
    pub fn block(&mut self, from: HostId, to: HostId) {
        self.link(from, to).blocked = true;
    }

    /// Whether this direction is blocked.
    #[must_use]
    pub fn is_blocked(&self, from: HostId, to: HostId) -> bool {
        self.links[&(from, to)].blocked
    }

    /// Ends a partition in one direction. The sender retransmits the blocked segments.
    pub fn heal(&mut self, now: Mono, from: HostId, to: HostId, choices: &Choices) {
        if !std::mem::replace(&mut self.link(from, to).blocked, false) {
            return;
        }
        for number in self.numbers(|conn| conn.hosts == [from, to] || conn.hosts == [to, from]) {
            for side in [0, 1] {
                let delay = self.retransmission(number, side, choices);
                let later = now.after_us(delay);
                let direction = &mut self.conn(number).directions[side];
                let stuck = std::mem::take(&mut direction.stuck);
                let ack = std::mem::take(&mut direction.ack_stuck);
                for _ in 0..stuck {
                    self.schedule(later, Event::Arrive(number, side));
                }
                if ack {
                    self.schedule(later, Event::Ack(number, side));
                }
                self.schedule(later, Event::Pump(number, side));
            }
            self.retry_handshake(now, number, choices);
        }
    }

    /// Makes the processes of a machine stop reading, so that received bytes fill the kernel's
    /// buffers.
    pub fn stop_reading(&mut self, host: HostId) {
        self.hosts[usize::from(host)].deaf = true;
    }

    /// Lets the processes of a machine read again.
    pub fn resume_reading(&mut self, now: Mono, host: HostId) {
        self.hosts[usize::from(host)].deaf = false;
        for number in self.numbers(|conn| conn.hosts.contains(&host)) {
            for side in [0, 1] {
                if self.conn(number).hosts[side] == host {
                    self.schedule(now, Event::Flush(number, side));
                }
            }
        }
    }

    /// Delays all arrivals in one direction. At the time `until`, all delayed bytes arrive at once.
    pub fn stall(&mut self, from: HostId, to: HostId, until: Mono) {
        let link = self.link(from, to);
        link.stalled_until = link.stalled_until.max(until);
    }

    /// Changes the properties of one direction.
    pub fn set_link(&mut self, from: HostId, to: HostId, spec: LinkSpec) {
        self.link(from, to).spec = spec;
    }

    /// The properties of one direction.
    #[must_use]
    pub fn link_spec(&self, from: HostId, to: HostId) -> LinkSpec {
        self.links[&(from, to)].spec
    }

    /// The bytes that one machine has sent to another.
    ///
    /// # Panics
    /// If there is no such machine.
    #[must_use]
    pub fn traffic(&self, from: HostId, to: HostId) -> Traffic {
        self.links[&(from, to)].traffic
    }

    fn retry_handshake(&mut self, now: Mono, number: u32, choices: &Choices) {
        let delay = self.retransmission(number, 0, choices);
        if let Some(step) = self.conn(number).stuck.take() {
            let event = match step {
                Handshake::Syn => Event::Syn(number),
                Handshake::SynAck => Event::SynAck(number),
            };
            self.schedule(now.after_us(delay), event);
        }
    }

    /// The delay until a sender retransmits.
    fn retransmission(&self, number: u32, side: Side, choices: &Choices) -> u64 {
        let conn = &self.conns[&number];
        let subject = Subject::Link(conn.hosts[side], conn.hosts[1 - side]);
        let what = [conn.nth << 1 | as_u64(side), conn.directions[side].offset];
        choices.between(
            Key::new("net.retransmit", subject, what),
            200_000,
            1_000_000,
        )
    }
}
