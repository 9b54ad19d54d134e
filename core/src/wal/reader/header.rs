//! Checks of a record's header. Mirrors xlogreader.c (ValidXLogRecordHeader).

use super::RECORD_HEADER;
use crate::base::{Lsn, PgVersion};
use crate::wal::WalError;
use crate::wire::record::RecordHeader;

/// `ValidXLogRecordHeader`. `last` is the start of the previous record, and xl_prev must equal
/// `last`. If `last` is invalid, the reader was just positioned, and xl_prev must only be less than
/// `record`.
pub(super) fn check_header(
    version: PgVersion,
    last: Lsn,
    record: Lsn,
    header: &RecordHeader,
) -> Result<(), WalError> {
    check_length(version, record, header.tot_len)?;
    if !header.rmid.is_valid() {
        let (rmid, record) = (header.rmid.0, record.text(version));
        return Err(WalError::Rmgr { rmid, record });
    }
    let fits = if last.is_valid() {
        header.prev == last
    } else {
        header.prev < record
    };
    if !fits {
        let (prev, record) = (header.prev.text(version), record.text(version));
        return Err(WalError::PrevLink { prev, record });
    }
    Ok(())
}

pub(super) fn check_length(version: PgVersion, record: Lsn, len: u32) -> Result<(), WalError> {
    if len < RECORD_HEADER {
        return Err(WalError::RecordLength {
            version,
            record,
            len,
        });
    }
    Ok(())
}
