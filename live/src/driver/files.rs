//! Disk operations on the real file system, below one directory.
//!
//! Reads and writes are executed at once, because they only use the page cache. On ext4 they took
//! milliseconds at most, while fsyncs took hundreds (docs/live.md). A pool of threads executes the
//! operations that can wait for the disk.

use super::errno::disk_error;
use super::handle::News;
use super::pool::Pool;
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use walsim_core::base::{Fd, OpId, Pid};
use walsim_core::call::{DiskDone, DiskError, DiskOp, FileKind, FilePath, Input, OpenFlags};

type Outcome = Result<DiskDone, DiskError>;

/// The size of one write when zeros are written.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The directory and the descriptors of a machine.
#[derive(Debug)]
pub(super) struct Files {
    dir: Arc<PathBuf>,
    open: HashMap<Fd, Open>,
    /// Open operations in progress, with the process that issued them.
    opening: HashMap<OpId, Pid>,
    next: u32,
}

#[derive(Debug)]
struct Open {
    owner: Pid,
    file: Arc<File>,
    /// An fsync through this descriptor has succeeded. It made the file's name durable, so a later
    /// sync only needs fdatasync.
    synced: bool,
}

impl Files {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: Arc::new(dir.to_path_buf()),
            open: HashMap::new(),
            opening: HashMap::new(),
            next: 3,
        }
    }

    /// Executes an operation and returns its outcome. If the operation can wait for the disk,
    /// passes it to the pool and returns `None`.
    pub(super) fn issue(&mut self, pid: Pid, id: OpId, op: DiskOp, pool: &Pool) -> Option<Outcome> {
        match self.start(pid, id, op, pool) {
            Ok(done) => done.map(Ok),
            Err(error) => Some(Err(error)),
        }
    }

    /// Called when the pool has opened a file. Returns `None` if the process that asked for the
    /// file has ended.
    pub(super) fn opened(&mut self, id: OpId, file: File) -> Option<Input> {
        let owner = self.opening.remove(&id)?;
        let fd = Fd(self.next);
        self.next += 1;
        let open = Open {
            owner,
            file: Arc::new(file),
            synced: false,
        };
        self.open.insert(fd, open);
        Some(Input::Disk(id, Ok(DiskDone::Opened(fd))))
    }

    /// Forgets an open operation that has failed.
    pub(super) fn forget(&mut self, id: OpId) {
        self.opening.remove(&id);
    }

    /// Closes the descriptors of a process that has ended.
    pub(super) fn close_all(&mut self, pid: Pid, pool: &Pool) {
        self.opening.retain(|_, owner| *owner != pid);
        for (_, open) in self.open.extract_if(|_, open| open.owner == pid) {
            close(open.file, pool);
        }
    }

    fn start(
        &mut self,
        pid: Pid,
        id: OpId,
        op: DiskOp,
        pool: &Pool,
    ) -> Result<Option<DiskDone>, DiskError> {
        let dir = Arc::clone(&self.dir);
        let later = |job: Box<dyn FnOnce() -> Outcome + Send>| {
            pool.give(Box::new(move || Some(News::Input(Input::Disk(id, job())))));
            Ok(None)
        };
        match op {
            DiskOp::Open { path, flags } => {
                self.opening.insert(id, pid);
                pool.give(Box::new(move || {
                    Some(match open_file(&dir.join(path.as_str()), flags) {
                        Ok(file) => News::Opened(id, file),
                        Err(e) => News::Input(Input::Disk(id, Err(disk_error(&e)))),
                    })
                }));
                Ok(None)
            }
            DiskOp::Close(fd) => {
                self.of(pid, fd)?;
                let open = self.open.remove(&fd).expect("looked up above");
                close(open.file, pool);
                Ok(Some(DiskDone::Done))
            }
            DiskOp::Read { fd, offset, len } => {
                read(&self.of(pid, fd)?.file, offset, len).map(|bytes| Some(DiskDone::Data(bytes)))
            }
            DiskOp::Write { fd, offset, data } => {
                write(&self.of(pid, fd)?.file, offset, &data).map(|n| Some(DiskDone::Written(n)))
            }
            DiskOp::WriteZeros { fd, offset, len } => {
                let file = Arc::clone(&self.of(pid, fd)?.file);
                later(Box::new(move || {
                    write_zeros(&file, offset, len).map(DiskDone::Written)
                }))
            }
            DiskOp::Fsync(fd) => {
                let open = self.of(pid, fd)?;
                let data_only = open.synced;
                open.synced = true;
                let file = Arc::clone(&open.file);
                later(Box::new(move || {
                    done(if data_only {
                        file.sync_data()
                    } else {
                        file.sync_all()
                    })
                }))
            }
            DiskOp::Truncate { fd, len } => {
                let file = Arc::clone(&self.of(pid, fd)?.file);
                later(Box::new(move || done(file.set_len(len))))
            }
            DiskOp::Stat(path) => later(Box::new(move || stat(&dir.join(path.as_str())))),
            DiskOp::Rename { from, to } => later(Box::new(move || {
                let at = |path: &FilePath| dir.join(path.as_str());
                done(fs::rename(at(&from), at(&to)))
            })),
            DiskOp::Unlink(path) => later(Box::new(move || {
                done(fs::remove_file(dir.join(path.as_str())))
            })),
            DiskOp::Mkdir(path) => later(Box::new(move || {
                done(
                    DirBuilder::new()
                        .mode(0o700)
                        .create(dir.join(path.as_str())),
                )
            })),
            DiskOp::Rmdir(path) => later(Box::new(move || {
                done(fs::remove_dir(dir.join(path.as_str())))
            })),
            DiskOp::List(path) => later(Box::new(move || list(&dir.join(path.as_str())))),
            DiskOp::SyncDir(path) => later(Box::new(move || {
                match File::open(dir.join(path.as_str())) {
                    Ok(dir) => done(sync_dir(&dir)),
                    Err(e) => Err(disk_error(&e)),
                }
            })),
        }
    }

    fn of(&mut self, pid: Pid, fd: Fd) -> Result<&mut Open, DiskError> {
        let open = self.open.get_mut(&fd).filter(|open| open.owner == pid);
        open.ok_or(DiskError::BadFd)
    }
}

