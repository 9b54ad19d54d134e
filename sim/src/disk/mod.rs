//! The simulated disk of one machine. Contents, lengths and names of files exist twice: in the page
//! cache, and on the platter, which contains what is durable.
//!
//! An operation takes effect when it is issued, and its result is delivered when it completes. A
//! write copies its bytes into the page cache at once. An fsync covers everything that was written
//! before it was issued. Only a read takes effect later: it returns the bytes as they are when it
//! completes.
//!
//! An fsync of a file also makes durable the name under which the file was created, as journaling
//! file systems do. After a rename, the new name is durable only after an fsync of the directory.
//! The world makes an exception for some fsyncs of a file, which also make the new name durable
//! ([`Disk::cover_name`]).
//!
//! The death of a process does not change the page cache. A power loss keeps any subset of the
//! unsynced changes.

mod content;
mod fault;
mod inode;
mod losses;
mod names;
mod query;
mod tree;

pub use content::Content;
pub use fault::{DiskFault, DiskFaultKind};
pub use losses::{FileLoss, Unsynced};
pub use query::Entry;

use crate::choice::{Choices, Key, Subject};
use bytes::Bytes;
use inode::{Dice, Fate, Inode, Renamed};
use std::collections::BTreeMap;
use std::sync::Arc;
use tree::{Node, Tree};
use walsim_core::base::{Fd, Pid};
use walsim_core::call::{DiskDone, DiskError, DiskOp, FileKind, FilePath, OpenFlags};

/// The speed of a disk without faults.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DiskSpec {
    /// The minimum duration of any operation.
    pub latency_us: u64,
    /// The maximum random duration that is added. For an fsync it is ten times as long.
    pub jitter_us: u64,
    /// The minimum duration of an fsync.
    pub fsync_us: u64,
}

impl Default for DiskSpec {
    /// A solid-state disk.
    fn default() -> Self {
        Self {
            latency_us: 5,
            jitter_us: 15,
            fsync_us: 250,
        }
    }
}

/// The disk of one machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Disk {
    subject: Subject,
    spec: DiskSpec,
    sector: u32,
    capacity: u64,
    used: u64,
    tree: Tree,
    inodes: BTreeMap<u64, Arc<Inode>>,
    descriptors: BTreeMap<Fd, Descriptor>,
    next_fd: u32,
    next_inode: u64,
    losses: u64,
    faults: Vec<DiskFault>,
    traffic: Traffic,
    /// A file or directory has lost a name, so it may have to be freed.
    loose: bool,
}

/// The number of bytes that processes have written and read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Traffic {
    /// Bytes that were written to the page cache, including zeros.
    pub written: u64,
    /// Bytes that were read from the page cache.
    pub read: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Descriptor {
    owner: Pid,
    inode: u64,
}

/// An operation in flight. It must be passed to [`Disk::complete`] exactly once, even if the
/// process that issued it has died. If the machine loses power, the operation must not be passed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(Act);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Act {
    /// The result of an operation that took effect when it was issued.
    Answer(Result<DiskDone, DiskError>),
    Read {
        inode: u64,
        offset: u64,
        len: u32,
    },
    Fsync {
        inode: u64,
        /// The number of the last change that was issued before this fsync.
        upto: u64,
        call: u64,
        fault: Option<DiskFaultKind>,
        /// The rename of the file that this fsync makes durable.
        renamed: Option<Renamed>,
    },
    SyncDir {
        dir: u64,
        upto: u64,
    },
}

/// What was lost in a power loss.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PowerLoss {
    /// Bytes of writes that did not survive completely.
    pub bytes: u64,
    /// The number of changes of names that did not survive.
    pub names: u64,
    /// A change of names was lost, and a later change in the same directory survived.
    pub reordered: bool,
    /// Torn data pages, each with its file and page number. A torn page equals neither its old
    /// contents nor a later version.
    pub torn: Vec<(FilePath, u64)>,
}

