//! Disk operations. Data goes through descriptors and inodes, names through paths relative to the
//! data directory. A descriptor belongs to the process that opened it: for any other it is none.

use crate::base::Fd;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;

/// A path relative to the data directory, such as `pg_wal/000000010000000000000001`; the directory
/// itself is `.`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(Arc<str>);

impl FilePath {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory that holds it: what stands before the last slash, or `.`.
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

/// How a file is opened; always for reading and writing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OpenFlags {
    /// The file must exist.
    Existing,
    /// `O_CREAT`: made if absent, else kept as it is.
    Create,
    /// `O_CREAT | O_EXCL`: must not exist.
    CreateNew,
    /// `O_CREAT | O_TRUNC`: emptied if it exists.
    CreateTruncate,
}

/// One system call on the disk. A process has at most one outstanding.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum DiskOp {
    /// Opens a file. Done: [`DiskDone::Opened`].
    Open {
        /// Which.
        path: FilePath,
        /// How.
        flags: OpenFlags,
    },
    /// Closes a descriptor. It fsyncs nothing, and no process waits for it: the only operation that
    /// is not answered.
    Close(Fd),
    /// Reads up to `len` bytes; fewer only at the end of the file. Done: [`DiskDone::Data`].
    Read {
        /// From where.
        fd: Fd,
        /// First byte.
        offset: u64,
        /// At most so many.
        len: u32,
    },
    /// Writes; the bytes are copied into the page cache when the operation is issued. Done:
    /// [`DiskDone::Written`], with fewer bytes if the disk ran full in the middle.
    Write {
        /// Into what.
        fd: Fd,
        /// First byte.
        offset: u64,
        /// The bytes.
        data: Bytes,
    },
    /// Writes `len` zero bytes. Done: [`DiskDone::Written`].
    WriteZeros {
        /// Into what.
        fd: Fd,
        /// First byte.
        offset: u64,
        /// How many.
        len: u32,
    },
    /// Makes durable what was written to the file, by any process, before this was issued, and the
    /// name under which a new file was created. Done: [`DiskDone::Done`].
    Fsync(Fd),
    /// Sets the length. Done: [`DiskDone::Done`].
    Truncate {
        /// Of what.
        fd: Fd,
        /// The new length in bytes.
        len: u64,
    },
    /// Asks what a name stands for, without following it further. Done: [`DiskDone::Stat`].
    Stat(FilePath),
    /// Replaces `to` atomically; durable only after a [`DiskOp::SyncDir`] of the directory. Done:
    /// [`DiskDone::Done`].
    Rename {
        /// The old name.
        from: FilePath,
        /// The new name.
        to: FilePath,
    },
    /// Removes a name; open descriptors keep the inode. Done: [`DiskDone::Done`].
    Unlink(FilePath),
    /// Makes a directory. Done: [`DiskDone::Done`].
    Mkdir(FilePath),
    /// Removes an empty directory. Done: [`DiskDone::Done`].
    Rmdir(FilePath),
    /// Names in a directory, in no promised order; the fake disk sorts them. Done:
    /// [`DiskDone::Names`].
    List(FilePath),
    /// Makes the entries of a directory durable. Done: [`DiskDone::Done`].
    SyncDir(FilePath),
}

impl DiskOp {
    /// One line for traces, such as `write pg_wal/000000010000000000000001 0+8192`. `file` names
    /// what a descriptor stands for.
    #[must_use]
    pub fn describe(&self, file: impl Fn(Fd) -> String) -> String {
        match self {
            Self::Open { path, .. } => format!("open {path}"),
            Self::Close(fd) => format!("close {}", file(*fd)),
            Self::Read { fd, offset, len } => format!("read {} {offset}+{len}", file(*fd)),
            Self::Write { fd, offset, data } => {
                format!("write {} {offset}+{}", file(*fd), data.len())
            }
            Self::WriteZeros { fd, offset, len } => {
                format!("zeros {} {offset}+{len}", file(*fd))
            }
            Self::Fsync(fd) => format!("fsync {}", file(*fd)),
            Self::Truncate { fd, len } => format!("truncate {} {len}", file(*fd)),
            Self::Stat(path) => format!("stat {path}"),
            Self::Rename { from, to } => format!("rename {from} {to}"),
            Self::Unlink(path) => format!("unlink {path}"),
            Self::Mkdir(path) => format!("mkdir {path}"),
            Self::Rmdir(path) => format!("rmdir {path}"),
            Self::List(path) => format!("list {path}"),
            Self::SyncDir(path) => format!("syncdir {path}"),
        }
    }
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FileKind {
    /// A regular file and its length in bytes.
    File(u64),
    /// A directory.
    Dir,
}

/// A disk operation that succeeded.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum DiskDone {
    /// Nothing to tell.
    Done,
    /// The new descriptor.
    Opened(Fd),
    /// The bytes read; short only at the end of the file.
    Data(Bytes),
    /// So many bytes written.
    Written(u32),
    /// What the name stands for.
    Stat(FileKind),
    /// Names without their directory.
    Names(Vec<String>),
}

/// A disk operation that failed: the errno.
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
    /// Any other, by its number.
    #[error("operating system error {0}")]
    Other(i32),
}
