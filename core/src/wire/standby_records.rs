//! Main data of the Standby resource manager: information for hot standby. Mirrors standbydefs.h.

use super::layout::{Cursor, Field, Order, Pad, layout};
use super::payload::{PayloadError, count, counted, items, put_count, put_counted};
use super::record::{RMGR_INFO_MASK, RmgrId};
use super::xact_records::Invalidation;
use crate::base::Xid;
use alloc::vec::Vec;

layout! {
    /// An AccessExclusive lock (`xl_standby_lock`).
    pub struct StandbyLock: Disk {
        /// The transaction that holds the lock.
        pub xid: Xid,
        /// The database.
        pub db: u32,
        /// The relation.
        pub rel: u32,
    }
}

layout! {
    /// The fixed part of XLOG_RUNNING_XACTS.
    struct RunningXactsHeader: Disk {
        xcnt: i32,
        subxcnt: i32,
        overflowed: bool,
        pad: Pad<3>,
        next_xid: Xid,
        oldest_running_xid: Xid,
        latest_completed_xid: Xid,
    }
}

/// The running transactions (`xl_running_xacts`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RunningXacts {
    /// Whether the list of subtransactions is incomplete.
    pub overflowed: bool,
    /// The next transaction id.
    pub next_xid: Xid,
    /// The oldest running transaction.
    pub oldest_running_xid: Xid,
    /// The newest transaction that has ended.
    pub latest_completed_xid: Xid,
    /// Top-level transactions.
    pub xids: Vec<Xid>,
    /// Their subtransactions.
    pub subxids: Vec<Xid>,
}

layout! {
    /// The fixed part of XLOG_INVALIDATIONS.
    struct InvalidationsHeader: Disk {
        db: u32,
        tablespace: u32,
        init_file_inval: bool,
        pad: Pad<3>,
        nmsgs: i32,
    }
}

/// Invalidation messages of a transaction without an id (`xl_invalidations`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Invalidations {
    /// The database.
    pub db: u32,
    /// The tablespace of the database.
    pub tablespace: u32,
    /// Whether the init file of the relation cache must be removed.
    pub init_file_inval: bool,
    /// The messages.
    pub msgs: Vec<Invalidation>,
}

/// The main data of a Standby record, by record type.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum StandbyRecord {
    /// XLOG_STANDBY_LOCK
    Lock(Vec<StandbyLock>),
    /// XLOG_RUNNING_XACTS
    RunningXacts(RunningXacts),
    /// XLOG_INVALIDATIONS
    Invalidations(Invalidations),
}

impl StandbyRecord {
    /// Decodes the main data of a record with this `xl_info`.
    ///
    /// # Errors
    /// The data is too short, a count is negative, or the type is unknown.
    pub fn decode(info: u8, main: &[u8]) -> Result<Self, PayloadError> {
        let mut cursor = Cursor::disk(main);
        match info & RMGR_INFO_MASK {
            0x00 => Ok(Self::Lock(counted(&mut cursor, "locks")?)),
            0x10 => Ok(Self::RunningXacts(RunningXacts::decode(&mut cursor)?)),
            0x20 => Ok(Self::Invalidations(Invalidations::decode(&mut cursor)?)),
            info => {
                let rmid = RmgrId::STANDBY;
                Err(PayloadError::UnknownType { rmid, info })
            }
        }
    }

    /// The type bits of `xl_info`.
    #[must_use]
    pub const fn info(&self) -> u8 {
        match self {
            Self::Lock(_) => 0x00,
            Self::RunningXacts(_) => 0x10,
            Self::Invalidations(_) => 0x20,
        }
    }

    /// The main data.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Lock(locks) => put_counted(locks, &mut out),
            Self::RunningXacts(running) => running.encode(&mut out),
            Self::Invalidations(invalidations) => invalidations.encode(&mut out),
        }
        out
    }
}

impl RunningXacts {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, PayloadError> {
        let header: RunningXactsHeader = cursor.take("xl_running_xacts")?;
        Ok(Self {
            overflowed: header.overflowed,
            next_xid: header.next_xid,
            oldest_running_xid: header.oldest_running_xid,
            latest_completed_xid: header.latest_completed_xid,
            xids: items(cursor, "xids", count("xcnt", header.xcnt)?)?,
            subxids: items(cursor, "subxids", count("subxcnt", header.subxcnt)?)?,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_count(self.xids.len(), out);
        put_count(self.subxids.len(), out);
        self.overflowed.write(out, Order::Disk);
        Pad::<3>.write(out, Order::Disk);
        self.next_xid.write(out, Order::Disk);
        self.oldest_running_xid.write(out, Order::Disk);
        self.latest_completed_xid.write(out, Order::Disk);
        for xid in self.xids.iter().chain(&self.subxids) {
            xid.write(out, Order::Disk);
        }
    }
}

impl Invalidations {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, PayloadError> {
        let header: InvalidationsHeader = cursor.take("xl_invalidations")?;
        Ok(Self {
            db: header.db,
            tablespace: header.tablespace,
            init_file_inval: header.init_file_inval,
            msgs: items(cursor, "msgs", count("nmsgs", header.nmsgs)?)?,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.db.write(out, Order::Disk);
        self.tablespace.write(out, Order::Disk);
        self.init_file_inval.write(out, Order::Disk);
        Pad::<3>.write(out, Order::Disk);
        put_counted(&self.msgs, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn running(xids: Vec<Xid>) -> StandbyRecord {
        StandbyRecord::RunningXacts(RunningXacts {
            overflowed: false,
            next_xid: Xid(740),
            oldest_running_xid: Xid(739),
            latest_completed_xid: Xid(738),
            xids,
            subxids: Vec::new(),
        })
    }

    /// The lengths are those of records from a real server, minus 26 bytes of headers.
    #[test]
    fn round_trips_and_truncations() {
        let lock = StandbyLock {
            xid: Xid(740),
            db: 5,
            rel: 16384,
        };
        let invalidations = Invalidations {
            db: 5,
            tablespace: 1663,
            init_file_inval: true,
            msgs: vec![Invalidation {
                id: -2,
                pad: Pad,
                db: 5,
                object: 16384,
                rest: 0,
            }],
        };
        for (record, len) in [
            (StandbyRecord::Lock(vec![lock]), 16),
            (running(vec![]), 24),
            (running(vec![Xid(739)]), 28),
            (StandbyRecord::Invalidations(invalidations), 32),
        ] {
            let main = record.encode();
            assert_eq!(main.len(), len);
            for cut in 0..len {
                assert!(StandbyRecord::decode(record.info(), &main[..cut]).is_err());
            }
            for at in 0..len {
                let mut other = main.clone();
                other[at] ^= 0x80;
                if let Ok(other) = StandbyRecord::decode(record.info(), &other) {
                    let again = StandbyRecord::decode(other.info(), &other.encode());
                    assert_eq!(again, Ok(other));
                }
            }
            assert_eq!(StandbyRecord::decode(record.info(), &main), Ok(record));
        }
        assert!(StandbyRecord::decode(0x30, &[0; 40]).is_err());
    }
}
