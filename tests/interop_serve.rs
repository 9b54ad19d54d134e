//! `walsim-live serve` with PostgreSQL's programs. One test kills pg_receivewal again and again.
//! Another test breaks the connections of a real standby.
//!
//! Cluster and standby have the version of `WALSIM_PG_BIN`. pg_receivewal 15 supports only servers
//! of 15. If a later version is installed without pg_receivewal, walsim-live receives instead.
//!
//! Without PostgreSQL 15 the tests are skipped, or fail if `WALSIM_REQUIRE_PG` is set.
//! `WALSIM_INTEROP=all` selects larger sizes.

#[path = "interop/serve.rs"]
mod serve;
#[path = "interop/server.rs"]
mod server;

use serve::{Proxy, Serve, log_of};
use server::{Folder, Server, Stop, as_postgres, program, run, server_bin, version_of, wait_for};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

/// Are larger sizes selected?
fn full() -> bool {
    std::env::var_os("WALSIM_INTEROP").is_some_and(|wanted| wanted == "all")
}

/// A receiver gets all WAL of a busy server unchanged, however often the receiver is killed.
#[test]
fn pg_receivewal_is_killed_and_resumes() {
    let Some(servers) = server_bin() else {
        return;
    };
    // If the selected programs lack pg_receivewal, the test uses the programs of 15.
    let bin = program(&servers, "pg_receivewal");
    let bin = bin.parent().expect("it is in a directory");
    let version = format!("pg_version={}", version_of(bin).major());
    let (kills, segments, rate) = if full() {
        (20, 20, "500")
    } else {
        (8, 8, "2000")
    };
    let folder = Folder::new("receivewal");
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    make_dir(&theirs);
    let args = [
        "--workload",
        rate,
        "--set",
        &version,
        "--set",
        "segment=1MiB",
        "--set",
        "wal_keep_size=2GB",
    ];
    let server = Serve::start(&ours, &args);
    let create = ["--slot", "s1", "--create-slot"];
    run(receivewal(bin, &server, &theirs).args(create));
    for _ in 0..kills {
        let before = names(&theirs);
        let mut receiver = spawn(receivewal(bin, &server, &theirs).args(["--slot", "s1"]));
        // A new file shows that the receiver has resumed and is inside a segment. The receiver must
        // not be killed while it pads a file, because it would then refuse to continue.
        wait_for("pg_receivewal to begin another segment", || {
            names(&theirs).len() > before.len() && all_have_full_length(&theirs)
        });
        receiver.kill().expect("our own child");
        receiver.wait().expect("our own child");
    }
    let mut receiver = spawn(receivewal(bin, &server, &theirs).args(["--slot", "s1"]));
    wait_for("enough segments", || finished(&theirs).len() >= segments);
    let printed = server.printed();
    assert!(printed.starts_with("listening on 127.0.0.1:"), "{printed}");
    let status = server.stop("INT");
    assert!(status.success(), "{status}: {}", log_of(&ours));
    // The server has ended, so the receiver has confirmed the shutdown checkpoint.
    receiver.wait().expect("our own child");
    assert_same_segments(&theirs, &ours.join("pg_wal"), segments);
}

/// A killed server recovers, and has all commits that it acknowledged before.
#[test]
fn a_killed_server_recovers_in_its_directory() {
    let folder = Folder::new("recovers");
    let data = folder.path().join("data");
    let first = Serve::start(&data, &["--workload", "200", "--set", "segment=1MiB"]);
    wait_for("a second segment", || names(&data.join("pg_wal")).len() > 2);
    first.stop("KILL");
    assert!(data.join("postmaster.pid").exists());
    let second = Serve::start(&data, &[]);
    assert!(log_of(&data).contains("automatic recovery in progress"));
    assert!(second.stop("TERM").success());
    assert!(!data.join("postmaster.pid").exists());
}

