//! Records when disk operations are issued and when they complete.

use super::event::{Act, DiskAct};
use super::recorder::{Operation, Recorder, Spot};
use crate::disk::FileLoss;
use std::ops::Range;
use walsim_core::base::{Fd, Geometry, Lsn, OpId};
use walsim_core::call::{DiskDone, DiskError, DiskOp, FilePath};
use walsim_core::wal::names::parse_segment_name;

impl Recorder {
    /// Called after a power loss, with what each file lost.
    pub(crate) fn loses(&mut self, spot: Spot, geometry: &Geometry, losses: Vec<FileLoss>) {
        for loss in losses {
            let whole = loss.lost.first().zip(loss.lost.last());
            let whole = whole.map(|(first, last)| (first.start, last.end - first.start));
            let lsn = whole.and_then(|bytes| wal_of(geometry, &loss.file, Some(bytes)));
            self.add(spot, || Act::Loss {
                file: loss.file,
                unsynced: loss.unsynced,
                lost: loss.lost,
                name: loss.renamed,
                lsn,
            });
        }
    }

    /// Called before a disk operation is issued.
    pub(crate) fn issues(
        &mut self,
        host: usize,
        op: OpId,
        call: &DiskOp,
        geometry: &Geometry,
        path_of: impl Fn(Fd) -> Option<FilePath>,
    ) {
        if let Some(recording) = &mut self.0 {
            let act = disk_act(call, geometry, path_of);
            let process = None;
            recording
                .operations
                .insert((host, op), Operation { act, process });
        }
    }

    /// Called after the operation was issued. `takes_us` is `None` if the operation never
    /// completes. `answer` is the result if it is already known.
    pub(crate) fn issued(
        &mut self,
        host: usize,
        spot: Spot,
        op: OpId,
        takes_us: Option<u64>,
        answer: Option<&Result<DiskDone, DiskError>>,
    ) {
        let Some(recording) = &mut self.0 else { return };
        let key = (host, op);
        if let Some(operation) = recording.operations.get_mut(&key) {
            operation.process = spot.process;
        }
        let operation = match takes_us {
            Some(_) => recording.operations.get(&key).cloned(),
            None => recording.operations.remove(&key),
        };
        let Some(Operation { mut act, .. }) = operation else {
            return;
        };
        let fails = match answer {
            Some(Ok(DiskDone::Written(written))) if act.len != Some(u64::from(*written)) => {
                let asked = act.len.replace(u64::from(*written)).unwrap_or_default();
                Some(format!("{written} of {asked} bytes written"))
            }
            Some(Err(error)) => {
                act.len = act.len.map(|_| 0);
                Some(error.to_string())
            }
            Some(Ok(_)) | None => None,
        };
        let act = Act::Disk {
            act,
            takes_us,
            fails,
        };
        recording.add(spot, act);
    }

    /// Called when the operation has completed.
    pub(crate) fn completed(
        &mut self,
        host: usize,
        spot: Spot,
        op: OpId,
        outcome: &Result<DiskDone, DiskError>,
    ) {
        let Some(recording) = &mut self.0 else { return };
        let Some(Operation { mut act, process }) = recording.operations.remove(&(host, op)) else {
            return;
        };
        if let Ok(DiskDone::Data(bytes)) = outcome {
            act.len = Some(bytes.len() as u64);
        }
        let result = match outcome {
            Ok(_) => String::from("ok"),
            Err(error) => error.to_string(),
        };
        let spot = Spot { process, ..spot };
        recording.add(spot, Act::DiskDone { act, result });
    }
}

fn disk_act(
    call: &DiskOp,
    geometry: &Geometry,
    path_of: impl Fn(Fd) -> Option<FilePath>,
) -> DiskAct {
    let file = |fd: &Fd| path_of(*fd).map_or_else(String::new, |path| path.to_string());
    let named = |op, path: &FilePath| (op, path.to_string(), None, None, None);
    let (op, file, to, offset, len) = match call {
        DiskOp::Open { path, .. } => named("open", path),
        DiskOp::Close(fd) => ("close", file(fd), None, None, None),
        DiskOp::Read { fd, offset, len } => {
            ("read", file(fd), None, Some(*offset), Some(u64::from(*len)))
        }
        DiskOp::Write { fd, offset, data } => {
            let len = data.len() as u64;
            ("write", file(fd), None, Some(*offset), Some(len))
        }
        DiskOp::WriteZeros { fd, offset, len } => {
            let len = u64::from(*len);
            ("write-zeros", file(fd), None, Some(*offset), Some(len))
        }
        DiskOp::Fsync(fd) => ("fsync", file(fd), None, None, None),
        DiskOp::Truncate { fd, len } => ("truncate", file(fd), None, None, Some(*len)),
        DiskOp::Stat(path) => named("stat", path),
        DiskOp::Rename { from, to } => {
            let (from, to) = (from.to_string(), to.to_string());
            ("rename", from, Some(to), None, None)
        }
        DiskOp::Unlink(path) => named("unlink", path),
        DiskOp::Mkdir(path) => named("mkdir", path),
        DiskOp::Rmdir(path) => named("rmdir", path),
        DiskOp::List(path) => named("list", path),
        DiskOp::SyncDir(path) => named("fsync-directory", path),
    };
    let lsn = wal_of(geometry, &file, offset.zip(len));
    DiskAct {
        op,
        file,
        to,
        offset,
        len,
        lsn,
    }
}

/// The range of WAL in a segment's file, or in a range of its bytes.
fn wal_of(geometry: &Geometry, file: &str, bytes: Option<(u64, u64)>) -> Option<Range<Lsn>> {
    let name = file.strip_prefix("pg_wal/")?;
    let (_, segment) = parse_segment_name(geometry, name)?;
    let start = geometry.segment_start(segment).0;
    let (offset, len) = bytes.unwrap_or((0, geometry.segment.into()));
    let first = start.saturating_add(offset);
    Some(Lsn(first)..Lsn(first.saturating_add(len)))
}
