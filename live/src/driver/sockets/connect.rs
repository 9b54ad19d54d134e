//! Opening a connection: a name, its addresses one after the other, the handshake.

use super::{Inbox, Sockets, State};
use crate::driver::handle::News;
use crate::driver::pool::Pool;
use crate::driver::socket::Socket;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use walsim_core::base::{ConnId, Mono, Pid};
use walsim_core::call::{Input, NetEvent};

impl Sockets {
    /// The addresses of a host are known.
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
        self.conn(number).state = State::Connecting(found.unwrap_or_default().into_iter());
        self.try_next_address(now, number, inbox);
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
        let number = self.add(id, pid, State::Connecting(Vec::new().into_iter()));
        if host.starts_with('/') {
            let attached =
                Socket::connect_in(&host, port).and_then(|socket| self.attach(number, socket));
            if attached.is_err() {
                self.end(number, NetEvent::Refused, inbox);
            }
        } else if let Ok(ip) = host.parse::<IpAddr>() {
            let addrs = vec![SocketAddr::new(ip, port)];
            self.conn(number).state = State::Connecting(addrs.into_iter());
            self.try_next_address(Mono(0), number, inbox);
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
            Err(_) => self.try_next_address(now, number, inbox),
        }
    }

    pub(super) fn try_next_address(&mut self, now: Mono, number: usize, inbox: &mut Inbox) {
        loop {
            self.detach(number);
            let State::Connecting(addrs) = &mut self.conn(number).state else {
                return;
            };
            let Some(addr) = addrs.next() else {
                self.end(number, NetEvent::Refused, inbox);
                return;
            };
            let socket = Socket::connect(addr);
            if socket
                .and_then(|socket| self.attach(number, socket))
                .is_ok()
            {
                // Some connections are there at once; then no event may tell.
                self.go_on_connecting(now, number, inbox);
                return;
            }
        }
    }
}
