//! F2: pure WAL algorithms.

/// Why the WAL could not be read further.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[error("invalid record length")]
pub struct WalError;
