//! Messages of the standalone receiver. Mirrors the messages of pg_receivewal.c, receivelog.c and
//! streamutil.c.

use super::{DiskError, FilePath};
use crate::base::{Lsn, TimelineId};
use alloc::string::String;

/// All messages of the receiver, except the messages that servers also have.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "the text of each variant is its documentation, its fields are what the text names"
)]
pub enum ReceiveMessage {
    /// The text is libpq's error message, which names the server.
    #[error("{0}")]
    Unconnected(String),
    #[error(
        "incompatible server version {0}; client does not support streaming from server versions older than 15"
    )]
    TooOld(String),
    #[error(
        "incompatible server version {0}; client does not support streaming from server versions newer than 19"
    )]
    TooNew(String),
    #[error("could not send replication command \"{command}\": {why}")]
    Command {
        command: String,
        why: String,
        /// A hint for the user. It is set only if a retry would fail as well.
        hint: Option<&'static str>,
    },
    #[error("could not identify system: {0} or more fields")]
    IdentifyRows(RowCounts),
    #[error("could not identify system: got an unexpected result")]
    Identify,
    #[error("could not parse write-ahead log location \"{0}\"")]
    UnparsedLocation(String),
    #[error("replication connection is unexpectedly database specific")]
    DatabaseSpecific,
    #[error("could not fetch WAL segment size: {0} or more fields")]
    SegmentSizeRows(RowCounts),
    #[error("WAL segment size could not be parsed")]
    SegmentSizeUnparsed,
    #[error(
        "WAL segment size must be a power of two between 1 MB and 1 GB, but the remote server reported a value of {0} bytes"
    )]
    SegmentSize(u64),
    #[error("creating replication slot \"{0}\"")]
    CreatingSlot(String),
    #[error("could not create replication slot \"{name}\": {rows} fields")]
    CreateSlotRows { name: String, rows: RowCounts },
    #[error("replication slot \"{0}\" does not exist")]
    NoSlot(String),
    #[error("could not read replication slot \"{name}\": {rows} fields")]
    ReadSlotRows { name: String, rows: RowCounts },
    #[error("expected a physical replication slot, got type \"{0}\" instead")]
    SlotType(String),
    #[error("could not parse restart_lsn \"{lsn}\" for replication slot \"{name}\"")]
    UnparsedSlot { lsn: String, name: String },
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
    #[error("no WAL can follow segment file \"{0}\"")]
    LastSegment(String),
    #[error("starting log streaming at {0} (timeline {1})")]
    Starting(Lsn, TimelineId),
    #[error("starting timeline {tli} is not present in the server")]
    NoTimeline {
        tli: TimelineId,
        /// A hint for the user. It is set only if a retry would fail as well.
        hint: Option<&'static str>,
    },
    #[error("unexpected response to TIMELINE_HISTORY command: {0} fields")]
    HistoryRows(RowCounts),
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
        /// The name of the segment file. The file now has its final name and is durable.
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
    #[error("unexpected termination of replication stream: {why}")]
    Terminated {
        why: String,
        /// A hint for the user. It is set only if a retry would fail as well.
        hint: Option<&'static str>,
    },
    #[error("unexpected result set after end-of-timeline: {0} fields")]
    EndOfTimelineRows(RowCounts),
    #[error("could not parse next timeline's starting point \"{0}\"")]
    UnparsedNext(String),
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

/// A part of a message: the received and the expected numbers of rows and fields.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[error("got {rows} rows and {fields} fields, expected 1 rows and {expected}")]
pub struct RowCounts {
    /// Number of rows received.
    pub rows: u64,
    /// Number of fields in each row.
    pub fields: usize,
    /// The expected number of fields. The expected number of rows is always one.
    pub expected: usize,
}

impl ReceiveMessage {
    /// The HINT of the message (`pg_log_error_hint`). It is set only if a retry would fail as well.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        if let Self::Command { hint, .. }
        | Self::Terminated { hint, .. }
        | Self::NoTimeline { hint, .. } = self
        {
            return *hint;
        }
        let hints = [
            (
                matches!(self, Self::NoSlot(_)),
                "Create the slot with --create-slot, or name another one.",
            ),
            (
                matches!(self, Self::PartialSize { .. }),
                "Move the file away; what the server still has of its WAL is received again.",
            ),
            (
                matches!(self, Self::LastSegment(_)),
                "Move the file away: no server has written it.",
            ),
            (
                matches!(self, Self::OtherSystem { .. }),
                "Receive into another directory.",
            ),
            (
                matches!(self, Self::Lz4(_)),
                "Uncompress the file, or move it away.",
            ),
        ];
        let found = hints.into_iter().find(|(applies, _)| *applies);
        found.map(|(_, hint)| hint)
    }

    /// Is this message shown only with `--verbose`?
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
