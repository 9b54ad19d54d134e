//! A node on a fake disk, in the state in which a real server stood when its capture began.

use crate::capture::{Capture, SEGMENT};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use walsim::choice::Choices;
use walsim::disk::{Content, Disk, DiskSpec, Ticket};
use walsim_core::base::{
    ConnId, Geometry, Mono, Now, OpId, PgVersion, Pid, Planted, Settings, TimestampTz,
};
use walsim_core::call::{DiskOp, Effect, Effects, Input, Machine, NetEvent, NetOp, RunSet, Signal};
use walsim_core::node::{
    InitialFile, Node, PgReceivewal, PgReceivewalOptions, PmState, STANDBY_SIGNAL, initdb,
};

/// The versions that nodes have.
pub(crate) const VERSIONS: [PgVersion; 4] = PgVersion::ALL;

pub(crate) fn version(major: u32) -> Option<PgVersion> {
    VERSIONS
        .into_iter()
        .find(|version| version.major() == major)
}

/// A machine, its disk, and what it has sent.
pub(crate) struct Rig<M = Node> {
    pub(crate) node: M,
    pub(crate) disk: Disk,
    choices: Choices,
    now: Mono,
    tickets: BTreeMap<OpId, Ticket>,
    inputs: VecDeque<Input>,
    /// What was sent and no one has taken yet.
    pub(crate) sent: BTreeMap<ConnId, Vec<u8>>,
    pub(crate) closed: BTreeSet<ConnId>,
    /// Connections that the node itself has opened, the last one last.
    pub(crate) opened: Vec<ConnId>,
    pub(crate) log: Vec<String>,
}

impl Rig {
    /// A server that was started over the files of the capture; with `upstream` a standby of it.
    pub(crate) fn new(
        capture: &Capture,
        upstream: Option<&str>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let version = version(capture.major).expect("a version that we have");
        let geometry = Geometry::new(8192, SEGMENT, 8192, 512).expect("stock sizes");
        let mut settings = Settings::new(version, geometry);
        settings.wal_keep_size = 16 << 20;
        settings.primary_conninfo = upstream.map(|host| (String::from(host), 5432));
        change(&mut settings);
        let mut disk = Disk::new(0, DiskSpec::default(), geometry.sector, 1 << 30);
        // Of what initdb makes only the directories and the commit status are wanted.
        for file in initdb(version, &geometry, 0) {
            match file {
                InitialFile::Dir(path) => disk.set_up_dir(path.as_str()),
                InitialFile::File { path, bytes, len } if path.parent() == "pg_xact" => {
                    let mut content = Content::new(&bytes);
                    content.zero(bytes.len() as u64, len - bytes.len() as u64);
                    disk.set_up_file(path.as_str(), content);
                }
                InitialFile::File { .. } => {}
            }
        }
        let state = &capture.state;
        disk.set_up_file("global/pg_control", Content::new(&state.control));
        let segment = format!("pg_wal/{}", state.segment_name);
        disk.set_up_file(&segment, Content::new(&state.segment));
        if upstream.is_some() {
            disk.set_up_file(STANDBY_SIGNAL, Content::new(&[]));
        }
        let mut rig = Self::on(disk, Node::boot(settings, 1, 1, Planted::NONE));
        rig.settle();
        if upstream.is_none() {
            assert_eq!(rig.state(), Some(PmState::Run), "{:#?}", rig.log);
        }
        rig
    }

    pub(crate) fn state(&self) -> Option<PmState> {
        self.node.view().postmaster_state()
    }

    /// A fast shutdown is asked for.
    pub(crate) fn stop(&mut self) {
        self.input(Input::Signal(Pid::postmaster(1), Signal::Int));
        self.settle();
    }
}

impl Rig<PgReceivewal> {
    /// A receiver in an empty directory.
    pub(crate) fn receiver(options: PgReceivewalOptions) -> Self {
        let geometry = Geometry::STOCK;
        let disk = Disk::new(0, DiskSpec::default(), geometry.sector, 1 << 30);
        let settings = Settings::new(PgVersion::V15, geometry);
        let mut rig = Self::on(disk, PgReceivewal::start(settings, options, 1));
        rig.settle();
        rig
    }
}

impl<M: Machine> Rig<M> {
    fn on(disk: Disk, node: M) -> Self {
        Self {
            node,
            disk,
            choices: Choices::new(1),
            now: Mono(0),
            tickets: BTreeMap::new(),
            inputs: VecDeque::new(),
            sent: BTreeMap::new(),
            closed: BTreeSet::new(),
            opened: Vec::new(),
            log: Vec::new(),
        }
    }

    fn clock(&self) -> Now {
        let wall = i64::try_from(self.now.0).expect("short runs") + 800_000_000_000_000;
        Now {
            mono: self.now,
            wall: TimestampTz(wall),
        }
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.inputs.push_back(input);
        while let Some(input) = self.inputs.pop_front() {
            let mut fx = Effects::default();
            self.node.step(self.clock(), input, &mut fx);
            for (pid, effect) in fx.0 {
                self.effect(pid, effect);
            }
        }
    }

    fn effect(&mut self, pid: Pid, effect: Effect) {
        match effect {
            Effect::Disk(op, call) => {
                let (ticket, _) = self.disk.issue(pid, &call, &self.choices);
                if matches!(call, DiskOp::Close(_)) {
                    let _ = self.disk.complete(ticket, &self.choices);
                } else {
                    self.tickets.insert(op, ticket);
                }
            }
            Effect::Net(conn, NetOp::Send(pieces)) => {
                let bytes = pieces.concat();
                let sent = NetEvent::Sent(u32::try_from(bytes.len()).expect("a message"));
                self.inputs.push_back(Input::Net(conn, sent));
                self.sent.entry(conn).or_default().extend(bytes);
            }
            Effect::Net(conn, NetOp::Connect { .. }) => {
                self.opened.push(conn);
                self.inputs.push_back(Input::Net(conn, NetEvent::Connected));
            }
            Effect::Net(conn, NetOp::Close) => {
                self.closed.insert(conn);
            }
            Effect::Net(_, NetOp::Read { .. } | NetOp::HandOver(_)) => {}
            Effect::Log(event) => self.log.push(event.to_string()),
            Effect::Exit(_) => self.disk.close_all(pid),
            Effect::Halt => {}
        }
    }

    /// Runs everyone, and completes operations, until no one can go on at this time.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1_000_000 {
            let mut set = RunSet::default();
            self.node.runnable(self.clock(), &mut set);
            if let Some(pid) = set.0.first() {
                self.input(Input::Run(*pid));
            } else if let Some((op, ticket)) = self.tickets.pop_first() {
                let outcome = self.disk.complete(ticket, &self.choices);
                self.input(Input::Disk(op, outcome));
            } else {
                return;
            }
        }
        panic!("the node does not come to rest: {:#?}", self.log);
    }

    /// Lets time pass until someone wakes; false if no one would.
    pub(crate) fn pass(&mut self) -> bool {
        let Some(wake) = self.node.next_wakeup() else {
            return false;
        };
        self.now = self.now.max(wake);
        self.settle();
        true
    }

    /// Something happens to a connection.
    pub(crate) fn net(&mut self, conn: ConnId, event: NetEvent) {
        self.input(Input::Net(conn, event));
        self.settle();
    }

    /// The other side says something.
    pub(crate) fn hears(&mut self, conn: ConnId, bytes: Bytes) {
        self.net(conn, NetEvent::Data(bytes));
    }
}

/// The id that the world gives to the n-th client.
pub(crate) const fn client(n: u32) -> ConnId {
    ConnId { incarnation: 0, n }
}
