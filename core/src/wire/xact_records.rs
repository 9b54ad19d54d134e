//! Main data of commits and aborts. Mirrors xact.h and xactdesc.c (ParseCommitRecord,
//! ParseAbortRecord).

use super::layout::{Cursor, Field, Order, Pad, layout};
use super::payload::{PayloadError, count, counted, items, put_counted};
use super::record::{RelLocator, RmgrId, SPECIAL_REL_UPDATE};
use crate::base::{Lsn, PgVersion, TimestampTz, Xid};
use alloc::vec::Vec;
use bytes::Bytes;

/// The type bits of `xl_info` (`XLOG_XACT_OPMASK`).
const OP_MASK: u8 = 0x70;
/// The main data includes a word with [`xinfo`] bits (`XLOG_XACT_HAS_INFO`).
const HAS_INFO: u8 = 0x80;

/// Bits of `xinfo`. They tell which parts follow.
pub mod xinfo {
    /// Database and tablespace.
    pub const HAS_DBINFO: u32 = 1 << 0;
    /// Committed or aborted subtransactions.
    pub const HAS_SUBXACTS: u32 = 1 << 1;
    /// Relation files to delete.
    pub const HAS_RELS: u32 = 1 << 2;
    /// Invalidation messages.
    pub const HAS_INVALS: u32 = 1 << 3;
    /// The id of a prepared transaction.
    pub const HAS_TWOPHASE: u32 = 1 << 4;
    /// The LSN and time of the commit at the replication origin.
    pub const HAS_ORIGIN: u32 = 1 << 5;
    /// The transaction held AccessExclusive locks. No data follows for this bit.
    pub const HAS_AE_LOCKS: u32 = 1 << 6;
    /// The global identifier of a prepared transaction.
    pub const HAS_GID: u32 = 1 << 7;
    /// Statistics to drop.
    pub const HAS_DROPPED_STATS: u32 = 1 << 8;
    /// The primary waits until standbys have applied the commit.
    pub const APPLY_FEEDBACK: u32 = 1 << 29;
    /// The init file of the relation cache must be removed.
    pub const UPDATE_RELCACHE_FILE: u32 = 1 << 30;
    /// The commit was flushed, even if synchronous_commit is off.
    pub const FORCE_SYNC: u32 = 1 << 31;

    /// The bits for which no data follows.
    pub const PLAIN_FLAGS: u32 = HAS_AE_LOCKS | APPLY_FEEDBACK | UPDATE_RELCACHE_FILE | FORCE_SYNC;
}

/// How a transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum XactOp {
    /// XLOG_XACT_COMMIT
    Commit,
    /// XLOG_XACT_ABORT
    Abort,
    /// XLOG_XACT_COMMIT_PREPARED
    CommitPrepared,
    /// XLOG_XACT_ABORT_PREPARED
    AbortPrepared,
}

layout! {
    /// Database and tablespace (`xl_xact_dbinfo`).
    pub struct DbInfo: Disk {
        /// The database.
        pub db: u32,
        /// The tablespace of the database.
        pub tablespace: u32,
    }
}

layout! {
    /// Statistics to drop (`xl_xact_stats_item`). Before 18 the record has only the low half of the
    /// object id.
    pub struct StatsItem: Disk {
        /// The kind of object.
        pub kind: i32,
        /// The database.
        pub db: u32,
        /// The object, low half.
        pub object: u32,
        /// The high half of the object id. 0 before 18.
        pub object_high: u32,
    }
}

layout! {
    /// [`StatsItem`] before 18.
    struct StatsItem15: Disk {
        kind: i32,
        db: u32,
        object: u32,
    }
}

layout! {
    /// A shared invalidation message (`SharedInvalidationMessage`).
    pub struct Invalidation: Disk {
        /// The kind of message. 0 and higher numbers are catalog caches. Negative numbers are other
        /// kinds.
        pub id: i8,
        /// Padding. PostgreSQL does not set it to zero.
        pub pad: Pad<3>,
        /// The database.
        pub db: u32,
        /// A hash value, a catalog, or a relation, depending on `id`.
        pub object: u32,
        /// The remaining bytes of the C union.
        pub rest: u32,
    }
}

