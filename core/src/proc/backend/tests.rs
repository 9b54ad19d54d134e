//! Tests of a session. The input is SQL text. The output is messages.

mod slots;

use super::*;
use crate::base::{Mark, Pid, SessionSettings};
use crate::call::NetEvent;
use crate::shmem::{Role, XactStatus};
use crate::sys::Conn;
use crate::sys::testing::Fixture;
use crate::wire::backend::{BackendMessage, TxStatus, backend_limit};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

const CONN: ConnId = ConnId {
    incarnation: 0,
    n: 1,
};

struct Session {
    fixture: Fixture,
    pid: Pid,
    backend: Backend,
}

impl Session {
    fn new(mut fixture: Fixture) -> Self {
        let pid = fixture.spawn(Role::Backend);
        fixture.sys(pid).conns.insert(CONN, Conn::accepted());
        let backend = Backend::new(Become {
            role: Role::Backend,
            conn: CONN,
            frames: FrameReader::default(),
            settings: SessionSettings::default(),
            database: String::new(),
        });
        Self {
            fixture,
            pid,
            backend,
        }
    }

    fn receive(&mut self, event: NetEvent) {
        self.fixture
            .sys(self.pid)
            .conns
            .get_mut(&CONN)
            .unwrap()
            .apply(event);
    }

    fn drive(&mut self) -> Yield {
        self.fixture.settle(self.pid, |cx| self.backend.step(cx))
    }

    fn ask(&mut self, text: &str) {
        let query = FrontendMessage::Query(String::from(text));
        self.receive(NetEvent::Data(query.to_bytes()));
    }

    /// The received messages. Each is written as one word.
    fn answer(&mut self) -> String {
        let mut frames = FrameReader::default();
        let sent = self.fixture.sent();
        self.receive(NetEvent::Sent(u32::try_from(sent.len()).unwrap()));
        frames.push(Bytes::from(sent));
        let mut words = Vec::new();
        while let Some(frame) = frames.next(backend_limit).unwrap() {
            words.push(match BackendMessage::decode(frame).unwrap() {
                BackendMessage::CommandComplete(tag) => tag,
                BackendMessage::ReadyForQuery(TxStatus::Idle) => String::from("I"),
                BackendMessage::ReadyForQuery(TxStatus::InTransaction) => String::from("T"),
                BackendMessage::ReadyForQuery(TxStatus::Failed) => String::from("E"),
                BackendMessage::RowDescription(columns) => format!("({})", columns[0].name),
                BackendMessage::DataRow(values) => {
                    let text = |value: &Option<Bytes>| match value {
                        None => String::from("NULL"),
                        Some(value) => String::from_utf8(value.to_vec()).unwrap(),
                    };
                    values.iter().map(text).collect::<Vec<_>>().join("|")
                }
                BackendMessage::ErrorResponse(e) | BackendMessage::NoticeResponse(e) => {
                    format!(
                        "{} {}",
                        e.severity,
                        core::str::from_utf8(&e.sqlstate).unwrap()
                    )
                }
                BackendMessage::EmptyQueryResponse => String::from("empty"),
                other @ (BackendMessage::AuthenticationOk
                | BackendMessage::Authentication { .. }
                | BackendMessage::ParameterStatus { .. }
                | BackendMessage::BackendKeyData { .. }
                | BackendMessage::NegotiateProtocolVersion { .. }
                | BackendMessage::CopyBothResponse { .. }
                | BackendMessage::CopyData(_)
                | BackendMessage::CopyDone
                | BackendMessage::NotificationResponse { .. }) => {
                    panic!("a session does not send {other:?}")
                }
            });
        }
        words.join(", ")
    }

    fn run(&mut self, text: &str) -> String {
        self.ask(text);
        let how = self.drive();
        assert!(
            matches!(&how, Yield::Wait(wait) if wait.readable == Some(CONN)),
            "{how:?}"
        );
        self.answer()
    }
}

