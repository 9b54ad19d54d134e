//! For the same WAL, `walsim waldump` must print what PostgreSQL's pg_waldump prints.
//!
//! Without PostgreSQL 15 the tests are skipped, or fail if `WALSIM_REQUIRE_PG` is set.
//! `WALSIM_PG_BIN` selects programs of a newer version, including pg_waldump. `WALSIM_INTEROP=all`
//! selects more WAL and all cases of damage.

#[path = "interop/damage.rs"]
mod damage;
#[path = "interop/dumps.rs"]
mod dumps;
#[path = "interop/server.rs"]
mod server;

use dumps::Dumps;
use server::{Folder, Server, Stop, run, send, server_bin, version_of, wait_for};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use walsim_core::base::{Lsn, PgVersion};

/// Tests the test server itself. After a kill the server starts again and has all committed rows.
#[test]
fn a_server_can_be_started_and_stopped_in_every_way() {
    let Some(bin) = tools() else {
        return;
    };
    let folder = Folder::new("server");
    let mut server = Server::init(&bin, &folder.path().join("data"), &["--wal-segsize=1"], "");
    server.start();
    server.psql("CREATE TABLE t (i int); INSERT INTO t VALUES (1);");
    server.stop(Stop::Fast);
    server.start();
    server.psql("INSERT INTO t VALUES (2);");
    server.kill();
    server.start();
    assert_eq!(server.psql("SELECT sum(i) FROM t"), "3");
    server.stop(Stop::Immediate);
}

/// Both commands print the same lines for WAL with records of all resource managers, with and
/// without each filter.
#[test]
fn real_wal_is_printed_alike() {
    let Some(bin) = tools() else {
        return;
    };
    let folder = Folder::new("waldump");
    let seconds = if wants_all() { "60" } else { "1" };
    let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/waldump-kit");
    let mut make = Command::new(kit);
    run(make.arg("make").arg(&bin).arg(folder.path()).arg(seconds));
    let ranges = fs::read_to_string(folder.path().join("ranges")).expect("the kit wrote it");
    let ranges: Vec<Vec<_>> = ranges.lines().map(|l| l.split(' ').collect()).collect();
    let [first, second] = &ranges[..] else {
        panic!("two timelines: {ranges:?}");
    };

    let dumps = Dumps::new(&bin, folder.path());
    let range = ["-p", "data", "-s", first[1], "-e", first[2]];
    let all = dumps.agree(&range);
    assert_eq!(all.status, Some(0), "{}", all.stderr);
    let missing = missing_kinds(&all.stdout, version_of(&bin).major());
    assert!(missing.is_empty(), "the workload writes no {missing:?}");
    let promoted = dumps.agree(&["-p", "data", "-t", "2", "-s", second[1], "-e", second[2]]);
    assert!(text(&promoted.stdout).contains("desc: END_OF_RECOVERY tli 2;"));

    let rel = busiest_relation(&all.stdout);
    for options in [
        &["--stats"][..],
        &["--stats=record"],
        &["-b"],
        &["-w", "-b"],
        &["-z", "-w"],
        &["-r", "Heap", "-r", "Btree", "-n", "1000"],
        &["--stats=record", "-r", "transaction"],
        &["-R", &rel],
        &["-R", &rel, "-B", "0", "-b"],
        &["-R", &rel, "-F", "vm"],
        &["-F", "init"],
        &["-x", "0"],
        &["-q"],
        &["-n", "1"],
    ] {
        dumps.agree(&[&range, options].concat());
    }
    // One dump begins at a record and ends with the WAL. The next begins with a segment, whose
    // start can be in the middle of a record.
    dumps.agree(&["-p", "data", "-s", first[1], "-z"]);
    let segment = Server::segment_of(first[1]);
    dumps.agree(&[segment.as_str(), "-p", "data/pg_wal", "-n", "3"]);
    dumps.agree(&[format!("data/pg_wal/{segment}")]);
    // walsim does not support zstd. Some builds of pg_waldump do not support it either.
    let details = dumps.ours(&[&range[..], &["-w", "-b"]].concat());
    let end = first_with_zstd(&details.stdout).unwrap_or(first[2].to_owned());
    let range = ["-p", "data", "-s", first[1], "-e", &end];
    full_pages_are_saved_alike(&dumps, &bin, folder.path(), &range);
}

