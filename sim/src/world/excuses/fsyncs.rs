//! Exceptions for single fsyncs after which a real server could lose commits. Some of these fsyncs
//! do not get an injected error. Others also make the file's name durable. The C function and the
//! file of an fsync decide whether it is an exception.

use super::{Excuse, Part};
use crate::world::World;
use crate::world::effects::is_segment;
use walsim_core::base::{Fd, Pid};
use walsim_core::call::{DiskOp, FilePath, Place};
use walsim_core::node::Node;

impl World {
    /// Called when a process issues an operation. Remembers the segment that the process is
    /// installing. An installation begins with the rename in durable_rename, and ends when the
    /// process issues an operation outside this function.
    pub(in crate::world) fn note_install(&mut self, host: usize, pid: Pid, call: &DiskOp) {
        let to = if let DiskOp::Rename { to, .. } = call {
            Some(to).filter(|to| is_segment(to))
        } else {
            None
        };
        if to.is_none() && !self.causes.installs(host, pid) {
            return;
        }
        let in_rename = self.place(host, pid) == Some(Place::DurableRename);
        match to {
            Some(to) if in_rename => self.causes.begins_install(host, pid, to),
            None if in_rename => {}
            Some(_) | None => self.causes.ends_install(host, pid),
        }
    }

    /// The hazard because of which this fsync does not get the injected error. Returns `None` if
    /// the operation would get no error, or may get it.
    pub(in crate::world) fn skips_error(
        &self,
        host: usize,
        pid: Pid,
        call: &DiskOp,
    ) -> Option<Excuse> {
        let DiskOp::Fsync(fd) = call else {
            return None;
        };
        let disk = &self.hosts[host].disk;
        if !disk.will_fail_fsync(*fd) {
            return None;
        }
        let holds = |excuse, cause: bool| self.part(excuse, Part::Cause, || cause);
        // docs/hazards/fsync-failure-in-crash-recovery.md
        let recovers = self.place(host, pid) == Some(Place::SyncDataDirectory);
        // docs/hazards/segment-renamed-but-not-synced.md: durable_rename fsyncs the new name after
        // the rename. If this fsync fails, InstallXLogFileSegment reports that no segment was
        // installed.
        let installs = self.causes.is_installing(host, pid, disk.path_of(*fd));
        [
            (Excuse::FsyncInCrashRecovery, recovers),
            (Excuse::SegmentRenamedNotSynced, installs),
        ]
        .into_iter()
        .find_map(|(excuse, cause)| holds(excuse, cause).then_some(excuse))
    }

    /// Whether this fsync also makes the name of a segment durable. This is so if another process
    /// is still installing the segment, or died while installing it:
    /// docs/hazards/segment-used-before-its-name-is-durable.md.
    pub(in crate::world) fn covers_name(&self, host: usize, pid: Pid, fd: Fd) -> bool {
        let disk = &self.hosts[host].disk;
        let Some(renamer) = disk.renamer(fd).filter(|renamer| *renamer != pid) else {
            return false;
        };
        self.part(Excuse::SegmentNameNotDurable, Part::Cause, || {
            // These C functions fsync WAL on a primary and on a standby.
            let writes_wal = matches!(
                self.place(host, pid),
                Some(Place::IssueXLogFsync | Place::XLogWalRcvFlush)
            );
            writes_wal && self.causes.is_installing(host, renamer, disk.path_of(fd))
        })
    }

    /// The C function in which the last step of a process ended.
    fn place(&self, host: usize, pid: Pid) -> Option<Place> {
        let node = self.hosts[host].node.as_ref().map(Node::view)?;
        Some(node.process(pid)?.at)
    }
}

impl super::Causes {
    fn begins_install(&mut self, host: usize, pid: Pid, path: &FilePath) {
        self.installs.insert((host, pid), path.clone());
    }

    fn ends_install(&mut self, host: usize, pid: Pid) {
        self.installs.remove(&(host, pid));
    }

    fn installs(&self, host: usize, pid: Pid) -> bool {
        self.installs.contains_key(&(host, pid))
    }

    fn is_installing(&self, host: usize, pid: Pid, path: Option<&FilePath>) -> bool {
        path.is_some() && self.installs.get(&(host, pid)) == path
    }
}
