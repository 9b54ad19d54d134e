//! Decodes and encodes the main data of a record.

use walsim_core::base::PgVersion;
use walsim_core::wire::PayloadError;
use walsim_core::wire::logical_message::LogicalMessage;
use walsim_core::wire::record::{Record, RmgrId};
use walsim_core::wire::standby_records::StandbyRecord;
use walsim_core::wire::xact_records::XactEnd;
use walsim_core::wire::xlog_records::XlogRecord;

/// The main data of a record, encoded again by our codec. Returns `None` if there is no codec for
/// the record. Padding is copied from the original, because PostgreSQL does not initialize it.
pub(crate) fn main_data_again(
    version: PgVersion,
    record: &Record,
) -> Option<Result<Vec<u8>, PayloadError>> {
    let (info, main) = (record.header.info, &record.main);
    let again = match record.header.rmid {
        RmgrId::XLOG => XlogRecord::decode(version, info, main).map(|r| r.encode(version)),
        // PREPARE contains the state file of a prepared transaction, which walsim does not decode.
        RmgrId::TRANSACTION if info & 0x70 == 0x10 => return None,
        RmgrId::TRANSACTION => XactEnd::decode(version, info, main).map(|r| r.encode(version)),
        RmgrId::STANDBY => StandbyRecord::decode(info, main).map(|r| r.encode()),
        RmgrId::LOGICAL_MESSAGE => LogicalMessage::decode(info, main).map(|r| r.encode()),
        _ => return None,
    };
    Some(again.map(|mut again| {
        for (at, (our, their)) in again.iter_mut().zip(main).enumerate() {
            if our != their && is_padding(version, record, at) {
                *our = *their;
            }
        }
        again
    }))
}

/// Bytes of main data that PostgreSQL does not initialize.
fn is_padding(version: PgVersion, record: &Record, at: usize) -> bool {
    match (record.header.rmid, record.header.rmgr_info()) {
        // CheckPoint of 19 has padding after fullPageWrites, logicalDecodingEnabled and
        // oldestActiveXid.
        (RmgrId::XLOG, 0x00 | 0x10) if version >= PgVersion::V19 => {
            matches!(at, 17..20 | 25..32 | 92..96)
        }
        // In xl_parameter_change, after track_commit_timestamp.
        (RmgrId::XLOG, 0x60) => (26..28).contains(&at),
        // In xl_end_of_recovery, after wal_level.
        (RmgrId::XLOG, 0x90) => (20..24).contains(&at),
        // In xl_running_xacts, after subxid_overflow.
        (RmgrId::STANDBY, 0x10) => (9..12).contains(&at),
        // xl_invalidations has padding after relcacheInitFileInval. SharedInvalidationMessage has
        // padding, as below.
        (RmgrId::STANDBY, 0x20) => (9..12).contains(&at) || at >= 16 && (1..4).contains(&(at % 16)),
        // In xl_logical_message, after transactional.
        (RmgrId::LOGICAL_MESSAGE, _) => (5..8).contains(&at),
        // SharedInvalidationMessage has padding after its id.
        (RmgrId::TRANSACTION, _) => {
            let end = XactEnd::decode(version, record.header.info, &record.main);
            let end = end.expect("decoded before");
            let counted = |count: usize, len| if count > 0 { 4 + count * len } else { 0 };
            let stats_item = if version == PgVersion::V15 { 12 } else { 16 };
            let first = 8
                + 4
                + end.db.map_or(0, |_| 8)
                + counted(end.subxacts.len(), 4)
                + counted(end.rels.len(), 12)
                + counted(end.stats.len(), stats_item)
                + 4;
            let messages = first..first + end.invals.len() * 16;
            messages.contains(&at) && (1..4).contains(&((at - first) % 16))
        }
        _ => false,
    }
}