/// The position of the first record that contains an image compressed with zstd.
fn first_with_zstd(details: &[u8]) -> Option<String> {
    let mut lsn = None;
    for line in text(details).lines() {
        if let Some((_, rest)) = line.split_once(", lsn: ") {
            lsn = rest.split(',').next().map(str::to_owned);
        } else if line.ends_with("method: zstd") {
            return lsn;
        }
    }
    None
}

/// Checks that both commands save the same full-page images, including compressed ones. pg_waldump
/// has this option since 16.
fn full_pages_are_saved_alike(dumps: &Dumps, bin: &Path, folder: &Path, range: &[&str]) {
    let save = |directory| [range, &["-w", "-q", directory]].concat();
    let files = |directory| -> BTreeMap<_, _> {
        let files = fs::read_dir(folder.join(directory)).expect("it was made");
        let files = files.map(|file| file.expect("readable").path());
        let read = |file: &Path| (file.file_name().map(ToOwned::to_owned), fs::read(file).ok());
        files.map(|file| read(&file)).collect()
    };
    let said = dumps.ours(&save("--save-fullpage=ours/saved"));
    assert_eq!((said.status, &said.stderr[..]), (Some(0), ""));
    let ours = files("ours/saved");
    assert!(ours.len() > 100, "{} pages were saved", ours.len());
    let is_page = |bytes: &Option<Vec<u8>>| bytes.as_ref().is_some_and(|b| b.len() == 8192);
    assert!(ours.values().all(is_page));
    if version_of(bin) < PgVersion::V16 {
        return;
    }
    dumps.agree(&save("--save-fullpage=ours/saved"));
    dumps.agree(&save("--save-fullpage=data/PG_VERSION"));
    let said = dumps.theirs(&save("--save-fullpage=theirs"));
    assert_eq!((said.status, &said.stderr[..]), (Some(0), ""));
    assert!(files("theirs") == ours, "the same pages");
}

