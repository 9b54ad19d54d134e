//! Replays records. Mirrors the rm_redo functions of rmgrlist.h, for the record types that walsim
//! writes.
//!
//! The pages of a replayed record may already contain its change or later changes. A page whose LSN
//! is at or after the end of the record is left unchanged. A full-page image always replaces the
//! page. The startup process itself handles the other effects of a record: the next transaction id,
//! checkpoints, and timelines.

mod block;
mod generic;
mod images;
mod xact;

use crate::call::{LogEvent, Message, Poll, SqlState};
use crate::sys::Cx;
use crate::wire::clog_records::ClogRecord;
use crate::wire::record::{Record, RmgrId};
use crate::wire::xlog_records::XlogRecord;
use generic::GenericRedo;
use images::ImagesRedo;
use xact::XactRedo;

/// `GetRmgr(record->xl_rmid).rm_redo(record)`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Redo {
    record: Record,
    routine: Routine,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Routine {
    Choose,
    Images(ImagesRedo),
    Xact(XactRedo),
    ZeroClog(xact::ZeroClog),
    Generic(GenericRedo),
}

impl Redo {
    /// Replays this record.
    #[must_use]
    pub const fn new(record: Record) -> Self {
        Self {
            record,
            routine: Routine::Choose,
        }
    }

    /// The record.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// # Errors
    /// An ERROR if a page cannot be read or created, or if the record type is unknown. A PANIC if a
    /// page does not exist.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        loop {
            match &mut self.routine {
                Routine::Choose => match self.choose(cx) {
                    Ok(Some(routine)) => self.routine = routine,
                    Ok(None) => return Poll::Ready(Ok(())),
                    Err(e) => return Poll::Ready(Err(e)),
                },
                Routine::Images(redo) => return redo.poll(cx, &self.record),
                Routine::Xact(redo) => return redo.poll(cx),
                Routine::ZeroClog(redo) => return redo.poll(cx),
                Routine::Generic(redo) => return redo.poll(cx, &self.record),
            }
        }
    }

    /// The redo routine for the record, or `None` if there is nothing to redo here.
    fn choose(&self, cx: &Cx<'_>) -> Result<Option<Routine>, LogEvent> {
        assert!(
            cx.shmem.recovery_in_progress(),
            "{} is replayed",
            self.record.lsn
        );
        assert!(self.record.lsn < self.record.end, "{}", self.record.lsn);
        let header = &self.record.header;
        let version = cx.shmem.settings.pg_version;
        match header.rmid {
            RmgrId::XLOG => Ok(if header.rmgr_info() == XlogRecord::Fpi.info() {
                Some(Routine::Images(ImagesRedo::new(true)))
            } else if header.rmgr_info() == XlogRecord::FpiForHint.info() {
                Some(Routine::Images(ImagesRedo::new(false)))
            } else {
                None
            }),
            RmgrId::TRANSACTION => {
                XactRedo::new(cx, &self.record).map(|redo| redo.map(Routine::Xact))
            }
            RmgrId::CLOG => match ClogRecord::decode(version, header.info, &self.record.main) {
                Ok(ClogRecord::ZeroPage(page)) => match u32::try_from(page) {
                    Ok(page) => Ok(Some(Routine::ZeroClog(xact::ZeroClog::new(page)))),
                    Err(_) => Err(self.unknown()),
                },
                // In walsim the clog is never truncated. The old pages do no harm.
                Ok(ClogRecord::Truncate { .. }) => Ok(None),
                Err(_) => Err(self.unknown()),
            },
            RmgrId::GENERIC => Ok(Some(Routine::Generic(GenericRedo::new()))),
            RmgrId::STANDBY | RmgrId::LOGICAL_MESSAGE => Ok(None),
            _ => Err(self.unknown()),
        }
    }

    fn unknown(&self) -> LogEvent {
        unknown(&self.record)
    }
}

/// The error for a record that is valid but has an unknown type.
fn unknown(record: &Record) -> LogEvent {
    let message = Message::UnknownRecord {
        rmid: record.header.rmid,
        info: record.header.info,
        lsn: record.lsn,
    };
    LogEvent::error(SqlState::FEATURE_NOT_SUPPORTED, message)
}

#[cfg(test)]
mod tests;
