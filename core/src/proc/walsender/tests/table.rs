//! A walsender with a fake client.

use super::super::*;
use crate::base::{PgVersion, Pid, Planted, SegmentNo, SessionSettings, TimestampTz};
use crate::call::{NetEvent, NetOp};
use crate::shmem::{RecoveryState, Role};
use crate::sys::Conn;
use crate::sys::testing::Fixture;
use crate::wire::backend::{TxStatus, backend_limit};
use crate::wire::frontend::FrontendMessage;
use crate::wire::replication::{StandbyMessage, StandbyStatus, WalMessage};
use alloc::format;
use alloc::string::String;

pub(super) const CONN: ConnId = ConnId {
    incarnation: 0,
    n: 1,
};
pub(super) const IDLE: BackendMessage = BackendMessage::ReadyForQuery(TxStatus::Idle);

/// A walsender and its client. A message has at most 4096 bytes, which is four segments.
pub(super) struct Table {
    pub(super) fixture: Fixture,
    pub(super) pid: Pid,
    pub(super) sender: WalSender,
    pub(super) wait: Option<Wait>,
    pub(super) exit: Option<Exit>,
    heard: FrameReader,
}

impl Table {
    /// A primary that has flushed up to `flush`. Each byte of WAL depends on its position.
    pub(super) fn new(version: PgVersion, flush: u64) -> Self {
        Self::planted(version, flush, Planted::NONE)
    }

    pub(super) fn planted(version: PgVersion, flush: u64, planted: Planted) -> Self {
        let mut fixture = Fixture::new(version, planted);
        fixture.shmem.recovery.state = RecoveryState::Done;
        fixture.shmem.xlog.insert_tli = TimelineId(1);
        fixture.shmem.xlog.flush = Lsn(flush);
        fixture.shmem.xlog.write = Lsn(flush);
        fixture.shmem.settings.wal_sender_timeout_ms = 2000;
        for segment in 1..20 {
            let path = fixture.segment_path(SegmentNo(segment));
            fixture
                .files
                .insert(path, wal(segment * 1024, segment * 1024 + 1024));
        }
        let pid = fixture.spawn(Role::WalSender);
        fixture
            .procs
            .get_mut(&pid)
            .unwrap()
            .conns
            .insert(CONN, Conn::accepted());
        let becomes = Become {
            role: Role::WalSender,
            conn: CONN,
            frames: FrameReader::default(),
            settings: SessionSettings::default(),
            database: String::new(),
        };
        let sender = WalSender::new(becomes);
        let (wait, exit, heard) = (None, None, FrameReader::default());
        Self {
            fixture,
            pid,
            sender,
            wait,
            exit,
            heard,
        }
    }

    /// A walsender of 15 that is attached to a database.
    pub(super) fn attached(flush: u64) -> Self {
        Self::attached_to(PgVersion::V15, flush)
    }

    /// A walsender that is attached to a database of this version.
    pub(super) fn attached_to(version: PgVersion, flush: u64) -> Self {
        let mut table = Self::new(version, flush);
        table.sender = WalSender::new(Become {
            role: Role::WalSender,
            conn: CONN,
            frames: FrameReader::default(),
            settings: SessionSettings::default(),
            database: String::from("postgres"),
        });
        table
    }

    /// A client that has requested WAL from `start` on.
    pub(super) fn streaming(flush: u64, start: u64) -> Self {
        let mut table = Self::new(PgVersion::V15, flush);
        table.query(&format!("START_REPLICATION {} TIMELINE 1", Lsn(start)));
        assert_eq!(table.next(), Some(BackendMessage::copy_both()));
        table
    }

    pub(super) fn conn(&mut self) -> &mut Conn {
        let sys = self.fixture.procs.get_mut(&self.pid).unwrap();
        sys.conns.get_mut(&CONN).unwrap()
    }

    pub(super) fn say(&mut self, message: &FrontendMessage) {
        self.conn().apply(NetEvent::Data(message.to_bytes()));
        self.run();
    }

    pub(super) fn query(&mut self, text: &str) {
        self.say(&FrontendMessage::Query(text.into()));
    }

    pub(super) fn report(&mut self, message: StandbyMessage) {
        self.conn().apply(NetEvent::Data(message.to_frame()));
        self.run();
    }

    /// Sends SIGTERM to the walsender.
    pub(super) fn terminate(&mut self) {
        let sys = self.fixture.procs.get_mut(&self.pid).unwrap();
        sys.signal(Signal::Term);
        self.fixture.shmem.procs.set_latch(self.pid);
        self.run();
    }