/// The relation to which most block references point, in the format of `-R`.
fn busiest_relation(text: &[u8]) -> String {
    let mut counts = BTreeMap::new();
    for line in String::from_utf8_lossy(text).lines() {
        if let Some((_, rest)) = line.split_once(", blkref #0: rel ") {
            let rel = rest.split(' ').next().unwrap_or_default().to_owned();
            *counts.entry(rel).or_insert(0) += 1;
        }
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.expect("blocks").0
}

/// Wrong usage of the command, one case for each error message.
#[test]
fn wrong_usage_is_refused_alike() {
    let Some(bin) = tools() else {
        return;
    };
    let folder = Folder::new("waldump-usage");
    let data = folder.path().join("data");
    Server::init(&bin, &data, &["--wal-segsize=1"], "");
    let dumps = Dumps::new(&bin, folder.path());
    let names = fs::read_dir(data.join("pg_wal")).expect("a cluster has one");
    let names = names.map(|entry| entry.expect("readable").file_name());
    // The files after the first one are recycled segments.
    let one = names.filter(|name| name.len() == 24).min();
    let one = one.expect("a segment");
    let one = one.to_str().expect("digits");
    let number = u64::from_str_radix(&one[8..], 16).expect("digits");
    let position = |offset: u64| Lsn((number << 20) + offset).to_string();
    let (begin, next, far) = (position(0), position(1 << 20), position(2 << 20));
    let (inside, file) = (position(1), &format!("data/pg_wal/{one}"));
    for args in [
        &[][..],
        &["-y"],
        &["-z", "--help"],
        &["-z", "--version"],
        &["-zV"],
        &["--nope"],
        &["--fo"],
        &["--fo=x"],
        &["--follow=x"],
        &["--path"],
        &["-p"],
        &["-p", "nowhere"],
        &["-p", "."],
        &["-p", "data"],
        &["-p", "data", "-s", "0/0"],
        &["-p", "data", "-s", "9/0"],
        &["-p", "data", "-s", &begin, "-t", "2"],
        &["-p", "data", "-t", "x"],
        &["-p", "data", "-t", "0"],
        &["-p", "data", "-t", "-1"],
        &["-p", "data", "-t", "0x"],
        &["-p", "data", "-t", "08"],
        &["-p", "data", "-t", " 4294967296"],
        &["-p", "data", "-s", &begin, "-t", " 0x1 ", "-n", "1"],
        &["-s", "x"],
        &["-e", "0"],
        &["-n", "x"],
        &["-x", ""],
        &["-B", "x"],
        &["-B", "1"],
        &["-B", "-1"],
        &["-F", "MAIN"],
        &["-R", "1/2"],
        &["-R", "0/1/2"],
        &["-r", "nope"],
        &["-r", "custom1"],
        &["-r", "list"],
        &["--stats=x"],
        &["a", "b", "c", "d"],
        &["nowhere/a"],
        &["a"],
        &["data/PG_VERSION"],
        &["data/pg_wal/"],
        &[file, "b"],
        &[file, "-s", &next],
        &[file, "-e", &far],
        &[file, "-e", &next],
        &[file, "-p", "data/pg_wal"],
        &[one, "-p", "data", one, "-n", "2"],
        &["-n", "2", "--", one],
        &["-n2", "-bp", "data", "-s", &inside],
    ] {
        dumps.agree(args);
    }
    // A file that is not WAL has no version. For such a file walsim prints the error of 15 and 16.
    if version_of(&bin) < PgVersion::V17 {
        dumps.agree(&["data/global/pg_control"]);
    }
    // WAL of an unknown version, and an invalid segment size.
    let original = fs::read(folder.path().join(file)).expect("our own");
    for (at, bytes) in [(0, [0xFF, 0xD1]), (33, [0x11, 0])] {
        let mut changed = original.clone();
        changed[at..at + 2].copy_from_slice(&bytes);
        fs::write(folder.path().join("data").join(one), changed).expect("our own");
        let path = format!("data/{one}");
        dumps.agree(&[&path]);
        let said = dumps.ours_whole(&[&path]);
        let named = said
            .stderr
            .contains("has magic number D1FF. Known are D110 (PostgreSQL 15), ");
        assert_eq!(named, at == 0, "{}", said.stderr);
    }
    fs::remove_file(folder.path().join("data").join(one)).expect("our own");
    // A .partial file is read like the segment that it belongs to. This .partial file ends with
    // zeros.
    let whole = dumps.agree(&[file]);
    assert!(
        whole.stderr.contains("invalid record length"),
        "{}",
        whole.stderr
    );
    let partial = format!("{file}.partial");
    fs::rename(folder.path().join(file), folder.path().join(&partial)).expect("our own");
    assert!(dumps.ours(&[&partial]) == whole, "as the whole segment");
}

/// With --follow the command prints new records as they appear. SIGINT then ends it successfully.
#[test]
fn wal_is_followed_until_interrupted() {
    let Some(bin) = tools() else {
        return;
    };
    let folder = Folder::new("waldump-follow");
    let data = folder.path().join("data");
    let mut server = Server::init(&bin, &data, &["--wal-segsize=1"], "");
    server.start();
    let start = server.psql("SELECT pg_current_wal_lsn()");
    server.psql("SELECT pg_logical_emit_message(false, 'before', '')");
    server.psql("SELECT pg_switch_wal()");
    let shown = folder.path().join("shown");
    let mut follower = Command::new(env!("CARGO_BIN_EXE_walsim"));
    follower
        .args(["waldump", "-f", "-s", &start, "-p"])
        .arg(&data);
    follower.stdout(File::create(&shown).expect("our own folder"));
    let mut follower = Killed(follower.spawn().expect("the command starts"));
    for text in ["before", "behind"] {
        let wanted = format!("prefix \"{text}\"");
        let shows = || fs::read_to_string(&shown).is_ok_and(|shown| shown.contains(&wanted));
        wait_for("a message to be shown", shows);
        server.psql("SELECT pg_logical_emit_message(false, 'behind', '')");
    }
    send(follower.0.id(), "INT");
    let status = follower.0.wait().expect("our own child");
    assert_eq!(status.code(), Some(0));
}

/// If the reader of the output closes the pipe, the command ends like a C program.
#[test]
fn a_closed_pipe_ends_it_like_a_c_program() {
    let Some(bin) = tools() else {
        return;
    };
    let folder = Folder::new("waldump-pipe");
    let data = folder.path().join("data");
    let keep = "wal_keep_size=100MB";
    let mut server = Server::init(&bin, &data, &["--wal-segsize=1"], keep);
    server.start();
    let start = server.psql("SELECT pg_current_wal_lsn()");
    // Two lines, each longer than a pipe's buffer.
    let message = "SELECT pg_logical_emit_message(false, 'long', repeat('x', 300000));";
    server.psql(&message.repeat(2));
    server.stop(Stop::Fast);
    let mut dump = Command::new(env!("CARGO_BIN_EXE_walsim"));
    dump.args(["waldump", "-s", &start, "-p"]).arg(&data);
    dump.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut dump = dump.spawn().expect("the command starts");
    let pipe = dump.stdout.take().expect("it was asked for");
    BufReader::new(pipe)
        .read_line(&mut String::new())
        .expect("one line at least");
    let ended = dump.wait_with_output().expect("our own child");
    assert_eq!(
        (ended.status.code(), &ended.stderr[..]),
        (Some(141), &b""[..])
    );
}

/// A process that is killed at the end of the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In a damaged segment, both commands find the same last valid record and report the same error.
#[test]
fn damage_is_reported_alike() {
    let Some(bin) = tools() else {
        return;
    };
    damage::compare(&bin, if wants_all() { 1 } else { 4 });
}

/// The programs to compare with, if pg_waldump is among them.
fn tools() -> Option<PathBuf> {
    let bin = server_bin()?;
    if bin.join("pg_waldump").exists() {
        return Some(bin);
    }
    println!("skipped: no pg_waldump in {}", bin.display());
    None
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether the environment selects the larger sizes.
#[expect(clippy::disallowed_methods, reason = "only selects the tests that run")]
fn wants_all() -> bool {
    std::env::var_os("WALSIM_INTEROP").is_some_and(|wanted| wanted == "all")
}

/// The required record types that do not occur.
fn missing_kinds(said: &[u8], major: u32) -> Vec<&'static str> {
    let said = text(said);
    let seen: BTreeSet<String> = said
        .lines()
        .filter_map(|line| {
            let rmgr = line.strip_prefix("rmgr: ")?.split_whitespace().next()?;
            let (_, desc) = line.split_once("desc: ")?;
            Some(format!("{rmgr}/{}", desc.split_whitespace().next()?))
        })
        .collect();
    let of_version = match major {
        15 => {
            "Heap2/PRUNE Heap2/VACUUM Heap2/FREEZE_PAGE Generic/Generic Gist/ASSIGN_LSN \
              Heap2/VISIBLE"
        }
        // The server of version 16 had no extension that writes Generic records.
        16 => "Heap2/PRUNE Heap2/VACUUM Heap2/FREEZE_PAGE Gist/ASSIGN_LSN Heap2/VISIBLE",
        17 | 18 => {
            "Heap2/PRUNE_ON_ACCESS Heap2/PRUNE_VACUUM_SCAN Heap2/PRUNE_VACUUM_CLEANUP \
              XLOG/CHECKPOINT_REDO Generic/Generic Gist/ASSIGN_LSN Heap2/VISIBLE"
        }
        _ => {
            "Heap2/PRUNE_ON_ACCESS Heap2/PRUNE_VACUUM_SCAN Heap2/PRUNE_VACUUM_CLEANUP \
              XLOG/CHECKPOINT_REDO Generic/Generic XLOG/ASSIGN_LSN \
              XLOG/LOGICAL_DECODING_STATUS_CHANGE"
        }
    };
    let wanted = TYPES
        .split_whitespace()
        .chain(of_version.split_whitespace());
    wanted.filter(|kind| !seen.contains(*kind)).collect()
}

/// The record types of all versions, except two. No server can be made to write NOOP, and
/// END_OF_RECOVERY would start a new timeline.
const TYPES: &str = "
    BRIN/CREATE_INDEX BRIN/DESUMMARIZE BRIN/INSERT BRIN/INSERT+INIT BRIN/REVMAP_EXTEND BRIN/SAMEPAGE_UPDATE BRIN/UPDATE
    BRIN/UPDATE+INIT Btree/DEDUP Btree/DELETE Btree/INSERT_LEAF Btree/INSERT_META Btree/INSERT_POST Btree/INSERT_UPPER
    Btree/MARK_PAGE_HALFDEAD Btree/META_CLEANUP Btree/NEWROOT Btree/REUSE_PAGE Btree/SPLIT_L Btree/SPLIT_R
    Btree/UNLINK_PAGE Btree/UNLINK_PAGE_META Btree/VACUUM CLOG/TRUNCATE CLOG/ZEROPAGE CommitTs/TRUNCATE
    CommitTs/ZEROPAGE Database/CREATE_FILE_COPY Database/CREATE_WAL_LOG Database/DROP Gin/CREATE_PTREE
    Gin/DELETE_LISTPAGE Gin/DELETE_PAGE Gin/INSERT Gin/INSERT_LISTPAGE Gin/SPLIT Gin/UPDATE_META_PAGE
    Gin/VACUUM_DATA_LEAF_PAGE Gin/VACUUM_PAGE Gist/DELETE Gist/PAGE_DELETE Gist/PAGE_REUSE
    Gist/PAGE_SPLIT Gist/PAGE_UPDATE Hash/ADD_OVFL_PAGE Hash/DELETE Hash/INIT_BITMAP_PAGE Hash/INIT_META_PAGE
    Hash/INSERT Hash/MOVE_PAGE_CONTENTS Hash/SPLIT_ALLOCATE_PAGE Hash/SPLIT_CLEANUP Hash/SPLIT_COMPLETE Hash/SPLIT_PAGE
    Hash/SQUEEZE_PAGE Hash/UPDATE_META_PAGE Hash/VACUUM_ONE_PAGE Heap/DELETE Heap/HEAP_CONFIRM Heap/HOT_UPDATE
    Heap/INPLACE Heap/INSERT Heap/INSERT+INIT Heap/LOCK Heap/TRUNCATE Heap/UPDATE Heap/UPDATE+INIT Heap2/LOCK_UPDATED
    Heap2/MULTI_INSERT Heap2/MULTI_INSERT+INIT Heap2/NEW_CID Heap2/REWRITE LogicalMessage/MESSAGE
    MultiXact/CREATE_ID MultiXact/TRUNCATE_ID MultiXact/ZERO_MEM_PAGE MultiXact/ZERO_OFF_PAGE RelMap/UPDATE
    ReplicationOrigin/DROP ReplicationOrigin/SET SPGist/ADD_LEAF SPGist/ADD_NODE SPGist/MOVE_LEAFS SPGist/PICKSPLIT
    SPGist/SPLIT_TUPLE SPGist/VACUUM_LEAF SPGist/VACUUM_REDIRECT SPGist/VACUUM_ROOT Sequence/LOG Standby/INVALIDATIONS
    Standby/LOCK Standby/RUNNING_XACTS Storage/CREATE Storage/TRUNCATE Tablespace/CREATE Tablespace/DROP
    Transaction/ABORT Transaction/ABORT_PREPARED Transaction/ASSIGNMENT Transaction/COMMIT Transaction/COMMIT_PREPARED
    Transaction/INVALIDATION Transaction/PREPARE XLOG/BACKUP_END XLOG/CHECKPOINT_ONLINE XLOG/CHECKPOINT_SHUTDOWN
    XLOG/FPI XLOG/FPI_FOR_HINT XLOG/FPW_CHANGE XLOG/NEXTOID XLOG/PARAMETER_CHANGE XLOG/RESTORE_POINT XLOG/SWITCH";
