//! A walreceiver with a fake disk and a fake upstream.

use super::super::*;
use crate::base::{Lsn, PgVersion, Pid, Planted, TimelineId, TimestampTz};
use crate::call::{NetEvent, NetOp, Signal};
use crate::shmem::{RecoveryState, Role, WalRcvState};
use crate::sys::Conn;
use crate::sys::testing::{Fixture, SYSID};
use crate::wire::backend::{BackendMessage, TxStatus};
use crate::wire::command::SystemIdentity;
use crate::wire::frame::FrameReader;
use crate::wire::frontend::{FrontendMessage, command_limit};
use crate::wire::replication::{Keepalive, StandbyMessage, WalMessage, XLogDataHeader};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use bytes::Bytes;

/// A walreceiver under test. Segments have 1024 bytes. The replay position is 1500, and WAL is
/// requested from 1024.
pub(super) struct Table {
    pub(super) fixture: Fixture,
    pub(super) pid: Pid,
    pub(super) startup: Pid,
    pub(super) receiver: WalReceiver,
    pub(super) wait: Option<Wait>,
    pub(super) exit: Option<Exit>,
    /// Disk operations, messages and published flush positions, in the order in which they
    /// happened.
    events: Vec<String>,
    said: FrameReader,
    published: Lsn,
}

impl Table {
    pub(super) fn new(version: PgVersion, planted: Planted) -> Self {
        let mut fixture = Fixture::new(version, planted);
        let shmem = &mut fixture.shmem;
        shmem.settings.wal_receiver_timeout_ms = 2000;
        shmem.settings.wal_receiver_status_interval_ms = 700;
        shmem.recovery.state = RecoveryState::Archive;
        shmem.recovery.install_segment_active = true;
        shmem.recovery.last_replayed_end = Lsn(1500);
        shmem.walrcv.state = WalRcvState::Starting;
        shmem.walrcv.receive_start = Lsn(1024);
        shmem.walrcv.receive_start_tli = TimelineId(1);
        shmem.walrcv.received_tli = TimelineId(1);
        shmem.walrcv.flushed_upto = Lsn(1400);
        shmem.walrcv.conninfo = Some(("primary".into(), 5432));
        let startup = fixture.spawn(Role::Startup);
        let pid = fixture.spawn(Role::WalReceiver);
        for segment in [1, 2] {
            let path = fixture.segment_path(crate::base::SegmentNo(segment));
            fixture.files.insert(path, vec![0; 1024]);
        }
        Self {
            published: fixture.shmem.walrcv.flushed_upto,
            fixture,
            pid,
            startup,
            receiver: WalReceiver::new(),
            wait: None,
            exit: None,
            events: Vec::new(),
            said: FrameReader::default(),
        }
    }

    /// A connected walreceiver whose upstream has flushed up to `xlogpos`.
    pub(super) fn greeted(version: PgVersion, xlogpos: u64) -> Self {
        Self::greeted_with(version, xlogpos, Planted::NONE)
    }

    pub(super) fn greeted_with(version: PgVersion, xlogpos: u64, planted: Planted) -> Self {
        let mut table = Self::new(version, planted);
        table.greet();
        table.identify(SYSID, 1, xlogpos);
        table
    }

    pub(super) fn greet(&mut self) {
        self.run();
        self.net(NetEvent::Connected);
        self.hear(&[
            BackendMessage::AuthenticationOk,
            BackendMessage::BackendKeyData {
                pid: 1,
                key: Bytes::from_static(b"1234"),
            },
            BackendMessage::ReadyForQuery(TxStatus::Idle),
        ]);
        assert_eq!(self.events(), ["connect", "startup", "IDENTIFY_SYSTEM"]);
    }

    /// A streaming walreceiver that has sent its first status update.
    pub(super) fn streaming(version: PgVersion) -> Self {
        Self::streaming_with(version, Planted::NONE)
    }

    pub(super) fn streaming_with(version: PgVersion, planted: Planted) -> Self {
        let mut table = Self::greeted_with(version, 9000, planted);
        table.hear(&[BackendMessage::copy_both()]);
        table.events();
        table
    }

    pub(super) fn identify(&mut self, system_id: u64, tli: u32, xlogpos: u64) {
        let identity = SystemIdentity {
            system_id,
            timeline: TimelineId(tli),
            xlogpos: Lsn(xlogpos),
            dbname: None,
        };
        let mut out = Vec::new();
        identity.encode(PgVersion::V15, &mut out);
        BackendMessage::ReadyForQuery(TxStatus::Idle).encode(&mut out);
        self.net(NetEvent::Data(out.into()));
    }