layout! {
    /// The replication origin of a transaction (`xl_xact_origin`).
    pub struct Origin: Disk {
        /// The end of the commit record on the origin.
        pub lsn: Lsn,
        /// The time of the commit on the origin.
        pub time: TimestampTz,
    }
}

/// The main data of a commit or abort.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct XactEnd {
    /// How the transaction ended.
    pub op: XactOp,
    /// The time.
    pub time: TimestampTz,
    /// The [`xinfo`] bits for which no data follows. The other bits are computed from the fields
    /// below.
    pub flags: u32,
    /// Database and tablespace.
    pub db: Option<DbInfo>,
    /// The subtransactions that commit or abort together with this transaction.
    pub subxacts: Vec<Xid>,
    /// Relation files to delete.
    pub rels: Vec<RelLocator>,
    /// Statistics to drop.
    pub stats: Vec<StatsItem>,
    /// Invalidation messages. Only commits have them.
    pub invals: Vec<Invalidation>,
    /// The prepared transaction.
    pub twophase: Option<Xid>,
    /// The global identifier, without the NUL. Present only with `twophase`.
    pub gid: Option<Bytes>,
    /// The replication origin.
    pub origin: Option<Origin>,
}

impl XactOp {
    const fn bits(self) -> u8 {
        match self {
            Self::Commit => 0x00,
            Self::Abort => 0x20,
            Self::CommitPrepared => 0x30,
            Self::AbortPrepared => 0x40,
        }
    }

    /// Does the transaction count as committed?
    #[must_use]
    pub const fn is_commit(self) -> bool {
        matches!(self, Self::Commit | Self::CommitPrepared)
    }
}

impl XactEnd {
    /// A commit or abort that contains only its time.
    #[must_use]
    pub const fn new(op: XactOp, time: TimestampTz) -> Self {
        Self {
            op,
            time,
            flags: 0,
            db: None,
            subxacts: Vec::new(),
            rels: Vec::new(),
            stats: Vec::new(),
            invals: Vec::new(),
            twophase: None,
            gid: None,
            origin: None,
        }
    }

    /// Decodes the main data of a Transaction record with this `xl_info`.
    ///
    /// # Errors
    /// The data is too short, a count is negative, or the record is neither a commit nor an abort.
    pub fn decode(version: PgVersion, info: u8, main: &[u8]) -> Result<Self, PayloadError> {
        let op = match info & OP_MASK {
            0x00 => XactOp::Commit,
            0x20 => XactOp::Abort,
            0x30 => XactOp::CommitPrepared,
            0x40 => XactOp::AbortPrepared,
            info => {
                let rmid = RmgrId::TRANSACTION;
                return Err(PayloadError::UnknownType { rmid, info });
            }
        };
        let mut cursor = Cursor::disk(main);
        let mut end = Self::new(op, cursor.take("xact_time")?);
        if info & HAS_INFO != 0 {
            let bits: u32 = cursor.take("xinfo")?;
            end.decode_parts(version, bits, &mut cursor)?;
        }
        Ok(end)
    }

    fn decode_parts(
        &mut self,
        version: PgVersion,
        bits: u32,
        cursor: &mut Cursor<'_>,
    ) -> Result<(), PayloadError> {
        let has = |bit: u32| bits & bit != 0;
        self.flags = bits & xinfo::PLAIN_FLAGS;
        if has(xinfo::HAS_DBINFO) {
            self.db = Some(cursor.take("dbinfo")?);
        }
        if has(xinfo::HAS_SUBXACTS) {
            self.subxacts = counted(cursor, "subxacts")?;
        }
        if has(xinfo::HAS_RELS) {
            self.rels = counted(cursor, "rels")?;
        }
        if has(xinfo::HAS_DROPPED_STATS) {
            let number = count("stats", cursor.take("stats")?)?;
            self.stats = stats_items(version, cursor, number)?;
        }
        if has(xinfo::HAS_INVALS) && self.op.is_commit() {
            self.invals = counted(cursor, "msgs")?;
        }
        if has(xinfo::HAS_TWOPHASE) {
            self.twophase = Some(cursor.take("twophase xid")?);
            if has(xinfo::HAS_GID) {
                self.gid = Some(Bytes::copy_from_slice(cursor.cstr("gid")?));
            }
        }
        if has(xinfo::HAS_ORIGIN) {
            self.origin = Some(cursor.take("origin")?);
        }
        Ok(())
    }

