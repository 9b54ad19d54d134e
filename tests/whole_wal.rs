//! Tests with whole segments of a real server, and with the output of PostgreSQL's programs for
//! them. The files are in the folders of `tests/golden` that are named after a version.
//! `tests/golden/README.md` says how they were made.
//!
//! Decoding and encoding a segment, or a small file of the cluster, gives the same bytes. `walsim
//! waldump` prints the same lines as pg_waldump.

#[path = "golden/main_data.rs"]
mod main_data;
#[path = "golden/samples.rs"]
#[allow(dead_code, reason = "the slices are for other tests")]
mod samples;

use main_data::main_data_again;
use samples::{Listed, Slice};
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use walsim_core::base::{Geometry, Lsn, PgVersion, SegmentNo, TimelineId};
use walsim_core::wal::names::segment_name;
use walsim_core::wal::{init_page, mark_overwrite};
use walsim_core::wire::backup_label::BackupLabel;
use walsim_core::wire::control_file::ControlFile;
use walsim_core::wire::history;
use walsim_core::wire::page::{PageHeader, overwrite_contrecord};
use walsim_core::wire::record::{RecordBody, RmgrId};
use walsim_core::wire::slot_file::SlotFile;
use walsim_core::wire::xlog_records::XlogRecord;

const VERSION: PgVersion = PgVersion::V19;
const SEGMENT: usize = 1 << 20;
/// The first and the last segment of timeline 1. The first segment of timeline 2 has the same
/// number as the last segment of timeline 1.
const FIRST: u64 = 0x08;
const LAST: u64 = 0x27;

fn file(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/19");
    fs::read(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn text(name: &str) -> String {
    String::from_utf8(file(name)).expect("text")
}

/// Decompresses a file with `xz`.
fn unpacked(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut reader = xz4rust::XzReader::new(Cursor::new(file(name)));
    reader.read_to_end(&mut out).expect("a whole file");
    out
}

fn listing(tli: u32) -> String {
    String::from_utf8(unpacked(&format!("waldump-tli{tli}.txt.xz"))).expect("ASCII")
}

fn control() -> ControlFile {
    ControlFile::decode(VERSION, &file("pg_control")).expect("a control file")
}

/// The segments of both timelines. Each has the records that pg_waldump lists.
fn timelines() -> [Slice; 2] {
    let bytes = unpacked("wal.xz");
    let count = usize::try_from(LAST - FIRST + 1).expect("33");
    assert_eq!(bytes.len(), (count + 1) * SEGMENT);
    let (one, two) = bytes.split_at(count * SEGMENT);
    [(1, FIRST, one), (2, LAST, two)].map(|(tli, first, bytes)| {
        let listed = listing(tli);
        let listed: Vec<_> = listed.lines().filter_map(Listed::parse).collect();
        let mut slice = Slice {
            name: format!("timeline {tli}"),
            version: VERSION,
            tli: TimelineId(tli),
            system_identifier: control().system_identifier,
            start: Lsn(first * SEGMENT as u64),
            first_record: listed[0].lsn,
            end: listed[listed.len() - 1].lsn,
            aborted: None,
            bytes: bytes.to_vec().into(),
            listed,
        };
        // `end` is one byte past the start of the last record, so the slice includes this record.
        slice.end = Lsn(slice.end.0 + 1);
        slice
    })
}

#[test]
fn every_segment_decodes_and_encodes_to_itself() {
    for mut slice in timelines() {
        let (records, end) = slice.read(&slice.bytes);
        let ours: Vec<_> = records.iter().map(Listed::of).collect();
        assert!(ours == slice.listed, "{}: {end:?}", slice.name);
        slice.end = records[records.len() - 1].end;
        let mut bodies = 0;
        for record in &records {
            let at = record.lsn;
            let original = slice.record_bytes(at, record.header.tot_len);
            let mut again = RecordBody::from(record).assemble(8192);
            again.finish(record.header.prev);
            assert!(again.bytes() == original, "{} at {at}", slice.name);
            if let Some(again) = main_data_again(VERSION, record) {
                let again = again.unwrap_or_else(|e| panic!("{} at {at}: {e}", slice.name));
                assert_eq!(again, record.main, "{} at {at}", slice.name);
                bodies += 1;
            }
        }
        assert!(
            bodies > records.len() / 100,
            "{bodies} of {}",
            records.len()
        );
        let (written, known) = slice.write_again(&records);
        let differs = (0..written.len()).find(|&at| known[at] && written[at] != slice.bytes[at]);
        assert_eq!(differs, None, "{}", slice.name);
        let unknown = known.iter().filter(|known| !**known).count();
        // Some bytes are not compared: those before the first record, and those after the last
        // record in its segment.
        assert!(unknown < 2 * SEGMENT, "{}: {unknown}", slice.name);
    }
}

/// Writes the segments to a separate folder.
fn installed(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("whole-wal-{name}"));
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("our own folder");
    }
    fs::create_dir_all(&folder).expect("our own folder");
    for slice in timelines() {
        for (number, bytes) in (slice.start.0 / SEGMENT as u64..).zip(slice.bytes.chunks(SEGMENT)) {
            let name = segment_name(&Geometry::STOCK, slice.tli, SegmentNo(number));
            fs::write(folder.join(name), bytes).expect("our own folder");
        }
    }
    folder
}

