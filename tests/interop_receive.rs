//! `walsim-live receive` with a real PostgreSQL server.
//!
//! Without PostgreSQL 15 the tests are skipped, or fail if `WALSIM_REQUIRE_PG` is set.
//! `WALSIM_PG_BIN` selects a newer server. `WALSIM_INTEROP=all` selects larger sizes.

#[path = "interop/receive_ends.rs"]
mod ends;
#[path = "interop/receiver.rs"]
mod receiver;
#[path = "interop/recording.rs"]
mod recording;
#[path = "interop/server.rs"]
mod server;

use receiver::Receiver;
use recording::Recording;
use server::{Folder, Server, Stop, as_postgres, program, run, server_bin, wait_for};
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use walsim_core::base::{Geometry, Lsn};
use walsim_core::call::{Exit, Input, Signal};
use walsim_core::node::PgReceivewalOptions;
use walsim_live::receive::{Config, driver, parse};

const KEEP: &str = "wal_keep_size=4GB\nautovacuum=off\n";

fn primary(bin: &Path, folder: &Folder, settings: &str) -> Server {
    let data = folder.path().join("data");
    let mut server = Server::init(bin, &data, &["--wal-segsize=1"], settings);
    server.start();
    server
}

/// Are larger sizes selected?
fn is_full() -> bool {
    std::env::var_os("WALSIM_INTEROP").is_some_and(|wanted| wanted == "all")
}

/// pgbench in the background. Half of its transactions are pgbench's own, and the other half write
/// a lot at once. pgbench is stopped when this value is dropped.
struct Load(Child);

const LARGE: &str =
    "INSERT INTO large SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 600);\n";

impl Load {
    fn start(server: &Server) -> Self {
        run(server
            .client("pgbench")
            .args(["-q", "-i", "-s", "1", "postgres"]));
        server.psql("CREATE TABLE large (t text)");
        Self::resume(server)
    }