/// A receiver gets the WAL of a stopped PostgreSQL cluster unchanged, however often the receiver is
/// killed. The cluster's other files are not changed.
#[test]
fn a_stopped_cluster_is_received() {
    let Some(bin) = server_bin() else {
        return;
    };
    let (kills, scale) = if full() { (10, "10") } else { (3, "2") };
    let folder = Folder::new("stopped");
    let data = folder.path().join("data");
    let mut real = Server::init(&bin, &data, &["--wal-segsize=1"], "wal_keep_size=1GB");
    real.start();
    run(real
        .client("pgbench")
        .args(["-i", "-q", "-s", scale, "postgres"]));
    real.stop(Stop::Fast);
    let before = state(&data);
    let server = Serve::start(&data, &[]);
    // pg_receivewal starts after the last segment in its directory.
    let theirs = folder.path().join("theirs");
    make_dir(&theirs);
    let wal = data.join("pg_wal");
    let first = finished(&wal).remove(0);
    run(as_postgres("cp").arg(wal.join(&first)).arg(&theirs));
    let end = end_of_wal(&bin, &server);
    let last = finished(&wal)
        .into_iter()
        .filter(|name| segment_end(name) <= lsn(&end))
        .count();
    for kill in 0..kills {
        let before = names(&theirs).len();
        let mut receiver = spawn(&mut receivewal(&bin, &server, &theirs));
        wait_for("the receiver to begin another segment", || {
            names(&theirs).len() > before && all_have_full_length(&theirs)
        });
        receiver.kill().expect("our own child");
        receiver.wait().expect("our own child");
        assert!(finished(&theirs).len() < last, "kill {kill} came too late");
    }
    let mut receiver = spawn(&mut receivewal(&bin, &server, &theirs));
    wait_for("all segments", || finished(&theirs).len() >= last);
    // The server of a stopped cluster does not support slots.
    let mut with_slot = receivewal(&bin, &server, &theirs);
    let refused = with_slot
        .args(["--slot", "s1"])
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("replication slots cannot be used"), "{said}");
    assert!(server.stop("INT").success(), "{}", log_of(&data));
    receiver.wait().expect("our own child");
    assert_same_segments(&theirs, &wal, last);
    assert_eq!(state(&data), before, "a file was changed");
    real.start();
    real.stop(Stop::Fast);
}

/// A real standby reaches the end of a stopped primary's WAL, although the proxy cuts its
/// connections inside messages.
#[test]
fn a_real_standby_catches_up_through_cuts() {
    let Some(bin) = server_bin() else {
        return;
    };
    const CUTS: u64 = 20;
    let megabytes: u64 = if full() { 200 } else { 24 };
    let folder = Folder::new("standby");
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    let mut real = Server::init(&bin, &data, &["--wal-segsize=1"], "wal_keep_size=4GB");
    run(as_postgres("cp").arg("-a").arg(&data).arg(&copy));
    real.start();
    let scale = (megabytes / 12).to_string();
    run(real
        .client("pgbench")
        .args(["-i", "-q", "-s", &scale, "postgres"]));
    let written = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/100000')::bigint / 1048576";
    while real.psql(written).parse::<u64>().expect("a number") < megabytes {
        run(real
            .client("pgbench")
            .args(["-n", "-c", "4", "-t", "500", "postgres"]));
    }
    let count =
        "SELECT count(*) FROM pgbench_accounts UNION ALL SELECT count(*) FROM pgbench_history";
    let counted = real.psql(count);
    real.stop(Stop::Fast);

    let server = Serve::start(&data, &[]);
    let end = end_of_wal(&bin, &server);
    // The numbers of bytes are odd, so that a cut does not coincide with the end of a message.
    let budget = |n: u64| megabytes * 1_048_576 / (CUTS + 4) - 7919 * (n % 5) - 1;
    let proxy = Proxy::start(server.port, (0..CUTS).map(budget).collect());
    let mut standby = Server::at(&bin, &copy);
    standby.configure(&format!(
        "primary_conninfo='host=127.0.0.1 port={} user=postgres'\n\
         hot_standby=on\nwal_retrieve_retry_interval=100ms",
        proxy.port
    ));
    fs::write(copy.join("standby.signal"), "").expect("our own folder");
    run(Command::new("chown")
        .arg("--reference")
        .arg(&data)
        .arg(copy.join("standby.signal")));
    standby.start();
    let reached = format!("SELECT pg_last_wal_replay_lsn() >= '{end}'::pg_lsn");
    wait_for("the standby to reach the end", || {
        standby.psql(&reached) == "t"
    });
    let (cuts, inside) = (&proxy.cuts, &proxy.inside);
    assert_eq!(cuts.load(Ordering::SeqCst), CUTS);
    assert!(
        inside.load(Ordering::SeqCst) >= 10,
        "{inside:?} inside a message"
    );
    // The standby has confirmed all WAL, so the server can end.
    assert!(server.stop("INT").success(), "{}", log_of(&data));
    assert_eq!(standby.psql("SELECT pg_last_wal_replay_lsn()"), end);
    assert_eq!(standby.psql(count), counted);
    standby.stop(Stop::Fast);
}

