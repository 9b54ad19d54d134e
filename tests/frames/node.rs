//! A node on a simulated disk. The node begins in the state that the real server had when its
//! capture began.

use crate::capture::{Capture, SEGMENT};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use walsim::disk::{Content, Disk, DiskSpec};
use walsim_core::base::{ConnId, Geometry, PgVersion, Pid, Planted, Settings};
use walsim_core::call::{Effect, Input, Machine, NetEvent, NetOp, Signal};
use walsim_core::node::{
    InitialFile, Node, PgReceivewal, PgReceivewalOptions, PmState, STANDBY_SIGNAL, initdb,
};
use walsim_tests::Harness;
pub(crate) use walsim_tests::{Drive, client};

/// The versions for which there are captures.
pub(crate) const VERSIONS: [PgVersion; 5] = PgVersion::ALL;

pub(crate) fn version(major: u32) -> Option<PgVersion> {
    VERSIONS
        .into_iter()
        .find(|version| version.major() == major)
}

/// A machine, its disk, and what it has sent.
pub(crate) struct Rig<M = Node> {
    harness: Harness<M>,
    /// Bytes that were sent and not read yet.
    pub(crate) sent: BTreeMap<ConnId, Vec<u8>>,
    pub(crate) closed: BTreeSet<ConnId>,
    /// Connections that the node itself has opened, in order.
    pub(crate) opened: Vec<ConnId>,
    pub(crate) log: Vec<String>,
}

impl Rig {
    /// A server that was started with the files of the capture. With `upstream`, it is a standby of
    /// the captured server.
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
        // Of the files that initdb makes, only the directories and the commit status are needed.
        for file in initdb(version, &geometry, 0) {
            if !matches!(&file, InitialFile::File { path, .. } if path.parent() != "pg_xact") {
                disk.set_up(&file);
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
        self.machine.view().postmaster_state()
    }

    /// Requests a fast shutdown.
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

impl<M> Deref for Rig<M> {
    type Target = Harness<M>;

    fn deref(&self) -> &Self::Target {
        &self.harness
    }
}

impl<M> DerefMut for Rig<M> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.harness
    }
}

impl<M: Machine> Drive<M> for Rig<M> {
    fn effect(&mut self, _: Pid, effect: Effect) {
        match effect {
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
            Effect::Disk(..) | Effect::Exit(_) | Effect::Halt => {}
        }
    }
}

impl<M: Machine> Rig<M> {
    fn on(disk: Disk, machine: M) -> Self {
        let mut harness = Harness::new(machine, disk);
        harness.wall_offset_us = 800_000_000_000_000;
        Self {
            harness,
            sent: BTreeMap::new(),
            closed: BTreeSet::new(),
            opened: Vec::new(),
            log: Vec::new(),
        }
    }

    /// Passes a network event to the node.
    pub(crate) fn net(&mut self, conn: ConnId, event: NetEvent) {
        self.input(Input::Net(conn, event));
        self.settle();
    }

    /// Delivers bytes to the node.
    pub(crate) fn hears(&mut self, conn: ConnId, bytes: Bytes) {
        self.net(conn, NetEvent::Data(bytes));
    }
}
