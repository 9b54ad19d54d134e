//! Clients that commit at a given rate. All clients together are one machine, which speaks the
//! simple query protocol to the server's port.
//!
//! One session cannot commit faster than the disk syncs. Several sessions share an fsync. A session
//! reconnects when its connection ends. A transaction is counted when the answer to its commit
//! arrives.

use bytes::Bytes;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use walsim_core::base::{ConnId, Mono, Now, Pid};
use walsim_core::call::{Effect, Effects, Exit, Input, Machine, NetEvent, NetOp, RunSet, Signal};
use walsim_core::wire::backend::{BackendMessage, backend_limit};
use walsim_core::wire::frame::FrameReader;
use walsim_core::wire::frontend::FrontendMessage;
use walsim_core::wire::startup::{StartupMessage, StartupPacket};

/// The number of commits per second for which one more session is opened. A session cannot commit
/// much faster, because each commit waits for an fsync.
const PER_SESSION: u32 = 50;
const SESSIONS: u32 = 32;
/// The pause between two attempts to connect.
const BACKOFF_MS: u64 = 100;
/// If the workload falls behind its rate, it makes up for at most this much time.
const CATCH_UP_US: u64 = 1_000_000;
/// The smallest size of a row. About 600 rows of average size fill a segment of 1 MiB.
const LEAST_BYTES: u64 = 200;
const MOST_BYTES: u64 = 3000;
/// `FirstNormalObjectId`
const RELATION: u32 = 16384;
const WINDOW: u32 = 64 * 1024;

/// All sessions of the workload.
#[derive(Debug)]
pub(super) struct Workload {
    server: SocketAddr,
    sessions: Vec<Session>,
    /// The time between two transactions.
    interval_us: u64,
    /// When the next transaction is due.
    due: Mono,
    next_conn: u32,
    next_key: u64,
    acknowledged: u64,
    stopping: bool,
}

#[derive(Debug)]
struct Session {
    state: State,
    frames: FrameReader,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// There is no connection. The next attempt is made at this time.
    Down(Mono),
    Connecting(ConnId),
    /// The startup packet was sent.
    Starting(ConnId),
    Idle(ConnId),
    /// A transaction is in progress.
    Busy(ConnId),
}

impl State {
    const fn conn(self) -> Option<ConnId> {
        match self {
            Self::Down(_) => None,
            Self::Connecting(conn) | Self::Starting(conn) | Self::Idle(conn) | Self::Busy(conn) => {
                Some(conn)
            }
        }
    }
}

impl Workload {
    /// The machine's only process.
    pub(super) const PID: Pid = Pid::postmaster(1);

    pub(super) fn new(server: SocketAddr, commits_per_s: u32) -> Self {
        let rate = commits_per_s.max(1);
        let session = || Session {
            // The first attempt to connect is delayed, because the server is still starting.
            state: State::Down(Mono(0).after_ms(BACKOFF_MS)),
            frames: FrameReader::default(),
        };
        let count = rate.div_ceil(PER_SESSION).min(SESSIONS);
        // If the server listens on all addresses, the workload connects to the loopback address.
        let ip = match server.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        Self {
            server: SocketAddr::new(ip, server.port()),
            sessions: (0..count).map(|_| session()).collect(),
            interval_us: 1_000_000 / u64::from(rate),
            due: Mono(0),
            next_conn: 1,
            next_key: 0,
            acknowledged: 0,
            stopping: false,
        }
    }

    /// Number of transactions whose commit was confirmed.
    pub(super) const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Starts all connections and transactions that are due.
    fn work(&mut self, now: Mono, fx: &mut Effects) {
        for index in 0..self.sessions.len() {
            match self.sessions[index].state {
                State::Down(until) if until <= now => self.connect(index, fx),
                State::Idle(conn) if self.due <= now => {
                    let earliest = Mono(now.0.saturating_sub(CATCH_UP_US));
                    self.due = self.due.max(earliest).after_us(self.interval_us);
                    self.sessions[index].state = State::Busy(conn);
                    let text = self.next_row();
                    send(conn, FrontendMessage::Query(text).to_bytes(), fx);
                }
                State::Down(_)
                | State::Connecting(_)
                | State::Starting(_)
                | State::Idle(_)
                | State::Busy(_) => {}
            }
        }
    }

    fn connect(&mut self, index: usize, fx: &mut Effects) {
        let conn = ConnId {
            incarnation: 1,
            n: self.next_conn,
        };
        self.next_conn += 1;
        self.sessions[index] = Session {
            state: State::Connecting(conn),
            frames: FrameReader::default(),
        };
        let (host, port) = (self.server.ip().to_string(), self.server.port());
        let connect = NetOp::Connect { host, port };
        fx.push(Self::PID, Effect::Net(conn, connect));
    }

