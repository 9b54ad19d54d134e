//! Main data of the XLOG resource manager. Mirrors pg_control.h, xlog_internal.h and xlogdesc.c.

pub use super::checkpoint::CheckPoint;
use super::layout::{Cursor, Field, Order};
use super::layout::{Pad, layout, newtypes};
use super::payload::PayloadError;
use super::record::{RMGR_INFO_MASK, RmgrId};
use crate::base::{Lsn, PgVersion, TimelineId, TimestampTz, WalLevel, Xid};
use alloc::vec::Vec;

/// A transaction id with its epoch (`FullTransactionId`). The epoch is the high half. The [`Xid`]
/// is the low half.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct FullXid(pub u64);

newtypes!(FullXid(u64));

impl FullXid {
    /// Combines the epoch and the id.
    #[must_use]
    pub const fn new(epoch: u32, xid: Xid) -> Self {
        Self((epoch as u64) << 32 | xid.0 as u64)
    }

    /// The low half.
    #[must_use]
    pub const fn xid(self) -> Xid {
        Xid((self.0 & 0xFFFF_FFFF) as u32)
    }

    /// The high half.
    #[must_use]
    pub const fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

layout! {
    /// Settings of the primary that a standby must know (`xl_parameter_change`).
    pub struct ParameterChange: Disk {
        /// `max_connections`
        pub max_connections: i32,
        /// `max_worker_processes`
        pub max_worker_processes: i32,
        /// `max_wal_senders`
        pub max_wal_senders: i32,
        /// `max_prepared_transactions`
        pub max_prepared_xacts: i32,
        /// `max_locks_per_transaction`
        pub max_locks_per_xact: i32,
        /// `wal_level` as a number.
        pub wal_level: i32,
        /// `wal_log_hints`
        pub wal_log_hints: bool,
        /// `track_commit_timestamp`
        pub track_commit_timestamp: bool,
        /// Padding.
        pub pad: Pad<2>,
    }
}

layout! {
    /// A named recovery target (`xl_restore_point`).
    pub struct RestorePoint: Disk {
        /// The time.
        pub time: TimestampTz,
        /// The name of the restore point, padded with NULs.
        pub name: [u8; 64],
    }
}

layout! {
    /// The end of recovery by a promotion (`xl_end_of_recovery`). Since 17 a [`WalLevelField`]
    /// follows the struct.
    pub struct EndOfRecovery: Disk {
        /// The time.
        pub time: TimestampTz,
        /// The new timeline.
        pub this_tli: TimelineId,
        /// The previous timeline.
        pub prev_tli: TimelineId,
    }
}

layout! {
    /// The part that follows [`EndOfRecovery`] since 17.
    pub struct WalLevelField: Disk {
        /// `wal_level` as a number.
        pub wal_level: i32,
        /// Padding.
        pub pad: Pad<4>,
    }
}

layout! {
    /// The incomplete record that was overwritten (`xl_overwrite_contrecord`).
    pub struct OverwriteContrecord: Disk {
        /// Start of the overwritten record.
        pub overwritten_lsn: Lsn,
        /// The time.
        pub time: TimestampTz,
    }
}

/// The `wal_level` for the number that files and records contain.
#[must_use]
pub const fn wal_level(number: i32) -> Option<WalLevel> {
    match number {
        0 => Some(WalLevel::Minimal),
        1 => Some(WalLevel::Replica),
        2 => Some(WalLevel::Logical),
        _ => None,
    }
}

/// The main data of an XLOG record, by record type.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum XlogRecord {
    /// XLOG_CHECKPOINT_SHUTDOWN
    CheckpointShutdown(CheckPoint),
    /// XLOG_CHECKPOINT_ONLINE
    CheckpointOnline(CheckPoint),
    /// XLOG_NOOP
    Noop,
    /// XLOG_NEXTOID: all OIDs below this OID may be in use.
    NextOid(u32),
    /// XLOG_SWITCH
    Switch,
    /// XLOG_BACKUP_END: the redo pointer at the start of the backup.
    BackupEnd(Lsn),
    /// XLOG_PARAMETER_CHANGE
    ParameterChange(ParameterChange),
    /// XLOG_RESTORE_POINT
    RestorePoint(RestorePoint),
    /// XLOG_FPW_CHANGE: the new `full_page_writes`.
    FpwChange(bool),
    /// XLOG_END_OF_RECOVERY. Since 17 it includes `wal_level` as a number.
    EndOfRecovery(EndOfRecovery, i32),
    /// XLOG_FPI_FOR_HINT
    FpiForHint,
    /// XLOG_FPI
    Fpi,
    /// XLOG_OVERWRITE_CONTRECORD
    OverwriteContrecord(OverwriteContrecord),
    /// XLOG_CHECKPOINT_REDO (since 17): `wal_level` as a number.
    CheckpointRedo(i32),
    /// XLOG_LOGICAL_DECODING_STATUS_CHANGE (since 19): whether WAL for logical decoding is written.
    LogicalDecodingStatus(bool),
}

