//! Runs `walsim-live receive` as a child process, and examines its directory.

use super::server::{Server, run, send, wait_for};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// A directory, and the process that receives WAL into it.
pub(crate) struct Receiver {
    dir: PathBuf,
    child: Option<Child>,
}

impl Receiver {
    /// An empty directory in a folder.
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let dir = folder.join(name);
        fs::create_dir(&dir).expect("the folder is ours");
        Self { dir, child: None }
    }

    /// Starts walsim-live. `more` contains its last arguments.
    pub(crate) fn start(&mut self, server: &Server, more: &[&str]) {
        let port = server.port();
        let conninfo = format!("host=127.0.0.1 port={port} user=postgres application_name=rx");
        let mut command = Command::new(env!("CARGO_BIN_EXE_walsim-live"));
        command.args(["receive", "-d", &conninfo]);
        self.spawn(&mut command, more);
    }

    /// Starts pg_receivewal.
    pub(crate) fn start_pg_receivewal(&mut self, server: &Server, more: &[&str]) {
        // pg_receivewal runs as a different user than the test.
        run(Command::new("chmod").arg("777").arg(&self.dir));
        self.spawn(&mut server.client("pg_receivewal"), more);
    }

    fn spawn(&mut self, command: &mut Command, more: &[&str]) {
        assert!(self.child.is_none(), "it runs already");
        let said = |extension| {
            let path = self.dir.with_extension(extension);
            let mut options = File::options();
            let file = options.create(true).append(true).open(path);
            Stdio::from(file.expect("the folder is ours"))
        };
        command.arg("-D").arg(&self.dir).args(more);
        command.stdin(Stdio::null()).stdout(said("out"));
        let child = command.stderr(said("err")).spawn();
        self.child = Some(child.expect("it starts"));
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The process's stderr.
    pub(crate) fn err(&self) -> String {
        fs::read_to_string(self.dir.with_extension("err")).unwrap_or_default()
    }

    pub(crate) fn has_said(&self, text: &str) -> bool {
        self.err().contains(text)
    }

    /// The segments whose names the receiver has printed.
    pub(crate) fn out(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.with_extension("out")).unwrap_or_default();
        text.lines().map(String::from).collect()
    }

    pub(crate) fn signal(&self, signal: &str) {
        send(self.child.as_ref().expect("it runs").id(), signal);
    }

    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
        self.wait();
    }

    /// Waits until the process has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let mut status = None;
        wait_for("the receiver to end", || {
            status = child.try_wait().expect("our own child");
            status.is_some()
        });
        status.expect("waited for")
    }

    /// Names of complete segments.
    pub(crate) fn finished(&self) -> BTreeSet<String> {
        let names = fs::read_dir(&self.dir).expect("it is ours");
        let names = names.map(|entry| entry.expect("it is ours").file_name());
        let names = names.filter_map(|name| name.into_string().ok());
        names.filter(|name| name.len() == 24).collect()
    }

    /// The name of the partial segment.
    pub(crate) fn partial(&self) -> Option<String> {
        let names = fs::read_dir(&self.dir).expect("it is ours");
        let names = names.map(|entry| entry.expect("it is ours").file_name());
        let mut names = names.filter_map(|name| name.into_string().ok());
        names.find_map(|name| name.strip_suffix(".partial").map(String::from))
    }

    pub(crate) fn has(&self, segment: &str) -> bool {
        self.dir.join(segment).exists()
    }

    /// Compares all finished segments with the server's segments. Returns their number.
    pub(crate) fn compare(&self, server: &Server) -> usize {
        let finished = self.finished();
        for name in &finished {
            let ours = fs::read(self.dir.join(name)).expect("it is ours");
            let theirs = fs::read(server.data().join("pg_wal").join(name));
            assert!(ours == theirs.expect("the server keeps it"), "{name}");
        }
        finished.len()
    }

    /// Copies all segments. The partial segment gets its final name in the copy, so that pg_waldump
    /// reads it.
    pub(crate) fn copy(&self, into: &Path) {
        fs::create_dir(into).expect("the folder is ours");
        for name in self.finished() {
            fs::copy(self.dir.join(&name), into.join(&name)).expect("both are ours");
        }
        if let Some(name) = self.partial() {
            let from = self.dir.join(format!("{name}.partial"));
            fs::copy(from, into.join(&name)).expect("both are ours");
        }
        run(Command::new("chmod").args(["-R", "a+rX"]).arg(into));
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
