//! Commit status pages. Mirrors clog.c and the buffers of slru.c.

use crate::base::{Lsn, Xid};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Two bits per transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum XactStatus {
    /// Running, or its server crashed before it ended.
    InProgress = 0,
    /// Committed.
    Committed = 1,
    /// Aborted.
    Aborted = 2,
    /// Committed as a part of a transaction whose own status is still to be set.
    SubCommitted = 3,
}

/// One page in memory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ClogPage {
    /// Its bytes; no header, no LSN.
    pub bytes: Arc<Vec<u8>>,
    /// Changed since it was written.
    pub dirty: bool,
    /// WAL must be flushed up to here before the page is written: the highest asynchronous commit
    /// in it.
    pub lsn: Lsn,
}

/// The pages that are in memory, by page number. Guarded by `XactSLRULock`.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Clog {
    /// By page number.
    pub pages: BTreeMap<u32, ClogPage>,
}

impl Clog {
    /// Page number of a transaction: four transactions a byte (`TransactionIdToPage`).
    #[must_use]
    pub const fn page_of(xid: Xid, page_size: u32) -> u32 {
        xid.0 / (page_size * 4)
    }

    /// Starts a page of zeros (`ZeroCLOGPage`).
    pub fn zero(&mut self, page: u32, page_size: u32) {
        let bytes = Arc::new(alloc::vec![0; page_size as usize]);
        self.pages.insert(
            page,
            ClogPage {
                bytes,
                dirty: true,
                lsn: Lsn::INVALID,
            },
        );
    }

    /// The status of a transaction; `None` if its page is not in memory.
    #[must_use]
    pub fn status(&self, xid: Xid, page_size: u32) -> Option<XactStatus> {
        if xid < Xid::FIRST_NORMAL {
            return Some(if xid.is_valid() {
                XactStatus::Committed
            } else {
                XactStatus::Aborted
            });
        }
        let page = self.pages.get(&Self::page_of(xid, page_size))?;
        let (byte, shift) = Self::place(xid, page_size);
        Some(match page.bytes[byte] >> shift & 3 {
            0 => XactStatus::InProgress,
            1 => XactStatus::Committed,
            2 => XactStatus::Aborted,
            _ => XactStatus::SubCommitted,
        })
    }

    /// Sets the status (`TransactionIdSetStatusBit`). `lsn` is where an asynchronous commit ends,
    /// else invalid.
    ///
    /// # Panics
    /// If the page is not in memory: the caller has read or zeroed it.
    pub fn set(&mut self, xid: Xid, status: XactStatus, lsn: Lsn, page_size: u32) {
        let page = self
            .pages
            .get_mut(&Self::page_of(xid, page_size))
            .expect("read before");
        let (byte, shift) = Self::place(xid, page_size);
        let bytes = Arc::make_mut(&mut page.bytes);
        bytes[byte] = bytes[byte] & !(3 << shift) | (status as u8) << shift;
        page.dirty = true;
        page.lsn = page.lsn.max(lsn);
    }

    const fn place(xid: Xid, page_size: u32) -> (usize, u32) {
        let in_page = xid.0 % (page_size * 4);
        ((in_page / 4) as usize, in_page % 4 * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte 185 = 0x95 as a real server left it: 740 to 742 committed, 743 aborted.
    #[test]
    fn bits_lie_where_a_real_server_puts_them() {
        let mut clog = Clog::default();
        clog.zero(0, 8192);
        for xid in 740..743 {
            clog.set(Xid(xid), XactStatus::Committed, Lsn::INVALID, 8192);
        }
        clog.set(Xid(743), XactStatus::Aborted, Lsn::INVALID, 8192);
        assert_eq!(clog.pages[&0].bytes[185], 0x95);
        assert_eq!(clog.status(Xid(743), 8192), Some(XactStatus::Aborted));
        assert_eq!(clog.status(Xid(744), 8192), Some(XactStatus::InProgress));
        assert_eq!(clog.status(Xid(32768), 8192), None);
    }
}
