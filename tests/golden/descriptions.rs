//! Records of all types of 15 to 19, with the output of pg_waldump of the same version.
//!
//! `ci/waldump-kit golden` makes the files. Each record has a line with its position and its bytes
//! in hexadecimal, followed by the output of pg_waldump.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use walsim_core::base::{Lsn, PgVersion};
use walsim_core::wire::describe::Text;
use walsim_core::wire::record::RecordParts;

/// A record and its description.
struct Sample {
    version: PgVersion,
    lsn: Lsn,
    bytes: Vec<u8>,
    line: String,
}

impl Sample {
    fn all(version: PgVersion) -> Vec<Self> {
        let name = format!("golden/descriptions/{}.txt", version.major());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
        let text = fs::read_to_string(path.join(&name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let lines: Vec<_> = text.lines().collect();
        let samples = lines.chunks_exact(2).map(|lines| {
            let (lsn, hex) = lines[0].split_once(' ').expect("a position and bytes");
            let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("digits");
            Self {
                version,
                lsn: Lsn(u64::from_str_radix(lsn, 16).expect("digits")),
                bytes: (0..hex.len()).step_by(2).map(digits).collect(),
                line: lines[1].into(),
            }
        });
        samples.collect()
    }

    /// The record type and description for these bytes. Returns `None` if the bytes are not a valid
    /// record.
    fn describe(&self, bytes: &[u8]) -> Option<Result<Vec<u8>, String>> {
        let parts = RecordParts::decode(bytes, [self.lsn; 3], 8192).ok()?;
        let mut text = Text::default();
        let header = &parts.header;
        match header.rmid.record_type(self.version, header.info) {
            Some(name) => text.add(name),
            None => text.add(format!("UNKNOWN ({:x})", header.rmgr_info())),
        };
        text.add(" ");
        let described = text.describe(self.version, &parts.view(bytes));
        Some(described.map(|()| text.bytes).map_err(|e| e.to_string()))
    }

    fn listed(&self) -> &str {
        let (_, rest) = self.line.split_once(", desc: ").expect("a description");
        rest.split_once(", blkref #").map_or(rest, |(desc, _)| desc)
    }
}

#[test]
fn every_type_is_described_as_by_pg_waldump() {
    for version in PgVersion::ALL {
        let mut types = BTreeSet::new();
        for sample in Sample::all(version) {
            let ours = sample.describe(&sample.bytes).expect("a record");
            let ours = ours.unwrap_or_else(|e| panic!("{version:?} at {}: {e}", sample.lsn));
            let ours = String::from_utf8(ours).expect("the samples are ASCII");
            assert_eq!(ours, sample.listed(), "{version:?} at {}", sample.lsn);
            let name = ours.split(' ').next().map(str::to_owned);
            types.insert((sample.line[6..17].to_owned(), name));
        }
        let managers: BTreeSet<_> = types.iter().map(|(manager, _)| manager).collect();
        let (expected, least) = match version {
            // The server of version 16 had no extension that writes Generic records.
            PgVersion::V16 => (21, 115),
            PgVersion::V15 | PgVersion::V17 | PgVersion::V18 | PgVersion::V19 => (22, 115),
        };
        assert_eq!(managers.len(), expected, "{version:?}: {managers:?}");
        assert!(types.len() >= least, "{version:?}: {} types", types.len());
    }
}

/// If a byte of a record is changed or missing, the result is a description or an error, and never
/// a panic.
#[test]
fn damaged_records_are_described_or_refused() {
    let (mut described, mut refused) = (0, 0);
    for sample in PgVersion::ALL.into_iter().flat_map(Sample::all) {
        let mut count = |bytes: &[u8]| match sample.describe(bytes) {
            Some(Ok(_)) => described += 1,
            Some(Err(_)) => refused += 1,
            None => {}
        };
        let mut bytes = sample.bytes.clone();
        for at in 24..bytes.len() {
            for flip in [0x01, 0x10, 0x80, 0xFF] {
                bytes[at] ^= flip;
                count(&bytes);
                bytes[at] ^= flip;
            }
        }
        // Describes the data as a record of every type of this resource manager, and as a record of
        // every other resource manager.
        for kind in 0..=u8::MAX {
            bytes[16] = kind;
            count(&bytes);
        }
        bytes[16] = sample.bytes[16];
        for manager in 0..=u8::MAX {
            bytes[17] = manager;
            count(&bytes);
        }
        // Shortens the main data, and changes the lengths in the headers accordingly.
        bytes[17] = sample.bytes[17];
        let parts = RecordParts::decode(&bytes, [sample.lsn; 3], 8192).expect("a record");
        let main = parts.view(&bytes).main().len();
        let length_at = bytes.len() - main - 1;
        if (1..=0xFF).contains(&main) && parts.view(&bytes).blocks().all(|b| b.data.is_empty()) {
            for less in (0..main).rev() {
                bytes.pop();
                let total = u32::try_from(bytes.len()).expect("small");
                bytes[..4].copy_from_slice(&total.to_le_bytes());
                bytes[length_at] = u8::try_from(less).expect("small");
                count(&bytes);
            }
        }
    }
    assert!(
        described > 100_000 && refused > 10_000,
        "{described}, {refused}"
    );
}