    /// Starts pgbench on a server that already has the tables.
    fn resume(server: &Server) -> Self {
        let script = server.data().with_extension("pgbench");
        fs::write(&script, LARGE).expect("the folder is ours");
        let mut command = server.client("pgbench");
        command.args(["-n", "-c", "4", "-T", "600", "-b", "tpcb-like", "-f"]);
        command.arg(&script).arg("postgres");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("pgbench starts"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ends the current segment, and waits until the receiver has finished this segment.
fn catch_up(server: &Server, receiver: &Receiver) {
    server.psql("SELECT pg_logical_emit_message(false, '', '')");
    let last = Server::segment_of(&server.psql("SELECT pg_switch_wal()"));
    wait_for("the receiver to catch up", || receiver.has(&last));
}

/// The receiver is killed at arbitrary times, with and without `--synchronous`. After each start it
/// continues, and the finished segments are correct.
#[test]
fn a_killed_receiver_continues_with_every_segment() {
    let Some(bin) = server_bin() else {
        return;
    };
    let folder = Folder::new("receive-kills");
    let server = primary(&bin, &folder, KEEP);
    let mut receiver = Receiver::new(folder.path(), "wal");
    let load = Load::start(&server);
    let slot = ["--slot=s", "--create-slot", "--if-not-exists"];
    let synchronous = [&slot[..], &["--synchronous"]].concat();
    for kill in 0..20u64 {
        let args = [&slot[..], &synchronous][usize::from(kill % 2 == 1)];
        receiver.start(&server, args);
        let before = receiver.finished().len();
        wait_for("a segment", || receiver.finished().len() > before);
        // Waits, so that the kill comes at some point in the next segment.
        std::thread::sleep(Duration::from_millis(kill * 37 % 100));
        receiver.kill();
        // WAL before the slot's restart_lsn may be removed, so the receiver must have received it.
        let restart = server.psql("SELECT restart_lsn FROM pg_replication_slots");
        let finished = receiver.finished();
        let first = finished.first().expect("there is one");
        assert!(
            segments(first, finished.len()).eq(finished.iter().cloned()),
            "{finished:?}"
        );
        let last = finished.last().expect("there is one");
        assert!(
            Server::segment_of(&restart) <= next(last),
            "{restart}, {finished:?}"
        );
    }
    drop(load);
    receiver.start(&server, &synchronous);
    catch_up(&server, &receiver);
    receiver.signal("INT");
    assert_eq!(receiver.wait().code(), Some(0));
    assert!(receiver.compare(&server) >= 20, "{:?}", receiver.finished());
    // The receiver printed the name of each segment once, unless SIGKILL came between finishing a
    // segment and printing its name.
    let called = receiver.out();
    assert!(called.iter().all(|name| receiver.has(name)), "{called:?}");
    assert!(called.len() + 20 >= receiver.finished().len());
}

/// The names of `count` segments, beginning with `first`. All are below 0/FFFFFFFF.
fn segments(first: &str, count: usize) -> impl Iterator<Item = String> {
    let from = u64::from_str_radix(&first[16..], 16).expect("hexadecimal");
    let prefix = first[..16].to_string();
    (from..from + count as u64).map(move |number| format!("{prefix}{number:08X}"))
}

fn next(segment: &str) -> String {
    segments(segment, 2).last().expect("two of them")
}

/// The receiver reports no flush position before the fsync has returned. This is tested on real
/// files, with and without `--synchronous`.
#[test]
fn nothing_is_reported_before_its_fsync_has_returned() {
    let Some(bin) = server_bin() else {
        return;
    };
    let folder = Folder::new("receive-order");
    let server = primary(&bin, &folder, KEEP);
    server.psql("SELECT pg_create_physical_replication_slot('s')");
    let load = Load::start(&server);
    for (synchronous, slot) in [(true, None), (false, Some(String::from("s")))] {
        let dir = folder.path().join(format!("wal-{synchronous}"));
        fs::create_dir(&dir).expect("the folder is ours");
        let port = server.port();
        let text = format!("host=127.0.0.1 port={port} user=postgres");
        let config = Config {
            options: PgReceivewalOptions {
                conninfo: parse(&text, "rx").expect("it is sound"),
                slot,
                create_slot: false,
                slot_exists_ok: false,
                synchronous,
                no_loop: true,
                endpos: Lsn::INVALID,
            },
            status_interval_ms: 100,
        };
        let mut driver = driver(config, &dir, Recording::default()).expect("sockets and files");
        let pid = driver.machine().pid();
        let handle = driver.handle();
        let started = Instant::now();
        let mut first = None;
        let mut asked = false;
        let limit = Duration::from_secs(if is_full() { 30 } else { 4 });
        while driver
            .turn(Some(Duration::from_millis(50)))
            .expect("it runs")
        {
            let flushed = driver.host().flushed;
            let first = *first.get_or_insert(flushed);
            let enough = flushed > first + (3 << 20) && started.elapsed() > limit;
            if enough && !asked {
                asked = true;
                handle.input(Input::Signal(pid, Signal::Term));
            }
            assert!(started.elapsed() < limit * 10, "it gets nowhere");
        }
        assert_eq!(driver.machine().exit(), Some(&Exit::Normal));
        let reports = driver.host().reports;
        let least = if synchronous { 200 } else { 20 };
        assert!(reports > least, "{reports} reports");
    }
    drop(load);
}

/// The receiver is a synchronous standby, so commits wait for it. A server restored from the
/// receiver's files has every acknowledged commit.
#[test]
fn acknowledged_commits_survive_the_primary() {
    let Some(bin) = server_bin() else {
        return;
    };
    let folder = Folder::new("receive-sync");
    let mut server = primary(&bin, &folder, KEEP);
    server.psql("CREATE TABLE t (i int)");
    server.stop(Stop::Fast);
    let backup = folder.path().join("backup");
    run(as_postgres("cp").arg("-a").arg(server.data()).arg(&backup));
    server.start();
    let mut receiver = Receiver::new(folder.path(), "wal");
    receiver.start(&server, &["--synchronous"]);
    let state = "SELECT state FROM pg_stat_replication WHERE application_name = 'rx'";
    wait_for("the stream", || server.psql(state) == "streaming");
    server.psql("ALTER SYSTEM SET synchronous_standby_names = 'rx'");
    server.psql("SELECT pg_reload_conf()");
    let sync = "SELECT sync_state FROM pg_stat_replication";
    wait_for("the standby to count", || server.psql(sync) == "sync");

    // While the receiver is stopped, a commit waits for it.
    receiver.signal("STOP");
    let mut command = server.client("psql");
    command.args(["-XAtqc", "INSERT INTO t VALUES (0)", "postgres"]);
    let mut waiting = command.stdout(Stdio::null()).spawn().expect("psql starts");
    let event = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    wait_for("the commit to wait", || server.psql(event) == "1");
    assert!(waiting.try_wait().expect("our child").is_none());
    receiver.signal("CONT");
    assert!(waiting.wait().expect("our child").success());

    // Sessions commit consecutive numbers. Then the primary is killed.
    let script = folder.path().join("commits.sql");
    let inserts = (1..200_000).map(|i| format!("INSERT INTO t VALUES ({i}) RETURNING i;\n"));
    fs::write(&script, inserts.collect::<String>()).expect("the folder is ours");
    let told = folder.path().join("told");
    let mut command = server.client("psql");
    command.args(["-XAtq", "-f", "-", "postgres"]);
    command.stdin(fs::File::open(&script).expect("just written"));
    command.stdout(fs::File::create(&told).expect("the folder is ours"));
    let mut client = command.stderr(Stdio::null()).spawn().expect("psql starts");
    let wanted = if is_full() { 20_000 } else { 1000 };
    let text = || fs::read_to_string(&told).expect("it is ours");
    wait_for("commits", || text().lines().count() > wanted);
    server.kill();
    let _ = client.wait();
    receiver.signal("INT");
    assert_eq!(receiver.wait().code(), Some(0));

    // psql writes in blocks, so the last line can be incomplete.
    let text = text();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let acknowledged = whole.lines().last().expect("many").to_string();
    let mut restored = Server::at(&bin, &backup);
    let archive = folder.path().join("archive");
    receiver.copy(&archive);
    let archive = archive.display();
    restored.configure(&format!("restore_command = 'cp {archive}/%f %p'"));
    run(as_postgres("touch").arg(backup.join("recovery.signal")));
    restored.start();
    wait_for("the end of recovery", || {
        restored.psql("SELECT pg_is_in_recovery()") == "f"
    });
    let lost = format!(
        "SELECT count(*) FROM generate_series(0, {acknowledged}) i LEFT JOIN t USING (i) WHERE t IS NULL"
    );
    assert_eq!(
        restored.psql(&lost),
        "0",
        "commits up to {acknowledged} are lost"
    );
}

/// At a clean shutdown the receiver gets the shutdown checkpoint. The primary waits no longer for
/// our receiver than for pg_receivewal.
#[test]
fn after_a_clean_shutdown_the_receiver_has_all_wal() {
    let Some(bin) = server_bin() else {
        return;
    };
    let folder = Folder::new("receive-shutdown");
    let mut server = primary(&bin, &folder, KEEP);
    // pg_receivewal does not support servers newer than itself.
    let has_own = bin.join("pg_receivewal").exists();
    let both = if has_own { &[true, false][..] } else { &[true] };
    let mut durations = [Vec::new(), Vec::new()];
    for round in 0..if is_full() { 7 } else { 3 } {
        for &ours in both {
            let slot = format!("s{round}{}", u8::from(ours));
            server.psql(&format!(
                "SELECT pg_create_physical_replication_slot('{slot}')"
            ));
            let mut receiver = Receiver::new(folder.path(), &format!("wal-{slot}"));
            let more = ["--no-loop", "--slot", &slot];
            if ours {
                receiver.start(&server, &more);
            } else {
                receiver.start_pg_receivewal(&server, &more);
            }
            let state = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
            wait_for("the stream", || server.psql(state) == "1");
            server.psql("CREATE TABLE IF NOT EXISTS t (i int); INSERT INTO t VALUES (1)");
            let began = Instant::now();
            server.stop(Stop::Fast);
            durations[usize::from(!ours)].push(began.elapsed());
            let status = receiver.wait();
            assert_eq!(status.code(), Some(i32::from(!ours)), "{}", receiver.err());
            has_last_checkpoint(&bin, &server, &receiver);
            server.start();
            server.psql(&format!("SELECT pg_drop_replication_slot('{slot}')"));
        }
    }
    if !has_own {
        return;
    }
    let [ours, theirs] = durations.map(|mut all| {
        all.sort();
        all[all.len() / 2]
    });
    println!("the primary stops in {ours:?}, with pg_receivewal in {theirs:?}");
    // The duration of a shutdown varies by about this much.
    let most = theirs + Duration::from_millis(300);
    assert!(ours < most, "{ours:?}, {theirs:?}");
}

/// Checks that the receiver's partial segment equals the server's segment, up to the end of the
/// checkpoint record that pg_control names.
fn has_last_checkpoint(bin: &Path, server: &Server, receiver: &Receiver) {
    let control = run(as_postgres(program(bin, "pg_controldata")).arg(server.data()));
    let place = |line: &str| {
        Some(String::from(
            line.strip_prefix("Latest checkpoint location:")?,
        ))
    };
    let checkpoint = control.lines().find_map(place).expect("it tells");
    let checkpoint: Lsn = checkpoint.trim().parse().expect("an LSN");
    let segment = Server::segment_of(&checkpoint.to_string());
    assert_eq!(receiver.partial().as_ref(), Some(&segment));
    let ours = fs::read(receiver.dir().join(format!("{segment}.partial"))).expect("it is ours");
    let theirs = fs::read(server.data().join("pg_wal").join(&segment)).expect("just written");
    let at = Geometry::STOCK.segment_offset(checkpoint) as usize;
    let len = u32::from_le_bytes(theirs[at..at + 4].try_into().expect("four bytes"));
    assert!(len > 100, "a checkpoint is longer than {len} bytes");
    let end = at + len as usize;
    assert!(ours[..end] == theirs[..end], "{segment} differs");
}

/// The upstream is a standby, and it is promoted between two loads of pgbench. The receiver stays
/// connected, fetches the history file first, and keeps the old partial segment.
#[test]
fn a_receiver_follows_a_promotion() {
    let Some(bin) = server_bin() else {
        return;
    };
    let folder = Folder::new("receive-promotion");
    let mut old = primary(&bin, &folder, KEEP);
    old.psql("CREATE TABLE t (i int)");
    old.stop(Stop::Fast);
    let copy = folder.path().join("standby");
    run(as_postgres("cp").arg("-a").arg(old.data()).arg(&copy));
    run(as_postgres("touch").arg(copy.join("standby.signal")));
    let mut standby = Server::at(&bin, &copy);
    old.start();
    let port = old.port();
    standby.configure(&format!(
        "primary_conninfo='host=127.0.0.1 port={port} user=postgres'\nlog_replication_commands=on"
    ));
    standby.start();
    let mut receiver = Receiver::new(folder.path(), "wal");
    let args = [
        "-v",
        "--no-loop",
        "--synchronous",
        "--status-interval=100ms",
    ];
    receiver.start(&standby, &args);
    let load = Load::start(&old);
    let segments = if is_full() { 40 } else { 4 };
    wait_for("segments", || receiver.finished().len() >= segments);
    drop(load);
    let end = old.psql("SELECT pg_current_wal_flush_lsn()");
    let first = Server::segment_of(&end);
    wait_for("the standby's WAL", || {
        receiver.partial().as_deref() >= Some(&first) && {
            let sent = standby
                .psql("SELECT write_lsn >= pg_last_wal_receive_lsn() FROM pg_stat_replication");
            sent == "t"
                && standby.psql(&format!("SELECT pg_last_wal_receive_lsn() >= '{end}'")) == "t"
        }
    });
    old.stop(Stop::Fast);
    standby.psql("SELECT pg_promote()");
    let load = Load::resume(&standby);
    let new = |name: &String| name.starts_with("00000002");
    let received = || receiver.finished().into_iter().filter(new).count();
    wait_for("segments of the new timeline", || received() >= segments);
    drop(load);
    let last = standby.psql("SELECT pg_walfile_name(pg_switch_wal())");
    wait_for("the new timeline", || receiver.has(&last));
    receiver.signal("TERM");
    assert_eq!(receiver.wait().code(), Some(0), "{}", receiver.err());
    let history = fs::read(receiver.dir().join("00000002.history")).expect("it was fetched");
    let theirs = fs::read(standby.data().join("pg_wal/00000002.history"));
    assert_eq!(history, theirs.expect("the standby wrote it"));
    receiver.compare(&standby);
    let left = fs::read_dir(receiver.dir()).expect("it is ours");
    let names = left.map(|entry| entry.expect("it is ours").file_name());
    let old_partial = |name: &str| name.starts_with("00000001") && name.ends_with(".partial");
    let kept = names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| old_partial(name));
    assert_eq!(kept.count(), 1);
    assert!(
        receiver.has_said("switched to timeline 2 at"),
        "{}",
        receiver.err()
    );
    let log = fs::read_to_string(standby.log()).expect("it is ours");
    assert_eq!(log.matches("command: IDENTIFY_SYSTEM").count(), 1, "{log}");
}

/// If the requested WAL was removed, the receiver ends with an error, even without --no-loop.
#[test]
fn removed_wal_is_a_permanent_error() {
    let Some(bin) = server_bin() else {
        return;
    };
    let folder = Folder::new("receive-removed");
    // Prevents automatic removal of WAL.
    let server = primary(&bin, &folder, "min_wal_size=2MB\nautovacuum=off\n");
    let mut receiver = Receiver::new(folder.path(), "wal");
    receiver.start(&server, &[]);
    wait_for("the stream", || receiver.partial().is_some());
    catch_up(&server, &receiver);
    receiver.kill();
    for _ in 0..8 {
        server.psql("SELECT pg_logical_emit_message(false, '', '')");
        server.psql("SELECT pg_switch_wal()");
    }
    server.psql("CHECKPOINT");
    for more in [&[][..], &["--no-loop"]] {
        receiver.start(&server, more);
        assert_eq!(receiver.wait().code(), Some(1));
        let said = receiver.err();
        let (said, hint) = said
            .rsplit_once("walsim-live: hint: ")
            .expect("there is a hint");
        assert!(said.ends_with("has already been removed\n"), "{said}");
        assert!(hint.starts_with("Take a new base backup"), "{hint}");
    }
}

/// If the receiver is stopped for too long, the server closes its connection. The receiver
/// reconnects when it continues.
#[test]
fn a_dropped_receiver_reconnects() {
    let Some(bin) = server_bin() else {
        return;
    };
    let folder = Folder::new("receive-timeout");
    let server = primary(&bin, &folder, &format!("{KEEP}wal_sender_timeout=2s\n"));
    let mut receiver = Receiver::new(folder.path(), "wal");
    receiver.start(&server, &["--status-interval=0"]);
    let senders =
        "SELECT string_agg(pid::text, ',') FROM pg_stat_replication WHERE state = 'streaming'";
    wait_for("the stream", || !server.psql(senders).is_empty());
    let first = server.psql(senders);
    // The receiver has answered keepalives. Without these answers the server would end the
    // connection at its timeout.
    let replies =
        "SELECT count(*) FROM pg_stat_replication WHERE reply_time > backend_start + interval '3s'";
    wait_for("an answer", || server.psql(replies) == "1");
    assert_eq!(server.psql(senders), first);
    receiver.signal("STOP");
    wait_for("the server to give it up", || {
        server.psql(senders).is_empty()
    });
    receiver.signal("CONT");
    wait_for("it to come back", || !server.psql(senders).is_empty());
    assert!(receiver.has_said("disconnected; waiting 5 seconds to try again"));
    catch_up(&server, &receiver);
    receiver.compare(&server);
    let log = fs::read_to_string(server.log()).expect("it is ours");
    assert_eq!(log.matches("replication timeout").count(), 1, "{log}");
}

/// Each error is one clear line. The exit status is 2 for wrong usage and 1 for other errors.
#[test]
fn errors_are_clear() {
    let Some(bin) = server_bin() else {
        return;
    };
    let folder = Folder::new("receive-refusals");
    let mut server = primary(&bin, &folder, KEEP);
    let refused = |server: &Server, more: &[&str], code: i32, text: &str| {
        let mut receiver = Receiver::new(folder.path(), "refused");
        receiver.start(server, more);
        assert_eq!(receiver.wait().code(), Some(code), "{}", receiver.err());
        let said = receiver.err();
        assert!(said.contains(text), "{said}");
        fs::remove_dir_all(receiver.dir()).expect("it is ours");
        fs::remove_file(receiver.dir().with_extension("err")).expect("it is ours");
    };
    for (more, code, text) in [
        (&["--create-slot"][..], 2, "--slot"),
        (&["--endpos=x"], 2, "could not parse end position \"x\""),
        (
            &["--slot=none", "--no-loop"],
            1,
            "replication slot \"none\" does not exist",
        ),
        (
            &["--slot=Bad", "--create-slot"],
            1,
            "could not send replication command \"CREATE_REPLICATION_SLOT \"Bad\" PHYSICAL\": ERROR:  replication slot name \"Bad\" contains invalid character\nHINT:  ",
        ),
    ] {
        refused(&server, more, code, text);
    }
    let hba = server.data().join("pg_hba.conf");
    let trust = fs::read_to_string(&hba).expect("it is ours");
    fs::write(&hba, trust.replace("trust", "scram-sha-256")).expect("it is ours");
    server.signal("HUP");
    wait_for("passwords to be asked for", || {
        let mut command = server.client("psql");
        let status = command.args(["-wc", "SELECT 1", "postgres"]).output();
        !status.expect("psql starts").status.success()
    });
    refused(&server, &[], 1, "failed: fe_sendauth: no password supplied");
    fs::write(&hba, trust).expect("it is ours");
    server.stop(Stop::Fast);
    refused(
        &server,
        &[],
        1,
        "failed: Connection refused\n\tIs the server running on that host",
    );

    // WAL of another cluster is not mixed with existing files.
    server.start();
    let mut receiver = Receiver::new(folder.path(), "wal");
    receiver.start(&server, &[]);
    wait_for("the stream", || receiver.partial().is_some());
    catch_up(&server, &receiver);
    receiver.signal("INT");
    receiver.wait();
    let data = folder.path().join("other");
    let mut other = Server::init(&bin, &data, &["--wal-segsize=1"], KEEP);
    other.start();
    let before = receiver.finished();
    receiver.start(&other, &[]);
    assert_eq!(receiver.wait().code(), Some(1));
    assert!(
        receiver.has_said("system identifier of segment file"),
        "{}",
        receiver.err()
    );
    assert_eq!(receiver.finished(), before);
}
