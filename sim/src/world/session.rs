//! A client session. The session runs the transactions of its workload rows one after the other,
//! over a connection of the simulated network. A commit is acknowledged when the network delivers
//! its CommandComplete to the session.

use crate::choice::{Choices, Key, Subject};
use crate::plan::WorkloadRow;
use crate::referee::{Answer, Row};
use bytes::Bytes;
use std::collections::VecDeque;
use walsim_core::wire::backend::{BackendMessage, TxStatus, backend_limit};
use walsim_core::wire::frame::FrameReader;
use walsim_core::wire::frontend::FrontendMessage;
use walsim_core::wire::sql::{SlotStatement, Statement};
use walsim_core::wire::startup::{StartupMessage, StartupPacket};

/// How long a session waits for an answer before it closes its connection.
pub(super) const PATIENCE_US: u64 = 3_000_000;
/// How long a session waits before it reconnects.
const BACKOFF_US: u64 = 200_000;
/// The relations that sessions write to. There are only a few, so that sessions often write to the
/// same pages.
const FIRST_RELATION: u32 = 16384;
const RELATIONS: u32 = 2;

/// What the world must do for a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Act {
    /// Connect to a node.
    Connect(usize),
    /// Send bytes.
    Send(Bytes),
    /// Close the connection.
    Close,
    /// Wake the session after this many microseconds.
    Sleep(u64),
    /// A statement was answered.
    Answered(Statement, Answer),
    /// A commit was acknowledged. The value is true if the commit was synchronous and the server
    /// sent no warning.
    Acked(bool),
    /// A statement about slots succeeded.
    SlotDone(SlotStatement),
    /// The session did not find a row of an acknowledged transaction.
    Missing(Row),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum State {
    /// Has nothing to do, or waits between two transactions.
    Idle,
    Connecting,
    /// The startup packet was sent.
    Starting,
    /// A statement was sent.
    Busy(Statement),
    /// The session waits before it reconnects.
    Backoff,
}

/// A task of a session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Job {
    /// A workload entry of the plan, and how many of its transactions remain.
    Row(WorkloadRow, u32),
    /// A statement of the operator.
    Ask(usize, Statement),
}

impl Job {
    const fn node(&self) -> usize {
        match self {
            Self::Row(row, _) => row.node,
            Self::Ask(node, _) => *node,
        }
    }
}

/// One session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Session {
    number: u32,
    due: VecDeque<Job>,
    state: State,
    connected_to: Option<usize>,
    frames: FrameReader,
    script: VecDeque<Statement>,
    /// The row that the current transaction has written.
    written: Option<Row>,
    /// The row of the last acknowledged transaction that was synchronous.
    acked: Option<Row>,
    got: Option<Bytes>,
    /// A NoticeResponse arrived before the answer.
    warned: bool,
    transactions: u32,
    asynchronous: bool,
    /// The number of the current wait. A timeout with another number is outdated.
    pub(super) ticket: u64,
    stopping: bool,
}

impl Session {
    pub(super) fn new(number: u32) -> Self {
        Self {
            number,
            due: VecDeque::new(),
            state: State::Idle,
            connected_to: None,
            frames: FrameReader::default(),
            script: VecDeque::new(),
            written: None,
            acked: None,
            got: None,
            warned: false,
            transactions: 0,
            asynchronous: false,
            ticket: 0,
            stopping: false,
        }
    }

    /// Adds a workload entry of the plan to the session's tasks.
    pub(super) fn give(&mut self, row: &WorkloadRow) {
        self.due.push_back(Job::Row(row.clone(), row.transactions));
    }

    /// Adds a statement of the operator for a node.
    pub(super) fn ask(&mut self, node: usize, statement: Statement) {
        self.due.push_back(Job::Ask(node, statement));
    }

