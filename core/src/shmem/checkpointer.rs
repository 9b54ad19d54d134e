//! Checkpoint requests and their outcome. Mirrors `CheckpointerShmemStruct` of checkpointer.c and
//! the pending operations of sync.c.

use crate::call::FilePath;
use alloc::collections::BTreeSet;

/// `CHECKPOINT_*` flags.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct CheckpointRequests {
    /// A checkpoint was requested.
    pub requested: bool,
    /// Do not skip it on an idle server.
    pub force: bool,
    /// Requested at the end of recovery.
    pub end_of_recovery: bool,
}

/// Counters that tell a requester when a checkpoint that began after its request has ended.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct CheckpointerCtl {
    /// The flags of the next checkpoint.
    pub requests: CheckpointRequests,
    /// Checkpoints started.
    pub started: u32,
    /// Checkpoints ended, successfully or not.
    pub done: u32,
    /// Checkpoints that failed.
    pub failed: u32,
    /// `CheckPointDistanceEstimate`: bytes of WAL between two checkpoints. In PostgreSQL the
    /// checkpointer has it in its own memory.
    pub distance_estimate: u64,
}

/// Files written since the last checkpoint. Their pages are durable only after an fsync.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct SyncRequests {
    /// The files, in order.
    pub files: BTreeSet<FilePath>,
}
