//! Files of pages: relations and clog. Mirrors md.c and the descriptors of fd.c.
//!
//! This module never fsyncs. After a write it registers the file, and the next checkpoint fsyncs
//! the file. The buffer is marked clean only after the registration. A descriptor stays open until
//! its process ends.

use super::file::{opened, read, written};
use crate::base::Fd;
use crate::call::{
    DiskDone, DiskError, DiskOp, FileKind, FilePath, LogEvent, Message, OpenFlags, Place, Poll,
    SqlState,
};
use crate::ready_ok;
use crate::shmem::BufTag;
use crate::sys::Cx;
use crate::wire::record::RelLocator;
use alloc::format;
use alloc::vec::Vec;
use bytes::Bytes;

/// The tablespace of the only database (`DEFAULTTABLESPACE_OID`).
pub const DEFAULT_TABLESPACE: u32 = 1663;
/// The object identifier of the only database (`postgres`).
pub const DATABASE: u32 = 5;

/// The name of a relation in WAL records. All relations are in the only database.
#[must_use]
pub const fn locator(rel: u32) -> RelLocator {
    RelLocator {
        spc: DEFAULT_TABLESPACE,
        db: DATABASE,
        rel,
    }
}

/// Is it a relation of this database?
#[must_use]
pub fn is_ours(rel: RelLocator) -> bool {
    rel == locator(rel.rel)
}

/// `GetRelationPath` of the main fork.
#[must_use]
pub fn path(rel: u32) -> FilePath {
    FilePath::from(format!("base/{DATABASE}/{rel}"))
}

/// `PathNameOpenFile`: returns the descriptor of a file. Opens the file unless this process has
/// already opened it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct OpenFile {
    path: FilePath,
    create: bool,
    phase: OpenPhase,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum OpenPhase {
    Start,
    Opened,
}

impl OpenFile {
    /// Opens `path`. If the file does not exist and `create` is set, creates the file.
    #[must_use]
    pub const fn new(path: FilePath, create: bool) -> Self {
        Self {
            path,
            create,
            phase: OpenPhase::Start,
        }
    }

    /// Returns the descriptor, or `None` if the file does not exist.
    ///
    /// # Errors
    /// An ERROR if an operation failed.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Option<Fd>, LogEvent>> {
        match self.phase {
            OpenPhase::Start => {
                if let Some(fd) = cx.sys.rel_files.get(&self.path) {
                    return Poll::Ready(Ok(Some(*fd)));
                }
                let flags = if self.create {
                    OpenFlags::Create
                } else {
                    OpenFlags::Existing
                };
                self.phase = OpenPhase::Opened;
                Poll::Yield(cx.disk(
                    DiskOp::Open {
                        path: self.path.clone(),
                        flags,
                    },
                    Place::BasicOpenFile,
                ))
            }
            OpenPhase::Opened => match cx.done() {
                Ok(done) => {
                    let fd = opened(done);
                    let other = cx.sys.rel_files.insert(self.path.clone(), fd);
                    assert_eq!(other, None, "{} was open already", self.path);
                    Poll::Ready(Ok(Some(fd)))
                }
                Err(DiskError::NotFound) => Poll::Ready(Ok(None)),
                Err(e) => Poll::Ready(Err(LogEvent::file("open", self.path.clone(), e))),
            },
        }
    }
}

/// `FileRead`: reads part of a file.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReadAt {
    open: OpenFile,
    offset: u64,
    len: u32,
    reading: bool,
}

impl ReadAt {
    /// Reads up to `len` bytes at `offset`.
    #[must_use]
    pub const fn new(path: FilePath, offset: u64, len: u32) -> Self {
        Self {
            open: OpenFile::new(path, false),
            offset,
            len,
            reading: false,
        }
    }

    /// Returns the bytes that were read. Near the end of the file these can be fewer than
    /// requested. Returns `None` if the file does not exist.
    ///
    /// # Errors
    /// An ERROR if an operation failed.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Option<Bytes>, LogEvent>> {
        if self.reading {
            let path = &self.open.path;
            return Poll::Ready(match cx.done() {
                Ok(done) => {
                    let bytes = read(done);
                    assert!(bytes.len() <= self.len as usize, "{}", bytes.len());
                    Ok(Some(bytes))
                }
                Err(e) => Err(LogEvent::file("read", path.clone(), e)),
            });
        }
        let Some(fd) = ready_ok!(self.open.poll(cx)) else {
            return Poll::Ready(Ok(None));
        };
        self.reading = true;
        Poll::Yield(cx.disk(
            DiskOp::Read {
                fd,
                offset: self.offset,
                len: self.len,
            },
            Place::FileRead,
        ))
    }
}

/// `FileWrite`, then `register_dirty_segment`: writes part of a file. Creates the file if it does
/// not exist.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WriteAt {
    open: OpenFile,
    offset: u64,
    data: Bytes,
    writing: bool,
}

impl WriteAt {
    /// Writes `data` at `offset`.
    #[must_use]
    pub const fn new(path: FilePath, offset: u64, data: Bytes) -> Self {
        Self {
            open: OpenFile::new(path, true),
            offset,
            data,
            writing: false,
        }
    }