/// The server refuses the directory with an error of one line, and leaves no files there.
#[test]
fn directories_that_cannot_be_served_are_refused() {
    let folder = Folder::new("refused");
    let data = folder.path().join("data");
    assert!(Serve::start(&data, &[]).stop("INT").success());
    // Without its settings file, a cluster of walsim-live looks like a stopped PostgreSQL cluster.
    let stopped = folder.path().join("stopped");
    let fresh = |change: &dyn Fn(&Path)| {
        let _ = fs::remove_dir_all(&stopped);
        run(as_postgres("cp").arg("-a").arg(&data).arg(&stopped));
        fs::remove_file(stopped.join("walsim.toml")).expect("it has one");
        change(&stopped);
    };
    let control = |dir: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let path = dir.join("global/pg_control");
        let mut bytes = fs::read(&path).expect("it has one");
        change(&mut bytes);
        fs::write(path, bytes).expect("our own folder");
    };
    type Change<'a> = &'a dyn Fn(&Path);
    let cases: [(Change<'_>, &[&str], i32, &str); 12] = [
        (
            &|_| {},
            &["--workload", "5"],
            2,
            "--workload requires a cluster made by walsim-live",
        ),
        (&|_| {}, &["--frobnicate"], 2, "unexpected argument"),
        (
            &|_| {},
            &["--set", "segment=2MiB"],
            1,
            "segment is that of the cluster",
        ),
        (
            &|_| {},
            &["--set", "wal_sender_timeut=1s"],
            1,
            "did you mean wal_sender_timeout?",
        ),
        (
            &|dir| control(dir, &|bytes| bytes[40] ^= 1),
            &[],
            1,
            "incorrect checksum in control file",
        ),
        (
            &|dir| control(dir, &|bytes| bytes.truncate(100)),
            &[],
            1,
            "unusable control file",
        ),
        (
            &|dir| fs::remove_file(dir.join("global/pg_control")).expect("it has one"),
            &[],
            1,
            "could not read file",
        ),
        (
            &|dir| fs::write(dir.join("PG_VERSION"), "9.6\n").expect("our own folder"),
            &[],
            1,
            "the cluster has PostgreSQL version \"9.6\"",
        ),
        (
            &|dir| fs::remove_file(dir.join("PG_VERSION")).expect("it has one"),
            &[],
            1,
            "is neither empty nor a cluster",
        ),
        (
            &|dir| fs::write(dir.join("postmaster.pid"), "").expect("our own folder"),
            &[],
            1,
            "lock file \"postmaster.pid\" is empty",
        ),
        (
            &|dir| {
                run(Command::new("chmod").arg("750").arg(dir));
                run(Command::new("chmod").arg("o+x").arg(dir));
            },
            &[],
            1,
            "has invalid permissions",
        ),
        (
            &|dir| fs::write(dir.join("walsim.toml"), "pg_version = \"16.5\"").expect("ours"),
            &[],
            1,
            "unknown pg_version 16.5",
        ),
    ];
    for (change, args, code, complaint) in cases {
        fresh(change);
        let output = serve::serve(&stopped, args).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(complaint), "{complaint}: {said}");
        assert_eq!(output.status.code(), Some(code), "{said}");
        if code == 1 {
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        let lock = stopped.join("postmaster.pid");
        let left = fs::read_to_string(lock).unwrap_or_default();
        assert_eq!(left, "", "{complaint}");
    }
    // A second server for the same directory is refused. A cluster that has crashed is refused,
    // too.
    let running = Serve::start(&data, &[]);
    let second = serve::serve(&data, &[]).output().expect("it starts");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("is another postmaster (PID "), "{said}");
    assert_eq!((second.status.code(), said.lines().count()), (Some(1), 1));
    running.stop("KILL");
    fs::remove_file(data.join("walsim.toml")).expect("it has one");
    let output = serve::serve(&data, &[]).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("database cluster state is \"in production\""),
        "{said}"
    );
}

