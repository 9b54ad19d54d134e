//! PostgreSQL's pg_waldump and pg_controldata read WAL and control files that walsim has written.
//! The WAL contains records of all shapes, or comes from all nodes of whole runs.
//!
//! `walsim waldump` must print what pg_waldump prints. The records must be those that were written,
//! and the only error must be the end of WAL.
//!
//! Without PostgreSQL 15 the tests are skipped, or fail if `WALSIM_REQUIRE_PG` is set.

#[path = "interop/dumps.rs"]
mod dumps;
#[path = "interop/server.rs"]
mod server;

use dumps::Dumps;
use server::postgres_bin;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use walsim_core::base::{Geometry, Lsn, PgVersion, SegmentNo, TimelineId, TimestampTz, Xid};
use walsim_core::wal::{PageIdent, Placed, WalBuilder, names::segment_name};
use walsim_core::wire::control_file::ControlFile;
use walsim_core::wire::logical_message::LogicalMessage;
use walsim_core::wire::record::{BlockPart, Image, RecordBody, RelLocator, RmgrId};
use walsim_core::wire::xact_records::{XactEnd, XactOp};
use walsim_core::wire::xlog_records::XlogRecord;

const SEEDS: [&str; 6] = ["0", "1", "2", "3", "4", "5"];
const SYSTEM_IDENTIFIER: u64 = 0x0123_4567_89AB_CDEF;

/// The errors with which pg_waldump may end. Their causes are zeros, a page that was never written,
/// the old content of a recycled segment, and a missing segment.
const ENDS: [&str; 6] = [
    "invalid record length",
    "invalid magic number",
    "unexpected pageaddr",
    "incorrect prev-link",
    "invalid resource manager ID",
    "could not find file",
];

/// The fields of a record that both programs print.
#[derive(PartialEq, Eq, Debug)]
struct Listed {
    lsn: Lsn,
    total_bytes: u32,
    xid: u32,
    prev: Lsn,
    rmgr: String,
}

/// All kinds of records that walsim writes. Some are three segments long. There is also a segment
/// switch and an aborted record.
#[test]
fn postgres_reads_wal_of_our_writer() {
    let Some(bin) = postgres_bin() else {
        return;
    };
    let geometry = Geometry::STOCK;
    let (wal, ours) = sample(geometry);

    let data = fresh_folder("waldump-parity-writer");
    for folder in ["pg_wal", "global"] {
        fs::create_dir(data.join(folder)).expect("our own folder");
    }
    for (number, bytes) in wal.segments() {
        let name = segment_name(&geometry, TimelineId(1), number);
        fs::write(data.join("pg_wal").join(name), bytes).expect("our own folder");
    }
    let first = ours[0].lsn;
    let control = ControlFile::fresh(PgVersion::V15, &geometry, SYSTEM_IDENTIFIER, first);
    let control = control.encode(PgVersion::V15);
    fs::write(data.join("global/pg_control"), control).expect("our own folder");

    wal_agrees(&bin, &data, (first, wal.end()), &ours, "writer");
    control_file_is_sound(&bin, &data, "writer");
}

#[test]
fn postgres_reads_every_node_of_a_run() {
    let Some(bin) = postgres_bin() else {
        return;
    };
    for seed in SEEDS {
        let dump = fresh_folder(&format!("waldump-parity-{seed}"));
        let run = replay(seed, &dump);
        let nodes = run["nodes"].as_array().expect("--dump lists the nodes");
        assert!(nodes.len() >= 2, "seed {seed}: a primary and a standby");
        for node in nodes {
            let name = string(node, "name");
            let place = format!("seed {seed}, node {name}");
            let data = dump.join(name);
            let position = |key| string(node, key).parse::<Lsn>().expect("an LSN");
            let range = (position("first_record"), position("end_of_wal"));
            let ours = fs::read_to_string(data.join("records.txt")).expect("--dump lists them");
            let ours: Vec<_> = ours.lines().map(from_dump).collect();

            assert_eq!(node["timeline"], 1, "{place}");
            wal_agrees(&bin, &data, range, &ours, &place);
            control_file_is_sound(&bin, &data, &place);
        }
    }
}

/// Runs the seed with PostgreSQL's usual page and segment sizes, and returns the summary of the
/// run.
fn replay(seed: &str, dump: &Path) -> Value {
    let run = Command::new(env!("CARGO_BIN_EXE_walsim"))
        .args(["replay", seed, "--format", "json"])
        .args(["--set", "geometry=stock", "--set", "pg_version=15"])
        .arg("--dump")
        .arg(dump)
        .output()
        .expect("walsim starts");
    let (stdout, stderr) = (text(&run.stdout), text(&run.stderr));
    let status = run.status;
    assert!(status.success(), "seed {seed}: {status}\n{stdout}{stderr}");
    let last = stdout.lines().last().expect("a line of JSON");
    serde_json::from_str(last).expect("a line of JSON")
}

