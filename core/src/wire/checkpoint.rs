//! The content of a checkpoint, in WAL and in the control file. Mirrors pg_control.h (CheckPoint).

use super::layout::{Cursor, Pad, Short, layout};
use super::xlog_records::FullXid;
use crate::base::{Lsn, PgVersion, TimelineId, Xid};
use alloc::vec::Vec;

/// The content of a checkpoint record (`CheckPoint`). It is also part of the control file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CheckPoint {
    /// The redo pointer.
    pub redo: Lsn,
    /// The timeline.
    pub this_tli: TimelineId,
    /// The previous timeline if this checkpoint starts a new timeline. Otherwise the current
    /// timeline.
    pub prev_tli: TimelineId,
    /// `full_page_writes`
    pub full_page_writes: bool,
    /// `wal_level` as a number. Before 17 these bytes are padding, and therefore 0.
    pub wal_level: i32,
    /// Since 19: whether WAL for logical decoding is written. False before 19.
    pub logical_decoding: bool,
    /// The next transaction id.
    pub next_xid: FullXid,
    /// The next OID.
    pub next_oid: u32,
    /// The next multixact.
    pub next_multi: u32,
    /// The next multixact member. Since 19 it has 64 bits.
    pub next_multi_offset: u64,
    /// The oldest transaction id of the cluster, which is the smallest datfrozenxid.
    pub oldest_xid: Xid,
    /// The database with the oldest transaction id.
    pub oldest_xid_db: u32,
    /// The oldest multixact of the cluster.
    pub oldest_multi: u32,
    /// The database with the oldest multixact.
    pub oldest_multi_db: u32,
    /// The time of the checkpoint, in Unix seconds.
    pub time: i64,
    /// The oldest transaction with a commit timestamp.
    pub oldest_commit_ts_xid: Xid,
    /// The newest transaction with a commit timestamp.
    pub newest_commit_ts_xid: Xid,
    /// The oldest running transaction. 0 in a shutdown checkpoint.
    pub oldest_active_xid: Xid,
}

layout! {
    /// The first fields of a checkpoint. They are the same in all versions.
    struct Start: Disk {
        redo: Lsn,
        this_tli: TimelineId,
        prev_tli: TimelineId,
        full_page_writes: bool,
        pad: Pad<3>,
        wal_level: i32,
    }
}

layout! {
    /// The fields after [`Start`] before 19.
    struct Middle15: Disk {
        next_xid: FullXid,
        next_oid: u32,
        next_multi: u32,
        next_multi_offset: u32,
        oldest: Oldest,
        pad: Pad<4>,
    }
}

layout! {
    /// The fields after [`Start`] since 19. Compared with [`Middle15`], `logical_decoding` is new
    /// and `next_multi_offset` has 64 bits.
    struct Middle19: Disk {
        logical_decoding: bool,
        pad: Pad<7>,
        next_xid: FullXid,
        next_oid: u32,
        next_multi: u32,
        next_multi_offset: u64,
        oldest: Oldest,
    }
}

layout! {
    struct Oldest: Disk {
        xid: Xid,
        xid_db: u32,
        multi: u32,
        multi_db: u32,
    }
}

layout! {
    /// The last fields of a checkpoint. They are the same in all versions.
    struct End: Disk {
        time: i64,
        oldest_commit_ts_xid: Xid,
        newest_commit_ts_xid: Xid,
        oldest_active_xid: Xid,
        pad: Pad<4>,
    }
}

impl CheckPoint {
    /// The length in bytes. It is 88 before 19 and 96 since 19.
    #[must_use]
    pub const fn len(version: PgVersion) -> usize {
        Start::LEN
            + End::LEN
            + if wide(version) {
                Middle19::LEN
            } else {
                Middle15::LEN
            }
    }

    /// Decodes the checkpoint at the start of `bytes`.
    ///
    /// # Errors
    /// `bytes` is too short.
    pub fn decode(version: PgVersion, bytes: &[u8]) -> Result<Self, Short> {
        let mut cursor = Cursor::disk(bytes);
        let start: Start = cursor.take("checkpoint")?;
        let middle = if wide(version) {
            cursor.take("nextXid")?
        } else {
            let narrow: Middle15 = cursor.take("nextXid")?;
            Middle19 {
                logical_decoding: false,
                pad: Pad,
                next_xid: narrow.next_xid,
                next_oid: narrow.next_oid,
                next_multi: narrow.next_multi,
                next_multi_offset: narrow.next_multi_offset.into(),
                oldest: narrow.oldest,
            }
        };
        let end: End = cursor.take("time")?;
        Ok(Self {
            redo: start.redo,
            this_tli: start.this_tli,
            prev_tli: start.prev_tli,
            full_page_writes: start.full_page_writes,
            wal_level: start.wal_level,
            logical_decoding: middle.logical_decoding,
            next_xid: middle.next_xid,
            next_oid: middle.next_oid,
            next_multi: middle.next_multi,
            next_multi_offset: middle.next_multi_offset,
            oldest_xid: middle.oldest.xid,
            oldest_xid_db: middle.oldest.xid_db,
            oldest_multi: middle.oldest.multi,
            oldest_multi_db: middle.oldest.multi_db,
            time: end.time,
            oldest_commit_ts_xid: end.oldest_commit_ts_xid,
            newest_commit_ts_xid: end.newest_commit_ts_xid,
            oldest_active_xid: end.oldest_active_xid,
        })
    }