impl XlogRecord {
    /// Decodes the main data of a record with this `xl_info`.
    ///
    /// # Errors
    /// The data is too short, or the type is unknown in this version.
    pub fn decode(version: PgVersion, info: u8, main: &[u8]) -> Result<Self, PayloadError> {
        let mut cursor = Cursor::disk(main);
        Ok(match (info & RMGR_INFO_MASK, version) {
            (0x00, _) => Self::CheckpointShutdown(CheckPoint::decode(version, main)?),
            (0x10, _) => Self::CheckpointOnline(CheckPoint::decode(version, main)?),
            (0x20, _) => Self::Noop,
            (0x30, _) => Self::NextOid(cursor.take("nextOid")?),
            (0x40, _) => Self::Switch,
            (0x50, _) => Self::BackupEnd(cursor.take("startpoint")?),
            (0x60, _) => Self::ParameterChange(ParameterChange::decode(main)?),
            (0x70, _) => Self::RestorePoint(RestorePoint::decode(main)?),
            (0x80, _) => Self::FpwChange(cursor.take("fpw")?),
            (0x90, PgVersion::V15 | PgVersion::V16) => {
                Self::EndOfRecovery(EndOfRecovery::decode(main)?, 0)
            }
            (0x90, PgVersion::V17 | PgVersion::V18 | PgVersion::V19) => {
                let end = cursor.take("xl_end_of_recovery")?;
                Self::EndOfRecovery(end, cursor.take::<WalLevelField>("wal_level")?.wal_level)
            }
            (0xA0, _) => Self::FpiForHint,
            (0xB0, _) => Self::Fpi,
            (0xD0, _) => Self::OverwriteContrecord(OverwriteContrecord::decode(main)?),
            (0xE0, PgVersion::V17 | PgVersion::V18 | PgVersion::V19) => {
                Self::CheckpointRedo(cursor.take("wal_level")?)
            }
            (0xF0, PgVersion::V19) => Self::LogicalDecodingStatus(cursor.take("enabled")?),
            (info, _) => {
                let rmid = RmgrId::XLOG;
                return Err(PayloadError::UnknownType { rmid, info });
            }
        })
    }

    /// The type bits of `xl_info`.
    #[must_use]
    pub const fn info(&self) -> u8 {
        match self {
            Self::CheckpointShutdown(_) => 0x00,
            Self::CheckpointOnline(_) => 0x10,
            Self::Noop => 0x20,
            Self::NextOid(_) => 0x30,
            Self::Switch => 0x40,
            Self::BackupEnd(_) => 0x50,
            Self::ParameterChange(_) => 0x60,
            Self::RestorePoint(_) => 0x70,
            Self::FpwChange(_) => 0x80,
            Self::EndOfRecovery(..) => 0x90,
            Self::FpiForHint => 0xA0,
            Self::Fpi => 0xB0,
            Self::OverwriteContrecord(_) => 0xD0,
            Self::CheckpointRedo(_) => 0xE0,
            Self::LogicalDecodingStatus(_) => 0xF0,
        }
    }