fn waldump(folder: &Path, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walsim"));
    command.arg("waldump").arg("-p").arg(folder).args(args);
    let output = command.env("TZ", "UTC").output().expect("walsim starts");
    String::from_utf8(output.stdout).expect("ASCII")
}

/// Compares the output line by line. Also compares the totals of `--stats`.
#[test]
fn waldump_prints_it_as_pg_waldump_does() {
    let folder = installed("waldump");
    let name = |tli, number| segment_name(&Geometry::STOCK, TimelineId(tli), SegmentNo(number));
    let (first, last, second) = (name(1, FIRST), name(1, LAST), name(2, LAST));
    for (args, theirs) in [
        (vec![&*first, &*last], listing(1)),
        (vec!["-t", "2", &*second], listing(2)),
        (
            vec!["--stats=record", &first, &last],
            text("stats-record.txt"),
        ),
        (vec!["--stats=rmgr", &first, &last], text("stats-rmgr.txt")),
    ] {
        let ours = waldump(&folder, &args);
        for (number, (ours, theirs)) in ours.lines().zip(theirs.lines()).enumerate() {
            assert_eq!(ours, theirs, "{args:?}: line {number}");
        }
        assert_eq!(ours.lines().count(), theirs.lines().count(), "{args:?}");
    }
}

/// The totals of each type in `--stats=record` must match the single lines.
#[test]
fn the_sums_are_those_of_the_lines() {
    let listing = listing(1);
    let (mut count, mut bytes) = (0_u64, 0_u64);
    for line in listing.lines() {
        let (_, rest) = line.split_once("len (rec/tot):").expect("a record");
        let (lengths, _) = rest.split_once(", tx:").expect("a record");
        let (_, total) = lengths.split_once('/').expect("two lengths");
        count += 1;
        bytes += total.trim().parse::<u64>().expect("a number");
    }
    let stats = text("stats-record.txt");
    let total = stats.lines().last().expect("lines");
    let numbers: Vec<&str> = total.split_whitespace().collect();
    assert_eq!((numbers[0], numbers[1]), ("Total", &*count.to_string()));
    assert_eq!(numbers[6], bytes.to_string(), "{total}");
}

/// A crash lost the second half of a record. The server began the next segment with a flag for this
/// case, and with a record that names the lost record.
#[test]
fn an_overwritten_contrecord_is_skipped_as_the_server_did() {
    let bytes = unpacked("overwritten.xz");
    let aborted = Lsn(0x85_00F8);
    let missing = Lsn(0x90_0000);
    let header = PageHeader::decode(&bytes[SEGMENT..]).expect("a page");
    // 0x0002 says that the page has a long header. In 19, 0x0004 is
    // XLP_FIRST_IS_OVERWRITE_CONTRECORD. Before 19 it was XLP_BKP_REMOVABLE.
    assert_eq!(
        (header.info, overwrite_contrecord(VERSION)),
        (0x0006, 0x0004)
    );
    let long = walsim_core::wire::page::LongPageHeader::decode(&bytes[SEGMENT..]);
    let slice = Slice {
        name: "overwritten".into(),
        version: VERSION,
        tli: TimelineId(1),
        system_identifier: long.expect("a page").sysid,
        start: Lsn(FIRST * SEGMENT as u64),
        first_record: Lsn(0x85_0040),
        end: Lsn(0x90_0059),
        aborted: Some(aborted),
        bytes: bytes.into(),
        listed: Vec::new(),
    };
    let cut = slice.offset(missing);
    let mut reader = slice.reader();
    let (records, _) = slice.read_with(&mut reader, &slice.bytes[..cut]);
    assert_eq!(records.len(), 2);
    let found = reader.aborted.map(|a| (a.record, a.missing));
    assert_eq!(found, Some((aborted, missing)));

    let mut reader = slice.reader();
    let (records, end) = slice.read_with(&mut reader, &slice.bytes);
    assert_eq!(reader.overwritten, Some(aborted), "{end:?}");
    let decoded = records
        .iter()
        .filter(|record| record.header.rmid == RmgrId::XLOG);
    let decoded: Vec<_> = decoded
        .map(|record| XlogRecord::decode(VERSION, record.header.info, &record.main))
        .collect();
    let [
        Ok(XlogRecord::CheckpointOnline(_)),
        Ok(XlogRecord::OverwriteContrecord(overwrite)),
        Ok(XlogRecord::CheckpointShutdown(checkpoint)),
    ] = decoded[..]
    else {
        panic!("{decoded:?}");
    };
    assert_eq!(overwrite.overwritten_lsn, aborted);
    assert_eq!(checkpoint.redo, records[3].lsn);

    // Our writer must begin the segment with the same header.
    let mut page = vec![0; 8192];
    let ident = slice.ident();
    init_page(&mut page, &slice.geometry(), missing, &ident);
    mark_overwrite(&mut page);
    assert_eq!(page[..40], slice.bytes[cut..cut + 40]);
}

