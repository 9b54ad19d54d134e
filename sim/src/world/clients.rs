//! The clients of a run: the workload's sessions and the operator. Each client has its own machine.

use super::session::{Act, PATIENCE_US, Session};
use super::{Event, PORT, World};
use crate::plan::EventKind;
use crate::referee::{ClientAct, ClientEvent};
use std::collections::BTreeMap;
use walsim_core::base::{ConnId, Mark, Mono};
use walsim_core::call::{NetEvent, NetOp};
use walsim_core::node::Node;
use walsim_core::wire::sql::{SlotStatement, Statement};

/// How many bytes a session is ready to receive.
const WINDOW: u32 = 64 * 1024;

/// All sessions. The last one belongs to the operator.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Clients {
    sessions: Vec<Session>,
    lines: BTreeMap<usize, Line>,
    opened: u32,
    first_machine: usize,
}

/// A session's connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Line {
    conn: ConnId,
    node: usize,
    /// The server's id of the connection, once the server has accepted it.
    server: Option<ConnId>,
    since: Mono,
}

impl Clients {
    pub(super) fn new(first_machine: usize, sessions: u32) -> Self {
        Self {
            sessions: (0..=sessions).map(Session::new).collect(),
            lines: BTreeMap::new(),
            opened: 0,
            first_machine,
        }
    }

    fn machine(&self, session: usize) -> u16 {
        u16::try_from(self.first_machine + session).expect("a plan has few sessions")
    }

    /// The names of the clients' machines.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        let sessions = 0..self.sessions.len() - 1;
        let sessions = sessions.map(|session| format!("session{session}"));
        sessions.chain([String::from("operator")])
    }

    pub(super) fn stop(&mut self) {
        for session in &mut self.sessions {
            session.stop();
        }
    }

    pub(super) fn are_idle(&self) -> bool {
        self.sessions.iter().all(Session::is_idle)
    }
}

impl World {
    pub(super) fn start_row(&mut self, row: usize) {
        if self.quiescence.is_some() {
            return;
        }
        let plan = self.plan.clone();
        let row = &plan.workload[row];
        let session = row.session as usize;
        self.clients.sessions[session].give(row);
        self.poke(session);
    }

    /// Sends a statement of the operator to a node. Does nothing if faults and workload have
    /// already stopped.
    pub(super) fn operate(&mut self, node: usize, statement: Statement) {
        if self.quiescence.is_some() {
            return;
        }
        self.ask(node, statement);
    }

    /// Sends a statement of the operator to a node.
    pub(super) fn ask(&mut self, node: usize, statement: Statement) {
        let operator = self.clients.sessions.len() - 1;
        self.emit(Some(node), format!("operator: {statement}"));
        self.clients.sessions[operator].ask(node, statement);
        self.poke(operator);
    }

    fn poke(&mut self, session: usize) {
        let acts = self.clients.sessions[session].wake(&self.choices);
        self.carry_out_acts(session, acts);
    }

    pub(super) fn wake_session(&mut self, session: usize, ticket: u64) {
        if self.clients.sessions[session].ticket == ticket {
            self.poke(session);
        }
    }

    pub(super) fn check_patience(&mut self, session: usize, ticket: u64) {
        let Some(line) = self.clients.lines.get(&session) else {
            return;
        };
        if u64::from(line.conn.n) != ticket {
            return;
        }
        let due = line.since.after_us(PATIENCE_US);
        if due > self.now {
            self.at(due, Event::Patience(session, ticket));
            return;
        }
        let acts = self.clients.sessions[session].lose_patience();
        if acts.is_empty() {
            self.at(
                self.now.after_us(PATIENCE_US),
                Event::Patience(session, ticket),
            );
        }
        self.carry_out_acts(session, acts);
    }

    pub(super) fn deliver_to_session(&mut self, session: usize, conn: ConnId, event: NetEvent) {
        let machine = self.clients.machine(session);
        let Some(line) = self
            .clients
            .lines
            .get_mut(&session)
            .filter(|line| line.conn == conn)
        else {
            return;
        };
        line.since = self.now;
        let acts = match event {
            NetEvent::Connected => {
                line.server = self.net.peer(machine, conn).map(|(_, server)| server);
                let credit = NetOp::Read { max: WINDOW };
                self.net.op(self.now, machine, conn, &credit, &self.choices);
                self.clients.sessions[session].connected()
            }
            NetEvent::Data(bytes) => {
                let max = u32::try_from(bytes.len()).expect("bounded by the window");
                self.net
                    .op(self.now, machine, conn, &NetOp::Read { max }, &self.choices);
                self.clients.sessions[session].data(bytes, &self.choices)
            }
            NetEvent::Closed | NetEvent::Reset | NetEvent::Refused(_) => {
                self.hang_up(session);
                self.clients.sessions[session].ended()
            }
            NetEvent::Sent(_) | NetEvent::Accepted => Vec::new(),
        };
        self.carry_out_acts(session, acts);
    }