#[test]
fn a_transaction_from_begin_to_commit() {
    let mut session = Session::new(Fixture::primary());
    assert_eq!(session.run("BEGIN"), "BEGIN, T");
    assert_eq!(session.run("PUT 16384 7 'c0ffee'"), "PUT 1, T");
    assert_eq!(session.run("GET 16384 7"), "(value), \\xc0ffee, GET 1, T");
    assert_eq!(session.backend.last_commit(), None);
    assert_eq!(session.run("COMMIT"), "COMMIT, I");
    let (xid, end) = session.backend.last_commit().unwrap();
    assert_eq!(xid, Xid(10));
    assert!(session.fixture.shmem.xlog.flush >= end);
    assert_eq!(
        session.fixture.shmem.clog.status(xid, 512),
        Some(XactStatus::Committed)
    );
    assert!(session.fixture.probe.marks().contains(Mark::CommitAcked));
    assert_eq!(session.run("GET 16384 7"), "(value), \\xc0ffee, GET 1, I");
    assert_eq!(session.run("GET 16384 8"), "(value), GET 0, I");
}

/// Outside of a transaction block, the result of a statement is sent after the statement has been
/// committed.
#[test]
fn a_statement_alone_is_a_transaction() {
    let mut session = Session::new(Fixture::primary());
    assert_eq!(session.run("PUT 16384 7 '01'"), "PUT 1, I");
    assert_eq!(session.backend.last_commit().unwrap().0, Xid(10));
    assert_eq!(session.run("PUT 16384 7 '02'"), "PUT 1, I");
    assert_eq!(session.run("GET 16384 7"), "(value), \\x02, GET 1, I");
}

/// An asynchronous commit is not recorded as durable.
#[test]
fn an_asynchronous_commit_is_not_recorded_as_durable() {
    let mut session = Session::new(Fixture::primary());
    assert_eq!(session.run("SET synchronous_commit = off"), "SET, I");
    let flushed = session.fixture.shmem.xlog.flush;
    assert_eq!(session.run("PUT 16384 7 '01'"), "PUT 1, I");
    assert_eq!(session.fixture.shmem.xlog.flush, flushed);
    assert_eq!(session.backend.last_commit(), None);
    assert_eq!(
        session.run("SHOW synchronous_commit"),
        "(synchronous_commit), off, SHOW, I"
    );
}

#[test]
fn a_failed_block_accepts_only_its_end() {
    let mut session = Session::new(Fixture::primary());
    session.run("BEGIN");
    session.run("PUT 16384 1 '01'");
    assert_eq!(session.run("FROB"), "ERROR 42601, E");
    assert!(session.fixture.shmem.procs.running_xids().is_empty());
    assert_eq!(session.run("GET 16384 1"), "ERROR 25P02, E");
    assert_eq!(session.run("COMMIT"), "ROLLBACK, I");
    assert_eq!(session.run("GET 16384 1"), "(value), GET 0, I");
    assert_eq!(session.run("COMMIT"), "WARNING 25P01, COMMIT, I");
}

#[test]
fn a_rollback_restores_settings() {
    let mut session = Session::new(Fixture::primary());
    session.run("BEGIN");
    session.run("SET synchronous_commit TO local");
    assert_eq!(session.run("ROLLBACK"), "ROLLBACK, I");
    assert_eq!(
        session.run("SHOW synchronous_commit"),
        "(synchronous_commit), on, SHOW, I"
    );
    assert_eq!(
        session.run("SET synchronous_commit = maybe"),
        "ERROR 22023, I"
    );
    assert_eq!(session.run("SHOW frob"), "ERROR 42704, I");
    assert_eq!(session.run(";"), "empty, I");
}

#[test]
fn a_standby_only_reads() {
    let mut session = Session::new(Fixture::in_recovery());
    assert_eq!(session.run("PUT 16384 1 '01'"), "ERROR 25006, I");
    let switched = session.run("SELECT pg_switch_wal()");
    assert_eq!(switched, "(pg_switch_wal), ERROR 55000, I");
    assert_eq!(session.run("GET 16384 1"), "(value), GET 0, I");
    assert_eq!(session.run("BEGIN"), "BEGIN, T");
    assert_eq!(session.run("COMMIT"), "COMMIT, I");
}

#[test]
fn a_row_must_fit_its_page() {
    let mut session = Session::new(Fixture::primary());
    let put = |bytes: usize| format!("PUT 16384 1 '{}'", "ab".repeat(bytes));
    // The largest row fills a page of 512 bytes. The page header and the line pointer take 32
    // bytes. The tuple's header and key take another 32 bytes.
    assert_eq!(session.run(&put(512 - 64)), "PUT 1, I");
    assert_eq!(session.run(&put(512 - 63)), "ERROR 54000, I");
}