    /// Called when faults and workload stop. From now on the session starts no new transactions.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.due.clear();
    }

    /// Whether the session has nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Idle && self.script.is_empty() && self.due.is_empty()
    }

    /// The slot statement whose answer the session waits for.
    pub(super) const fn asks(&self) -> Option<&SlotStatement> {
        match &self.state {
            State::Busy(Statement::Slot(statement)) => Some(statement),
            State::Idle | State::Connecting | State::Starting | State::Busy(_) | State::Backoff => {
                None
            }
        }
    }

    /// Starts the next transaction or the next attempt to connect.
    pub(super) fn wake(&mut self, choices: &Choices) -> Vec<Act> {
        match self.state {
            State::Idle | State::Backoff => self.go_on(choices),
            State::Connecting | State::Starting | State::Busy(_) => Vec::new(),
        }
    }

    /// The statement whose answer the session waits for.
    pub(super) const fn statement(&self) -> Option<&Statement> {
        match &self.state {
            State::Busy(statement) => Some(statement),
            State::Idle | State::Connecting | State::Starting | State::Backoff => None,
        }
    }

    /// Called when the answer took too long. Closes the connection.
    pub(super) fn lose_patience(&mut self) -> Vec<Act> {
        match self.state {
            State::Connecting | State::Starting | State::Busy(_) => {
                let mut acts = vec![Act::Close];
                acts.extend(self.ended());
                acts
            }
            State::Idle | State::Backoff => Vec::new(),
        }
    }

    pub(super) fn connected(&mut self) -> Vec<Act> {
        self.state = State::Starting;
        let name = format!("session{}", self.number);
        let params = [
            ("user", "postgres"),
            ("database", "postgres"),
            ("application_name", name.as_str()),
        ];
        let packet = StartupPacket::Startup(StartupMessage::new(&params));
        vec![Act::Send(packet.to_bytes())]
    }

    /// Called when the connection was closed. The outcome of the current statement is unknown.
    pub(super) fn ended(&mut self) -> Vec<Act> {
        self.state = State::Backoff;
        self.connected_to = None;
        self.frames = FrameReader::default();
        self.script.clear();
        self.written = None;
        self.asynchronous = false;
        vec![Act::Sleep(BACKOFF_US)]
    }

    pub(super) fn data(&mut self, bytes: Bytes, choices: &Choices) -> Vec<Act> {
        self.frames.push(bytes);
        let mut acts = Vec::new();
        loop {
            let frame = match self.frames.next(backend_limit) {
                Ok(Some(frame)) => frame,
                Ok(None) => return acts,
                Err(_) => break,
            };
            match BackendMessage::decode(frame) {
                Ok(message) => self.message(message, choices, &mut acts),
                Err(_) => break,
            }
        }
        acts.push(Act::Close);
        acts.extend(self.ended());
        acts
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a client ignores other messages"
    )]
    fn message(&mut self, message: BackendMessage, choices: &Choices, acts: &mut Vec<Act>) {
        match message {
            BackendMessage::CommandComplete(tag) => self.completed(&tag, acts),
            BackendMessage::DataRow(values) => self.got = values.into_iter().next().flatten(),
            BackendMessage::NoticeResponse(_) => self.warned = true,
            BackendMessage::ErrorResponse(_) => {
                if let State::Busy(statement) = &self.state {
                    acts.push(Act::Answered(statement.clone(), Answer::Error));
                }
                // The transaction has ended, so its remaining statements would only fail.
                self.script.clear();
                self.written = None;
            }
            BackendMessage::ReadyForQuery(status) => {
                if status != TxStatus::Idle && self.script.is_empty() {
                    self.script.push_back(Statement::Rollback);
                }
                self.state = State::Idle;
                acts.extend(self.go_on(choices));
            }
            _ => {}
        }
    }

    fn completed(&mut self, tag: &str, acts: &mut Vec<Act>) {
        let State::Busy(statement) = &self.state else {
            return;
        };
        let (tag_text, warned) = (String::from(tag), self.warned);
        let answer = Answer::Complete {
            tag: tag_text,
            warned,
        };
        acts.push(Act::Answered(statement.clone(), answer));
        match statement {
            Statement::Commit if tag == "COMMIT" => {
                // A warning means that the server stopped waiting for synchronous replication
                // (SyncRepWaitForLSN). The commit may then exist only on the primary, so it does
                // not count as synchronous.
                let promised = !self.asynchronous && !warned;
                acts.push(Act::Acked(promised));
                let written = self.written.take();
                if promised {
                    self.acked = written.or_else(|| self.acked.take());
                }
            }
            Statement::Get { rel, key } => {
                let expected = self.acked.take().filter(|r| (r.rel, r.key) == (*rel, *key));
                let got = self.got.take();
                let same = |row: &Row| got.as_deref() == Some(hex(&row.value).as_bytes());
                match expected {
                    Some(row) if !same(&row) => acts.push(Act::Missing(row)),
                    kept => self.acked = kept,
                }
            }
            Statement::Set { name, value } if name == "synchronous_commit" => {
                self.asynchronous = value == "off";
            }
            Statement::Slot(statement) => acts.push(Act::SlotDone(statement.clone())),
            Statement::Empty
            | Statement::Begin
            | Statement::Commit
            | Statement::Rollback
            | Statement::Put { .. }
            | Statement::Checkpoint
            | Statement::SwitchWal
            | Statement::EmitMessage { .. }
            | Statement::Show(_)
            | Statement::Set { .. } => {}
        }
    }

    /// Sends the next statement of the transaction. If there is none, starts the next transaction.
    fn go_on(&mut self, choices: &Choices) -> Vec<Act> {
        if self.due.is_empty() && self.script.is_empty() {
            self.state = State::Idle;
            return Vec::new();
        }
        let here = self.connected_to;
        // An open transaction must continue on the node on which it began. Only a new transaction
        // selects a node.
        let there = self
            .due
            .front()
            .filter(|_| self.script.is_empty() || here.is_none());
        let node = there.map_or(here.unwrap_or(0), Job::node);
        match self.connected_to {
            None => {
                self.connected_to = Some(node);
                self.state = State::Connecting;
                return vec![Act::Connect(node)];
            }
            Some(there) if there != node => {
                let mut acts = vec![Act::Close];
                self.connected_to = Some(node);
                self.frames = FrameReader::default();
                self.state = State::Connecting;
                acts.push(Act::Connect(node));
                return acts;
            }
            Some(_) => {}
        }
        if let Some(statement) = self.script.pop_front() {
            return self.send(statement);
        }
        let (row, started) = match self.due.front_mut() {
            None => return Vec::new(),
            Some(Job::Row(_, 0)) => {
                self.due.pop_front();
                return self.go_on(choices);
            }
            Some(Job::Row(row, left)) => {
                *left -= 1;
                (row.clone(), row.transactions - *left - 1)
            }
            Some(Job::Ask(..)) => {
                let Some(Job::Ask(_, statement)) = self.due.pop_front() else {
                    return Vec::new();
                };
                return self.send(statement);
            }
        };
        let pause = row.pause_us;
        self.plan_transaction(&row, started, choices);
        if pause > 0 && started > 0 {
            self.state = State::Idle;
            let key = Key::new(
                "session.pause",
                self.subject(),
                [self.transactions.into(), 0],
            );
            return vec![Act::Sleep(pause / 2 + choices.below(key, pause))];
        }
        match self.script.pop_front() {
            Some(statement) => self.send(statement),
            None => Vec::new(),
        }
    }

    fn send(&mut self, statement: Statement) -> Vec<Act> {
        let bytes = FrontendMessage::Query(statement.to_string()).to_bytes();
        self.got = None;
        self.warned = false;
        self.state = State::Busy(statement);
        vec![Act::Send(bytes)]
    }

    fn plan_transaction(&mut self, row: &WorkloadRow, started: u32, choices: &Choices) {
        self.transactions += 1;
        if row.asynchronous != self.asynchronous {
            let value = if row.asynchronous { "off" } else { "on" };
            let name = String::from("synchronous_commit");
            self.script.push_back(Statement::Set {
                name,
                value: String::from(value),
            });
        }
        self.script.push_back(Statement::Begin);
        self.written = None;
        for n in 0..row.rows {
            let written = self.row(n, row.bytes, choices);
            let Row { rel, key, value } = written.clone();
            self.script.push_back(Statement::Put {
                rel,
                key,
                value: value.into(),
            });
            self.written = Some(written);
        }
        if row.message > 0 {
            self.script.push_back(Statement::EmitMessage {
                transactional: true,
                prefix: String::from("walsim"),
                content: self.bytes(u32::MAX, row.message, choices).into(),
            });
        }
        let every = |n: u32| n > 0 && (started + 1).is_multiple_of(n);
        let rollback = every(row.rollback_every);
        self.script.push_back(if rollback {
            Statement::Rollback
        } else {
            Statement::Commit
        });
        if let Some(Row { rel, key, .. }) = self.written.as_ref().filter(|_| every(row.read_every))
            && !rollback
            && !row.asynchronous
        {
            self.script.push_back(Statement::Get {
                rel: *rel,
                key: *key,
            });
        }
    }

    fn row(&self, n: u32, len: u32, choices: &Choices) -> Row {
        let rel = FIRST_RELATION + (self.number + self.transactions) % RELATIONS;
        let key = u64::from(self.number) << 48 | u64::from(self.transactions) << 16 | u64::from(n);
        Row {
            rel,
            key,
            value: self.bytes(n, len, choices),
        }
    }

    /// Bytes that no other transaction writes. They differ from the zeros of unused space.
    fn bytes(&self, n: u32, len: u32, choices: &Choices) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len as usize + 8);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.transactions.to_le_bytes());
        let what = [u64::from(self.transactions) << 32 | u64::from(n), 0];
        let words = choices.words(Key::new("session.bytes", self.subject(), what));
        let missing = (len as usize).saturating_sub(bytes.len());
        for word in words.take(missing.div_ceil(8)) {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.truncate(len.max(8) as usize);
        bytes
    }

    fn subject(&self) -> Subject {
        Subject::Session(u16::try_from(self.number).unwrap_or(u16::MAX))
    }
}