/// Closes a file on the pool. Closing the last descriptor of an unlinked file frees the file, and
/// this takes a long time if the file is large.
fn close(file: Arc<File>, pool: &Pool) {
    pool.give(Box::new(move || {
        drop(file);
        None
    }));
}

fn done(result: io::Result<()>) -> Outcome {
    match result {
        Ok(()) => Ok(DiskDone::Done),
        Err(e) => Err(disk_error(&e)),
    }
}

/// Fsyncs a directory (`fsync_fname_ext`). Some file systems cannot fsync a directory, and do not
/// need it. The error of such a file system is ignored.
fn sync_dir(dir: &File) -> io::Result<()> {
    match rustix::fs::fsync(dir) {
        Err(Errno::BADF | Errno::INVAL) => Ok(()),
        synced => Ok(synced?),
    }
}

fn open_file(path: &Path, flags: OpenFlags) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match flags {
        OpenFlags::Existing => {}
        OpenFlags::Create => {
            options.create(true).truncate(false);
        }
        OpenFlags::CreateNew => {
            options.create_new(true);
        }
        OpenFlags::CreateTruncate => {
            options.create(true).truncate(true);
        }
    }
    options.open(path)
}

/// Reads `len` bytes, or fewer at the end of the file.
fn read(file: &File, offset: u64, len: u32) -> Result<Bytes, DiskError> {
    let mut buffer = Vec::with_capacity(len as usize);
    while buffer.len() < len as usize {
        let at = offset + buffer.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut buffer), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(disk_error(&e.into())),
        }
    }
    // The allocated buffer can be larger than requested, so too many bytes may have been read.
    buffer.truncate(len as usize);
    Ok(Bytes::from(buffer))
}

/// Writes the bytes. Writes fewer only if the disk is full.
fn write(file: &File, offset: u64, data: &[u8]) -> Result<u32, DiskError> {
    let mut written = 0;
    while written < data.len() {
        match file.write_at(&data[written..], offset + written as u64) {
            Ok(n) => written += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                let error = disk_error(&e);
                if written > 0 && is_full(error) {
                    break;
                }
                return Err(error);
            }
        }
    }
    Ok(u32::try_from(written).unwrap_or(u32::MAX))
}

fn write_zeros(file: &File, offset: u64, len: u32) -> Result<u32, DiskError> {
    let mut written = 0;
    while written < len {
        let piece = ZEROS.len().min((len - written) as usize);
        match write(file, offset + u64::from(written), &ZEROS[..piece]) {
            Ok(n) => {
                written += n;
                if (n as usize) < piece {
                    break;
                }
            }
            Err(error) if written > 0 && is_full(error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

const fn is_full(error: DiskError) -> bool {
    matches!(error, DiskError::NoSpace | DiskError::Quota)
}

fn stat(path: &Path) -> Outcome {
    let meta = fs::metadata(path).map_err(|e| disk_error(&e))?;
    Ok(DiskDone::Stat(if meta.is_dir() {
        FileKind::Dir
    } else {
        FileKind::File(meta.len())
    }))
}

fn list(path: &Path) -> Outcome {
    let names = fs::read_dir(path).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    });
    names.map(DiskDone::Names).map_err(|e| disk_error(&e))
}
