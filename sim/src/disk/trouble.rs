//! Faults of a disk: errors that its next operations meet, until their number is used up or they are healed.

use super::{Disk, Ticket};
use walsim_core::call::FilePath;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TroubleKind {
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
pub struct Trouble {
    /// What goes wrong.
    pub kind: TroubleKind,
    /// How the paths of the files begin: `pg_wal/`, `base/`, or nothing for all.
    pub prefix: String,
    /// How many operations meet it; `u32::MAX` means all until it is healed.
    pub left: u32,
}

impl Disk {
    /// Adds a fault.
    pub fn inject(&mut self, trouble: Trouble) {
        self.troubles.push(trouble);
    }

    /// Does something that meets no fault.
    pub fn without_troubles<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        let troubles = std::mem::take(&mut self.troubles);
        let outcome = act(self);
        self.troubles = troubles;
        outcome
    }

    /// Ends all faults.
    pub fn heal(&mut self) {
        self.troubles.clear();
    }

    /// The faults that are not used up.
    #[must_use]
    pub fn troubles(&self) -> &[Trouble] {
        &self.troubles
    }

    /// Does the operation meet such a fault? It is counted.
    pub(super) fn troubled(&mut self, inode: u64, kind: TroubleKind) -> bool {
        self.meet(inode, |candidate| candidate == kind).is_some()
    }

    /// The fault that an fsync meets. It is counted. A renamed file that waits for its directory is spared: PostgreSQL
    /// goes on as if that fsync had succeeded (InstallXLogFileSegment), and its WAL may then vanish with the name.
    pub(super) fn fsync_trouble(&mut self, inode: u64) -> Option<TroubleKind> {
        if self.tree.awaits_directory(inode) {
            return None;
        }
        self.meet(inode, |kind| {
            matches!(kind, TroubleKind::FsyncKeeps | TroubleKind::FsyncDrops)
        })
    }

    fn meet(&mut self, inode: u64, which: impl Fn(TroubleKind) -> bool) -> Option<TroubleKind> {
        if self.troubles.is_empty() {
            return None;
        }
        let path: &FilePath = &self.inodes[&inode].path;
        let meets = |trouble: &Trouble| {
            which(trouble.kind) && path.as_str().starts_with(trouble.prefix.as_str())
        };
        let index = self.troubles.iter().position(meets)?;
        let trouble = &mut self.troubles[index];
        let kind = trouble.kind;
        if trouble.left != u32::MAX {
            trouble.left -= 1;
            if trouble.left == 0 {
                self.troubles.remove(index);
            }
        }
        Some(kind)
    }

    pub(super) fn slow_factor(&self) -> u64 {
        let factors = self.troubles.iter().map(|trouble| match trouble.kind {
            TroubleKind::Slow(factor) => u64::from(factor),
            TroubleKind::FsyncKeeps
            | TroubleKind::FsyncDrops
            | TroubleKind::WriteFails
            | TroubleKind::ReadFails
            | TroubleKind::Full => 1,
        });
        factors.max().unwrap_or(1).max(1)
    }
}

impl Ticket {
    /// Is it an fsync that will fail?
    #[must_use]
    pub const fn is_failing_fsync(&self) -> bool {
        matches!(
            self.0,
            super::Act::Fsync {
                trouble: Some(_),
                ..
            }
        )
    }
}
