//! Decodes and encodes files of real servers. `tests/golden/README.md` describes how the files were
//! made.
//!
//! walsim must read the same records that PostgreSQL's tools list. All records and pages must be
//! encoded to the same bytes. Damage must never cause a panic or an additional record.

#[path = "golden/descriptions.rs"]
mod descriptions;
#[path = "golden/main_data.rs"]
mod main_data;
#[path = "golden/samples.rs"]
mod samples;

use std::collections::BTreeMap;

use main_data::main_data_again;
use samples::{GOLDEN, Listed, PAGE, control_files, slices, slot_files};
use walsim_core::base::{Lsn, PgVersion};
use walsim_core::wire::control_file::{ControlFile, ControlFileError};
use walsim_core::wire::describe::Text;
use walsim_core::wire::generic::{apply_delta, compute_delta};
use walsim_core::wire::record::{RecordBody, RecordParts, RmgrId};
use walsim_core::wire::slot_file::{Persistency, SlotFile};

/// The decoded record types. Each has the name that pg_waldump prints, and its `xl_info`.
const TYPES: [(&str, u8); 23] = [
    ("XLOG CHECKPOINT_SHUTDOWN", 0x00),
    ("XLOG CHECKPOINT_ONLINE", 0x10),
    ("XLOG SWITCH", 0x40),
    ("XLOG BACKUP_END", 0x50),
    ("XLOG PARAMETER_CHANGE", 0x60),
    ("XLOG RESTORE_POINT", 0x70),
    ("XLOG FPW_CHANGE", 0x80),
    ("XLOG FPI_FOR_HINT", 0xA0),
    ("XLOG FPI", 0xB0),
    ("XLOG OVERWRITE_CONTRECORD", 0xD0),
    ("XLOG CHECKPOINT_REDO", 0xE0),
    ("Transaction COMMIT", 0x00),
    ("Transaction PREPARE", 0x10),
    ("Transaction ABORT", 0x20),
    ("Transaction COMMIT_PREPARED", 0x30),
    ("Transaction ABORT_PREPARED", 0x40),
    ("Storage CREATE", 0x10),
    ("Standby LOCK", 0x00),
    ("Standby RUNNING_XACTS", 0x10),
    ("Heap INSERT", 0x00),
    ("Btree INSERT_LEAF", 0x00),
    ("Generic Generic", 0x00),
    ("LogicalMessage MESSAGE", 0x00),
];

#[test]
fn every_slice_reads_as_listed() {
    for slice in slices() {
        let (records, end) = slice.read(&slice.bytes);
        let ours: Vec<_> = records.iter().map(Listed::of).collect();
        for (our, their) in ours.iter().zip(&slice.listed) {
            assert_eq!(our, their, "{}: left ours ({end:?})", slice.name);
        }
        assert_eq!(ours.len(), slice.listed.len(), "{}: {end:?}", slice.name);
    }
}

/// The samples contain all record types of [`TYPES`], and each type has the name given there.
#[test]
fn every_type_is_there() {
    for version in GOLDEN {
        let mut seen = BTreeMap::new();
        for slice in slices().filter(|slice| slice.version == version) {
            let (records, _) = slice.read(&slice.bytes);
            for (record, name) in records.iter().zip(slice.names()) {
                let rmgr_info = record.header.rmgr_info();
                let op = match record.header.rmid {
                    RmgrId::TRANSACTION => rmgr_info & 0x70,
                    _ => rmgr_info,
                };
                seen.insert(name, op);
            }
        }
        for (name, info) in TYPES {
            if version == PgVersion::V15 && name == "XLOG CHECKPOINT_REDO" {
                continue;
            }
            assert_eq!(seen.get(name), Some(&info), "{name} in {version:?}");
        }
    }
}

/// The type name and description of each record equal those in PostgreSQL's list.
#[test]
fn records_are_described_as_listed() {
    let mut count = 0;
    for slice in slices() {
        let records = slice.read(&slice.bytes).0;
        for (record, listed) in records.iter().zip(slice.descriptions()) {
            let (rmid, info) = (record.header.rmid, record.header.info);
            let name = rmid.record_type(slice.version, info).expect("a known type");
            let bytes = slice.record_bytes(record.lsn, record.header.tot_len);
            let parts = RecordParts::decode(&bytes, [record.lsn; 3], 8192).expect("it was read");
            let mut text = Text::default();
            let described = text.describe(slice.version, &parts.view(&bytes));
            described.unwrap_or_else(|e| panic!("{} at {}: {e}", slice.name, record.lsn));
            let mut text = String::from_utf8(text.bytes).expect("ours are");
            if slice.version == PgVersion::V18 {
                // The server's list shows times in another format than pg_waldump.
                while let Some(zero) = text.find("0 UTC") {
                    text.remove(zero);
                }
                text = text.replace(". UTC", " UTC").replace(" UTC", "+00");
            }
            // PostgreSQL's list truncates long lines.
            let ours = format!("{name} {text}");
            let whole = ours.trim_end().len() == listed.len();
            assert!(ours.starts_with(&listed), "{ours}\n{listed}");
            assert!(whole || listed.len() > 250, "{ours}\n{listed}");
            count += 1;
        }
    }
    assert!(count > 100, "only {count} descriptions were compared");
}

