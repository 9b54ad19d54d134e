//! Fixtures for the tests of the checks.

use super::knowledge::{NodeWal, Wal};
use super::{FIRST_TIMELINE, Ledger, Site};
use crate::choice::Choices;
use crate::disk::{Content, Disk, DiskSpec};
use bytes::Bytes;
use walsim_core::base::{
    Geometry, Lsn, Mono, PgVersion, Pid, SegmentNo, Settings, TimelineId, Xid,
};
use walsim_core::call::{DiskDone, DiskOp, FilePath, OpenFlags};
use walsim_core::shmem::Shmem;
use walsim_core::wal::names::segment_name;
use walsim_core::wal::{PageIdent, WalBuilder};
use walsim_core::wire::control_file::ControlFile;
use walsim_core::wire::record::{RecordBody, RmgrId};

/// The sizes of pages and segments in all fixtures. A segment has four pages.
pub(crate) const GEOMETRY: Geometry = Geometry::SMALLEST;

/// The place and time of all events in the tests.
pub(crate) const SITE: Site<'static> = Site {
    now: Mono(7),
    host: 0,
    name: "n1",
    boot: 1,
};

/// A builder for WAL that starts in segment 1.
pub(crate) fn builder() -> WalBuilder {
    let (version, tli) = (PgVersion::V15, TimelineId(1));
    WalBuilder::new(
        GEOMETRY,
        PageIdent {
            version,
            tli,
            sysid: 1,
            removable: true,
        },
        SegmentNo(1),
    )
}

/// The body of a record that has this transaction id.
pub(crate) fn message(xid: u32, len: usize) -> RecordBody {
    RecordBody::new(RmgrId::LOGICAL_MESSAGE, 0, Xid(xid), vec![7; len])
}

/// An empty disk.
pub(crate) fn disk() -> Disk {
    Disk::new(0, DiskSpec::default(), GEOMETRY.sector, 1 << 30)
}

/// Shared memory after a start.
pub(crate) fn shmem() -> Shmem {
    let control = ControlFile::fresh(PgVersion::V15, &GEOMETRY, 1, Lsn(1064));
    Shmem::new(Settings::new(PgVersion::V15, GEOMETRY), control)
}

/// A node that has WAL on its disk.
pub(crate) struct NodeFixture {
    pub(crate) disk: Disk,
    pub(crate) ledger: Ledger,
    pub(crate) node: NodeWal,
    pub(crate) wal_bytes: Vec<u8>,
    choices: Choices,
}

impl NodeFixture {
    /// A node whose WAL is durable. The referee has seen no event of this node.
    pub(crate) fn new(wal: &[u8]) -> Self {
        let mut disk = disk();
        for (number, segment) in (1..).zip(wal.chunks(GEOMETRY.segment as usize)) {
            let mut bytes = segment.to_vec();
            bytes.resize(GEOMETRY.segment as usize, 0);
            disk.set_up_file(&path(number), Content::new(&bytes));
        }
        let (start, wal_bytes) = (Lsn(1024), wal.to_vec());
        let (ledger, node) = (Ledger::new(GEOMETRY, start), NodeWal::new(start));
        Self {
            disk,
            ledger,
            node,
            wal_bytes,
            choices: Choices::new(0),
        }
    }

    /// Forgets what the referee knows about the node. The disk stays.
    pub(crate) fn forget_node(&mut self) {
        self.node = NodeWal::new(Lsn(1024));
    }

    /// Rewrites segment 1 without an fsync.
    pub(crate) fn write_wal(&mut self, wal: &[u8]) {
        let data = Bytes::copy_from_slice(&wal[..wal.len().min(GEOMETRY.segment as usize)]);
        self.write(0, data);
    }

    /// Changes one byte of segment 1.
    pub(crate) fn corrupt(&mut self, offset: usize) {
        let data = Bytes::from(vec![self.wal_bytes[offset] ^ 0x55]);
        self.write(offset as u64, data);
    }

    /// Runs a check of the node's WAL.
    pub(crate) fn wal<T>(&mut self, extends: bool, check: impl FnOnce(&mut Wal<'_>) -> T) -> T {
        check(&mut Wal {
            disk: &self.disk,
            ledger: &mut self.ledger,
            node: &mut self.node,
            extends,
        })
    }

    fn write(&mut self, offset: u64, data: Bytes) {
        let path = FilePath::from(path(1));
        let opened = self.call(&DiskOp::Open {
            path,
            flags: OpenFlags::Existing,
        });
        let DiskDone::Opened(fd) = opened else {
            panic!("{opened:?}")
        };
        self.call(&DiskOp::Write { fd, offset, data });
        self.call(&DiskOp::Close(fd));
    }

    pub(crate) fn call(&mut self, op: &DiskOp) -> DiskDone {
        self.disk
            .call(Pid::postmaster(1), op, &self.choices)
            .expect("nothing is wrong")
    }
}

fn path(number: u64) -> String {
    format!(
        "pg_wal/{}",
        segment_name(&GEOMETRY, FIRST_TIMELINE, SegmentNo(number))
    )
}
