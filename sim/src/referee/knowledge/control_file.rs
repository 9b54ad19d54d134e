//! Reads a node's control file and the checkpoint record to which that file points.

use super::{FIRST_TIMELINE, wal_files};
use crate::disk::Disk;
use walsim_core::base::{Geometry, Lsn, PgVersion};
use walsim_core::wal::position::record_end;
use walsim_core::wire::control_file::ControlFile;

/// The path of the control file.
pub(crate) const PATH: &str = "global/pg_control";
/// The length of the contents. PostgreSQL keeps them within one sector.
const LEN: u64 = 512;

/// The control file as a process would read it now.
pub(crate) fn cached(disk: &Disk, version: PgVersion) -> Option<ControlFile> {
    ControlFile::decode(version, &disk.read_cached(PATH, 0, LEN)?).ok()
}

/// The control file after a power loss that destroys all unsynced data.
pub(crate) fn on_platter(disk: &Disk, version: PgVersion) -> Option<ControlFile> {
    ControlFile::decode(version, &disk.read_platter(PATH, 0, LEN)?).ok()
}

/// The end of a checkpoint record.
pub(crate) fn checkpoint_end(disk: &Disk, geometry: &Geometry, at: Lsn) -> Lsn {
    let len = wal_files::read(disk, geometry, FIRST_TIMELINE, at..at + 4);
    let len = len.try_into().map_or(0, u32::from_le_bytes);
    record_end(geometry, at, len)
}