#[test]
fn records_assemble_to_the_same_bytes() {
    for slice in slices() {
        for record in slice.read(&slice.bytes).0 {
            let original = slice.record_bytes(record.lsn, record.header.tot_len);
            let mut again = RecordBody::from(&record).assemble(8192);
            again.finish(record.header.prev);
            assert_eq!(
                again.bytes(),
                original,
                "{} at {}",
                slice.name,
                record.header.prev
            );
        }
    }
}

#[test]
fn main_data_encodes_to_the_same_bytes() {
    let mut count = 0;
    for slice in slices() {
        let version = slice.version;
        for record in slice.read(&slice.bytes).0 {
            let Some(again) = main_data_again(version, &record) else {
                continue;
            };
            let again = again.unwrap_or_else(|e| panic!("{} at {}: {e}", slice.name, record.lsn));
            assert_eq!(again, record.main, "{} at {}", slice.name, record.lsn);
            count += 1;
        }
    }
    assert!(count > 150, "only {count} records were compared");
}

/// The delta in a record is applied to a page. Then walsim computes the delta between the old and
/// the new page, which must have the same bytes.
#[test]
fn deltas_are_computed_the_same() {
    for version in GOLDEN {
        let mut pages = BTreeMap::new();
        let mut count = 0;
        for slice in slices().filter(|slice| slice.version == version) {
            for record in slice.read(&slice.bytes).0 {
                for block in &record.blocks {
                    let name = (block.rel, block.fork, block.block);
                    let old = pages.remove(&name);
                    if let Some(image) = &block.image {
                        // An image that cannot be decompressed is skipped.
                        if let Ok(page) = image.restore(8192) {
                            pages.insert(name, page);
                        }
                        continue;
                    }
                    let Some(old) = old else { continue };
                    if record.header.rmid == RmgrId::GENERIC {
                        let mut new = old.clone();
                        apply_delta(&mut new, &block.data).expect("fits");
                        assert_eq!(compute_delta(&old, &new), block.data, "{}", record.lsn);
                        pages.insert(name, new);
                        count += 1;
                    }
                }
            }
        }
        assert!(count > 0, "no delta follows an image in {version:?}");
    }
}

/// walsim writes the same records to pages. The pages must have the same bytes, including headers
/// and padding.
#[test]
fn pages_are_written_the_same() {
    for slice in slices() {
        let records = slice.read(&slice.bytes).0;
        let (written, known) = slice.write_again(&records);
        for (at, known) in known.iter().enumerate() {
            assert!(
                !known || written[at] == slice.bytes[at],
                "{}: byte {at}, {} of its page: {:#04x}, PostgreSQL wrote {:#04x}",
                slice.name,
                at % PAGE,
                written[at],
                slice.bytes[at]
            );
        }
    }
}

/// A crash lost the second half of a record. The reader reports the record as incomplete.
#[test]
fn aborted_record_is_recognized() {
    let mut count = 0;
    for slice in slices() {
        let Some(aborted) = slice.aborted else {
            continue;
        };
        let missing = Lsn(aborted
            .0
            .next_multiple_of(u64::from(slice.geometry().segment)));
        let cut = slice.offset(missing);
        let mut reader = slice.reader();
        let (records, _) = slice.read_with(&mut reader, &slice.bytes[..cut]);
        assert!(records.iter().all(|record| record.lsn < aborted));
        let found = reader.aborted.map(|a| (a.record, a.missing));
        assert_eq!(found, Some((aborted, missing)), "{}", slice.name);

        let mut reader = slice.reader();
        slice.read_with(&mut reader, &slice.bytes);
        assert_eq!(reader.overwritten, Some(aborted), "{}", slice.name);
        count += 1;
    }
    assert_eq!(count, 2, "one of each version");
}

/// WAL is truncated at any place. Exactly the records before this place are read.
#[test]
fn truncated_wal_ends_early() {
    for slice in slices() {
        let (whole, _) = slice.read(&slice.bytes);
        for cut in (0..slice.bytes.len()).step_by(slice.stride()) {
            let (read, _) = slice.read(&slice.bytes[..cut]);
            assert!(whole.starts_with(&read), "{} cut at {cut}", slice.name);
            let last = read.last().map_or(slice.start, |record| record.end);
            assert!(slice.offset(last) <= cut.next_multiple_of(8));
        }
    }
}

