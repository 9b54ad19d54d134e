//! The files of a new cluster. Mirrors the parts of BootStrapXLOG that matter for replication.

use crate::base::{Geometry, Lsn, PgVersion, SegmentNo, TimelineId, Xid};
use crate::call::FilePath;
use crate::wal::names::segment_name;
use crate::wal::{PageIdent, WalBuilder};
use crate::wire::control_file::ControlFile;
use crate::wire::record::{RecordBody, RmgrId};
use crate::wire::xlog_records::XlogRecord;
use alloc::format;
use alloc::vec::Vec;

/// One entry of the data directory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum InitialFile {
    /// A directory.
    Dir(FilePath),
    /// A file that consists of some bytes, followed by zeros up to its length.
    File {
        /// The path of the file.
        path: FilePath,
        /// The bytes at the start of the file.
        bytes: Vec<u8>,
        /// The length of the file.
        len: u64,
    },
}

/// The files of a newly initialized cluster that is cleanly shut down. A directory comes before its
/// files. A copy with an additional empty file [`STANDBY_SIGNAL`] is a standby.
#[must_use]
pub fn initdb(version: PgVersion, geometry: &Geometry, system_identifier: u64) -> Vec<InitialFile> {
    let first = SegmentNo(1);
    let checkpoint = geometry.segment_start(first) + 40;
    let control = ControlFile::fresh(version, geometry, system_identifier, checkpoint);
    let dir = |path: &str| InitialFile::Dir(FilePath::from(path));
    let file = |path: &str, bytes: Vec<u8>, len: u64| {
        let path = FilePath::from(path);
        InitialFile::File {
            path,
            len: len.max(bytes.len() as u64),
            bytes,
        }
    };
    let segment = segment_name(geometry, TimelineId(1), first);
    let wal = first_segment(version, geometry, &control, checkpoint);
    alloc::vec![
        dir("base"),
        dir("base/5"),
        dir("global"),
        dir("pg_replslot"),
        dir("pg_wal"),
        dir("pg_wal/archive_status"),
        dir("pg_xact"),
        file(
            "PG_VERSION",
            format!("{}\n", version.major()).into_bytes(),
            0
        ),
        file("global/pg_control", control.encode(version), 0),
        file(&format!("pg_wal/{segment}"), wal, geometry.segment.into()),
        file("pg_xact/0000", Vec::new(), geometry.data_page.into()),
    ]
}

/// A data directory that contains this file is a standby.
pub const STANDBY_SIGNAL: &str = "standby.signal";

fn first_segment(
    version: PgVersion,
    geometry: &Geometry,
    control: &ControlFile,
    checkpoint: Lsn,
) -> Vec<u8> {
    // initdb writes its first page without the flag XLP_BKP_REMOVABLE.
    let ident = PageIdent {
        version,
        tli: TimelineId(1),
        sysid: control.system_identifier,
        removable: false,
    };
    let record = XlogRecord::CheckpointShutdown(control.checkpoint_copy);
    let body = RecordBody::new(
        RmgrId::XLOG,
        record.info(),
        Xid::INVALID,
        record.encode(version),
    );
    let mut wal = WalBuilder::new(*geometry, ident, SegmentNo(1));
    let placed = wal.append(&body);
    assert_eq!(
        placed.start, checkpoint,
        "the first record follows the first page header"
    );
    wal.bytes().to_vec()
}