    /// Appends the checkpoint.
    ///
    /// # Panics
    /// If the version is before 19 and `next_multi_offset` does not fit into 32 bits.
    pub fn encode(&self, version: PgVersion, out: &mut Vec<u8>) {
        Start {
            redo: self.redo,
            this_tli: self.this_tli,
            prev_tli: self.prev_tli,
            full_page_writes: self.full_page_writes,
            pad: Pad,
            wal_level: self.wal_level,
        }
        .encode(out);
        let oldest = Oldest {
            xid: self.oldest_xid,
            xid_db: self.oldest_xid_db,
            multi: self.oldest_multi,
            multi_db: self.oldest_multi_db,
        };
        if wide(version) {
            Middle19 {
                logical_decoding: self.logical_decoding,
                pad: Pad,
                next_xid: self.next_xid,
                next_oid: self.next_oid,
                next_multi: self.next_multi,
                next_multi_offset: self.next_multi_offset,
                oldest,
            }
            .encode(out);
        } else {
            Middle15 {
                next_xid: self.next_xid,
                next_oid: self.next_oid,
                next_multi: self.next_multi,
                next_multi_offset: u32::try_from(self.next_multi_offset)
                    .expect("before 19 there are 2^32 members"),
                oldest,
                pad: Pad,
            }
            .encode(out);
        }
        End {
            time: self.time,
            oldest_commit_ts_xid: self.oldest_commit_ts_xid,
            newest_commit_ts_xid: self.newest_commit_ts_xid,
            oldest_active_xid: self.oldest_active_xid,
            pad: Pad,
        }
        .encode(out);
    }
}

const fn wide(version: PgVersion) -> bool {
    version.major() >= 19
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKPOINT: CheckPoint = CheckPoint {
        redo: Lsn(0x300_0028),
        this_tli: TimelineId(2),
        prev_tli: TimelineId(1),
        full_page_writes: true,
        wal_level: 1,
        logical_decoding: false,
        next_xid: FullXid(740),
        next_oid: 24576,
        next_multi: 1,
        next_multi_offset: 7,
        oldest_xid: Xid(716),
        oldest_xid_db: 1,
        oldest_multi: 1,
        oldest_multi_db: 1,
        time: 1_700_000_000,
        oldest_commit_ts_xid: Xid(5),
        newest_commit_ts_xid: Xid(6),
        oldest_active_xid: Xid(739),
    };

    #[test]
    fn comes_back_and_every_truncation_is_an_error() {
        for version in PgVersion::ALL {
            let mut bytes = Vec::new();
            CHECKPOINT.encode(version, &mut bytes);
            assert_eq!(bytes.len(), CheckPoint::len(version));
            assert_eq!(CheckPoint::decode(version, &bytes), Ok(CHECKPOINT));
            for len in 0..bytes.len() {
                assert!(CheckPoint::decode(version, &bytes[..len]).is_err(), "{len}");
            }
        }
    }

    /// The offsets of fields in 19, and a multixact member number that does not fit into 32 bits.
    #[test]
    fn since_19_it_is_wider() {
        let checkpoint = CheckPoint {
            logical_decoding: true,
            next_multi_offset: 1 << 40,
            ..CHECKPOINT
        };
        let mut bytes = Vec::new();
        checkpoint.encode(PgVersion::V19, &mut bytes);
        assert_eq!((CheckPoint::len(PgVersion::V18), bytes.len()), (88, 96));
        assert_eq!(bytes[24..32], [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[48..56], (1_u64 << 40).to_le_bytes());
        assert_eq!(bytes[72..80], 1_700_000_000_i64.to_le_bytes());
        assert_eq!(bytes[88..92], 739_u32.to_le_bytes());
        assert_eq!(CheckPoint::decode(PgVersion::V19, &bytes), Ok(checkpoint));
    }
}
