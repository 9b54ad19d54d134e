//! Main data of Transaction records that do not end a transaction. Mirrors xact.h and xactdesc.c
//! (ParsePrepareRecord, xl_xact_assignment, xl_xact_invals).

use super::layout::{Cursor, Field, Pad, Short, layout};
use super::payload::{PayloadError, count, counted, items};
use super::record::RelLocator;
use super::xact_records::{Invalidation, Origin, StatsItem, stats_items};
use crate::base::{Lsn, PgVersion, TimestampTz, Xid};
use alloc::vec::Vec;
use bytes::Bytes;

layout! {
    /// The fixed part of XLOG_XACT_PREPARE (`xl_xact_prepare`).
    struct Header: Disk {
        magic: u32,
        total_len: u32,
        xid: Xid,
        database: u32,
        prepared_at: TimestampTz,
        owner: u32,
        nsubxacts: i32,
        ncommitrels: i32,
        nabortrels: i32,
        ncommitstats: i32,
        nabortstats: i32,
        ninvalmsgs: i32,
        initfileinval: bool,
        pad: Pad<1>,
        gidlen: u16,
        origin_lsn: Lsn,
        origin_timestamp: TimestampTz,
    }
}

/// A prepared transaction (XLOG_XACT_PREPARE). The data of its resource managers is not decoded.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct XactPrepare {
    /// The transaction.
    pub xid: Xid,
    /// The database.
    pub db: u32,
    /// The time.
    pub time: TimestampTz,
    /// The global identifier of the transaction, with the terminating NUL.
    pub gid: Bytes,
    /// Its subtransactions.
    pub subxacts: Vec<Xid>,
    /// Relation files to delete when the transaction commits.
    pub commit_rels: Vec<RelLocator>,
    /// Relation files to delete when the transaction aborts.
    pub abort_rels: Vec<RelLocator>,
    /// Statistics to drop when the transaction commits.
    pub commit_stats: Vec<StatsItem>,
    /// Statistics to drop when the transaction aborts.
    pub abort_stats: Vec<StatsItem>,
    /// Invalidation messages.
    pub invals: Vec<Invalidation>,
    /// Whether the init file of the relation cache must be removed.
    pub init_file_inval: bool,
    /// The LSN and time at the replication origin. Valid only if the record has an origin.
    pub origin: Origin,
}

/// A top-level transaction with some of its subtransactions (XLOG_XACT_ASSIGNMENT). The server
/// writes this record after every 64 subtransactions, so that a standby does not have to track
/// more.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct XactAssignment {
    /// The top-level transaction.
    pub top: Xid,
    /// Its subtransactions.
    pub subxacts: Vec<Xid>,
}

impl XactPrepare {
    /// Decodes the main data.
    ///
    /// # Errors
    /// The data is too short, or a count is negative.
    pub fn decode(version: PgVersion, main: &[u8]) -> Result<Self, PayloadError> {
        let mut cursor = Cursor::disk(main);
        let header: Header = cursor.take("xl_xact_prepare")?;
        let cursor = &mut cursor;
        let gid = cursor.bytes("gid", usize::from(header.gidlen))?;
        let gid = Bytes::copy_from_slice(gid);
        align(main, cursor)?;
        Ok(Self {
            xid: header.xid,
            db: header.database,
            time: header.prepared_at,
            gid,
            subxacts: list(main, cursor, "subxacts", header.nsubxacts)?,
            commit_rels: list(main, cursor, "commit rels", header.ncommitrels)?,
            abort_rels: list(main, cursor, "abort rels", header.nabortrels)?,
            commit_stats: stats(version, main, cursor, header.ncommitstats)?,
            abort_stats: stats(version, main, cursor, header.nabortstats)?,
            invals: list(main, cursor, "msgs", header.ninvalmsgs)?,
            init_file_inval: header.initfileinval,
            origin: Origin {
                lsn: header.origin_lsn,
                time: header.origin_timestamp,
            },
        })
    }
}

