//! Cleanup after a crash, before any WAL is read. Mirrors RemoveTempXlogFiles and
//! SyncDataDirectory.
//!
//! Recovery relies on WAL that a crashed process has written and may not have fsynced.
//! SyncDataDirectory makes this WAL durable first.

use super::file::opened;
use crate::base::Fd;
use crate::call::{
    DiskDone, DiskError, DiskOp, FileKind, FilePath, LogEvent, OpenFlags, Place, Poll,
};
use crate::sys::Cx;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// `RemoveTempXlogFiles`: unlinks temporary segment files that never got their final name.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct RemoveTempXlogFiles {
    listed: bool,
    started: bool,
    left: Vec<String>,
}

impl RemoveTempXlogFiles {
    /// Creates the routine. It does nothing before the first poll.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// # Errors
    /// The directory cannot be read.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let directory = FilePath::from("pg_wal");
        let why = Place::RemoveTempXlogFiles;
        if !self.started {
            self.started = true;
            return Poll::Yield(cx.disk(DiskOp::List(directory), why));
        }
        let done = cx.done();
        if !self.listed {
            self.listed = true;
            match done {
                Ok(done) => self.left = names(done),
                Err(e) => return Poll::Ready(Err(LogEvent::file("open directory", directory, e))),
            }
            self.left.retain(|name| name.starts_with("xlogtemp."));
        }
        match self.left.pop() {
            Some(name) => {
                let path = FilePath::from(format!("pg_wal/{name}"));
                Poll::Yield(cx.disk(DiskOp::Unlink(path), why))
            }
            None => Poll::Ready(Ok(())),
        }
    }
}

/// `SyncDataDirectory`: fsyncs every file and directory in the data directory. A directory is
/// fsynced after its entries. A failure is only logged, because a file that cannot be opened must
/// not prevent the start.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SyncDataDirectory {
    /// The directories on the path to the current directory. Each comes with its remaining entries.
    stack: Vec<(FilePath, Vec<String>)>,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Next,
    Listed(FilePath),
    Looked(FilePath),
    Opened(FilePath),
    Synced(FilePath, Option<Fd>),
}

impl Default for SyncDataDirectory {
    fn default() -> Self {
        Self::new()
    }
}

impl SyncDataDirectory {
    /// Syncs the whole data directory.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stack: Vec::from([(FilePath::from(""), Vec::from([String::from(".")]))]),
            phase: Phase::Next,
        }
    }

    /// Returns when it has tried to fsync every file.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<()> {
        let why = Place::SyncDataDirectory;
        loop {
            let phase = core::mem::replace(&mut self.phase, Phase::Next);
            let (next, op) = match phase {
                Phase::Next => match self.next() {
                    None => return Poll::Ready(()),
                    Some(step) => step,
                },
                Phase::Looked(path) => match cx.done() {
                    Ok(DiskDone::Stat(FileKind::Dir)) => {
                        (Phase::Listed(path.clone()), DiskOp::List(path))
                    }
                    Ok(_) => {
                        let flags = OpenFlags::Existing;
                        (Phase::Opened(path.clone()), DiskOp::Open { path, flags })
                    }
                    Err(e) => {
                        complain(cx, "stat", path, e);
                        continue;
                    }
                },
                Phase::Listed(path) => {
                    match cx.done() {
                        Ok(done) => {
                            let mut entries = names(done);
                            entries.reverse();
                            self.stack.push((path, entries));
                        }
                        Err(e) => complain(cx, "open directory", path, e),
                    }
                    continue;
                }
                Phase::Opened(path) => match cx.done() {
                    Ok(done) => {
                        let fd = opened(done);
                        (Phase::Synced(path, Some(fd)), DiskOp::Fsync(fd))
                    }
                    Err(e) => {
                        complain(cx, "open", path, e);
                        continue;
                    }
                },
                Phase::Synced(path, fd) => {
                    if let Err(e) = cx.done() {
                        complain(cx, "fsync", path, e);
                    }
                    if let Some(fd) = fd {
                        cx.close(fd);
                    }
                    continue;
                }
            };
            self.phase = next;
            return Poll::Yield(cx.disk(op, why));
        }
    }

    /// The next entry of the current directory. After the last entry, the directory itself.
    fn next(&mut self) -> Option<(Phase, DiskOp)> {
        let (directory, entries) = self.stack.last_mut()?;
        if let Some(name) = entries.pop() {
            let path = match directory.as_str() {
                "" | "." => FilePath::from(name),
                parent => FilePath::from(format!("{parent}/{name}")),
            };
            return Some((Phase::Looked(path.clone()), DiskOp::Stat(path)));
        }
        let (directory, _) = self.stack.pop()?;
        if directory.as_str().is_empty() {
            return None;
        }
        Some((
            Phase::Synced(directory.clone(), None),
            DiskOp::SyncDir(directory),
        ))
    }
}