/// pg_receivewal of the server's version, or walsim-live if there is none.
fn receivewal(bin: &Path, server: &Serve, dir: &Path) -> Command {
    if !bin.join("pg_receivewal").exists() {
        let mut command = as_postgres(env!("CARGO_BIN_EXE_walsim-live"));
        let conninfo = format!("host=127.0.0.1 port={} user=postgres", server.port);
        command.args(["receive", "--no-loop", "-d", &conninfo]);
        command.arg("-D").arg(dir);
        return command;
    }
    let mut command = as_postgres(bin.join("pg_receivewal"));
    command.args(["-h", "127.0.0.1", "-U", "postgres", "--no-loop"]);
    command
        .args(["-p", &server.port.to_string()])
        .arg("-D")
        .arg(dir);
    command
}

fn spawn(command: &mut Command) -> Child {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    quiet.spawn().expect("the program starts")
}

/// Makes a directory that belongs to the user of the programs.
fn make_dir(path: &Path) {
    run(as_postgres("mkdir").arg(path));
}

/// The end of the server's WAL.
fn end_of_wal(bin: &Path, server: &Serve) -> String {
    let mut psql = as_postgres(program(bin, "psql"));
    let conninfo = format!(
        "host=127.0.0.1 port={} user=postgres replication=1",
        server.port
    );
    let row = run(psql.args(["-XAtq", "-c", "IDENTIFY_SYSTEM"]).arg(conninfo));
    row.split('|').nth(2).expect("three columns").into()
}

/// The end of a segment of 1 MiB.
fn segment_end(name: &str) -> u64 {
    (hex(&name[8..16]) << 32) + ((hex(&name[16..]) + 1) << 20)
}

fn lsn(text: &str) -> u64 {
    let (high, low) = text.split_once('/').expect("a position");
    (hex(high) << 32) + hex(low)
}

fn hex(digits: &str) -> u64 {
    u64::from_str_radix(digits, 16).expect("digits")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("our own folder");
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.expect("our own folder").file_name();
        name.into_string().expect("plain names")
    };
    entries.map(name).collect()
}

fn all_have_full_length(dir: &Path) -> bool {
    let len = |name: &String| fs::metadata(dir.join(name)).map_or(0, |meta| meta.len());
    names(dir).iter().all(|name| len(name) == 1 << 20)
}

/// Finished segments, oldest first.
fn finished(dir: &Path) -> Vec<String> {
    let mut names = names(dir);
    names.retain(|name| name.len() == 24);
    names.sort();
    names
}

fn assert_same_segments(got: &Path, source: &Path, least: usize) {
    let names = finished(got);
    assert!(names.len() >= least, "{} segments", names.len());
    for name in names {
        let read = |dir: &Path| fs::read(dir.join(&name)).expect("both have it");
        assert!(read(got) == read(source), "{name} differs");
    }
}

/// All files with length and modification time.
fn state(dir: &Path) -> BTreeMap<String, (u64, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("our own folder") {
            let path = entry.expect("our own folder").path();
            let meta = fs::symlink_metadata(&path).expect("nobody removes it");
            let changed = meta.modified().expect("Linux");
            if meta.is_dir() {
                dirs.push(path);
            } else {
                found.insert(path.display().to_string(), (meta.len(), changed));
            }
        }
    }
    found
}