impl XactAssignment {
    /// Decodes the main data.
    ///
    /// # Errors
    /// The data is too short, or the count is negative.
    pub fn decode(main: &[u8]) -> Result<Self, PayloadError> {
        let mut cursor = Cursor::disk(main);
        Ok(Self {
            top: cursor.take("xtop")?,
            subxacts: counted(&mut cursor, "xsub")?,
        })
    }
}

/// Decodes the main data of XLOG_XACT_INVALIDATIONS.
///
/// # Errors
/// The data is too short, or the count is negative.
pub fn decode_invalidations(main: &[u8]) -> Result<Vec<Invalidation>, PayloadError> {
    counted(&mut Cursor::disk(main), "msgs")
}

/// The items of a list in the main data. Each list starts at a multiple of 8.
fn list<T: Field>(
    main: &[u8],
    cursor: &mut Cursor<'_>,
    field: &'static str,
    number: i32,
) -> Result<Vec<T>, PayloadError> {
    let list = items(cursor, field, count(field, number)?)?;
    align(main, cursor)?;
    Ok(list)
}

fn stats(
    version: PgVersion,
    main: &[u8],
    cursor: &mut Cursor<'_>,
    number: i32,
) -> Result<Vec<StatsItem>, PayloadError> {
    let list = stats_items(version, cursor, count("stats", number)?)?;
    align(main, cursor)?;
    Ok(list)
}

/// Skips padding (`MAXALIGN`).
fn align(main: &[u8], cursor: &mut Cursor<'_>) -> Result<(), Short> {
    let at = main.len() - cursor.rest().len();
    cursor.bytes("padding", at.next_multiple_of(8) - at)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record with a name that needs padding, and with one item in each list.
    fn sample() -> Vec<u8> {
        let header = Header {
            magic: 0x57F9_4533,
            total_len: 0,
            xid: Xid(740),
            database: 5,
            prepared_at: TimestampTz(7),
            owner: 10,
            nsubxacts: 1,
            ncommitrels: 1,
            nabortrels: 0,
            ncommitstats: 1,
            nabortstats: 0,
            ninvalmsgs: 1,
            initfileinval: true,
            pad: Pad,
            gidlen: 3,
            origin_lsn: Lsn(0x28),
            origin_timestamp: TimestampTz(9),
        };
        let mut main = Vec::new();
        header.encode(&mut main);
        for part in [&b"ab\0"[..], &[1; 4], &[2; 12], &[3; 12], &[4; 16]] {
            main.extend_from_slice(part);
            main.resize(main.len().next_multiple_of(8), 0);
        }
        main
    }

    #[test]
    fn lists_begin_at_multiples_of_eight() {
        let main = sample();
        assert_eq!(Header::LEN, 72);
        let prepare = XactPrepare::decode(PgVersion::V15, &main).expect("whole");
        assert_eq!(&prepare.gid[..], b"ab\0");
        assert_eq!(prepare.subxacts, [Xid(0x0101_0101)]);
        assert_eq!(prepare.commit_rels[0].rel, 0x0202_0202);
        assert_eq!(prepare.commit_stats[0].object, 0x0303_0303);
        assert_eq!(prepare.invals[0].db, 0x0404_0404);
        assert_eq!(prepare.origin.lsn, Lsn(0x28));
        for cut in 0..main.len() {
            assert!(
                XactPrepare::decode(PgVersion::V15, &main[..cut]).is_err(),
                "{cut}"
            );
        }
    }

    #[test]
    fn assignments_and_invalidations() {
        let words: Vec<u8> = [9u32, 2, 10, 11]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect();
        let assignment = XactAssignment::decode(&words).expect("whole");
        assert_eq!(
            (assignment.top, assignment.subxacts),
            (Xid(9), [10, 11].map(Xid).to_vec())
        );
        assert!(XactAssignment::decode(&words[..15]).is_err());
        let mut invals = 1u32.to_le_bytes().to_vec();
        assert!(decode_invalidations(&invals).is_err());
        invals.extend([0xFE; 16]);
        assert_eq!(decode_invalidations(&invals).expect("whole")[0].id, -2);
    }
}