/// Formats bytes as the server shows a bytea value.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::from("\\x"), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::When;
    use walsim_core::wire::backend::ErrorFields;

    /// What a session reports when the server answers one transaction, with or without a warning.
    fn acked(warning: bool, asynchronous: bool) -> Vec<Act> {
        let choices = Choices::new(0);
        let row = WorkloadRow {
            when: When::At(0),
            session: 0,
            node: 0,
            transactions: 1,
            rows: 1,
            bytes: 8,
            message: 0,
            rollback_every: 0,
            asynchronous,
            pause_us: 0,
            read_every: 0,
        };
        let mut session = Session::new(0);
        session.give(&row);
        session.wake(&choices);
        session.connected();
        let ready = || BackendMessage::ReadyForQuery(TxStatus::Idle).to_bytes();
        let mut acts = session.data(ready(), &choices);
        let sent = |acts: &[Act]| acts.iter().any(|act| matches!(act, Act::Send(_)));
        let mut all = Vec::new();
        while sent(&acts) {
            let commit = session.statement() == Some(&Statement::Commit);
            if commit && warning {
                let fields = ErrorFields::new("WARNING", *b"01000", "canceling the wait");
                let notice = BackendMessage::NoticeResponse(fields);
                session.data(notice.to_bytes(), &choices);
            }
            let tag = if commit { "COMMIT" } else { "OTHER" };
            let complete = BackendMessage::CommandComplete(tag.into());
            all.extend(session.data(complete.to_bytes(), &choices));
            acts = session.data(ready(), &choices);
        }
        all.retain(|act| matches!(act, Act::Acked(_)));
        all
    }

    #[test]
    fn a_commit_with_a_warning_promises_nothing() {
        assert_eq!(acked(false, false), [Act::Acked(true)]);
        assert_eq!(acked(true, false), [Act::Acked(false)]);
        assert_eq!(acked(false, true), [Act::Acked(false)]);
    }
}
