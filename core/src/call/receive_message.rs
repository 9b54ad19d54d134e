//! What a receiver without a server says. Mirrors the messages of pg_receivewal.c, receivelog.c and streamutil.c.

use super::{DiskError, FilePath};
use crate::base::{Lsn, TimelineId};
use alloc::string::String;

/// Everything that a receiver says, beside what it shares with servers.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "the text of each variant is its documentation, its fields are what the text names"
)]
pub enum ReceiveMessage {
    #[error("{place} failed: {why}")]
    Connection { place: String, why: String },
    #[error(
        "incompatible server version {0}; client does not support streaming from server versions older than 15"
    )]
    TooOld(String),
    #[error(
        "incompatible server version {0}; client does not support streaming from server versions newer than 18"
    )]
    TooNew(String),
    #[error("could not send replication command \"{command}\": {why}")]
    Command { command: String, why: String },
    #[error("could not identify system: got an unexpected result")]
    Identify,
    #[error("replication connection is unexpectedly database specific")]
    DatabaseSpecific,
    #[error("WAL segment size could not be parsed")]
    SegmentSizeUnparsed,
    #[error(
        "WAL segment size must be a power of two between 1 MB and 1 GB, but the remote server reported a value of {0} bytes"
    )]
    SegmentSize(u64),
    #[error("creating replication slot \"{0}\"")]
    CreatingSlot(String),
    #[error("replication slot \"{0}\" does not exist")]
    NoSlot(String),
    #[error("could not read replication slot \"{0}\": got an unexpected result")]
    ReadSlot(String),
    #[error("segment file \"{name}\" has incorrect size {size}, skipping")]
    WrongSize { name: String, size: u64 },
    #[error("compressed segment file \"{name}\" has incorrect uncompressed size {size}, skipping")]
    WrongUncompressedSize { name: String, size: u32 },
    #[error("cannot check file \"{0}\": compression with LZ4 not supported by this build")]
    Lz4(String),
    #[error("could not read compressed file \"{path}\": read {got} of 4")]
    ShortCompressed { path: FilePath, got: u64 },
    #[error(
        "system identifier of segment file \"{name}\" is {found}, but that of the server is {server}"
    )]
    OtherSystem {
        name: String,
        found: u64,
        server: u64,
    },
    #[error("starting log streaming at {0} (timeline {1})")]
    Starting(Lsn, TimelineId),
    #[error("starting timeline {0} is not present in the server")]
    NoTimeline(TimelineId),
    #[error("unexpected response to TIMELINE_HISTORY command")]
    History,
    #[error("server reported unexpected history file name for timeline {tli}: {name}")]
    HistoryName { tli: TimelineId, name: String },
    #[error("write-ahead log file \"{path}\" has {size} bytes, should be 0 or {segment}")]
    PartialSize {
        path: FilePath,
        size: u64,
        segment: u32,
    },
    #[error("could not write {len} bytes to WAL file \"{path}\": {error}")]
    Write {
        len: usize,
        path: FilePath,
        error: DiskError,
    },
    #[error("not renaming \"{0}\", segment is not complete")]
    NotRenaming(String),
    #[error("received write-ahead log record for offset {0} with no file open")]
    NoFileOpen(u32),
    #[error("got WAL data offset {got:08x}, expected {expected:08x}")]
    WrongOffset { got: u32, expected: u32 },
    #[error("finished segment at {end} (timeline {tli})")]
    Finished {
        /// Its file, which is durable under that name.
        name: String,
        end: Lsn,
        tli: TimelineId,
    },
    #[error("stopped log streaming at {0} (timeline {1})")]
    Stopped(Lsn, TimelineId),
    #[error("switched to timeline {0} at {1}")]
    Switched(TimelineId, Lsn),
    #[error("received interrupt signal, exiting")]
    Interrupted,
    #[error("unexpected termination of replication stream: {0}")]
    Terminated(String),
    #[error("unexpected result set after end-of-timeline")]
    EndOfTimeline,
    #[error("server reported unexpected next timeline {next}, following timeline {tli}")]
    NextTimeline { next: TimelineId, tli: TimelineId },
    #[error(
        "server stopped streaming timeline {tli} at {stop}, but reported next timeline {next} to begin at {begin}"
    )]
    NextBegins {
        tli: TimelineId,
        stop: Lsn,
        next: TimelineId,
        begin: Lsn,
    },
    #[error("replication stream was terminated before stop point")]
    BeforeStop,
    #[error("disconnected")]
    Disconnected,
    #[error("disconnected; waiting {0} seconds to try again")]
    TryingAgain(u32),
}

impl ReceiveMessage {
    /// Is it for those only who want to hear everything (`--verbose`)?
    #[must_use]
    pub const fn is_verbose(&self) -> bool {
        matches!(
            self,
            Self::CreatingSlot(_)
                | Self::Starting(..)
                | Self::Finished { .. }
                | Self::Stopped(..)
                | Self::Switched(..)
                | Self::Interrupted
        )
    }
}
