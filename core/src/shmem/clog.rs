//! The pages of transaction status (clog). Mirrors clog.c and the buffers of slru.c.

use super::touched::Check;
use crate::base::{Lsn, Xid};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The status of a transaction. It takes two bits of a clog page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum XactStatus {
    /// Running, or interrupted by a crash.
    InProgress = 0,
    /// Committed.
    Committed = 1,
    /// Aborted.
    Aborted = 2,
    /// A committed subtransaction. The status of its parent is not yet set.
    SubCommitted = 3,
}

/// A clog page in memory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ClogPage {
    /// The bytes of the page. A clog page has neither a header nor an LSN.
    pub bytes: Arc<Vec<u8>>,
    /// Whether the page was changed since it was last written.
    pub dirty: bool,
    /// Before the page is written, WAL must be flushed up to this position. It is the largest LSN
    /// of an asynchronous commit on the page.
    pub lsn: Lsn,
}

/// The clog pages in memory. Guarded by `XactSLRULock`.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Clog {
    /// The pages by page number.
    pub pages: BTreeMap<u32, ClogPage>,
}

impl Check for Clog {
    fn check(&self) {
        let mut sizes = self.pages.values().map(|page| page.bytes.len());
        let first = sizes.next().unwrap_or(1);
        assert!(first.is_power_of_two(), "a page of {first} bytes");
        assert!(sizes.all(|size| size == first));
    }
}

impl Clog {
    /// The page number for a transaction (`TransactionIdToPage`). A byte holds four transactions.
    #[must_use]
    pub const fn page_of(xid: Xid, page_size: u32) -> u32 {
        xid.0 / (page_size * 4)
    }

    /// Adds a page of zeros (`ZeroCLOGPage`).
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

    /// The status of a transaction. `None` if the page is not in memory.
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

    /// Sets the status of a transaction (`TransactionIdSetStatusBit`). `lsn` is the end of the
    /// commit record for an asynchronous commit. In all other cases `lsn` is invalid.
    ///
    /// # Panics
    /// If the page is not in memory. The caller must first read or zero the page.
    pub fn set(&mut self, xid: Xid, status: XactStatus, lsn: Lsn, page_size: u32) {
        let page = self
            .pages
            .get_mut(&Self::page_of(xid, page_size))
            .expect("read before");
        // `TransactionIdSetTreeStatus`
        assert_ne!(status, XactStatus::InProgress, "{xid:?}");
        assert_eq!(page.bytes.len(), page_size as usize);
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

    /// Byte 185 of a real server's file is 0x95: transactions 740 to 742 are committed, and 743 is
    /// aborted.
    #[test]
    fn bits_are_where_a_real_server_puts_them() {
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
