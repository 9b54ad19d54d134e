//! Reads from and writes to connections, and ends them.

use super::{CHUNK, Inbox, LINGER_MS, Sockets, State};
use crate::driver::socket::Got;
use walsim_core::base::Mono;
use walsim_core::call::{Input, NetEvent};

impl Sockets {
    /// Reads from the connections on which the machine has allowed the delivery of more bytes.
    /// Returns whether there was such a connection.
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

    /// Delivers received bytes, but no more than the machine has allowed (the credit of the
    /// connection). The end of the stream is delivered even without credit.
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
                    // The socket returned fewer bytes than requested. No more bytes are there, but
                    // the stream may have ended.
                    conn.readable = len == most;
                    inbox.push_back(Input::Net(conn.id, NetEvent::Data(bytes)));
                }
                Got::Nothing => {
                    conn.readable = most == 0;
                    // If `most` is above 0, the socket was read until it was empty, so the stream
                    // has not ended. Otherwise unread bytes may still come before the end.
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

    /// Writes as much pending output as the kernel accepts.
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
                // The connection is broken, but bytes that the peer sent before can still be read.
                conn.ending = true;
                self.read(number, inbox);
                self.broken(number, inbox);
            }
        }
    }

    /// Closes a connection for the machine.
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

    /// Waits until the peer also closes the connection, after all output is sent.
    fn linger(&mut self, now: Mono, number: usize) {
        let conn = self.conn(number);
        conn.state = State::Lingering;
        if let Some(socket) = &conn.socket {
            socket.finish();
        }
        self.lingering.push_back((now.after_ms(LINGER_MS), number));
        self.discard(number);
    }

    /// Reads and drops the data of a connection that this side has closed. Otherwise the peer could
    /// block while sending, and would never read the remaining output.
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

    /// Tells the machine how the connection has ended. The machine must still close the connection.
    pub(super) fn end(&mut self, number: usize, how: NetEvent, inbox: &mut Inbox) {
        let orderly = how == NetEvent::Closed;
        let conn = self.conn(number);
        inbox.push_back(Input::Net(conn.id, how));
        if orderly {
            // The machine cannot read any more, but the peer may still read.
            conn.ended = true;
            return;
        }
        conn.state = State::Broken;
        conn.queue.clear();
        self.detach(number);
    }
}
