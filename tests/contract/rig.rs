//! One node on a simulated disk. The test decides which process runs and which disk operation
//! completes.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use walsim::disk::Content;
use walsim_core::base::TimestampTz;
use walsim_core::base::{ConnId, Geometry, Lsn, PgVersion, Pid, Planted, SegmentNo, Settings};
use walsim_core::call::{DiskOp, Effect, Input, NetEvent, NetOp, Place, Signal};
use walsim_core::node::{Node, PmState, STANDBY_SIGNAL};
use walsim_core::shmem::Role;
use walsim_core::wire::backend::{BackendMessage, backend_limit};
use walsim_core::wire::frame::FrameReader;
use walsim_core::wire::frontend::FrontendMessage;
use walsim_core::wire::replication::{StandbyMessage, StandbyStatus, WalMessage};
use walsim_core::wire::startup::{StartupMessage, StartupPacket};
pub(crate) use walsim_tests::Drive;
use walsim_tests::{Harness, client, new_cluster};

/// A node, its disk, and what its clients have received.
#[derive(Clone)]
pub(crate) struct Rig {
    harness: Harness<Node>,
    settings: Settings,
    incarnation: u32,
    received: BTreeMap<ConnId, FrameReader>,
    /// The CommandComplete tags and error codes that each connection has received.
    pub(crate) answers: BTreeMap<ConnId, Vec<String>>,
    /// The end of the WAL received by each streaming client.
    pub(crate) shipped: BTreeMap<ConnId, Lsn>,
    conns: u32,
    /// Fsyncs issued.
    pub(crate) fsyncs: u32,
    /// The server log.
    pub(crate) log: Vec<String>,
}

impl Deref for Rig {
    type Target = Harness<Node>;

    fn deref(&self) -> &Self::Target {
        &self.harness
    }
}

impl DerefMut for Rig {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.harness
    }
}

impl Drive<Node> for Rig {
    fn effect(&mut self, _: Pid, effect: Effect) {
        match effect {
            Effect::Disk(_, call) => self.fsyncs += u32::from(matches!(call, DiskOp::Fsync(_))),
            Effect::Net(conn, NetOp::Send(pieces)) => {
                for piece in pieces {
                    self.receive(conn, piece);
                }
            }
            Effect::Log(event) => self.log.push(event.to_string()),
            Effect::Net(conn, NetOp::Close) => {
                let answers = self.answers.entry(conn).or_default();
                answers.push(String::from("closed"));
            }
            Effect::Net(..) | Effect::Exit(_) | Effect::Halt => {}
        }
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::of(PgVersion::V15, false)
    }

    /// A node with a new cluster. With `standby`, the node is a standby, and its primary does not
    /// exist.
    pub(crate) fn of(version: PgVersion, standby: bool) -> Self {
        let mut settings = Settings::new(version, Geometry::TINY);
        settings.checkpoint_timeout_ms = 3_600_000;
        let mut disk = new_cluster(&settings);
        if standby {
            disk.set_up_file(STANDBY_SIGNAL, Content::new(&[]));
            settings.primary_conninfo = Some((String::from("primary"), 5432));
        }
        let node = Node::boot(settings.clone(), 1, 1, Planted::NONE);
        Self {
            harness: Harness::new(node, disk),
            settings,
            incarnation: 1,
            received: BTreeMap::new(),
            answers: BTreeMap::new(),
            shipped: BTreeMap::new(),
            conns: 0,
            fsyncs: 0,
            log: Vec::new(),
        }
    }

    /// A node that accepts connections.
    pub(crate) fn running() -> Self {
        let mut rig = Self::new();
        rig.until("the node runs", |rig| rig.state() == Some(PmState::Run));
        rig.settle();
        rig
    }

