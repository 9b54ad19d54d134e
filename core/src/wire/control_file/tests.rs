//! Tests of control files: round trips, offsets and damage.

use super::*;

fn fresh(version: PgVersion) -> ControlFile {
    ControlFile::fresh(
        version,
        &Geometry::STOCK,
        0x1122_3344_5566_7788,
        Lsn(0x0010_0028),
    )
}

#[test]
fn round_trip() {
    for version in PgVersion::ALL {
        let control = fresh(version);
        let bytes = control.encode(version);
        assert_eq!(bytes.len(), FILE_LEN);
        assert_eq!(ControlFile::decode(version, &bytes), Ok(control));
    }
}

/// The offsets of fields that other programs read.
#[test]
fn offsets_are_those_of_c() {
    for version in PgVersion::ALL {
        let mut control = fresh(version);
        control.state = DbState::InProduction;
        control.nonce = [9; 32];
        let bytes = control.encode(version);
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4"));
        let locks = if version < PgVersion::V19 { 64 } else { 128 };
        // Since 19 the checkpoint is longer, and the number of pages per SLRU segment precedes the
        // sizes.
        let (moved, sizes) = if version < PgVersion::V19 {
            (0, 0)
        } else {
            assert_eq!(number(232), 32);
            (8, 12)
        };
        for (at, expected) in [
            (16, 6),
            (32, 0x0010_0028),
            (40, 0x0010_0028),
            (128 + moved, 1000),
            (172 + moved, 1),
            (180 + moved, 100),
            (196 + moved, locks),
            (204 + moved, 8),
            (216 + moved, 8192),
            (220 + moved, 131_072),
            (224 + sizes, 8192),
            (228 + sizes, 1 << 20),
            (232 + sizes, 64),
            (236 + sizes, 32),
            (240 + sizes, 1996),
            (244 + sizes, 2048),
            (248 + sizes, 1),
        ] {
            assert_eq!(number(at), expected, "offset {at}");
        }
        assert_eq!(
            bytes[208 + moved..216 + moved],
            1_234_567.0_f64.to_le_bytes()
        );
        let nonce = match version {
            PgVersion::V15 | PgVersion::V16 | PgVersion::V17 => 256,
            PgVersion::V18 => 257,
            PgVersion::V19 => 273,
        };
        assert_eq!(bytes[nonce..nonce + 32], [9; 32]);
        assert!(bytes[crc_at(version) + 4..].iter().all(|&b| b == 0));
    }
}

#[test]
fn every_flipped_payload_byte_is_noticed() {
    let version = PgVersion::V18;
    let bytes = fresh(version).encode(version);
    for at in 0..296 {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        assert!(ControlFile::decode(version, &damaged).is_err(), "byte {at}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    let version = PgVersion::V15;
    let bytes = fresh(version).encode(version);
    for len in 0..292 {
        assert!(
            ControlFile::decode(version, &bytes[..len]).is_err(),
            "{len} bytes"
        );
    }
}

#[test]
fn the_version_is_checked_before_the_checksum() {
    let bytes = fresh(PgVersion::V15).encode(PgVersion::V15);
    assert_eq!(
        ControlFile::decode(PgVersion::V18, &bytes),
        Err(ControlFileError::Version {
            found: 1300,
            expected: 1800
        })
    );
}
