//! Redo of commit and abort records and of new clog pages. Mirrors xact_redo of xact.c and
//! clog_redo of clog.c.

use crate::access::clog::{ClogSet, ClogWrite};
use crate::base::{Lsn, Xid};
use crate::call::{LogEvent, Poll};
use crate::shmem::{LockId, LockMode, RecoveryState, XactStatus};
use crate::sys::Cx;
use crate::wire::record::Record;
use crate::wire::xact_records::XactEnd;
use crate::{ready, ready_ok};
use alloc::collections::VecDeque;

/// `xact_redo_commit` and `xact_redo_abort`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct XactRedo {
    todo: VecDeque<ClogSet>,
}

impl XactRedo {
    /// `None` for a record that is neither a commit nor an abort.
    pub(super) fn new(cx: &Cx<'_>, record: &Record) -> Result<Option<Self>, LogEvent> {
        let header = &record.header;
        // XLOG_XACT_ASSIGNMENT and XLOG_XACT_INVALIDATIONS
        if matches!(header.info & 0x70, 0x50 | 0x60) {
            return Ok(None);
        }
        let version = cx.shmem.settings.pg_version;
        let end = XactEnd::decode(version, header.info, &record.main)
            .map_err(|_| super::unknown(record))?;
        let (status, lsn) = if end.op.is_commit() {
            // Sessions on a standby may see the commit at once. Before the clog page is written,
            // the minimum recovery point is therefore advanced to the end of this record.
            let archive = cx.shmem.recovery.state == RecoveryState::Archive;
            (
                XactStatus::Committed,
                if archive { record.end } else { Lsn::INVALID },
            )
        } else {
            (XactStatus::Aborted, Lsn::INVALID)
        };
        let xid = end.twophase.unwrap_or(header.xid);
        let xids = end.subxacts.iter().copied().chain([xid]);
        let todo = xids.filter(|xid| *xid >= Xid::FIRST_NORMAL);
        Ok(Some(Self {
            todo: todo.map(|xid| ClogSet::new(xid, status, lsn)).collect(),
        }))
    }

    pub(super) fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        while let Some(set) = self.todo.front_mut() {
            ready_ok!(set.poll(cx));
            self.todo.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

/// `CLOG_ZEROPAGE`: writes the page at once, so that the file of the page exists.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct ZeroClog {
    page: u32,
    write: Option<ClogWrite>,
}

impl ZeroClog {
    pub(super) const fn new(page: u32) -> Self {
        Self { page, write: None }
    }

    pub(super) fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        if self.write.is_none() {
            ready!(cx.acquire(LockId::Clog, LockMode::Exclusive));
            let size = cx.shmem.settings.geometry.data_page;
            cx.shmem.clog.zero(self.page, size);
            cx.release(LockId::Clog);
            self.write = Some(ClogWrite::new(self.page));
        }
        self.write.as_mut().expect("set above").poll(cx)
    }
}