    /// `xl_info`
    #[must_use]
    pub fn info(&self) -> u8 {
        let has_info = if self.xinfo() == 0 { 0 } else { HAS_INFO };
        let special = if self.rels.is_empty() {
            0
        } else {
            SPECIAL_REL_UPDATE
        };
        self.op.bits() | has_info | special
    }

    /// The main data.
    ///
    /// # Panics
    /// If an abort has invalidation messages, or `gid` is set without `twophase`.
    #[must_use]
    pub fn encode(&self, version: PgVersion) -> Vec<u8> {
        assert!(self.op.is_commit() || self.invals.is_empty());
        assert!(self.twophase.is_some() || self.gid.is_none());
        let mut out = Vec::new();
        self.time.write(&mut out, Order::Disk);
        let bits = self.xinfo();
        if bits == 0 {
            return out;
        }
        bits.write(&mut out, Order::Disk);
        if let Some(db) = self.db {
            db.encode(&mut out);
        }
        if !self.subxacts.is_empty() {
            put_counted(&self.subxacts, &mut out);
        }
        if !self.rels.is_empty() {
            put_counted(&self.rels, &mut out);
        }
        match version {
            _ if self.stats.is_empty() => {}
            PgVersion::V15 | PgVersion::V16 | PgVersion::V17 => {
                let short: Vec<StatsItem15> = self.stats.iter().map(StatsItem15::from).collect();
                put_counted(&short, &mut out);
            }
            PgVersion::V18 | PgVersion::V19 => put_counted(&self.stats, &mut out),
        }
        if !self.invals.is_empty() {
            put_counted(&self.invals, &mut out);
        }
        if let Some(xid) = self.twophase {
            xid.write(&mut out, Order::Disk);
        }
        if let Some(gid) = &self.gid {
            out.extend_from_slice(gid);
            out.push(0);
        }
        if let Some(origin) = self.origin {
            origin.encode(&mut out);
        }
        out
    }

    fn xinfo(&self) -> u32 {
        let bit = |present: bool, bit: u32| if present { bit } else { 0 };
        self.flags
            | bit(self.db.is_some(), xinfo::HAS_DBINFO)
            | bit(!self.subxacts.is_empty(), xinfo::HAS_SUBXACTS)
            | bit(!self.rels.is_empty(), xinfo::HAS_RELS)
            | bit(!self.stats.is_empty(), xinfo::HAS_DROPPED_STATS)
            | bit(!self.invals.is_empty(), xinfo::HAS_INVALS)
            | bit(self.twophase.is_some(), xinfo::HAS_TWOPHASE)
            | bit(self.gid.is_some(), xinfo::HAS_GID)
            | bit(self.origin.is_some(), xinfo::HAS_ORIGIN)
    }
}

/// Reads `count` items in the layout of this version.
pub(super) fn stats_items(
    version: PgVersion,
    cursor: &mut Cursor<'_>,
    count: usize,
) -> Result<Vec<StatsItem>, PayloadError> {
    if version >= PgVersion::V18 {
        return items(cursor, "stats", count);
    }
    let short = items::<StatsItem15>(cursor, "stats", count)?;
    Ok(short.into_iter().map(StatsItem::from).collect())
}

impl From<StatsItem15> for StatsItem {
    fn from(item: StatsItem15) -> Self {
        Self {
            kind: item.kind,
            db: item.db,
            object: item.object,
            object_high: 0,
        }
    }
}

