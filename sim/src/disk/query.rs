//! Queries of a disk for checks, reports and the setup of a world.

use super::content::Content;
use super::inode::Inode;
use super::tree::{Node, Place, ROOT};
use super::{Act, Descriptor, Disk, Ticket, Traffic};
use crate::choice::Choices;
use std::ops::Range;
use std::sync::Arc;
use walsim_core::base::{Fd, Pid};
use walsim_core::call::{DiskDone, DiskError, DiskOp, FilePath};
use walsim_core::node::InitialFile;

/// An entry in a dump of a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A directory.
    Dir,
    /// A file and its contents.
    File(Vec<u8>),
}

impl Ticket {
    /// The answer, if it is known already. A read or an fsync has an answer only when it completes.
    pub(crate) const fn answer(&self) -> Option<&Result<DiskDone, DiskError>> {
        match &self.0 {
            Act::Answer(answer) => Some(answer),
            Act::Read { .. } | Act::Fsync { .. } | Act::SyncDir { .. } => None,
        }
    }
}

impl Disk {
    /// Whether these bytes of a file would be the same after any crash that could happen now. The
    /// name of the file must be durable, too. Overwriting a byte with the same value does not
    /// change the answer.
    #[must_use]
    pub fn is_stable(&self, path: &str, range: Range<u64>) -> bool {
        match self.file_at(path) {
            Some(inode) => inode.is_stable(&range) && self.tree.is_durable(path),
            None => false,
        }
    }

    /// The position up to which no crash can change the bytes from `from` on. It equals `from` if a
    /// crash could change the first byte.
    #[must_use]
    pub fn stable_until(&self, path: &str, from: u64) -> u64 {
        match self.file_at(path) {
            Some(inode) if self.tree.is_durable(path) => inode.stable_until(from),
            Some(_) | None => from,
        }
    }

