//! WAL records as they were first flushed. Their headers are decoded once for all checks.

use super::ledger::{Ledger, Placed};
use walsim_core::base::{Lsn, Xid};
use walsim_core::wire::record::{RecordHeader, RecordParts, RelLocator, RmgrId};

/// The bits of `xl_info` that distinguish the ends of transactions (`XLOG_XACT_OPMASK`).
const XACT_OP_MASK: u8 = 0x70;
/// XLOG_XACT_COMMIT and XLOG_XACT_COMMIT_PREPARED
const COMMITS: [u8; 2] = [0x00, 0x30];

/// A complete record in the reference copy of the WAL.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Logged {
    /// The position of the record's first byte.
    pub start: Lsn,
    /// The end of the record. Redo sets the LSN of the changed pages to this position.
    pub end: Lsn,
    /// The start of the previous complete record. This is invalid for the first record.
    pub before: Lsn,
    /// The back link of the record (`xl_prev`).
    pub prev: Lsn,
    /// The transaction id in the record.
    pub xid: Xid,
    /// The resource manager of the record.
    pub rmid: RmgrId,
    /// `xl_info`
    pub info: u8,
    /// The blocks that the record registers.
    pub blocks: Vec<LoggedBlock>,
}

/// The identity of a block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlockId {
    /// The relation.
    pub rel: RelLocator,
    /// The fork. The main fork is 0.
    pub fork: u8,
    /// The block number.
    pub block: u32,
}

/// A block that a record registers, and whether redo of the record needs the old contents of the
/// page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LoggedBlock {
    /// The block.
    pub id: BlockId,
    /// The record contains an image of the page, or its redo initializes the page
    /// (`BKPBLOCK_WILL_INIT`).
    pub whole: bool,
}

impl Logged {
    /// Whether the record commits its transaction.
    #[must_use]
    pub fn is_commit(&self) -> bool {
        self.rmid == RmgrId::TRANSACTION && COMMITS.contains(&(self.info & XACT_OP_MASK))
    }

    /// Whether the record is XLOG_CHECKPOINT_SHUTDOWN.
    #[must_use]
    pub const fn is_shutdown_checkpoint(&self) -> bool {
        self.rmid.0 == RmgrId::XLOG.0 && self.info & 0xF0 == 0
    }
}

/// The position up to which records were shown to the checks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Shown {
    upto: Lsn,
    last: Lsn,
}

impl Shown {
    /// The records that have become complete since the last call.
    pub(super) fn new_records(&mut self, ledger: &Ledger) -> Vec<Logged> {
        let mut records = Vec::new();
        if !self.upto.is_valid() {
            self.upto = ledger.start();
        }
        while self.upto < ledger.walked()
            && let Some(placed) = ledger.record_after(self.upto)
        {
            if let Some(record) = read(ledger, placed, self.last) {
                records.push(record);
            }
            self.upto = placed.next;
            self.last = placed.start;
        }
        records
    }
}

fn read(ledger: &Ledger, placed: Placed, before: Lsn) -> Option<Logged> {
    let Placed { start, end, .. } = placed;
    let header = ledger.bytes_of(start, RecordHeader::LEN)?;
    let header = RecordHeader::decode(&header).ok()?;
    let mut record = Logged {
        start,
        end,
        before,
        prev: header.prev,
        xid: header.xid,
        rmid: header.rmid,
        info: header.info,
        blocks: Vec::new(),
    };
    // A logical message has no blocks, and may be longer than a segment.
    if header.rmid == RmgrId::LOGICAL_MESSAGE {
        return Some(record);
    }
    let bytes = ledger.bytes_of(start, header.tot_len as usize)?;
    let at = [start, end, placed.next];
    if let Ok(parts) = RecordParts::decode(&bytes, at, ledger.geometry().data_page) {
        let blocks = parts.view(&bytes).blocks();
        let blocks = blocks.map(|block| {
            let header = block.header;
            let id = BlockId {
                rel: header.rel,
                fork: header.fork,
                block: header.block,
            };
            let whole = header.image.is_some() || header.will_init;
            LoggedBlock { id, whole }
        });
        record.blocks = blocks.collect();
    }
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::{GEOMETRY, builder, message};
    use bytes::Bytes;
    use walsim_core::wire::record::{BlockPart, Image, RecordBody};

    const REL: RelLocator = RelLocator {
        spc: 1663,
        db: 5,
        rel: 16384,
    };

    /// Each record is reported exactly once, when it is complete.
    #[test]
    fn records_are_shown_as_they_become_whole() {
        let mut wal = builder();
        let first = wal.append(&message(3, 900));
        let mut part = BlockPart::new(0, REL, 7);
        part.image = Some(Image::of_page(&vec![1; GEOMETRY.data_page as usize], true));
        let mut bare = BlockPart::new(1, REL, 8);
        bare.data = Bytes::from_static(&[1]);
        let body = RecordBody {
            blocks: vec![part, bare],
            ..RecordBody::new(RmgrId::GENERIC, 0, Xid(4), vec![])
        };
        let second = wal.append(&body);
        let commit = wal.append(&RecordBody::new(
            RmgrId::TRANSACTION,
            0x80,
            Xid(4),
            vec![0; 8],
        ));
        let mut ledger = Ledger::new(GEOMETRY, Lsn(1024));
        let mut shown = Shown::default();
        let cut = usize::try_from(second.end.0 - 1024 - 1).expect("small");
        ledger.append(&wal.bytes()[..cut]);
        let records = shown.new_records(&ledger);
        assert_eq!(records.len(), 1);
        assert_eq!(
            (records[0].start, records[0].before),
            (first.start, Lsn::INVALID)
        );
        ledger.append(&wal.bytes()[cut..]);
        let records = shown.new_records(&ledger);
        assert_eq!(records.len(), 2);
        assert_eq!(
            (records[0].end, records[0].before),
            (second.end, first.start)
        );
        assert_eq!(records[0].prev, first.start);
        let blocks = &records[0].blocks;
        let blocks: Vec<_> = blocks.iter().map(|b| (b.id.block, b.whole)).collect();
        assert_eq!(blocks, [(7, true), (8, false)]);
        assert!(records[1].is_commit() && !records[0].is_commit());
        assert_eq!(records[1].end, commit.end);
        assert!(shown.new_records(&ledger).is_empty());
    }
}