    pub(crate) fn state(&self) -> Option<PmState> {
        self.machine.view().postmaster_state()
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a client ignores other messages"
    )]
    fn receive(&mut self, conn: ConnId, bytes: Bytes) {
        let frames = self.received.entry(conn).or_default();
        frames.push(bytes);
        while let Some(frame) = frames.next(backend_limit).expect("a server sends frames") {
            let answer = match BackendMessage::decode(frame).expect("a server sends messages") {
                BackendMessage::CommandComplete(tag) => tag,
                BackendMessage::CopyData(payload) => {
                    match WalMessage::decode(payload).expect("a walsender sends WAL") {
                        WalMessage::XLogData(header, data) => {
                            self.shipped.insert(conn, header.start + data.len() as u64);
                        }
                        WalMessage::Keepalive(_) => {}
                    }
                    continue;
                }
                BackendMessage::ErrorResponse(fields) => format!("{fields:?}"),
                BackendMessage::DataRow(values) => {
                    let first = values.into_iter().next().flatten().unwrap_or_default();
                    String::from_utf8_lossy(&first).into_owned()
                }
                BackendMessage::ReadyForQuery(_) => String::from("ready"),
                _ => continue,
            };
            self.answers.entry(conn).or_default().push(answer);
        }
    }

    /// Runs all processes, but completes no disk operations.
    pub(crate) fn settle_without_disk(&mut self) {
        while let Some(pid) = self.runnable().first().copied() {
            self.run(pid);
        }
    }

    /// Runs one process until it is at this place.
    pub(crate) fn step_until_at(&mut self, pid: Pid, at: Place) {
        for _ in 0..1000 {
            if self.place(pid) == Some(at) {
                return;
            }
            if self.runnable().contains(&pid) {
                self.run(pid);
            } else {
                assert!(
                    self.complete_one(),
                    "process {pid} is stuck at {:?}",
                    self.place(pid)
                );
            }
        }
        panic!("process {pid} never comes to {at}");
    }

    pub(crate) fn place(&self, pid: Pid) -> Option<Place> {
        let view = self.machine.view();
        view.processes().find(|p| p.pid == pid).map(|p| p.at)
    }

    /// The process of a role that was started last.
    pub(crate) fn newest(&self, role: Role) -> Pid {
        let view = self.machine.view();
        let pids = view.processes().filter(|p| p.role == role);
        pids.map(|p| p.pid).max().expect("there is such a process")
    }

    /// Opens a session, and completes its startup.
    pub(crate) fn session(&mut self) -> (ConnId, Pid) {
        let conn = self.connect(&[("user", "postgres"), ("database", "postgres")]);
        assert_eq!(
            self.answers.remove(&conn),
            Some(vec![String::from("ready")])
        );
        (conn, self.newest(Role::Backend))
    }

    /// Connects as a standby. The node sends all WAL from the first segment on to this connection.
    pub(crate) fn stream(&mut self) -> (ConnId, Pid) {
        let conn = self.connect(&[("user", "postgres"), ("replication", "true")]);
        let start = self.settings.geometry.segment_start(SegmentNo(1));
        self.ask(conn, &format!("START_REPLICATION {start} TIMELINE 1"));
        (conn, self.newest(Role::WalSender))
    }

    /// Reports this flush position, as a standby does.
    pub(crate) fn confirm(&mut self, conn: ConnId, flushed: Lsn) {
        let status = StandbyMessage::Status(StandbyStatus {
            write: flushed,
            flush: flushed,
            apply: flushed,
            client_time: TimestampTz(0),
            reply_requested: false,
        });
        self.input(Input::Net(conn, NetEvent::Data(status.to_frame())));
    }

    /// Connects with a startup packet.
    pub(crate) fn connect(&mut self, params: &[(&str, &str)]) -> ConnId {
        self.conns += 1;
        let conn = client(self.conns);
        self.input(Input::Net(conn, NetEvent::Accepted));
        let packet = StartupPacket::Startup(StartupMessage::new(params)).to_bytes();
        self.settle();
        self.input(Input::Net(conn, NetEvent::Data(packet)));
        self.settle();
        conn
    }

    /// Passes a statement to a session. Runs no process.
    pub(crate) fn say(&mut self, conn: ConnId, statement: &str) {
        let bytes = FrontendMessage::Query(String::from(statement)).to_bytes();
        self.input(Input::Net(conn, NetEvent::Data(bytes)));
    }

    /// Sends a statement and runs until it is answered.
    pub(crate) fn ask(&mut self, conn: ConnId, statement: &str) -> Vec<String> {
        self.say(conn, statement);
        self.settle();
        self.answers.remove(&conn).unwrap_or_default()
    }

    pub(crate) fn has_answer(&self, conn: ConnId, tag: &str) -> bool {
        self.answers
            .get(&conn)
            .is_some_and(|all| all.iter().any(|answer| answer == tag))
    }

    pub(crate) fn kill(&mut self, pid: Pid) {
        self.input(Input::Signal(pid, Signal::Kill));
    }

    /// Sends a signal to a process of this role.
    pub(crate) fn signal(&mut self, role: Role, signal: Signal) {
        let pid = self.newest(role);
        self.input(Input::Signal(pid, signal));
    }

    /// Loses power, and boots again with the data that has survived.
    pub(crate) fn lose_power(&mut self) {
        let page = self.settings.geometry.data_page;
        let Harness { disk, choices, .. } = &mut self.harness;
        disk.power_loss(page, choices);
        self.boot();
        self.until("the node runs again", |rig| {
            rig.state() == Some(PmState::Run)
        });
        self.settle();
    }

    /// Starts the server again on the disk as it is.
    pub(crate) fn boot(&mut self) {
        self.incarnation += 1;
        let node = Node::boot(self.settings.clone(), 1, self.incarnation, Planted::NONE);
        self.harness.replace(node, false);
        self.received.clear();
        self.answers.clear();
        self.shipped.clear();
    }
}