    fn hang_up(&mut self, session: usize) {
        let machine = self.clients.machine(session);
        if let Some(line) = self.clients.lines.remove(&session) {
            self.net.close(self.now, machine, line.conn, &self.choices);
        }
    }

    fn carry_out_acts(&mut self, session: usize, acts: Vec<Act>) {
        let machine = self.clients.machine(session);
        for act in acts {
            match act {
                Act::Connect(node) => {
                    self.clients.opened += 1;
                    let conn = ConnId {
                        incarnation: 1,
                        n: self.clients.opened,
                    };
                    let line = Line {
                        conn,
                        node,
                        server: None,
                        since: self.now,
                    };
                    self.clients.lines.insert(session, line);
                    let host = self.hosts[node].plan.name.clone();
                    let call = NetOp::Connect { host, port: PORT };
                    self.net.op(self.now, machine, conn, &call, &self.choices);
                    let due = self.now.after_us(PATIENCE_US);
                    self.at(due, Event::Patience(session, conn.n.into()));
                }
                Act::Send(bytes) => {
                    if let Some(statement) = self.clients.sessions[session].statement().cloned() {
                        self.client_event(session, ClientAct::Statement(&statement));
                    }
                    if let Some(line) = self.clients.lines.get_mut(&session) {
                        line.since = self.now;
                        let call = NetOp::Send([bytes, bytes::Bytes::new()]);
                        self.net
                            .op(self.now, machine, line.conn, &call, &self.choices);
                        let node = line.node;
                        if let Some(SlotStatement::Drop(name)) =
                            self.clients.sessions[session].asks()
                        {
                            self.causes.drop_sent(node, name);
                        }
                    }
                }
                Act::Close => self.hang_up(session),
                Act::Sleep(us) => {
                    let state = &mut self.clients.sessions[session];
                    state.ticket += 1;
                    let ticket = state.ticket;
                    self.at(self.now.after_us(us), Event::Session(session, ticket));
                }
                Act::Answered(statement, answer) => {
                    self.client_event(session, ClientAct::Answer(&statement, &answer));
                }
                Act::Acked(synchronous) => self.acked(session, synchronous),
                Act::SlotDone(statement) => {
                    if let Some(line) = self.clients.lines.get(&session) {
                        self.note_slot(line.node, &statement);
                    }
                }
                Act::Missing(row) => self.client_event(session, ClientAct::RowMissing(&row)),
            }
        }
    }

    /// Passes what a session sends or receives to the referee.
    fn client_event(&mut self, session: usize, act: ClientAct<'_>) {
        let Some(line) = self.clients.lines.get(&session) else {
            return;
        };
        let (node, conn) = (line.node, line.server);
        self.record_client(node, session, act);
        let state = &self.hosts[node];
        let ruling = self.referee.client(&ClientEvent {
            site: state.site(self.now),
            view: state.node.as_ref().map(Node::view),
            disk: &state.disk,
            session,
            conn,
            act,
        });
        self.judge(ruling);
    }

    /// Records the slots that operators drop, because a standby may be unable to catch up without
    /// its slot.
    fn note_slot(&mut self, host: usize, statement: &SlotStatement) {
        match statement {
            SlotStatement::Drop(name) => {
                self.dropped_slots.insert((host, name.clone()));
            }
            SlotStatement::Create { name, .. } => {
                self.causes.slot_made(host, name);
                if self.dropped_slots.remove(&(host, name.clone())) {
                    self.marks.insert(Mark::SlotRecreated);
                }
            }
            SlotStatement::Advance { .. }
            | SlotStatement::List
            | SlotStatement::CurrentWalLsn
            | SlotStatement::CurrentWalFlushLsn
            | SlotStatement::CreateLogical => {}
        }
    }

    fn acked(&mut self, session: usize, synchronous: bool) {
        self.commits += 1;
        self.marks.insert(Mark::CommitAcked);
        let Some(line) = self.clients.lines.get(&session) else {
            return;
        };
        let node = line.node;
        self.client_event(session, ClientAct::Commit(synchronous));
        self.after_event(node, EventKind::CommitAcked);
    }
}
