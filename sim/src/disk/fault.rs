//! Faults of a disk. A fault affects the next operations, until it is used up or healed.

use super::{Disk, Ticket};
use walsim_core::base::Fd;
use walsim_core::call::FilePath;

/// The kind of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DiskFaultKind {
    /// An fsync fails, and the page cache keeps the data dirty.
    FsyncKeeps,
    /// An fsync fails, and the page cache drops the dirty data.
    FsyncDrops,
    /// A write fails with EIO and changes nothing.
    WriteFails,
    /// A read fails with EIO.
    ReadFails,
    /// A write that extends a file fails with ENOSPC, or writes only a part of the bytes.
    Full,
    /// Every operation takes longer by this factor.
    Slow(u32),
}

/// A fault, the files that it affects, and how many operations it affects.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DiskFault {
    /// The kind.
    pub kind: DiskFaultKind,
    /// The prefix of the affected paths: `pg_wal/`, `base/`, or empty for all files.
    pub prefix: String,
    /// How many operations the fault still affects. `u32::MAX` means all operations until the fault
    /// is healed.
    pub left: u32,
}

impl Disk {
    /// Adds a fault.
    pub fn inject(&mut self, fault: DiskFault) {
        self.faults.push(fault);
    }

    /// Runs a closure with all faults disabled.
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

    /// The active faults.
    #[must_use]
    pub fn faults(&self) -> &[DiskFault] {
        &self.faults
    }

    /// Whether a fault of this kind affects the operation. If so, the operation uses up a part of
    /// the fault.
    pub(super) fn hits_fault(&mut self, inode: u64, kind: DiskFaultKind) -> bool {
        self.meet(inode, |candidate| candidate == kind).is_some()
    }

    /// The fault that affects this fsync, if there is one. The fsync then uses up a part of the
    /// fault.
    pub(super) fn fsync_fault(&mut self, inode: u64) -> Option<DiskFaultKind> {
        self.meet(inode, |kind| {
            matches!(kind, DiskFaultKind::FsyncKeeps | DiskFaultKind::FsyncDrops)
        })
    }

    /// Whether the next fsync of this descriptor will fail.
    #[must_use]
    pub fn will_fail_fsync(&self, fd: Fd) -> bool {
        let descriptor = self
            .descriptors
            .get(&fd)
            .filter(|_| !self.faults.is_empty());
        descriptor.is_some_and(|it| {
            let fails =
                |kind| matches!(kind, DiskFaultKind::FsyncKeeps | DiskFaultKind::FsyncDrops);
            self.fault(it.inode, fails).is_some()
        })
    }

    /// The index of the first active fault of this kind that affects a file.
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
    /// Whether a fault makes this fsync fail.
    #[must_use]
    pub const fn is_failing_fsync(&self) -> bool {
        matches!(self.0, super::Act::Fsync { fault: Some(_), .. })
    }
}
