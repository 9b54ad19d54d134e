//! Changes of names: what rename, unlink and mkdir do to directories in the page cache.

use super::inode::Renamed;
use super::tree::{Node, Place};
use super::{Act, Disk, Ticket};
use std::sync::Arc;
use walsim_core::base::{Fd, Pid};
use walsim_core::call::{DiskError, FilePath};

/// The value on Linux.
const EINVAL: DiskError = DiskError::Other(22);

impl Disk {
    /// The process that has renamed the file of this descriptor, if the new name is not durable
    /// yet.
    #[must_use]
    pub fn renamer(&self, fd: Fd) -> Option<Pid> {
        let inode = self.inodes.get(&self.descriptors.get(&fd)?.inode)?;
        let renamed = inode.renamed?;
        let is_pending = self.tree.is_pending(renamed.dir, renamed.number);
        is_pending.then_some(renamed.by)
    }

    /// Lets an fsync also make the new name of its file durable, if the fsync succeeds.
    pub fn cover_name(&self, ticket: &mut Ticket) {
        if let Act::Fsync { inode, renamed, .. } = &mut ticket.0 {
            *renamed = self.inodes[inode].renamed;
        }
    }

    pub(super) fn rename(
        &mut self,
        by: Pid,
        from: &FilePath,
        to: &FilePath,
    ) -> Result<(), DiskError> {
        let source = self.tree.place(from.as_str())?;
        let target = self.tree.place(to.as_str())?;
        let node = self.tree.get(&source).ok_or(DiskError::NotFound)?;
        if from == to {
            return Ok(());
        }
        // A directory cannot be moved into itself. A directory that contains the moved one cannot
        // be replaced.
        if lies_in(to, from) {
            return Err(EINVAL);
        }
        if lies_in(from, to) {
            return Err(DiskError::NotEmpty);
        }
        match (node, self.tree.get(&target)) {
            (Node::File(_), Some(Node::Dir(_))) => return Err(DiskError::IsDir),
            (Node::Dir(_), Some(Node::File(_))) => return Err(DiskError::NotDir),
            (Node::Dir(_), Some(Node::Dir(dir))) if self.tree.names(dir).next().is_some() => {
                return Err(DiskError::NotEmpty);
            }
            (Node::Dir(_), Some(Node::Dir(_))) => self.loose = true,
            (Node::File(_), Some(Node::File(replaced))) => {
                Arc::make_mut(self.file(replaced)).unlinked = true;
                self.loose = true;
            }
            (Node::File(_) | Node::Dir(_), None) => {}
        }
        self.tree.rename(&source, &target, node);
        if let Node::File(inode) = node {
            let (dir, number) = (target.dir, self.tree.changes());
            let file = Arc::make_mut(self.file(inode));
            file.path = to.clone();
            file.renamed = Some(Renamed { by, dir, number });
        }
        Ok(())
    }

    pub(super) fn unlink(&mut self, path: &FilePath) -> Result<(), DiskError> {
        let place = self.tree.place(path.as_str())?;
        match self.tree.get(&place).ok_or(DiskError::NotFound)? {
            Node::Dir(_) => Err(DiskError::IsDir),
            Node::File(inode) => {
                self.tree.remove(&place);
                Arc::make_mut(self.file(inode)).unlinked = true;
                self.loose = true;
                Ok(())
            }
        }
    }

    pub(super) fn mkdir(&mut self, path: &FilePath) -> Result<(), DiskError> {
        let place: Place<'_> = self.tree.place(path.as_str())?;
        if self.tree.get(&place).is_some() {
            return Err(DiskError::Exists);
        }
        let number = self.next_inode;
        self.next_inode += 1;
        self.tree.put(&place, Node::Dir(number));
        Ok(())
    }
}

/// Whether `path` is below `dir`.
fn lies_in(path: &FilePath, dir: &FilePath) -> bool {
    let below = path.as_str().strip_prefix(dir.as_str());
    below.is_some_and(|rest| rest.starts_with('/'))
}
