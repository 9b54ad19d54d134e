//! Bytes in both directions, and the ends of a connection.

use super::{CHUNK, Inbox, LINGER_MS, Sockets, State};
use crate::driver::socket::Got;
use walsim_core::base::Mono;
use walsim_core::call::{Input, NetEvent};

impl Sockets {
    /// Reads from connections that have got new credit. True if there were any.
    pub(in crate::driver) fn read_wanted(&mut self, inbox: &mut Inbox) -> bool {
        if self.wanted.is_empty() {
            return false;
        }
        let mut wanted = std::mem::take(&mut self.wanted);
        for number in wanted.drain(..) {
            self.read(number, inbox);
        }
        self.wanted = wanted;
        true
    }

    /// Delivers what may be delivered: bytes against credit, the end without.
    pub(super) fn read(&mut self, number: usize, inbox: &mut Inbox) {
        let Some(conn) = self.conns.get_mut(&number) else {
            return;
        };
        let Some(socket) = &conn.socket else { return };
        match conn.state {
            State::Open if conn.ended => return,
            State::Open => {}
            State::Closing | State::Lingering => {
                self.discard(number);
                return;
            }
            State::Connecting(..) | State::Broken => return,
        }
        while conn.readable || conn.ending {
            let most = conn.credit.min(CHUNK);
            let got = if most == 0 {
                if !conn.ending {
                    return;
                }
                socket.peek()
            } else {
                socket.read(usize::try_from(most).unwrap_or(usize::MAX))
            };
            match got {
                Got::Data(bytes) => {
                    let len = bytes.len() as u64;
                    conn.credit -= len;
                    // Less than was asked for is all that there is, unless the end comes right
                    // after it.
                    conn.readable = len == most;
                    inbox.push_back(Input::Net(conn.id, NetEvent::Data(bytes)));
                }
                Got::Nothing => {
                    conn.readable = most == 0;
                    // The end was announced too early, or stands behind bytes that nothing asks for
                    // yet.
                    if most > 0 {
                        conn.ending = false;
                    }
                    return;
                }
                Got::End => {
                    self.end(number, NetEvent::Closed, inbox);
                    return;
                }
                Got::Broken => {
                    self.broken(number, inbox);
                    return;
                }
            }
        }
    }

    /// Hands to the kernel what it takes.
    pub(super) fn write(&mut self, now: Mono, number: usize, inbox: &mut Inbox) {
        let conn = self.conn(number);
        let closing = match conn.state {
            State::Open => false,
            State::Closing => true,
            State::Connecting(..) | State::Broken | State::Lingering => return,
        };
        let Some(socket) = conn.socket.as_ref().filter(|_| conn.writable) else {
            return;
        };
        match socket.write(&mut conn.queue) {
            Ok((bytes, more)) => {
                conn.writable = more;
                if bytes > 0 && !closing {
                    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                    inbox.push_back(Input::Net(conn.id, NetEvent::Sent(bytes)));
                }
                if closing && conn.queue.is_empty() {
                    self.linger(now, number);
                }
            }
            Err(_) if closing => self.drop_conn(number),
            Err(_) => {
                // What the peer has said before is still there to be read.
                conn.ending = true;
                self.read(number, inbox);
                self.broken(number, inbox);
            }
        }
    }

    /// The machine wants no more of it.
    pub(super) fn close(&mut self, now: Mono, number: usize, inbox: &mut Inbox) {
        let conn = self.conn(number);
        let id = conn.id;
        let open = matches!(conn.state, State::Open);
        self.numbers.remove(&id);
        if !open {
            self.drop_conn(number);
            return;
        }
        self.conn(number).state = State::Closing;
        if self.conn(number).queue.is_empty() {
            self.linger(now, number);
        } else {
            self.write(now, number, inbox);
        }
    }

    /// Everything has left: waits for the peer to close its end too.
    fn linger(&mut self, now: Mono, number: usize) {
        let conn = self.conn(number);
        conn.state = State::Lingering;
        if let Some(socket) = &conn.socket {
            socket.finish();
        }
        self.lingering.push_back((now.after_ms(LINGER_MS), number));
        self.discard(number);
    }

    /// What the peer says to a closed connection does not matter; but a peer that cannot get rid of
    /// it may not read what is still on its way.
    fn discard(&mut self, number: usize) {
        let conn = self.conn(number);
        let Some(socket) = &conn.socket else { return };
        loop {
            match socket.read(4096) {
                Got::Data(_) => {}
                Got::Nothing => return,
                Got::End if matches!(conn.state, State::Closing) => return,
                Got::End | Got::Broken => break,
            }
        }
        self.drop_conn(number);
    }

    pub(super) fn broken(&mut self, number: usize, inbox: &mut Inbox) {
        if matches!(self.conn(number).state, State::Open) {
            self.end(number, NetEvent::Reset, inbox);
        }
    }

    /// The connection has ended from outside; the machine still has to close it.
    pub(super) fn end(&mut self, number: usize, how: NetEvent, inbox: &mut Inbox) {
        let orderly = how == NetEvent::Closed;
        let conn = self.conn(number);
        inbox.push_back(Input::Net(conn.id, how));
        if orderly {
            // A peer that says no more may still listen.
            conn.ended = true;
            return;
        }
        conn.state = State::Broken;
        conn.queue.clear();
        self.detach(number);
    }
}
