//! Requests to the checkpointer and their outcome. Mirrors `CheckpointerShmemStruct` of
//! checkpointer.c and the pending operations of sync.c.

use crate::call::FilePath;
use alloc::collections::BTreeSet;

/// `CHECKPOINT_*` flags.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct CheckpointRequests {
    /// Anything at all was asked for.
    pub requested: bool,
    /// Not to be skipped on an idle server.
    pub force: bool,
    /// Recovery has ended.
    pub end_of_recovery: bool,
}

/// Counters by which a requester knows that a checkpoint that began after its request is done.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct CheckpointerCtl {
    /// What the next checkpoint is asked to be.
    pub requests: CheckpointRequests,
    /// Begun.
    pub started: u32,
    /// Ended, whatever the outcome.
    pub done: u32,
    /// Ended with an error.
    pub failed: u32,
    /// `CheckPointDistanceEstimate`: bytes of WAL between two checkpoints. The checkpointer's own
    /// in PostgreSQL; it lives as long as this.
    pub distance_estimate: u64,
}

/// Files that were written since the last checkpoint. Their pages are durable only once these are
/// fsynced.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct SyncRequests {
    /// Which, in order.
    pub files: BTreeSet<FilePath>,
}