    /// # Errors
    /// An ERROR if an operation failed. A short write means that the disk is full.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        if !self.writing {
            let fd =
                ready_ok!(self.open.poll(cx)).expect("a file that is made when absent is there");
            self.writing = true;
            assert!(!self.data.is_empty(), "nothing to write to {fd:?}");
            let op = DiskOp::Write {
                fd,
                offset: self.offset,
                data: self.data.clone(),
            };
            return Poll::Yield(cx.disk(op, Place::FileWrite));
        }
        let path = &self.open.path;
        let error = match cx.done() {
            Ok(done) => {
                let len = written(done) as usize;
                assert!(len <= self.data.len(), "{len} bytes were written");
                if len == self.data.len() {
                    cx.shmem.sync_requests.files.insert(path.clone());
                    return Poll::Ready(Ok(()));
                }
                DiskError::NoSpace
            }
            Err(e) => e,
        };
        Poll::Ready(Err(LogEvent::file("write", path.clone(), error)))
    }
}

/// `smgrnblocks`: the length of a relation in blocks. 0 if the file does not exist.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RelationBlocks {
    rel: u32,
    asked: bool,
}

impl RelationBlocks {
    /// Determines the length of this relation.
    #[must_use]
    pub const fn new(rel: u32) -> Self {
        Self { rel, asked: false }
    }

    /// # Errors
    /// An ERROR if an operation failed.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<u32, LogEvent>> {
        let known = cx.shmem.buffers.blocks.get(&self.rel).copied();
        if !self.asked {
            if let Some(blocks) = known {
                return Poll::Ready(Ok(blocks));
            }
            self.asked = true;
            return Poll::Yield(cx.disk(DiskOp::Stat(path(self.rel)), Place::Mdnblocks));
        }
        let len = match cx.done() {
            Ok(DiskDone::Stat(FileKind::File(len))) => len,
            Err(DiskError::NotFound) => 0,
            Ok(_) => {
                return Poll::Ready(Err(LogEvent::file(
                    "stat",
                    path(self.rel),
                    DiskError::IsDir,
                )));
            }
            Err(e) => return Poll::Ready(Err(LogEvent::file("stat", path(self.rel), e))),
        };
        // If another process has extended the file during this call, the cached length is newer
        // than the result of this call.
        let blocks = known.unwrap_or_else(|| {
            // A page that is only partly written does not count. A full disk can leave such a page.
            let whole = len / u64::from(cx.shmem.settings.geometry.data_page);
            u32::try_from(whole).unwrap_or(u32::MAX)
        });
        cx.shmem.buffers.blocks.insert(self.rel, blocks);
        Poll::Ready(Ok(blocks))
    }
}

/// `mdread`: reads one page of a relation.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReadPage {
    path: FilePath,
    read: ReadAt,
    page: u32,
}

impl ReadPage {
    /// Reads the page `tag`.
    #[must_use]
    pub fn new(cx: &Cx<'_>, tag: BufTag) -> Self {
        let page = cx.shmem.settings.geometry.data_page;
        let path = path(tag.rel);
        Self {
            read: ReadAt::new(path.clone(), offset(tag, page), page),
            path,
            page,
        }
    }

    /// # Errors
    /// An ERROR if an operation failed, or if the page is beyond the end of the file. In recovery,
    /// a page beyond the end of the file is read as zeros.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Vec<u8>, LogEvent>> {
        let bytes = ready_ok!(self.read.poll(cx));
        let (path, wanted) = (self.path.clone(), self.page);
        let Some(bytes) = bytes else {
            return Poll::Ready(Err(LogEvent::file("open", path, DiskError::NotFound)));
        };
        let got = u32::try_from(bytes.len()).expect("no more than a page was asked for");
        let mut page = bytes.to_vec();
        if got < wanted {
            if !cx.shmem.recovery_in_progress() {
                let message = Message::ShortRead { path, got, wanted };
                return Poll::Ready(Err(LogEvent::error(SqlState::DATA_CORRUPTED, message)));
            }
            page.fill(0);
            page.resize(wanted as usize, 0);
        }
        Poll::Ready(Ok(page))
    }
}

/// `mdwrite` and `mdextend`: write one page of a relation.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WritePage {
    tag: BufTag,
    write: WriteAt,
}

impl WritePage {
    /// Writes `data` to the page `tag`.
    #[must_use]
    pub fn new(cx: &Cx<'_>, tag: BufTag, data: Bytes) -> Self {
        let page = cx.shmem.settings.geometry.data_page;
        assert_eq!(data.len(), page as usize, "only whole pages are written");
        Self {
            tag,
            write: WriteAt::new(path(tag.rel), offset(tag, page), data),
        }
    }

    /// # Errors
    /// An ERROR if an operation failed.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        ready_ok!(self.write.poll(cx));
        if let Some(blocks) = cx.shmem.buffers.blocks.get_mut(&self.tag.rel) {
            *blocks = (*blocks).max(self.tag.block + 1);
        }
        Poll::Ready(Ok(()))
    }
}

fn offset(tag: BufTag, page: u32) -> u64 {
    u64::from(tag.block) * u64::from(page)
}