    /// Delivers messages of the upstream together.
    pub(super) fn hear(&mut self, messages: &[BackendMessage]) {
        let mut out = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut out));
        self.net(NetEvent::Data(out.into()));
    }

    /// Delivers WAL to the walreceiver. Each pair is a start position and a length.
    pub(super) fn hear_wal(&mut self, pieces: &[(u64, usize)]) {
        let frames: Vec<_> = pieces.iter().map(|(at, len)| wal(*at, *len)).collect();
        self.net(NetEvent::Data(frames.concat().into()));
    }

    pub(super) fn hear_keepalive(&mut self, reply_requested: bool) {
        let keepalive = WalMessage::Keepalive(Keepalive {
            wal_end: Lsn(7777),
            send_time: TimestampTz(1),
            reply_requested,
        });
        self.net(NetEvent::Data(keepalive.to_frame()));
    }

    pub(super) fn net(&mut self, event: NetEvent) {
        self.conn().apply(event);
        self.run();
    }

    pub(super) fn conn(&mut self) -> &mut Conn {
        let sys = self.fixture.procs.get_mut(&self.pid).unwrap();
        sys.conns.values_mut().next().unwrap()
    }

    pub(super) fn terminate(&mut self) {
        let sys = self.fixture.procs.get_mut(&self.pid).unwrap();
        sys.signal(Signal::Term);
        self.wake();
    }

    pub(super) fn wake(&mut self) {
        self.fixture.shmem.procs.set_latch(self.pid);
        self.run();
    }

    pub(super) fn pass_ms(&mut self, ms: u32) {
        self.fixture.pass_ms(ms);
        self.run();
    }

    /// Runs the walreceiver until it waits for an event that has not happened.
    pub(super) fn run(&mut self) {
        for _ in 0..1000 {
            let wakes = |wait: &Wait| self.fixture.wake(self.pid, wait);
            if self.exit.is_some() || !self.wait.as_ref().is_none_or(wakes) {
                return;
            }
            let done = self.fixture.trace.len();
            let receiver = &mut self.receiver;
            match self.fixture.step(self.pid, |cx| receiver.step(cx)) {
                Yield::Again(_) => self.wait = None,
                Yield::Wait(wait) => self.wait = Some(wait),
                Yield::Exit(exit) => self.exit = Some(exit),
            }
            self.note(done);
        }
        panic!("livelock");
    }

    /// Records the events of the last step. Lists changes of shared memory before the effects.
    fn note(&mut self, done: usize) {
        let flushed = self.fixture.shmem.walrcv.flushed_upto;
        if flushed != self.published {
            self.published = flushed;
            self.events.push(format!("published {flushed}"));
        }
        let net = core::mem::take(&mut self.fixture.net);
        let mut net = net.into_iter().peekable();
        let trace = self.fixture.short_trace();
        for at in done..=trace.len() {
            while let Some((_, op)) = net.next_if(|(before, _)| *before <= at) {
                self.note_net(op);
            }
            if let Some(line) = trace.get(at) {
                self.events.push(short(line));
            }
        }
        assert!(net.next().is_none());
    }

    fn note_net(&mut self, op: NetOp) {
        match op {
            NetOp::Connect { .. } => self.events.push("connect".into()),
            NetOp::Close => self.events.push("disconnect".into()),
            NetOp::Read { .. } | NetOp::HandOver(_) => {}
            NetOp::Send([first, second]) => {
                assert!(second.is_empty());
                if first[0] == 0 {
                    self.events.push("startup".into());
                    return;
                }
                self.said.push(first);
                while let Some(frame) = self.said.next(command_limit).unwrap() {
                    let message = FrontendMessage::decode(frame).unwrap();
                    self.events.push(told(message));
                }
            }
        }
    }

    pub(super) fn events(&mut self) -> Vec<String> {
        core::mem::take(&mut self.events)
    }

    pub(super) fn state(&self) -> WalRcvState {
        self.fixture.shmem.walrcv.state
    }

    pub(super) fn startup_is_woken(&self) -> bool {
        self.fixture.shmem.procs.latch(self.startup)
    }

    pub(super) fn fatal(&self) -> String {
        match &self.exit {
            Some(Exit::Fatal(event)) => event.message.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

fn short(line: &str) -> String {
    line.replace("pg_wal/0000000100000000000000", "")
}

fn told(message: FrontendMessage) -> String {
    if let FrontendMessage::Query(text) = message {
        return text;
    }
    let FrontendMessage::CopyData(payload) = message else {
        return format!("{message:?}");
    };
    match StandbyMessage::decode(&payload).unwrap() {
        StandbyMessage::Status(s) => {
            let ping = if s.reply_requested { " ping" } else { "" };
            format!("reply {} {} {}{ping}", s.write.0, s.flush.0, s.apply.0)
        }
        StandbyMessage::Feedback(f) => format!("feedback {}", f.xmin),
    }
}

/// A WAL message in which each byte depends on its position.
pub(super) fn wal(at: u64, len: usize) -> Bytes {
    let header = XLogDataHeader {
        start: Lsn(at),
        wal_end: Lsn(9000),
        send_time: TimestampTz(5),
    };
    WalMessage::XLogData(header, Bytes::from(bytes(at, len))).to_frame()
}

pub(super) fn bytes(at: u64, len: usize) -> Vec<u8> {
    (at..at + len as u64)
        .map(|at| u8::try_from(at * 7 % 251).unwrap())
        .collect()
}
