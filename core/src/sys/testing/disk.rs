//! The disk of the test fixture. Its files are a map, and each write is durable at once.

use super::Fixture;
use crate::base::Fd;
use crate::call::{DiskDone, DiskError, DiskOp, FileKind, FilePath, OpenFlags};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;

impl Fixture {
    /// Executes an operation, or lets it fail if the test has requested that.
    pub(super) fn disk(&mut self, op: DiskOp) -> Result<DiskDone, DiskError> {
        let line = op.describe(|fd| self.path_of(fd).unwrap_or_default());
        self.trace.push(line.clone());
        let mut failing = self.failing.iter();
        if let Some((_, error)) = failing.find(|(text, _)| is_of(&line, text)) {
            return Err(*error);
        }
        let path = match &op {
            DiskOp::Close(fd)
            | DiskOp::Read { fd, .. }
            | DiskOp::Write { fd, .. }
            | DiskOp::WriteZeros { fd, .. }
            | DiskOp::Fsync(fd)
            | DiskOp::Truncate { fd, .. } => self.path_of(*fd).ok_or(DiskError::BadFd)?,
            DiskOp::Open { path, .. }
            | DiskOp::Stat(path)
            | DiskOp::Rename { from: path, .. }
            | DiskOp::Unlink(path)
            | DiskOp::Mkdir(path)
            | DiskOp::Rmdir(path)
            | DiskOp::List(path)
            | DiskOp::SyncDir(path) => path.to_string(),
        };
        self.execute(op, path)
    }

    fn path_of(&self, fd: Fd) -> Option<String> {
        self.fds.get(&fd).cloned()
    }

    /// `path` is the file or directory of the operation.
    fn execute(&mut self, op: DiskOp, path: String) -> Result<DiskDone, DiskError> {
        match op {
            DiskOp::Open { flags, .. } => {
                let exists = self.files.contains_key(&path);
                match flags {
                    OpenFlags::Existing if !exists => return Err(DiskError::NotFound),
                    OpenFlags::CreateNew if exists => return Err(DiskError::Exists),
                    OpenFlags::Existing => {}
                    OpenFlags::Create | OpenFlags::CreateNew => {
                        self.files.entry(path.clone()).or_default();
                    }
                    OpenFlags::CreateTruncate => {
                        self.files.insert(path.clone(), Vec::new());
                    }
                }
                self.next_fd += 1;
                let fd = Fd(self.next_fd);
                self.fds.insert(fd, path);
                Ok(DiskDone::Opened(fd))
            }
            DiskOp::Read { offset, len, .. } => {
                let file = &self.files[&path];
                let from = usize::try_from(offset).expect("small").min(file.len());
                let to = (from + len as usize).min(file.len());
                Ok(DiskDone::Data(Bytes::copy_from_slice(&file[from..to])))
            }
            DiskOp::Write { offset, data, .. } => Ok(self.write(&path, offset, &data)),
            DiskOp::WriteZeros { offset, len, .. } => {
                Ok(self.write(&path, offset, &alloc::vec![0; len as usize]))
            }
            DiskOp::Truncate { len, .. } => {
                let len = usize::try_from(len).expect("small");
                self.files.get_mut(&path).expect("open").resize(len, 0);
                Ok(DiskDone::Done)
            }
            DiskOp::Stat(_) if self.dirs.contains(&path) => Ok(DiskDone::Stat(FileKind::Dir)),
            DiskOp::Stat(_) => {
                let file = self.files.get(&path).ok_or(DiskError::NotFound)?;
                Ok(DiskDone::Stat(FileKind::File(file.len() as u64)))
            }
            DiskOp::Rename { to, .. } if self.dirs.contains(&path) => {
                self.rename_dir(&path, to.as_str())
            }
            DiskOp::Rename { to, .. } => {
                let file = self.files.remove(&path).ok_or(DiskError::NotFound)?;
                for open in self.fds.values_mut().filter(|open| **open == path) {
                    *open = to.to_string();
                }
                self.files.insert(to.to_string(), file);
                Ok(DiskDone::Done)
            }
            DiskOp::Unlink(_) => self
                .files
                .remove(&path)
                .map(|_| DiskDone::Done)
                .ok_or(DiskError::NotFound),
            DiskOp::List(_) => Ok(DiskDone::Names(self.names(&path))),
            DiskOp::Mkdir(_) if !self.dirs.insert(path) => Err(DiskError::Exists),
            DiskOp::Rmdir(path) if !self.names(path.as_str()).is_empty() => {
                Err(DiskError::NotEmpty)
            }
            DiskOp::Rmdir(path) if !self.dirs.remove(path.as_str()) => Err(DiskError::NotFound),
            DiskOp::Close(fd) => {
                self.fds.remove(&fd);
                Ok(DiskDone::Done)
            }
            DiskOp::Fsync(_) | DiskOp::Mkdir(_) | DiskOp::Rmdir(_) | DiskOp::SyncDir(_) => {
                Ok(DiskDone::Done)
            }
        }
    }

    fn rename_dir(&mut self, from: &str, to: &str) -> Result<DiskDone, DiskError> {
        if !self.dirs.insert(to.into()) {
            return Err(DiskError::NotEmpty);
        }
        self.dirs.remove(from);
        for name in self.names(from) {
            let file = self.files.remove(&format!("{from}/{name}"));
            let file = file.expect("directories that are renamed hold files alone");
            self.files.insert(format!("{to}/{name}"), file);
        }
        Ok(DiskDone::Done)
    }

    fn write(&mut self, path: &str, offset: u64, data: &[u8]) -> DiskDone {
        let file = self.files.get_mut(path).expect("open");
        let from = usize::try_from(offset).expect("small");
        let to = from + data.len();
        if file.len() < to {
            file.resize(to, 0);
        }
        file[from..to].copy_from_slice(data);
        DiskDone::Written(u32::try_from(data.len()).expect("small"))
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let all = self
            .files
            .keys()
            .chain(&self.dirs)
            .filter(|path| *path != ".");
        let here = all.filter(|path| FilePath::from(path.as_str()).parent() == directory);
        let mut names: Vec<String> = here
            .map(|path| FilePath::from(path.as_str()).name().to_string())
            .collect();
        names.sort_unstable();
        names
    }
}

/// Does the line begin with these words?
pub(super) fn is_of(line: &str, text: &str) -> bool {
    let rest = line.strip_prefix(text);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}
