//! The control file, `global/pg_control`. Mirrors pg_control.h (ControlFileData) and the checks of
//! ReadControlFile.

use super::layout::{Cursor, Pad, Short, layout};
use super::xlog_records::{CheckPoint, FullXid};
use crate::base::{Geometry, Lsn, PgVersion, TimelineId, WalLevel, Xid};
use alloc::vec::Vec;
use core::fmt;

/// The size of the file (`PG_CONTROL_FILE_SIZE`). All bytes after the fields are zero.
pub const FILE_LEN: usize = 8192;

/// `FLOATFORMAT_VALUE`, 1234567.0
const FLOAT_FORMAT: u64 = 0x4132_D687_0000_0000;

/// `TOAST_MAX_CHUNK_SIZE`. Four chunks must fit on a page with its line pointers. The size is
/// rounded down, and the tuple and chunk headers are subtracted.
const fn toast_max_chunk_size(blcksz: u32) -> u32 {
    (((blcksz - 40) / 4) & !7) - 36
}

/// `LOBLKSIZE`
const fn loblksize(blcksz: u32) -> u32 {
    blcksz / 4
}

/// `DBState`
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DbState {
    /// Never started.
    Startup = 0,
    /// Cleanly shut down.
    ShutDown = 1,
    /// A standby that was cleanly shut down.
    ShutDownInRecovery = 2,
    /// Shutting down.
    ShuttingDown = 3,
    /// In crash recovery.
    InCrashRecovery = 4,
    /// The server is in archive recovery, or is a standby.
    InArchiveRecovery = 5,
    /// Running.
    InProduction = 6,
}

impl DbState {
    const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Startup,
            1 => Self::ShutDown,
            2 => Self::ShutDownInRecovery,
            3 => Self::ShuttingDown,
            4 => Self::InCrashRecovery,
            5 => Self::InArchiveRecovery,
            6 => Self::InProduction,
            _ => return None,
        })
    }
}

/// The text that pg_controldata prints.
impl fmt::Display for DbState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Startup => "starting up",
            Self::ShutDown => "shut down",
            Self::ShutDownInRecovery => "shut down in recovery",
            Self::ShuttingDown => "shutting down",
            Self::InCrashRecovery => "in crash recovery",
            Self::InArchiveRecovery => "in archive recovery",
            Self::InProduction => "in production",
        })
    }
}

layout! {
    /// The fields before the [`CheckPoint`].
    struct Head: Disk {
        system_identifier: u64,
        control_version: u32,
        catalog_version: u32,
        state: u32,
        pad: Pad<4>,
        time: i64,
        checkpoint: Lsn,
    }
}

layout! {
    /// The fields after the [`CheckPoint`]. They are the same in all versions.
    struct Common: Disk {
        unlogged_lsn: Lsn,
        min_recovery_point: Lsn,
        min_recovery_point_tli: TimelineId,
        pad2: Pad<4>,
        backup_start: Lsn,
        backup_end: Lsn,
        backup_end_required: bool,
        pad3: Pad<3>,
        wal_level: i32,
        wal_log_hints: bool,
        pad4: Pad<3>,
        max_connections: u32,
        max_worker_processes: u32,
        max_wal_senders: u32,
        max_prepared_xacts: u32,
        max_locks_per_xact: u32,
        track_commit_timestamp: bool,
        pad5: Pad<3>,
        max_align: u32,
        float_format: u64,
        blcksz: u32,
        relseg_size: u32,
    }
}

layout! {
    /// The fields after [`Common`]. They are the same in all versions. Since 19 the number of pages
    /// per SLRU segment precedes them.
    struct Sizes: Disk {
        xlog_blcksz: u32,
        xlog_seg_size: u32,
        name_data_len: u32,
        index_max_keys: u32,
        toast_max_chunk_size: u32,
        loblksize: u32,
        float8_by_val: bool,
        pad: Pad<3>,
        data_checksum_version: u32,
    }
}

/// `SLRU_PAGES_PER_SEGMENT`
const SLRU_PAGES: u32 = 32;

