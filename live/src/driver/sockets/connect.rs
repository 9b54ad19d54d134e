//! Opens a connection: looks up the host, and tries one address of the host after another.

use super::{Inbox, Sockets, State};
use crate::driver::handle::News;
use crate::driver::pool::Pool;
use crate::driver::socket::Socket;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use walsim_core::base::{ConnId, Mono, Pid};
use walsim_core::call::{Input, NetEvent, Refusal};

impl Sockets {
    /// Called when the lookup of the host has ended. Tries the addresses that were found.
    pub(in crate::driver) fn resolved(
        &mut self,
        now: Mono,
        id: ConnId,
        found: io::Result<Vec<SocketAddr>>,
        inbox: &mut Inbox,
    ) {
        let Some(number) = self.numbers.get(&id).copied() else {
            return;
        };
        match found {
            Ok(addrs) => self.try_addresses(now, number, addrs, inbox),
            Err(e) => {
                let why = Refusal::Unresolved(lookup_words(&e));
                self.end(number, NetEvent::Refused(why), inbox);
            }
        }
    }

    pub(super) fn connect(
        &mut self,
        pid: Pid,
        id: ConnId,
        host: String,
        port: u16,
        pool: &Pool,
        inbox: &mut Inbox,
    ) {
        let number = self.add(id, pid, State::Connecting(None, Vec::new().into_iter()));
        if host.starts_with('/') {
            let attached =
                Socket::connect_in(&host, port).and_then(|socket| self.attach(number, socket));
            if let Err(e) = attached {
                // The path is too long or contains a NUL, so no system call was made.
                let why = if e.kind() == io::ErrorKind::InvalidInput {
                    Refusal::PathTooLong
                } else {
                    Refusal::Tried(vec![(None, words(&e))])
                };
                self.end(number, NetEvent::Refused(why), inbox);
            }
        } else if let Ok(ip) = host.parse::<IpAddr>() {
            let addrs = vec![SocketAddr::new(ip, port)];
            self.try_addresses(Mono(0), number, addrs, inbox);
        } else {
            pool.give(Box::new(move || {
                let addrs = (host.as_str(), port).to_socket_addrs();
                Some(News::Resolved(id, addrs.map(Iterator::collect)))
            }));
        }
    }

    pub(super) fn go_on_connecting(&mut self, now: Mono, number: usize, inbox: &mut Inbox) {
        let conn = self.conn(number);
        let Some(socket) = &conn.socket else { return };
        match socket.is_connected() {
            Ok(false) => {}
            Ok(true) => {
                socket.set_nodelay();
                conn.state = State::Open;
                inbox.push_back(Input::Net(conn.id, NetEvent::Connected));
                self.write(now, number, inbox);
                self.read(number, inbox);
            }
            Err(e) => {
                self.note_failure(number, &e);
                self.try_next_address(now, number, inbox);
            }
        }
    }

    fn try_addresses(
        &mut self,
        now: Mono,
        number: usize,
        addrs: Vec<SocketAddr>,
        inbox: &mut Inbox,
    ) {
        self.conn(number).state = State::Connecting(None, addrs.into_iter());
        self.try_next_address(now, number, inbox);
    }

    fn try_next_address(&mut self, now: Mono, number: usize, inbox: &mut Inbox) {
        loop {
            self.detach(number);
            let State::Connecting(current, addrs) = &mut self.conn(number).state else {
                return;
            };
            let Some(addr) = addrs.next() else {
                let why = Refusal::Tried(std::mem::take(&mut self.conn(number).tried));
                self.end(number, NetEvent::Refused(why), inbox);
                return;
            };
            *current = Some(addr);
            let socket = Socket::connect(addr);
            match socket.and_then(|socket| self.attach(number, socket)) {
                Ok(()) => {
                    // If the connection is established at once, the kernel may report no event.
                    self.go_on_connecting(now, number, inbox);
                    return;
                }
                Err(e) => self.note_failure(number, &e),
            }
        }
    }

    /// Records the failure of the current address.
    fn note_failure(&mut self, number: usize, error: &io::Error) {
        let conn = self.conn(number);
        let address = match &conn.state {
            State::Connecting(Some(addr), _) => Some(addr.ip().to_string()),
            State::Connecting(None, _)
            | State::Open
            | State::Broken
            | State::Closing
            | State::Lingering => None,
        };
        conn.tried.push((address, words(error)));
    }
}

/// The text that strerror has for an error.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.into(),
        None => text,
    }
}

/// The text that gai_strerror has for an error.
fn lookup_words(error: &io::Error) -> String {
    let text = words(error);
    match text.strip_prefix("failed to lookup address information: ") {
        Some(words) => words.into(),
        None => text,
    }
}
