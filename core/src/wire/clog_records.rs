//! Main data of the CLOG resource manager. Mirrors clog.c (WriteZeroPageXlogRec, xl_clog_truncate).

use super::layout::{Cursor, Field, Order, Short};
use super::payload::PayloadError;
use super::record::{RMGR_INFO_MASK, RmgrId};
use crate::base::{PgVersion, Xid};
use alloc::vec::Vec;

/// The main data of a CLOG record, by record type. Page numbers have 32 bits before 17, and 64 bits
/// since 17.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ClogRecord {
    /// CLOG_ZEROPAGE: a new page is added.
    ZeroPage(i64),
    /// CLOG_TRUNCATE: earlier pages are removed.
    Truncate {
        /// The first page that is kept.
        page: i64,
        /// The oldest transaction that is kept.
        oldest_xid: Xid,
        /// The database with the oldest transaction.
        oldest_db: u32,
    },
}

impl ClogRecord {
    /// Decodes the main data of a record with this `xl_info`.
    ///
    /// # Errors
    /// The data is too short, or the type is unknown.
    pub fn decode(version: PgVersion, info: u8, main: &[u8]) -> Result<Self, PayloadError> {
        let mut cursor = Cursor::disk(main);
        let page = page_number(version, &mut cursor)?;
        match info & RMGR_INFO_MASK {
            0x00 => Ok(Self::ZeroPage(page)),
            0x10 => Ok(Self::Truncate {
                page,
                oldest_xid: cursor.take("oldestXact")?,
                oldest_db: cursor.take("oldestXactDb")?,
            }),
            info => {
                let rmid = RmgrId::CLOG;
                Err(PayloadError::UnknownType { rmid, info })
            }
        }
    }

    /// The type bits of `xl_info`.
    #[must_use]
    pub const fn info(&self) -> u8 {
        match self {
            Self::ZeroPage(_) => 0x00,
            Self::Truncate { .. } => 0x10,
        }
    }

    /// The main data.
    ///
    /// # Panics
    /// If the version is before 17 and the page number does not fit into 32 bits.
    #[must_use]
    pub fn encode(&self, version: PgVersion) -> Vec<u8> {
        let mut out = Vec::new();
        let (Self::ZeroPage(page) | Self::Truncate { page, .. }) = self;
        if version < PgVersion::V17 {
            i32::try_from(*page)
                .expect("no page beyond 32 bits before 17")
                .write(&mut out, Order::Disk);
        } else {
            page.write(&mut out, Order::Disk);
        }
        if let Self::Truncate {
            oldest_xid,
            oldest_db,
            ..
        } = self
        {
            oldest_xid.write(&mut out, Order::Disk);
            oldest_db.write(&mut out, Order::Disk);
        }
        out
    }
}

/// A page number of pg_xact or a similar SLRU. It has 32 bits before 17.
pub(super) fn page_number(version: PgVersion, cursor: &mut Cursor<'_>) -> Result<i64, Short> {
    if version < PgVersion::V17 {
        Ok(i64::from(cursor.take::<i32>("pageno")?))
    } else {
        cursor.take("pageno")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_truncations() {
        let truncate = ClogRecord::Truncate {
            page: 3,
            oldest_xid: Xid(98304),
            oldest_db: 1,
        };
        for (version, record, len) in [
            (PgVersion::V15, ClogRecord::ZeroPage(-1), 4),
            (PgVersion::V18, ClogRecord::ZeroPage(1 << 40), 8),
            (PgVersion::V15, truncate, 12),
            (PgVersion::V18, truncate, 16),
        ] {
            let main = record.encode(version);
            assert_eq!(main.len(), len);
            assert_eq!(
                ClogRecord::decode(version, record.info(), &main),
                Ok(record)
            );
            for cut in 0..len {
                assert!(ClogRecord::decode(version, record.info(), &main[..cut]).is_err());
            }
        }
        assert!(ClogRecord::decode(PgVersion::V15, 0x20, &[0; 16]).is_err());
    }
}
