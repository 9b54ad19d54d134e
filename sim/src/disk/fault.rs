//! Faults of a disk: errors that its next operations meet, until their number is used up or they
//! are healed.

use super::{Disk, Ticket};
use walsim_core::base::Fd;
use walsim_core::call::FilePath;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DiskFaultKind {
    /// An fsync fails and the data stay dirty in the page cache.
    FsyncKeeps,
    /// An fsync fails and the data are dropped: the cache is what reached the platter.
    FsyncDrops,
    /// A write fails with EIO and changes nothing.
    WriteFails,
    /// A read fails with EIO.
    ReadFails,
    /// A write that extends a file finds no space, or not enough.
    Full,
    /// Everything takes so many times as long.
    Slow(u32),
}

/// A fault, and for which files and how often.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DiskFault {
    /// What goes wrong.
    pub kind: DiskFaultKind,
    /// How the paths of the files begin: `pg_wal/`, `base/`, or nothing for all.
    pub prefix: String,
    /// How many operations meet it; `u32::MAX` means all until it is healed.
    pub left: u32,
}

impl Disk {
    /// Adds a fault.
    pub fn inject(&mut self, fault: DiskFault) {
        self.faults.push(fault);
    }

    /// Does something that meets no fault.
    pub fn without_faults<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        let faults = std::mem::take(&mut self.faults);
        let outcome = act(self);
        self.faults = faults;
        outcome
    }

    /// Ends all faults.
    pub fn heal(&mut self) {
        self.faults.clear();
    }

    /// The faults that are not used up.
    #[must_use]
    pub fn faults(&self) -> &[DiskFault] {
        &self.faults
    }

    /// Does the operation meet such a fault? It is counted.
    pub(super) fn hits_fault(&mut self, inode: u64, kind: DiskFaultKind) -> bool {
        self.meet(inode, |candidate| candidate == kind).is_some()
    }

    /// The fault that an fsync meets. It is counted. A renamed file that waits for its directory is
    /// spared: PostgreSQL goes on as if that fsync had succeeded (InstallXLogFileSegment), and its
    /// WAL may then vanish with the name.
    pub(super) fn fsync_fault(&mut self, inode: u64) -> Option<DiskFaultKind> {
        if self.tree.awaits_directory(inode) {
            return None;
        }
        self.meet(inode, |kind| {
            matches!(kind, DiskFaultKind::FsyncKeeps | DiskFaultKind::FsyncDrops)
        })
    }

    /// Will the next fsync of a descriptor meet a fault?
    #[must_use]
    pub fn will_fail_fsync(&self, fd: Fd) -> bool {
        let descriptor = self
            .descriptors
            .get(&fd)
            .filter(|_| !self.faults.is_empty());
        descriptor.is_some_and(|it| {
            let fails =
                |kind| matches!(kind, DiskFaultKind::FsyncKeeps | DiskFaultKind::FsyncDrops);
            !self.tree.awaits_directory(it.inode) && self.fault(it.inode, fails).is_some()
        })
    }

    /// The first fault of such a kind that lies in wait for a file.
    fn fault(&self, inode: u64, which: impl Fn(DiskFaultKind) -> bool) -> Option<usize> {
        if self.faults.is_empty() {
            return None;
        }
        let path: &FilePath = &self.inodes[&inode].path;
        let meets = |fault: &DiskFault| {
            which(fault.kind) && path.as_str().starts_with(fault.prefix.as_str())
        };
        self.faults.iter().position(meets)
    }

    fn meet(&mut self, inode: u64, which: impl Fn(DiskFaultKind) -> bool) -> Option<DiskFaultKind> {
        let index = self.fault(inode, which)?;
        let fault = &mut self.faults[index];
        let kind = fault.kind;
        if fault.left != u32::MAX {
            fault.left -= 1;
            if fault.left == 0 {
                self.faults.remove(index);
            }
        }
        Some(kind)
    }

    pub(super) fn slow_factor(&self) -> u64 {
        let factors = self.faults.iter().map(|fault| match fault.kind {
            DiskFaultKind::Slow(factor) => u64::from(factor),
            DiskFaultKind::FsyncKeeps
            | DiskFaultKind::FsyncDrops
            | DiskFaultKind::WriteFails
            | DiskFaultKind::ReadFails
            | DiskFaultKind::Full => 1,
        });
        factors.max().unwrap_or(1).max(1)
    }
}

impl Ticket {
    /// Is it an fsync that will fail?
    #[must_use]
    pub const fn is_failing_fsync(&self) -> bool {
        matches!(self.0, super::Act::Fsync { fault: Some(_), .. })
    }
}