    /// Whether this file or directory exists in the page cache.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        self.tree.look(path).is_ok()
    }

    /// The length of a file.
    #[must_use]
    pub fn file_len(&self, path: &str) -> Option<u64> {
        self.file_at(path).map(|inode| inode.cached().len())
    }

    /// Up to `len` bytes of a file, from the page cache.
    #[must_use]
    pub fn read_cached(&self, path: &str, offset: u64, len: u64) -> Option<Vec<u8>> {
        self.file_at(path)
            .map(|inode| inode.cached().read(offset, len))
    }

    /// Up to `len` bytes that the file would have after a power loss that destroys all unsynced
    /// data.
    #[must_use]
    pub fn read_platter(&self, path: &str, offset: u64, len: u64) -> Option<Vec<u8>> {
        match self.tree.look_platter(path) {
            Ok(Node::File(inode)) => Some(self.inodes[&inode].platter().read(offset, len)),
            Ok(Node::Dir(_)) | Err(_) => None,
        }
    }

    /// The first bytes of every file to which this path could refer after a power loss now. A file
    /// with unsynced writes counts twice: once as it is on the platter, and once as it is in the
    /// page cache.
    #[must_use]
    pub fn reachable(&self, path: &str, len: u64) -> Vec<Vec<u8>> {
        let mut contents = Vec::new();
        for node in self.tree.reachable(path) {
            if let Node::File(inode) = node {
                let inode = &self.inodes[&inode];
                contents.push(inode.platter().read(0, len));
                if !inode.is_stable(&(0..inode.cached().len())) {
                    contents.push(inode.cached().read(0, len));
                }
            }
        }
        contents
    }

    /// The names that a directory has now, or could have after a power loss now.
    #[must_use]
    pub fn reachable_names(&self, path: &str) -> Vec<Arc<str>> {
        match self.tree.dir(path) {
            Ok(dir) => self.tree.reachable_names(dir).into_iter().collect(),
            Err(_) => Vec::new(),
        }
    }

    /// The names in a directory, sorted. The list is empty if the directory does not exist.
    #[must_use]
    pub fn list(&self, path: &str) -> Vec<String> {
        match self.tree.dir(path) {
            Ok(dir) => self
                .tree
                .names(dir)
                .map(|(name, _)| name.to_owned())
                .collect(),
            Err(_) => Vec::new(),
        }
    }

    /// The last known path of the file to which a descriptor refers.
    #[must_use]
    pub fn path_of(&self, fd: Fd) -> Option<&FilePath> {
        let open: &Descriptor = self.descriptors.get(&fd)?;
        self.inodes.get(&open.inode).map(|inode| &inode.path)
    }

    /// The number of bytes that processes have written and read so far.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The file that this operation makes durable.
    #[must_use]
    pub fn syncs(&self, ticket: &Ticket) -> Option<&FilePath> {
        match &ticket.0 {
            Act::Fsync { inode, .. } => self.inodes.get(inode).map(|inode| &inode.path),
            Act::Answer(_) | Act::Read { .. } | Act::SyncDir { .. } => None,
        }
    }

    /// Enlarges the disk.
    pub const fn grow(&mut self, bytes: u64) {
        self.capacity = self.capacity.saturating_add(bytes);
    }

    /// The number of used bytes, and the capacity.
    #[must_use]
    pub const fn space(&self) -> (u64, u64) {
        (self.used, self.capacity)
    }

    /// All files and directories with their paths, from the page cache or from the platter. A
    /// directory comes before its contents.
    #[must_use]
    pub fn dump(&self, platter: bool) -> Vec<(String, Entry)> {
        let mut entries = Vec::new();
        self.dump_dir(ROOT, "", platter, &mut entries);
        entries
    }

    fn dump_dir(&self, dir: u64, prefix: &str, platter: bool, out: &mut Vec<(String, Entry)>) {
        let names: Vec<(&str, Node)> = if platter {
            self.tree.names_on_platter(dir).collect()
        } else {
            self.tree.names(dir).collect()
        };
        for (name, node) in names {
            let path = format!("{prefix}{name}");
            match node {
                Node::Dir(dir) => {
                    let below = format!("{path}/");
                    out.push((path, Entry::Dir));
                    self.dump_dir(dir, &below, platter, out);
                }
                Node::File(inode) => {
                    let inode = &self.inodes[&inode];
                    let content = if platter {
                        inode.platter()
                    } else {
                        inode.cached()
                    };
                    out.push((path, Entry::File(content.read(0, content.len()))));
                }
            }
        }
    }

    /// The paths of all files in the page cache, with their inodes.
    pub(super) fn places(&self) -> Vec<(String, u64)> {
        let mut dirs = vec![(ROOT, String::new())];
        let mut places = Vec::new();
        while let Some((dir, prefix)) = dirs.pop() {
            for (name, node) in self.tree.names(dir) {
                let path = format!("{prefix}{name}");
                match node {
                    Node::Dir(dir) => dirs.push((dir, path + "/")),
                    Node::File(inode) => places.push((path, inode)),
                }
            }
        }
        places
    }

    /// Creates a durable file and its parent directories, for the setup of a world.
    pub fn set_up_file(&mut self, path: &str, content: Content) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.set_up_dir(parent);
        }
        let number = self.number();
        self.used += content.len();
        let inode = Inode::new(number, FilePath::from(path), self.sector).settled(content);
        self.inodes.insert(number, Arc::new(inode));
        self.put_durable(path, Node::File(number));
        self.loose = true;
        self.sweep();
    }

    /// Issues an operation and completes it at once.
    ///
    /// # Errors
    /// What the system call would return.
    pub fn call(
        &mut self,
        owner: Pid,
        op: &DiskOp,
        choices: &Choices,
    ) -> Result<DiskDone, DiskError> {
        let (ticket, _) = self.issue(owner, op, choices);
        self.complete(ticket, choices)
    }

    /// Creates a durable entry of a new cluster.
    pub fn set_up(&mut self, entry: &InitialFile) {
        match entry {
            InitialFile::Dir(path) => self.set_up_dir(path.as_str()),
            InitialFile::File { path, bytes, len } => {
                let mut content = Content::new(bytes);
                let have = bytes.len() as u64;
                content.zero(have, len - have);
                self.set_up_file(path.as_str(), content);
            }
        }
    }

    /// Creates a durable directory and its parents.
    pub fn set_up_dir(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.set_up_dir(parent);
        }
        match self.tree.look(path) {
            Ok(Node::Dir(_)) => {}
            Ok(Node::File(_)) => panic!("{path} is already a file"),
            Err(_) => {
                let number = self.number();
                self.put_durable(path, Node::Dir(number));
            }
        }
    }

    fn put_durable(&mut self, path: &str, node: Node) {
        let place: Result<Place<'_>, DiskError> = self.tree.place(path);
        let place = place.expect("the parent directories were created before");
        self.tree.put(&place, node);
        self.tree.settle_all();
    }

    /// A copy of the disk for another machine, such as a base backup. All files are durable. The
    /// copy has no open descriptors and no faults.
    #[must_use]
    pub fn copy_for(&self, machine: u16, capacity: u64) -> Self {
        self.copy_without(machine, capacity, "")
    }

    /// Like [`Self::copy_for`], but without the contents of one directory.
    #[must_use]
    pub fn copy_without(&self, machine: u16, capacity: u64, without: &str) -> Self {
        let below = format!("{without}/");
        let mut copy = Self::new(machine, self.spec, self.sector, capacity);
        let mut files = Vec::new();
        self.copy_dir(ROOT, "", &mut files);
        files.retain(|(path, _)| !path.starts_with(&below));
        for (path, content) in files {
            match content {
                Some(content) => copy.set_up_file(&path, content),
                None => copy.set_up_dir(&path),
            }
        }
        copy
    }

    fn copy_dir(&self, dir: u64, prefix: &str, out: &mut Vec<(String, Option<Content>)>) {
        for (name, node) in self.tree.names(dir) {
            let path = format!("{prefix}{name}");
            match node {
                Node::Dir(dir) => {
                    let below = format!("{path}/");
                    out.push((path, None));
                    self.copy_dir(dir, &below, out);
                }
                Node::File(inode) => {
                    out.push((path, Some(self.inodes[&inode].cached().clone())));
                }
            }
        }
    }

    fn file_at(&self, path: &str) -> Option<&Inode> {
        match self.tree.look(path) {
            Ok(Node::File(inode)) => Some(&self.inodes[&inode]),
            Ok(Node::Dir(_)) | Err(_) => None,
        }
    }
}
