//! Checkpoint requests and their outcome. Mirrors `CheckpointerShmemStruct` of checkpointer.c and
//! the pending operations of sync.c.

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

/// The files that were written since the last checkpoint. They are durable only after an fsync.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct SyncRequests {
    /// The files, in order.
    pub files: BTreeSet<FilePath>,
}
