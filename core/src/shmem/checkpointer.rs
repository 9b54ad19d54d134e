//! Checkpoint requests and their outcome. Mirrors `CheckpointerShmemStruct` of checkpointer.c and
//! the pending operations of sync.c.

use super::touched::Check;
use crate::call::FilePath;
use alloc::collections::BTreeSet;

/// `CHECKPOINT_*` flags.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct CheckpointRequests {
    /// Whether a checkpoint was requested.
    pub requested: bool,
    /// Whether the checkpoint is performed even if the server is idle.
    pub force: bool,
    /// Whether the requested checkpoint is the end-of-recovery checkpoint.
    pub end_of_recovery: bool,
}

/// Checkpoint requests, and counters. With the counters a requester detects the end of a checkpoint
/// that began after the request.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct CheckpointerCtl {
    /// The flags of the next checkpoint.
    pub requests: CheckpointRequests,
    /// Checkpoints started.
    pub started: u32,
    /// The number of the last checkpoint that has ended, successfully or not.
    pub done: u32,
    /// The number of checkpoints that have failed.
    pub failed: u32,
    /// `CheckPointDistanceEstimate`: the bytes of WAL between two checkpoints. PostgreSQL has this
    /// variable in the checkpointer's own memory.
    pub distance_estimate: u64,
}

impl Check for CheckpointerCtl {
    fn check(&self) {
        let CheckpointRequests {
            requested,
            force,
            end_of_recovery,
        } = self.requests;
        assert!(requested || !force && !end_of_recovery, "{self:?}");
        // More than one checkpoint may be unfinished: if the postmaster passes over the crash of a
        // checkpointer, the next checkpointer begins another checkpoint.
        assert!(self.done <= self.started, "{self:?}");
        assert!(self.failed <= self.done, "{self:?}");
    }
}

/// The files that were written since the last checkpoint. They are durable only after an fsync.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct SyncRequests {
    /// The files, in order.
    pub files: BTreeSet<FilePath>,
}

impl Check for SyncRequests {
    fn check(&self) {
        // WAL, slots and the control file are fsynced by the process that writes them.
        for file in &self.files {
            let parent = file.parent();
            assert!(matches!(parent, "base/5" | "pg_xact"), "{file:?}");
        }
    }
}