    /// Runs the walsender until it waits for an event that has not happened.
    pub(super) fn run(&mut self) {
        for _ in 0..1000 {
            let wakes = |wait: &Wait| self.fixture.wake(self.pid, wait);
            if self.exit.is_some() || !self.wait.as_ref().is_none_or(wakes) {
                return;
            }
            let sender = &mut self.sender;
            match self.fixture.step(self.pid, |cx| sender.step(cx)) {
                Yield::Again(_) => self.wait = None,
                Yield::Wait(wait) => self.wait = Some(wait),
                Yield::Exit(exit) => self.exit = Some(exit),
            }
        }
        panic!("livelock");
    }

    pub(super) fn pass_ms(&mut self, ms: u32) {
        self.fixture.pass_ms(ms);
        self.run();
    }

    pub(super) fn flush(&mut self, upto: u64) {
        self.fixture.shmem.xlog.flush = Lsn(upto);
        self.fixture.shmem.wake_walsenders();
        self.run();
    }

    pub(super) fn next(&mut self) -> Option<BackendMessage> {
        for (_, op) in core::mem::take(&mut self.fixture.net) {
            if let NetOp::Send(pieces) = op {
                pieces.into_iter().for_each(|piece| self.heard.push(piece));
            }
        }
        let frame = self.heard.next(backend_limit).unwrap()?;
        Some(BackendMessage::decode(frame).unwrap())
    }

    /// The messages up to ReadyForQuery, abbreviated.
    pub(super) fn answers(&mut self, text: &str) -> Vec<String> {
        self.query(text);
        let mut answers = Vec::new();
        loop {
            answers.push(match self.next() {
                None => break,
                Some(BackendMessage::ReadyForQuery(_)) => break,
                Some(BackendMessage::RowDescription(columns)) => {
                    let names: Vec<_> = columns.iter().map(|c| c.name.as_str()).collect();
                    names.join(",")
                }
                Some(BackendMessage::DataRow(row)) => {
                    let values: Vec<_> = row
                        .iter()
                        .map(|v| {
                            v.as_ref()
                                .map_or("NULL", |v| core::str::from_utf8(v).unwrap())
                        })
                        .collect();
                    values.join(",")
                }
                Some(BackendMessage::CommandComplete(tag)) => tag,
                Some(
                    BackendMessage::ErrorResponse(fields) | BackendMessage::NoticeResponse(fields),
                ) => {
                    let code = SqlState(fields.sqlstate);
                    let more = [fields.detail, fields.hint]
                        .map(|more| more.map_or(String::new(), |more| format!(" | {more}")));
                    format!(
                        "{} {code:?} {}{}",
                        fields.severity,
                        fields.message,
                        more.concat()
                    )
                }
                Some(other) => panic!("{other:?}"),
            });
        }
        answers
    }

    pub(super) fn next_wal(&mut self) -> Option<WalMessage> {
        let message = self.next()?;
        let BackendMessage::CopyData(payload) = message else {
            panic!("{message:?}")
        };
        Some(WalMessage::decode(payload).unwrap())
    }

    /// The range of positions in the next message. Also checks the bytes of the message.
    pub(super) fn next_range(&mut self) -> Option<(u64, u64)> {
        match self.next_wal()? {
            WalMessage::XLogData(header, data) => {
                let end = header.start.0 + data.len() as u64;
                assert_eq!(data, wal(header.start.0, end));
                Some((header.start.0, end))
            }
            WalMessage::Keepalive(other) => panic!("{other:?}"),
        }
    }

    pub(super) fn next_error(&mut self) -> (String, String) {
        match self.next() {
            Some(BackendMessage::ErrorResponse(fields)) => {
                let code = SqlState(fields.sqlstate);
                (format!("{} {code:?}", fields.severity), fields.message)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn entry(&self) -> &WalSnd {
        &self.fixture.shmem.walsnd[0]
    }
}

pub(super) fn wal(from: u64, to: u64) -> Vec<u8> {
    (from..to)
        .map(|at| u8::try_from(at * 7 % 251).unwrap())
        .collect()
}

pub(super) fn status(flush: u64, reply_requested: bool) -> StandbyMessage {
    StandbyMessage::Status(StandbyStatus {
        write: Lsn(flush + 1),
        flush: Lsn(flush),
        apply: Lsn(flush - 1),
        client_time: TimestampTz(99),
        reply_requested,
    })
}
