//! `XLogCtl`: the insertion position, the WAL buffers, and the write and flush positions. Mirrors
//! the shared structs of xlog.c.

use super::touched::Check;
use crate::base::{Lsn, SegmentNo, Settings, TimelineId};
use crate::wire::xlog_records::CheckPoint;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// `NUM_XLOGINSERT_LOCKS`
pub const INSERTION_LOCKS: u8 = 8;

/// One page of the WAL buffers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WalBuffer {
    /// `xlblocks`: the end of the page in this buffer. 0 if the buffer holds no page.
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
    /// `Insert->CurrBytePos`: the byte position up to which WAL space is reserved.
    pub curr_byte_pos: u64,
    /// `Insert->PrevBytePos`: the byte position at which the last reserved record starts.
    pub prev_byte_pos: u64,
    /// `Insert->RedoRecPtr`: the redo pointer. A page with an LSN at or before the redo pointer
    /// needs a full-page image.
    pub redo: Lsn,
    /// `Insert->fullPageWrites`
    pub full_page_writes: bool,
    /// The start of the last record that is not marked unimportant (`GetLastImportantRecPtr`).
    pub last_important: Lsn,
    /// `LogwrtResult.Write`
    pub write: Lsn,
    /// `LogwrtResult.Flush`
    pub flush: Lsn,
    /// `LogwrtRqst.Write`
    pub request_write: Lsn,
    /// `asyncXactLSN`: the end of the last asynchronous commit record.
    pub async_commit: Lsn,
    /// The ring of WAL buffers.
    pub buffers: Vec<WalBuffer>,
    /// `InitializedUpTo`: the end of the newest page in the WAL buffers.
    pub initialized_upto: Lsn,
    /// `InsertTimeLineID`
    pub insert_tli: TimelineId,
    /// The timeline before the last switch.
    pub prev_tli: TimelineId,
    /// `lastRemovedSegNo`: the last segment that was removed or recycled. It is advanced before a
    /// segment is touched. 0 until this server has removed a segment.
    pub last_removed: SegmentNo,
    /// `lastCheckPoint`: the last replayed checkpoint record. The next restartpoint uses it.
    pub last_checkpoint: Option<ReplayedCheckPoint>,
    /// The number of reservations whose record is not yet copied. Only the simulator uses this
    /// number.
    pub open_reservations: u32,
}

impl Check for XLogCtl {
    fn check(&self) {
        // `LogwrtResult` and `LogwrtRqst`
        assert!(self.flush <= self.write, "{} {}", self.flush, self.write);
        assert!(
            self.write <= self.request_write,
            "WAL is written up to {}, but requested up to {}",
            self.write,
            self.request_write
        );
        assert!(
            self.prev_byte_pos <= self.curr_byte_pos,
            "the last record starts at {}, after the reserved {}",
            self.prev_byte_pos,
            self.curr_byte_pos
        );
        // Before the end of recovery the buffers are not used.
        if self.initialized_upto.is_valid() {
            self.check_buffers();
        }
    }
}

impl XLogCtl {
    /// The invariants of the ring of WAL buffers (`AdvanceXLInsertBuffer`).
    fn check_buffers(&self) {
        let (end, count) = (self.initialized_upto, self.buffers.len() as u64);
        let page = self.buffers[0].page.len() as u64;
        assert!(end.0.is_multiple_of(page), "{end} is no page boundary");
        assert!(self.write <= end, "{} is beyond {end}", self.write);
        let newest = usize::try_from((end.0 / page - 1) % count).expect("a remainder of a usize");
        let newest = &self.buffers[newest];
        // If writing continues at a page boundary, no buffer holds the page before.
        let held = newest.end == end || !newest.end.is_valid();
        assert!(held, "{} in the place of {end}", newest.end);
        assert_eq!(newest.page.len() as u64, page);
    }

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

    /// The index of the WAL buffer for the page that starts at `page` (`XLogRecPtrToBufIdx`).
    #[must_use]
    pub fn buffer_index(&self, page: Lsn, wal_page: u32) -> usize {
        let count = self.buffers.len() as u64;
        usize::try_from(page.0 / u64::from(wal_page) % count).expect("a remainder of a usize")
    }
}