    fn net(&mut self, now: Mono, conn: ConnId, event: NetEvent, fx: &mut Effects) {
        let ours = |session: &Session| session.state.conn() == Some(conn);
        let Some(index) = self.sessions.iter().position(ours) else {
            return;
        };
        match event {
            NetEvent::Connected => {
                let params = [
                    ("user", "postgres"),
                    ("database", "postgres"),
                    ("application_name", "workload"),
                ];
                let packet = StartupPacket::Startup(StartupMessage::new(&params));
                self.sessions[index].state = State::Starting(conn);
                fx.push(Self::PID, Effect::Net(conn, NetOp::Read { max: WINDOW }));
                send(conn, packet.to_bytes(), fx);
            }
            NetEvent::Data(bytes) => {
                let max = u32::try_from(bytes.len()).unwrap_or(WINDOW);
                fx.push(Self::PID, Effect::Net(conn, NetOp::Read { max }));
                if !self.read(index, conn, bytes) {
                    self.lose(index, now, conn, fx);
                }
            }
            NetEvent::Refused(_) | NetEvent::Closed | NetEvent::Reset => {
                self.lose(index, now, conn, fx);
            }
            NetEvent::Accepted | NetEvent::Sent(_) => {}
        }
    }

    /// Handles the server's answers. Returns false if they are invalid.
    fn read(&mut self, index: usize, conn: ConnId, bytes: Bytes) -> bool {
        let session = &mut self.sessions[index];
        session.frames.push(bytes);
        loop {
            let frame = match session.frames.next(backend_limit) {
                Ok(Some(frame)) => frame,
                Ok(None) => return true,
                Err(_) => return false,
            };
            match BackendMessage::decode(frame) {
                Ok(BackendMessage::CommandComplete(_)) => {
                    if matches!(session.state, State::Busy(_)) {
                        self.acknowledged += 1;
                    }
                }
                Ok(BackendMessage::ReadyForQuery(_)) => session.state = State::Idle(conn),
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    fn lose(&mut self, index: usize, now: Mono, conn: ConnId, fx: &mut Effects) {
        self.sessions[index].state = State::Down(now.after_ms(BACKOFF_MS));
        fx.push(Self::PID, Effect::Net(conn, NetOp::Close));
    }

    /// Disconnects when no transaction is in progress.
    fn stop(&mut self, fx: &mut Effects) {
        for session in &mut self.sessions {
            match session.state {
                State::Busy(_) => return,
                State::Idle(conn) => {
                    session.state = State::Down(Mono(0));
                    send(conn, FrontendMessage::Terminate.to_bytes(), fx);
                    fx.push(Self::PID, Effect::Net(conn, NetOp::Close));
                }
                State::Down(_) | State::Connecting(_) | State::Starting(_) => {}
            }
        }
        fx.push(Self::PID, Effect::Exit(Exit::Normal));
        fx.push(Self::PID, Effect::Halt);
    }

    /// A transaction that inserts one row. The row contains pseudo-random bytes, so that a reader
    /// detects stale memory.
    fn next_row(&mut self) -> String {
        self.next_key += 1;
        let mut noise = Noise(self.next_key);
        let bytes = LEAST_BYTES + noise.next() % (MOST_BYTES - LEAST_BYTES);
        let mut text = format!("PUT {RELATION} {} '", self.next_key);
        for _ in 0..bytes / 8 {
            let _ = write!(text, "{:016x}", noise.next());
        }
        text.push('\'');
        text
    }
}

/// SplitMix64
struct Noise(u64);

impl Noise {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn send(conn: ConnId, bytes: Bytes, fx: &mut Effects) {
    let send = NetOp::Send([bytes, Bytes::new()]);
    fx.push(Workload::PID, Effect::Net(conn, send));
}

impl Machine for Workload {
    fn step(&mut self, now: Now, input: Input, fx: &mut Effects) {
        match input {
            Input::Run(_) => self.work(now.mono, fx),
            Input::Net(conn, event) => {
                self.net(now.mono, conn, event, fx);
            }
            Input::Signal(_, Signal::Term) => self.stopping = true,
            Input::Signal(..) | Input::Disk(..) => return,
        }
        if self.stopping {
            self.stop(fx);
        }
    }

    fn runnable(&self, now: Now, set: &mut RunSet) {
        set.0.clear();
        let due = self.next_wakeup().is_some_and(|at| at <= now.mono);
        set.0.extend(due.then_some(Self::PID));
    }

    fn next_wakeup(&self) -> Option<Mono> {
        if self.stopping {
            return None;
        }
        let times = self
            .sessions
            .iter()
            .filter_map(|session| match session.state {
                State::Down(until) => Some(until),
                State::Idle(_) => Some(self.due),
                State::Connecting(_) | State::Starting(_) | State::Busy(_) => None,
            });
        times.min()
    }
}
