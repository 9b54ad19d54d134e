//! `XLogCtl`: the insertion position, the WAL buffers, and the write and flush positions. Mirrors
//! the shared structs of xlog.c.

use crate::base::{Lsn, SegmentNo, Settings, TimelineId};
use crate::wire::xlog_records::CheckPoint;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// `NUM_XLOGINSERT_LOCKS`
pub const INSERTION_LOCKS: u8 = 8;

/// One page of the WAL buffers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WalBuffer {
    /// `xlblocks`: end of the page that it holds; 0 if none.
    pub end: Lsn,
    /// Its bytes.
    pub page: Arc<Vec<u8>>,
}

/// A checkpoint record that was replayed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReplayedCheckPoint {
    /// `lastCheckPointRecPtr`: start of the record.
    pub at: Lsn,
    /// `lastCheckPointEndPtr`: end of the record.
    pub end: Lsn,
    /// Content of the record.
    pub checkpoint: CheckPoint,
}

/// The shared state of WAL.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct XLogCtl {
    /// `Insert->CurrBytePos`: byte position up to which WAL space is reserved.
    pub curr_byte_pos: u64,
    /// `Insert->PrevBytePos`: start of the last reserved record.
    pub prev_byte_pos: u64,
    /// `Insert->RedoRecPtr`: pages with an LSN at or before it need a full-page image.
    pub redo: Lsn,
    /// `Insert->fullPageWrites`
    pub full_page_writes: bool,
    /// Start of the last record that is not marked unimportant (`GetLastImportantRecPtr`).
    pub last_important: Lsn,
    /// `LogwrtResult.Write`
    pub write: Lsn,
    /// `LogwrtResult.Flush`
    pub flush: Lsn,
    /// `LogwrtRqst.Write`
    pub request_write: Lsn,
    /// `asyncXactLSN`: end of the last asynchronous commit record.
    pub async_commit: Lsn,
    /// The ring of WAL buffers.
    pub buffers: Vec<WalBuffer>,
    /// `InitializedUpTo`: end of the newest page in the buffers.
    pub initialized_upto: Lsn,
    /// `InsertTimeLineID`
    pub insert_tli: TimelineId,
    /// The timeline before the last switch.
    pub prev_tli: TimelineId,
    /// `lastRemovedSegNo`: advanced before a segment is removed or recycled; 0 until this server
    /// has removed a segment.
    pub last_removed: SegmentNo,
    /// `lastCheckPoint`: the last replayed checkpoint record. The next restartpoint starts from it.
    pub last_checkpoint: Option<ReplayedCheckPoint>,
    /// Number of reservations whose record is not yet copied. For marks and reports only.
    pub open_reservations: u32,
}

impl XLogCtl {
    pub(super) fn new(settings: &Settings) -> Self {
        let page = Arc::new(alloc::vec![0; settings.geometry.wal_page as usize]);
        let buffer = WalBuffer {
            end: Lsn::INVALID,
            page,
        };
        Self {
            curr_byte_pos: 0,
            prev_byte_pos: 0,
            redo: Lsn::INVALID,
            full_page_writes: settings.full_page_writes,
            last_important: Lsn::INVALID,
            write: Lsn::INVALID,
            flush: Lsn::INVALID,
            request_write: Lsn::INVALID,
            async_commit: Lsn::INVALID,
            buffers: alloc::vec![buffer; settings.wal_buffers.max(4) as usize],
            initialized_upto: Lsn::INVALID,
            insert_tli: TimelineId(0),
            prev_tli: TimelineId(0),
            last_removed: SegmentNo(0),
            last_checkpoint: None,
            open_reservations: 0,
        }
    }

    /// Index of the WAL buffer for the page that starts at `page` (`XLogRecPtrToBufIdx`).
    #[must_use]
    pub fn buffer_index(&self, page: Lsn, wal_page: u32) -> usize {
        let count = self.buffers.len() as u64;
        usize::try_from(page.0 / u64::from(wal_page) % count).expect("a remainder of a usize")
    }
}
