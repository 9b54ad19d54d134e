//! All connections of a machine, and its listening socket.

mod connect;
mod flow;

use super::pool::Pool;
use super::socket::Socket;
use bytes::{Bytes, BytesMut};
use mio::event::Event;
use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::vec;
use walsim_core::base::{ConnId, Mono, Pid};
use walsim_core::call::{Input, NetEvent, NetOp};

/// The largest number of bytes that one call reads.
const CHUNK: u64 = 64 * 1024;

/// How long a closed connection waits until the peer also closes it. Closing the socket at once
/// could lose output: if the peer sends more data, the kernel resets the connection, and output
/// that the peer has not read is lost.
const LINGER_MS: u64 = 10_000;

/// The delay after a failed accept, which usually fails because there are too few descriptors.
const ACCEPT_AGAIN_MS: u64 = 100;

/// The largest number of connections that are accepted before open connections are served again.
const ACCEPTED_AT_ONCE: u32 = 16;

/// Short pieces of pending output are joined, up to this length. Many short messages to a peer that
/// does not read then need no more memory than their bytes.
const SHORT: usize = 4096;

/// Inputs for the machine, in order.
pub(super) type Inbox = VecDeque<Input>;

/// Connections by their number. A number is never assigned twice.
#[derive(Debug)]
pub(super) struct Sockets {
    registry: Registry,
    listener: Option<TcpListener>,
    accept_at: Option<Mono>,
    numbers: HashMap<ConnId, usize>,
    conns: HashMap<usize, Conn>,
    next_number: usize,
    accepted: u32,
    /// Connections on which the machine has allowed more bytes, and that may have data to read.
    wanted: Vec<usize>,
    /// Connections that this side has closed, each with the time until which it waits for its peer.
    lingering: VecDeque<(Mono, usize)>,
}

#[derive(Debug)]
struct Conn {
    id: ConnId,
    owner: Pid,
    socket: Option<Socket>,
    state: State,
    /// The number of bytes that may still be delivered to the machine.
    credit: u64,
    /// The socket may have data to read.
    readable: bool,
    /// The peer has closed its sending side. Data that it sent before may not be read yet.
    ending: bool,
    /// The machine knows that the stream has ended. The machine can still send.
    ended: bool,
    /// The kernel accepts output.
    writable: bool,
    queue: VecDeque<Bytes>,
    /// The addresses to which no connection could be opened, each with the reason.
    tried: Vec<(Option<String>, String)>,
}

#[derive(Debug)]
enum State {
    /// The host is being looked up, or its addresses are being tried. Contains the current address
    /// and the remaining addresses.
    Connecting(Option<SocketAddr>, vec::IntoIter<SocketAddr>),
    Open,
    /// The connection broke or could not be opened, and the machine knows this.
    Broken,
    /// The machine has closed the connection. Output is still queued.
    Closing,
    /// The machine has closed the connection, and all output is sent.
    Lingering,
}

impl Sockets {
    /// The tokens of connections start at `first`.
    pub(super) fn new(registry: Registry, first: usize) -> Self {
        Self {
            registry,
            listener: None,
            accept_at: None,
            numbers: HashMap::new(),
            conns: HashMap::new(),
            next_number: first,
            accepted: 0,
            wanted: Vec::new(),
            lingering: VecDeque::new(),
        }
    }

    /// Listens on an address. Returns the address. If the given port is 0, the returned address
    /// contains the port that the kernel chose.
    pub(super) fn listen(&mut self, addr: SocketAddr, token: Token) -> io::Result<SocketAddr> {
        // mio sets SO_REUSEADDR. A restarted server can therefore listen while connections of the
        // earlier server are still closing.
        let mut listener = TcpListener::bind(addr)?;
        self.registry
            .register(&mut listener, token, Interest::READABLE)?;
        let addr = listener.local_addr()?;
        self.listener = Some(listener);
        Ok(addr)
    }