fn sample(geometry: Geometry) -> (WalBuilder, Vec<Listed>) {
    let ident = PageIdent {
        version: PgVersion::V15,
        tli: TimelineId(1),
        sysid: SYSTEM_IDENTIFIER,
        removable: true,
    };
    let mut wal = WalBuilder::new(geometry, ident, SegmentNo(1));
    let mut ours = Vec::new();
    let mut append = |wal: &mut WalBuilder, body: &RecordBody| {
        let prev = wal.prev();
        let placed = wal.append(body);
        ours.push(Listed {
            lsn: placed.start,
            total_bytes: body.assemble(geometry.data_page).len(),
            xid: body.xid.0,
            prev,
            rmgr: body.rmid.to_string(),
        });
        placed
    };

    let checkpoint = ControlFile::fresh(
        PgVersion::V15,
        &geometry,
        SYSTEM_IDENTIFIER,
        wal.next_start(),
    );
    append(
        &mut wal,
        &xlog(&XlogRecord::CheckpointShutdown(checkpoint.checkpoint_copy)),
    );
    let lengths = [0, 1, 200, 300, 8000, 8100, 8150, 20_000, 1_100_000];
    for len in lengths {
        append(&mut wal, &message(len));
        append(&mut wal, &page_change(len));
        append(&mut wal, &commit());
    }
    // The record headers start at every offset at which the end of a page can cut them.
    for len in (8000..8200).step_by(8) {
        append(&mut wal, &message(len));
    }
    for rmid in [128, 200, 255] {
        append(&mut wal, &custom(RmgrId(rmid)));
    }
    append(&mut wal, &xlog(&XlogRecord::Switch));
    append(&mut wal, &message(100));

    // The second half of a record is lost. WAL continues after this gap, as it does after crash
    // recovery.
    let last = wal.prev();
    let Placed { start, .. } = wal.append(&message(30_000));
    let missing = geometry.page_start(start) + u64::from(geometry.wal_page);
    let placed = wal.overwrite_contrecord([last, start, missing], TimestampTz(0));
    ours.push(Listed {
        lsn: placed.start,
        total_bytes: 42,
        xid: 0,
        prev: last,
        rmgr: RmgrId::XLOG.to_string(),
    });
    let prev = wal.prev();
    let placed = wal.append(&commit());
    ours.push(Listed {
        lsn: placed.start,
        total_bytes: 34,
        xid: 9,
        prev,
        rmgr: RmgrId::TRANSACTION.to_string(),
    });
    (wal, ours)
}

fn xlog(record: &XlogRecord) -> RecordBody {
    let main = record.encode(PgVersion::V15);
    RecordBody::new(RmgrId::XLOG, record.info(), Xid::INVALID, main)
}

fn message(len: usize) -> RecordBody {
    let message = LogicalMessage {
        db: 5,
        transactional: false,
        prefix: b"walsim\0"[..].into(),
        message: vec![b'x'; len].into(),
    };
    RecordBody::new(RmgrId::LOGICAL_MESSAGE, 0, Xid(9), message.encode())
}

fn commit() -> RecordBody {
    let end = XactEnd::new(XactOp::Commit, TimestampTz(0));
    let main = end.encode(PgVersion::V15);
    RecordBody::new(RmgrId::TRANSACTION, end.info(), Xid(9), main)
}

/// A record of an extension's resource manager. A program without the extension knows only the
/// number of this resource manager.
fn custom(rmid: RmgrId) -> RecordBody {
    let rel = RelLocator {
        spc: 1663,
        db: 5,
        rel: 16384,
    };
    let mut body = RecordBody::new(rmid, 0x30, Xid(9), b"whatever".to_vec());
    body.blocks = vec![BlockPart::new(0, rel, 7)];
    body
}

