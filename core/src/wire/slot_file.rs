//! The state file of a slot, `pg_replslot/NAME/state`. Mirrors ReplicationSlotOnDisk and
//! ReplicationSlotPersistentData of slot.h, and the checks of RestoreSlotFromDisk.

use super::layout::{Pad, layout};
use crate::base::slot_name::NAME_DATA_LEN;
use crate::base::{Lsn, PgVersion, Xid};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// Size of the file.
pub const FILE_LEN: usize = 200;

/// `SLOT_MAGIC`
const MAGIC: u32 = 0x0105_1CA1;

/// `ReplicationSlotOnDiskConstantSize`: the length of the part that is the same in all versions.
const CONSTANT_LEN: usize = 16;

/// `ReplicationSlotOnDiskNotChecksummedSize`
const NOT_CHECKSUMMED: usize = 8;

/// `ReplicationSlotOnDiskV2Size`: the length of the file after the first `CONSTANT_LEN` bytes.
const DATA_LEN: u32 = 184;

/// `SLOT_VERSION`
const fn file_version(version: PgVersion) -> u32 {
    match version {
        PgVersion::V15 => 2,
        PgVersion::V16 => 3,
        PgVersion::V17 | PgVersion::V18 | PgVersion::V19 => 5,
    }
}

layout! {
    /// The whole file. After `restart_lsn`, PostgreSQL 15 has the LSN `invalidated_at`. Later
    /// versions have the 32-bit number `invalidated` and four bytes of padding. Before 17, `synced`
    /// and `failover` are padding.
    struct OnDisk: Disk {
        magic: u32,
        checksum: u32,
        version: u32,
        length: u32,
        name: [u8; NAME_DATA_LEN],
        database: u32,
        persistency: u32,
        xmin: Xid,
        catalog_xmin: Xid,
        restart_lsn: Lsn,
        invalidated: u64,
        confirmed_flush: Lsn,
        two_phase_at: Lsn,
        two_phase: bool,
        plugin: [u8; NAME_DATA_LEN],
        synced: bool,
        failover: bool,
        pad: Pad<5>,
    }
}

const _: () = assert!(OnDisk::LEN == FILE_LEN);

/// `ReplicationSlotPersistency`
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Persistency(pub u32);

impl Persistency {
    /// `RS_PERSISTENT`. Only persistent slots survive a restart.
    pub const PERSISTENT: Self = Self(0);
    /// `RS_EPHEMERAL`
    pub const EPHEMERAL: Self = Self(1);
    /// `RS_TEMPORARY`
    pub const TEMPORARY: Self = Self(2);
}

/// The content of a slot file.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct SlotFile {
    /// The slot's name.
    pub name: String,
    /// The database. 0 for a physical slot.
    pub database: u32,
    /// The persistency.
    pub persistency: Persistency,
    /// The oldest transaction that the slot requires.
    pub xmin: Xid,
    /// The oldest transaction whose catalog rows the slot requires.
    pub catalog_xmin: Xid,
    /// The slot requires WAL from this position on. 0 if the slot requires no WAL.
    pub restart_lsn: Lsn,
    /// PostgreSQL 15: the value of `restart_lsn` before the slot was invalidated.
    pub invalidated_at: Lsn,
    /// Since 16: `ReplicationSlotInvalidationCause`.
    pub cause: u32,
    /// Logical slots: the position that the client has confirmed.
    pub confirmed_flush: Lsn,
    /// Logical slots: the position from which prepared transactions are decoded.
    pub two_phase_at: Lsn,
    /// Logical slots: whether prepared transactions are decoded.
    pub two_phase: bool,
    /// Logical slots: the output plugin.
    pub plugin: String,
    /// Since 17: whether the slot is synchronized from a primary.
    pub synced: bool,
    /// Since 17: whether the slot is to be synchronized to standbys.
    pub failover: bool,
}

/// The reason why a slot file is not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SlotFileError {
    /// The file is too short.
    Short {
        /// Number of bytes that were read.
        got: usize,
        /// Number of bytes that are required.
        wanted: usize,
    },
    /// The magic number is wrong. The file is not a slot file.
    Magic(u32),
    /// The file is from another major version.
    Version(u32),
    /// The length field does not have the value of this version.
    Length(u32),
    /// The checksum is wrong.
    Checksum {
        /// The computed checksum.
        found: u32,
        /// The checksum in the file.
        expected: u32,
    },
    /// A name is not terminated or is not valid text.
    Name(&'static str),
}

impl SlotFileError {
    /// The error text with the path of the file.
    #[must_use]
    pub const fn of(self, path: &str) -> impl fmt::Display {
        Text { error: self, path }
    }
}

struct Text<'a> {
    error: SlotFileError,
    path: &'a str,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path;
        match self.error {
            SlotFileError::Short { got, wanted } => {
                write!(f, "could not read file \"{path}\": read {got} of {wanted}")
            }
            SlotFileError::Magic(found) => write!(
                f,
                "replication slot file \"{path}\" has wrong magic number: {found} instead of {MAGIC}"
            ),
            SlotFileError::Version(found) => write!(
                f,
                "replication slot file \"{path}\" has unsupported version {found}"
            ),
            SlotFileError::Length(found) => write!(
                f,
                "replication slot file \"{path}\" has corrupted length {found}"
            ),
            SlotFileError::Checksum { found, expected } => write!(
                f,
                "checksum mismatch for replication slot file \"{path}\": is {found}, should be {expected}"
            ),
            SlotFileError::Name(field) => {
                write!(f, "replication slot file \"{path}\" has invalid {field}")
            }
        }
    }
}

