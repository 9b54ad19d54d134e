//! postmaster.pid ensures that one server at a time uses a directory. This module follows
//! CreateLockFile, AddToDataDirLockFile and UnlinkLockFiles.

use super::Refusal;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

/// The name of the lock file.
const LOCK_FILE: &str = "postmaster.pid";

/// How often creating the lock file is tried. Other servers may create and remove the file at the
/// same time.
const TRIES: u32 = 100;

/// A lock file, which is removed when this value is dropped.
#[derive(Debug)]
pub(super) struct LockFile {
    path: PathBuf,
    file: File,
    /// The offset of the status line. This is `None` until the lines before it are written.
    status_at: Option<u64>,
}

impl LockFile {
    /// Locks a directory for this process.
    ///
    /// # Errors
    /// If a server runs in the directory, or the lock file cannot be created.
    pub(super) fn create(dir: &Path) -> Result<Self, Refusal> {
        let path = dir.join(LOCK_FILE);
        for tries in 1.. {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(0o600);
            match options.open(&path) {
                Ok(file) => {
                    let lock = Self {
                        path,
                        file,
                        status_at: None,
                    };
                    let written = lock.put(0, &format!("{}\n{}\n", process::id(), dir.display()));
                    return match written {
                        Ok(()) => Ok(lock),
                        Err(e) => Err(Refusal::file("write lock file", &lock.path, &e)),
                    };
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && tries < TRIES => {}
                Err(e) => return Err(Refusal::file("create lock file", &path, &e)),
            }
            remove_stale(&path, dir)?;
        }
        unreachable!("the last try returns")
    }

    /// Adds the lines that follow the first line, including the address of the server.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn describe(&mut self, dir: &Path, addr: SocketAddr) -> io::Result<()> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let start = since.unwrap_or_default().as_secs();
        // There is no Unix socket directory and no shared memory segment, so their lines stay
        // empty.
        let lines = format!(
            "{}\n{}\n{start}\n{}\n\n{}\n\n",
            process::id(),
            dir.display(),
            addr.port(),
            addr.ip()
        );
        self.put(0, &lines)?;
        self.status_at = Some(lines.len() as u64);
        self.status("starting")
    }

    /// Writes the status line, which pg_ctl reads.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn status(&self, word: &str) -> io::Result<()> {
        self.status_at
            .map_or(Ok(()), |at| self.put(at, &format!("{word:<8}\n")))
    }

    fn put(&self, at: u64, text: &str) -> io::Result<()> {
        self.file.write_all_at(text.as_bytes(), at)?;
        self.file.sync_all()
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // An error is ignored, because the next server replaces the file.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the lock file if its server no longer runs.
fn remove_stale(path: &Path, dir: &Path) -> Result<(), Refusal> {
    let mut text = String::new();
    match File::open(path).and_then(|mut file| file.read_to_string(&mut text)) {
        Ok(_) => {}
        // Another process has removed the file in the meantime.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Refusal::file("read lock file", path, &e)),
    }
    if text.is_empty() {
        return Err(Refusal(format!(
            "lock file \"{LOCK_FILE}\" is empty: either another server is starting, or the lock file is the remnant of a \
             previous server startup crash"
        )));
    }
    let first = text.lines().next().unwrap_or_default();
    let pid = first.trim().parse().ok().and_then(|pid: i32| {
        // A single-user postgres writes its process id with a minus sign.
        let pid = Pid::from_raw(pid.saturating_abs())?;
        Some((
            pid,
            if first.trim().starts_with('-') {
                "postgres"
            } else {
                "postmaster"
            },
        ))
    });
    let Some((pid, what)) = pid else {
        return Err(Refusal(format!(
            "bogus data in lock file \"{LOCK_FILE}\": \"{first}\""
        )));
    };
    if lives(pid) {
        return Err(Refusal(format!(
            "lock file \"{LOCK_FILE}\" already exists: is another {what} (PID {}) running in data directory \"{}\"?",
            pid.as_raw_nonzero(),
            dir.display()
        )));
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Refusal::file("remove old lock file", path, &e))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether the server with this process id runs. The id may belong to this process, to its parent
/// or to a process of another user. Then the server has ended, and the kernel has assigned its id
/// again.
fn lives(pid: Pid) -> bool {
    let own = [Some(rustix::process::getpid()), rustix::process::getppid()];
    let foreign = [Err(Errno::SRCH), Err(Errno::PERM)];
    !own.contains(&Some(pid)) && !foreign.contains(&test_kill_process(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("walsim-lock-{}-{name}", process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn the_lines_are_where_pg_ctl_looks_for_them() {
        let dir = dir("lines");
        let mut lock = LockFile::create(&dir).unwrap();
        lock.describe(&dir, ([127, 0, 0, 1], 5433).into()).unwrap();
        lock.status("ready").unwrap();
        let text = fs::read_to_string(dir.join(LOCK_FILE)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], process::id().to_string());
        assert_eq!(lines[1], dir.to_str().unwrap());
        assert_eq!(lines[3..], ["5433", "", "127.0.0.1", "", "ready   "]);
        drop(lock);
        assert!(!dir.join(LOCK_FILE).exists());
        fs::remove_dir_all(dir).unwrap();
    }

    /// A child process takes the place of a server. Until the test has waited for the child, the
    /// child counts as running.
    #[test]
    fn only_the_lock_of_a_dead_process_is_replaced() {
        let dir = dir("stale");
        let mut child = process::Command::new("cat")
            .stdin(process::Stdio::piped())
            .spawn()
            .unwrap();
        for (content, complaint) in [
            (String::new(), "is empty"),
            (
                "x\n".into(),
                "bogus data in lock file \"postmaster.pid\": \"x\"",
            ),
            (format!("{}\n", child.id()), "is another postmaster (PID "),
            (format!("-{}\n", child.id()), "is another postgres (PID "),
        ] {
            fs::write(dir.join(LOCK_FILE), &content).unwrap();
            let refusal = LockFile::create(&dir).unwrap_err().to_string();
            assert!(refusal.contains(complaint), "{content:?}: {refusal}");
            assert_eq!(fs::read_to_string(dir.join(LOCK_FILE)).unwrap(), content);
        }
        drop(child.stdin.take());
        child.wait().unwrap();
        LockFile::create(&dir).unwrap();
        fs::remove_dir_all(dir).unwrap();
    }
}
