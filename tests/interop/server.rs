//! A real PostgreSQL server for a test. It has its own directory, its own port on 127.0.0.1 and its
//! own process.
//!
//! Dropping the value stops the server by its process id, even if the test fails. PostgreSQL
//! refuses to run as root. If the tests run as root, the servers run as the user `postgres`.

#![allow(dead_code, reason = "no test needs all of it")]

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use walsim_core::base::{Geometry, Lsn, PgVersion, TimelineId};
use walsim_core::wal::names::segment_name;

const DEBIAN_BIN: &str = "/usr/lib/postgresql/15/bin";
/// The interval at which the state of another program is polled.
const POLL: Duration = Duration::from_millis(10);
const POLLS: u32 = 6000;

/// The directory of PostgreSQL 15's programs. If they are not installed, prints a message and
/// returns `None`.
///
/// # Panics
/// If the programs are missing and `WALSIM_REQUIRE_PG` is set.
#[allow(
    clippy::disallowed_methods,
    reason = "which tests run is no part of a simulated run; not every package forbids it"
)]
pub(crate) fn postgres_bin() -> Option<PathBuf> {
    let bin = PathBuf::from(DEBIAN_BIN);
    let mut programs = ["initdb", "postgres", "pg_waldump", "pg_controldata"].into_iter();
    if programs.all(|name| bin.join(name).exists()) {
        return Some(bin);
    }
    assert!(
        std::env::var_os("WALSIM_REQUIRE_PG").is_none(),
        "PostgreSQL 15 is not in {DEBIAN_BIN}; ci/install-postgres installs it"
    );
    println!("skipped: PostgreSQL 15 is not in {DEBIAN_BIN}");
    None
}

/// The directory of the server's programs. If `WALSIM_PG_BIN` is set, it names this directory.
/// Otherwise this is the directory of PostgreSQL 15. `WALSIM_PG_BIN` may lack client programs.
#[allow(
    clippy::disallowed_methods,
    reason = "which tests run is no part of a simulated run; not every package forbids it"
)]
pub(crate) fn server_bin() -> Option<PathBuf> {
    let clients = postgres_bin()?;
    Some(std::env::var_os("WALSIM_PG_BIN").map_or(clients, PathBuf::from))
}

/// The major version of the programs in this directory.
pub(crate) fn version_of(bin: &Path) -> PgVersion {
    let said = run(Command::new(bin.join("postgres")).arg("--version"));
    let number = said.split(' ').nth(2).unwrap_or_default();
    let major = number.split(|c: char| !c.is_ascii_digit()).next();
    let version = major.and_then(PgVersion::named);
    version.unwrap_or_else(|| panic!("{said}: expected postgres (PostgreSQL) 15.1"))
}

/// The path of a program. If the server's directory lacks the program, PostgreSQL 15's program is
/// used. The clients of 15 support newer servers.
pub(crate) fn program(bin: &Path, name: &str) -> PathBuf {
    let own = bin.join(name);
    if own.exists() {
        return own;
    }
    Path::new(DEBIAN_BIN).join(name)
}

/// A temporary folder that all users can access. It is removed at the end of the test, unless the
/// test fails.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes an empty folder. `name` must differ between the tests of one process.
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("walsim-{name}-{}", std::process::id()));
        if path.exists() {
            fs::remove_dir_all(&path).expect("our own folder");
        }
        fs::create_dir(&path).expect("a folder for temporary files");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("our own folder");
        if let Some((uid, gid)) = postgres_user() {
            chown(&path, Some(uid), Some(gid)).expect("root may");
        }
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("left for inspection: {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// The shutdown mode (`pg_ctl stop -m`).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    Smart,
    Fast,
    Immediate,
}

/// A cluster, which may be running.
pub(crate) struct Server {
    bin: PathBuf,
    data: PathBuf,
    port: u16,
    postmaster: Option<Child>,
}

impl Server {
    /// Makes a cluster at `data`, with trust authentication and the superuser `postgres`.
    /// `settings` has the format of postgresql.conf. fsync is off unless `settings` turns it on.
    pub(crate) fn init(bin: &Path, data: &Path, initdb: &[&str], settings: &str) -> Self {
        let mut command = as_postgres(bin.join("initdb"));
        command.args(["--no-sync", "--no-instructions", "--auth=trust"]);
        command.args(["--username=postgres", "--encoding=UTF8", "--locale=C"]);
        run(command.args(initdb).arg("--pgdata").arg(data));
        let server = Self::at(bin, data);
        server.configure(&format!("fsync=off\n{settings}"));
        server
    }