    /// The main data.
    ///
    /// # Panics
    /// If the version does not have this record type.
    #[must_use]
    pub fn encode(&self, version: PgVersion) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::CheckpointShutdown(checkpoint) | Self::CheckpointOnline(checkpoint) => {
                checkpoint.encode(version, &mut out);
            }
            Self::Noop | Self::Switch | Self::FpiForHint | Self::Fpi => {}
            Self::NextOid(oid) => oid.write(&mut out, Order::Disk),
            Self::BackupEnd(start) => start.write(&mut out, Order::Disk),
            Self::ParameterChange(change) => change.encode(&mut out),
            Self::RestorePoint(point) => point.encode(&mut out),
            Self::FpwChange(on) => on.write(&mut out, Order::Disk),
            Self::EndOfRecovery(end, wal_level) => {
                end.encode(&mut out);
                if version >= PgVersion::V17 {
                    let wal_level = *wal_level;
                    WalLevelField {
                        wal_level,
                        pad: Pad,
                    }
                    .encode(&mut out);
                }
            }
            Self::OverwriteContrecord(overwrite) => overwrite.encode(&mut out),
            Self::CheckpointRedo(wal_level) => {
                assert!(version >= PgVersion::V17, "no CHECKPOINT_REDO before 17");
                wal_level.write(&mut out, Order::Disk);
            }
            Self::LogicalDecodingStatus(enabled) => {
                assert!(version >= PgVersion::V19, "no such record before 19");
                enabled.write(&mut out, Order::Disk);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    pub(super) const CHECKPOINT: CheckPoint = CheckPoint {
        redo: Lsn(0x300_0028),
        this_tli: TimelineId(2),
        prev_tli: TimelineId(1),
        full_page_writes: true,
        wal_level: 1,
        logical_decoding: false,
        next_xid: FullXid::new(1, Xid(740)),
        next_oid: 24576,
        next_multi: 1,
        next_multi_offset: 0,
        oldest_xid: Xid(716),
        oldest_xid_db: 1,
        oldest_multi: 1,
        oldest_multi_db: 1,
        time: 1_700_000_000,
        oldest_commit_ts_xid: Xid(5),
        newest_commit_ts_xid: Xid(6),
        oldest_active_xid: Xid(739),
    };

    fn records() -> Vec<XlogRecord> {
        let (this_tli, prev_tli) = (TimelineId(2), TimelineId(1));
        let time = TimestampTz(7);
        vec![
            XlogRecord::CheckpointShutdown(CHECKPOINT),
            XlogRecord::CheckpointOnline(CHECKPOINT),
            XlogRecord::Noop,
            XlogRecord::NextOid(32768),
            XlogRecord::Switch,
            XlogRecord::BackupEnd(Lsn(0x28)),
            XlogRecord::ParameterChange(ParameterChange {
                max_connections: 100,
                max_worker_processes: 8,
                max_wal_senders: 10,
                max_prepared_xacts: 0,
                max_locks_per_xact: 64,
                wal_level: 1,
                wal_log_hints: false,
                track_commit_timestamp: true,
                pad: Pad,
            }),
            XlogRecord::RestorePoint(RestorePoint {
                time,
                name: [b'x'; 64],
            }),
            XlogRecord::FpwChange(true),
            XlogRecord::EndOfRecovery(
                EndOfRecovery {
                    time,
                    this_tli,
                    prev_tli,
                },
                1,
            ),
            XlogRecord::FpiForHint,
            XlogRecord::Fpi,
            XlogRecord::OverwriteContrecord(OverwriteContrecord {
                overwritten_lsn: Lsn(0x70_0090),
                time,
            }),
            XlogRecord::CheckpointRedo(1),
        ]
    }

    /// The lengths are those of records from real servers. A truncated record is an error. Bytes
    /// after a record are ignored.
    #[test]
    fn round_trips_and_truncations() {
        let lens = [88, 88, 0, 4, 0, 8, 28, 72, 1, 24, 0, 0, 16, 4];
        for (record, len) in records().into_iter().zip(lens) {
            let mut main = record.encode(PgVersion::V18);
            assert_eq!(main.len(), len, "{record:?}");
            for cut in 0..len {
                let cut = XlogRecord::decode(PgVersion::V18, record.info(), &main[..cut]);
                assert!(cut.is_err(), "{record:?}");
            }
            main.push(0xFF);
            let back = XlogRecord::decode(PgVersion::V18, record.info() | 3, &main);
            assert_eq!(back, Ok(record));
        }
    }

    /// Before 17, END_OF_RECOVERY is shorter, and there is no CHECKPOINT_REDO.
    #[test]
    fn versions_differ() {
        let end = &records()[9];
        let main = end.encode(PgVersion::V15);
        assert_eq!(main.len(), 16);
        let XlogRecord::EndOfRecovery(fields, 1) = *end else {
            panic!("{end:?}");
        };
        let back = XlogRecord::decode(PgVersion::V15, 0x90, &main);
        assert_eq!(back, Ok(XlogRecord::EndOfRecovery(fields, 0)));
        for (version, info) in [(PgVersion::V15, 0xE0), (PgVersion::V18, 0xC0)] {
            let error = XlogRecord::decode(version, info, &[0; 88]);
            let rmid = RmgrId::XLOG;
            assert_eq!(error, Err(PayloadError::UnknownType { rmid, info }));
        }
    }

    /// The offsets of fields that other programs read.
    #[test]
    fn checkpoint_offsets_are_those_of_c() {
        let mut bytes = Vec::new();
        CHECKPOINT.encode(PgVersion::V18, &mut bytes);
        assert_eq!(bytes.len(), CheckPoint::len(PgVersion::V18));
        assert_eq!(bytes[16..24], [1, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(bytes[24..32], [0xE4, 2, 0, 0, 1, 0, 0, 0]);
        assert_eq!(bytes[64..72], 1_700_000_000_u64.to_le_bytes());
        assert_eq!(bytes[80..88], [0xE3, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            (CHECKPOINT.next_xid.epoch(), CHECKPOINT.next_xid.xid()),
            (1, Xid(740))
        );
    }

    proptest! {
        #![proptest_config(crate::base::testing::cases(64))]

        #[test]
        fn any_bytes_decode_or_fail(info: u8, main in prop::collection::vec(any::<u8>(), 0..100)) {
            for version in PgVersion::ALL {
                if let Ok(record) = XlogRecord::decode(version, info, &main) {
                    let back = XlogRecord::decode(version, info, &record.encode(version));
                    prop_assert_eq!(back, Ok(record));
                }
            }
        }
    }
}