impl Disk {
    /// An empty disk for the machine with this index in the plan's list.
    #[must_use]
    pub fn new(machine: u16, spec: DiskSpec, sector: u32, capacity: u64) -> Self {
        Self {
            subject: Subject::Node(machine),
            spec,
            sector,
            capacity,
            used: 0,
            tree: Tree::new(),
            inodes: BTreeMap::new(),
            descriptors: BTreeMap::new(),
            next_fd: 3,
            next_inode: tree::ROOT + 1,
            losses: 0,
            faults: Vec::new(),
            traffic: Traffic::default(),
            loose: false,
        }
    }

    /// Issues an operation of a process. Returns a ticket for its completion, and its duration in
    /// microseconds.
    pub fn issue(&mut self, owner: Pid, op: &DiskOp, choices: &Choices) -> (Ticket, u64) {
        let place = self.whom(op);
        let call = self.count_call(place);
        let key = Key::new("disk.latency", self.subject, [place, call]);
        let (least_us, jitter_us) = self.duration(op);
        let jitter_us = choices.below(key, jitter_us.saturating_add(1));
        let delay_us = least_us
            .saturating_add(jitter_us)
            .saturating_mul(self.slow_factor());
        let act = match self.act(owner, op, call, choices) {
            Ok(act) => act,
            Err(error) => Act::Answer(Err(error)),
        };
        (Ticket(act), delay_us)
    }

