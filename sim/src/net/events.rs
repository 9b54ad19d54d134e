//! The timed events of the network: handshakes, arrivals, acknowledgments, resets.

use super::direction::{Direction, End, as_u64};
use super::{Conn, Delivery, Event, Handshake, HostId, Net, REPORT, Side, State, WINDOW};
use crate::choice::{Choices, Key, Subject};
use walsim_core::base::{ConnId, Mono};
use walsim_core::call::{NetEvent, Refusal, SEND_WINDOW};

impl Net {
    pub(super) fn happen(
        &mut self,
        now: Mono,
        event: Event,
        choices: &Choices,
    ) -> Option<Delivery> {
        let (Event::Syn(number)
        | Event::SynAck(number)
        | Event::Refuse(number)
        | Event::Arrive(number, _)
        | Event::Flush(number, _)
        | Event::Pump(number, _)
        | Event::Ack(number, _)
        | Event::Reset(number, _)
        | Event::Keepalive(number, _)) = event;
        if !self.conns.contains_key(&number) {
            return None;
        }
        match event {
            Event::Syn(_) => self.on_syn(now, number, choices),
            Event::SynAck(_) => self.on_syn_ack(number),
            Event::Refuse(_) => self.on_refuse(number),
            Event::Arrive(_, side) => self.on_arrival(now, number, side, choices),
            Event::Flush(_, side) => self.flush(now, number, side, choices),
            Event::Pump(_, side) => {
                self.pump(now, number, side, choices);
                None
            }
            Event::Ack(_, side) => self.on_ack(number, side),
            Event::Reset(_, side) | Event::Keepalive(_, side) => {
                self.kept_alive = matches!(event, Event::Keepalive(..));
                self.on_reset(now, number, side)
            }
        }
    }

    fn on_syn(&mut self, now: Mono, number: u32, choices: &Choices) -> Option<Delivery> {
        let Conn {
            hosts: [from, to],
            nth,
            port,
            states,
            ..
        } = *self.conn(number);
        let target = &self.hosts[usize::from(to)];
        if states[1] != State::Embryo {
            return None;
        }
        if self.is_blocked(from, to) || !target.up {
            self.conn(number).stuck = Some(Handshake::Syn);
            return None;
        }
        let listens = port != 0 && target.listening == Some(port);
        let back = self.latency(to, from, [nth, 0], choices);
        if !listens {
            self.schedule(now.after_us(back), Event::Refuse(number));
            return None;
        }
        self.accepted += 1;
        let id = ConnId {
            incarnation: 0,
            n: self.accepted,
        };
        let conn = self.conn(number);
        conn.states[1] = State::Open;
        conn.ids[1] = id;
        self.ends.insert((to, id), (number, 1));
        self.schedule(now.after_us(back), Event::SynAck(number));
        Some(Delivery {
            host: to,
            conn: id,
            event: NetEvent::Accepted,
        })
    }

    fn on_syn_ack(&mut self, number: u32) -> Option<Delivery> {
        let [from, to] = self.conn(number).hosts;
        let blocked = self.is_blocked(to, from);
        let conn = self.conn(number);
        if blocked {
            conn.stuck = Some(Handshake::SynAck);
            return None;
        }
        if conn.connected || conn.states[0] != State::Open {
            return None;
        }
        conn.connected = true;
        Some(Delivery {
            host: from,
            conn: conn.ids[0],
            event: NetEvent::Connected,
        })
    }

    fn on_refuse(&mut self, number: u32) -> Option<Delivery> {
        let conn = self.conn(number);
        if conn.connected || conn.states[0] != State::Open {
            return None;
        }
        let (host, id) = (conn.hosts[0], conn.ids[0]);
        conn.states[0] = State::Gone;
        let accepted = conn.states[1] == State::Open;
        self.ends.remove(&(host, id));
        if accepted {
            // The acceptor learns only at its next send that the opener has given up.
            self.conn(number).states[0] = State::Dead;
        }
        self.forget(number);
        Some(Delivery {
            host,
            conn: id,
            event: NetEvent::Refused(Refusal::Refused),
        })
    }

    /// Puts as many segments on the wire as the window and the link allow.
    pub(super) fn pump(&mut self, now: Mono, number: u32, side: Side, choices: &Choices) {
        loop {
            let conn = self.conn(number);
            let (from, to, nth) = (conn.hosts[side], conn.hosts[1 - side], conn.nth);
            let direction = &conn.directions[side];
            let room = WINDOW.saturating_sub(direction.traveling + direction.arrived);
            let ready = direction.waiting.min(room);
            let ends = direction.waiting == 0 && direction.end == End::Queued;
            if (ready == 0 && !ends) || self.is_blocked(from, to) {
                return;
            }
            let offset = self.conn(number).directions[side].offset;
            let what = [nth << 1 | as_u64(side), offset];
            let len = if ready > 1 {
                self.segment(from, to, what, ready, choices)
            } else {
                ready
            };
            let travel = self.latency(from, to, what, choices);
            let link = self.link(from, to);
            let stalled = link.stalled_until;
            let arrival = link.transmit(now, len).after_us(travel).max(stalled);
            let direction = &mut self.conn(number).directions[side];
            direction.depart(len);
            direction.last_arrival = direction.last_arrival.max(arrival);
            let arrival = direction.last_arrival;
            self.schedule(arrival, Event::Arrive(number, side));
        }
    }