fn names(done: DiskDone) -> Vec<String> {
    let DiskDone::Names(names) = done else {
        panic!("a list gives names, not {done:?}")
    };
    // The walk of the directories would otherwise not end.
    let climbs = |name: &String| name.contains('/') || matches!(name.as_str(), "." | "..");
    assert!(!names.iter().any(climbs), "{names:?}");
    names
}

fn complain(cx: &mut Cx<'_>, what: &'static str, path: FilePath, error: DiskError) {
    let event = LogEvent::file(what, path, error);
    cx.log(LogEvent::log(event.message));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PgVersion, Planted};
    use crate::call::Severity;
    use crate::shmem::Role;
    use crate::sys::testing::Fixture;

    fn synced(fixture: &Fixture) -> Vec<&str> {
        let syncs = fixture.trace.iter().filter(|op| op.contains("sync"));
        syncs.map(String::as_str).collect()
    }

    /// All files that a crashed process has written, and their names, are durable before recovery
    /// reads the files.
    #[test]
    fn everything_is_fsynced_directories_last() {
        let mut fixture = Fixture::new(PgVersion::V15, Planted::NONE);
        fixture
            .files
            .insert("pg_wal/000000010000000000000001".into(), Vec::new());
        let pid = fixture.spawn(Role::Startup);
        let mut sync = SyncDataDirectory::new();
        assert_eq!(fixture.drive(pid, |cx| sync.poll(cx)), Ok(()));
        assert_eq!(
            synced(&fixture),
            [
                "syncdir base/5",
                "syncdir base",
                "fsync global/pg_control",
                "syncdir global",
                "syncdir pg_replslot",
                "fsync pg_wal/000000010000000000000001",
                "syncdir pg_wal",
                "fsync pg_xact/0000",
                "syncdir pg_xact",
                "syncdir .",
            ]
        );
    }

    #[test]
    fn a_failure_is_only_logged() {
        let mut fixture = Fixture::new(PgVersion::V15, Planted::NONE);
        fixture
            .failing
            .insert("fsync global/pg_control".into(), DiskError::Io);
        fixture
            .failing
            .insert("open pg_xact/0000".into(), DiskError::Io);
        let pid = fixture.spawn(Role::Startup);
        let mut sync = SyncDataDirectory::new();
        assert_eq!(fixture.drive(pid, |cx| sync.poll(cx)), Ok(()));
        assert_eq!(fixture.logs.len(), 2);
        assert!(
            fixture
                .logs
                .iter()
                .all(|event| event.severity == Severity::Log)
        );
        assert_eq!(synced(&fixture).last(), Some(&"syncdir ."));
    }

    #[test]
    fn only_temporary_segments_are_removed() {
        let mut fixture = Fixture::new(PgVersion::V15, Planted::NONE);
        for name in [
            "pg_wal/xlogtemp.5",
            "pg_wal/000000010000000000000001",
            "pg_wal/xlogtemp.7",
        ] {
            fixture.files.insert(name.into(), Vec::new());
        }
        let pid = fixture.spawn(Role::Startup);
        let mut remove = RemoveTempXlogFiles::new();
        assert_eq!(fixture.drive(pid, |cx| remove.poll(cx)), Ok(Ok(())));
        let left = fixture
            .files
            .keys()
            .filter(|path| path.starts_with("pg_wal/"))
            .count();
        assert_eq!(left, 1);
    }
}