/// A message can be longer than a segment.
#[test]
fn messages_of_any_size() {
    let mut session = Session::new(Fixture::primary());
    let before = session.fixture.shmem.xlog.flush;
    let long = "cd".repeat(9000);
    let answer = session.run(&format!(
        "SELECT pg_logical_emit_message(true, 'test', '{long}')"
    ));
    assert!(answer.ends_with("SELECT 1, I"), "{answer}");
    assert!(session.fixture.shmem.xlog.flush.0 > before.0 + 9000);
    assert_eq!(session.backend.last_commit().unwrap().0, Xid(10));
    session.run("SELECT pg_logical_emit_message(false, 'test', 'cd')");
    assert_eq!(session.backend.last_commit().unwrap().0, Xid(10));
    assert!(session.fixture.shmem.xlog.async_commit > session.fixture.shmem.xlog.flush);
    assert!(
        session
            .run("SELECT pg_switch_wal()")
            .ends_with("SELECT 1, I")
    );
    assert_eq!(session.fixture.shmem.xlog.flush.0 % 4096, 0);
}

/// When a session ends, its transaction is aborted.
#[test]
fn the_end_of_a_session_aborts_its_transaction() {
    let term = |session: &mut Session| session.fixture.sys(session.pid).signal(Signal::Term);
    let eof = |session: &mut Session| session.receive(NetEvent::Closed);
    leave_by(term, "FATAL 57P01");
    leave_by(eof, "");
}

fn leave_by(leave: impl FnOnce(&mut Session), answer: &str) {
    let mut session = Session::new(Fixture::primary());
    session.run("BEGIN");
    session.run("PUT 16384 1 '01'");
    leave(&mut session);
    let how = session.drive();
    assert!(
        matches!(how, Yield::Exit(Exit::Fatal(_) | Exit::Normal)),
        "{how:?}"
    );
    assert_eq!(session.answer_of_the_dead(), answer);
    assert_eq!(
        session.fixture.shmem.clog.status(Xid(10), 512),
        Some(XactStatus::Aborted)
    );
}

impl Session {
    fn answer_of_the_dead(&mut self) -> String {
        self.fixture
            .sys(self.pid)
            .conns
            .insert(CONN, Conn::accepted());
        self.answer()
    }
}

/// While the client does not read an answer, the server does not read the client's next command.
#[test]
fn pending_output_stops_reading() {
    let mut session = Session::new(Fixture::primary());
    let conn = session
        .fixture
        .sys(session.pid)
        .conns
        .get_mut(&CONN)
        .unwrap();
    conn.sent(100_000);
    session.ask("BEGIN");
    let how = session.drive();
    assert!(matches!(how, Yield::Wait(wait) if wait.writable == Some(CONN)));
    session.receive(NetEvent::Sent(100_000));
    let _ = session.drive();
    assert_eq!(session.answer(), "BEGIN, T");
}

/// CHECKPOINT waits for a checkpoint that begins after the request. A checkpoint that is already in
/// progress does not count.
#[test]
fn a_checkpoint_in_progress_is_not_enough() {
    let mut session = Session::new(Fixture::primary());
    session.fixture.shmem.checkpointer.started = 3;
    session.fixture.shmem.checkpointer.done = 2;
    session.ask("CHECKPOINT");
    let waits =
        |session: &mut Session| matches!(session.drive(), Yield::Wait(wait) if wait.condvar);
    assert!(waits(&mut session));
    assert!(session.fixture.shmem.checkpointer.requests.force);
    session.fixture.shmem.checkpointer.done = 3;
    assert!(waits(&mut session));
    session.fixture.shmem.checkpointer.started = 4;
    assert!(waits(&mut session));
    session.fixture.shmem.checkpointer.done = 4;
    let _ = session.drive();
    assert_eq!(session.answer(), "CHECKPOINT, I");
}

#[test]
fn unknown_messages_end_the_session() {
    let mut session = Session::new(Fixture::primary());
    session.receive(NetEvent::Data(Bytes::from_static(b"?")));
    let how = session.drive();
    assert!(matches!(how, Yield::Exit(Exit::Fatal(_))));
    let mut session = Session::new(Fixture::primary());
    let parse = FrontendMessage::Extended {
        tag: b'P',
        body: Bytes::from(vec![0; 4]),
    };
    session.receive(NetEvent::Data(parse.to_bytes()));
    let _ = session.drive();
    assert_eq!(session.answer(), "ERROR 08P01, I");
}