impl SlotFile {
    /// Decodes the file, and checks it in PostgreSQL's order.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn decode(version: PgVersion, bytes: &[u8]) -> Result<Self, SlotFileError> {
        let short = |got, wanted| SlotFileError::Short { got, wanted };
        let word = |at: usize| -> Option<u32> {
            let word = bytes.get(at..at + 4)?;
            Some(u32::from_le_bytes(word.try_into().ok()?))
        };
        let (Some(magic), Some(found_version), Some(length)) = (word(0), word(8), word(12)) else {
            return Err(short(bytes.len(), CONSTANT_LEN));
        };
        if magic != MAGIC {
            return Err(SlotFileError::Magic(magic));
        }
        if found_version != file_version(version) {
            return Err(SlotFileError::Version(found_version));
        }
        if length != DATA_LEN {
            return Err(SlotFileError::Length(length));
        }
        let Ok(disk) = OnDisk::decode(bytes) else {
            return Err(short(bytes.len() - CONSTANT_LEN, FILE_LEN - CONSTANT_LEN));
        };
        let found = crc32c::crc32c(&bytes[NOT_CHECKSUMMED..FILE_LEN]);
        if found != disk.checksum {
            let expected = disk.checksum;
            return Err(SlotFileError::Checksum { found, expected });
        }
        Self::from_disk(version, &disk)
    }

    fn from_disk(version: PgVersion, disk: &OnDisk) -> Result<Self, SlotFileError> {
        let (invalidated_at, cause) = match version {
            PgVersion::V15 => (Lsn(disk.invalidated), 0),
            PgVersion::V16 | PgVersion::V17 | PgVersion::V18 | PgVersion::V19 => {
                let low = disk.invalidated & u64::from(u32::MAX);
                (Lsn::INVALID, u32::try_from(low).expect("cut to 32 bits"))
            }
        };
        let later = version >= PgVersion::V17;
        Ok(Self {
            name: text(&disk.name).ok_or(SlotFileError::Name("name"))?,
            database: disk.database,
            persistency: Persistency(disk.persistency),
            xmin: disk.xmin,
            catalog_xmin: disk.catalog_xmin,
            restart_lsn: disk.restart_lsn,
            invalidated_at,
            cause,
            confirmed_flush: disk.confirmed_flush,
            two_phase_at: disk.two_phase_at,
            two_phase: disk.two_phase,
            plugin: text(&disk.plugin).ok_or(SlotFileError::Name("plugin"))?,
            synced: later && disk.synced,
            failover: later && disk.failover,
        })
    }

    /// The whole file, with its checksum.
    ///
    /// # Panics
    /// If a name is too long for a slot.
    #[must_use]
    pub fn encode(&self, version: PgVersion) -> Vec<u8> {
        let invalidated = match version {
            PgVersion::V15 => self.invalidated_at.0,
            PgVersion::V16 | PgVersion::V17 | PgVersion::V18 | PgVersion::V19 => self.cause.into(),
        };
        let mut out = Vec::with_capacity(FILE_LEN);
        OnDisk {
            magic: MAGIC,
            checksum: 0,
            version: file_version(version),
            length: DATA_LEN,
            name: padded(&self.name),
            database: self.database,
            persistency: self.persistency.0,
            xmin: self.xmin,
            catalog_xmin: self.catalog_xmin,
            restart_lsn: self.restart_lsn,
            invalidated,
            confirmed_flush: self.confirmed_flush,
            two_phase_at: self.two_phase_at,
            two_phase: self.two_phase,
            plugin: padded(&self.plugin),
            synced: self.synced,
            failover: self.failover,
            pad: Pad,
        }
        .encode(&mut out);
        let checksum = crc32c::crc32c(&out[NOT_CHECKSUMMED..]);
        out[4..NOT_CHECKSUMMED].copy_from_slice(&checksum.to_le_bytes());
        out
    }
}

/// The text of a `NameData`. The bytes must contain a NUL.
fn text(bytes: &[u8; NAME_DATA_LEN]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    core::str::from_utf8(&bytes[..end])
        .ok()
        .map(ToString::to_string)
}