/// The fields of pg_control must match the output of pg_controldata.
#[test]
fn the_control_file_comes_back() {
    let bytes = file("pg_control");
    let control = control();
    assert!(control.encode(VERSION) == bytes);
    let said = text("pg_control.txt");
    let copy = &control.checkpoint_copy;
    let at = |lsn: Lsn| lsn.text(VERSION).to_string();
    for (label, ours) in [
        (
            "Database system identifier",
            control.system_identifier.to_string(),
        ),
        ("Database cluster state", control.state.to_string()),
        ("Latest checkpoint location", at(control.checkpoint)),
        ("Latest checkpoint's REDO location", at(copy.redo)),
        ("Latest checkpoint's TimeLineID", copy.this_tli.to_string()),
        ("Latest checkpoint's NextOID", copy.next_oid.to_string()),
        (
            "Latest checkpoint's NextMultiXactId",
            copy.next_multi.to_string(),
        ),
        (
            "Latest checkpoint's NextMultiOffset",
            copy.next_multi_offset.to_string(),
        ),
        ("Latest checkpoint's oldestXID", copy.oldest_xid.to_string()),
        (
            "Latest checkpoint's oldestActiveXID",
            copy.oldest_active_xid.to_string(),
        ),
        (
            "Latest checkpoint's newestCommitTsXid",
            copy.newest_commit_ts_xid.to_string(),
        ),
        (
            "Fake LSN counter for unlogged rels",
            at(control.unlogged_lsn),
        ),
        (
            "Minimum recovery ending location",
            at(control.min_recovery_point),
        ),
        (
            "max_connections setting",
            control.max_connections.to_string(),
        ),
        (
            "max_locks_per_xact setting",
            control.max_locks_per_xact.to_string(),
        ),
        ("Bytes per WAL segment", control.xlog_seg_size.to_string()),
        (
            "Data page checksum version",
            control.data_checksum_version.to_string(),
        ),
    ] {
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix(label)?.strip_prefix(':'));
        assert_eq!(line.map(str::trim), Some(&*ours), "{label}");
    }
    for at in 0..312 {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(ControlFile::decode(VERSION, &damaged).is_err(), "byte {at}");
        assert!(ControlFile::decode(VERSION, &bytes[..at]).is_err(), "{at}");
    }
}

#[test]
fn slot_file_history_and_label_come_back() {
    let bytes = file("slot-state");
    let slot = SlotFile::decode(VERSION, &bytes).expect("a slot file");
    assert_eq!((&*slot.name, slot.restart_lsn), ("s1", Lsn(0x84_FF88)));
    assert!(slot.encode(VERSION) == bytes);

    let bytes = file("00000002.history");
    let lines = history::decode(&bytes).expect("a history");
    assert_eq!((lines.len(), lines[0].switchpoint), (1, Lsn(0x270_7818)));
    assert_eq!(history::encode(VERSION, &lines).as_bytes(), bytes);

    let bytes = file("backup_label");
    let label = BackupLabel::decode(&bytes).expect("a label");
    assert_eq!(
        (label.start, label.checkpoint),
        (Lsn(0x260_0028), Lsn(0x260_0080))
    );
    assert_eq!(label.encode(VERSION).as_bytes(), bytes);
}