    /// Completes an operation and returns its result.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn complete(&mut self, ticket: Ticket, choices: &Choices) -> Result<DiskDone, DiskError> {
        match ticket.0 {
            Act::Answer(answer) => answer,
            Act::Read { inode, offset, len } => {
                let bytes = self.inodes[&inode].cached().read(offset, u64::from(len));
                self.unpin(inode);
                self.traffic.read += bytes.len() as u64;
                Ok(DiskDone::Data(Bytes::from(bytes)))
            }
            Act::Fsync {
                inode,
                upto,
                call,
                fault,
                renamed,
            } => {
                let result = self.fsync(inode, upto, call, fault, choices);
                if let (Ok(_), Some(renamed)) = (&result, renamed) {
                    self.tree.settle_change(renamed.dir, renamed.number);
                    self.sweep();
                }
                self.unpin(inode);
                result
            }
            Act::SyncDir { dir, upto } => {
                self.tree.settle(dir, upto);
                self.sweep();
                Ok(DiskDone::Done)
            }
        }
    }

    /// Closes the descriptors of a dead process.
    pub fn close_all(&mut self, owner: Pid) {
        self.descriptors.retain(|_, open| open.owner != owner);
        self.sweep();
    }

    /// Loses power. Operations in flight get no result. Also looks for torn pages of this size in
    /// files under `base/`.
    pub fn power_loss(&mut self, page: u32, choices: &Choices) -> PowerLoss {
        self.losses += 1;
        let subject = self.subject;
        let losses = self.losses;
        let dice = Dice { choices, subject };
        let whole = choices.below(Key::new("disk.loss", subject, [losses, 0]), 4);
        let fate = match whole {
            0 => Fate::AllKept,
            1 => Fate::NoneKept,
            2 => Fate::PerFile,
            _ => Fate::PerWrite,
        };
        let mut loss = PowerLoss::default();
        for inode in self.inodes.values_mut() {
            let data = inode.path.as_str().starts_with("base/");
            let page = data.then_some(u64::from(page));
            let inode = Arc::make_mut(inode);
            inode.pins = 0;
            let lost = inode.lose(fate, &dice, page);
            loss.bytes += lost.bytes;
            let torn = lost.torn.into_iter();
            loss.torn
                .extend(torn.map(|page| (inode.path.clone(), page)));
        }
        let in_order = |dir| dice.keeps_order(losses, dir);
        let names = self.tree.lose(in_order, |change| match fate {
            Fate::AllKept => true,
            Fate::NoneKept => false,
            Fate::PerFile | Fate::PerWrite => dice.name(losses, change),
        });
        loss.names = names.changes;
        loss.reordered = names.reordered;
        self.descriptors.clear();
        self.loose = true;
        self.sweep();
        self.used = self.inodes.values().map(|inode| inode.cached().len()).sum();
        loss
    }

    fn act(
        &mut self,
        owner: Pid,
        op: &DiskOp,
        call: u64,
        choices: &Choices,
    ) -> Result<Act, DiskError> {
        let done = match op {
            DiskOp::Open { path, flags } => DiskDone::Opened(self.open(owner, path, *flags)?),
            DiskOp::Close(fd) => {
                let inode = self.inode_of(owner, *fd)?;
                self.descriptors.remove(fd);
                self.sweep_one(inode);
                DiskDone::Done
            }
            DiskOp::Read { fd, offset, len } => {
                let inode = self.inode_of(owner, *fd)?;
                if self.hits_fault(inode, DiskFaultKind::ReadFails) {
                    return Err(DiskError::Io);
                }
                self.pin(inode);
                return Ok(Act::Read {
                    inode,
                    offset: *offset,
                    len: *len,
                });
            }
            DiskOp::Write { fd, offset, data } => {
                let inode = self.inode_of(owner, *fd)?;
                let len = u32::try_from(data.len()).expect("a write is shorter than 4 GiB");
                let len = self.room(inode, *offset, len, call, choices)?;
                let data = data.slice(..len as usize);
                self.change(inode, |inode| inode.write(*offset, data));
                self.traffic.written += u64::from(len);
                DiskDone::Written(len)
            }
            DiskOp::WriteZeros { fd, offset, len } => {
                let inode = self.inode_of(owner, *fd)?;
                let len = self.room(inode, *offset, *len, call, choices)?;
                self.change(inode, |inode| inode.zero(*offset, u64::from(len)));
                self.traffic.written += u64::from(len);
                DiskDone::Written(len)
            }
            DiskOp::Fsync(fd) => {
                let inode = self.inode_of(owner, *fd)?;
                return Ok(self.begin_fsync(inode, call));
            }
            DiskOp::Truncate { fd, len } => {
                let inode = self.inode_of(owner, *fd)?;
                if self.used - self.inodes[&inode].cached().len() + len > self.capacity {
                    return Err(DiskError::NoSpace);
                }
                self.change(inode, |inode| inode.truncate(*len));
                DiskDone::Done
            }
            DiskOp::Stat(path) => DiskDone::Stat(match self.tree.look(path.as_str())? {
                Node::File(inode) => FileKind::File(self.inodes[&inode].cached().len()),
                Node::Dir(_) => FileKind::Dir,
            }),
            DiskOp::Rename { from, to } => {
                self.rename(owner, from, to)?;
                DiskDone::Done
            }
            DiskOp::Unlink(path) => {
                self.unlink(path)?;
                DiskDone::Done
            }
            DiskOp::Mkdir(path) => {
                self.mkdir(path)?;
                DiskDone::Done
            }
            DiskOp::Rmdir(path) => {
                self.loose = true;
                let place = self.tree.place(path.as_str())?;
                match self.tree.get(&place).ok_or(DiskError::NotFound)? {
                    Node::File(_) => return Err(DiskError::NotDir),
                    Node::Dir(dir) if self.tree.names(dir).next().is_some() => {
                        return Err(DiskError::NotEmpty);
                    }
                    Node::Dir(_) => self.tree.remove(&place),
                }
                DiskDone::Done
            }
            DiskOp::List(path) => {
                let dir = self.tree.dir(path.as_str())?;
                let names = self.tree.names(dir);
                DiskDone::Names(names.map(|(name, _)| name.to_owned()).collect())
            }
            DiskOp::SyncDir(path) => {
                return Ok(match self.tree.look(path.as_str())? {
                    Node::Dir(dir) => Act::SyncDir {
                        dir,
                        upto: self.tree.changes(),
                    },
                    // fsync can be called for a file or a directory.
                    Node::File(inode) => self.begin_fsync(inode, call),
                });
            }
        };
        Ok(Act::Answer(Ok(done)))
    }

    fn begin_fsync(&mut self, inode: u64, call: u64) -> Act {
        self.pin(inode);
        Act::Fsync {
            inode,
            upto: self.inodes[&inode].issued(),
            call,
            fault: self.fsync_fault(inode),
            renamed: None,
        }
    }

    fn open(&mut self, owner: Pid, path: &FilePath, flags: OpenFlags) -> Result<Fd, DiskError> {
        let place = self.tree.place(path.as_str())?;
        let inode = match (self.tree.get(&place), flags) {
            (Some(_), OpenFlags::CreateNew) => return Err(DiskError::Exists),
            (Some(Node::Dir(_)), _) => return Err(DiskError::IsDir),
            (Some(Node::File(inode)), OpenFlags::Existing | OpenFlags::Create) => inode,
            (Some(Node::File(inode)), OpenFlags::CreateTruncate) => {
                self.change(inode, |inode| inode.truncate(0));
                inode
            }
            (None, OpenFlags::Existing) => return Err(DiskError::NotFound),
            (None, OpenFlags::Create | OpenFlags::CreateNew | OpenFlags::CreateTruncate) => {
                let number = self.number();
                let inode = Inode::new(number, path.clone(), self.sector);
                self.inodes.insert(number, Arc::new(inode));
                self.tree.put(&place, Node::File(number));
                number
            }
        };
        let fd = Fd(self.next_fd);
        self.next_fd += 1;
        self.descriptors.insert(fd, Descriptor { owner, inode });
        Ok(fd)
    }

    fn fsync(
        &mut self,
        inode: u64,
        upto: u64,
        call: u64,
        fault: Option<DiskFaultKind>,
        choices: &Choices,
    ) -> Result<DiskDone, DiskError> {
        let subject = self.subject;
        match fault {
            None => {
                let file = Arc::make_mut(self.file(inode));
                let key = Key::new("disk.fsync-covers", subject, [inode, call]);
                let late = file.issued() > upto && choices.ratio(key, 1, 2);
                file.settle(if late { file.issued() } else { upto });
                self.tree.settle_creation(inode);
                self.sweep();
                Ok(DiskDone::Done)
            }
            Some(DiskFaultKind::FsyncDrops) => {
                let dice = Dice { choices, subject };
                self.change(inode, |inode| {
                    inode.lose(Fate::PerWrite, &dice, None);
                });
                Err(DiskError::Io)
            }
            Some(_) => Err(DiskError::Io),
        }
    }

    /// How many bytes of a write fit on the disk.
    fn room(
        &mut self,
        inode: u64,
        offset: u64,
        len: u32,
        call: u64,
        choices: &Choices,
    ) -> Result<u32, DiskError> {
        if self.hits_fault(inode, DiskFaultKind::WriteFails) {
            return Err(DiskError::Io);
        }
        let old = self.inodes[&inode].cached().len();
        let grows = (offset + u64::from(len)).saturating_sub(old);
        if grows == 0 {
            return Ok(len);
        }
        let mut free = self.capacity.saturating_sub(self.used);
        if self.hits_fault(inode, DiskFaultKind::Full) {
            let key = Key::new("disk.short-write", self.subject, [inode, call]);
            free = free.min(choices.below(key, 2) * grows / 2);
        }
        let missing = u32::try_from(grows.saturating_sub(free)).unwrap_or(len);
        match len.saturating_sub(missing) {
            0 if len > 0 => Err(DiskError::NoSpace),
            fits => Ok(fits),
        }
    }

    fn inode_of(&self, owner: Pid, fd: Fd) -> Result<u64, DiskError> {
        match self.descriptors.get(&fd) {
            Some(open) if open.owner == owner => Ok(open.inode),
            Some(_) | None => Err(DiskError::BadFd),
        }
    }

    fn file(&mut self, inode: u64) -> &mut Arc<Inode> {
        self.inodes
            .get_mut(&inode)
            .expect("names, descriptors and pins refer to existing inodes")
    }

    /// Changes a file and updates the used space.
    fn change(&mut self, inode: u64, change: impl FnOnce(&mut Inode)) {
        let file = Arc::make_mut(self.file(inode));
        let before = file.cached().len();
        change(file);
        let after = file.cached().len();
        self.used = self.used - before + after;
    }

    fn pin(&mut self, inode: u64) {
        Arc::make_mut(self.file(inode)).pins += 1;
    }

    fn unpin(&mut self, inode: u64) {
        let file = Arc::make_mut(self.file(inode));
        assert!(file.pins > 0, "a ticket completes once");
        file.pins -= 1;
        self.sweep_one(inode);
    }

    fn number(&mut self) -> u64 {
        self.next_inode += 1;
        self.next_inode - 1
    }

    /// Frees a file if no name, descriptor or operation refers to it any more.
    fn sweep_one(&mut self, inode: u64) {
        if self.inodes[&inode].unlinked {
            self.sweep();
        }
    }

    /// Frees the files and directories that are no longer referenced by a name, a descriptor or an
    /// operation in flight. A name that a crash could bring back counts too.
    fn sweep(&mut self) {
        if !self.loose {
            return;
        }
        let referenced = self.tree.referenced();
        let mut kept: Vec<u64> = self.descriptors.values().map(|open| open.inode).collect();
        kept.sort_unstable();
        let mut freed = 0;
        self.inodes.retain(|number, inode| {
            let keep = inode.pins > 0
                || referenced.contains(Node::File(*number))
                || kept.binary_search(number).is_ok();
            if !keep {
                freed += inode.cached().len();
            }
            keep
        });
        self.used -= freed;
        self.tree.forget(&referenced);
        let live = self.tree.live();
        let nameless = |number: &u64| !live.contains(Node::File(*number));
        self.loose = self.inodes.keys().any(nameless) || self.tree.has_nameless(&live);
    }

    /// The inode or directory that an operation uses. Its number is a part of the keys of choices.
    fn whom(&self, op: &DiskOp) -> u64 {
        let parent = |path: &FilePath| self.tree.dir(path.parent()).unwrap_or(tree::ROOT);
        match op {
            DiskOp::Open { path, .. }
            | DiskOp::Stat(path)
            | DiskOp::Rename { to: path, .. }
            | DiskOp::Unlink(path)
            | DiskOp::Mkdir(path)
            | DiskOp::Rmdir(path) => parent(path),
            DiskOp::Close(fd)
            | DiskOp::Read { fd, .. }
            | DiskOp::Write { fd, .. }
            | DiskOp::WriteZeros { fd, .. }
            | DiskOp::Truncate { fd, .. }
            | DiskOp::Fsync(fd) => {
                let open = self.descriptors.get(fd);
                open.map_or(tree::ROOT, |open| open.inode)
            }
            DiskOp::List(path) | DiskOp::SyncDir(path) => {
                self.tree.dir(path.as_str()).unwrap_or(tree::ROOT)
            }
        }
    }

    /// The minimum duration of an operation, and the maximum random duration that is added, in
    /// microseconds.
    fn duration(&self, op: &DiskOp) -> (u64, u64) {
        let DiskSpec {
            latency_us,
            jitter_us,
            fsync_us,
        } = self.spec;
        // The page cache transfers some gigabytes per second.
        let moved = match op {
            DiskOp::Fsync(_) | DiskOp::SyncDir(_) => {
                return (fsync_us, jitter_us.saturating_mul(10));
            }
            DiskOp::Read { len, .. } => u64::from(*len),
            DiskOp::Write { data, .. } => {
                u64::try_from(data.len()).expect("a length fits into 64 bits")
            }
            DiskOp::Open { .. }
            | DiskOp::Close(_)
            | DiskOp::WriteZeros { .. }
            | DiskOp::Truncate { .. }
            | DiskOp::Stat(_)
            | DiskOp::Rename { .. }
            | DiskOp::Unlink(_)
            | DiskOp::Mkdir(_)
            | DiskOp::Rmdir(_)
            | DiskOp::List(_) => 0,
        };
        (latency_us.saturating_add(moved / 2048), jitter_us)
    }

    fn count_call(&mut self, place: u64) -> u64 {
        match self.inodes.get_mut(&place) {
            Some(inode) => {
                let inode = Arc::make_mut(inode);
                inode.calls += 1;
                inode.calls
            }
            None => self.tree.call(place),
        }
    }
}

#[cfg(test)]
mod tests;
