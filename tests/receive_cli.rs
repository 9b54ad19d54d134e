//! The command `walsim-live receive`: its options, environment and errors. The servers are
//! `walsim-live serve`, and sockets that imitate a server.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A folder that is removed at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("walsim-cli-{}-{name}", std::process::id()));
        fs::create_dir_all(dir.join("wal")).expect("it is ours");
        Self(dir)
    }

    fn wal(&self) -> PathBuf {
        self.0.join("wal")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running `walsim-live serve`. It is stopped when this value is dropped.
struct Serve {
    child: Child,
    port: String,
}

impl Serve {
    fn start(folder: &Folder) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_walsim-live"));
        command.args(["serve", "--port=0", "--set=segment=1MB", "-D"]);
        command.arg(folder.0.join("data"));
        let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("it says");
        let port = line.trim().rsplit(':').next().expect("an address").into();
        let server = Self { child, port };
        server.accepts(&folder.wal());
        server
    }

    /// Waits until the server accepts clients. The server opens its port some time before that.
    fn accepts(&self, dir: &Path) {
        let limit = Instant::now() + Duration::from_secs(60);
        // The receiver is past the end position as soon as it has connected, so it exits at once.
        let args = ["-h", "127.0.0.1", "-p", &self.port, "-E", "0/1"];
        while !receive(dir, &args)
            .output()
            .expect("it starts")
            .status
            .success()
        {
            assert!(Instant::now() < limit, "the server takes no clients");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command `receive`. libpq's variables are removed from its environment.
fn receive(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walsim-live"));
    for (name, _) in std::env::vars() {
        if name.starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("HOME", dir).env("PGUSER", "postgres");
    command.arg("receive").arg("-D").arg(dir).args(args);
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn refused(command: &mut Command, code: i32, text: &str) {
    let output = command.output().expect("it starts");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(text), "{said}");
}

/// Waits until the directory has a partial segment.
fn receives(dir: &Path) {
    let limit = Instant::now() + Duration::from_secs(60);
    let partial = || {
        let mut names = fs::read_dir(dir).expect("it is ours").flatten();
        names.any(|name| name.path().extension().is_some_and(|e| e == "partial"))
    };
    while !partial() {
        assert!(Instant::now() < limit, "nothing is received");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn interrupt(mut child: Child) -> Output {
    let pid = child.id().to_string();
    let killed = Command::new("kill").args(["-INT", &pid]).status();
    assert!(killed.expect("kill is there").success());
    let _ = child.wait();
    child.wait_with_output().expect("our own child")
}

/// As with pg_receivewal, options, a connection string or the environment name the server. Options
/// override the connection string and the environment.
#[test]
fn options_or_the_environment_name_the_server() {
    let folder = Folder::new("options");
    let server = Serve::start(&folder);
    let port = server.port.as_str();
    let conninfo = format!("host=127.0.0.1 port={port} user=postgres");
    let wrong = format!("host=127.0.0.1 port=1 user=nobody dbname=x {}", "");
    let dir = folder.wal();
    for (args, env) in [
        (
            vec!["-h", "127.0.0.1", "-p", port, "-U", "postgres", "-w"],
            vec![],
        ),
        (vec!["-d", &conninfo], vec![]),
        (
            vec!["-d", &wrong, "-p", port, "--username=postgres"],
            vec![],
        ),
        (
            vec![],
            vec![
                ("PGHOST", "127.0.0.1"),
                ("PGPORT", port),
                ("PGDATABASE", "x"),
            ],
        ),
    ] {
        let mut command = receive(&dir, &args);
        let child = command.envs(env).spawn().expect("it starts");
        receives(&dir);
        let output = interrupt(child);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", said(&output));
        clear(&dir);
    }
}

fn clear(dir: &Path) {
    for file in fs::read_dir(dir).expect("it is ours").flatten() {
        fs::remove_file(file.path()).expect("it is ours");
    }
}

/// Unsupported options are refused before the command changes anything.
#[test]
fn unsupported_options_are_refused() {
    let folder = Folder::new("refusals");
    let dir = folder.wal();
    for (args, env, text) in [
        (vec!["-W"], None, "-W/--password is not supported"),
        (vec!["-w", "-W"], None, "cannot be used with"),
        (
            vec![],
            Some("PGSERVICE"),
            "environment variable PGSERVICE is not supported",
        ),
        (
            vec![],
            Some("PGOPTIONS"),
            "environment variable PGOPTIONS is not supported",
        ),
        (
            vec!["-d", "service=s"],
            None,
            "connection option \"service\" is not supported",
        ),
        (vec!["-p", "65536"], None, "invalid port number: \"65536\""),
        (
            vec!["-p", "99999999999999999999"],
            None,
            "invalid integer value \"99999999999999999999\" for connection option \"port\"",
        ),
        (
            vec!["-E", "FFFFFFFFF/0"],
            None,
            "could not parse end position",
        ),
        (vec!["-s", "99999999999"], None, "a number of seconds"),
        (vec!["-s", "4294967296ms"], None, "a number of seconds"),
        (vec!["-s", "2147484"], None, "a number of seconds"),
        (vec!["-s", "-1"], None, "a number of seconds"),
        (vec!["--port=-1"], None, "invalid port number: \"-1\""),
    ] {
        let mut command = receive(&dir, &args);
        if let Some(variable) = env {
            command.env(variable, "s");
        }
        refused(&mut command, 2, text);
    }
    assert_eq!(fs::read_dir(&dir).expect("it is ours").count(), 0);
    let output = receive(&dir, &["-?"]).output().expect("it starts");
    assert!(output.status.success());
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(help.contains("-h, --host <HOSTNAME>"), "{help}");
}

/// Without a server, the command prints pg_receivewal's messages and ends with its exit status.
#[test]
fn without_a_server_the_errors_are_libpqs() {
    let folder = Folder::new("nowhere");
    let dir = folder.wal();
    let closed = {
        let gone = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        gone.local_addr().expect("it has one").port().to_string()
    };
    let socket = folder.0.display().to_string();
    for (host, text) in [
        (
            "127.0.0.1",
            format!(
                "walsim-live: error: connection to server at \"127.0.0.1\", port {closed} failed: Connection refused\n\
                 \tIs the server running on that host and accepting TCP/IP connections?\n"
            ),
        ),
        (
            socket.as_str(),
            format!(
                "walsim-live: error: connection to server on socket \"{socket}/.s.PGSQL.{closed}\" failed: \
                 No such file or directory\n\
                 \tIs the server running locally and accepting connections on that socket?\n"
            ),
        ),
        (
            "no-such-host.invalid",
            String::from(
                "walsim-live: error: could not translate host name \"no-such-host.invalid\" to address: ",
            ),
        ),
    ] {
        refused(&mut receive(&dir, &["-h", host, "-p", &closed]), 1, &text);
    }
    let absent = dir.join("absent");
    refused(&mut receive(&absent, &[]), 1, "could not open directory");
}

/// A second receiver in the same directory is refused at once. When the first receiver ends, in any
/// way, the lock is released and no lock file is left.
#[test]
fn one_receiver_per_directory() {
    let folder = Folder::new("lock");
    let server = Serve::start(&folder);
    let dir = folder.wal();
    let args = ["-h", "127.0.0.1", "-p", &server.port];
    let shown = dir.display();
    let text = format!(
        "walsim-live: error: could not lock directory \"{shown}\": another receiver is using it\n"
    );
    for kill in [true, false] {
        let mut first = receive(&dir, &args).spawn().expect("it starts");
        receives(&dir);
        refused(&mut receive(&dir, &args), 1, &text);
        if kill {
            first.kill().expect("our own child");
            first.wait().expect("our own child");
            clear(&dir);
        } else {
            assert_eq!(interrupt(first).status.code(), Some(0));
        }
    }
    let names = fs::read_dir(&dir).expect("it is ours").flatten();
    let strange = names.filter(|name| !name.file_name().to_string_lossy().contains("0000"));
    assert_eq!(strange.count(), 0);
}

/// A server that reads the startup packet, sends `answer`, and closes the connection.
fn answering(answer: Vec<u8>) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it has one").port();
    let thread = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("it comes");
        let mut packet = [0; 8];
        client.read_exact(&mut packet).expect("a packet");
        client.write_all(&answer).expect("it listens");
        let _ = client.shutdown(std::net::Shutdown::Write);
        let _ = client.read_to_end(&mut Vec::new());
    });
    (port.to_string(), thread)
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 4).expect("short");
    [&[tag], len.to_be_bytes().as_slice(), body].concat()
}

/// If a password is configured anywhere, the error does not call it missing.
#[test]
fn a_given_password_is_not_reported_as_missing() {
    let folder = Folder::new("password");
    let dir = folder.wal();
    let request = || answering(message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"));
    let given =
        "a password was given, but it cannot be used yet: the server asks for SASL authentication";
    let missing = "fe_sendauth: no password supplied";
    let conninfo = "password=secret";
    let pgpass = dir.join(".pgpass");
    for (args, env, file, text) in [
        (vec![], None, "", missing),
        (vec!["-d", conninfo], None, "", given),
        (vec![], Some("PGPASSWORD"), "", given),
        (vec![], None, "127.0.0.1:*:replication:*:secret\n", given),
        (vec![], None, "elsewhere:*:*:*:secret\n", missing),
    ] {
        fs::write(&pgpass, file).expect("it is ours");
        let (port, server) = request();
        let mut command = receive(&dir, &["-h", "127.0.0.1", "-p", &port]);
        command.args(args);
        if let Some(variable) = env {
            command.env(variable, "secret");
        }
        let text = format!("port {port} failed: {text}\n");
        refused(&mut command, 1, &text);
        server.join().expect("it has answered");
    }
}

/// With `--timestamps`, each message begins with the time. Hints have the format of
/// pg_log_error_hint.
#[test]
fn messages_carry_time_stamps_on_request() {
    let folder = Folder::new("stamps");
    let dir = folder.wal();
    for stamped in [false, true] {
        let (port, server) = answering(message(b'E', b"SFATAL\0C28000\0Mgo away\0\0"));
        let mut command = receive(&dir, &["-h", "127.0.0.1", "-p", &port]);
        if stamped {
            command.arg("--timestamps");
        }
        let output = command.output().expect("it starts");
        server.join().expect("it has answered");
        let said = said(&output);
        let line = format!(
            "walsim-live: error: connection to server at \"127.0.0.1\", port {port} failed: FATAL:  go away\n"
        );
        if stamped {
            let (stamp, rest) = said.split_at(28);
            assert_eq!(rest, line);
            let digits = stamp.replace(|c: char| c.is_ascii_digit(), "0");
            assert_eq!(digits, "0000-00-00 00:00:00.000 UTC ");
        } else {
            assert_eq!(said, line);
        }
    }
}