/// The control file.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ControlFile {
    /// The system identifier.
    pub system_identifier: u64,
    /// The state of the server when it last wrote the file.
    pub state: DbState,
    /// When the file was last written, in Unix seconds.
    pub time: i64,
    /// Start of the last checkpoint record.
    pub checkpoint: Lsn,
    /// A copy of the last checkpoint record.
    pub checkpoint_copy: CheckPoint,
    /// Counter for unlogged relations.
    pub unlogged_lsn: Lsn,
    /// A standby is consistent only after it has replayed WAL up to this position.
    pub min_recovery_point: Lsn,
    /// The timeline of `min_recovery_point`.
    pub min_recovery_point_tli: TimelineId,
    /// The redo pointer of the base backup that is being recovered.
    pub backup_start: Lsn,
    /// The end of the base backup that is being recovered.
    pub backup_end: Lsn,
    /// Whether the end record of the base backup must be replayed.
    pub backup_end_required: bool,
    /// `wal_level` as a number.
    pub wal_level: i32,
    /// `wal_log_hints`
    pub wal_log_hints: bool,
    /// `max_connections`
    pub max_connections: u32,
    /// `max_worker_processes`
    pub max_worker_processes: u32,
    /// `max_wal_senders`
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`
    pub max_prepared_xacts: u32,
    /// `max_locks_per_transaction`
    pub max_locks_per_xact: u32,
    /// `track_commit_timestamp`
    pub track_commit_timestamp: bool,
    /// Data page size.
    pub blcksz: u32,
    /// WAL page size.
    pub xlog_blcksz: u32,
    /// WAL segment size.
    pub xlog_seg_size: u32,
    /// 1 if data pages have checksums.
    pub data_checksum_version: u32,
    /// The checksum version at initdb, which pg_checksums does not change. It is stored since 19.
    /// Before 19 this is a copy of `data_checksum_version`.
    pub first_checksum_version: u32,
    /// Since 18: whether `char` is signed.
    pub default_char_signedness: bool,
    /// A random value for mock authentication.
    pub nonce: [u8; 32],
}

/// The reason why a control file is not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum ControlFileError {
    /// The file is too short.
    #[error("could not read file \"global/pg_control\": {0}")]
    Short(#[from] Short),
    /// The file is from another major version.
    #[error(
        "database files are incompatible with server: The database cluster was initialized with \
         PG_CONTROL_VERSION {found}, but the server was compiled with PG_CONTROL_VERSION {expected}."
    )]
    Version {
        /// The value in the file.
        found: u32,
        /// The value that this server requires.
        expected: u32,
    },
    /// The checksum is wrong.
    #[error("incorrect checksum in control file: {found:08X}, expected {expected:08X}")]
    Checksum {
        /// The checksum in the file.
        found: u32,
        /// The computed checksum.
        expected: u32,
    },
    /// A build-time constant differs.
    #[error(
        "database files are incompatible with server: The database cluster was initialized with \
         {field} {found}, but the server was compiled with {field} {expected}."
    )]
    Incompatible {
        /// The field.
        field: &'static str,
        /// The value in the file.
        found: u64,
        /// The value that this server requires.
        expected: u64,
    },
    /// An unknown state.
    #[error("control file contains invalid database cluster state {0}")]
    State(u32),
    /// A size that is not possible.
    #[error("invalid {field} in control file: {found}")]
    Size {
        /// The field.
        field: &'static str,
        /// The value in the file.
        found: u32,
    },
}

/// `PG_CONTROL_VERSION` and `CATALOG_VERSION_NO`
pub(crate) const fn versions(version: PgVersion) -> (u32, u32) {
    match version {
        PgVersion::V15 => (1300, 202_209_061),
        PgVersion::V16 => (1300, 202_307_071),
        PgVersion::V17 => (1700, 202_406_281),
        PgVersion::V18 => (1800, 202_506_291),
        PgVersion::V19 => (1905, 202_610_061),
    }
}

/// The offset of the checksum. The checksum covers all bytes before it.
const fn crc_at(version: PgVersion) -> usize {
    match version {
        PgVersion::V15 | PgVersion::V16 | PgVersion::V17 => 288,
        PgVersion::V18 => 292,
        PgVersion::V19 => 308,
    }
}

/// Checks the build-time constants of the server that wrote the file.
fn check_build(
    catalog: (u32, u32),
    common: &Common,
    slru_pages: u32,
    sizes: &Sizes,
) -> Result<(), ControlFileError> {
    let (found, expected) = (u64::from(catalog.0), u64::from(catalog.1));
    equal([
        ("CATALOG_VERSION_NO", found, expected),
        ("MAXALIGN", common.max_align.into(), 8),
        ("FLOATFORMAT", common.float_format, FLOAT_FORMAT),
        ("RELSEG_SIZE", common.relseg_size.into(), 131_072),
        // Since 19.
        (
            "SLRU_PAGES_PER_SEGMENT",
            slru_pages.into(),
            SLRU_PAGES.into(),
        ),
        ("NAMEDATALEN", sizes.name_data_len.into(), 64),
        ("INDEX_MAX_KEYS", sizes.index_max_keys.into(), 32),
        ("USE_FLOAT8_BYVAL", sizes.float8_by_val.into(), 1),
    ])
}

/// Checks the page and segment sizes, and the values that are computed from them.
fn check_sizes(blcksz: u32, sizes: &Sizes) -> Result<(), ControlFileError> {
    if let Err(e) = Geometry::new(sizes.xlog_blcksz, sizes.xlog_seg_size, blcksz, 512) {
        return Err(ControlFileError::Size {
            field: e.field,
            found: e.value,
        });
    }
    let (chunk, block) = (sizes.toast_max_chunk_size, sizes.loblksize);
    equal([
        (
            "TOAST_MAX_CHUNK_SIZE",
            chunk.into(),
            toast_max_chunk_size(blcksz).into(),
        ),
        ("LOBLKSIZE", block.into(), loblksize(blcksz).into()),
    ])
}

/// Compares constants. Returns an error for the first constant that differs.
fn equal<const N: usize>(constants: [(&'static str, u64, u64); N]) -> Result<(), ControlFileError> {
    for (field, found, expected) in constants {
        if found != expected {
            return Err(ControlFileError::Incompatible {
                field,
                found,
                expected,
            });
        }
    }
    Ok(())
}

fn check_crc(bytes: &[u8], at: usize) -> Result<(), ControlFileError> {
    let stored = bytes.get(at..at + 4).and_then(|crc| crc.try_into().ok());
    let short = Short {
        field: "crc",
        need: at + 4,
        have: bytes.len(),
    };
    let found = u32::from_le_bytes(stored.ok_or(short)?);
    let expected = crc32c::crc32c(&bytes[..at]);
    if found != expected {
        return Err(ControlFileError::Checksum { found, expected });
    }
    Ok(())
}

impl ControlFile {
    /// Decodes and checks the file. The order of the checks is PostgreSQL's: version, checksum,
    /// build-time constants, sizes.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn decode(version: PgVersion, bytes: &[u8]) -> Result<Self, ControlFileError> {
        let mut cursor = Cursor::disk(bytes);
        let head: Head = cursor.take("pg_control")?;
        let (expected, catalog) = versions(version);
        if head.control_version != expected {
            let found = head.control_version;
            return Err(ControlFileError::Version { found, expected });
        }
        check_crc(bytes, crc_at(version))?;
        let checkpoint = cursor.bytes("checkPointCopy", CheckPoint::len(version))?;
        let common: Common = cursor.take("unloggedLSN")?;
        let slru_pages = if version < PgVersion::V19 {
            SLRU_PAGES
        } else {
            cursor.take("slru_pages_per_segment")?
        };
        let sizes: Sizes = cursor.take("xlog_blcksz")?;
        check_build((head.catalog_version, catalog), &common, slru_pages, &sizes)?;
        check_sizes(common.blcksz, &sizes)?;
        // Since 19 this word has the checksum version from initdb. The next word has the current
        // checksum version.
        let first_checksum_version = sizes.data_checksum_version;
        let data_checksum_version = if version < PgVersion::V19 {
            first_checksum_version
        } else {
            cursor.take("data_checksum_version")?
        };
        let default_char_signedness =
            version >= PgVersion::V18 && cursor.take("default_char_signedness")?;
        Ok(Self {
            system_identifier: head.system_identifier,
            state: DbState::from_number(head.state).ok_or(ControlFileError::State(head.state))?,
            time: head.time,
            checkpoint: head.checkpoint,
            checkpoint_copy: CheckPoint::decode(version, checkpoint)?,
            unlogged_lsn: common.unlogged_lsn,
            min_recovery_point: common.min_recovery_point,
            min_recovery_point_tli: common.min_recovery_point_tli,
            backup_start: common.backup_start,
            backup_end: common.backup_end,
            backup_end_required: common.backup_end_required,
            wal_level: common.wal_level,
            wal_log_hints: common.wal_log_hints,
            max_connections: common.max_connections,
            max_worker_processes: common.max_worker_processes,
            max_wal_senders: common.max_wal_senders,
            max_prepared_xacts: common.max_prepared_xacts,
            max_locks_per_xact: common.max_locks_per_xact,
            track_commit_timestamp: common.track_commit_timestamp,
            blcksz: common.blcksz,
            xlog_blcksz: sizes.xlog_blcksz,
            xlog_seg_size: sizes.xlog_seg_size,
            data_checksum_version,
            first_checksum_version,
            default_char_signedness,
            nonce: cursor.take("mock_authentication_nonce")?,
        })
    }

    /// The whole file, with its checksum.
    #[must_use]
    pub fn encode(&self, version: PgVersion) -> Vec<u8> {
        let (control_version, catalog_version) = versions(version);
        let mut out = Vec::with_capacity(FILE_LEN);
        Head {
            system_identifier: self.system_identifier,
            control_version,
            catalog_version,
            state: self.state as u32,
            pad: Pad,
            time: self.time,
            checkpoint: self.checkpoint,
        }
        .encode(&mut out);
        self.checkpoint_copy.encode(version, &mut out);
        self.common().encode(&mut out);
        // This field exists since 19.
        if version >= PgVersion::V19 {
            out.extend_from_slice(&SLRU_PAGES.to_le_bytes());
        }
        self.sizes(version).encode(&mut out);
        // This field exists since 19.
        if version >= PgVersion::V19 {
            out.extend_from_slice(&self.data_checksum_version.to_le_bytes());
        }
        // This field exists since 18.
        if version >= PgVersion::V18 {
            out.push(u8::from(self.default_char_signedness));
        }
        out.extend_from_slice(&self.nonce);
        out.resize(crc_at(version), 0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.resize(FILE_LEN, 0);
        out
    }

    const fn common(&self) -> Common {
        Common {
            unlogged_lsn: self.unlogged_lsn,
            min_recovery_point: self.min_recovery_point,
            min_recovery_point_tli: self.min_recovery_point_tli,
            pad2: Pad,
            backup_start: self.backup_start,
            backup_end: self.backup_end,
            backup_end_required: self.backup_end_required,
            pad3: Pad,
            wal_level: self.wal_level,
            wal_log_hints: self.wal_log_hints,
            pad4: Pad,
            max_connections: self.max_connections,
            max_worker_processes: self.max_worker_processes,
            max_wal_senders: self.max_wal_senders,
            max_prepared_xacts: self.max_prepared_xacts,
            max_locks_per_xact: self.max_locks_per_xact,
            track_commit_timestamp: self.track_commit_timestamp,
            pad5: Pad,
            max_align: 8,
            float_format: FLOAT_FORMAT,
            blcksz: self.blcksz,
            relseg_size: 131_072,
        }
    }

    fn sizes(&self, version: PgVersion) -> Sizes {
        Sizes {
            xlog_blcksz: self.xlog_blcksz,
            xlog_seg_size: self.xlog_seg_size,
            name_data_len: 64,
            index_max_keys: 32,
            toast_max_chunk_size: toast_max_chunk_size(self.blcksz),
            loblksize: loblksize(self.blcksz),
            float8_by_val: true,
            pad: Pad,
            data_checksum_version: if version < PgVersion::V19 {
                self.data_checksum_version
            } else {
                self.first_checksum_version
            },
        }
    }

    /// The file that initdb writes. The cluster is cleanly shut down, and its first checkpoint is
    /// at `checkpoint`.
    #[must_use]
    pub fn fresh(
        version: PgVersion,
        geometry: &Geometry,
        system_identifier: u64,
        checkpoint: Lsn,
    ) -> Self {
        let wal_level = WalLevel::Replica as i32;
        Self {
            system_identifier,
            state: DbState::ShutDown,
            time: 0,
            checkpoint,
            checkpoint_copy: CheckPoint {
                redo: checkpoint,
                this_tli: TimelineId(1),
                prev_tli: TimelineId(1),
                full_page_writes: true,
                wal_level: if version < PgVersion::V17 {
                    0
                } else {
                    wal_level
                },
                logical_decoding: false,
                next_xid: FullXid::new(0, Xid(3)),
                next_oid: 16384,
                next_multi: 1,
                // Since 19, multixact members are numbered from 1.
                next_multi_offset: u64::from(version >= PgVersion::V19),
                oldest_xid: Xid(3),
                oldest_xid_db: 1,
                oldest_multi: 1,
                oldest_multi_db: 1,
                time: 0,
                oldest_commit_ts_xid: Xid::INVALID,
                newest_commit_ts_xid: Xid::INVALID,
                oldest_active_xid: Xid::INVALID,
            },
            unlogged_lsn: Lsn(1000),
            min_recovery_point: Lsn::INVALID,
            min_recovery_point_tli: TimelineId(0),
            backup_start: Lsn::INVALID,
            backup_end: Lsn::INVALID,
            backup_end_required: false,
            wal_level,
            wal_log_hints: false,
            max_connections: 100,
            max_worker_processes: 8,
            max_wal_senders: 10,
            max_prepared_xacts: 0,
            // The default was raised in 19.
            max_locks_per_xact: if version >= PgVersion::V19 { 128 } else { 64 },
            track_commit_timestamp: false,
            blcksz: geometry.data_page,
            xlog_blcksz: geometry.wal_page,
            xlog_seg_size: geometry.segment,
            data_checksum_version: 0,
            first_checksum_version: 0,
            default_char_signedness: version >= PgVersion::V18,
            nonce: [0; 32],
        }
    }
}

#[cfg(test)]
mod tests;