    /// An existing cluster, such as a copy of another one.
    pub(crate) fn at(bin: &Path, data: &Path) -> Self {
        Self {
            bin: bin.into(),
            data: data.into(),
            port: free_port(),
            postmaster: None,
        }
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The name of the segment that contains this position. Segments have 1 MiB, and the timeline
    /// is 1.
    pub(crate) fn segment_of(lsn: &str) -> String {
        let lsn: Lsn = lsn.parse().expect("an LSN");
        let (tli, geometry) = (TimelineId(1), Geometry::STOCK);
        segment_name(&geometry, tli, geometry.segment_of(lsn))
    }

    /// Makes a folder that the server can write to.
    pub(crate) fn make_folder(&self, path: &Path) {
        run(as_postgres("mkdir").arg(path));
    }

    /// The postmaster's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.postmaster.as_ref().expect("it runs").id()
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    /// Appends lines to postgresql.auto.conf. Only the command line overrides this file.
    pub(crate) fn configure(&self, lines: &str) {
        let path = self.data.join("postgresql.auto.conf");
        let mut text = fs::read_to_string(&path).expect("a cluster has one");
        text.push_str(lines);
        text.push('\n');
        fs::write(path, text).expect("our own file");
    }

    /// Starts the server and waits until it accepts connections.
    pub(crate) fn start(&mut self) {
        self.launch();
        wait_for("the server to start", || self.is_ready());
    }

    /// Starts the server without waiting.
    pub(crate) fn launch(&mut self) {
        assert!(self.postmaster.is_none(), "it runs already");
        let mut log = fs::File::options();
        let log = log.create(true).append(true).open(self.log());
        let log = log.expect("the folder is ours");
        let mut command = as_postgres(self.bin.join("postgres"));
        command.arg("-D").arg(&self.data);
        command.args(["-c", "listen_addresses=127.0.0.1"]);
        command.args(["-c", "unix_socket_directories="]);
        command.args(["-p", &self.port.to_string()]);
        command.stdin(Stdio::null());
        command.stdout(
            log.try_clone()
                .expect("a file has more descriptors than one"),
        );
        self.postmaster = Some(command.stderr(log).spawn().expect("postgres starts"));
    }

    /// Shuts the server down and waits until it has ended.
    pub(crate) fn stop(&mut self, how: Stop) {
        let signal = match how {
            Stop::Smart => "TERM",
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        };
        self.signal(signal);
        self.wait();
    }

    /// Kills the postmaster with SIGKILL. Waits until the postmaster's children have ended, too.
    pub(crate) fn kill(&mut self) {
        let children = children(self.pid());
        self.signal("KILL");
        self.wait();
        wait_for("the orphans to end", || {
            !children.iter().any(|pid| lives(*pid))
        });
    }

    /// Sends a signal to the postmaster.
    pub(crate) fn signal(&self, signal: &str) {
        send(self.pid(), signal);
    }

    /// Waits until the postmaster has ended.
    pub(crate) fn wait(&mut self) {
        let mut child = self.postmaster.take().expect("it runs");
        wait_for("the server to end", || {
            child.try_wait().expect("our own child").is_some()
        });
    }

    /// Runs SQL, each statement on its own. Returns the rows without formatting: one row per line,
    /// with `|` between the fields.
    pub(crate) fn psql(&self, sql: &str) -> String {
        let mut command = self.client("psql");
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-f", "-", "postgres"]);
        let script = self.data.with_extension("sql");
        fs::write(&script, sql).expect("the folder is ours");
        let output = run(command.stdin(fs::File::open(&script).expect("just written")));
        output.trim_end().into()
    }

    /// A client program whose environment names this server.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command = as_postgres(self::program(&self.bin, program));
        command.env("PGHOST", "127.0.0.1");
        command.env("PGPORT", self.port.to_string());
        command.env("PGUSER", "postgres");
        command
    }

    /// Whether the server accepts connections. Panics if the server has ended.
    fn is_ready(&mut self) -> bool {
        let child = self.postmaster.as_mut().expect("it was launched");
        if let Some(status) = child.try_wait().expect("our own child") {
            self.postmaster = None;
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            panic!("postgres ended with {status}:\n{log}");
        }
        // pg_ctl waits for the same status line.
        let lines = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let mut lines = lines.lines();
        let ours = lines.next() == Some(&self.pid().to_string());
        ours && matches!(lines.nth(6).map(str::trim), Some("ready" | "standby"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.postmaster {
            send(child.id(), "QUIT");
            let _ = child.wait();
        }
    }
}

/// Runs a program to its end and returns its output.
///
/// # Panics
/// If the program fails. The panic message contains the output.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    let status = output.status;
    assert!(
        status.success(),
        "{command:?}: {status}\n{said}{complained}"
    );
    said
}

/// A program with the environment of PostgreSQL's programs, run as a user that PostgreSQL accepts.
pub(crate) fn as_postgres(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").env("TZ", "UTC").current_dir("/");
    if let Some((uid, gid)) = postgres_user() {
        command.uid(uid).gid(gid);
    }
    command
}

/// Waits for an event in another program.
pub(crate) fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..POLLS {
        if happened() {
            return;
        }
        std::thread::sleep(POLL);
    }
    panic!("waited too long for {what}");
}

/// The user of servers, if this process runs as root.
fn postgres_user() -> Option<(u32, u32)> {
    let us = fs::metadata("/proc/self").expect("Linux").uid();
    if us != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("Linux");
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line.expect("the package made a user").split(':').skip(2);
    let mut number = || fields.next()?.parse().ok();
    Some((number()?, number()?))
}

/// A port that is free at the moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    listener.local_addr().expect("it is bound").port()
}

/// Sends a signal to a process.
pub(crate) fn send(pid: u32, signal: &str) {
    let sent = Command::new("kill")
        .args(["-s", signal, &pid.to_string()])
        .status();
    assert!(
        sent.expect("kill starts").success(),
        "kill -s {signal} {pid}"
    );
}

fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().flat_map(str::parse).collect()
}

/// A zombie counts as ended.
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