    /// Accepts pending connections.
    pub(super) fn accept(&mut self, now: Mono, inbox: &mut Inbox) {
        self.accept_at = None;
        let mut taken = 0;
        while let Some(listener) = &self.listener {
            if taken == ACCEPTED_AT_ONCE {
                self.accept_at = Some(now);
                return;
            }
            taken += 1;
            match listener.accept() {
                Ok((stream, _)) => {
                    self.accepted += 1;
                    let id = ConnId {
                        incarnation: 0,
                        n: self.accepted,
                    };
                    let socket = Socket::Tcp(stream);
                    socket.set_nodelay();
                    // A connection has this owner until the machine hands the connection over to a
                    // process.
                    let nobody = Pid {
                        incarnation: 0,
                        n: 0,
                    };
                    let number = self.add(id, nobody, State::Open);
                    if self.attach(number, socket).is_ok() {
                        inbox.push_back(Input::Net(id, NetEvent::Accepted));
                    } else {
                        self.drop_conn(number);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                Err(e) => {
                    tracing::error!("LOG:  could not accept new connection: {e}");
                    self.accept_at = Some(now.after_ms(ACCEPT_AGAIN_MS));
                    return;
                }
            }
        }
    }

    /// Stops listening.
    pub(super) fn stop_listening(&mut self) {
        if let Some(mut listener) = self.listener.take() {
            let _ = self.registry.deregister(&mut listener);
        }
        self.accept_at = None;
    }

    /// Executes a process's operation on a connection. Does nothing if the connection is gone.
    pub(super) fn op(
        &mut self,
        now: Mono,
        pid: Pid,
        id: ConnId,
        op: NetOp,
        pool: &Pool,
        inbox: &mut Inbox,
    ) {
        if let NetOp::Connect { host, port } = op {
            self.connect(pid, id, host, port, pool, inbox);
            return;
        }
        let Some(number) = self.numbers.get(&id).copied() else {
            return;
        };
        match op {
            NetOp::Read { max } => {
                let conn = self.conn(number);
                conn.credit += u64::from(max);
                if conn.readable || conn.ending {
                    self.wanted.push(number);
                }
            }
            NetOp::Send(pieces) => {
                let conn = self.conn(number);
                if matches!(conn.state, State::Open | State::Connecting(..)) {
                    pieces.into_iter().for_each(|piece| conn.enqueue(piece));
                    self.write(now, number, inbox);
                }
            }
            NetOp::HandOver(to) => self.conn(number).owner = to,
            NetOp::Close => self.close(now, number, inbox),
            NetOp::Connect { .. } => unreachable!("handled above"),
        }
    }

    /// Closes the connections of a process that has ended.
    pub(super) fn close_all(&mut self, now: Mono, pid: Pid, inbox: &mut Inbox) {
        // A connection that the process has closed is no longer in `numbers`.
        let known = self.numbers.values().copied();
        let mut owned: Vec<usize> = known.filter(|n| self.conns[n].owner == pid).collect();
        owned.sort_unstable();
        for number in owned {
            self.close(now, number, inbox);
        }
    }

    /// Closes all connections.
    pub(super) fn shut(&mut self, now: Mono, inbox: &mut Inbox) {
        self.stop_listening();
        for number in self.numbers.values().copied().collect::<Vec<_>>() {
            self.close(now, number, inbox);
        }
    }

    /// Whether any output is unsent, or any connection waits for its peer to close.
    pub(super) fn is_busy(&self) -> bool {
        !self.conns.is_empty()
    }

    /// Is any output unsent?
    pub(super) fn has_unsent(&self) -> bool {
        self.conns.values().any(|conn| !conn.queue.is_empty())
    }

    /// The time at which the next timeout expires.
    pub(super) fn next_time(&self) -> Option<Mono> {
        let linger = self.lingering.front().map(|(until, _)| *until);
        linger.into_iter().chain(self.accept_at).min()
    }

    /// Handles expired timeouts.
    pub(super) fn tick(&mut self, now: Mono, inbox: &mut Inbox) {
        while self
            .lingering
            .front()
            .is_some_and(|(until, _)| *until <= now)
        {
            if let Some((_, number)) = self.lingering.pop_front() {
                self.drop_conn(number);
            }
        }
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept(now, inbox);
        }
    }

    /// Handles an event of a socket.
    pub(super) fn ready(&mut self, now: Mono, event: &Event, inbox: &mut Inbox) {
        let Token(number) = event.token();
        let Some(conn) = self.conns.get_mut(&number) else {
            return;
        };
        if matches!(conn.state, State::Connecting(..)) {
            self.go_on_connecting(now, number, inbox);
            return;
        }
        conn.readable |= event.is_readable();
        conn.ending |= event.is_read_closed() || event.is_error();
        if conn.ended && event.is_error() {
            self.broken(number, inbox);
            return;
        }
        if event.is_writable() && !conn.writable {
            conn.writable = true;
            self.write(now, number, inbox);
        }
        self.read(number, inbox);
    }

    fn add(&mut self, id: ConnId, owner: Pid, state: State) -> usize {
        let number = self.next_number;
        self.next_number += 1;
        let conn = Conn {
            id,
            owner,
            socket: None,
            state,
            credit: 0,
            readable: true,
            ending: false,
            ended: false,
            writable: true,
            queue: VecDeque::new(),
            tried: Vec::new(),
        };
        self.conns.insert(number, conn);
        self.numbers.insert(id, number);
        number
    }

    fn attach(&mut self, number: usize, mut socket: Socket) -> io::Result<()> {
        socket.register(&self.registry, Token(number))?;
        self.conn(number).socket = Some(socket);
        Ok(())
    }

    fn detach(&mut self, number: usize) {
        if let Some(conn) = self.conns.get_mut(&number)
            && let Some(mut socket) = conn.socket.take()
        {
            socket.deregister(&self.registry);
        }
    }

    fn drop_conn(&mut self, number: usize) {
        self.detach(number);
        if let Some(conn) = self.conns.remove(&number) {
            self.numbers.remove(&conn.id);
        }
        let gone = |at: &mut (Mono, usize)| !self.conns.contains_key(&at.1);
        while self.lingering.pop_front_if(gone).is_some() {}
    }

    fn conn(&mut self, number: usize) -> &mut Conn {
        self.conns
            .get_mut(&number)
            .expect("numbers name connections that were not dropped")
    }
}

impl Conn {
    fn enqueue(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        match self.queue.back_mut() {
            Some(last) if last.len() + piece.len() <= SHORT => {
                let mut joined = BytesMut::from(std::mem::take(last));
                joined.extend_from_slice(&piece);
                *last = joined.freeze();
            }
            Some(_) | None => self.queue.push_back(piece),
        }
    }
}