    /// The length of the next segment. The segment contains either all ready bytes, or a part of
    /// them that may end at any byte.
    fn segment(
        &self,
        from: HostId,
        to: HostId,
        what: [u64; 2],
        ready: u64,
        choices: &Choices,
    ) -> u64 {
        let subject = Subject::Link(from, to);
        let fragments = u64::from(self.links[&(from, to)].spec.fragments);
        if !choices.ratio(Key::new("net.fragment", subject, what), fragments, 1000) {
            return ready;
        }
        // Half of the cuts are near the start, inside a header.
        let cut = Key::new("net.cut", subject, what);
        let most = if choices.bits(cut) & 1 == 0 {
            40
        } else {
            ready
        };
        choices.between(cut, 1, most.min(ready))
    }

    fn on_arrival(
        &mut self,
        now: Mono,
        number: u32,
        side: Side,
        choices: &Choices,
    ) -> Option<Delivery> {
        let conn = self.conn(number);
        let (from, to, nth) = (conn.hosts[side], conn.hosts[1 - side], conn.nth);
        if self.is_blocked(from, to) {
            self.conn(number).directions[side].stuck += 1;
            return None;
        }
        let up = self.hosts[usize::from(to)].up;
        let receiver = self.conn(number).states[1 - side];
        let direction = &mut self.conn(number).directions[side];
        let len = direction.arrive()?;
        match receiver {
            State::Open => {
                direction.freed += len;
                self.report(now, number, side, choices);
                self.flush(now, number, 1 - side, choices)
            }
            State::Embryo => None,
            State::Closed | State::Dead | State::Gone => {
                direction.discard_arrived();
                if !up {
                    direction.to_powerless_host = true;
                } else if len > 0 || receiver == State::Dead {
                    let back = self.latency(to, from, [nth, 0], choices);
                    self.schedule(now.after_us(back), Event::Reset(number, side));
                }
                None
            }
        }
    }

    /// Delivers bytes that have arrived to a side, but no more than that side has allowed.
    fn flush(&mut self, now: Mono, number: u32, side: Side, choices: &Choices) -> Option<Delivery> {
        let conn = self.conn(number);
        if conn.states[side] != State::Open {
            return None;
        }
        let (host, id) = (conn.hosts[side], conn.ids[side]);
        if self.hosts[usize::from(host)].deaf {
            return None;
        }
        let direction = &mut self.conn(number).directions[1 - side];
        let event = match direction.take() {
            Some(bytes) => {
                if (direction.arrived > 0 && direction.credit > 0) || direction.end == End::Arrived
                {
                    self.schedule(now, Event::Flush(number, side));
                }
                self.pump(now, number, 1 - side, choices);
                let from = self.conn(number).hosts[1 - side];
                self.link(from, host).traffic.received += bytes.len() as u64;
                NetEvent::Data(bytes)
            }
            None if direction.arrived == 0 && direction.end == End::Arrived => {
                direction.end = End::Told;
                NetEvent::Closed
            }
            None => return None,
        };
        Some(Delivery {
            host,
            conn: id,
            event,
        })
    }

    /// Sends an acknowledgment if enough bytes have arrived, or if the sender waits for space in
    /// its buffer.
    pub(super) fn report(&mut self, now: Mono, number: u32, side: Side, choices: &Choices) {
        let conn = self.conn(number);
        let (from, to, nth) = (conn.hosts[side], conn.hosts[1 - side], conn.nth);
        let direction = &mut conn.directions[side];
        let due = direction.freed >= REPORT || direction.outstanding > u64::from(SEND_WINDOW);
        if due && direction.freed > 0 && !direction.acknowledging {
            direction.acknowledging = true;
            let what = [nth << 1 | as_u64(1 - side), direction.offset];
            let back = self.latency(to, from, what, choices);
            self.schedule(now.after_us(back), Event::Ack(number, side));
        }
    }

    fn on_ack(&mut self, number: u32, side: Side) -> Option<Delivery> {
        let conn = self.conn(number);
        let (host, other, id) = (conn.hosts[side], conn.hosts[1 - side], conn.ids[side]);
        if self.is_blocked(other, host) {
            self.conn(number).directions[side].ack_stuck = true;
            return None;
        }
        let conn = self.conn(number);
        let direction = &mut conn.directions[side];
        direction.acknowledging = false;
        let freed = std::mem::take(&mut direction.freed);
        direction.outstanding -= freed;
        if conn.states[side] != State::Open || freed == 0 {
            return None;
        }
        let freed = u32::try_from(freed).expect("at most the window and one report");
        Some(Delivery {
            host,
            conn: id,
            event: NetEvent::Sent(freed),
        })
    }

    fn on_reset(&mut self, now: Mono, number: u32, side: Side) -> Option<Delivery> {
        let conn = self.conn(number);
        if conn.states[side] != State::Open {
            return None;
        }
        let (host, other, id) = (conn.hosts[side], conn.hosts[1 - side], conn.ids[side]);
        let incoming = &conn.directions[1 - side];
        // A reset waits for a receiver that is ready to read. Such a receiver first gets all bytes
        // that the peer sent before closing.
        let unread = incoming.has_undelivered() && incoming.credit > 0;
        let held_up = !conn.broken && self.is_blocked(other, host);
        if held_up || unread {
            self.schedule(now.after_ms(1000), Event::Reset(number, side));
            return None;
        }
        let conn = self.conn(number);
        conn.states[side] = State::Gone;
        conn.directions.iter_mut().for_each(Direction::clear);
        self.ends.remove(&(host, id));
        self.forget(number);
        Some(Delivery {
            host,
            conn: id,
            event: NetEvent::Reset,
        })
    }

    /// Removes a connection that is closed at both ends.
    pub(super) fn forget(&mut self, number: u32) -> bool {
        let open = self.conn(number).states.contains(&State::Open);
        if !open {
            self.conns.remove(&number);
        }
        !open
    }
}