/// The test changes one byte of the WAL, at many positions. The reader must return only original
/// records, in order from the first one. The reader must stop at the damage or before it.
#[test]
fn damaged_wal_ends_early() {
    for slice in slices() {
        let (whole, _) = slice.read(&slice.bytes);
        for at in (0..slice.bytes.len()).step_by(slice.stride()) {
            let mut bytes = slice.bytes.to_vec();
            bytes[at] ^= 1 << (at % 8);
            let (read, end) = slice.read(&bytes);
            assert!(
                whole.starts_with(&read),
                "{}: byte {at} changed, {end:?}",
                slice.name
            );
        }
    }
}

#[test]
fn control_files_read_as_pg_controldata_says() {
    for (version, bytes, said, name) in control_files() {
        let file = ControlFile::decode(version, &bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        let says = |label: &str| said.get(label).map_or("", |text| text.as_str());
        let copy = &file.checkpoint_copy;
        let padded = |lsn: Lsn| lsn.to_string();
        let on = |set: bool| if set { "on" } else { "off" }.to_owned();
        for (label, ours) in [
            (
                "Database system identifier",
                file.system_identifier.to_string(),
            ),
            ("Latest checkpoint location", padded(file.checkpoint)),
            ("Latest checkpoint's REDO location", padded(copy.redo)),
            ("Latest checkpoint's TimeLineID", copy.this_tli.to_string()),
            (
                "Latest checkpoint's PrevTimeLineID",
                copy.prev_tli.to_string(),
            ),
            (
                "Latest checkpoint's full_page_writes",
                on(copy.full_page_writes),
            ),
            (
                "Latest checkpoint's NextXID",
                format!("{}:{}", copy.next_xid.epoch(), copy.next_xid.xid()),
            ),
            ("Latest checkpoint's NextOID", copy.next_oid.to_string()),
            (
                "Latest checkpoint's NextMultiXactId",
                copy.next_multi.to_string(),
            ),
            ("Latest checkpoint's oldestXID", copy.oldest_xid.to_string()),
            (
                "Latest checkpoint's oldestXID's DB",
                copy.oldest_xid_db.to_string(),
            ),
            (
                "Latest checkpoint's oldestActiveXID",
                copy.oldest_active_xid.to_string(),
            ),
            (
                "Minimum recovery ending location",
                padded(file.min_recovery_point),
            ),
            (
                "Min recovery ending loc's timeline",
                file.min_recovery_point_tli.to_string(),
            ),
            ("Backup start location", padded(file.backup_start)),
            ("wal_log_hints setting", on(file.wal_log_hints)),
            (
                "max_worker_processes setting",
                file.max_worker_processes.to_string(),
            ),
            ("max_wal_senders setting", file.max_wal_senders.to_string()),
            (
                "max_prepared_xacts setting",
                file.max_prepared_xacts.to_string(),
            ),
            ("Database block size", file.blcksz.to_string()),
            ("WAL block size", file.xlog_blcksz.to_string()),
            ("Bytes per WAL segment", file.xlog_seg_size.to_string()),
            (
                "Data page checksum version",
                file.data_checksum_version.to_string(),
            ),
        ] {
            assert_eq!(ours, says(label), "{name}: {label}");
        }
        assert!(file.encode(version) == bytes, "{name}: written differently");
    }
}

/// Every byte of a control file's payload is checked. The zeros after the payload are ignored.
#[test]
fn damaged_control_files_are_refused() {
    for (version, bytes, _, name) in control_files() {
        let payload = match version {
            PgVersion::V15 | PgVersion::V16 | PgVersion::V17 => 292,
            PgVersion::V18 | PgVersion::V19 => 296,
        };
        for at in 0..payload {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let error = ControlFile::decode(version, &damaged).err();
            let refused = matches!(
                error,
                Some(ControlFileError::Version { .. } | ControlFileError::Checksum { .. })
            );
            assert!(refused, "{name}: byte {at}: {error:?}");
            assert!(ControlFile::decode(version, &bytes[..at]).is_err());
        }
    }
}

#[test]
fn slot_files_read_as_the_server_says() {
    let mut count = 0;
    for (version, bytes, said, name) in slot_files() {
        let file = SlotFile::decode(version, &bytes);
        let file = file.unwrap_or_else(|e| panic!("{}", e.of(&name)));
        let restart_lsn = file.restart_lsn.is_valid();
        let restart_lsn = restart_lsn.then(|| file.restart_lsn.to_string());
        let temporary = file.persistency == Persistency::TEMPORARY;
        for (label, ours) in [
            ("name", file.name.clone()),
            ("temporary", temporary.to_string()),
            ("restart_lsn", restart_lsn.unwrap_or_default()),
        ] {
            assert_eq!(ours, said[label], "{name}: {label}");
        }
        let lost = file.invalidated_at.is_valid() || file.cause == 1;
        assert_eq!(lost, said["wal_status"] == "lost", "{name}");
        assert!(file.encode(version) == bytes, "{name}: written differently");
        count += 1;
    }
    assert_eq!(count, 4, "one of each kind, of 15");
}
