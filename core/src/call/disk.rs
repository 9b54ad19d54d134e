//! Disk operations. A descriptor refers to an inode, so it stays valid if the file is renamed or
//! unlinked. Names are paths relative to the data directory. A descriptor is valid only in the
//! process that opened it.

use crate::base::Fd;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;

/// A path relative to the data directory, such as `pg_wal/000000010000000000000001`. The data
/// directory itself is `.`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(Arc<str>);

impl FilePath {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parent directory: the part of the path before the last slash, or `.`.
    #[must_use]
    pub fn parent(&self) -> &str {
        self.0.rsplit_once('/').map_or(".", |(parent, _)| parent)
    }

    /// The last component.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&*self.0, |(_, name)| name)
    }
}

impl From<&str> for FilePath {
    fn from(path: &str) -> Self {
        Self(Arc::from(path))
    }
}

impl From<String> for FilePath {
    fn from(path: String) -> Self {
        Self(Arc::from(path))
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// How a file is opened. Every descriptor allows reading and writing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OpenFlags {
    /// The file must exist.
    Existing,
    /// `O_CREAT`: the file is created if it does not exist. Otherwise the file is left as it is.
    Create,
    /// `O_CREAT | O_EXCL`: the file must not exist.
    CreateNew,
    /// `O_CREAT | O_TRUNC`: the file is created if it does not exist. Otherwise the file is
    /// emptied.
    CreateTruncate,
}

/// One system call on the disk. A process has at most one system call in progress.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum DiskOp {
    /// Opens a file. Result: [`DiskDone::Opened`].
    Open {
        /// The file.
        path: FilePath,
        /// The flags.
        flags: OpenFlags,
    },
    /// Closes a descriptor without an fsync. This is the only operation without an answer, because
    /// no process waits for it.
    Close(Fd),
    /// Reads up to `len` bytes. The result is shorter only at the end of the file. Result:
    /// [`DiskDone::Data`].
    Read {
        /// The file.
        fd: Fd,
        /// Offset of the first byte.
        offset: u64,
        /// The maximum number of bytes.
        len: u32,
    },
    /// Writes. The bytes are copied into the page cache when the operation is issued. Result:
    /// [`DiskDone::Written`]. If the disk filled up during the write, the number of written bytes
    /// is smaller than requested.
    Write {
        /// The file.
        fd: Fd,
        /// Offset of the first byte.
        offset: u64,
        /// The bytes.
        data: Bytes,
    },
    /// Writes `len` zero bytes. Result: [`DiskDone::Written`].
    WriteZeros {
        /// The file.
        fd: Fd,
        /// Offset of the first byte.
        offset: u64,
        /// The number of bytes.
        len: u32,
    },
    /// Makes durable all bytes that any process has written to the file before this operation was
    /// issued. If the file is new, also makes its name durable. Result: [`DiskDone::Done`].
    Fsync(Fd),
    /// Sets the length. Result: [`DiskDone::Done`].
    Truncate {
        /// The file.
        fd: Fd,
        /// The new length in bytes.
        len: u64,
    },
    /// Returns the kind of file that a name denotes. Symbolic links are not followed. Result:
    /// [`DiskDone::Stat`].
    Stat(FilePath),
    /// Renames a file and replaces `to` atomically. The rename is durable only after a
    /// [`DiskOp::SyncDir`] of the directory. Result: [`DiskDone::Done`].
    Rename {
        /// The old name.
        from: FilePath,
        /// The new name.
        to: FilePath,
    },
    /// Removes a name. An open descriptor keeps its inode. Result: [`DiskDone::Done`].
    Unlink(FilePath),
    /// Makes a directory. Result: [`DiskDone::Done`].
    Mkdir(FilePath),
    /// Removes an empty directory. Result: [`DiskDone::Done`].
    Rmdir(FilePath),
    /// Lists the names in a directory. The order is not defined. The simulated disk sorts the
    /// names. Result: [`DiskDone::Names`].
    List(FilePath),
    /// Makes the entries of a directory durable. Result: [`DiskDone::Done`].
    SyncDir(FilePath),
}

impl DiskOp {
    /// One line for traces, such as `write pg_wal/000000010000000000000001 0+8192`. `file` returns
    /// the name of a descriptor's file. If the name is empty, it is left out.
    #[must_use]
    pub fn describe(&self, file: impl Fn(Fd) -> String) -> String {
        let (verb, file, rest) = match self {
            Self::Open { path, .. } => ("open", path.to_string(), String::new()),
            Self::Close(fd) => ("close", file(*fd), String::new()),
            Self::Read { fd, offset, len } => ("read", file(*fd), format!("{offset}+{len}")),
            Self::Write { fd, offset, data } => {
                ("write", file(*fd), format!("{offset}+{}", data.len()))
            }
            Self::WriteZeros { fd, offset, len } => ("zeros", file(*fd), format!("{offset}+{len}")),
            Self::Fsync(fd) => ("fsync", file(*fd), String::new()),
            Self::Truncate { fd, len } => ("truncate", file(*fd), len.to_string()),
            Self::Stat(path) => ("stat", path.to_string(), String::new()),
            Self::Rename { from, to } => ("rename", from.to_string(), to.to_string()),
            Self::Unlink(path) => ("unlink", path.to_string(), String::new()),
            Self::Mkdir(path) => ("mkdir", path.to_string(), String::new()),
            Self::Rmdir(path) => ("rmdir", path.to_string(), String::new()),
            Self::List(path) => ("list", path.to_string(), String::new()),
            Self::SyncDir(path) => ("syncdir", path.to_string(), String::new()),
        };
        let mut line = String::from(verb);
        for part in [file, rest].iter().filter(|part| !part.is_empty()) {
            line.push(' ');
            line.push_str(part);
        }
        line
    }
}

/// The kind of file that a name denotes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FileKind {
    /// A regular file, with its length in bytes.
    File(u64),
    /// A directory.
    Dir,
}

/// The result of a disk operation that succeeded.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum DiskDone {
    /// Success without a result.
    Done,
    /// The new descriptor.
    Opened(Fd),
    /// The bytes that were read. They are fewer than requested only at the end of the file.
    Data(Bytes),
    /// The number of bytes written.
    Written(u32),
    /// The kind of file.
    Stat(FileKind),
    /// File names without their directory.
    Names(Vec<String>),
}

/// The error number (errno) of a failed disk operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum DiskError {
    /// ENOENT
    #[error("No such file or directory")]
    NotFound,
    /// EEXIST
    #[error("File exists")]
    Exists,
    /// EIO
    #[error("Input/output error")]
    Io,
    /// ENOSPC
    #[error("No space left on device")]
    NoSpace,
    /// EBADF
    #[error("Bad file descriptor")]
    BadFd,
    /// ENOTDIR
    #[error("Not a directory")]
    NotDir,
    /// EISDIR
    #[error("Is a directory")]
    IsDir,
    /// ENOTEMPTY
    #[error("Directory not empty")]
    NotEmpty,
    /// EDQUOT
    #[error("Disk quota exceeded")]
    Quota,
    /// EACCES
    #[error("Permission denied")]
    Access,
    /// EPERM
    #[error("Operation not permitted")]
    NotPermitted,
    /// EROFS
    #[error("Read-only file system")]
    ReadOnly,
    /// EMFILE
    #[error("Too many open files")]
    TooManyFiles,
    /// Any other error number.
    #[error("operating system error {0}")]
    Other(i32),
}
