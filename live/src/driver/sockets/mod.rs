//! All connections of a machine, and the port that it listens on.

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

/// Bytes that one call reads, at most.
const CHUNK: u64 = 64 * 1024;

/// How long a connection that was closed here waits for its peer to close it too. Closed at once it
/// would break if the peer still sent something, and what it has not got yet would be lost.
const LINGER_MS: u64 = 10_000;

/// After an accept that failed, of want of descriptors mostly, the next one is tried so much later.
const ACCEPT_AGAIN_MS: u64 = 100;

/// Connections that are taken at once, at most: those that are open want to be served, too.
const ACCEPTED_AT_ONCE: u32 = 16;

/// Output that waits is joined up to this length, so that many short messages to a peer that does
/// not read them take no more room than their bytes.
const SHORT: usize = 4096;

/// Who is told what happened, in order.
pub(super) type Inbox = VecDeque<Input>;

/// Connections by number; numbers are not reused.
#[derive(Debug)]
pub(super) struct Sockets {
    registry: Registry,
    listener: Option<TcpListener>,
    accept_at: Option<Mono>,
    numbers: HashMap<ConnId, usize>,
    conns: HashMap<usize, Conn>,
    next_number: usize,
    accepted: u32,
    /// Connections that have got new credit, and may have something to read.
    wanted: Vec<usize>,
    /// Connections that were closed here, and until when they wait.
    lingering: VecDeque<(Mono, usize)>,
}

#[derive(Debug)]
struct Conn {
    id: ConnId,
    owner: Pid,
    socket: Option<Socket>,
    state: State,
    /// Bytes that may still be read.
    credit: u64,
    /// Nothing says that there is nothing to read.
    readable: bool,
    /// The peer has ended the stream, somewhere after what is there to read.
    ending: bool,
    /// The machine knows of that end. It may still send.
    ended: bool,
    /// The kernel takes bytes.
    writable: bool,
    queue: VecDeque<Bytes>,
    /// Addresses that it was not connected to, and why.
    tried: Vec<(Option<String>, String)>,
}

#[derive(Debug)]
enum State {
    /// Its addresses are being looked up, or it is being connected to one; these are left.
    Connecting(Option<SocketAddr>, vec::IntoIter<SocketAddr>),
    Open,
    /// It broke, or never came about, and the machine knows.
    Broken,
    /// Closed here; what is in the queue still has to leave.
    Closing,
    /// Closed here, and everything has left.
    Lingering,
}

impl Sockets {
    /// Tokens of connections count from `first`.
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

    /// Listens; the address with the port that was chosen if none was given.
    pub(super) fn listen(&mut self, addr: SocketAddr, token: Token) -> io::Result<SocketAddr> {
        // mio sets SO_REUSEADDR: a server may start again while connections of its last life are
        // winding up.
        let mut listener = TcpListener::bind(addr)?;
        self.registry
            .register(&mut listener, token, Interest::READABLE)?;
        let addr = listener.local_addr()?;
        self.listener = Some(listener);
        Ok(addr)
    }

    /// Accepts waiting connections.
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
                    // The machine gives it an owner before it does anything else with it.
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

    /// Stops to listen.
    pub(super) fn stop_listening(&mut self) {
        if let Some(mut listener) = self.listener.take() {
            let _ = self.registry.deregister(&mut listener);
        }
        self.accept_at = None;
    }

    /// What a process does with a connection; on one that is gone it does nothing.
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
        // Those that it has closed itself are known by their number alone.
        let known = self.numbers.values().copied();
        let mut owned: Vec<usize> = known.filter(|n| self.conns[n].owner == pid).collect();
        owned.sort_unstable();
        for number in owned {
            self.close(now, number, inbox);
        }
    }

    /// Closes all of them.
    pub(super) fn shut(&mut self, now: Mono, inbox: &mut Inbox) {
        self.stop_listening();
        for number in self.numbers.values().copied().collect::<Vec<_>>() {
            self.close(now, number, inbox);
        }
    }

    /// Is there anything that has not left yet, or whose arrival is not confirmed?
    pub(super) fn is_busy(&self) -> bool {
        !self.conns.is_empty()
    }

    /// Is there anything that has not left yet?
    pub(super) fn has_unsent(&self) -> bool {
        self.conns.values().any(|conn| !conn.queue.is_empty())
    }

    /// When time itself makes something happen here.
    pub(super) fn next_time(&self) -> Option<Mono> {
        let linger = self.lingering.front().map(|(until, _)| *until);
        linger.into_iter().chain(self.accept_at).min()
    }

    /// Does what time has made due.
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

    /// What the kernel says of a socket.
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