fn padded(text: &str) -> [u8; NAME_DATA_LEN] {
    assert!(
        text.len() < NAME_DATA_LEN,
        "names are truncated or refused before"
    );
    let mut bytes = [0; NAME_DATA_LEN];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VERSIONS: [PgVersion; 2] = [PgVersion::V15, PgVersion::V18];

    fn slot() -> SlotFile {
        SlotFile {
            name: "standby_1".into(),
            restart_lsn: Lsn(0x300_0028),
            ..SlotFile::default()
        }
    }

    /// The fields are at the same offsets as in PostgreSQL. Up to `restart_lsn` the offsets are the
    /// same in all versions.
    #[test]
    fn fields_are_at_postgresqls_offsets() {
        for (version, number) in [(PgVersion::V15, 2), (PgVersion::V18, 5)] {
            let lost = SlotFile {
                restart_lsn: Lsn::INVALID,
                invalidated_at: Lsn(7),
                cause: 1,
                persistency: Persistency::TEMPORARY,
                ..slot()
            };
            for file in [slot(), lost] {
                let bytes = file.encode(version);
                assert_eq!(bytes.len(), FILE_LEN);
                assert_eq!(bytes[..4], 0x0105_1CA1_u32.to_le_bytes());
                assert_eq!(bytes[8..16], [number, 0, 0, 0, 184, 0, 0, 0]);
                assert_eq!(&bytes[16..26], b"standby_1\0");
                assert_eq!(bytes[84], u8::try_from(file.persistency.0).unwrap());
                assert_eq!(bytes[96..104], file.restart_lsn.0.to_le_bytes());
                let at_104 = match version {
                    PgVersion::V15 => file.invalidated_at.0,
                    PgVersion::V16 | PgVersion::V17 | PgVersion::V18 | PgVersion::V19 => {
                        file.cause.into()
                    }
                };
                assert_eq!(bytes[104..112], at_104.to_le_bytes());
            }
        }
    }

    #[test]
    fn a_file_of_another_kind_or_version_is_named() {
        let path = "pg_replslot/s/state";
        let good = slot().encode(PgVersion::V15);
        let damaged = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let stored = u32::from_le_bytes(good[4..8].try_into().unwrap());
        for (bytes, text) in [
            (
                damaged(0, 0),
                "replication slot file \"pg_replslot/s/state\" has wrong magic number: 17112064 instead of 17112225"
                    .into(),
            ),
            (
                slot().encode(PgVersion::V18),
                "replication slot file \"pg_replslot/s/state\" has unsupported version 5".into(),
            ),
            (
                damaged(12, 9),
                "replication slot file \"pg_replslot/s/state\" has corrupted length 9".into(),
            ),
            (
                good[..15].to_vec(),
                "could not read file \"pg_replslot/s/state\": read 15 of 16".into(),
            ),
            (
                good[..100].to_vec(),
                "could not read file \"pg_replslot/s/state\": read 84 of 184".into(),
            ),
            (
                damaged(96, 0),
                alloc::format!(
                    "checksum mismatch for replication slot file \"pg_replslot/s/state\": is {}, should be {stored}",
                    crc32c::crc32c(&damaged(96, 0)[8..])
                ),
            ),
        ] {
            let text: String = text;
            let error = SlotFile::decode(PgVersion::V15, &bytes).unwrap_err();
            assert_eq!(error.of(path).to_string(), text);
        }
    }

    /// Names are checked even if the checksum is valid.
    #[test]
    fn names_that_are_not_text_are_refused() {
        for (at, field) in [(16, "name"), (129, "plugin")] {
            for byte in [0xFF, b'x'] {
                let mut bytes = slot().encode(PgVersion::V18);
                bytes[at..at + 64].fill(byte);
                let checksum = crc32c::crc32c(&bytes[8..]);
                bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
                let error = SlotFile::decode(PgVersion::V18, &bytes);
                assert_eq!(error, Err(SlotFileError::Name(field)));
            }
        }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        for version in VERSIONS {
            let good = slot().encode(version);
            for at in 0..FILE_LEN {
                let mut bytes = good.clone();
                bytes[at] ^= 0x10;
                assert!(SlotFile::decode(version, &bytes).is_err(), "byte {at}");
                assert!(SlotFile::decode(version, &good[..at]).is_err());
            }
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            (name, plugin) in ("[a-z0-9_]{1,63}", "[a-z]{0,63}"),
            (database, persistency, xmin, catalog_xmin) in any::<(u32, u32, u32, u32)>(),
            (restart_lsn, invalid, confirmed_flush, two_phase_at) in any::<(u64, u32, u64, u64)>(),
            (two_phase, synced, failover, later) in any::<(bool, bool, bool, bool)>(),
        ) {
            let version = if later { PgVersion::V18 } else { PgVersion::V15 };
            let file = SlotFile {
                name,
                database,
                persistency: Persistency(persistency),
                xmin: Xid(xmin),
                catalog_xmin: Xid(catalog_xmin),
                restart_lsn: Lsn(restart_lsn),
                invalidated_at: if later { Lsn::INVALID } else { Lsn(invalid.into()) },
                cause: if later { invalid } else { 0 },
                confirmed_flush: Lsn(confirmed_flush),
                two_phase_at: Lsn(two_phase_at),
                two_phase,
                plugin,
                synced: later && synced,
                failover: later && failover,
            };
            prop_assert_eq!(SlotFile::decode(version, &file.encode(version)), Ok(file));
        }

        #[test]
        fn garbage_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), later in any::<bool>()) {
            let version = if later { PgVersion::V18 } else { PgVersion::V15 };
            prop_assert!(SlotFile::decode(version, &bytes).is_err());
        }
    }
}