/// A Generic record with two blocks. One block has an image, and the other a delta.
fn page_change(len: usize) -> RecordBody {
    let rel = RelLocator {
        spc: 1663,
        db: 5,
        rel: 16384,
    };
    let mut page = vec![0; 8192];
    page[12..14].copy_from_slice(&40u16.to_le_bytes());
    page[14..16].copy_from_slice(&8000u16.to_le_bytes());
    page[8000..].fill(7);
    let mut image = BlockPart::new(0, rel, 3);
    image.image = Some(Image::of_page(&page, len.is_multiple_of(2)));
    let mut delta = BlockPart::new(1, rel, 4);
    delta.data = vec![1; len % 4000].into();
    let mut body = RecordBody::new(RmgrId::GENERIC, 0, Xid(9), Vec::new());
    body.blocks = vec![image, delta];
    body
}

/// Runs pg_waldump on a data directory from the record at `first` on, and compares its records with
/// ours.
fn wal_agrees(bin: &Path, data: &Path, (first, end): (Lsn, Lsn), ours: &[Listed], place: &str) {
    // `walsim waldump` prints the same text, so only one of the two texts is parsed.
    let (wal, start) = (data.join("pg_wal"), first.to_string());
    let said = Dumps::new(bin, data).agree(&["-t", "1", "-s", &start, "-p", path(&wal)]);
    let (printed, errors) = (text(&said.stdout), said.stderr);
    let listed: Vec<_> = printed.lines().filter_map(from_waldump).collect();
    assert!(!ours.is_empty(), "{place}: no records");
    for (our, their) in ours.iter().zip(&listed) {
        assert_eq!(our, their, "{place}: left ours, right pg_waldump's");
    }
    assert_eq!(
        ours.len(),
        listed.len(),
        "{place}: left ours, right pg_waldump's, which ended with {errors}"
    );

    assert_eq!(errors.lines().count(), 1, "{place}: {errors}");
    let known = ENDS.iter().any(|end| errors.contains(end));
    assert!(known, "{place}: {errors}");
    if let Some((_, at)) = errors.split_once("invalid record length at ") {
        let at = at.split(':').next().expect("split gives one at least");
        assert_eq!(at, end.to_string(), "{place}: {errors}");
    } else {
        // The error names the segment in which WAL ends, or the next segment if the last record
        // fills its segment.
        let geometry = Geometry::STOCK;
        let SegmentNo(number) = geometry.segment_of(end);
        let names =
            [number, number + 1].map(|n| segment_name(&geometry, TimelineId(1), SegmentNo(n)));
        let named = names.iter().any(|name| errors.contains(name));
        let named = named || errors.contains(&format!("at {end}"));
        assert!(named, "{place}: WAL ends at {end}: {errors}");
    }
}

fn control_file_is_sound(bin: &Path, data: &Path, place: &str) {
    let said = Command::new(bin.join("pg_controldata"))
        .arg(data)
        .env("LC_ALL", "C")
        .output()
        .expect("pg_controldata starts");
    let all = text(&said.stdout) + &text(&said.stderr);
    let complete = all.contains("Latest checkpoint location:");
    assert!(complete, "{place}:\n{all}");
    assert!(!all.contains("WARNING"), "{place}:\n{all}");
}

/// Parses `rmgr: XLOG len (rec/tot): 114/ 114, tx: 0, lsn: 0/01000028, prev 0/00000000, desc: …`.
fn from_waldump(line: &str) -> Option<Listed> {
    let (rmgr, rest) = line.strip_prefix("rmgr: ")?.split_once("len (rec/tot):")?;
    let (lengths, rest) = rest.split_once(", tx:")?;
    let (xid, rest) = rest.split_once(", lsn: ")?;
    let (lsn, rest) = rest.split_once(", prev ")?;
    let (prev, _) = rest.split_once(", desc: ")?;
    let (_, total) = lengths.split_once('/')?;
    Some(Listed {
        lsn: lsn.parse().ok()?,
        total_bytes: total.trim().parse().ok()?,
        xid: xid.trim().parse().ok()?,
        prev: prev.parse().ok()?,
        rmgr: rmgr.trim().into(),
    })
}

/// Parses `LSN TOTLEN XID PREV RMGR INFO`, the format of the list that `--dump` writes.
fn from_dump(line: &str) -> Listed {
    let fields: Vec<_> = line.split_whitespace().collect();
    let &[lsn, total, xid, prev, rmgr, _info] = &fields[..] else {
        panic!("six fields expected: {line}");
    };
    Listed {
        lsn: lsn.parse().expect("an LSN"),
        total_bytes: total.parse().expect("a number"),
        xid: xid.parse().expect("a number"),
        prev: prev.parse().expect("an LSN"),
        rmgr: rmgr.into(),
    }
}

fn string<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().expect("text")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("our own folder")
}

fn fresh_folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("our own folder");
    }
    fs::create_dir_all(&folder).expect("our own folder");
    folder
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