impl From<&StatsItem> for StatsItem15 {
    fn from(item: &StatsItem) -> Self {
        Self {
            kind: item.kind,
            db: item.db,
            object: item.object,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn everything() -> XactEnd {
        XactEnd {
            op: XactOp::CommitPrepared,
            time: TimestampTz(-5),
            flags: xinfo::HAS_AE_LOCKS | xinfo::FORCE_SYNC,
            db: Some(DbInfo {
                db: 5,
                tablespace: 1663,
            }),
            subxacts: vec![Xid(8), Xid(9)],
            rels: vec![RelLocator {
                spc: 1663,
                db: 5,
                rel: 16384,
            }],
            stats: vec![StatsItem {
                kind: 2,
                db: 5,
                object: 16384,
                object_high: 0,
            }],
            invals: vec![Invalidation {
                id: -2,
                pad: Pad,
                db: 5,
                object: 1259,
                rest: 0,
            }],
            twophase: Some(Xid(7)),
            gid: Some(Bytes::from_static(b"g4")),
            origin: Some(Origin {
                lsn: Lsn(9),
                time: TimestampTz(3),
            }),
        }
    }

    /// The shortest commit record of a real server has 34 bytes: the record header, the main data
    /// header, and the time.
    #[test]
    fn plain_commit_is_its_time() {
        let commit = XactEnd::new(XactOp::Commit, TimestampTz(42));
        assert_eq!(commit.info(), 0);
        assert_eq!(commit.encode(PgVersion::V15), 42i64.to_le_bytes());
        let back = XactEnd::decode(PgVersion::V15, 0, &42i64.to_le_bytes());
        assert_eq!(back, Ok(commit));
    }

    /// A COMMIT PREPARED record of a real server: 53 bytes, xl_info 0xB0, xinfo 0xD1.
    #[test]
    fn commit_prepared_of_a_real_server() {
        let mut commit = XactEnd::new(XactOp::CommitPrepared, TimestampTz(1));
        commit.db = Some(DbInfo {
            db: 5,
            tablespace: 1663,
        });
        commit.twophase = Some(Xid(740));
        commit.gid = Some(Bytes::from_static(b"g4"));
        commit.flags = xinfo::HAS_AE_LOCKS;
        let main = commit.encode(PgVersion::V15);
        assert_eq!(24 + 2 + main.len(), 53);
        assert_eq!((commit.info(), &main[8..12]), (0xB0, &[0xD1, 0, 0, 0][..]));
    }

    #[test]
    fn round_trips_and_truncations() {
        let end = everything();
        for version in PgVersion::ALL {
            let main = end.encode(version);
            assert_eq!(XactEnd::decode(version, end.info(), &main), Ok(end.clone()));
            for cut in 0..main.len() {
                assert!(XactEnd::decode(version, end.info(), &main[..cut]).is_err());
            }
        }
        assert_eq!(end.info(), 0xB1);
    }

    /// A count that is negative or too large for the remaining bytes is an error.
    #[test]
    fn counts_are_bounded() {
        for count in [-1i32, i32::MAX] {
            let mut main = vec![0; 8];
            main.extend_from_slice(&xinfo::HAS_SUBXACTS.to_le_bytes());
            main.extend_from_slice(&count.to_le_bytes());
            assert!(XactEnd::decode(PgVersion::V18, 0x80, &main).is_err());
        }
    }

    proptest! {
        #![proptest_config(crate::base::testing::cases(64))]

        #[test]
        fn any_changed_byte_is_decoded_or_refused(at in 0usize..90, flip in 1u8..) {
            let end = everything();
            let mut main = end.encode(PgVersion::V15);
            let at = at % main.len();
            main[at] ^= flip;
            if let Ok(other) = XactEnd::decode(PgVersion::V15, end.info(), &main) {
                let again = other.encode(PgVersion::V15);
                prop_assert_eq!(XactEnd::decode(PgVersion::V15, other.info(), &again), Ok(other));
            }
        }
    }
}
