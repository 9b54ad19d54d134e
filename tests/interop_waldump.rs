//! PostgreSQL's WAL, read by `walsim waldump` and by PostgreSQL's own pg_waldump: they must print the same.
//!
//! Skipped where PostgreSQL 15 is not installed, unless `WALSIM_REQUIRE_PG` is set. `WALSIM_INTEROP=all` asks for more
//! WAL than a routine run has time for, and for every case of damage.

#[path = "interop/damage.rs"]
mod damage;
#[path = "interop/dumps.rs"]
mod dumps;
#[path = "interop/server.rs"]
mod server;
#[path = "interop/workload.rs"]
mod workload;

use dumps::Dumps;
use server::{Folder, Server, Stop, postgres_bin, send, wait_for};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use walsim_core::base::Lsn;
use workload::Bench;

/// The helper itself: a server that was killed starts again and has what was committed.
#[test]
fn a_server_starts_and_ends_in_every_way() {
    let Some(bin) = postgres_bin() else {
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

/// A directory of real WAL, line by line, and the same through every filter.
#[test]
fn real_wal_is_printed_alike() {
    let Some(bin) = postgres_bin() else {
        return;
    };
    let bench = if wants_all() {
        Bench {
            scale: 5,
            seconds: 60,
        }
    } else {
        Bench {
            scale: 1,
            seconds: 1,
        }
    };
    let folder = Folder::new("waldump");
    let data = folder.path().join("data");
    let mut server = Server::init(&bin, &data, &["--wal-segsize=1"], workload::SETTINGS);
    server.start();
    let start = server.psql("SELECT redo_lsn FROM pg_control_checkpoint()");
    workload::write(&mut server, folder.path(), bench);
    let end = server.psql("SELECT pg_current_wal_flush_lsn()");
    let rel = server.psql(
        "SELECT (SELECT oid FROM pg_tablespace WHERE spcname = 'pg_default') || '/' ||
        (SELECT oid FROM pg_database WHERE datname = 'postgres') || '/' ||
        pg_relation_filenode('pgbench_accounts')",
    );
    server.stop(Stop::Fast);

    let dumps = Dumps::new(&bin, folder.path());
    let range = ["-p", "data", "-s", &start, "-e", &end];
    let all = dumps.agree(&range);
    assert_eq!(all.status, Some(0), "{}", all.stderr);
    let missing = missing_kinds(&all.stdout);
    assert!(missing.is_empty(), "the workload writes no {missing:?}");

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
    // To the end of WAL, and from the middle of a record.
    dumps.agree(&["-p", "data", "-s", &start, "-z"]);
    let segment = Server::segment_of(&end);
    dumps.agree(&[segment.as_str(), "-p", "data/pg_wal", "-n", "3"]);
    dumps.agree(&[format!("data/pg_wal/{segment}")]);
}

/// Wrong usage, in every way that has a complaint of its own.
#[test]
fn wrong_usage_is_refused_alike() {
    let Some(bin) = postgres_bin() else {
        return;
    };
    let folder = Folder::new("waldump-usage");
    let data = folder.path().join("data");
    Server::init(&bin, &data, &["--wal-segsize=1"], "");
    let dumps = Dumps::new(&bin, folder.path());
    let names = fs::read_dir(data.join("pg_wal")).expect("a cluster has one");
    let names = names.map(|entry| entry.expect("readable").file_name());
    // Those behind it are recycled ones.
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
        &["-t", "x"],
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
        &["data/global/pg_control"],
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
    // A .partial file stands for its segment. This one ends with a record of zeros.
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

/// What comes later is shown when it comes, and SIGINT is a good end.
#[test]
fn wal_is_followed_until_interrupted() {
    let Some(bin) = postgres_bin() else {
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

/// A reader that goes away ends it as it ends a C program, in the eyes of a shell.
#[test]
fn a_closed_pipe_is_no_failure() {
    let Some(bin) = postgres_bin() else {
        return;
    };
    let folder = Folder::new("waldump-pipe");
    let data = folder.path().join("data");
    let mut server = Server::init(&bin, &data, &["--wal-segsize=1"], "");
    server.start();
    let start = server.psql("SELECT pg_current_wal_lsn()");
    // Two lines, each longer than a pipe holds.
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

/// A process that ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A segment damaged in every way: the same last good record, and the same complaint.
#[test]
fn damage_is_met_alike() {
    let Some(bin) = postgres_bin() else {
        return;
    };
    damage::compare(&bin, if wants_all() { 1 } else { 4 });
}

/// Is this the run for which time does not matter?
#[expect(
    clippy::disallowed_methods,
    reason = "which tests run is no part of a simulated run"
)]
fn wants_all() -> bool {
    std::env::var_os("WALSIM_INTEROP").is_some_and(|wanted| wanted == "all")
}

/// Which of the types that matter do not occur.
fn missing_kinds(text: &[u8]) -> Vec<&'static str> {
    let text = String::from_utf8_lossy(text);
    let seen: BTreeSet<String> = text
        .lines()
        .filter_map(|line| {
            let rmgr = line.strip_prefix("rmgr: ")?.split_whitespace().next()?;
            let (_, desc) = line.split_once("desc: ")?;
            Some(format!("{rmgr}/{}", desc.split_whitespace().next()?))
        })
        .collect();
    let wanted = "XLOG/CHECKPOINT_SHUTDOWN XLOG/CHECKPOINT_ONLINE XLOG/NEXTOID XLOG/SWITCH XLOG/FPI \
        XLOG/FPI_FOR_HINT XLOG/RESTORE_POINT XLOG/PARAMETER_CHANGE Transaction/COMMIT \
        Transaction/ABORT Transaction/PREPARE Transaction/COMMIT_PREPARED \
        Transaction/ABORT_PREPARED Transaction/INVALIDATION Storage/CREATE Storage/TRUNCATE \
        Standby/LOCK Standby/RUNNING_XACTS Generic/Generic LogicalMessage/MESSAGE \
        Database/CREATE_WAL_LOG Tablespace/CREATE MultiXact/CREATE_ID RelMap/UPDATE Heap2/PRUNE \
        Heap/HOT_UPDATE Btree/SPLIT_R Hash/INSERT Gin/SPLIT Gist/PAGE_SPLIT Sequence/LOG \
        SPGist/PICKSPLIT BRIN/DESUMMARIZE ReplicationOrigin/SET";
    let wanted = wanted.split_whitespace();
    wanted.filter(|kind| !seen.contains(*kind)).collect()
}
